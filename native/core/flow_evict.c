// SPDX-License-Identifier: Apache-2.0
//
// Who makes room. Four limits, each with its own victim, so that a flow never pays for a refusal:
//
//	bucket full                    the coldest of the sixteen; for a refusal only refusals and its V-net's own
//	V-net's flows or refusals at   the coldest of the oldest few of the same V-net and kind
//	  their quota
//	flows at the table's size      the coldest flow that the hand sees next
//	flows and refusals at the      a refusal, V-nets in turn: the places beyond the configured flows are
//	  table's size plus reserve    theirs, so there is one
#include "flow_internal.h"

#include <errno.h>

#define CHAIN_LOOKS 8 // at a V-net's oldest flows
#define HAND_LOOKS 32 // in sequence

static uint32_t
used_s(const struct fp_arena *arena, uint32_t index)
{
	return __atomic_load_n(&arena->view.flow_entry[index].used_s, __ATOMIC_RELAXED);
}

static void
chain_push(struct fp_arena *arena, struct fp_flow_chain *chain, uint32_t index)
{
	uint32_t *next = arena->pool[FP_POOL_FLOW].next, *prev = arena->flow->prev;

	next[index] = 0;
	prev[index] = chain->tail;
	if (chain->tail)
		next[chain->tail] = index;
	else
		chain->head = index;
	chain->tail = index;
	chain->count++;
}

static void
chain_unlink(struct fp_arena *arena, struct fp_flow_chain *chain, uint32_t index)
{
	uint32_t *next = arena->pool[FP_POOL_FLOW].next, *prev = arena->flow->prev;

	if (prev[index])
		next[prev[index]] = next[index];
	else
		chain->head = next[index];
	if (next[index])
		prev[next[index]] = prev[index];
	else
		chain->tail = prev[index];
	chain->count--;
}

void
fp_flow_publish_counts(struct fp_arena *arena, uint32_t vnet)
{
	const struct fp_flow_chain *chain = arena->flow->chain[vnet];
	struct fp_vnet *record = &arena->view.vnet[vnet];

	fp_store(&record->flows, chain[FP_FLOW_FORWARD].count + chain[FP_FLOW_REFUSAL].count);
	fp_store(&record->drops_resident, chain[FP_FLOW_REFUSAL].count);
}

void
fp_flow_chain_add(struct fp_arena *arena, uint32_t index, uint32_t vnet, enum fp_flow_kind kind)
{
	struct fp_flow_private *flow = arena->flow;

	flow->vnet[index] = (uint16_t)vnet;
	flow->kind[index] = kind;
	flow->resident[kind]++;
	chain_push(arena, &flow->chain[vnet][kind], index);
}

void
fp_flow_chain_remove(struct fp_arena *arena, uint32_t index)
{
	struct fp_flow_private *flow = arena->flow;
	const uint32_t vnet = flow->vnet[index];
	const enum fp_flow_kind kind = flow->kind[index];

	chain_unlink(arena, &flow->chain[vnet][kind], index);
	flow->resident[kind]--;
	flow->kind[index] = FP_FLOW_NONE;
}

int
fp_flow_victim_in_bucket(struct fp_arena *arena, const struct fp_flow_bucket *bucket, uint32_t vnet,
			 enum fp_flow_kind kind)
{
	const struct fp_flow_private *flow = arena->flow;
	uint64_t coldest = UINT64_MAX;
	int victim = -EDQUOT;

	for (int slot = 0; slot < FP_BUCKET_SLOTS; slot++) {
		const uint32_t index = fp_flow_slot_entry(arena, bucket, (uint32_t)slot);
		const bool expired = arena->view.flow_entry[index].expire_at_s <= arena->now_s;
		const bool refusal = flow->kind[index] == FP_FLOW_REFUSAL;
		// Expired ones first, then refusals, then by age.
		const uint64_t heat = expired ? 0 : (uint64_t)(refusal ? 1 : 2) << 32 | used_s(arena, index);

		if (kind == FP_FLOW_REFUSAL && !expired && !refusal && flow->vnet[index] != vnet)
			continue;
		if (heat < coldest) {
			coldest = heat;
			victim = slot;
		}
	}
	return victim;
}

static void
evict(struct fp_arena *arena, uint32_t index)
{
	const uint64_t hash = fp_hash_flow(&arena->view.secret, &arena->view.flow_entry[index].key);
	struct fp_flow_bucket *bucket = &arena->view.flow_bucket[fp_flow_bucket_of(&arena->view, hash)];

	for (uint32_t slot = 0; slot < FP_BUCKET_SLOTS; slot++)
		if (fp_flow_slot_entry(arena, bucket, slot) == index) {
			fp_flow_unpublish(arena, bucket, slot);
			arena->flow->stats.evicted_hand++;
			return;
		}
	assert(!"a live flow stands in its bucket");
}

// The coldest of the oldest few; the others go to the back.
static void
evict_from_chain(struct fp_arena *arena, struct fp_flow_chain *chain)
{
	const uint32_t looks = chain->count < CHAIN_LOOKS ? chain->count : CHAIN_LOOKS;
	uint32_t victim = chain->head;

	for (uint32_t i = 0; i < looks; i++) {
		const uint32_t index = chain->head;
		if (used_s(arena, index) < used_s(arena, victim))
			victim = index;
		chain_unlink(arena, chain, index);
		chain_push(arena, chain, index);
	}
	evict(arena, victim);
}

static void
evict_flow_by_hand(struct fp_arena *arena)
{
	struct fp_flow_private *flow = arena->flow;
	uint32_t victim = 0, looks = 0;

	while (looks < HAND_LOOKS || victim == 0) {
		const uint32_t index = flow->hand;
		flow->hand = index + 1 < arena->view.flows ? index + 1 : 1;
		looks++;
		if (flow->kind[index] != FP_FLOW_FORWARD)
			continue;
		if (victim == 0 || used_s(arena, index) < used_s(arena, victim))
			victim = index;
	}
	evict(arena, victim);
}

static void
evict_refusal_in_turn(struct fp_arena *arena)
{
	struct fp_flow_private *flow = arena->flow;

	do {
		flow->vnet_hand = flow->vnet_hand + 1 < arena->view.vnets ? flow->vnet_hand + 1 : 1;
	} while (flow->chain[flow->vnet_hand][FP_FLOW_REFUSAL].count == 0);
	evict_from_chain(arena, &flow->chain[flow->vnet_hand][FP_FLOW_REFUSAL]);
}

static uint32_t
quota(const struct fp_arena *arena, uint32_t vnet, enum fp_flow_kind kind)
{
	const uint32_t own = arena->view.vnet[vnet].quota_flows;
	const uint32_t flows = own && own < arena->config.flows ? own : arena->config.flows;
	const uint32_t share_percent = arena->config.refusal_share_percent;

	if (kind == FP_FLOW_FORWARD)
		return flows;
	const uint64_t refusals = (uint64_t)flows * share_percent / 100;
	return refusals ? (uint32_t)refusals : 1;
}

bool
fp_flow_kind_has_room(const struct fp_arena *arena, enum fp_flow_kind kind)
{
	return kind == FP_FLOW_FORWARD || arena->config.refusal_share_percent;
}

void
fp_flow_make_room(struct fp_arena *arena, uint32_t vnet, enum fp_flow_kind kind)
{
	struct fp_flow_private *flow = arena->flow;
	struct fp_flow_chain *own = &flow->chain[vnet][kind];
	const uint32_t limit = quota(arena, vnet, kind);
	const uint32_t table = arena->config.flows + fp_flow_refusal_reserve(&arena->config);

	// Twice: a quota that was lowered is reached step by step.
	for (int i = 0; i < 2 && own->count >= limit; i++)
		evict_from_chain(arena, own);
	if (kind == FP_FLOW_FORWARD && flow->resident[FP_FLOW_FORWARD] >= arena->config.flows)
		evict_flow_by_hand(arena);
	if (flow->resident[FP_FLOW_FORWARD] + flow->resident[FP_FLOW_REFUSAL] < table)
		return;
	if (kind == FP_FLOW_REFUSAL && own->count)
		evict_from_chain(arena, own);
	else
		evict_refusal_in_turn(arena);
}
