// SPDX-License-Identifier: Apache-2.0
//
// An arena whose writer is stopped after every single store: each image that differs from the one before is adopted as
// a later data plane would, installer and all, and what is found there is compared, fact by fact and by the names that
// clients use, with what stood before and after the operation.
//
// A fact that the operation does not change is there, unchanged. One that it changes is old or new; where
// one store turns old into new (flows, locations, tunnels) it is there in every image. What comes or goes
// may be there or not.
//
// Compiled with FP_STORE_HOOK, see store.h.
#pragma once

#include "arena_fixture.h"
#include "installer_fixture.h"

struct watched {
	struct fp_arena *arena;
	struct fp_installer *installer;
	uint64_t images, stores; // so far
};
extern struct watched watched;

void watched_open(const struct fp_arena_config *config);
// Does one thing with every store of it watched. expected: what act returns.
void watch(const char *name, int (*act)(const void *), const void *argument, int expected);
void watched_close(void);
