// SPDX-License-Identifier: Apache-2.0
//
// Keyed, non-linear hashes. The key is the arena's secret (16 random bytes made with the arena), so that
// nobody outside can choose packets that meet in one bucket. Any thread.
//
//	uint64_t h = fp_hash_flow(&arena->secret, &key);   // bucket from the high bits, signature from the low 16
//	uint32_t e = fp_hash_entropy(&arena->secret, ...);  // outer UDP source port, next-hop choice
#pragma once

#include "fp_types.h"

struct fp_secret {
	uint64_t word[2];
};

uint64_t fp_hash_flow(const struct fp_secret *secret, const struct fp_flow_key *key);
uint64_t fp_hash_bytes(const struct fp_secret *secret, const void *data, uint32_t len_bytes);
