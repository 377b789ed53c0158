// SPDX-License-Identifier: Apache-2.0
//
// Out: what a sent frame is counted as, and the batch of each port. One poll thread.
#pragma once

#include "thread.h"

#pragma GCC visibility push(hidden)
void tx_flush(struct fp_thread *t, uint32_t port);
#pragma GCC visibility pop

static inline void
tx_put(struct fp_thread *t, struct tx_batch *batch, const struct packet *p, struct rte_mbuf *mbuf,
       uint32_t tally)
{
	uint32_t n = batch->n;

	if (unlikely(n == FP_BURST)) {
		tx_flush(t, (uint32_t)(batch - t->tx));
		n = 0;
	}
	if (n == 0)
		t->tx_waiting |= 1ull << (batch - t->tx);
	batch->n = n + 1;
	batch->mbuf[n] = mbuf;
	static_assert(offsetof(struct packet, length) == offsetof(struct packet, vnet) + 2);
	store32(&batch->note[n], load32(&p->vnet));
	batch->note[n].tally = tally;
}
static inline bool
tx_possible(const struct fp_thread *t, uint32_t port)
{
	return likely(port < FP_PORTS_MAX && t->ports[port].live);
}
