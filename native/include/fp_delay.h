// SPDX-License-Identifier: Apache-2.0
//
// A histogram of delays, log-linear: each power of two of nanoseconds has 16 buckets of one width,
// so that none is wider than a sixteenth of where it begins, and a percentile is wrong by no more
// than that, 6.25 %. Below a microsecond all are 64 ns wide. One thread adds; whoever reads, reads
// whole words.
//
// The one place that knows where buckets are: what leaves the process carries the bounds with the
// counts.
#pragma once

#include <stdint.h>

#define FP_DELAY_STEP_LOG2 6      // 64 ns
#define FP_DELAY_PER_POWER_LOG2 4 // 16
// Up to 2^36 ns, 68.7 s; the longest that [hold] wait_ms allows is 60 s.
#define FP_DELAY_BUCKETS 432

struct fp_delay {
	uint64_t sum_ns;
	uint64_t bucket[FP_DELAY_BUCKETS];
};

// The bucket of a delay. What is longer than all of them counts in the last.
static inline uint32_t
fp_delay_bucket(uint64_t ns)
{
	const uint64_t steps = ns >> FP_DELAY_STEP_LOG2;
	const uint32_t power = 63u - (uint32_t)__builtin_clzll(steps | 1u << FP_DELAY_PER_POWER_LOG2);
	const uint32_t shift = power - FP_DELAY_PER_POWER_LOG2;
	const uint64_t bucket = ((uint64_t)shift << FP_DELAY_PER_POWER_LOG2) + (steps >> shift);
	return bucket < FP_DELAY_BUCKETS ? (uint32_t)bucket : FP_DELAY_BUCKETS - 1;
}

// Where a bucket begins, and with the next number where it ends.
static inline uint64_t
fp_delay_from_ns(uint32_t bucket)
{
	const uint32_t per_power = 1u << FP_DELAY_PER_POWER_LOG2;
	if (bucket < per_power)
		return (uint64_t)bucket << FP_DELAY_STEP_LOG2;
	return (uint64_t)(per_power + bucket % per_power) << (bucket / per_power - 1 + FP_DELAY_STEP_LOG2);
}

static inline void
fp_delay_add(struct fp_delay *delay, uint64_t ns)
{
	delay->sum_ns += ns;
	delay->bucket[fp_delay_bucket(ns)]++;
}
