// SPDX-License-Identifier: Apache-2.0
//
// A client's record: refused if it is wrong, counted and told, else handed to the file that owns the table.
#include "install_internal.h"

static int dispatch(struct fp_installer *in, const struct fp_record *record);
static bool may_send(const struct fp_installer *in, const struct fp_record *record);
static bool only_removes(uint16_t type);
static bool changes_prepared(uint16_t type);
static int refuse(struct fp_installer *in, uint8_t client_worker, const struct fp_record *record, int why);
static uint64_t object_of(const struct fp_record *record);

int
fp_installer_apply(struct fp_installer *in, uint8_t client_worker, const struct fp_record *given,
		   uint64_t now_ns)
{
	const struct fp_record record = *given; // the client may still be writing it
	in->applying_vni = record.head.vni;     // noted if this ends the process
	in->now_ns = now_ns;
	in->now_s = (uint32_t)(now_ns / 1000000000);
	if (client_worker != FP_CLIENT_CONTROL && client_worker >= FP_CLIENT_WORKERS)
		return refuse(in, client_worker, &record, FP_REFUSED_MALFORMED);
	in->client = client_worker == FP_CLIENT_CONTROL ? FP_CLIENT_WORKERS : client_worker;
	fp_worker_heard(in);
	if (record.head.version != FP_RECORD_VERSION)
		return refuse(in, client_worker, &record, FP_REFUSED_MALFORMED);
	if (!may_send(in, &record))
		return refuse(in, client_worker, &record, FP_REFUSED_OTHER_CLIENT);
	if (!only_removes(record.head.type)) // removals in a row are closed together
		fp_close_now(in);
	int rc = dispatch(in, &record);
	if (changes_prepared(record.head.type))
		fp_arena_changed(in->arena);
	if (rc == -EINPROGRESS)
		fp_refill(in); // for when it is applied again
	return rc > 0 ? refuse(in, client_worker, &record, rc) : rc;
}

void
fp_installer_foresee(const struct fp_installer *in, const struct fp_record *records, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t vni = records[i].head.vni;
		if (records[i].head.type == FP_RECORD_FLOW_INSTALL) {
			const struct fp_record_flow *flow = (const void *)&records[i];
			fp_flow_foresee(in->arena, &flow->key);
			fp_location_foresee(in, flow->destination_object,
					    flow->destination_vni ? flow->destination_vni : vni,
					    flow->ways & 15);
		} else if (records[i].head.type == FP_RECORD_LOCATION_SET) {
			const struct fp_record_location *location = (const void *)&records[i];
			fp_location_foresee(in, location->object_id, vni, location->way);
		}
	}
}

uint32_t
fp_installer_at_work(const struct fp_installer *in)
{
	return in->applying_vni;
}

uint64_t
fp_installer_refused(const struct fp_installer *in, enum fp_refusal why)
{
	return (unsigned)why < FP_REFUSED_MAX ? in->refused[why] : 0;
}

bool
fp_bytes_zero(const void *bytes, size_t len_bytes)
{
	const uint8_t *at = bytes;
	uint8_t any = 0;
	for (size_t i = 0; i < len_bytes; i++)
		any |= at[i];
	return any == 0;
}

static int
dispatch(struct fp_installer *in, const struct fp_record *record)
{
	const void *r = record;
	switch (record->head.type) {
	case FP_RECORD_VNET_SET:
		return fp_vnet_set(in, r);
	case FP_RECORD_VNET_REMOVE:
		return fp_vnet_remove(in, r);
	case FP_RECORD_SNAPSHOT_BEGIN:
		return record->head.vni ? fp_vnet_snapshot_begin(in, r) : fp_tunnels_snapshot_begin(in);
	case FP_RECORD_SNAPSHOT_END:
		return record->head.vni ? fp_vnet_snapshot_end(in, r) : fp_tunnels_snapshot_end(in, r);
	case FP_RECORD_ATTACHMENT_SET:
		return fp_attachment_set(in, r);
	case FP_RECORD_ATTACHMENT_REMOVE:
		return fp_attachment_remove(in, r);
	case FP_RECORD_INGRESS_SET:
		return fp_ingress_set(in, r);
	case FP_RECORD_INGRESS_REMOVE:
		return fp_ingress_remove(in, r);
	case FP_RECORD_TUNNEL_SET:
		return fp_tunnel_set_record(in, r);
	case FP_RECORD_TUNNEL_REMOVE:
		return fp_tunnel_remove(in, r);
	case FP_RECORD_TUNNEL_GROUP_SET:
		return fp_tunnel_set_apply(in, r);
	case FP_RECORD_LOCATION_SET:
		return fp_location_set(in, r);
	case FP_RECORD_LOCATION_REMOVE:
		return fp_location_remove(in, r);
	case FP_RECORD_NEXTHOP_SET:
		return fp_nexthop_set(in, r);
	case FP_RECORD_PEERING_SET:
		return fp_peering_set(in, r);
	case FP_RECORD_PEERING_REMOVE:
		return fp_peering_remove(in, r);
	case FP_RECORD_FLOW_INSTALL:
		return fp_flow_apply(in, r);
	case FP_RECORD_CHANGE:
		return fp_change_apply(in, r);
	case FP_RECORD_RELEASE_DROP:
		return fp_release_drop(in, r);
	case FP_RECORD_DIRECTORY_STATE:
		return fp_directory_state(in, r);
	case FP_RECORD_PACKET_OUT:
		return fp_packet_out(in, r);
	case FP_RECORD_SYNC:
		return fp_sync_apply(in, r);
	default:
		return FP_REFUSED_MALFORMED;
	}
}

// Control tells next hops and a worker all else, of its own V-nets: vni % workers. A worker that somebody has
// taken over is still no other one.
static bool
may_send(const struct fp_installer *in, const struct fp_record *record)
{
	const bool is_control = in->client == FP_CLIENT_WORKERS;
	if (record->head.type == FP_RECORD_NEXTHOP_SET || is_control)
		return is_control && record->head.type == FP_RECORD_NEXTHOP_SET;
	if (record->head.type == FP_RECORD_DIRECTORY_STATE)
		return ((const struct fp_record_directory_state *)(const void *)record)->worker == in->client;
	return record->head.vni == 0 || in->workers == 0 || record->head.vni % in->workers == in->client;
}

// These may follow a removal, or a change of the same batch, before the pass that closes flows.
static bool
only_removes(uint16_t type)
{
	return type == FP_RECORD_LOCATION_REMOVE || type == FP_RECORD_ATTACHMENT_REMOVE ||
	       type == FP_RECORD_INGRESS_REMOVE || type == FP_RECORD_CHANGE;
}

// These may change a V-net, an ingress or a tunnel; they are taken to, whatever became of them.
static bool
changes_prepared(uint16_t type)
{
	switch (type) {
	case FP_RECORD_VNET_SET:
	case FP_RECORD_VNET_REMOVE:
	case FP_RECORD_SNAPSHOT_BEGIN:
	case FP_RECORD_SNAPSHOT_END:
	case FP_RECORD_ATTACHMENT_SET:
	case FP_RECORD_ATTACHMENT_REMOVE:
	case FP_RECORD_INGRESS_SET:
	case FP_RECORD_INGRESS_REMOVE:
	case FP_RECORD_TUNNEL_SET:
	case FP_RECORD_TUNNEL_REMOVE:
	case FP_RECORD_TUNNEL_GROUP_SET:
	case FP_RECORD_NEXTHOP_SET:
	case FP_RECORD_PEERING_SET:
	case FP_RECORD_PEERING_REMOVE:
		return true;
	default:
		return false;
	}
}

static int
refuse(struct fp_installer *in, uint8_t client_worker, const struct fp_record *record, int why)
{
	static const int errors[FP_REFUSED_MAX] = {
		[FP_REFUSED_MALFORMED] = -EINVAL, [FP_REFUSED_UNKNOWN_VNET] = -ENOENT,
		[FP_REFUSED_OTHER_VNET] = -EPERM, [FP_REFUSED_UNKNOWN_OBJECT] = -ENOENT,
		[FP_REFUSED_LATE] = -ESTALE,      [FP_REFUSED_OTHER_INCARNATION] = -ESTALE,
		[FP_REFUSED_NO_ROOM] = -ENOSPC,   [FP_REFUSED_QUOTA] = -EDQUOT,
		[FP_REFUSED_CONFLICT] = -EEXIST,  [FP_REFUSED_OTHER_CLIENT] = -EPERM,
	};
	struct fp_record_refused refused = {
		.head = {.type = FP_RECORD_REFUSED,
			 .version = FP_RECORD_VERSION,
			 .vni = record->head.vni,
			 .revision = record->head.revision},
		.refused_type = record->head.type,
		.why = (uint16_t)why,
		.object = object_of(record),
	};
	if (record->head.type == FP_RECORD_FLOW_INSTALL) {
		const struct fp_record_flow *flow = (const void *)record;
		refused.token = flow->token;
		refused.key = flow->key;
	}
	in->refused[why]++;
	in->hooks.emit(in->hooks.context, client_worker, (const struct fp_record *)&refused);
	return errors[why];
}

// The id that a record names first, for the client's log.
static uint64_t
object_of(const struct fp_record *record)
{
	uint64_t object = 0;
	switch (record->head.type) {
	case FP_RECORD_FLOW_INSTALL:
		return ((const struct fp_record_flow *)(const void *)record)->destination_object;
	case FP_RECORD_INGRESS_SET:
		return ((const struct fp_record_ingress *)(const void *)record)->node_id;
	case FP_RECORD_VNET_SET:
	case FP_RECORD_VNET_REMOVE:
	case FP_RECORD_ATTACHMENT_SET:
	case FP_RECORD_ATTACHMENT_REMOVE:
	case FP_RECORD_TUNNEL_SET:
	case FP_RECORD_TUNNEL_REMOVE:
	case FP_RECORD_TUNNEL_GROUP_SET:
	case FP_RECORD_LOCATION_SET:
	case FP_RECORD_LOCATION_REMOVE:
	case FP_RECORD_PACKET_OUT: // the id is the first member of the body
		memcpy(&object, record->body, sizeof(object));
		return object;
	default:
		return 0;
	}
}
