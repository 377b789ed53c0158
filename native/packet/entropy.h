// SPDX-License-Identifier: Apache-2.0
//
// A keyed hash over the inner 5-tuple: the outer UDP source port, the choice of a next hop and of a
// tunnel in a set. Keyed, so that a tenant cannot choose packets that all take one path through the
// underlay; another function than the flow hash, so that a port on the wire says nothing about
// buckets. All fragments of a packet take the same way: they count without ports. Any thread.
#pragma once

#include "fp_hash.h"
#include "l3.h"

// The flow hash's secret, made another one.
static inline struct fp_secret
entropy_secret(const struct fp_secret *secret)
{
	return (struct fp_secret){
		{secret->word[0] ^ 0x2d358dccaa6c78a5ull, secret->word[1] ^ 0x8bb84b93962eacc9ull}};
}

static inline uint32_t
entropy_hash(const struct fp_thread *t, uint64_t a, uint64_t b)
{
	uint64_t low = a ^ t->entropy.word[0], high;

	// fp_hash_mix(); as C the product goes through the stack, and what it chooses waits for it.
	__asm__("mulq %2" : "+a"(low), "=d"(high) : "rm"(b ^ t->entropy.word[1]) : "cc");
	return (uint32_t)(low ^ high);
}

// Of a packet with PACKET_PORTS.
static inline uint32_t
entropy_of_ports(const struct fp_thread *t, const struct packet *p, const uint8_t *frame)
{
	static_assert(offsetof(struct packet, protocol) == offsetof(struct packet, source_port) + 4);
	return entropy_hash(t, l3_addresses(p, frame + ETHERNET_BYTES),
			    load64(&p->source_port) & 0xffffffffff);
}

static inline uint32_t
entropy_of(const struct fp_thread *t, const struct packet *p, const uint8_t *frame)
{
	if (p->flags & PACKET_PORTS)
		return entropy_of_ports(t, p, frame);
	if (p->flags & PACKET_IP)
		return entropy_hash(t, l3_addresses(p, frame + ETHERNET_BYTES), (uint64_t)p->protocol << 32);
	return entropy_hash(t, load_mac(frame), load_mac(frame + 6));
}
