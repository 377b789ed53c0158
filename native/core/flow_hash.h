// SPDX-License-Identifier: Apache-2.0
//
// The steps of fp_hash_flow, once with the processor's AES instruction and once without: the same value, since
// every process and every variant of the look-up must find a flow in the same bucket. Only native/core includes
// this; see fp_hash.h for what the hash promises.
#pragma once

#include "fp_hash.h"

#if defined(__x86_64__)
#include <immintrin.h>

struct fp_flow_hash_keys {
	__m128i secret, other;
};

// Once for a burst.
static inline struct fp_flow_hash_keys
fp_flow_hash_keys(const struct fp_secret *secret)
{
	const __m128i word = _mm_loadu_si128((const __m128i *)(const void *)secret);
	const __m128i lane = _mm_set_epi64x((long long)FP_HASH_LANE_2, (long long)FP_HASH_LANE_1);
	return (struct fp_flow_hash_keys){word, _mm_xor_si128(word, lane)};
}

static inline __attribute__((target("aes"))) uint64_t
fp_flow_hash_aes(struct fp_flow_hash_keys keys, const struct fp_flow_key *key)
{
	const uint8_t *bytes = (const uint8_t *)key;
	__m128i state = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)bytes), keys.secret);

	state = _mm_aesenc_si128(state, keys.other);
	state = _mm_aesenc_si128(state, _mm_loadu_si128((const __m128i *)(const void *)(bytes + 16)));
	state = _mm_aesenc_si128(state, keys.other);
	state = _mm_aesenc_si128(state, _mm_loadu_si128((const __m128i *)(const void *)(bytes + 28)));
	state = _mm_aesenc_si128(state, keys.other);
	state = _mm_aesenc_si128(state, keys.secret);
	state = _mm_aesenc_si128(state, keys.other);
	return (uint64_t)_mm_cvtsi128_si64(state);
}
#endif

// For a processor without the instruction, and to test the one against the other.
uint64_t fp_flow_hash_plain(const struct fp_secret *secret, const struct fp_flow_key *key);
