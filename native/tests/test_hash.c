// SPDX-License-Identifier: Apache-2.0
#include "../core/flow_hash.h"
#include "arena_fixture.h"

static const struct fp_secret secret_a = {{0x0123456789abcdefull, 0xfedcba9876543210ull}};
static const struct fp_secret secret_b = {{0x0123456789abcdeeull, 0xfedcba9876543210ull}};

static void
test_every_bit_of_the_key_changes_about_half_of_the_hash(void)
{
	const struct fp_flow_key key = key_of(3, 77);
	const uint64_t base = fp_hash_flow(&secret_a, &key);

	for (uint32_t bit = 0; bit < 44 * 8; bit++) {
		struct fp_flow_key other = key;
		((uint8_t *)&other)[bit / 8] ^= (uint8_t)(1 << bit % 8);
		const int changed = __builtin_popcountll(base ^ fp_hash_flow(&secret_a, &other));
		assert(changed >= 12 && changed <= 52);
	}
}

static void
test_every_bit_of_the_secret_changes_the_hash(void)
{
	const struct fp_flow_key key = key_of(3, 77);
	for (int bit = 0; bit < 128; bit++) {
		struct fp_secret other = secret_a;
		other.word[bit / 64] ^= 1ull << bit % 64;
		const int changed =
			__builtin_popcountll(fp_hash_flow(&secret_a, &key) ^ fp_hash_flow(&other, &key));
		assert(changed >= 12 && changed <= 52);
	}
}

// CRC fails this one: what collides under one seed collides under all.
static void
test_keys_that_share_bucket_and_signature_part_under_another_secret(void)
{
	enum { KEYS = 1 << 20, SPACE = 1 << 22 };
	uint32_t *seen = calloc(SPACE, sizeof(*seen));
	uint32_t pairs = 0, still = 0;

	assert(seen);
	for (uint32_t i = 1; i <= KEYS; i++) {
		const struct fp_flow_key key = key_of(1, i);
		const uint64_t slot = fp_hash_flow(&secret_a, &key) >> 42;
		if (seen[slot]) {
			const struct fp_flow_key other = key_of(1, seen[slot]);
			pairs++;
			still += fp_hash_flow(&secret_b, &key) >> 42 == fp_hash_flow(&secret_b, &other) >> 42;
		}
		seen[slot] = i;
	}
	assert(pairs > 50000);
	assert(still < 20); // 1 in 4 million by chance
	free(seen);
}

// Processors with the instruction and without find a flow in the same bucket. The instruction is the oracle.
static void
test_the_hash_is_the_same_without_the_instruction(void)
{
	uint64_t state = 5;

#if defined(__x86_64__)
	if (!__builtin_cpu_supports("aes"))
		fprintf(stderr, "skipped: this processor has no AES instruction\n");
#endif
	for (int i = 0; i < 10000; i++) {
		struct fp_secret secret = {{random_next(&state), random_next(&state)}};
		struct fp_flow_key key;
		for (size_t at = 0; at < sizeof(key); at += 4) {
			const uint32_t word = (uint32_t)random_next(&state);
			memcpy((uint8_t *)&key + at, &word, sizeof(word));
		}
		assert(fp_flow_hash_plain(&secret, &key) == fp_hash_flow(&secret, &key));
	}
}

// What adding up keyed halves would get wrong: the masks of the halves may differ by what everybody knows.
static void
test_exchanged_halves_do_not_meet(void)
{
	const uint64_t lanes[] = {0, FP_HASH_LANE_1, FP_HASH_LANE_2, FP_HASH_LANE_3,
				  FP_HASH_LANE_1 ^ FP_HASH_LANE_2};
	uint64_t state = 9;

	for (int i = 0; i < 1000; i++) {
		struct fp_flow_key key = key_of(1, 0), other = key;
		for (size_t l = 0; l < sizeof(lanes) / sizeof(lanes[0]); l++) {
			for (int byte = 0; byte < 16; byte++) {
				const uint8_t lane = (uint8_t)(lanes[l] >> byte % 8 * 8);
				key.source[byte] = (uint8_t)random_next(&state);
				key.destination[byte] = (uint8_t)random_next(&state);
				other.source[byte] = key.destination[byte] ^ lane;
				other.destination[byte] = key.source[byte] ^ lane;
			}
			assert(fp_hash_flow(&secret_a, &key) != fp_hash_flow(&secret_a, &other));
		}
	}
}

static double
chi_square(const uint32_t *count, uint32_t n, double expected)
{
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += (count[i] - expected) * (count[i] - expected) / expected;
	return sum;
}

static void
test_counted_up_keys_spread_evenly_in_high_and_low_bits(void)
{
	enum { CELLS = 4096, KEYS = CELLS * 100 };
	static uint32_t high[CELLS], low[CELLS];

	for (uint32_t i = 0; i < KEYS; i++) {
		const struct fp_flow_key key = key_of(1, __builtin_bswap32(i)); // addresses count up
		const uint64_t hash = fp_hash_flow(&secret_a, &key);
		high[hash >> 52]++;
		low[hash & (CELLS - 1)]++;
	}
	// 4095 degrees of freedom: mean 4095, deviation 90; six deviations
	assert(chi_square(high, CELLS, 100) < 4095 + 6 * 90);
	assert(chi_square(low, CELLS, 100) < 4095 + 6 * 90);
}

static void
test_length_takes_part_in_the_hash_of_bytes(void)
{
	const uint8_t zeros[64] = {0};
	uint64_t seen[65];

	for (uint32_t len = 0; len <= 64; len++) {
		seen[len] = fp_hash_bytes(&secret_a, len ? zeros : NULL, len);
		for (uint32_t other = 0; other < len; other++)
			assert(seen[other] != seen[len]);
	}
}

static void
test_only_the_given_bytes_take_part(void)
{
	uint8_t a[80], b[80];

	memset(a, 0x5a, sizeof(a));
	memset(b, 0xa5, sizeof(b));
	for (uint32_t len = 1; len < 64; len++) {
		memcpy(b, a, len);
		assert(fp_hash_bytes(&secret_a, a, len) == fp_hash_bytes(&secret_a, b, len));
		a[len - 1] ^= 1;
		assert(fp_hash_bytes(&secret_a, a, len) != fp_hash_bytes(&secret_a, b, len));
		a[len - 1] ^= 1;
	}
}

int
main(void)
{
	RUN(test_every_bit_of_the_key_changes_about_half_of_the_hash);
	RUN(test_every_bit_of_the_secret_changes_the_hash);
	RUN(test_keys_that_share_bucket_and_signature_part_under_another_secret);
	RUN(test_the_hash_is_the_same_without_the_instruction);
	RUN(test_exchanged_halves_do_not_meet);
	RUN(test_counted_up_keys_spread_evenly_in_high_and_low_bits);
	RUN(test_length_takes_part_in_the_hash_of_bytes);
	RUN(test_only_the_given_bytes_take_part);
	return 0;
}
