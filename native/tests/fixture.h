// SPDX-License-Identifier: Apache-2.0
//
// What all C tests begin with: assertions that stay, a time, a generator, the names of what runs.
#pragma once

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND_NS 1000000000ull
#define NOW_S 1000
#define NOW_NS (NOW_S * SECOND_NS)

// A small generator, so that a failing run can be repeated from the seed that it printed.
static inline uint64_t
random_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static inline uint32_t
random_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)((random_next(state) >> 32) % n);
}

#define RUN(test)                                                                                            \
	do {                                                                                                 \
		fprintf(stderr, "%s\n", #test);                                                              \
		test();                                                                                      \
	} while (0)

// Of a file that is not there yet. path: "...XXXXXX".
static inline void
path_make(char *path)
{
	const int fd = mkstemp(path);

	assert(fd >= 0);
	close(fd);
	remove(path);
}
