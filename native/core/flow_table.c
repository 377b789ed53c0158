// SPDX-License-Identifier: Apache-2.0
//
// The writer's half: insert, change, remove. No key ever moves. An entry's order of life: taken from
// the pool, filled, into a slot of its bucket; at the end out of it and, after a grace period, to the pool.
#include "flow_internal.h"

#include "closing.h"

#include <errno.h>
#include <stdlib.h>

#include "fp_drop_reasons.h"

int
fp_flow_table_init(struct fp_arena *arena)
{
	const size_t entries = arena->view.flows;
	struct fp_flow_private *flow = calloc(1, sizeof(*flow));

	if (!flow)
		return -ENOMEM;
	arena->flow = flow;
	fp_flow_variant_choose(&arena->view);
	flow->prev = calloc(entries, sizeof(*flow->prev));
	flow->vnet = calloc(entries, sizeof(*flow->vnet));
	flow->kind = calloc(entries, sizeof(*flow->kind));
	flow->chain = calloc(arena->view.vnets, sizeof(*flow->chain));
	flow->hand = 1;
	return flow->prev && flow->vnet && flow->kind && flow->chain ? 0 : -ENOMEM;
}

void
fp_flow_table_free(struct fp_arena *arena)
{
	struct fp_flow_private *flow = arena->flow;

	if (!flow)
		return;
	free(flow->prev);
	free(flow->vnet);
	free(flow->kind);
	free(flow->chain);
	free(flow);
	arena->flow = NULL;
}

static enum fp_flow_fault
location_fault(const struct fp_arena *arena, uint32_t vnet, uint32_t location, bool needed)
{
	if (location == 0)
		return needed ? FP_FLOW_BAD_LOCATION : FP_FLOW_SOUND;
	if (!fp_index_live(&arena->pool[FP_POOL_LOCATION], location))
		return FP_FLOW_BAD_LOCATION;
	const uint32_t other = arena->view.location[location].vnet;
	return other == vnet || fp_vnets_peered(arena, vnet, other) ? FP_FLOW_SOUND : FP_FLOW_BAD_VNET;
}

static enum fp_flow_fault
locations_fault(const struct fp_arena *arena, uint32_t vnet, fp_action_word action, bool needed)
{
	const enum fp_flow_fault source = location_fault(arena, vnet, fp_action_source(action), false);
	return source ? source : location_fault(arena, vnet, fp_action_destination(action), needed);
}

enum fp_flow_fault
fp_flow_check(const struct fp_arena *arena, const struct fp_flow_key *key, fp_action_word action)
{
	if (key->zero || key->key_class == 0 || key->ingress >= arena->view.ingresses)
		return FP_FLOW_BAD_RANGE;
	const uint32_t vnet = arena->view.ingress[key->ingress].vnet;
	if (!fp_index_live(&arena->pool[FP_POOL_INGRESS], key->ingress) ||
	    !fp_index_live(&arena->pool[FP_POOL_VNET], vnet))
		return FP_FLOW_BAD_VNET;
	switch (fp_action_of(action)) {
	case FP_ACTION_DROP: {
		const uint32_t reason = fp_action_destination(action);
		return fp_action_source(action) == 0 && reason > FP_DROP_NONE && reason < FP_DROP_MAX
			       ? FP_FLOW_SOUND
			       : FP_FLOW_BAD_RANGE;
	}
	case FP_ACTION_NARROW:
	case FP_ACTION_ANSWER:
		return locations_fault(arena, vnet, action, false);
	case FP_ACTION_ENCAPSULATE:
	case FP_ACTION_DELIVER:
	case FP_ACTION_RELAY:
		return locations_fault(arena, vnet, action, true);
	default: // none, or one that this data plane cannot carry
		return FP_FLOW_BAD_RANGE;
	}
}

static void
locations_hold(struct fp_arena *arena, fp_action_word action)
{
	if (fp_flow_kind_of(action) == FP_FLOW_REFUSAL)
		return;
	fp_index_hold(&arena->pool[FP_POOL_LOCATION], fp_action_source(action));
	fp_index_hold(&arena->pool[FP_POOL_LOCATION], fp_action_destination(action));
}

static void
locations_drop(struct fp_arena *arena, fp_action_word action)
{
	if (fp_flow_kind_of(action) == FP_FLOW_REFUSAL)
		return;
	fp_index_drop(&arena->pool[FP_POOL_LOCATION], fp_action_source(action));
	fp_index_drop(&arena->pool[FP_POOL_LOCATION], fp_action_destination(action));
}

// Way of a key in its bucket, or -1.
static int
slot_find(const struct fp_arena *arena, const struct fp_flow_bucket *bucket, uint64_t hash,
	  const struct fp_flow_key *key)
{
	const uint32_t index_mask = arena->view.flow_index_mask;
	const uint32_t signature = fp_flow_signature_of(hash, index_mask);

	for (int slot = 0; slot < FP_BUCKET_SLOTS; slot++)
		if ((bucket->slot[slot] & ~index_mask) == signature &&
		    fp_flow_key_equal(&arena->view.flow_entry[bucket->slot[slot] & index_mask].key, key))
			return slot;
	return -1;
}

static int
slot_find_free(const struct fp_flow_bucket *bucket)
{
	for (int slot = 0; slot < FP_BUCKET_SLOTS; slot++)
		if (bucket->slot[slot] == 0)
			return slot;
	return -1;
}

static struct fp_flow_bucket *
bucket_of(const struct fp_arena *arena, uint64_t hash)
{
	return &arena->view.flow_bucket[fp_flow_bucket_of(&arena->view, hash)];
}

static uint32_t
decided_at_s(const struct fp_arena *arena, const struct fp_flow_value *value)
{
	return value->decided_at_s ? value->decided_at_s : arena->now_s;
}

// A life is shortened before the new action stands and prolonged after: whoever looks in between, or finds
// the arena after a stop in between, never sees a decision that lives longer than it was made for.
static void
entry_change(struct fp_arena *arena, uint32_t index, const struct fp_flow_value *value)
{
	struct fp_flow_private *flow = arena->flow;
	struct fp_flow_entry *entry = &arena->view.flow_entry[index];
	const fp_action_word old = entry->action;
	const enum fp_flow_kind kind = fp_flow_kind_of(value->action);

	locations_hold(arena, value->action);
	if (value->expire_at_s < entry->expire_at_s)
		fp_store(&entry->expire_at_s, value->expire_at_s);
	fp_store(&entry->action, value->action);
	fp_store(&entry->revision, (uint32_t)value->revision);
	if (value->expire_at_s > entry->expire_at_s)
		fp_store(&entry->expire_at_s, value->expire_at_s);
	fp_store(&arena->view.flow_side[index].refresh_at_s, value->refresh_at_s);
	fp_store(&arena->view.flow_side[index].decided_at_s, decided_at_s(arena, value));
	if (value->decided_at_s == 0) // after the action: see fp_closings_compare
		fp_closing_stamp(arena, index);
	locations_drop(arena, old);
	if (kind != flow->kind[index]) {
		const uint32_t vnet = flow->vnet[index];
		fp_flow_chain_remove(arena, index);
		fp_flow_chain_add(arena, index, vnet, kind);
		fp_flow_publish_counts(arena, vnet);
	}
	flow->stats.updated++;
}

static void
entry_publish(struct fp_arena *arena, struct fp_flow_bucket *bucket, int slot, uint32_t index, uint64_t hash,
	      const struct fp_flow_key *key, const struct fp_flow_value *value)
{
	const struct fp_flow_entry entry = {
		.key = *key,
		.used_s = arena->now_s,
		.action = value->action,
		.revision = (uint32_t)value->revision,
		.expire_at_s = value->expire_at_s,
	};
	const struct fp_flow_side side = {
		.refresh_at_s = value->refresh_at_s,
		.decided_at_s = decided_at_s(arena, value),
	};

	locations_hold(arena, value->action);
	fp_index_hold(&arena->pool[FP_POOL_INGRESS], key->ingress);
	fp_store_bytes(&arena->view.flow_entry[index], &entry, sizeof(entry));
	fp_store_bytes(&arena->view.flow_side[index], &side, sizeof(side));
	fp_closing_stamp(arena, index);
	fp_store(&bucket->slot[slot], fp_flow_signature_of(hash, arena->view.flow_index_mask) | index);
	fp_flow_chain_add(arena, index, value->vnet, fp_flow_kind_of(value->action));
	fp_flow_publish_counts(arena, value->vnet);
	arena->flow->stats.inserted++;
}

void
fp_flow_unpublish(struct fp_arena *arena, struct fp_flow_bucket *bucket, uint32_t slot)
{
	const uint32_t index = fp_flow_slot_entry(arena, bucket, slot);
	const struct fp_flow_entry *entry = &arena->view.flow_entry[index];

	fp_store(&bucket->slot[slot], 0);
	fp_flow_chain_remove(arena, index);
	fp_flow_publish_counts(arena, arena->flow->vnet[index]);
	locations_drop(arena, entry->action);
	fp_index_drop(&arena->pool[FP_POOL_INGRESS], entry->key.ingress);
	fp_index_retire(&arena->pool[FP_POOL_FLOW], index);
}

void
fp_flow_foresee(const struct fp_arena *arena, const struct fp_flow_key *key)
{
	__builtin_prefetch(bucket_of(arena, fp_hash_flow(&arena->view.secret, key)), 1);
}

int
fp_flow_insert(struct fp_arena *arena, const struct fp_flow_key *key, const struct fp_flow_value *value)
{
	const enum fp_flow_kind kind = fp_flow_kind_of(value->action);
	struct fp_flow_private *flow = arena->flow;
	uint32_t index;

	if (fp_flow_check(arena, key, value->action) != FP_FLOW_SOUND ||
	    arena->view.ingress[key->ingress].vnet != value->vnet)
		return -EINVAL;

	const uint64_t hash = fp_hash_flow(&arena->view.secret, key);
	struct fp_flow_bucket *bucket = bucket_of(arena, hash);
	int slot = slot_find(arena, bucket, hash, key);
	if (slot >= 0 && flow->kind[fp_flow_slot_entry(arena, bucket, (uint32_t)slot)] == kind) {
		entry_change(arena, fp_flow_slot_entry(arena, bucket, (uint32_t)slot), value);
		return 0;
	}
	if (!fp_flow_kind_has_room(arena, kind)) {
		if (slot >= 0) // the old decision does not hold any more, cached or not
			fp_flow_unpublish(arena, bucket, (uint32_t)slot);
		goto refused;
	}
	if (slot >= 0) { // counts to the other budget from now on
		fp_flow_make_room(arena, value->vnet, kind);
		if (bucket->slot[slot]) { // what made room may have been this very one
			entry_change(arena, fp_flow_slot_entry(arena, bucket, (uint32_t)slot), value);
			return 0;
		}
	}

	// First the entry: nobody is evicted for one that has to wait.
	if (fp_index_take(&arena->pool[FP_POOL_FLOW], &index) < 0) {
		flow->stats.waited++;
		return -EAGAIN;
	}
	if ((slot = slot_find_free(bucket)) < 0) {
		if ((slot = fp_flow_victim_in_bucket(arena, bucket, value->vnet, kind)) < 0) {
			fp_index_untake(&arena->pool[FP_POOL_FLOW], index);
			goto refused;
		}
		fp_flow_unpublish(arena, bucket, (uint32_t)slot);
		flow->stats.evicted_bucket++;
	}
	fp_flow_make_room(arena, value->vnet, kind);
	entry_publish(arena, bucket, slot, index, hash, key, value);
	return 0;
refused:
	flow->stats.refused_quota++;
	return -EDQUOT;
}

uint32_t
fp_flow_find(const struct fp_arena *arena, const struct fp_flow_key *key)
{
	const uint64_t hash = fp_hash_flow(&arena->view.secret, key);
	const struct fp_flow_bucket *bucket = bucket_of(arena, hash);
	const int slot = slot_find(arena, bucket, hash, key);

	return slot < 0 ? 0 : fp_flow_slot_entry(arena, bucket, (uint32_t)slot);
}

int
fp_flow_remove(struct fp_arena *arena, const struct fp_flow_key *key)
{
	const uint64_t hash = fp_hash_flow(&arena->view.secret, key);
	struct fp_flow_bucket *bucket = bucket_of(arena, hash);
	const int slot = slot_find(arena, bucket, hash, key);

	if (slot < 0)
		return -ENOENT;
	fp_flow_unpublish(arena, bucket, (uint32_t)slot);
	arena->flow->stats.removed++;
	return 0;
}

void
fp_flow_remove_at(struct fp_arena *arena, uint32_t entry)
{
	if (fp_flow_vnet_at(arena, entry))
		fp_flow_remove(arena, &arena->view.flow_entry[entry].key);
}

int
fp_flow_change_at(struct fp_arena *arena, uint32_t entry, fp_action_word action)
{
	if (!fp_flow_vnet_at(arena, entry))
		return -EINVAL;

	const struct fp_flow_entry *now = &arena->view.flow_entry[entry];
	const struct fp_flow_key key = now->key;
	const struct fp_flow_value value = {
		.action = action,
		.revision = now->revision,
		.expire_at_s = now->expire_at_s,
		.refresh_at_s = arena->view.flow_side[entry].refresh_at_s,
		.decided_at_s = arena->view.flow_side[entry].decided_at_s,
		.vnet = arena->flow->vnet[entry],
	};
	return fp_flow_insert(arena, &key, &value);
}

uint32_t
fp_flow_vnet_at(const struct fp_arena *arena, uint32_t entry)
{
	return entry < arena->view.flows && arena->flow->kind[entry] ? arena->flow->vnet[entry] : 0;
}

uint32_t
fp_flow_reclaim(struct fp_arena *arena)
{
	return fp_index_reclaim(&arena->pool[FP_POOL_FLOW]);
}

void
fp_flow_claim(struct fp_arena *arena, uint32_t index)
{
	struct fp_flow_entry *entry = &arena->view.flow_entry[index];

	if (entry->used_s > arena->now_s) // an age from the future would never be evicted
		fp_store(&entry->used_s, arena->now_s);
	if (arena->clock_went_back) { // how old is it?
		fp_store(&entry->expire_at_s, 0);
		fp_store(&arena->view.flow_side[index].decided_at_s, 0);
	}
	fp_index_claim(&arena->pool[FP_POOL_FLOW], index);
	locations_hold(arena, entry->action);
	fp_index_hold(&arena->pool[FP_POOL_INGRESS], entry->key.ingress);
	fp_flow_chain_add(arena, index, arena->view.ingress[entry->key.ingress].vnet,
			  fp_flow_kind_of(entry->action));
}

void
fp_flow_stats(const struct fp_arena *arena, struct fp_flow_stats *stats)
{
	const struct fp_index_pool *pool = &arena->pool[FP_POOL_FLOW];

	*stats = arena->flow->stats;
	stats->resident = pool->live;
	stats->free = pool->free.count;
	stats->reclaiming = fp_index_waiting(pool);
	stats->buckets = arena->view.flow_buckets;
	stats->refusals = arena->flow->resident[FP_FLOW_REFUSAL];
}
