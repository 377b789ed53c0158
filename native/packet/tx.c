// SPDX-License-Identifier: Apache-2.0
//
// Out: a batch per port. A packet is counted as forwarded, delivered, relayed or answered once the
// device has taken it; what does not fit ends here, tx_full.
#include <rte_ethdev.h>

#include "stages.h"
#include "tx.h"

static void count_sent(struct fp_thread *t, struct fp_port_counters *port_counters,
		       const struct tx_note *notes, uint32_t n);
static void count_kind(struct fp_thread *t, const struct tx_note *note, uint32_t packets, uint32_t bytes);

void
tx_flush(struct fp_thread *t, uint32_t port)
{
	struct tx_batch *batch = &t->tx[port];
	struct fp_port_counters *port_counters = &t->counters.port[port];
	uint32_t n = batch->n;
	uint16_t sent = 0;

	batch->n = 0;
	t->tx_waiting &= ~(1ull << port);
	if (likely(t->ports[port].live))
		sent = rte_eth_tx_burst(t->ports[port].dpdk_port, t->tx_queue, batch->mbuf, (uint16_t)n);
	count_sent(t, port_counters, batch->note, sent);
	for (uint32_t i = sent; i < n; i++) {
		port_counters->tx_full++;
		if (tx_kind_of(batch->note[i].tally) >= TX_ICMP) // our own: not among the received
			rte_pktmbuf_free(batch->mbuf[i]);
		else
			drop(t, batch->mbuf[i], batch->note[i].vnet, FP_DROP_tx_full);
	}
}

// By notes: the mbufs are the device's now. V-net and kind are counted in runs, tunnels one by one:
// they come mixed, and a branch on the run's end would be mispredicted.
static void
count_sent(struct fp_thread *t, struct fp_port_counters *port_counters, const struct tx_note *notes,
	   uint32_t n)
{
	struct fp_pair_counters *tunnels = t->counters.tunnel;

	for (uint32_t i = 0; i < n;) {
		const struct tx_note *first = &notes[i];
		uint32_t added = ETHERNET_BYTES + tx_added_of(first->tally), from = i, bytes = 0;

		do {
			struct fp_pair_counters *tunnel = &tunnels[tx_tunnel_of(notes[i].tally)];

			tunnel->tx_packets++; // also of tunnel 0, none: nobody reads it
			tunnel->tx_bytes += notes[i].length + added;
			bytes += notes[i].length;
		} while (++i < n && tx_notes_alike(&notes[i], first));
		port_counters->tx_bytes += bytes + (i - from) * added;
		count_kind(t, first, i - from, bytes);
	}
	port_counters->tx_packets += n;
}

static void
count_kind(struct fp_thread *t, const struct tx_note *note, uint32_t packets, uint32_t bytes)
{
	struct fp_pair_counters *vnet = &t->counters.vnet[note->vnet];

	vnet->tx_packets += packets;
	vnet->tx_bytes += bytes + packets * ETHERNET_BYTES;
	switch (tx_kind_of(note->tally)) {
	case TX_FORWARDED:
		t->counters.forwarded += packets;
		break;
	case TX_DELIVERED:
		t->counters.delivered += packets;
		break;
	case TX_RELAYED:
		t->counters.relayed += packets;
		break;
	case TX_ANSWERED:
		t->counters.answered += packets;
		break;
	case TX_ICMP:
		t->counters.icmp_sent += packets;
		break;
	case TX_OWN:
		break;
	}
}
