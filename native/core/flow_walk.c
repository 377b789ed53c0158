// SPDX-License-Identifier: Apache-2.0
//
// The writer's walks over the flows: a part at a time, by the number of entries or by what a look at one costs. Whoever
// is called may take out the entry that it is called for.
#include "flow_internal.h"

bool
fp_flow_walk(struct fp_arena *arena, uint32_t *cursor, uint32_t count, fp_flow_visit visit, void *context)
{
	const struct fp_arena_view *view = &arena->view;
	uint32_t index = *cursor < view->flows ? *cursor : 0;

	for (; count && index < view->flows; count--, index++)
		if (arena->flow->kind[index])
			visit(context, index, &view->flow_entry[index], &view->flow_side[index]);
	*cursor = index < view->flows ? index : 0;
	return *cursor == 0;
}

bool
fp_flow_pass(struct fp_arena *arena, uint32_t *cursor, uint32_t *left_ns, fp_flow_pass_visit visit,
	     void *context)
{
	const struct fp_arena_view *view = &arena->view;
	uint32_t index = *cursor < view->flows ? *cursor : 0;
	const uint64_t until_ns = arena->clock_ns ? arena->clock_ns() + *left_ns : 0;
	int64_t left = *left_ns, look_at = left - FP_CLOCK_EVERY_NS;

	for (; left > 0 && index < view->flows; index++) {
		left -= FP_EMPTY_NS;
		if (arena->flow->kind[index])
			left -= FP_VISIT_NS + (int64_t)visit(context, index, &view->flow_entry[index],
							     &view->flow_side[index]);
		if (until_ns && left < look_at) {
			look_at = left - FP_CLOCK_EVERY_NS;
			if (arena->clock_ns() >= until_ns)
				left = 0;
		}
	}
	*left_ns = left > 0 ? (uint32_t)left : 0;
	const bool around = index >= view->flows;
	*cursor = around ? 0 : index;
	return around;
}

bool
fp_flow_expire_at(struct fp_arena *arena, uint32_t entry, uint32_t grace_s)
{
	const uint32_t before_s = arena->now_s > grace_s ? arena->now_s - grace_s : 0;

	if (arena->view.flow_entry[entry].expire_at_s > before_s)
		return false;
	fp_flow_remove_at(arena, entry);
	arena->flow->stats.removed--;
	arena->flow->stats.expired++;
	return true;
}

struct expiry {
	struct fp_arena *arena;
	uint32_t grace_s;
};

static void
expire_one(void *context, uint32_t index, struct fp_flow_entry *, struct fp_flow_side *)
{
	const struct expiry *expiry = context;
	fp_flow_expire_at(expiry->arena, index, expiry->grace_s);
}

bool
fp_flow_expire(struct fp_arena *arena, uint32_t *cursor, uint32_t count, uint32_t grace_s)
{
	struct expiry expiry = {arena, grace_s};
	return fp_flow_walk(arena, cursor, count, expire_one, &expiry);
}
