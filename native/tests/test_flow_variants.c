// SPDX-License-Identifier: Apache-2.0
//
// Every variant of the look-up that this processor runs gives the same answers, for every length of a burst, with
// hits, misses and expired entries in it, at tables whose signatures are long, short and shared.
#include "../core/flow_internal.h"
#include "arena_fixture.h"

#define KEYS 20000
#define BURST_MAX 64

struct variant {
	const struct fp_flow_lookup *look;
	bool runs;
};

static uint32_t
variants_list(struct variant *variants)
{
	uint32_t count = 0;
	variants[count++] = (struct variant){&fp_flow_lookup_baseline, true};
#ifdef FP_FLOW_VARIANTS
	variants[count++] = (struct variant){&fp_flow_lookup_avx2, __builtin_cpu_supports("avx2") &&
									   __builtin_cpu_supports("bmi2") &&
									   __builtin_cpu_supports("aes")};
	variants[count++] =
		(struct variant){&fp_flow_lookup_avx512, __builtin_cpu_supports("avx512vbmi2") &&
								 __builtin_cpu_supports("avx512bw") &&
								 __builtin_cpu_supports("avx512vl") &&
								 __builtin_cpu_supports("aes")};
#endif
	return count;
}

struct answer {
	uint64_t hash[BURST_MAX];
	uint32_t hits;
	fp_action_word word[BURST_MAX];
	uint32_t entry[BURST_MAX];
};

// The oracle is the writer's own slot of finding a key, which shares no line with the readers'.
static void
answer_check(const struct fp_arena *arena, const struct answer *answer, const struct fp_flow_key *keys,
	     uint32_t n)
{
	uint32_t hits = 0;

	for (uint32_t i = 0; i < n; i++) {
		const uint32_t found = fp_flow_find(arena, &keys[i]);
		const struct fp_flow_entry *entry = &arena->view.flow_entry[found];
		const bool hit = found && entry->expire_at_s > arena->now_s;

		assert(answer->hash[i] == fp_hash_flow(fp_arena_secret(arena), &keys[i]));
		hits += hit;
		assert(answer->entry[i] == (hit ? found : 0) && answer->word[i] == (hit ? entry->action : 0));
	}
	assert(answer->hits == hits);
}

static void
bursts_check(const struct fp_arena *arena, uint32_t ingress, const struct variant *variant, uint64_t seed)
{
	for (uint32_t round = 0; round < 4 * BURST_MAX; round++) {
		struct fp_flow_key keys[BURST_MAX];
		const struct fp_flow_key *pointers[BURST_MAX];
		struct answer answer;
		const uint32_t n = round % (BURST_MAX + 1);

		for (uint32_t i = 0; i < n; i++) {
			keys[i] = key_of(ingress, (uint32_t)(random_next(&seed) % KEYS));
			pointers[i] = &keys[i];
		}
		variant->look->start(arena, pointers, n, answer.hash, answer.entry);
		variant->look->find(arena, n, answer.hash, answer.entry);
		answer.hits = variant->look->finish(arena, pointers, n, arena->now_s, answer.hash,
						    answer.word, answer.entry);
		answer_check(arena, &answer, keys, n);
	}
}

// Gives each free slot the signature of one that is taken, and leads it to another bucket's entry: many look-ups
// find another's key first.
static void
signatures_share(struct fp_arena *arena)
{
	const struct fp_arena_view *view = &arena->view;
	uint32_t stranger = 0;

	for (uint32_t b = 0; b < view->flow_buckets; b++) {
		struct fp_flow_bucket *bucket = &view->flow_bucket[b];
		uint32_t taken = 0;

		for (uint32_t slot = 0; slot < FP_BUCKET_SLOTS; slot++)
			if (bucket->slot[slot])
				taken = bucket->slot[slot];
		for (uint32_t slot = 0; slot < FP_BUCKET_SLOTS && taken && stranger; slot++) {
			if (bucket->slot[slot] == 0)
				bucket->slot[slot] = (taken & ~view->flow_index_mask) | stranger;
			else if (slot % 2 == 0) { // the key behind its double
				const uint32_t own = bucket->slot[slot];
				bucket->slot[slot] = (own & ~view->flow_index_mask) | stranger;
				for (uint32_t free_slot = slot + 1; free_slot < FP_BUCKET_SLOTS; free_slot++)
					if (bucket->slot[free_slot] == 0) {
						bucket->slot[free_slot] = own;
						break;
					}
			}
		}
		stranger = taken & view->flow_index_mask ? taken & view->flow_index_mask : stranger;
	}
}

static void
variants_check(uint32_t flows, bool shared)
{
	const struct fp_arena_config config = small_config(flows);
	struct variant variants[3];
	struct fp_arena *arena = arena_new(NULL, &config);
	const uint32_t vnet = vnet_new(arena, 1, 0), ingress = attachment_new(arena, vnet);
	const uint32_t location = location_new(arena, vnet, ingress);

	for (uint32_t i = 0; i < KEYS; i += 2) {
		const struct fp_flow_key key = key_of(ingress, i);
		const struct fp_flow_value value = {
			.action = fp_action_make(FP_ACTION_DELIVER, (uint8_t)i, location, location),
			.expire_at_s = i % 6 ? 2000 : 1000, // some have expired
			.vnet = vnet,
		};
		assert(fp_flow_insert(arena, &key, &value) == 0);
	}
	if (shared)
		signatures_share(arena);
	const uint32_t count = variants_list(variants);
	for (uint32_t v = 0; v < count; v++) {
		fprintf(stderr, "  %u flows, %s%s\n", flows, variants[v].look->variant,
			variants[v].runs ? "" : ": not on this processor");
		if (variants[v].runs)
			bursts_check(arena, ingress, &variants[v], 3 + v);
	}
	fp_arena_close(arena);
}

static void
test_all_variants_answer_as_the_writer_finds(void)
{
	variants_check(64, false); // most were evicted, buckets are full
	variants_check(KEYS, false);
	variants_check(4000000, false); // signatures of 9 bits
}

static void
test_a_key_behind_another_of_its_signature_is_found(void)
{
	variants_check(KEYS, true);
}

int
main(void)
{
	RUN(test_all_variants_answer_as_the_writer_finds);
	RUN(test_a_key_behind_another_of_its_signature_is_found);
	return 0;
}
