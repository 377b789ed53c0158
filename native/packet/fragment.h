// SPDX-License-Identifier: Apache-2.0
//
// Fragments: what is remembered of first ones, and later ones that wait. fragment.c has the rules. One poll thread.
#pragma once

#include "fp_thread.h"
#include "packet.h"

// First fragments seen lately: what ports the later ones belong to.
#define FRAGMENT_ROWS 256
#define FRAGMENT_PLACES 8
#define FRAGMENT_LIFE_S 5
struct fragment {
	uint64_t ingress_object;
	uint32_t vni;
	uint32_t ingress;
	uint8_t source[16], destination[16]; // as in a flow's key
	uint32_t id;                         // as it lies in the header
	uint32_t sequence;                   // counted on with each entry: which is older
	uint32_t seen_s;
	uint16_t source_port, destination_port; // wire order
	uint8_t protocol;
	uint8_t used;
};

// Later fragments that came before their first one, in the order in which they came.
#define FRAGMENTS_WAITING 128
// A V-net may have so many waiting for each place that is free: alone it gets half of them, and however many want all,
// there is room left for the next.
#define FRAGMENTS_SHARE_OF_FREE 1
#define FRAGMENT_WAIT_NS (100 * MILLISECOND_NS)
struct waiting_fragment {
	struct packet packet;
	struct rte_mbuf *mbuf;
	struct fragment datagram;
	uint64_t received_ns, until_ns;
};

#pragma GCC visibility push(hidden)
void fragment_remember(struct fp_thread *t, const struct packet *p, const struct rte_mbuf *mbuf);
bool fragment_ports(struct fp_thread *t, struct packet *p, const struct rte_mbuf *mbuf);
void fragment_wait(struct fp_thread *t, const struct packet *p, struct rte_mbuf *mbuf, uint64_t received_ns);
uint32_t fragments_known(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs,
			 uint64_t *received_ns);
void fragments_tick(struct fp_thread *t);
void fragments_drop(struct fp_thread *t, enum fp_drop_reason reason);
#pragma GCC visibility pop
