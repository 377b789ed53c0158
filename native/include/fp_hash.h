// SPDX-License-Identifier: Apache-2.0
//
// Keyed, non-linear hashes. The key is the arena's secret (16 random bytes made with the arena), so that
// nobody outside can choose packets that meet in one bucket. Any thread.
//
//	uint64_t h = fp_hash_flow(secret, &key); // bucket from the high 32 bits, signature from the low 16
//	uint16_t entropy = (uint16_t)fp_hash_bytes(secret, inner_tuple, sizeof inner_tuple);
//
// Each step is a full 64 x 64 bit multiplication of two secret-masked words, both halves folded together
// (the step of wyhash). CRC32C is faster by nothing and linear: a difference that collides under one seed
// collides under every seed, so that whoever knows the polynomial fills one bucket.
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

static inline uint64_t
fp_hash_flow(const struct fp_secret *secret, const struct fp_flow_key *key)
{
	const uint8_t *bytes = (const uint8_t *)key;
	const uint64_t s0 = secret->word[0], s1 = secret->word[1];
	// Three independent lanes of 16 bytes, the last one overlapping: 44 bytes.
	const uint64_t x = fp_hash_mix(fp_hash_load(bytes) ^ s0, fp_hash_load(bytes + 8) ^ s1);
	const uint64_t y = fp_hash_mix(fp_hash_load(bytes + 16) ^ s0 ^ FP_HASH_LANE_1,
				       fp_hash_load(bytes + 24) ^ s1 ^ FP_HASH_LANE_1);
	const uint64_t z = fp_hash_mix(fp_hash_load(bytes + 28) ^ s0 ^ FP_HASH_LANE_2,
				       fp_hash_load(bytes + 36) ^ s1 ^ FP_HASH_LANE_2);
	return fp_hash_mix(x ^ s1 ^ FP_HASH_LANE_3, y ^ z ^ s0);
}

// Any number of bytes. Lengths take part: a prefix of zeros is another message.
uint64_t fp_hash_bytes(const struct fp_secret *secret, const void *data, uint32_t len_bytes);
