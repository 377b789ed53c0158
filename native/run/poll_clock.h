// SPDX-License-Identifier: Apache-2.0
//
// A poll thread's CLOCK_BOOTTIME: asked of the kernel once in 500 us, in between carried on by the
// time stamp counter, which is read once a round anyway. A call a round would cost two cycles a
// packet. Never runs backwards.
#pragma once

#include <stdint.h>
#include <time.h>

#include <rte_cycles.h>

#define POLL_CLOCK_PER_S 2000

struct poll_clock {
	uint64_t tsc, ns;    // when the kernel was asked last
	uint64_t last_ns;    // told last
	uint64_t valid;      // so many cycles
	uint64_t ns_shift32; // nanoseconds a cycle << 32
};

static inline struct poll_clock
poll_clock_make(uint64_t tsc_hz)
{
	return (struct poll_clock){.valid = tsc_hz / POLL_CLOCK_PER_S,
				   .ns_shift32 = (uint64_t)(1e9 * 4294967296.0 / (double)tsc_hz)};
}

static inline uint64_t
poll_clock_ns(struct poll_clock *clock, uint64_t tsc)
{
	struct timespec t;
	uint64_t ns;

	if (__builtin_expect(tsc - clock->tsc >= clock->valid, 0)) {
		clock_gettime(CLOCK_BOOTTIME, &t);
		clock->tsc = rte_rdtsc();
		clock->ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
		tsc = clock->tsc;
	}
	ns = clock->ns + ((tsc - clock->tsc) * clock->ns_shift32 >> 32);
	if (ns > clock->last_ns)
		clock->last_ns = ns;
	return clock->last_ns;
}
