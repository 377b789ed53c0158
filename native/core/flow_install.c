// SPDX-License-Identifier: Apache-2.0
//
// A decision becomes a flow. Here isolation is kept: what a flow leads to is of its key's V-net, or of one
// that this V-net may send into.
#include "install_internal.h"

#include "fp_drop_reasons.h"

#define LIFETIME_MS_MAX (7 * 86400 * 1000u)

struct parties {
	uint32_t vnet, destination_vnet;
	uint32_t source, destination; // locations
};

static int key_check(const struct fp_installer *in, const struct fp_record_flow *record, uint32_t vnet);
static bool key_valid(const struct fp_flow_key *key);
static int parties_find(const struct fp_installer *in, const struct fp_record_flow *record,
			struct parties *parties);
static bool action_fits(const struct fp_record_flow *record);
static bool reason_valid(uint32_t reason);
static void release(struct fp_installer *in, const struct fp_record_flow *record, fp_action_word action,
		    const struct parties *parties);
static void again(struct fp_installer *in, const struct fp_record_flow *record);

static inline uint32_t
second_after(const struct fp_installer *in, uint32_t after_ms)
{
	return (uint32_t)((in->now_ns / 1000000 + after_ms) / 1000);
}

int
fp_flow_apply(struct fp_installer *in, const struct fp_record_flow *record)
{
	const struct fp_vnet *vnet;
	struct parties parties = {.vnet = fp_vnet_by_vni(in, record->head.vni)};
	if (parties.vnet == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	vnet = &in->arena->view.vnet[parties.vnet];
	if (!key_valid(&record->key) || !action_fits(record) || record->lifetime_ms == 0 ||
	    record->lifetime_ms > LIFETIME_MS_MAX)
		return FP_REFUSED_MALFORMED;
	if (record->incarnation != vnet->incarnation)
		return FP_REFUSED_OTHER_INCARNATION;
	int rc = key_check(in, record, parties.vnet);
	if (rc == 0)
		rc = parties_find(in, record, &parties);
	if (rc != 0)
		return rc;
	if (fp_change_overtook(in, parties.vnet, &record->key, record->head.revision) ||
	    (parties.destination_vnet != parties.vnet &&
	     fp_change_overtook(in, parties.destination_vnet, &record->key, record->head.revision))) {
		again(in, record);
		return FP_REFUSED_LATE;
	}
	// Rounded down: no decision lives longer than it was made for, though one of less than a second may act on what
	// waits for it only.
	const uint32_t expire_at_s = second_after(in, record->lifetime_ms);
	const uint32_t refresh_at_s = second_after(in, record->refresh_ms);
	struct fp_flow_value value = {
		.action = record->action == FP_ACTION_DROP
				  ? fp_action_make(FP_ACTION_DROP, 0, 0, record->reason)
				  : fp_action_make(record->action, 0, parties.source, parties.destination),
		.revision = record->head.revision,
		.expire_at_s = expire_at_s,
		.refresh_at_s = record->refresh_ms && refresh_at_s < expire_at_s ? refresh_at_s : 0,
		.vnet = parties.vnet,
	};
	fp_upkeep_expects(in, value.refresh_at_s, expire_at_s);
	rc = fp_flow_insert(in->arena, &record->key, &value);
	if (rc == -EAGAIN)
		return -EAGAIN;
	if (rc == -EINVAL)
		return FP_REFUSED_UNKNOWN_OBJECT;
	// What waits is acted on even if the decision found no room.
	release(in, record, value.action, &parties);
	return rc == 0 ? 0 : FP_REFUSED_QUOTA;
}

int
fp_release_drop(struct fp_installer *in, const struct fp_record_flow *record)
{
	if (record->token == 0 || !reason_valid(record->reason) ||
	    record->key.ingress >= in->arena->view.ingresses)
		return FP_REFUSED_MALFORMED;
	if (in->arena->view.ingress[record->key.ingress].vni != record->head.vni)
		return FP_REFUSED_OTHER_VNET;
	release(in, record, fp_action_make(FP_ACTION_DROP, 0, 0, record->reason), &(struct parties){0});
	return 0;
}

// The ingress that the decision was made for must still be that one.
static int
key_check(const struct fp_installer *in, const struct fp_record_flow *record, uint32_t vnet)
{
	uint32_t index = record->key.ingress;
	if (!fp_index_live(&in->arena->pool[FP_POOL_INGRESS], index))
		return FP_REFUSED_UNKNOWN_OBJECT;
	const struct fp_ingress *ingress = &in->arena->view.ingress[index];
	if (ingress->vnet != vnet)
		return FP_REFUSED_OTHER_VNET;
	return ingress->object_id == record->ingress_object ? 0 : FP_REFUSED_UNKNOWN_OBJECT;
}

static bool
key_valid(const struct fp_flow_key *key)
{
	const uint8_t allowed = FP_KEY_CONNECTION | FP_KEY_FRAGMENT | FP_KEY_DESTINATION;
	if (key->zero || key->flags & ~allowed)
		return false;
	if (!(key->flags & FP_KEY_CONNECTION) && (key->protocol || key->source_port || key->destination_port))
		return false;
	if (key->flags & FP_KEY_DESTINATION && !fp_bytes_zero(key->source, FP_ADDRESS_BYTES))
		return false;
	switch (key->key_class) {
	case FP_CLASS_ROUTED:
	case FP_CLASS_BRIDGED:
		return fp_is_ipv4(key->source) && fp_is_ipv4(key->destination);
	case FP_CLASS_NEIGHBOR:
		return fp_is_ipv4(key->source) && fp_is_ipv4(key->destination) &&
		       !(key->flags & FP_KEY_CONNECTION);
	case FP_CLASS_MAC:
		return fp_bytes_zero(key->source, FP_ADDRESS_BYTES - FP_MAC_BYTES) &&
		       fp_bytes_zero(key->destination, FP_ADDRESS_BYTES - FP_MAC_BYTES) &&
		       !(key->flags & FP_KEY_CONNECTION);
	default: // source and restore are reserved
		return false;
	}
}

static int
parties_find(const struct fp_installer *in, const struct fp_record_flow *record, struct parties *parties)
{
	parties->destination_vnet = parties->vnet;
	if (record->action == FP_ACTION_DROP || record->action == FP_ACTION_NARROW)
		return 0;
	uint32_t vni = record->destination_vni ? record->destination_vni : record->head.vni;
	if (vni > FP_VNI_MAX)
		return FP_REFUSED_MALFORMED;
	if (vni != record->head.vni) {
		parties->destination_vnet = fp_vnet_by_vni(in, vni);
		if (parties->destination_vnet == 0)
			return FP_REFUSED_UNKNOWN_VNET;
		if (!fp_peered(in, parties->vnet, parties->destination_vnet))
			return FP_REFUSED_OTHER_VNET;
	}
	if (record->source_object) {
		parties->source =
			fp_location_by_id(in, record->source_object, record->head.vni, record->ways >> 4);
		if (parties->source == 0)
			return FP_REFUSED_UNKNOWN_OBJECT;
	}
	if (record->destination_object) {
		parties->destination =
			fp_location_by_id(in, record->destination_object, vni, record->ways & 15);
		if (parties->destination == 0)
			return FP_REFUSED_UNKNOWN_OBJECT;
		return fp_location_leads_home(in, parties->destination);
	}
	return 0;
}

static bool
action_fits(const struct fp_record_flow *record)
{
	switch (record->action) {
	case FP_ACTION_DROP:
		return reason_valid(record->reason);
	case FP_ACTION_ENCAPSULATE:
	case FP_ACTION_DELIVER:
	case FP_ACTION_RELAY:
		return record->destination_object != 0;
	case FP_ACTION_ANSWER:
		return record->key.key_class == FP_CLASS_NEIGHBOR;
	case FP_ACTION_NARROW:
		return !(record->key.flags & FP_KEY_CONNECTION);
	default:
		return false;
	}
}

static bool
reason_valid(uint32_t reason)
{
	return reason > FP_DROP_NONE && reason < FP_DROP_MAX && strcmp(fp_drop_name(reason), "unknown") != 0;
}

static void
release(struct fp_installer *in, const struct fp_record_flow *record, fp_action_word action,
	const struct parties *parties)
{
	const struct fp_vnet *vnet = in->arena->view.vnet;
	if (record->token == 0)
		return;
	const bool across = parties->destination_vnet != parties->vnet;
	in->hooks.release(in->hooks.context,
			  &(struct fp_release){
				  .token = record->token,
				  .key = record->key,
				  .closings = vnet[parties->vnet].closings +
					      (across ? vnet[parties->destination_vnet].closings : 0),
				  .action = action,
				  .source_object = parties->source ? record->source_object : 0,
				  .destination_object = parties->destination ? record->destination_object : 0,
			  });
}

// The thread that waits asks once more: the next answer is made after the change.
static void
again(struct fp_installer *in, const struct fp_record_flow *record)
{
	release(in, record, fp_action_make(FP_ACTION_NONE, 0, 0, 0), &(struct parties){0});
}
