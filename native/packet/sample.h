// SPDX-License-Identifier: Apache-2.0
//
// Estimates of what a flow carries: one hit in FP_SAMPLE_EVERY is counted in the flow's side line, at random
// distances, so that no pattern of packets is counted twice or never. One poll thread.
#pragma once

#include "thread.h"

static inline void
sample(struct fp_thread *t, const struct packet *packets, struct rte_mbuf *const *mbufs,
       const uint32_t *entries, uint32_t n)
{
	for (; unlikely(t->sample_in <= n);
	     t->sample_in += 1 + (t->random >> 16) % (2 * FP_SAMPLE_EVERY - 1)) {
		const uint32_t i = t->sample_in - 1;
		struct fp_flow_side *side = &t->view.flow_side[entries[i]];

		t->random = t->random * 1664525u + 1013904223u;
		if (side == t->view.flow_side) // entry 0: a miss
			continue;
		__atomic_store_n(&side->packets_sampled, side->packets_sampled + 1, __ATOMIC_RELAXED);
		__atomic_store_n(&side->kbytes_sampled,
				 side->kbytes_sampled + (mbufs[i]->data_len + 63u) / 64, __ATOMIC_RELAXED);
		t->tunnel_of[packets[i].key.ingress] = 0; // learnt again: locations move
	}
	t->sample_in -= n;
}
