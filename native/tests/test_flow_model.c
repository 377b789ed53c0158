// SPDX-License-Identifier: Apache-2.0
//
// Random operations on the flow table against an array: the table may lose what it counts as evicted, and
// nothing else; it never answers with anything but the newest value.
#include "arena_fixture.h"

#include <time.h>

#define KEYS 600
#define VNETS 3
#define STEPS 10000

struct model {
	bool present[KEYS];
	struct fp_flow_value value[KEYS];
};

static struct fp_arena *arena;
static uint32_t vnet[VNETS], ingress[VNETS], location[VNETS][4];
static struct model model;
static uint64_t seed, evicted;
static uint32_t now_s = 1000;
static bool turned; // the last insert changed a key from flow to refusal or back

static uint64_t
evictions(void)
{
	struct fp_flow_stats stats;
	fp_flow_stats(arena, &stats);
	return stats.evicted_bucket + stats.evicted_hand;
}

static struct fp_flow_key
key_at(uint32_t number)
{
	return key_of(ingress[number % VNETS], number);
}

static struct fp_flow_value
value_random(uint32_t number)
{
	const uint64_t random = random_next(&seed);
	const uint32_t owner = number % VNETS;
	return (struct fp_flow_value){
		.action = random % 5 == 0 ? fp_action_make(FP_ACTION_DROP, 0, 0, 1 + random / 8 % 100)
					  : fp_action_make(FP_ACTION_DELIVER, (uint8_t)(random >> 40),
							   location[owner][random / 8 % 4],
							   location[owner][random / 32 % 4]),
		.revision = random >> 8,
		.expire_at_s = now_s - 20 + (uint32_t)(random >> 32) % 400,
		.vnet = vnet[owner],
	};
}

// The answer for each key; what is gone without a reason must have been counted as evicted.
static void
compare_all(void)
{
	uint64_t gone = 0;
	uint32_t flows[VNETS] = {0}, refusals[VNETS] = {0};

	for (uint32_t number = 0; number < KEYS; number++) {
		const struct fp_flow_key key = key_at(number);
		const struct fp_flow_value *value = &model.value[number];
		const uint32_t entry = fp_flow_find(arena, &key);
		fp_action_word word = 0;
		const bool hit = lookup(arena, &key, now_s, &word);

		if (entry == 0 && model.present[number]) {
			model.present[number] = false;
			gone++;
		}
		assert((entry != 0) == model.present[number]);
		assert(hit == (model.present[number] && value->expire_at_s > now_s));
		assert(!hit || word == value->action);
		if (entry) {
			assert(fp_flow_at(arena, entry)->revision == (uint32_t)value->revision);
			assert(fp_flow_at(arena, entry)->expire_at_s == value->expire_at_s);
			flows[number % VNETS]++;
			refusals[number % VNETS] += fp_action_of(value->action) == FP_ACTION_DROP;
		}
	}
	// A flow that turned into a refusal, or back, may have made room for itself.
	assert(evictions() - evicted == gone || (turned && evictions() - evicted == gone + 1));
	evicted = evictions();
	for (uint32_t i = 0; i < VNETS; i++) {
		assert(fp_vnet_at(arena, vnet[i])->flows == flows[i]);
		assert(fp_vnet_at(arena, vnet[i])->drops_resident == refusals[i]);
		const uint32_t quota = fp_vnet_at(arena, vnet[i])->quota_flows;
		assert(!quota || flows[i] - refusals[i] <= quota);
	}
}

static void
step(void)
{
	const uint64_t random = random_next(&seed);
	const uint32_t number = (uint32_t)(random >> 16) % KEYS;
	const struct fp_flow_key key = key_at(number);
	uint32_t cursor = 0;

	turned = false;
	switch (random % 16) {
	case 0:
		now_s += (uint32_t)(random >> 40) % 8;
		fp_arena_tick(arena, now_s * 1000000000ull);
		break;
	case 1:
		fp_flow_expire(arena, &cursor, UINT32_MAX, 0);
		for (uint32_t i = 0; i < KEYS; i++)
			if (model.present[i] && model.value[i].expire_at_s <= now_s) {
				const struct fp_flow_key other = key_at(i);
				assert(fp_flow_find(arena, &other) == 0);
				model.present[i] = false;
			}
		break;
	case 2:
	case 3:
	case 4:
		assert(fp_flow_remove(arena, &key) == (model.present[number] ? 0 : -ENOENT));
		model.present[number] = false;
		break;
	default: {
		const struct fp_flow_value value = value_random(number);
		turned = model.present[number] &&
			 (fp_action_of(model.value[number].action) == FP_ACTION_DROP) !=
				 (fp_action_of(value.action) == FP_ACTION_DROP);
		const int rc = fp_flow_insert(arena, &key, &value);
		assert(rc == 0 || (rc == -EDQUOT && fp_action_of(value.action) == FP_ACTION_DROP));
		if (rc == 0) {
			model.present[number] = true;
			model.value[number] = value;
		}
		break;
	}
	}
}

static void
run(uint32_t flows)
{
	struct fp_arena_config config = small_config(flows);

	memset(&model, 0, sizeof(model));
	evicted = 0;
	arena = arena_new(NULL, &config);
	for (uint32_t i = 0; i < VNETS; i++) {
		vnet[i] = vnet_new(arena, i + 1, i * 30);
		ingress[i] = attachment_new(arena, vnet[i]);
		for (int n = 0; n < 4; n++)
			location[i][n] = location_new(arena, vnet[i], ingress[i]);
	}
	fp_arena_tick(arena, now_s * 1000000000ull);
	for (int i = 0; i < STEPS; i++) {
		step();
		// Before the next operation: an eviction must be seen while it can be told from a removal.
		compare_all();
	}
	struct fp_flow_stats stats;
	fp_flow_stats(arena, &stats);
	fprintf(stderr, "  %u flows: inserted %lu updated %lu evicted %lu + %lu refused %lu\n", flows,
		(unsigned long)stats.inserted, (unsigned long)stats.updated,
		(unsigned long)stats.evicted_bucket, (unsigned long)stats.evicted_hand,
		(unsigned long)stats.refused_quota);
	fp_arena_close(arena);
}

int
main(int argc, char **argv)
{
	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL);
	fprintf(stderr, "seed %lu\n", (unsigned long)seed);
	run(2048); // room for all
	run(100);  // always full
	run(8);    // two buckets
	return 0;
}
