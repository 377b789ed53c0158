// SPDX-License-Identifier: Apache-2.0
//
// A million flows: how many stay, what each costs, and how long a later data plane takes to adopt them.
#include "arena_fixture.h"

#include <time.h>
#include <unistd.h>

#define FLOWS 1000000u

static struct fp_arena *arena;
static uint32_t ingress;

static uint32_t
count_hits(void)
{
	uint32_t hits = 0;

	for (uint32_t n = 0; n < FLOWS; n += 50) {
		struct fp_flow_key keys[50];
		const struct fp_flow_key *pointers[50];
		uint64_t hash[50];
		fp_action_word word[50];
		uint32_t entry[50];
		for (uint32_t i = 0; i < 50; i++) {
			keys[i] = key_of(ingress, n + i);
			pointers[i] = &keys[i];
		}
		hits += fp_flow_lookup_bulk(arena, pointers, 50, 1000, hash, word, entry);
	}
	return hits;
}

static double
bytes_per_flow(const struct fp_arena_config *config)
{
	const struct fp_arena_config none = small_config(1);
	const char *names[32];
	size_t bytes[32], with = 0, without = 0;
	struct fp_arena_config rest = *config;

	rest.flows = none.flows;
	const int rows = fp_arena_cost(config, names, bytes, 32);
	for (int i = 0; i < rows; i++)
		with += bytes[i];
	fp_arena_cost(&rest, names, bytes, 32);
	for (int i = 0; i < rows; i++)
		without += bytes[i];
	return (double)(with - without) / config->flows;
}

int
main(void)
{
	const struct fp_arena_config config = small_config(FLOWS);
	char path[64];

	snprintf(path, sizeof(path), "/dev/shm/vnet-test-residency-%d", getpid());
	unlink(path);
	arena = arena_new(path, &config);
	const uint64_t made_ns = fp_arena_adoption(arena)->ns;
	const uint32_t vnet = vnet_new(arena, 1, 0);
	ingress = attachment_new(arena, vnet);
	const uint32_t location = location_new(arena, vnet, ingress);
	const struct fp_flow_value value = {
		.action = fp_action_make(FP_ACTION_DELIVER, 0, location, location),
		.expire_at_s = UINT32_MAX,
		.vnet = vnet,
	};
	for (uint32_t n = 0; n < FLOWS; n++) {
		const struct fp_flow_key key = key_of(ingress, n);
		assert(fp_flow_insert(arena, &key, &value) == 0);
	}
	const uint32_t before = count_hits();
	fprintf(stderr, "made in %.1f ms\n", (double)made_ns / 1e6);
	fprintf(stderr, "resident: %u of %u (%.3f %%), %.1f bytes per flow\n", before, FLOWS,
		100.0 * before / FLOWS, bytes_per_flow(&config));
	assert(before >= FLOWS / 1000 * 999);
	assert(bytes_per_flow(&config) <= 128);
	fp_arena_close(arena);

	arena = arena_new(path, &config);
	const struct fp_adoption_report *report = fp_arena_adoption(arena);
	fprintf(stderr, "adopted: %u flows in %.1f ms\n", report->flows, (double)report->ns / 1e6);
	assert(report->how == FP_ARENA_ADOPTED && report->flows == before);
	assert(count_hits() == before);
	assert(fp_vnet_at(arena, vnet)->flows == before);
	fp_arena_close(arena);
	unlink(path);
	return 0;
}
