// SPDX-License-Identifier: Apache-2.0
//
// The usual packet, recognized in one go: IPv4 without options, whole, TCP or UDP, unicast to
// unicast, its checksum right, no longer than the MTU. All that is asked here, inner_parse() asks
// too, one by one and with a name for each answer; what is not usual goes there untouched. Two
// dozen comparisons on five words of the frame, and one cache line written. Inlined into the loop
// that parses.
#pragma once

#include <immintrin.h>

#include "inside.h"
#include "l3.h"
#include "receive.h"

#define USUAL_BYTES (ETHERNET_BYTES + IPV4_BYTES + UDP_BYTES) // at least

// Words of a frame, as they lie in memory.
#define GROUP_BITS (1ull | 1ull << 48) // of both MACs, in the first 8 bytes
#define IPV4_20 0x450008u              // ethertype, version and header length: 3 bytes at 12
#define IPV4_20_MASK 0xffffffu
#define FRAGMENT_MASK 0xff3fu // MF and offset: 2 bytes at 20

// 1: first octet of an address that is not unicast (as ipv4_is_unicast).
extern const uint8_t usual_not_unicast[256] __attribute__((visibility("hidden")));
// Least length of a usual IP packet by its protocol; no packet has that of the unusual ones.
extern const uint16_t usual_least_bytes[256] __attribute__((visibility("hidden")));

struct usual_words {
	uint64_t macs;      // bytes 0..7
	uint64_t head;      // bytes 12..19: ethertype, version, TOS, length, id
	uint64_t middle;    // bytes 20..27: fragment, TTL, protocol, checksum, half the source
	uint64_t addresses; // bytes 26..33
};

// Of a frame whose ethertype stands at byte 12 of `frame`, its MACs `tag_bytes` further ahead.
static inline struct usual_words
usual_load(const uint8_t *frame, uint32_t tag_bytes)
{
	return (struct usual_words){.macs = load64(frame - tag_bytes),
				    .head = load64(frame + 12),
				    .middle = load64(frame + 20),
				    .addresses = load64(frame + 26)};
}

static inline uint32_t
usual_total_bytes(const struct usual_words *w)
{
	return be16((uint16_t)(w->head >> 32));
}
static inline uint32_t
usual_protocol(const struct usual_words *w)
{
	return (uint8_t)(w->middle >> 24);
}
static inline uint32_t
usual_hops_left(const struct usual_words *w)
{
	return (uint8_t)(w->middle >> 16);
}
static inline uint32_t
usual_traffic_class(const struct usual_words *w)
{
	return (uint8_t)(w->head >> 24);
}

// Whole IPv4 without options.
static inline bool
usual_ipv4(const struct usual_words *w)
{
	return (w->head & IPV4_20_MASK) == IPV4_20 && (w->middle & FRAGMENT_MASK) == 0;
}

// The same, of UDP.
#define WHOLE_UDP (PROTOCOL_UDP << 24)
#define WHOLE_UDP_MASK (0xffu << 24 | FRAGMENT_MASK)
static inline bool
usual_whole_udp(const struct usual_words *w)
{
	return (w->head & IPV4_20_MASK) == IPV4_20 && ((uint32_t)w->middle & WHOLE_UDP_MASK) == WHOLE_UDP;
}

// Whether its header sums up: 64 + 64 + 32 bits, end-around (RFC 1071 section 2); what a rotated
// copy adds is the carry.
static inline bool
usual_sum(const uint8_t *frame)
{
	uint64_t sum = load64(frame + 14), word = load64(frame + 22);
	uint32_t half;

	sum += word;
	word = (uint64_t)load32(frame + 30) + (sum < word);
	sum += word;
	sum += sum < word;
	sum += sum << 32 | sum >> 32;
	half = (uint32_t)(sum >> 32);
	half += half << 16 | half >> 16;
	return half >= 0xffff0000;
}

// The packet's line, in four moves: addresses, ports, protocol and length come out of the frame,
// all else out of `inside`.
static inline void
usual_fill(struct packet *p, const uint8_t *frame, const struct inside *inside, uint32_t outer_bytes)
{
	static_assert(offsetof(struct packet, l4_at) == 0 && offsetof(struct packet, l3) == 2 &&
		      offsetof(struct packet, outer_bytes) == 3 && offsetof(struct packet, key) == 8 &&
		      offsetof(struct fp_flow_key, key_class) == 37 &&
		      offsetof(struct fp_flow_key, ingress) == 40 && offsetof(struct packet, length) == 54 &&
		      offsetof(struct packet, source_port) == 56 && offsetof(struct packet, protocol) == 60 &&
		      offsetof(struct packet, flags) == 61 && offsetof(struct inside, flags) == 13 &&
		      offsetof(struct inside, port) == 15);
#define NONE -1, -1, -1, -1
	const __m128i source = _mm_setr_epi8(NONE, 0, 1, 2, 3, NONE, NONE),
		      destination = _mm_setr_epi8(NONE, 4, 5, 6, 7, NONE, NONE),
		      ports = _mm_setr_epi8(NONE, NONE, 8, 9, 10, 11, NONE),
		      length = _mm_setr_epi8(NONE, -1, -1, 5, 4, NONE, 11, -1, -1, -1),
		      class = _mm_setr_epi32(0, 0, 0, FP_CLASS_BRIDGED << 8);
#undef NONE
	const __m128i low = _mm_loadu_si128((const __m128i *)(const void *)(frame + 12)),
		      high = _mm_loadu_si128((const __m128i *)(const void *)(frame + 26)),
		      known = _mm_load_si128((const __m128i *)(const void *)inside);
	const uint32_t head = (ETHERNET_BYTES + IPV4_BYTES) | L3_IPV4 << 16 | outer_bytes << 24;
	__m128i *line = (__m128i *)(void *)p;

	_mm_store_si128(line, _mm_cvtsi32_si128((int)head));
	_mm_store_si128(line + 1, _mm_shuffle_epi8(high, source));
	_mm_store_si128(line + 2, _mm_or_si128(_mm_shuffle_epi8(high, destination), class));
	_mm_store_si128(line + 3, _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(high, ports), known),
					       _mm_shuffle_epi8(low, length)));
}

// Fills the packet, takes the tag out of the frame and returns the frame's length; or 0, with
// packet and buffer as they were. What came out of a tunnel may have been checked by a gateway of
// ours.
static inline __attribute__((always_inline)) uint32_t
usual_parse(struct packet *p, struct rte_mbuf *mbuf, const struct inside *inside, uint32_t tag_bytes,
	    uint32_t outer_bytes)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *) + tag_bytes;
	const bool tunneled = outer_bytes != 0;
	uint32_t len = mbuf->data_len, total;
	struct usual_words w;

	if (!tunneled && unlikely(len < USUAL_BYTES + tag_bytes))
		return 0;
	len -= tag_bytes;
	w = usual_load(frame, tag_bytes);
	total = usual_total_bytes(&w);
	if (unlikely((w.macs & GROUP_BITS) != 0 || !usual_ipv4(&w)))
		return 0;
	if (unlikely(total > len - ETHERNET_BYTES || total > inside->usual_bytes ||
		     total < usual_least_bytes[usual_protocol(&w)]))
		return 0;
	if (!tunneled || unlikely(!inside->believed)) {
		if (unlikely(load64(frame - tag_bytes + 6) << 16 == 0 || !usual_sum(frame)))
			return 0;
		if (unlikely(usual_not_unicast[(uint8_t)w.addresses] |
			     usual_not_unicast[(uint8_t)(w.addresses >> 32)]))
			return 0;
	}
	if (w.macs << 16 == inside->gateway_mac) {
		if (unlikely(usual_hops_left(&w) <= 1))
			return 0;
		usual_fill(p, frame, inside, outer_bytes);
		p->key.key_class = FP_CLASS_ROUTED;
		p->flags |= PACKET_ROUTED;
	} else {
		usual_fill(p, frame, inside, outer_bytes);
	}
	if (tag_bytes != 0) { // the MACs move up to the ethertype
		const uint32_t behind = load32(frame - tag_bytes + 8);

		store64(frame, w.macs);
		store32(frame + 8, behind);
		frame_pull(mbuf, tag_bytes);
	}
	if (unlikely(len != total + ETHERNET_BYTES)) // padding
		frame_trim(mbuf, len - total - ETHERNET_BYTES);
	return total + ETHERNET_BYTES;
}
