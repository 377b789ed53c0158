// SPDX-License-Identifier: Apache-2.0
//
// Frames that a client sends, in spans of 88 bytes. One frame at a time per client.
#include "install_internal.h"

#define FRAMES_PER_S 4096 // of each client: none takes another one's
#define FRAME_BYTES_MIN 14

static int span_take(struct fp_assembly *assembly, const struct fp_record_packet *record);
static int target_find(const struct fp_installer *in, const struct fp_record_packet *record,
		       uint32_t *target);
static bool rate_allows(struct fp_assembly *assembly, uint32_t now_s);

int
fp_packet_out(struct fp_installer *in, const struct fp_record_packet *record)
{
	struct fp_assembly *assembly = &in->assembly[in->client];
	uint32_t target;
	int rc = span_take(assembly, record);
	if (rc != 0 || assembly->have_bytes < assembly->packet.frame_bytes)
		return rc;
	assembly->have_bytes = 0;
	rc = target_find(in, &assembly->packet, &target);
	if (rc == 0 && !rate_allows(assembly, in->now_s))
		rc = FP_REFUSED_QUOTA;
	if (rc == 0)
		in->hooks.send(in->hooks.context, assembly->packet.kind, target, assembly->packet.wire_id,
			       assembly->frame, assembly->packet.frame_bytes);
	return rc;
}

// A span out of order, too many or of another frame ends what was begun.
static int
span_take(struct fp_assembly *assembly, const struct fp_record_packet *record)
{
	bool first = record->head.flags & FP_RECORD_FIRST, last = record->head.flags & FP_RECORD_LAST;
	uint32_t have = first ? 0 : assembly->have_bytes;
	if (first) {
		assembly->packet = *record;
		assembly->next_span = 0;
	}
	const struct fp_record_packet *begun = &assembly->packet;
	uint32_t left = begun->frame_bytes - have;
	uint32_t bytes = left < FP_PACKET_SPAN_BYTES ? left : FP_PACKET_SPAN_BYTES;
	if ((!first && have == 0) || record->span != assembly->next_span ||
	    begun->frame_bytes < FRAME_BYTES_MIN || begun->frame_bytes > FP_FRAME_BYTES_MAX ||
	    record->frame_bytes != begun->frame_bytes || record->target_id != begun->target_id ||
	    record->kind != begun->kind || record->wire_id != begun->wire_id ||
	    record->head.vni != begun->head.vni || last != (bytes == left)) {
		assembly->have_bytes = 0;
		return FP_REFUSED_MALFORMED;
	}
	memcpy(assembly->frame + have, record->data, bytes);
	assembly->have_bytes = have + bytes;
	assembly->next_span++;
	return 0;
}

static int
target_find(const struct fp_installer *in, const struct fp_record_packet *record, uint32_t *target)
{
	uint32_t vnet = fp_vnet_by_vni(in, record->head.vni);
	if (vnet == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	if (record->kind == FP_LOCATION_LOCAL) {
		*target = fp_attachment_by_id(in, record->target_id);
		if (*target && in->arena->view.ingress[*target].vnet != vnet)
			return FP_REFUSED_OTHER_VNET;
	} else if (record->kind == FP_LOCATION_TUNNEL && record->wire_id <= FP_VNI_MAX) {
		*target = fp_tunnel_by_id(in, record->target_id);
	} else {
		return FP_REFUSED_MALFORMED;
	}
	if (*target == 0)
		return FP_REFUSED_UNKNOWN_OBJECT;
	return record->kind == FP_LOCATION_LOCAL ? 0 : fp_leads_home(in, vnet, *target, record->wire_id, 0);
}

static bool
rate_allows(struct fp_assembly *assembly, uint32_t now_s)
{
	if (assembly->frames_s != now_s) {
		assembly->frames_s = now_s;
		assembly->frames_this_s = 0;
	}
	return assembly->frames_this_s++ < FRAMES_PER_S;
}
