// SPDX-License-Identifier: Apache-2.0
#include "fp_delay.h"

#include "arena_fixture.h"

static void
test_buckets_adjoin_and_each_holds_what_lies_between_its_bounds(void)
{
	assert(fp_delay_from_ns(0) == 0);
	for (uint32_t i = 0; i < FP_DELAY_BUCKETS; i++) {
		const uint64_t from_ns = fp_delay_from_ns(i), below_ns = fp_delay_from_ns(i + 1);
		assert(from_ns < below_ns);
		assert(fp_delay_bucket(from_ns) == i);
		assert(fp_delay_bucket(below_ns - 1) == i);
	}
}

static void
test_no_bucket_is_wider_than_a_sixteenth_of_where_it_begins(void)
{
	for (uint32_t i = 0; i < FP_DELAY_BUCKETS; i++) {
		const uint64_t from_ns = fp_delay_from_ns(i), width_ns = fp_delay_from_ns(i + 1) - from_ns;
		assert(from_ns < 1024 ? width_ns == 64 : width_ns * 16 <= from_ns);
	}
}

static void
test_the_longest_wait_of_a_hold_has_a_bucket_of_its_own_and_what_is_longer_the_last(void)
{
	assert(fp_delay_bucket(60000000000u) < FP_DELAY_BUCKETS - 1);
	assert(fp_delay_from_ns(FP_DELAY_BUCKETS) == 1ull << 36);
	assert(fp_delay_bucket(1ull << 36) == FP_DELAY_BUCKETS - 1);
	assert(fp_delay_bucket(UINT64_MAX) == FP_DELAY_BUCKETS - 1);
}

static void
test_what_is_added_counts_once_and_in_the_sum(void)
{
	struct fp_delay delay = {0};
	uint64_t sum_ns = 0, packets = 0;

	for (uint64_t ns = 1; ns < 10000000000u; ns = ns * 3 + 1) {
		fp_delay_add(&delay, ns);
		sum_ns += ns;
		packets++;
	}
	for (uint32_t i = 0; i < FP_DELAY_BUCKETS; i++)
		packets -= delay.bucket[i];
	assert(packets == 0);
	assert(delay.sum_ns == sum_ns);
}

int
main(void)
{
	RUN(test_buckets_adjoin_and_each_holds_what_lies_between_its_bounds);
	RUN(test_no_bucket_is_wider_than_a_sixteenth_of_where_it_begins);
	RUN(test_the_longest_wait_of_a_hold_has_a_bucket_of_its_own_and_what_is_longer_the_last);
	RUN(test_what_is_added_counts_once_and_in_the_sum);
	return 0;
}
