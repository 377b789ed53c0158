// SPDX-License-Identifier: Apache-2.0
#include "id_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t home_of(const struct fp_id_map *map, uint64_t id, uint64_t more);
static uint32_t slot_of(const struct fp_id_map *map, uint64_t id, uint64_t more);

int
fp_id_map_init(struct fp_id_map *map, const struct fp_secret *secret, uint32_t capacity)
{
	uint32_t slots = 16;
	while (slots < 2 * (uint64_t)capacity)
		slots *= 2;
	*map = (struct fp_id_map){.secret = secret, .mask = slots - 1};
	// Written now: a slot that is read before its page was ever written gets the kernel's page of zeros, and
	// the first write there takes that away again, for which it interrupts every poll thread.
	const size_t bytes = slots * sizeof(*map->slot);
	map->slot = aligned_alloc(FP_CACHE_LINE, bytes);
	if (map->slot == NULL)
		return -ENOMEM;
	memset(map->slot, 0, bytes);
	return 0;
}

void
fp_id_map_free(struct fp_id_map *map)
{
	free(map->slot);
	map->slot = NULL;
}

void
fp_id_map_foresee(const struct fp_id_map *map, uint64_t id, uint64_t more)
{
	__builtin_prefetch(&map->slot[home_of(map, id, more)]);
}

uint32_t
fp_id_map_find(const struct fp_id_map *map, uint64_t id, uint64_t more)
{
	return map->slot[slot_of(map, id, more)].index;
}

void
fp_id_map_put(struct fp_id_map *map, uint64_t id, uint64_t more, uint32_t index)
{
	struct fp_id_slot *slot = &map->slot[slot_of(map, id, more)];
	map->count += slot->index == 0;
	*slot = (struct fp_id_slot){.id = id, .more = more, .index = index};
}

// Closes the gap: whatever probed over the freed slot moves back into it.
void
fp_id_map_remove(struct fp_id_map *map, uint64_t id, uint64_t more)
{
	uint32_t hole = slot_of(map, id, more);
	if (map->slot[hole].index == 0)
		return;
	map->count--;
	for (uint32_t i = (hole + 1) & map->mask; map->slot[i].index; i = (i + 1) & map->mask) {
		uint32_t home = home_of(map, map->slot[i].id, map->slot[i].more);
		if (((i - home) & map->mask) >= ((i - hole) & map->mask)) {
			map->slot[hole] = map->slot[i];
			hole = i;
		}
	}
	map->slot[hole].index = 0;
}

static uint32_t
home_of(const struct fp_id_map *map, uint64_t id, uint64_t more)
{
	uint64_t words[2] = {id, more};
	return (uint32_t)fp_hash_bytes(map->secret, words, sizeof(words)) & map->mask;
}

// Where it stands, or the free slot where it would.
static uint32_t
slot_of(const struct fp_id_map *map, uint64_t id, uint64_t more)
{
	uint32_t i = home_of(map, id, more);
	while (map->slot[i].index && (map->slot[i].id != id || map->slot[i].more != more))
		i = (i + 1) & map->mask;
	return i;
}
