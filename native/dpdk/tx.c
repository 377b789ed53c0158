// SPDX-License-Identifier: Apache-2.0
//
// Out: a batch per port. A packet is counted as forwarded, delivered, relayed or answered once the
// device has taken it; what does not fit ends here, tx_full.
#include <rte_ethdev.h>

#include "thread.h"

void
tx_flush(struct fp_thread *t, uint32_t port)
{
	struct tx_batch *batch = &t->tx[port];
	struct fp_port_counters *port_counters = &t->counters.port[port];
	uint32_t bytes[FP_BURST], n = batch->n, i;
	uint64_t kinds[TX_OWN + 1] = {0}, sum = 0;
	uint16_t sent;

	batch->n = 0;
	t->tx_waiting &= ~(1ull << port);
	for (i = 0; i < n; i++) // the mbufs are the device's afterwards
		bytes[i] = batch->mbuf[i]->pkt_len;
	sent = t->ports[port].live ? rte_eth_tx_burst(t->ports[port].dpdk_port, t->tx_queue,
						      batch->mbuf, (uint16_t)n)
				   : 0;
	for (i = 0; i < sent; i++) {
		const struct tx_note *note = &batch->note[i];
		struct fp_pair_counters *pair = &t->counters.vnet[note->vnet];

		kinds[note->kind]++;
		sum += bytes[i];
		pair->tx_packets++;
		pair->tx_bytes += note->inner_bytes;
		if (note->tunnel != 0) {
			pair = &t->counters.tunnel[note->tunnel];
			pair->tx_packets++;
			pair->tx_bytes += bytes[i];
		}
	}
	port_counters->tx_packets += sent;
	port_counters->tx_bytes += sum;
	t->counters.forwarded += kinds[TX_FORWARDED];
	t->counters.delivered += kinds[TX_DELIVERED];
	t->counters.relayed += kinds[TX_RELAYED];
	t->counters.answered += kinds[TX_ANSWERED];
	t->counters.icmp_sent += kinds[TX_ICMP];
	for (; i < n; i++) {
		port_counters->tx_full++;
		if (batch->note[i].kind >= TX_ICMP) // our own: not among the received
			rte_pktmbuf_free(batch->mbuf[i]);
		else
			drop(t, batch->mbuf[i], batch->note[i].vnet, FP_DROP_tx_full);
	}
}
