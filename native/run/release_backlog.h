// SPDX-License-Identifier: Apache-2.0
//
// Releases that a poll thread has no room for in its ring: they wait here, in order, and nothing else waits with
// them. One for each place of the thread's hold: a token names its place, and a place's newer release takes the
// older one's. So it is never full, and no release is lost that a thread would act on. Housekeeping's thread.
//
//	if (release_backlog_n(backlog) || !ring_takes(release))
//		release_backlog_put(backlog, release);
//	...
//	n = release_backlog_peek(backlog, releases, 64);  // the oldest
//	release_backlog_taken(backlog, ring_takes(releases, n));
#pragma once

#include <stdint.h>

#include "fp_install.h"

struct release_backlog {
	uint32_t places;            // of the hold: 1 .. places
	struct fp_release *release; // by place
	uint32_t *order;            // places that wait, the oldest at order[first]; modulo places
	uint8_t *waits;             // by place
	uint32_t first, n;
};

int release_backlog_init(struct release_backlog *backlog, uint32_t places); // 0 or -ENOMEM
void release_backlog_free(struct release_backlog *backlog);

static inline uint32_t
release_backlog_n(const struct release_backlog *backlog)
{
	return backlog->n;
}

// A release whose token names no place is nobody's, and dropped.
void release_backlog_put(struct release_backlog *backlog, const struct fp_release *release);
// Copies out the oldest ones, at most n; they stay until they are said to be taken.
uint32_t release_backlog_peek(const struct release_backlog *backlog, struct fp_release *releases, uint32_t n);
void release_backlog_taken(struct release_backlog *backlog, uint32_t n);
