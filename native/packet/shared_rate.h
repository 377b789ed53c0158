// SPDX-License-Identifier: Apache-2.0
//
// A rate limit that V-nets share: each that has asked in this second or the one before has an equal part of it,
// so that one alone may have all of it, and a flood of one's own takes nothing from the others. A newcomer has
// its part at once: in the second in which it comes both together may have more than the whole. One thread.
#pragma once

#include "rate.h"

struct vnet_rate { // by index of the V-net; whoever gets the index next begins anew
	uint64_t object_id;
	uint64_t paid_ns;
	uint64_t asked_s; // when it asked last
};

struct shared_rate {
	struct vnet_rate *vnet;
	uint64_t now_s;
	uint32_t asking, asking_before; // V-nets that asked in this second, in the one before
};

// per_s 0: no limit.
static inline bool
shared_rate_take(struct shared_rate *rate, uint32_t vnet, uint64_t object_id, uint64_t now_ns, uint64_t per_s)
{
	const uint64_t now_s = now_ns / SECOND_NS + 1; // never 0: has not asked
	struct vnet_rate *own = &rate->vnet[vnet];

	if (per_s == 0)
		return true;
	if (rate->now_s != now_s) {
		rate->asking_before = rate->now_s + 1 == now_s ? rate->asking : 0;
		rate->asking = 0;
		rate->now_s = now_s;
	}
	if (own->object_id != object_id)
		*own = (struct vnet_rate){.object_id = object_id};
	if (own->asked_s != now_s)
		rate->asking++;
	own->asked_s = now_s;
	const uint32_t parts = rate->asking > rate->asking_before ? rate->asking : rate->asking_before;
	const uint64_t part_per_s = per_s / parts;

	return rate_take(&own->paid_ns, now_ns, part_per_s != 0 ? part_per_s : 1);
}
