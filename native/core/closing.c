// SPDX-License-Identifier: Apache-2.0
#include "closing.h"

#include <errno.h>
#include <stdlib.h>

#include <rte_rcu_qsbr.h>

#include "flow_internal.h"
#include "scope.h"

#define SCOPE_NS 4           // comparing with one
#define RETIRED_AT_ONCE 256  // V-nets
#define STAMP_AGE (1u << 30) // older stamps are kept at this distance, so that numbers may wrap around

static bool is_closed(const struct fp_arena *arena, uint32_t index, fp_action_word word, uint32_t decided);
static bool in_scope(const struct fp_closings *closings, const struct fp_flow_entry *entry, uint32_t vnet,
		     uint32_t to, uint32_t decided);
static bool location_died(const struct fp_arena_view *view, uint32_t location);
static uint32_t walk_one(void *context, uint32_t index, struct fp_flow_entry *entry,
			 struct fp_flow_side *side);
static void publish(struct fp_arena *arena, uint32_t vnet, const struct fp_closing *closing);
static bool has_room(const struct fp_arena *arena, struct fp_closing_list *list);
static void pend(struct fp_arena *arena, uint32_t vnet, uint8_t how);
static void retire(struct fp_arena *arena);
static bool scopes_retire(struct fp_arena *arena, uint32_t vnet);
static bool whole_retire(struct fp_arena *arena, uint32_t vnet);
static void vnet_settled(struct fp_arena *arena, uint32_t vnet);

static inline bool
is_before(uint32_t sequence, uint32_t other)
{
	return (int32_t)(sequence - other) < 0;
}

int
fp_closings_init(struct fp_arena *arena)
{
	struct fp_closings *closings = calloc(1, sizeof(*closings));
	if (closings == NULL)
		return -ENOMEM;
	arena->view.closings = closings;
	closings->sequence = 1;
	closings->whole = calloc(arena->view.vnets, sizeof(*closings->whole));
	closings->scopes = calloc(arena->view.vnets, sizeof(*closings->scopes));
	// A V-net that is taken off them may come once more before all have been gone through.
	closings->whole_list = calloc(arena->view.vnets, 2 * sizeof(*closings->whole_list));
	closings->scope_list = calloc(arena->view.vnets, 2 * sizeof(*closings->scope_list));
	closings->list = calloc(arena->view.vnets, sizeof(*closings->list));
	closings->decided = calloc(arena->view.flows, sizeof(*closings->decided));
	return closings->whole && closings->scopes && closings->whole_list && closings->scope_list &&
			       closings->list && closings->decided
		       ? 0
		       : -ENOMEM;
}

void
fp_closings_free(struct fp_arena *arena)
{
	struct fp_closings *closings = arena->view.closings;
	if (closings == NULL)
		return;
	free(closings->whole);
	free(closings->scopes);
	free(closings->whole_list);
	free(closings->scope_list);
	free(closings->list);
	free(closings->decided);
	free(closings);
	arena->view.closings = NULL;
}

// ---- readers ---------------------------------------------------------------------------------

// The stamp is read before the word: it is stored after it, so that no old word is taken for a new one.
uint32_t
fp_closings_compare(const struct fp_arena *arena, uint32_t n, fp_action_word *word, uint32_t *entry)
{
	const struct fp_arena_view *view = &arena->view;
	uint32_t hits = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (entry[i] == 0)
			continue;
		const uint32_t decided = fp_load(&view->closings->decided[entry[i]]);
		word[i] = fp_load(&view->flow_entry[entry[i]].action);
		if (is_closed(arena, entry[i], word[i], decided))
			word[i] = entry[i] = 0;
		else
			hits++;
	}
	return hits;
}

static bool
is_closed(const struct fp_arena *arena, uint32_t index, fp_action_word word, uint32_t decided)
{
	const struct fp_closings *closings = arena->view.closings;
	const struct fp_arena_view *view = &arena->view;
	const struct fp_flow_entry *entry = &view->flow_entry[index];
	const struct fp_ingress *ingress = &view->ingress[entry->key.ingress];
	const bool drops = fp_action_of(word) == FP_ACTION_DROP;
	const uint32_t source = drops ? 0 : fp_action_source(word);
	const uint32_t destination = drops ? 0 : fp_action_destination(word);
	const uint32_t vnet = ingress->vnet;
	const uint32_t to = destination ? view->location[destination].vnet : vnet;
	const uint32_t whole = fp_load(&closings->whole[vnet]);
	const uint32_t whole_to = to == vnet ? whole : fp_load(&closings->whole[to]);

	if ((whole && is_before(decided, whole)) || (whole_to && is_before(decided, whole_to)))
		return true;
	if (fp_load(&closings->dead) && (!(fp_load(&ingress->flags) & FP_INGRESS_LIVE) ||
					 location_died(view, source) || location_died(view, destination)))
		return true;
	return in_scope(closings, entry, vnet, to, decided);
}

static bool
location_died(const struct fp_arena_view *view, uint32_t location)
{
	return location && fp_load(&view->location[location].state) != FP_LOCATION_LIVE;
}

static bool
in_list(const struct fp_closing_list *list, const struct fp_flow_entry *entry, bool from_it, uint32_t to,
	uint32_t decided)
{
	const uint32_t first = fp_load(&list->first), end = fp_load(&list->end);
	for (uint32_t i = first; i != end; i++) {
		const struct fp_closing *one = &list->closing[i % FP_CLOSINGS_MAX];
		if ((one->to == 0 || (from_it && one->to == to)) && is_before(decided, one->sequence) &&
		    (!one->older || is_before(fp_load(&entry->revision), one->before)) &&
		    fp_scope_covers(&one->scope, &entry->key))
			return true;
	}
	return false;
}

static bool
in_scope(const struct fp_closings *closings, const struct fp_flow_entry *entry, uint32_t vnet, uint32_t to,
	 uint32_t decided)
{
	return (fp_load(&closings->scopes[vnet]) &&
		in_list(&closings->list[vnet], entry, true, to, decided)) ||
	       (to != vnet && fp_load(&closings->scopes[to]) &&
		in_list(&closings->list[to], entry, false, to, decided));
}

// ---- publishing ------------------------------------------------------------------------------

void
fp_close_scope(struct fp_arena *arena, uint32_t vnet, const struct fp_scope *scope)
{
	publish(arena, vnet, &(struct fp_closing){.scope = *scope});
}

void
fp_close_older(struct fp_arena *arena, uint32_t vnet, const struct fp_scope *scope, uint32_t before)
{
	publish(arena, vnet, &(struct fp_closing){.scope = *scope, .older = true, .before = before});
}

void
fp_close_pair(struct fp_arena *arena, uint32_t from, uint32_t to)
{
	publish(arena, from, &(struct fp_closing){.to = (uint16_t)to, .scope = {.port_high = 0xffff}});
}

void
fp_close_vnet(struct fp_arena *arena, uint32_t vnet)
{
	struct fp_closings *closings = arena->view.closings;
	if (closings->whole[vnet] == 0) {
		closings->whole_list[closings->wholes++] = (uint16_t)vnet;
		// Its flows count to it until they are taken out: nobody else gets the index before.
		fp_index_hold(&arena->pool[FP_POOL_VNET], vnet);
	}
	__atomic_store_n(&closings->whole[vnet], ++closings->sequence, __ATOMIC_RELEASE);
	pend(arena, vnet, FP_VNET_CLOSING_ALL);
}

void
fp_close_dead(struct fp_arena *arena)
{
	struct fp_closings *closings = arena->view.closings;
	__atomic_store_n(&closings->dead, ++closings->sequence, __ATOMIC_RELEASE);
	__atomic_store_n(&closings->pending, 1, __ATOMIC_RELEASE);
}

// With no room in its list the V-net is closed as a whole: more than is forbidden, but at once.
static void
publish(struct fp_arena *arena, uint32_t vnet, const struct fp_closing *given)
{
	struct fp_closings *closings = arena->view.closings;
	struct fp_closing_list *list = &closings->list[vnet];
	if (!has_room(arena, list))
		(void)fp_closings_settle(arena);
	if (!has_room(arena, list)) {
		fp_close_vnet(arena, vnet);
		return;
	}
	struct fp_closing *one = &list->closing[list->end % FP_CLOSINGS_MAX];
	*one = *given;
	one->sequence = ++closings->sequence;
	if (closings->scopes[vnet] == 0)
		closings->scope_list[closings->scoped++] = (uint16_t)vnet;
	__atomic_store_n(&list->end, list->end + 1, __ATOMIC_RELEASE);
	__atomic_store_n(&closings->scopes[vnet], list->end - list->first, __ATOMIC_RELEASE);
	pend(arena, vnet, FP_VNET_CLOSING_SCOPES);
}

static bool
has_room(const struct fp_arena *arena, struct fp_closing_list *list)
{
	if (list->end - list->reusable == FP_CLOSINGS_MAX &&
	    rte_rcu_qsbr_check(arena->qsbr, list->token, false) == 1)
		list->reusable = list->first;
	return list->end - list->reusable < FP_CLOSINGS_MAX;
}

// A decision that a thread has been handed and not yet looked at is no less closed: it compares `closings`.
static void
pend(struct fp_arena *arena, uint32_t vnet, uint8_t how)
{
	struct fp_vnet *record = &arena->view.vnet[vnet];
	if (record->closing < how)
		fp_store(&record->closing, how);
	__atomic_store_n(&arena->view.closings->pending, 1, __ATOMIC_RELEASE);
	fp_store(&record->closings, record->closings + 1);
}

void
fp_closing_stamp(struct fp_arena *arena, uint32_t entry)
{
	struct fp_closings *closings = arena->view.closings;
	__atomic_store_n(&closings->decided[entry], closings->sequence, __ATOMIC_RELEASE);
}

// ---- the walk --------------------------------------------------------------------------------

bool
fp_closings_fresh(const struct fp_arena *arena)
{
	const struct fp_closings *closings = arena->view.closings;
	return closings->pending && closings->phase == FP_CLOSING_IDLE;
}

bool
fp_closings_due(const struct fp_arena *arena)
{
	const struct fp_closings *closings = arena->view.closings;
	return closings->pending && closings->phase != FP_CLOSING_GRACE;
}

bool
fp_closings_walk(struct fp_arena *arena, uint32_t *left_ns)
{
	struct fp_closings *closings = arena->view.closings;
	(void)fp_closings_settle(arena);
	if (!fp_closings_due(arena))
		return false;
	if (closings->phase == FP_CLOSING_RETIRE)
		return true;
	if (closings->phase == FP_CLOSING_IDLE) {
		closings->phase = FP_CLOSING_WALK;
		closings->walk_sequence = closings->sequence;
		closings->cursor = 0;
	}
	if (fp_flow_pass(arena, &closings->cursor, left_ns, walk_one, arena)) {
		closings->phase = FP_CLOSING_GRACE;
		closings->token = rte_rcu_qsbr_start(arena->qsbr);
		(void)fp_closings_settle(arena);
	}
	return fp_closings_due(arena);
}

void
fp_closings_finish(struct fp_arena *arena)
{
	uint32_t left_ns;
	do
		left_ns = INT32_MAX;
	while (fp_closings_walk(arena, &left_ns));
}

static uint32_t
walk_one(void *context, uint32_t index, struct fp_flow_entry *entry, struct fp_flow_side *)
{
	struct fp_arena *arena = context;
	struct fp_closings *closings = arena->view.closings;
	const uint32_t decided = closings->decided[index];
	const uint32_t vnet = fp_flow_vnet_at(arena, index);
	const uint32_t compare_ns = closings->scopes[vnet] * SCOPE_NS;
	if (is_closed(arena, index, entry->action, decided)) {
		fp_flow_remove_at(arena, index);
		return compare_ns + FP_REMOVE_NS;
	}
	if (closings->sequence - decided > STAMP_AGE)
		__atomic_store_n(&closings->decided[index], closings->sequence - STAMP_AGE, __ATOMIC_RELEASE);
	return compare_ns;
}

bool
fp_closings_settle(struct fp_arena *arena)
{
	struct fp_closings *closings = arena->view.closings;
	if (closings->phase == FP_CLOSING_GRACE &&
	    rte_rcu_qsbr_check(arena->qsbr, closings->token, false) == 1) {
		closings->phase = FP_CLOSING_RETIRE;
		closings->retire_scope = closings->kept_scopes = 0;
		closings->retire_whole = closings->kept_wholes = 0;
	}
	if (closings->phase == FP_CLOSING_RETIRE)
		retire(arena);
	return closings->phase >= FP_CLOSING_GRACE;
}

// What is published meanwhile comes at the end of the two lists, and stays.
static void
retire(struct fp_arena *arena)
{
	struct fp_closings *closings = arena->view.closings;
	for (uint32_t n = 0; n < RETIRED_AT_ONCE; n++) {
		if (closings->retire_scope < closings->scoped) {
			const uint16_t vnet = closings->scope_list[closings->retire_scope++];
			if (!scopes_retire(arena, vnet))
				closings->scope_list[closings->kept_scopes++] = vnet;
		} else if (closings->retire_whole < closings->wholes) {
			const uint16_t vnet = closings->whole_list[closings->retire_whole++];
			if (!whole_retire(arena, vnet))
				closings->whole_list[closings->kept_wholes++] = vnet;
		} else {
			closings->scoped = closings->kept_scopes;
			closings->wholes = closings->kept_wholes;
			closings->phase = FP_CLOSING_IDLE;
			if (closings->dead && !is_before(closings->walk_sequence, closings->dead))
				__atomic_store_n(&closings->dead, 0, __ATOMIC_RELEASE);
			if (closings->scoped == 0 && closings->wholes == 0 && closings->dead == 0)
				__atomic_store_n(&closings->pending, 0, __ATOMIC_RELEASE);
			return;
		}
	}
}

// True: its list is empty.
static bool
scopes_retire(struct fp_arena *arena, uint32_t vnet)
{
	struct fp_closings *closings = arena->view.closings;
	struct fp_closing_list *list = &closings->list[vnet];
	uint32_t first = list->first;
	while (first != list->end &&
	       !is_before(closings->walk_sequence, list->closing[first % FP_CLOSINGS_MAX].sequence))
		first++;
	if (first != list->first)
		list->token = rte_rcu_qsbr_start(arena->qsbr);
	__atomic_store_n(&list->first, first, __ATOMIC_RELEASE);
	__atomic_store_n(&closings->scopes[vnet], (uint16_t)(list->end - first), __ATOMIC_RELEASE);
	vnet_settled(arena, vnet);
	return closings->scopes[vnet] == 0;
}

static bool
whole_retire(struct fp_arena *arena, uint32_t vnet)
{
	struct fp_closings *closings = arena->view.closings;
	if (is_before(closings->walk_sequence, closings->whole[vnet]))
		return false;
	__atomic_store_n(&closings->whole[vnet], 0, __ATOMIC_RELEASE);
	vnet_settled(arena, vnet);
	fp_index_drop(&arena->pool[FP_POOL_VNET], vnet);
	return true;
}

static void
vnet_settled(struct fp_arena *arena, uint32_t vnet)
{
	const struct fp_closings *closings = arena->view.closings;
	struct fp_vnet *record = &arena->view.vnet[vnet];
	if (record->closing && closings->scopes[vnet] == 0 && closings->whole[vnet] == 0)
		fp_store(&record->closing, (uint8_t)FP_VNET_CLOSING_NONE);
}
