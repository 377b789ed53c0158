// SPDX-License-Identifier: Apache-2.0
//
// What is confirmed to be closed no reader acts on, beside one that looks up all the time (TSan).
#include "closing_fixture.h"

#include <pthread.h>

#define PORTS 64
static struct {
	struct world *w;
	uint32_t stop, looks;
	uint32_t forbidden[PORTS]; // number of the revocation that is in force, 0: none
} shared;

static void *
look_on(void *)
{
	struct fp_arena *arena = shared.w->arena;
	struct fp_flow_key key[PORTS];
	const struct fp_flow_key *keys[PORTS];
	for (uint16_t i = 0; i < PORTS; i++) {
		key[i] = key_of(shared.w, RED, 1, i);
		keys[i] = &key[i];
	}
	assert(fp_arena_reader_register(arena, 0) == 0);
	fp_arena_reader_online(arena, 0);
	while (!__atomic_load_n(&shared.stop, __ATOMIC_ACQUIRE)) {
		uint32_t before[PORTS], entry[PORTS];
		uint64_t hash[PORTS];
		fp_action_word word[PORTS];
		for (uint32_t i = 0; i < PORTS; i++)
			before[i] = __atomic_load_n(&shared.forbidden[i], __ATOMIC_ACQUIRE);
		fp_flow_lookup_bulk(arena, keys, PORTS, NOW_S, hash, word, entry);
		for (uint32_t i = 0; i < PORTS; i++)
			assert(before[i] == 0 || entry[i] == 0 ||
			       __atomic_load_n(&shared.forbidden[i], __ATOMIC_ACQUIRE) != before[i]);
		__atomic_store_n(&shared.looks, shared.looks + 1, __ATOMIC_RELAXED);
		fp_arena_reader_quiescent(arena, 0);
	}
	reader_ends(shared.w);
	return NULL;
}

static void
test_no_reader_acts_on_what_is_confirmed_to_be_closed(void)
{
	struct world w = world_new(NULL, 30000);
	pthread_t reader;
	uint64_t revision = 1;
	shared.w = &w;
	decide_many(&w, BLUE, 20000); // so that the walk takes a while
	assert(pthread_create(&reader, NULL, look_on, NULL) == 0);
	for (uint32_t n = 1; n < 1000 || __atomic_load_n(&shared.looks, __ATOMIC_RELAXED) < 500; n++) {
		const uint16_t port = (uint16_t)(n % PORTS);
		__atomic_store_n(&shared.forbidden[port], 0, __ATOMIC_RELEASE);
		while (decide(&w, RED, 1, port, RED, revision) == -EAGAIN)
			fp_installer_tick(w.in, NOW_NS);
		assert(forbid_port(&w, RED, port, ++revision) == 0);
		struct fp_record_sync sync = {.number = n, .incarnation = 1, .workers = 1};
		const uint64_t before = said.synced;
		assert(apply(&w, &sync, FP_RECORD_SYNC, 0, revision) == 0);
		while (said.synced == before)
			fp_installer_sync(w.in);
		__atomic_store_n(&shared.forbidden[port], n, __ATOMIC_RELEASE);
		if (n % 8 == 0)
			fp_installer_tick(w.in, NOW_NS);
	}
	__atomic_store_n(&shared.stop, 1, __ATOMIC_RELEASE);
	pthread_join(reader, NULL);
	pass_through(&w);
	assert(resident(&w) == 20000);
	world_close(&w);
}

int
main(void)
{
	test_no_reader_acts_on_what_is_confirmed_to_be_closed();
	return 0;
}
