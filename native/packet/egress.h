// SPDX-License-Identifier: Apache-2.0
//
// What a packet needs to leave by: a tunnel and one of its next hops, or an attachment, tagged or
// not. Made once from the tables (tunnel's word, header slot, next hop; ingress), kept by each poll
// thread for itself, made anew when the arena's generation says that something may have changed. So
// a packet costs two lines of these instead of five of the tables, and failing over stays one store
// of the writer's. Different bits of a packet's entropy choose the member of a set, the next hop
// and the UDP source port.
#pragma once

#include <immintrin.h>

#include "thread.h"

#define EGRESS_ROOM 64         // headroom that a packet needs to be encapsulated
#define EGRESS_TUNNELS 1024    // kept: tunnels whose low bits are equal take turns,
#define EGRESS_ATTACHMENTS 256 // as do attachments
#define EGRESS_SETS 256        // and sets

struct egress {
	uint8_t bytes[EGRESS_ROOM]; // tunnel: what goes in front of a frame, at the end; zeros
				    // before
	uint64_t name;              // egress_name(); 0: never made
	uint64_t alone;             // the same if there is no other next hop and no fault; else 0
	struct tx_batch *batch;     // of its port
	uint32_t tally;             // tx_tally() of the usual kind: forwarded or delivered
	uint32_t tag;               // attachment: the VLAN tag as it lies in a frame
	uint16_t added_bytes;       // outer headers of a tunnel; the tag
	uint16_t mtu_bytes;         // longest inner IP packet; 0 with a fault
	uint16_t fault;             // enum fp_drop_reason: why nothing can be sent; else 0
	uint16_t checksum_base;     // ipv4_outer_base()
	uint8_t class_bare;         // traffic class of what is not IP
	uint8_t class_own;          // of what is: own | inner & from_inner (RFC 6040 section 4.1)
	uint8_t class_from_inner;
	uint8_t ttl;
	uint8_t hops;     // of the tunnel
	uint8_t protocol; // enum fp_protocol
	uint8_t zero[18];
};
static_assert(sizeof(struct egress) == 128, "egress");

// The members of a set that packets may take now.
struct egress_set {
	uint64_t name;    // egress_name(); 0: never made
	uint64_t alone;   // the same if there is no choice: the first tunnel; else 0
	uint32_t weights; // of all of them
	uint32_t zero0[3];
	int16_t last[FP_SET_MEMBERS_MAX]; // pick that is the member's own; INT16_MAX: no member
	uint32_t tunnel[FP_SET_MEMBERS_MAX];
} __attribute__((aligned(16)));
static_assert(sizeof(struct egress_set) == 128, "egress_set");

// Of a tunnel, an attachment or a set, in the generation of the tables that this burst sees.
static inline uint64_t
egress_name(const struct fp_thread *t, uint32_t index)
{
	return (uint64_t)index << 32 | t->generation;
}

#pragma GCC visibility push(hidden)
void egress_make_tunnel(struct fp_thread *t, uint32_t tunnel);
void egress_make_attachment(struct fp_thread *t, struct egress *egress, uint32_t ingress);
void egress_make_set(const struct fp_thread *t, struct egress_set *egress, uint32_t set);
#pragma GCC visibility pop

// All hops of a tunnel are made at once, so that the name of the first one tells of all. They stand
// far apart, tunnels beside each other: most have one hop.
static inline struct egress *
egress_slot(const struct fp_thread *t, uint32_t tunnel, uint32_t hop)
{
	return &t->egress[hop * EGRESS_TUNNELS + tunnel % EGRESS_TUNNELS];
}

// To choose among few by. While a port is counted up the entropy itself goes on in equal steps, by
// some of which most packets would take one path: a CRC, one instruction, mixes it.
static inline uint32_t
egress_mixed(uint32_t entropy)
{
	return _mm_crc32_u32(0, entropy);
}

// The slot of the tunnel's next hop for this entropy, by bits 8 to 23 of it, mixed: those above
// choose a member.
static inline const struct egress *
egress_hop(const struct egress *first, uint32_t entropy)
{
	uint32_t hop = (uint16_t)(egress_mixed(entropy) >> 8) * (uint32_t)first->hops; // << 16

	static_assert(EGRESS_TUNNELS * sizeof(*first) == 2 << 16);
	return (const struct egress *)((const char *)first + (uint64_t)(hop & 0xffff0000) * 2);
}

static inline const struct egress *
egress_of_tunnel(struct fp_thread *t, uint32_t tunnel, uint32_t entropy)
{
	const struct egress *egress = egress_slot(t, tunnel, 0);
	const uint64_t name = egress_name(t, tunnel);

	if (likely(egress->alone == name))
		return egress;
	if (unlikely(egress->name != name))
		egress_make_tunnel(t, tunnel);
	return egress_hop(egress, entropy);
}

static inline const struct egress *
egress_of_attachment(struct fp_thread *t, uint32_t ingress)
{
	struct egress *egress = &t->egress[FP_NEXTHOPS_MAX * EGRESS_TUNNELS + ingress % EGRESS_ATTACHMENTS];

	if (unlikely(egress->name != egress_name(t, ingress)))
		egress_make_attachment(t, egress, ingress);
	return egress;
}

// A tunnel of a set, by weight. 0: there is no such set.
static inline uint32_t
egress_member(struct fp_thread *t, uint32_t set, uint32_t entropy)
{
	struct egress_set *egress = &t->egress_set[set % EGRESS_SETS];
	const __m128i *last = (const __m128i *)(const void *)egress->last;
	const uint64_t name = egress_name(t, set);
	__m128i pick;
	uint32_t past;

	if (likely(egress->alone == name))
		return egress->tunnel[0];
	if (unlikely(egress->name != name))
		egress_make_set(t, egress, set);
	pick = _mm_set1_epi16((int16_t)((uint64_t)egress_mixed(entropy) * egress->weights >> 32));
	past = (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(_mm_cmpgt_epi16(pick, _mm_load_si128(last)),
							   _mm_cmpgt_epi16(pick, _mm_load_si128(last + 1))));
	return egress->tunnel[__builtin_popcount(past) % FP_SET_MEMBERS_MAX];
}
