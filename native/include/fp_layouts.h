// SPDX-License-Identifier: Apache-2.0
//
// The layout of every shared struct and the values of every enum in fp_types.h, fp_tunnel.h and fp_records.h, as tables
// that the build derives from those headers; fastpath.records makes numpy dtypes and enums of them.
#pragma once

#include <stdint.h>

struct fp_layout_member {
	const char *structure; // NULL ends the table; members of a struct follow one another
	const char *member;
	const char *type; // uint8_t, char, ... or the name of a struct
	uint32_t offset, size_bytes, structure_bytes;
};

struct fp_layout_value {
	const char *enumeration; // NULL ends the table
	const char *name;
	int32_t value;
};

extern const struct fp_layout_member fp_layout_members[];
extern const struct fp_layout_value fp_layout_values[];
// Those of the arena's records alone, in the core itself.
extern const struct fp_layout_member fp_arena_layout_members[];
extern const struct fp_layout_value fp_arena_layout_values[];
