// SPDX-License-Identifier: Apache-2.0
//
// V-nets, and the snapshot that brings one up to date. Each has a number; what is set again takes it; what still has
// another one at the end is swept.
#include "install_internal.h"

static int vnet_add(struct fp_installer *in, const struct fp_record_vnet *record);
static int vnet_close(struct fp_installer *in, uint32_t index);
static void settings_store(struct fp_installer *in, struct fp_vnet *vnet,
			   const struct fp_record_vnet *record);
static void changes_forget(struct fp_installer *in, uint32_t index);

void
fp_vnets_open(struct fp_installer *in)
{
	for (uint32_t i = 1; i < in->arena->view.vnets; i++)
		if (fp_index_live(&in->arena->pool[FP_POOL_VNET], i))
			fp_id_map_put(&in->vnets, in->arena->view.vnet[i].vni, 0, i);
}

uint32_t
fp_vnet_by_vni(const struct fp_installer *in, uint32_t vni)
{
	return fp_id_map_find(&in->vnets, vni, 0);
}

int
fp_vnet_set(struct fp_installer *in, const struct fp_record_vnet *record)
{
	if (record->head.vni == 0 || record->head.vni > FP_VNI_MAX || record->object_id == 0 ||
	    record->gateway_mac[0] & 1 || !fp_is_ipv4(record->gateway_address))
		return FP_REFUSED_MALFORMED;
	uint32_t index = fp_vnet_by_vni(in, record->head.vni);
	if (index && in->arena->view.vnet[index].object_id != record->object_id) {
		// Another V-net under a number that was used before: nothing of the old one may live on.
		const int rc = vnet_close(in, index);
		if (rc != 0)
			return rc;
		index = 0;
	}
	if (index == 0)
		return vnet_add(in, record);
	in->vnet[index].leaving = false;
	settings_store(in, &in->arena->view.vnet[index], record);
	return 0;
}

int
fp_vnet_remove(struct fp_installer *in, const struct fp_record_vnet *record)
{
	uint32_t index = fp_vnet_by_vni(in, record->head.vni);
	if (index == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	if (record->object_id && in->arena->view.vnet[index].object_id != record->object_id)
		return FP_REFUSED_UNKNOWN_OBJECT;
	return vnet_close(in, index);
}

int
fp_vnet_snapshot_begin(struct fp_installer *in, const struct fp_record_snapshot *record)
{
	uint32_t index = fp_vnet_by_vni(in, record->head.vni);
	if (index == 0)
		return 0; // nothing stands there; its VNET_SET comes within the snapshot
	struct fp_vnet_state *state = &in->vnet[index];
	// Revisions of another store are never compared with these.
	if (record->incarnation != in->arena->view.vnet[index].incarnation)
		state->era++;
	state->snapshot_number++;
	state->swept = 0;
	state->ingress_at = state->ingress_first;
	state->location_at = state->location_first;
	state->in_snapshot = true;
	state->snapshot_incarnation = record->incarnation;
	return 0;
}

int
fp_vnet_snapshot_end(struct fp_installer *in, const struct fp_record_snapshot *record)
{
	uint32_t index = fp_vnet_by_vni(in, record->head.vni);
	if (index == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	struct fp_vnet *vnet = &in->arena->view.vnet[index];
	struct fp_vnet_state *state = &in->vnet[index];
	uint64_t expected = state->in_snapshot ? state->snapshot_incarnation : vnet->incarnation;
	if (record->incarnation != expected)
		return FP_REFUSED_OTHER_INCARNATION;
	bool same_store = vnet->incarnation == record->incarnation;
	if (same_store && record->head.revision < vnet->floor)
		return FP_REFUSED_LATE; // an older snapshot than one that was applied
	if (state->in_snapshot) {
		int rc = fp_ingresses_sweep(in, index, false);
		if (rc == 0)
			rc = fp_locations_sweep(in, index, false);
		if (rc != 0)
			return rc;
		fp_peerings_sweep(in, index);
	}
	// Of another store nothing can be said about what it has forbidden since: none of what was decided lives on.
	// Closed before the V-net says that it is of this store, so that a stop in between is no way around it.
	if (!same_store) {
		fp_close_vnet(in->arena, index);
		changes_forget(in, index);
		fp_store(&vnet->in_force, (uint64_t)0);
	}
	if (!same_store || record->head.revision > vnet->revision)
		fp_store(&vnet->revision, record->head.revision);
	fp_store(&vnet->floor, record->head.revision);
	fp_store(&vnet->incarnation, record->incarnation);
	fp_close_now(in);
	state->in_snapshot = false;
	state->snapshot_revision = record->head.revision;
	if (!same_store) {
		state->newest_change = 0;
		fp_store(&vnet->in_force, record->head.revision); // nothing older is left
		return 0;
	}
	// What was forbidden meanwhile came as changes before this. What else has changed since a flow was decided,
	// its next answer tells: it forwards, and is asked again.
	fp_mark_older(in, index, (uint32_t)record->head.revision);
	return 0;
}

static int
vnet_add(struct fp_installer *in, const struct fp_record_vnet *record)
{
	uint32_t index;
	int rc = fp_take(in, FP_POOL_VNET, &index);
	if (rc != 0)
		return rc;
	fp_counters_begin(in, FP_COUNTED_VNET, index);
	struct fp_vnet *vnet = &in->arena->view.vnet[index];
	// All but the member that publishes it, which others may be looking at.
	fp_store(&vnet->closings, vnet->closings + 1); // a decision for who had the index before
	fp_store_zero(vnet->gateway_mac, sizeof(*vnet) - offsetof(struct fp_vnet, gateway_mac));
	fp_store(&vnet->vni, record->head.vni);
	fp_store(&vnet->object_id, record->object_id);
	fp_store(&vnet->incarnation, record->incarnation);
	fp_store(&vnet->revision, record->head.revision);
	fp_store(&vnet->in_force, record->head.revision);
	// An answer from before may be about another V-net of this number.
	fp_store(&vnet->floor, record->head.revision);
	settings_store(in, vnet, record);
	fp_store(&vnet->flags, (uint8_t)FP_VNET_LIVE);
	fp_id_map_put(&in->vnets, record->head.vni, 0, index);
	uint16_t snapshot_number = in->vnet[index].snapshot_number;
	in->vnet[index] = (struct fp_vnet_state){
		.snapshot_number = (uint16_t)(snapshot_number + 1),
		.era = in->vnet[index].era + 1,
	};
	return 0;
}

// Everything of it goes, and every flow from it or into it: at once for readers, then what it has slice by slice.
// 0 or -EINPROGRESS.
static int
vnet_close(struct fp_installer *in, uint32_t index)
{
	struct fp_vnet *vnet = &in->arena->view.vnet[index];
	struct fp_vnet_state *state = &in->vnet[index];
	if (!state->leaving) {
		fp_close_vnet(in->arena, index);
		state->leaving = true;
		fp_peerings_drop(in, index);
		fp_close_now(in);
		state->swept = 0;
	}
	int rc = fp_locations_sweep(in, index, true);
	if (rc == 0)
		rc = fp_ingresses_sweep(in, index, true);
	if (rc != 0)
		return rc;
	fp_store(&vnet->flags, (uint8_t)(vnet->flags & ~FP_VNET_LIVE));
	fp_id_map_remove(&in->vnets, vnet->vni, 0);
	fp_index_retire(&in->arena->pool[FP_POOL_VNET], index);
	fp_mark_forget(in, index);
	return 0;
}

static void
settings_store(struct fp_installer *in, struct fp_vnet *vnet, const struct fp_record_vnet *record)
{
	for (int i = 0; i < FP_MAC_BYTES; i++)
		if (vnet->gateway_mac[i] != record->gateway_mac[i])
			fp_store(&vnet->gateway_mac[i], record->gateway_mac[i]);
	for (int i = 0; i < FP_ADDRESS_BYTES; i++)
		if (vnet->gateway_address[i] != record->gateway_address[i])
			fp_store(&vnet->gateway_address[i], record->gateway_address[i]);
	if (in->client < FP_CLIENT_WORKERS)
		fp_store(&vnet->worker, in->client);
	fp_store(&vnet->quota_flows, record->quota_flows);
	fp_store(&vnet->quota_misses_per_s, record->quota_misses_per_s);
	fp_store(&vnet->stale_max_s, record->stale_max_s);
}

static void
changes_forget(struct fp_installer *in, uint32_t index)
{
	struct fp_vnet *vnet = &in->arena->view.vnet[index];
	fp_mark_forget(in, index);
	in->vnet[index].changes = 0;
	fp_store_zero(vnet->changes, sizeof(vnet->changes));
	fp_store(&vnet->change_next, 0);
}
