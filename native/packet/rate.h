// SPDX-License-Identifier: Apache-2.0
//
// A rate limit in one word: the time up to which what was let through has been paid for (GCRA).
// Lets `per_s` events through at once after a quiet second, and `per_s` a second from then on. One
// thread.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SECOND_NS 1000000000ull
#define MILLISECOND_NS 1000000ull

// per_s 0: no limit.
static inline bool
rate_take(uint64_t *paid_until_ns, uint64_t now_ns, uint64_t per_s)
{
	uint64_t from_ns;

	if (per_s == 0)
		return true;
	from_ns = *paid_until_ns > now_ns ? *paid_until_ns : now_ns;
	if (from_ns + SECOND_NS / per_s > now_ns + SECOND_NS)
		return false;
	*paid_until_ns = from_ns + SECOND_NS / per_s;
	return true;
}
