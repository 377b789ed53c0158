// SPDX-License-Identifier: Apache-2.0
//
// Ordered pairs of V-nets of which the first may send into the second. Only the writer looks here: the
// packet path needs no answer, since no action across V-nets is ever published without its pair.
//
// Open addressing with backward shift. A stop in the middle of a shift leaves a pair twice, never a pair
// unreachable; opening and removing clear doubles.
#include "install_internal.h"

static uint32_t home_of(const struct fp_arena *arena, uint32_t pair);
static uint32_t slot_of(const struct fp_arena *arena, uint32_t pair);
static bool pair_remove(struct fp_installer *in, uint32_t pair);

static inline uint32_t
pair_make(uint32_t from, uint32_t to)
{
	return from << 16 | to;
}

int
fp_peerings_open(struct fp_installer *in)
{
	struct fp_arena *arena = in->arena;
	uint32_t slots = arena->peering_mask + 1;
	uint32_t *found = calloc(slots, sizeof(*found));
	if (found == NULL)
		return -ENOMEM;
	uint32_t n = 0;
	for (uint32_t i = 0; i < slots; i++) {
		uint32_t pair = arena->peerings[i];
		if (pair && fp_index_live(&arena->pool[FP_POOL_VNET], pair >> 16) &&
		    fp_index_live(&arena->pool[FP_POOL_VNET], pair & 0xffff))
			found[n++] = pair;
	}
	fp_store_zero(arena->peerings, slots * sizeof(*arena->peerings));
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = slot_of(arena, found[i]);
		in->vnet[found[i] >> 16].peerings += arena->peerings[slot] == 0;
		in->peerings += arena->peerings[slot] == 0;
		fp_store(&arena->peerings[slot], found[i]);
	}
	free(found);
	return 0;
}

int
fp_peering_set(struct fp_installer *in, const struct fp_record_peering *record)
{
	uint32_t from = fp_vnet_by_vni(in, record->head.vni);
	uint32_t to = fp_vnet_by_vni(in, record->to_vni);
	if (from == 0 || to == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	if (from == to)
		return FP_REFUSED_MALFORMED;
	uint32_t slot = slot_of(in->arena, pair_make(from, to));
	if (in->arena->peerings[slot] == 0) {
		if (in->peerings >= (in->arena->peering_mask + 1) / 2)
			return FP_REFUSED_NO_ROOM;
		fp_store(&in->arena->peerings[slot], pair_make(from, to));
		in->peerings++;
		in->vnet[from].peerings++;
	}
	in->peering_snapshot[slot] = in->vnet[from].snapshot_number;
	return 0;
}

int
fp_peering_remove(struct fp_installer *in, const struct fp_record_peering *record)
{
	uint32_t from = fp_vnet_by_vni(in, record->head.vni);
	uint32_t to = fp_vnet_by_vni(in, record->to_vni);
	if (from == 0 || to == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	if (!pair_remove(in, pair_make(from, to)))
		return FP_REFUSED_UNKNOWN_OBJECT;
	fp_close_pair(in->arena, from, to);
	fp_close_now(in);
	return 0;
}

bool
fp_peered(const struct fp_installer *in, uint32_t from, uint32_t to)
{
	return in->peerings && in->arena->peerings[slot_of(in->arena, pair_make(from, to))] != 0;
}

bool
fp_vnets_peered(const struct fp_arena *arena, uint32_t from, uint32_t to)
{
	const uint32_t pair = pair_make(from, to);
	uint32_t i = home_of(arena, pair);
	// Counted: what a stopped data plane left need not have a free slot.
	for (uint32_t n = 0; n <= arena->peering_mask && arena->peerings[i]; n++) {
		if (arena->peerings[i] == pair)
			return true;
		i = (i + 1) & arena->peering_mask;
	}
	return false;
}

void
fp_peerings_sweep(struct fp_installer *in, uint32_t vnet)
{
	for (uint32_t i = 0; in->vnet[vnet].peerings && i <= in->arena->peering_mask;) {
		uint32_t pair = in->arena->peerings[i];
		if (pair && pair >> 16 == vnet && in->peering_snapshot[i] != in->vnet[vnet].snapshot_number) {
			pair_remove(in, pair); // another may have moved here: look again
			fp_close_pair(in->arena, vnet, pair & 0xffff);
		} else {
			i++;
		}
	}
}

void
fp_peerings_drop(struct fp_installer *in, uint32_t vnet)
{
	for (uint32_t i = 0; in->peerings && i <= in->arena->peering_mask;) {
		uint32_t pair = in->arena->peerings[i];
		if (pair && (pair >> 16 == vnet || (pair & 0xffff) == vnet))
			pair_remove(in, pair);
		else
			i++;
	}
}

static uint32_t
home_of(const struct fp_arena *arena, uint32_t pair)
{
	return (uint32_t)fp_hash_bytes(&arena->view.secret, &pair, sizeof(pair)) & arena->peering_mask;
}

static uint32_t
slot_of(const struct fp_arena *arena, uint32_t pair)
{
	const uint32_t *peerings = arena->peerings;
	uint32_t i = home_of(arena, pair);
	while (peerings[i] && peerings[i] != pair)
		i = (i + 1) & arena->peering_mask;
	return i;
}

static bool
pair_remove(struct fp_installer *in, uint32_t pair)
{
	uint32_t *peerings = in->arena->peerings, mask = in->arena->peering_mask;
	uint32_t hole = slot_of(in->arena, pair);
	if (peerings[hole] == 0)
		return false;
	for (uint32_t i = (hole + 1) & mask; peerings[i]; i = (i + 1) & mask) {
		uint32_t home = home_of(in->arena, peerings[i]);
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			fp_store(&peerings[hole], peerings[i]);
			in->peering_snapshot[hole] = in->peering_snapshot[i];
			hole = i;
		}
	}
	fp_store(&peerings[hole], 0);
	in->peerings--;
	in->vnet[pair >> 16].peerings--;
	return true;
}
