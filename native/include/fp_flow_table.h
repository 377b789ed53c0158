// SPDX-License-Identifier: Apache-2.0
//
// The flow table: shared, lock-free for readers, one writer, set-associative. A lookup touches one bucket
// line and, on a signature match, one entry line. No key ever moves; a slot is used again only after
// every reader has passed a quiescent state.
//
// fp_flow_lookup_*: poll threads. All else: the writer.
//
//	uint64_t hash[32]; fp_action_word word[32]; uint32_t entry[32];
//	uint32_t hits = fp_flow_lookup_bulk(arena, keys, n, now_s, hash, word, entry);
#pragma once

#include "fp_arena.h"

// Bucket of a hash: its high 32 bits, scaled.
static inline uint32_t
fp_flow_bucket_of(const struct fp_arena_view *view, uint64_t hash)
{
	return (uint32_t)((hash >> 32) * view->flow_buckets >> 32);
}

// So many flows, 75 bytes each, find no room in a second-level cache: a look-up waits for its lines.
#define FP_FLOWS_BEYOND_CACHE 32768
static inline bool
fp_flow_beyond_cache(const struct fp_arena *arena)
{
	return __atomic_load_n(fp_arena_tables(arena)->flows_resident, __ATOMIC_RELAXED) >=
	       FP_FLOWS_BEYOND_CACHE;
}

// A look-up of n keys is three calls. Each asks for cache lines that the next one reads, so that whoever has two
// bursts takes turns: start one, finish the other. Between the first and the last of them no quiescent state.
//
// start: hash[i] becomes the key's fp_hash_flow, entry[i] the number of its bucket.
static inline void
fp_flow_lookup_start(const struct fp_arena *arena, const struct fp_flow_key *const *key, uint32_t n,
		     uint64_t *hash, uint32_t *entry)
{
	fp_arena_tables(arena)->flow_lookup->start(arena, key, n, hash, entry);
}
// find: entry[i] becomes the entry that is probably the key's.
static inline void
fp_flow_lookup_find(const struct fp_arena *arena, uint32_t n, const uint64_t *hash, uint32_t *entry)
{
	fp_arena_tables(arena)->flow_lookup->find(arena, n, hash, entry);
}
// finish: word[i] becomes the action word and entry[i] the index of a hit, 0 of a miss. An entry whose expire_at_s has
// come is a miss. Stamps the age of what is found, asks for the destination's location. Returns the number of hits.
static inline uint32_t
fp_flow_lookup_finish(const struct fp_arena *arena, const struct fp_flow_key *const *key, uint32_t n,
		      uint32_t now_s, const uint64_t *hash, fp_action_word *word, uint32_t *entry)
{
	return fp_arena_tables(arena)->flow_lookup->finish(arena, key, n, now_s, hash, word, entry);
}

// All three at once.
static inline uint32_t
fp_flow_lookup_bulk(const struct fp_arena *arena, const struct fp_flow_key *const *key, uint32_t n,
		    uint32_t now_s, uint64_t *hash, fp_action_word *word, uint32_t *entry)
{
	fp_flow_lookup_start(arena, key, n, hash, entry);
	fp_flow_lookup_find(arena, n, hash, entry);
	return fp_flow_lookup_finish(arena, key, n, now_s, hash, word, entry);
}

// Stamps the entry's age if it is older than this second. Poll threads.
static inline void
fp_flow_used(struct fp_flow_entry *entry, uint32_t now_s)
{
	if (__atomic_load_n(&entry->used_s, __ATOMIC_RELAXED) != now_s)
		__atomic_store_n(&entry->used_s, now_s, __ATOMIC_RELAXED);
}

struct fp_flow_value {
	fp_action_word action;
	uint64_t revision;
	uint32_t expire_at_s;
	uint32_t refresh_at_s; // 0: never
	uint32_t decided_at_s; // 0: now
	uint32_t vnet;         // whose quota it counts to
};

// Writer. Inserts or changes. 0: done; -EAGAIN: short of reclaimed slots, try again after a grace period;
// -EDQUOT: a refusal (drop decision) found no room that was not a flow's; -EINVAL: the value names something
// that is not live, or the V-net is not that of the key's ingress. Never -ENOSPC: the coldest makes room
// (within the bucket, within its V-net's quota, or by the hand over the ages).
// Flows and refusals have quotas of their own: quota_flows of a V-net (0: the whole table), and
// refusal_share_percent of that. A refusal never evicts a flow of another V-net, whatever its bucket.
int fp_flow_insert(struct fp_arena *arena, const struct fp_flow_key *key, const struct fp_flow_value *value);

// Writer. Asks for the line that the insert of this key will look at first.
void fp_flow_foresee(const struct fp_arena *arena, const struct fp_flow_key *key);
int fp_flow_remove(struct fp_arena *arena, const struct fp_flow_key *key); // 0 or -ENOENT
// By index, from fp_flow_find or a walk. Nothing happens to one that is not live.
void fp_flow_remove_at(struct fp_arena *arena, uint32_t entry);
// Changes a live entry's action; 0, or -EINVAL as above. Its expiry and refresh_at_s may be stored directly.
int fp_flow_change_at(struct fp_arena *arena, uint32_t entry, fp_action_word action);
// V-net that a live entry counts to, 0 if it is not live.
uint32_t fp_flow_vnet_at(const struct fp_arena *arena, uint32_t entry);
// Index of a key's entry, 0 if none (writer's own look-up; expired ones too).
uint32_t fp_flow_find(const struct fp_arena *arena, const struct fp_flow_key *key);

// Reclaims what every reader has left behind. Returns how many slots came free. Called once a tick.
uint32_t fp_flow_reclaim(struct fp_arena *arena);

// Walks `count` entries from where it stopped; calls back for each live one. Used for scans (scoped change),
// refresh and dumps. Returns true when it wrapped around. The visitor may remove or change what it sees.
typedef void (*fp_flow_visit)(void *context, uint32_t index, struct fp_flow_entry *entry,
			      struct fp_flow_side *side);
bool fp_flow_walk(struct fp_arena *arena, uint32_t *cursor, uint32_t count, fp_flow_visit visit,
		  void *context);

// Removes a live entry if it expired more than grace_s ago; true: it did.
bool fp_flow_expire_at(struct fp_arena *arena, uint32_t entry, uint32_t grace_s);
// Walks likewise and removes what expired more than grace_s ago. Returns true when it wrapped around.
bool fp_flow_expire(struct fp_arena *arena, uint32_t *cursor, uint32_t count, uint32_t grace_s);

struct fp_flow_stats {
	uint64_t inserted, updated, removed, expired, evicted_bucket, evicted_hand, refused_quota, waited;
	uint32_t resident, free, reclaiming, buckets;
	uint32_t refusals; // of the resident ones
};
void fp_flow_stats(const struct fp_arena *arena, struct fp_flow_stats *stats);
