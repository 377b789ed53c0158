// SPDX-License-Identifier: Apache-2.0
//
// What the flow table's files share: flow_lookup.c (readers), flow_table.c (insert, change, remove),
// flow_evict.c (who makes room), flow_walk.c (all of them, a part at a time). Only native/core includes this.
#pragma once

#include "arena_internal.h"

enum fp_flow_kind {
	FP_FLOW_NONE = 0,
	FP_FLOW_FORWARD = 1,
	FP_FLOW_REFUSAL = 2, // action DROP: a budget of its own
	FP_FLOW_KINDS = 3,
};

// Flows of one V-net and kind, about in order of age; threaded through pool->next and prev.
struct fp_flow_chain {
	uint32_t head, tail, count;
};

// The writer's own, rebuilt at adoption. By entry index.
struct fp_flow_private {
	uint32_t *prev;
	uint16_t *vnet;
	uint8_t *kind;                                // enum fp_flow_kind
	struct fp_flow_chain (*chain)[FP_FLOW_KINDS]; // by V-net
	uint32_t resident[FP_FLOW_KINDS];
	uint32_t hand;      // next entry that the hand looks at
	uint32_t vnet_hand; // V-net whose refusal made room last
	struct fp_flow_stats stats;
};

// Where a key's slot has its signature: other bits of the hash than the bucket's. Not 0, which free slots have.
static inline uint32_t
fp_flow_signature_of(uint64_t hash, uint32_t index_mask)
{
	const uint32_t signature = (uint32_t)hash & ~index_mask;
	return signature ? signature : index_mask + 1;
}

// Index of the entry that a slot leads to, 0 if it is free. Writer.
static inline uint32_t
fp_flow_slot_entry(const struct fp_arena *arena, const struct fp_flow_bucket *bucket, uint32_t slot)
{
	return bucket->slot[slot] & arena->view.flow_index_mask;
}

static inline enum fp_flow_kind
fp_flow_kind_of(fp_action_word action)
{
	return fp_action_of(action) == FP_ACTION_DROP ? FP_FLOW_REFUSAL : FP_FLOW_FORWARD;
}

typedef uint64_t fp_flow_words __attribute__((vector_size(16), aligned(1), may_alias));

static inline bool
fp_flow_key_equal(const struct fp_flow_key *a, const struct fp_flow_key *b)
{
	const uint8_t *x = (const uint8_t *)a, *y = (const uint8_t *)b;
	const fp_flow_words differ = (*(const fp_flow_words *)x ^ *(const fp_flow_words *)y) |
				     (*(const fp_flow_words *)(x + 16) ^ *(const fp_flow_words *)(y + 16)) |
				     (*(const fp_flow_words *)(x + 28) ^ *(const fp_flow_words *)(y + 28));
	return (differ[0] | differ[1]) == 0;
}

// flow_lookup.c, compiled for each; flow_variant.c chooses.
extern const struct fp_flow_lookup fp_flow_lookup_baseline, fp_flow_lookup_avx2, fp_flow_lookup_avx512;
void fp_flow_variant_choose(struct fp_arena_view *view);

// Why an entry is not to be believed. One function for the installer's values and for adoption.
enum fp_flow_fault {
	FP_FLOW_SOUND = 0,
	FP_FLOW_BAD_RANGE,
	FP_FLOW_BAD_VNET, // dead, or another's without a peering
	FP_FLOW_BAD_LOCATION,
};
enum fp_flow_fault fp_flow_check(const struct fp_arena *arena, const struct fp_flow_key *key,
				 fp_action_word action);

// What a visit of a pass costs, roughly; a pass ends when what it may spend is spent. Measured at a million flows,
// with nothing of what is removed in a cache.
#define FP_EMPTY_NS 1 // a place without a flow
#define FP_VISIT_NS 30
#define FP_REMOVE_NS 1000 // beside the visit

// As fp_flow_walk, for *left_ns by this estimate, which is counted down. The visitor returns what it has cost
// beside the visit. Returns true when it wrapped around.
typedef uint32_t (*fp_flow_pass_visit)(void *context, uint32_t index, struct fp_flow_entry *entry,
				       struct fp_flow_side *side);
bool fp_flow_pass(struct fp_arena *arena, uint32_t *cursor, uint32_t *left_ns, fp_flow_pass_visit visit,
		  void *context);

// V-net that a flow leads into; its own if it leads nowhere.
static inline uint32_t
fp_flow_destination_vnet(const struct fp_arena_view *view, const struct fp_flow_entry *entry)
{
	const uint32_t destination = fp_action_destination(entry->action);
	if (fp_action_of(entry->action) == FP_ACTION_DROP || destination == 0)
		return view->ingress[entry->key.ingress].vnet;
	return view->location[destination].vnet;
}

// flow_table.c: removes a live entry that stands in this slot.
void fp_flow_unpublish(struct fp_arena *arena, struct fp_flow_bucket *bucket, uint32_t slot);

// flow_evict.c
void fp_flow_chain_add(struct fp_arena *arena, uint32_t index, uint32_t vnet, enum fp_flow_kind kind);
void fp_flow_chain_remove(struct fp_arena *arena, uint32_t index);
void fp_flow_publish_counts(struct fp_arena *arena, uint32_t vnet); // into the V-net's record
// Adoption: takes an entry that stands in a bucket and passed every check.
void fp_flow_claim(struct fp_arena *arena, uint32_t index);
// A slot of this full bucket that makes room for this kind; -EDQUOT if none does.
int fp_flow_victim_in_bucket(struct fp_arena *arena, const struct fp_flow_bucket *bucket, uint32_t vnet,
			     enum fp_flow_kind kind);
bool fp_flow_kind_has_room(const struct fp_arena *arena, enum fp_flow_kind kind); // false: none, ever
// Evicts until one more of this kind fits into the V-net's quota and into the table.
void fp_flow_make_room(struct fp_arena *arena, uint32_t vnet, enum fp_flow_kind kind);
