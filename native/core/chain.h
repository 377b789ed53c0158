// SPDX-License-Identifier: Apache-2.0
//
// Lists of indexes, threaded through two arrays: what belongs to one of many owners is walked without looking
// at what belongs to others. Each index stands in at most one list of a chain; 0 ends one. The writer's own.
#pragma once

#include <stdint.h>
#include <stdlib.h>

struct fp_chain {
	uint32_t *next, *prev;
};

static inline int
fp_chain_init(struct fp_chain *chain, size_t count)
{
	chain->next = calloc(count, sizeof(*chain->next));
	chain->prev = calloc(count, sizeof(*chain->prev));
	return chain->next && chain->prev ? 0 : -1;
}

static inline void
fp_chain_free(struct fp_chain *chain)
{
	free(chain->next);
	free(chain->prev);
}

// To the front of the list that begins at *first.
static inline void
fp_chain_add(struct fp_chain *chain, uint32_t *first, uint32_t index)
{
	chain->prev[index] = 0;
	chain->next[index] = *first;
	if (*first)
		chain->prev[*first] = index;
	*first = index;
}

static inline void
fp_chain_remove(struct fp_chain *chain, uint32_t *first, uint32_t index)
{
	const uint32_t next = chain->next[index], prev = chain->prev[index];
	if (prev)
		chain->next[prev] = next;
	else
		*first = next;
	if (next)
		chain->prev[next] = prev;
}
