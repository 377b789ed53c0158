// SPDX-License-Identifier: Apache-2.0
//
// Lists are threaded through next[], so that a whole batch comes free by one splice. At most two batches
// wait: the closed one for its grace period, the open one for the closed one.
#include "index_pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_rcu_qsbr.h>

static void
list_push(struct fp_index_pool *pool, struct fp_index_list *list, uint32_t index)
{
	pool->next[index] = 0;
	if (list->count++)
		pool->next[list->tail] = index;
	else
		list->head = index;
	list->tail = index;
}

static void
list_splice(struct fp_index_pool *pool, struct fp_index_list *to, struct fp_index_list *from)
{
	if (from->count == 0)
		return;
	pool->next[from->tail] = to->count ? to->head : 0;
	if (to->count == 0)
		to->tail = from->tail;
	to->head = from->head;
	to->count += from->count;
	*from = (struct fp_index_list){0};
}

// Whether what a call supposes of an index is so; else it is counted.
static bool
so(struct fp_index_pool *pool, bool supposed)
{
	pool->misused += !supposed;
	return supposed;
}

int
fp_index_pool_init(struct fp_index_pool *pool, struct rte_rcu_qsbr *qsbr, uint32_t capacity, bool counted)
{
	const size_t n = (size_t)capacity + 1;

	*pool = (struct fp_index_pool){.capacity = capacity, .qsbr = qsbr};
	pool->next = calloc(n, sizeof(*pool->next));
	pool->state = calloc(n, sizeof(*pool->state));
	if (counted)
		pool->references = calloc(n, sizeof(*pool->references));
	if (pool->next && pool->state && (pool->references || !counted))
		return 0;
	fp_index_pool_free(pool);
	return -ENOMEM;
}

void
fp_index_claim(struct fp_index_pool *pool, uint32_t index)
{
	if (!so(pool, index && index <= pool->capacity && pool->state[index] == FP_INDEX_FREE))
		return;
	pool->state[index] = FP_INDEX_LIVE;
	pool->live++;
}

void
fp_index_pool_ready(struct fp_index_pool *pool)
{
	for (uint32_t index = 1; index <= pool->capacity; index++)
		if (pool->state[index] == FP_INDEX_FREE)
			list_push(pool, &pool->free, index);
}

void
fp_index_pool_free(struct fp_index_pool *pool)
{
	free(pool->next);
	free(pool->state);
	free(pool->references);
	free(pool->owner);
	*pool = (struct fp_index_pool){0};
}

int
fp_index_owners_init(struct fp_index_pool *pool)
{
	pool->owner = calloc((size_t)pool->capacity + 1, sizeof(*pool->owner));
	pool->owned[0] = pool->capacity;
	return pool->owner ? 0 : -ENOMEM;
}

void
fp_index_own(struct fp_index_pool *pool, uint32_t index, uint8_t owner)
{
	if (pool->owner == NULL || owner >= FP_INDEX_OWNERS)
		return;
	pool->owned[pool->owner[index]]--;
	pool->owned[owner]++;
	pool->owner[index] = owner;
}

int
fp_index_take(struct fp_index_pool *pool, uint32_t *index)
{
	if (pool->free.count == 0 && fp_index_reclaim(pool) == 0)
		return fp_index_waiting(pool) ? -EAGAIN : -ENOSPC;
	*index = pool->free.head;
	pool->free.head = pool->next[*index];
	pool->free.count--;
	pool->next[*index] = 0;
	pool->state[*index] = FP_INDEX_LIVE;
	pool->live++;
	return 0;
}

void
fp_index_retire(struct fp_index_pool *pool, uint32_t index)
{
	if (!so(pool, fp_index_live(pool, index)))
		return;
	pool->live--;
	if (pool->references && pool->references[index]) {
		pool->state[index] = FP_INDEX_DEAD;
		pool->dead++;
		return;
	}
	fp_index_own(pool, index, 0);
	pool->state[index] = FP_INDEX_FREE;
	list_push(pool, &pool->open, index);
}

void
fp_index_untake(struct fp_index_pool *pool, uint32_t index)
{
	if (!so(pool, fp_index_live(pool, index) && (!pool->references || !pool->references[index])))
		return;
	pool->live--;
	fp_index_own(pool, index, 0);
	pool->state[index] = FP_INDEX_FREE;
	list_push(pool, &pool->free, index);
}

void
fp_index_drop(struct fp_index_pool *pool, uint32_t index)
{
	if (index == 0)
		return;
	if (!so(pool, index <= pool->capacity && pool->references[index]))
		return;
	if (--pool->references[index] || pool->state[index] != FP_INDEX_DEAD)
		return;
	fp_index_own(pool, index, 0);
	pool->state[index] = FP_INDEX_FREE;
	pool->dead--;
	list_push(pool, &pool->open, index);
}

uint32_t
fp_index_reclaim(struct fp_index_pool *pool)
{
	uint32_t freed = 0;

	// Twice: with no reader inside, what was retired just now is free just now.
	for (int pass = 0; pass < 2; pass++) {
		if (pool->closed.count) {
			if (rte_rcu_qsbr_check(pool->qsbr, pool->token, false) != 1)
				break;
			freed += pool->closed.count;
			list_splice(pool, &pool->free, &pool->closed);
		}
		if (pool->open.count == 0)
			break;
		pool->closed = pool->open;
		pool->open = (struct fp_index_list){0};
		pool->token = rte_rcu_qsbr_start(pool->qsbr);
		if (rte_rcu_qsbr_check(pool->qsbr, pool->token, false) == 1) {
			freed += pool->closed.count;
			list_splice(pool, &pool->free, &pool->closed);
		}
	}
	return freed;
}
