// SPDX-License-Identifier: Apache-2.0
//
// Gives out the indexes of one table, 1 .. capacity, and takes them back when it is safe: no index is used
// again before it is dead, no reference to it is left, and every reader has passed a quiescent state since.
// Private to the writer and rebuilt at adoption; nothing of it stands in the arena.
//
//	rc = fp_index_take(pool, &header);                 // -EAGAIN: wait for a grace period; -ENOSPC: full
//	fp_store_bytes(&headers[header], &new, sizeof new);
//	fp_store(&tunnels[t], fp_tunnel_make(header, ...)); // publishes
//	fp_index_retire(pool, old_header);                  // unpublished: reused when nobody can see it
//
// References are counts kept by the writer: a location holds its tunnel, a flow holds its locations and its
// ingress. A dead index with references waits for the last fp_index_drop, then for a grace period.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rte_rcu_qsbr;

enum fp_index_state {
	FP_INDEX_FREE = 0, // free, or waiting for a grace period
	FP_INDEX_LIVE = 1,
	FP_INDEX_DEAD = 2, // retired, but references are left
};

#define FP_INDEX_OWNERS 32

struct fp_index_list {
	uint32_t head, tail, count; // 0: empty
};

struct fp_index_pool {
	uint32_t capacity;
	uint32_t live;
	uint32_t dead;
	struct fp_index_list free;   // to be taken
	struct fp_index_list open;   // retired since the last grace period began
	struct fp_index_list closed; // wait for `token`
	uint64_t token;
	uint32_t *next;                  // of lists; while an index is live its owner may use next[index]
	uint32_t *references;            // NULL if this table is not counted
	uint8_t *state;                  // enum fp_index_state
	uint8_t *owner;                  // 0: nobody. NULL if it is not asked whose they are
	uint32_t owned[FP_INDEX_OWNERS]; // by owner; an index that is dead is its owner's still
	uint64_t misused;                // calls about an index that was not so: refused
	struct rte_rcu_qsbr *qsbr;
};

// A call about an index that is not in the state for it is a fault of the caller's. It changes nothing and is
// counted: an index that stands in a list twice would be given out twice.

// All indexes are free but not yet to be taken: claim those that live, then call fp_index_pool_ready.
int fp_index_pool_init(struct fp_index_pool *pool, struct rte_rcu_qsbr *qsbr, uint32_t capacity,
		       bool counted);
void fp_index_claim(struct fp_index_pool *pool, uint32_t index); // adoption
void fp_index_pool_ready(struct fp_index_pool *pool);
void fp_index_pool_free(struct fp_index_pool *pool);

// 0; -EAGAIN: indexes wait for a grace period, try again later; -ENOSPC: all are in use. Reclaims by itself.
int fp_index_take(struct fp_index_pool *pool, uint32_t *index);
// The caller has made it unreachable for readers that come from now on.
void fp_index_retire(struct fp_index_pool *pool, uint32_t index);
// Taken but never published: free again at once.
void fp_index_untake(struct fp_index_pool *pool, uint32_t index);
// How many came free. Never waits.
uint32_t fp_index_reclaim(struct fp_index_pool *pool);

// Index 0 holds nothing: both ignore it.
static inline void
fp_index_hold(struct fp_index_pool *pool, uint32_t index)
{
	if (index)
		pool->references[index]++;
}
void fp_index_drop(struct fp_index_pool *pool, uint32_t index);

int fp_index_owners_init(struct fp_index_pool *pool); // nobody owns anything yet
// An index in use is somebody's from now on, until it is free again.
void fp_index_own(struct fp_index_pool *pool, uint32_t index, uint8_t owner);

static inline bool
fp_index_live(const struct fp_index_pool *pool, uint32_t index)
{
	return index && index <= pool->capacity && pool->state[index] == FP_INDEX_LIVE;
}

static inline uint32_t
fp_index_references(const struct fp_index_pool *pool, uint32_t index)
{
	return pool->references[index];
}

static inline uint32_t
fp_index_free(const struct fp_index_pool *pool)
{
	return pool->capacity - pool->live - pool->dead;
}

static inline uint32_t
fp_index_waiting(const struct fp_index_pool *pool)
{
	return pool->open.count + pool->closed.count;
}
