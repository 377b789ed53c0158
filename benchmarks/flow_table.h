// SPDX-License-Identifier: Apache-2.0
//
// The two flow tables that benchmarks/flow_table.c compares, behind the same few functions: ours, and rte_hash
// with lock-free readers and RCU. Reader's functions (look, quiescent, online, offline): the one reader thread;
// all else: the one writer, which may be another.
#pragma once

#include "../native/core/arena_internal.h"

#define BURST 32
#define HUGE_BYTES ((size_t)2 << 20)

enum table { OURS, RTE_HASH, TABLES };

struct burst {
	struct fp_flow_key key[BURST];
	const void *pointer[BURST];
	uint64_t hash[BURST];
	uint32_t entry[BURST];
};

struct rte_hash;

struct tables {
	uint32_t entries;
	struct fp_arena *arena;
	uint32_t vnet, ingress, location;
	struct rte_hash *hash;
	struct rte_rcu_qsbr *qsbr;
	int heap_socket;
	size_t bytes[TABLES], page_bytes[TABLES];
	uint32_t resident[TABLES]; // of the flows that were inserted, once all were
	struct burst *started __attribute__((aligned(64))), *found; // the reader's own line
};

void die(const char *what, int rc); // prints, ends the program

static inline uint64_t
mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

// A heap for rte_hash on anonymous memory, on transparent huge pages or on none. Returns its socket.
int heap_make(const char *name, size_t len_bytes, bool huge);

// Both empty, for `entries` flows. Ours lies on the same kind of pages as the heap.
void tables_make(struct tables *tables, uint32_t entries, int heap_socket, bool huge);
void tables_free(struct tables *tables);

// The key of flow n: two IPv4 addresses of 10.0.0.0/8.
void key_make(const struct tables *tables, uint32_t n, struct fp_flow_key *key);
// false: short of entries until the reader was quiescent.
bool table_put(struct tables *tables, enum table table, const struct fp_flow_key *key);
void table_remove(struct tables *tables, enum table table, const struct fp_flow_key *key);

// Look a burst up. Ours takes turns as a poll thread does: it starts this one, finds the one before and finishes the one
// before that, or, `alone`, does all of this one. Return the hits of what was finished; table_finish finishes the last ones.
uint32_t table_look(struct tables *tables, enum table table, struct burst *burst, bool alone);
uint32_t table_finish(struct tables *tables, enum table table);
void table_quiescent(struct tables *tables, enum table table);
void table_online(struct tables *tables, enum table table);
void table_offline(struct tables *tables, enum table table);
