// SPDX-License-Identifier: Apache-2.0
//
// One writer that inserts, changes, removes and evicts; readers that look up all the time. An answer is never
// another key's, never half of two values, and what a reader follows stays until it is quiescent. Under
// TSan the absence of data races is checked with it.
#include "arena_fixture.h"

#include <pthread.h>

#define KEYS 4000
#define FLOWS 1024 // most keys evict another
#define LOCATIONS 4095
#define WRITES 40000
#define READERS 2

static struct fp_arena *arena;
static uint32_t vnet, ingress;
static bool stop;

// Source names the key, destination is the version, the flags bind both.
static uint8_t
binding(uint32_t number, uint32_t version)
{
	return (uint8_t)(((number * 2654435761u) ^ (version * 40503u)) >> 9);
}

static fp_action_word
word_of(uint32_t number, uint32_t version)
{
	return fp_action_make(FP_ACTION_DELIVER, binding(number, version), number, version);
}

static void
burst_check(uint32_t thread, uint64_t *seed, uint64_t *hits_seen)
{
	struct fp_flow_key keys[32];
	const struct fp_flow_key *pointers[32];
	uint64_t hash[32];
	fp_action_word word[32];
	uint32_t entry[32], number[32], misses = 0;

	for (uint32_t i = 0; i < 32; i++) {
		number[i] = 1 + (uint32_t)(random_next(seed) >> 32) % KEYS;
		keys[i] = key_of(ingress, number[i]);
		pointers[i] = &keys[i];
	}
	const uint32_t now_s = fp_arena_now_s(arena);
	const uint32_t hits = fp_flow_lookup_bulk(arena, pointers, 32, now_s, hash, word, entry);
	for (uint32_t i = 0; i < 32; i++) {
		if (word[i] == 0) {
			assert(entry[i] == 0);
			misses++;
			continue;
		}
		assert(fp_action_source(word[i]) == number[i]);
		assert(fp_action_flags(word[i]) == binding(number[i], fp_action_destination(word[i])));
		assert(memcmp(&fp_flow_at(arena, entry[i])->key, &keys[i], sizeof(keys[i])) == 0);
		fp_flow_used(fp_flow_at(arena, entry[i]), now_s);
	}
	assert(hits + misses == 32);
	*hits_seen += hits;
	fp_arena_reader_quiescent(arena, thread);
}

static void *
reader(void *argument)
{
	const uint32_t thread = (uint32_t)(uintptr_t)argument;
	uint64_t seed = thread + 1, hits = 0, bursts = 0;

	assert(fp_arena_reader_register(arena, thread) == 0);
	fp_arena_reader_online(arena, thread);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		burst_check(thread, &seed, &hits);
		if (++bursts % 1000 == 0) { // as before a sleep
			fp_arena_reader_offline(arena, thread);
			fp_arena_reader_online(arena, thread);
		}
	}
	fp_arena_reader_offline(arena, thread);
	fp_arena_reader_unregister(arena, thread);
	return (void *)(uintptr_t)hits;
}

static void
write_once(uint64_t *seed, uint32_t *now_s)
{
	const uint64_t random = random_next(seed);
	const uint32_t number = 1 + (uint32_t)(random >> 32) % KEYS;
	const struct fp_flow_key key = key_of(ingress, number);
	const struct fp_flow_value value = {
		.action = word_of(number, 1 + (uint32_t)(random >> 8) % LOCATIONS),
		.expire_at_s = *now_s + (uint32_t)(random >> 20) % 64,
		.vnet = vnet,
	};
	uint32_t cursor = 0;

	if (random % 8 == 0) {
		fp_flow_remove(arena, &key);
		return;
	}
	while (fp_flow_insert(arena, &key, &value) == -EAGAIN)
		sched_yield(); // readers pass; their quiescent states free entries
	if (random % 512 == 1) {
		fp_arena_tick(arena, ++*now_s * 1000000000ull);
		fp_flow_expire(arena, &cursor, UINT32_MAX, 0);
	}
}

int
main(void)
{
	struct fp_arena_config config = small_config(FLOWS);
	pthread_t readers[READERS];
	uint64_t seed = 99, hits = 0;
	uint32_t now_s = 1000;
	struct fp_flow_stats stats;

	config.locations = LOCATIONS;
	arena = arena_new(NULL, &config);
	vnet = vnet_new(arena, 1, 0);
	ingress = attachment_new(arena, vnet);
	for (int i = 0; i < LOCATIONS; i++)
		location_new(arena, vnet, ingress);
	for (uint32_t i = 0; i < READERS; i++)
		assert(pthread_create(&readers[i], NULL, reader, (void *)(uintptr_t)i) == 0);
	for (int i = 0; i < WRITES; i++)
		write_once(&seed, &now_s);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++) {
		void *result;
		pthread_join(readers[i], &result);
		hits += (uintptr_t)result;
	}
	fp_flow_stats(arena, &stats);
	fprintf(stderr, "hits %lu, inserted %lu, updated %lu, evicted %lu + %lu, expired %lu, waited %lu\n",
		(unsigned long)hits, (unsigned long)stats.inserted, (unsigned long)stats.updated,
		(unsigned long)stats.evicted_bucket, (unsigned long)stats.evicted_hand,
		(unsigned long)stats.expired, (unsigned long)stats.waited);
	assert(hits > 1000 && stats.evicted_hand > 1000);
	fp_arena_close(arena);
	return 0;
}
