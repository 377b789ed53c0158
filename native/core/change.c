// SPDX-License-Identifier: Apache-2.0
//
// Changes, and late answers. Each V-net keeps the scopes of its last 256 changes and a floor below them, so
// that an answer that was decided before a change is refused only if that change covers its key (or is too old
// to tell): a late answer never outlives its revocation, and churn elsewhere does not starve it.
#include "install_internal.h"

static void change_keep(struct fp_installer *in, uint32_t index, const struct fp_record_change *record);

void
fp_changes_open(struct fp_installer *in)
{
	for (uint32_t v = 1; v < in->arena->view.vnets; v++) {
		const struct fp_vnet *vnet = &in->arena->view.vnet[v];
		if (!fp_index_live(&in->arena->pool[FP_POOL_VNET], v))
			continue;
		in->vnet[v].changes = vnet->change_next;
		for (uint32_t i = 0; i < FP_CHANGES_KEPT; i++)
			if (vnet->changes[i].revision > in->vnet[v].newest_change)
				in->vnet[v].newest_change = vnet->changes[i].revision;
		if (!vnet->closing)
			continue;
		// The last data plane ended between a revocation and the end of its pass. The walk for all of them is
		// the last thing that is done at opening.
		if (vnet->closing > FP_VNET_CLOSING_SCOPES)
			fp_close_vnet(in->arena, v);
		uint32_t n = 0;
		for (uint32_t i = 0; i < FP_CHANGES_KEPT; i++) {
			if (vnet->changes[i].revision == 0 || vnet->changes[i].kind != FP_CHANGE_TIGHTEN)
				continue;
			if (n++ % FP_CLOSINGS_MAX == 0 && n > 1)
				fp_closings_finish(in->arena); // its list takes no more
			fp_close_older(in->arena, v, &vnet->changes[i].scope,
				       (uint32_t)vnet->changes[i].revision + 1);
		}
	}
}

int
fp_change_apply(struct fp_installer *in, const struct fp_record_change *record)
{
	uint32_t index = fp_vnet_by_vni(in, record->head.vni);
	if (index == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	if (record->kind < FP_CHANGE_TIGHTEN || record->kind > FP_CHANGE_MOVE ||
	    !fp_scope_valid(&record->scope))
		return FP_REFUSED_MALFORMED;
	const struct fp_vnet *vnet = &in->arena->view.vnet[index];
	if (record->incarnation != vnet->incarnation)
		return FP_REFUSED_OTHER_INCARNATION;
	// A snapshot of a later one holds it already. One of the same may not: locators have no revision.
	if (record->head.revision >= in->vnet[index].snapshot_revision) {
		if (record->kind == FP_CHANGE_TIGHTEN)
			fp_close_scope(in->arena, index, &record->scope);
		change_keep(in, index, record);
		if (record->kind != FP_CHANGE_TIGHTEN)
			fp_mark_newest(in, index);
	}
	if (record->head.flags & FP_RECORD_LAST)
		fp_close_now(in);
	return 0;
}

bool
fp_change_overtook(const struct fp_installer *in, uint32_t index, const struct fp_flow_key *key,
		   uint64_t revision)
{
	const struct fp_vnet *vnet = &in->arena->view.vnet[index];
	if (revision < vnet->floor)
		return true;
	if (revision >= in->vnet[index].newest_change)
		return false;
	for (uint32_t i = 0; i < FP_CHANGES_KEPT; i++)
		if (vnet->changes[i].revision > revision && fp_scope_covers(&vnet->changes[i].scope, key))
			return true;
	return false;
}

// The floor rises before its change is overwritten: a stop in between only refuses more.
static void
change_keep(struct fp_installer *in, uint32_t index, const struct fp_record_change *record)
{
	struct fp_vnet *vnet = &in->arena->view.vnet[index];
	struct fp_vnet_state *state = &in->vnet[index];
	struct fp_change *place = &vnet->changes[vnet->change_next % FP_CHANGES_KEPT];
	if (place->revision && place->kind == FP_CHANGE_TIGHTEN && vnet->closing == FP_VNET_CLOSING_SCOPES)
		fp_store(&vnet->closing, (uint8_t)FP_VNET_CLOSING_ALL); // what may be lost by a stop now
	if (place->revision > vnet->floor)
		fp_store(&vnet->floor, place->revision);
	fp_store(&place->revision, (uint64_t)0);
	fp_store_bytes(&place->scope, &record->scope, sizeof(place->scope));
	fp_store(&place->kind, record->kind);
	fp_store(&place->revision, record->head.revision);
	fp_store(&vnet->change_next, (vnet->change_next + 1) % FP_CHANGES_KEPT);
	state->changes++;
	fp_mark_overwritten(in, index);
	if (record->head.revision > vnet->revision)
		fp_store(&vnet->revision, record->head.revision);
	if (record->head.revision > state->newest_change)
		state->newest_change = record->head.revision;
}
