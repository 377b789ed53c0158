// SPDX-License-Identifier: Apache-2.0
//
// Marking: flows that a change may have touched, but does not forbid (loosened, moved, missed), forward on and
// are asked again. A pass over all flows in slices. What comes during a lap waits for the next one, so that each
// scope sees every flow. Scopes that find no room mean all of their V-net.
#include "install_internal.h"

#include "flow_internal.h"

#define SCOPE_NS 4

static void lap_begin(struct fp_installer *in);
static uint32_t mark_one(void *context, uint32_t index, struct fp_flow_entry *entry,
			 struct fp_flow_side *side);
static bool is_marked(const struct fp_installer *in, uint32_t vnet, const struct fp_flow_entry *entry);
static void list_forget(struct fp_scope_list *list, uint32_t vnet);

void
fp_mark_scope(struct fp_installer *in, uint32_t vnet, const struct fp_scope *scope)
{
	struct fp_scope_list *list = &in->marks_next;
	if (list->count == FP_SCOPES_PENDING)
		in->vnet[vnet].mark_next.all = true;
	else
		list->item[list->count++] = (struct fp_scope_pending){.vnet = vnet, .scope = *scope};
	in->marks_due = true;
}

void
fp_mark_older(struct fp_installer *in, uint32_t vnet, uint32_t before)
{
	struct fp_mark *mark = &in->vnet[vnet].mark_next;
	if (!mark->older || (int32_t)(before - mark->before) > 0)
		mark->before = before;
	mark->older = true;
	in->marks_due = true;
}

void
fp_mark_forget(struct fp_installer *in, uint32_t vnet)
{
	list_forget(&in->marks, vnet);
	list_forget(&in->marks_next, vnet);
	in->vnet[vnet].mark = in->vnet[vnet].mark_next = (struct fp_mark){0};
	in->vnet[vnet].marks = 0;
}

bool
fp_marking_tick(struct fp_installer *in, uint32_t *left_ns)
{
	if (!in->marking) {
		if (!in->marks_due)
			return false;
		lap_begin(in);
	}
	if (fp_flow_pass(in->arena, &in->mark_cursor, left_ns, mark_one, in))
		in->marking = false;
	return in->marking || in->marks_due;
}

static void
lap_begin(struct fp_installer *in)
{
	for (uint32_t v = 1; v < in->arena->view.vnets; v++) {
		struct fp_vnet_state *state = &in->vnet[v];
		state->mark = state->mark_next;
		state->mark_next = (struct fp_mark){0};
		state->marks = 0;
	}
	in->marks = in->marks_next;
	in->marks_next.count = 0;
	for (uint32_t i = 0; i < in->marks.count; i++)
		in->vnet[in->marks.item[i].vnet].marks++;
	in->marks_due = false;
	in->marking = true;
	in->mark_cursor = 0;
}

static uint32_t
mark_one(void *context, uint32_t, struct fp_flow_entry *entry, struct fp_flow_side *side)
{
	const struct fp_installer *in = context;
	const uint32_t vnet = in->arena->view.ingress[entry->key.ingress].vnet;
	const uint32_t to = in->peerings ? fp_flow_destination_vnet(&in->arena->view, entry) : vnet;
	const uint32_t compare_ns = in->vnet[vnet].marks ? in->marks.count * SCOPE_NS : 0;
	if (!is_marked(in, vnet, entry) && (to == vnet || !is_marked(in, to, entry)))
		return compare_ns;
	if (!(fp_action_flags(entry->action) & FP_ACTION_STALE))
		fp_store(&entry->action, entry->action | (uint64_t)FP_ACTION_STALE << 48);
	fp_store(&side->refresh_at_s, in->now_s);
	return compare_ns;
}

static bool
is_marked(const struct fp_installer *in, uint32_t vnet, const struct fp_flow_entry *entry)
{
	const struct fp_vnet_state *state = &in->vnet[vnet];
	if (state->mark.all || (state->mark.older && (int32_t)(entry->revision - state->mark.before) < 0))
		return true;
	for (uint32_t i = 0; state->marks && i < in->marks.count; i++)
		if (in->marks.item[i].vnet == vnet && fp_scope_covers(&in->marks.item[i].scope, &entry->key))
			return true;
	return false;
}

static void
list_forget(struct fp_scope_list *list, uint32_t vnet)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < list->count; i++)
		if (list->item[i].vnet != vnet)
			list->item[kept++] = list->item[i];
	list->count = kept;
}
