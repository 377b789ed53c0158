// SPDX-License-Identifier: Apache-2.0
#include "fp_hash.h"

uint64_t
fp_hash_bytes(const struct fp_secret *secret, const void *data, uint32_t len_bytes)
{
	const uint8_t *bytes = data;
	const uint64_t s0 = secret->word[0], s1 = secret->word[1];
	uint64_t state = s0 ^ FP_HASH_LANE_1;
	uint32_t left = len_bytes;

	for (; left > 16; left -= 16, bytes += 16)
		state = fp_hash_mix(fp_hash_load(bytes) ^ s1, fp_hash_load(bytes + 8) ^ state);

	uint8_t last[16] = { 0 };
	if (left) // memcpy from NULL is undefined even for no bytes
		memcpy(last, bytes, left);
	state = fp_hash_mix(fp_hash_load(last) ^ s1, fp_hash_load(last + 8) ^ state);
	return fp_hash_mix(state ^ s0 ^ FP_HASH_LANE_2, len_bytes ^ s1 ^ FP_HASH_LANE_3);
}
