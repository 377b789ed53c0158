// SPDX-License-Identifier: Apache-2.0
//
// Marking: flows that a change may have touched, but does not forbid (loosened, moved, missed), forward on and
// are asked again. A pass over all flows in slices, a lap. What comes during a lap waits for the next one, so that
// each scope sees every flow. The scopes are those that the V-net keeps (change.c); a V-net that has overwritten one
// before a lap was through with it is asked about as a whole, and no other one with it.
#include "install_internal.h"

#include "flow_internal.h"

#define SCOPE_NS 4

static struct fp_mark *mark_of(struct fp_installer *in, uint32_t vnet, uint32_t lap);
static struct fp_mark *mark_next(struct fp_installer *in, uint32_t vnet);
static uint32_t mark_one(void *context, uint32_t index, struct fp_flow_entry *entry,
			 struct fp_flow_side *side);
static bool is_marked(const struct fp_mark *mark, const struct fp_vnet *vnet,
		      const struct fp_flow_entry *entry);

void
fp_mark_newest(struct fp_installer *in, uint32_t vnet)
{
	struct fp_mark *mark = mark_next(in, vnet);
	const uint32_t changes = in->vnet[vnet].changes;
	if (mark->first == mark->end)
		mark->first = changes - 1;
	mark->end = changes;
}

void
fp_mark_overwritten(struct fp_installer *in, uint32_t vnet)
{
	const uint32_t oldest = in->vnet[vnet].changes - FP_CHANGES_KEPT; // that is kept
	for (uint32_t lap = in->lap; lap != in->lap + 2; lap++) {
		struct fp_mark *mark = mark_of(in, vnet, lap);
		if (mark == NULL || mark->first == mark->end || (int32_t)(oldest - mark->first) <= 0)
			continue;
		mark->all = true;
		mark->first = mark->end = 0;
	}
}

void
fp_mark_older(struct fp_installer *in, uint32_t vnet, uint32_t before)
{
	struct fp_mark *mark = mark_next(in, vnet);
	if (!mark->older || (int32_t)(before - mark->before) > 0)
		mark->before = before;
	mark->older = true;
}

void
fp_mark_forget(struct fp_installer *in, uint32_t vnet)
{
	in->vnet[vnet].mark[0] = in->vnet[vnet].mark[1] = (struct fp_mark){0};
}

bool
fp_marking_tick(struct fp_installer *in, uint32_t *left_ns)
{
	if (!in->marking) {
		if (!in->marks_due)
			return false;
		in->lap++;
		in->marks_due = false;
		in->marking = true;
		in->mark_cursor = 0;
	}
	if (fp_flow_pass(in->arena, &in->mark_cursor, left_ns, mark_one, in))
		in->marking = false;
	return in->marking || in->marks_due;
}

// NULL: nothing of it is marked in this lap.
static struct fp_mark *
mark_of(struct fp_installer *in, uint32_t vnet, uint32_t lap)
{
	struct fp_mark *mark = &in->vnet[vnet].mark[lap % 2];
	return mark->lap == lap ? mark : NULL;
}

static struct fp_mark *
mark_next(struct fp_installer *in, uint32_t vnet)
{
	struct fp_mark *mark = &in->vnet[vnet].mark[(in->lap + 1) % 2];
	if (mark->lap != in->lap + 1)
		*mark = (struct fp_mark){.lap = in->lap + 1};
	in->marks_due = true;
	return mark;
}

static uint32_t
mark_one(void *context, uint32_t, struct fp_flow_entry *entry, struct fp_flow_side *side)
{
	struct fp_installer *in = context;
	const struct fp_arena_view *view = &in->arena->view;
	const uint32_t vnet = view->ingress[entry->key.ingress].vnet;
	const uint32_t to = in->peerings ? fp_flow_destination_vnet(view, entry) : vnet;
	const struct fp_mark *mark = mark_of(in, vnet, in->lap);
	const struct fp_mark *mark_to = to == vnet ? NULL : mark_of(in, to, in->lap);
	const uint32_t compare_ns =
		((mark ? mark->end - mark->first : 0) + (mark_to ? mark_to->end - mark_to->first : 0)) *
		SCOPE_NS;
	if (!(mark && is_marked(mark, &view->vnet[vnet], entry)) &&
	    !(mark_to && is_marked(mark_to, &view->vnet[to], entry)))
		return compare_ns;
	if (!(fp_action_flags(entry->action) & FP_ACTION_STALE))
		fp_store(&entry->action, entry->action | (uint64_t)FP_ACTION_STALE << 48);
	fp_store(&side->refresh_at_s, in->now_s);
	return compare_ns;
}

static bool
is_marked(const struct fp_mark *mark, const struct fp_vnet *vnet, const struct fp_flow_entry *entry)
{
	if (mark->all || (mark->older && (int32_t)(entry->revision - mark->before) < 0))
		return true;
	for (uint32_t i = mark->first; i != mark->end; i++) {
		const struct fp_change *change = &vnet->changes[i % FP_CHANGES_KEPT];
		if (change->kind != FP_CHANGE_TIGHTEN && fp_scope_covers(&change->scope, &entry->key))
			return true;
	}
	return false;
}
