// SPDX-License-Identifier: Apache-2.0
//
// Locator -> ingress: (local address, outer source, protocol, id). fp_ingress_by_locator() is the readers'
// half (fp_arena.h); these are the writer's.
#pragma once

#include "arena_internal.h"

typedef uint64_t __attribute__((may_alias)) fp_key_word;
static_assert(sizeof(struct fp_locator_key) == 5 * sizeof(fp_key_word), "key words");

uint32_t fp_locator_home(const struct fp_arena *arena, const struct fp_locator_key *key);
int32_t fp_locator_slot_of(const struct fp_arena *arena, const struct fp_locator_key *key); // -1: none
// The key must not be there yet. Slot, or -1: full.
int32_t fp_locator_add(struct fp_arena *arena, const struct fp_locator_key *key, uint32_t ingress,
		       uint16_t udp_port);
void fp_locator_remove(struct fp_arena *arena, uint32_t slot);
// After adoption: what a stop in the middle of an add or remove left wrong. Before there are readers.
void fp_locators_recount(struct fp_arena *arena);
