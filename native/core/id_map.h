// SPDX-License-Identifier: Apache-2.0
//
// The writer's private way from the directory's ids to indexes of a table: open addressing, rebuilt from the
// table after adoption. Index 0 means "none". Sized once for the table, so it never grows or fails.
//
//	struct fp_id_map map;
//	fp_id_map_init(&map, &secret, capacity);
//	fp_id_map_put(&map, object_id, vni << 8 | way, index);
//	index = fp_id_map_find(&map, object_id, vni << 8 | way);
#pragma once

#include "fp_hash.h"

struct fp_id_slot {
	uint64_t id, more;
	uint32_t index; // 0: free
};

struct fp_id_map {
	struct fp_id_slot *slot;
	const struct fp_secret *secret;
	uint32_t mask;
	uint32_t count;
};

int fp_id_map_init(struct fp_id_map *map, const struct fp_secret *secret, uint32_t capacity);
void fp_id_map_free(struct fp_id_map *map);
void fp_id_map_foresee(const struct fp_id_map *map, uint64_t id, uint64_t more); // it will be looked for soon
uint32_t fp_id_map_find(const struct fp_id_map *map, uint64_t id, uint64_t more);
void fp_id_map_put(struct fp_id_map *map, uint64_t id, uint64_t more, uint32_t index);
void fp_id_map_remove(struct fp_id_map *map, uint64_t id, uint64_t more);
