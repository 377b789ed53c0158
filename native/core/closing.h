// SPDX-License-Identifier: Apache-2.0
//
// Closing: what a change forbids is not acted on from one store on, however many flows there are.
//
// A closing is published in a list that readers compare with, and only then a walk takes out, slice by slice, the
// flows that it closes. While any closing is pending, a look-up that has found a flow asks fp_closings_compare; a
// flow that is closed and not yet taken out is a miss. With nothing pending that costs one load a burst.
//
// Each closing has a sequence number, and each flow the number that was the newest when it was decided
// (fp_closing_stamp): a closing is about flows of older numbers. So a decision that is made after a change is
// good at once, although the walk has not come by. What may be closed:
//
//	scope	the flows of a V-net, or into it, that a change's scope covers; a pair: all from one V-net into another
//	V-net	all flows from or into it: it goes, its store is another one, or its list of scopes has no room
//	dead	flows that name a location or an ingress that has died
//
// Each V-net has a list of its own: however much one of them changes, it is only that one that is closed as a whole.
//
// A closing leaves the list a grace period after a walk that began later has ended: a reader may have found a
// flow before it was taken out. What one list entry held is overwritten after another one, so no reader sees half of it.
//
// fp_closings_compare: poll threads. All else: the writer.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fp_types.h"

struct fp_arena;

#define FP_CLOSINGS_MAX                                                                                      \
	128 // of a V-net: two commits of as many scopes as the directory tells; a power of two

struct fp_closing {
	struct fp_scope scope;
	uint32_t sequence;
	uint16_t to; // a pair: only flows from the list's V-net into this one; 0: from or into the list's
	bool older;
	uint32_t before; // if `older`: only flows of a revision (low bits) before this
};

// Of one V-net. Memory is touched only by V-nets that close scopes.
struct fp_closing_list {
	uint32_t first, end; // closing[first .. end), modulo FP_CLOSINGS_MAX
	uint32_t reusable;   // the writer's: closing[reusable .. first) may still be looked at,
	uint64_t token;      // until this grace period has passed
	struct fp_closing closing[FP_CLOSINGS_MAX];
};

enum fp_closing_phase {
	FP_CLOSING_IDLE = 0,
	FP_CLOSING_WALK = 1,
	FP_CLOSING_GRACE = 2,  // for the readers that found a flow before it was taken out
	FP_CLOSING_RETIRE = 3, // what the walk was about leaves the lists, some V-nets at a time
};

struct fp_closings {
	// Readers'.
	uint32_t pending;             // 0: nothing to compare with
	uint32_t dead;                // sequence, 0: nothing has died
	uint32_t *whole;              // by V-net: sequence of what closes all of it, 0: nothing does
	uint16_t *scopes;             // by V-net: how many closings its list holds
	struct fp_closing_list *list; // by V-net
	uint32_t *decided;            // by flow entry: sequence when it was decided
	// The writer's.
	uint32_t sequence;                 // of the newest
	uint16_t *whole_list, *scope_list; // V-nets with `whole`, with `scopes`
	uint32_t wholes, scoped;
	uint8_t phase;                       // enum fp_closing_phase
	uint32_t cursor;                     // of the walk
	uint32_t walk_sequence;              // what had been published when the walk began
	uint64_t token;                      // of the grace period after it
	uint32_t retire_scope, retire_whole; // how far the two lists of V-nets have been gone through,
	uint32_t kept_scopes, kept_wholes;   // and how many of these stay
};

int fp_closings_init(struct fp_arena *arena);
void fp_closings_free(struct fp_arena *arena);

void fp_close_scope(struct fp_arena *arena, uint32_t vnet, const struct fp_scope *scope);
void fp_close_older(struct fp_arena *arena, uint32_t vnet, const struct fp_scope *scope, uint32_t before);
void fp_close_pair(struct fp_arena *arena, uint32_t from, uint32_t to);
void fp_close_vnet(struct fp_arena *arena, uint32_t vnet);
void fp_close_dead(struct fp_arena *arena);

// Goes on with the walk for about so long, by estimate. True: there is more to walk.
bool fp_closings_walk(struct fp_arena *arena, uint32_t *left_ns);
// All of it at once: nobody reads yet.
void fp_closings_finish(struct fp_arena *arena);
// Takes off the lists what no reader can meet any more, some V-nets at a time. True: something waits for a reader, or
// for the next call.
bool fp_closings_settle(struct fp_arena *arena);
// Something was published that no walk has begun for.
bool fp_closings_fresh(const struct fp_arena *arena);
// Is a walk under way or due?
bool fp_closings_due(const struct fp_arena *arena);

void fp_closing_stamp(struct fp_arena *arena, uint32_t entry); // it was decided now
// Of n look-ups with their words and entries (0: a miss), makes what is closed misses. Returns how many hits are left.
uint32_t fp_closings_compare(const struct fp_arena *arena, uint32_t n, fp_action_word *word, uint32_t *entry);

static inline bool
fp_closings_pending(const struct fp_closings *closings)
{
	return __atomic_load_n(&closings->pending, __ATOMIC_ACQUIRE) != 0;
}
