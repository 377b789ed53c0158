// SPDX-License-Identifier: Apache-2.0
//
// Keyed, non-linear hashes. The key is the arena's secret (16 random bytes made with the arena), so that
// nobody outside can choose packets that meet in one bucket. Any thread.
//
//	uint64_t h = fp_hash_flow(secret, &key); // bucket from the high 32 bits, signature from the low 32
//	uint16_t entropy = (uint16_t)fp_hash_bytes(secret, inner_tuple, sizeof inner_tuple);
//
// fp_hash_flow is seven rounds of AES: the first 16 bytes are masked by the secret, the next 16 and the last 16
// (which overlap) take the place of a round key, with a secret one between and three after. Two rounds lie
// between any two inputs, so that a difference has passed at least five S-boxes before another input could
// cancel it (2^-30 if the state is not known), and three behind the last, so that every bit of the key reaches
// every bit of the hash. It is not meant to withstand somebody who reads hashes; nobody does.
// The blocks follow one another and are not added up side by side: with one secret for all, swapped halves of a
// key would meet.
//
// fp_hash_bytes: each step is a full 64 x 64 bit multiplication of two secret-masked words, both halves folded
// together (the step of wyhash). CRC32C is faster by nothing and linear: a difference that collides under one
// seed collides under every seed, so that whoever knows the polynomial fills one bucket.
#pragma once

#include <string.h>

#include "fp_types.h"

struct fp_secret {
	uint64_t word[2];
};

// Odd, half of the bits set, from the fraction digits of pi: they only keep the lanes apart.
#define FP_HASH_LANE_1 0x243f6a8885a308d3ull
#define FP_HASH_LANE_2 0x13198a2e03707345ull
#define FP_HASH_LANE_3 0xa4093822299f31d1ull

static inline uint64_t
fp_hash_mix(uint64_t a, uint64_t b)
{
	const unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t
fp_hash_load(const void *from)
{
	uint64_t word;
	memcpy(&word, from, sizeof(word));
	return word;
}

// The 44 bytes of a key, by the processor's AES rounds where it has them; the same value where not (slowly).
uint64_t fp_hash_flow(const struct fp_secret *secret, const struct fp_flow_key *key);

// Any number of bytes. Lengths take part: a prefix of zeros is another message.
uint64_t fp_hash_bytes(const struct fp_secret *secret, const void *data, uint32_t len_bytes);
