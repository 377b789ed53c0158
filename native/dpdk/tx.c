// SPDX-License-Identifier: Apache-2.0
//
// Out: a batch per port. A packet is counted as forwarded, delivered, relayed or answered once the
// device has taken it; what does not fit ends here, tx_full.
#include <rte_ethdev.h>

#include "thread.h"

static void count_sent(struct fp_thread *t, struct fp_port_counters *port_counters,
		       const struct tx_note *notes, uint32_t n);
static uint32_t count_kind(struct fp_thread *t, const struct tx_note *note, uint32_t packets,
			   uint32_t bytes);
static void count_tunnel(struct fp_thread *t, const struct tx_note *note, uint32_t packets,
			 uint32_t bytes);

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
		sent = rte_eth_tx_burst(t->ports[port].dpdk_port, t->tx_queue, batch->mbuf,
					(uint16_t)n);
	count_sent(t, port_counters, batch->note, sent);
	for (uint32_t i = sent; i < n; i++) {
		port_counters->tx_full++;
		if (tx_kind_of(batch->note[i].way) >= TX_ICMP) // our own: not among the received
			rte_pktmbuf_free(batch->mbuf[i]);
		else
			drop(t, batch->mbuf[i], batch->note[i].vnet, FP_DROP_tx_full);
	}
}

// By notes: the mbufs are the device's now. In runs, so that a burst to one place is counted in
// registers.
static void
count_sent(struct fp_thread *t, struct fp_port_counters *port_counters, const struct tx_note *notes,
	   uint32_t n)
{
	uint32_t bytes = 0, kind_from = 0, kind_bytes = 0, tunnel_from = 0, tunnel_bytes = 0;
	uint64_t frame_bytes = 0;

	if (unlikely(n == 0))
		return;
	for (uint32_t i = 0; i < n; i++) {
		if (notes[i].way != notes[tunnel_from].way) {
			count_tunnel(t, &notes[tunnel_from], i - tunnel_from, bytes - tunnel_bytes);
			tunnel_from = i;
			tunnel_bytes = bytes;
		}
		if (unlikely(!tx_notes_alike(&notes[i], &notes[kind_from]))) {
			frame_bytes +=
				count_kind(t, &notes[kind_from], i - kind_from, bytes - kind_bytes);
			kind_from = i;
			kind_bytes = bytes;
		}
		bytes += notes[i].length;
	}
	count_tunnel(t, &notes[tunnel_from], n - tunnel_from, bytes - tunnel_bytes);
	frame_bytes += count_kind(t, &notes[kind_from], n - kind_from, bytes - kind_bytes);
	port_counters->tx_packets += n;
	port_counters->tx_bytes += frame_bytes;
}

// `bytes` are those behind the inner Ethernet headers. Tunnel 0, none, is counted as well: nobody
// reads it.
static inline void
count_tunnel(struct fp_thread *t, const struct tx_note *note, uint32_t packets, uint32_t bytes)
{
	struct fp_pair_counters *tunnel = &t->counters.tunnel[tx_tunnel_of(note->way)];

	tunnel->tx_packets += packets;
	tunnel->tx_bytes += bytes + packets * (ETHERNET_BYTES + tx_added_of(note->way));
}

// Returns the bytes on the wire.
static uint32_t
count_kind(struct fp_thread *t, const struct tx_note *note, uint32_t packets, uint32_t bytes)
{
	struct fp_pair_counters *vnet = &t->counters.vnet[note->vnet];

	vnet->tx_packets += packets;
	vnet->tx_bytes += bytes + packets * ETHERNET_BYTES;
	switch (tx_kind_of(note->way)) {
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
	return bytes + packets * (ETHERNET_BYTES + tx_added_of(note->way));
}
