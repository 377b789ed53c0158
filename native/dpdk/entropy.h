// SPDX-License-Identifier: Apache-2.0
//
// A keyed hash over the inner 5-tuple: the outer UDP source port, the choice of a next hop and of a
// tunnel in a set. Keyed, so that a tenant cannot choose packets that all take one way through the
// underlay; another function than the flow hash, so that a port on the wire says nothing about
// buckets. All fragments of a packet take the same way: they count without ports. Any thread.
#pragma once

#include "fp_hash.h"
#include "thread.h"

// 64 x 64 -> 128 bits, folded: the mixing step of wyhash.
static inline uint64_t
entropy_mix(uint64_t a, uint64_t b)
{
	__uint128_t product = (__uint128_t)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint32_t
entropy_hash(const struct fp_secret *secret, uint64_t a, uint64_t b)
{
	uint64_t x = entropy_mix(a ^ secret->word[0] ^ 0x2d358dccaa6c78a5ull,
				 b ^ secret->word[1] ^ 0x8bb84b93962eacc9ull);

	return (uint32_t)entropy_mix(x ^ secret->word[1], 0x4b33a62ed433d4a3ull ^ secret->word[0]);
}

static inline uint32_t
entropy_of(const struct fp_secret *secret, const struct packet *p, const uint8_t *frame)
{
	uint64_t ports = 0;

	if (unlikely(!(p->flags & PACKET_IP)))
		return entropy_hash(secret, load_mac(frame), load_mac(frame + 6));
	if (likely(!(p->flags & PACKET_FRAGMENT) && p->protocol != PROTOCOL_ICMP))
		ports = (uint64_t)p->source_port << 16 | p->destination_port;
	return entropy_hash(secret, load64(frame + ETHERNET_BYTES + 12), ports << 8 | p->protocol);
}
