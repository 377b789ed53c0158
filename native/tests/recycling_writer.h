// SPDX-License-Identifier: Apache-2.0
//
// What the writer's files share: recycling_tables.c (the order of things, and what V-nets share) and recycling_vnet.c
// (one V-net: its life, its changes, its decisions).
#pragma once

#include "recycling.h"

#define INCARNATION 7
#define SET_ID 10  // of the first set
#define NODE_ID 50 // of the first node

struct writer {
	struct recycling *r;
	uint64_t seed;
	uint32_t number[SLOTS]; // 0: none
	uint64_t revision[SLOTS];
	bool peered[SLOTS];       // with the slot beside it
	uint64_t tunnel[REMOTES]; // by which a node is reached now: object id
	uint32_t tunnels_made;
	uint32_t rehopped, reheaded, sets_changed, moves, removals, changes, peerings, churned, answers;
};
extern struct writer w;

// recycling_tables.c. put: it is applied; put_flagged: what fp_installer_apply says.
void put(void *record, uint16_t type, uint32_t vni, uint64_t revision);
int put_flagged(void *record, uint16_t type, uint32_t vni, uint64_t revision, uint8_t flags);
void counters_are_zero(enum fp_counted what, uint32_t index);

// recycling_vnet.c
void life_begin(uint32_t slot, uint32_t number);
void life_end(uint32_t slot);
void members_reroute(uint32_t slot); // a tunnel to their nodes has changed
void life_change(uint32_t slot);     // something of it
void answer(const struct fp_record_miss *miss);

static inline uint32_t
slot_of(uint32_t number)
{
	return number % SLOTS;
}
