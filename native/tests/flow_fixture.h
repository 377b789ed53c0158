// SPDX-License-Identifier: Apache-2.0
//
// Two V-nets with an attachment and a location each, and flows from these: for tests of the flow table.
#pragma once

#include "arena_fixture.h"

struct world {
	struct fp_arena *arena;
	uint32_t vnet[2], ingress[2], location[2];
};

static inline struct world
world_new(uint32_t flows, uint32_t quota, uint32_t refusal_share_percent)
{
	struct fp_arena_config config = small_config(flows);
	struct world w;

	config.refusal_share_percent = refusal_share_percent;
	w.arena = arena_new(NULL, &config);
	for (uint32_t i = 0; i < 2; i++) {
		w.vnet[i] = vnet_new(w.arena, 100 + i, i == 0 ? quota : 0);
		w.ingress[i] = attachment_new(w.arena, w.vnet[i]);
		w.location[i] = location_new(w.arena, w.vnet[i], w.ingress[i]);
	}
	return w;
}

static inline fp_action_word
forward(const struct world *w, int who)
{
	return fp_action_make(FP_ACTION_DELIVER, 0, w->location[who], w->location[who]);
}

#define REFUSE fp_action_make(FP_ACTION_DROP, 0, 0, 7)

static inline int
put(const struct world *w, int who, uint32_t number, fp_action_word action, uint32_t expire_at_s)
{
	const struct fp_flow_key key = key_of(w->ingress[who], number);
	const struct fp_flow_value value = {
		.action = action, .revision = number, .expire_at_s = expire_at_s, .vnet = w->vnet[who]};
	return fp_flow_insert(w->arena, &key, &value);
}

static inline fp_action_word
get(const struct world *w, int who, uint32_t number, uint32_t now_s)
{
	const struct fp_flow_key key = key_of(w->ingress[who], number);
	fp_action_word word;
	return lookup(w->arena, &key, now_s, &word) ? word : 0;
}

static inline uint32_t
count_present(const struct world *w, int who, uint32_t from, uint32_t to)
{
	uint32_t present = 0;
	for (uint32_t n = from; n < to; n++)
		present += get(w, who, n, NOW_S) != 0;
	return present;
}
