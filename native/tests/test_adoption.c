// SPDX-License-Identifier: Apache-2.0
//
// Images that no data plane of ours leaves: each check of adoption drops what it is for, counts it, and keeps
// the rest; random damage never leads out of bounds and never leaves an arena that contradicts itself.
#include "arena_fixture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FLOWS 40

static char path[64];
static struct fp_arena_config config;
static struct fp_layout layout;
static uint8_t *image; // the closed arena's file
static uint32_t vnet, ingress, tunnel, header, nexthops, location[2];

static void *
record_at(enum fp_region_id region, uint32_t index)
{
	return image + layout.region[region].offset + layout.region[region].record_bytes * index;
}

static void
tunnel_make(struct fp_arena *arena)
{
	assert(fp_index_take(&arena->pool[FP_POOL_TUNNEL], &tunnel) == 0);
	assert(fp_index_take(&arena->pool[FP_POOL_HEADER], &header) == 0);
	assert(fp_index_take(&arena->pool[FP_POOL_NEXTHOPS], &nexthops) == 0);
	arena->view.tunnel_info[tunnel].object_id = 31;
	arena->view.header[header].len_bytes = 36;
	arena->view.nexthops[nexthops].count = 1;
	fp_store(&arena->view.tunnel[tunnel], fp_tunnel_make(header, nexthops, 1500, FP_TUNNEL_UP));
}

// Flows with an even number lead to the local location, the others to the one behind the tunnel.
static void
arena_fill(struct fp_arena *arena)
{
	vnet = vnet_new(arena, 100, 0);
	ingress = attachment_new(arena, vnet);
	tunnel_make(arena);
	location[0] = location_new(arena, vnet, ingress);
	location[1] = location_new(arena, vnet, ingress);
	arena->view.location[location[1]].half[0].kind = FP_LOCATION_TUNNEL;
	arena->view.location[location[1]].half[0].target = tunnel;
	for (uint32_t n = 0; n < FLOWS; n++) {
		const struct fp_flow_key key = key_of(ingress, n);
		const struct fp_flow_value value = {
			.action = fp_action_make(n % 2 ? FP_ACTION_ENCAPSULATE : FP_ACTION_DELIVER, 0, 0,
						 location[n % 2]),
			.expire_at_s = UINT32_MAX,
			.vnet = vnet,
		};
		assert(fp_flow_insert(arena, &key, &value) == 0);
	}
}

static void
image_open(void)
{
	unlink(path);
	config = small_config(256);
	assert(fp_layout_make(&config, &layout) == 0);
	struct fp_arena *arena = arena_new(path, &config);
	arena_fill(arena);
	fp_arena_close(arena);
	const int fd = open(path, O_RDWR);
	image = mmap(NULL, layout.len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert(fd >= 0 && image != MAP_FAILED);
	close(fd);
}

static struct fp_arena *
image_adopt(void)
{
	struct fp_arena *arena = arena_new(path, &config);
	assert(fp_arena_adoption(arena)->how == FP_ARENA_ADOPTED);
	return arena;
}

static void
image_close(struct fp_arena *arena)
{
	fp_arena_close(arena);
	munmap(image, layout.len_bytes);
	unlink(path);
}

static uint32_t
index_mask(void)
{
	uint32_t mask = 1;
	while (mask < layout.region[FP_REGION_FLOW_ENTRIES].records - 1)
		mask = mask << 1 | 1;
	return mask;
}

static struct fp_flow_bucket *
bucket_of(uint32_t number, uint32_t *slot)
{
	const struct fp_arena_header *head = record_at(FP_REGION_HEADER, 0);
	const struct fp_flow_key key = key_of(ingress, number);
	const uint64_t hash = fp_hash_flow(&head->secret, &key);
	struct fp_flow_bucket *bucket =
		record_at(FP_REGION_FLOW_BUCKETS,
			  (uint32_t)((hash >> 32) * layout.region[FP_REGION_FLOW_BUCKETS].records >> 32));

	for (*slot = 0; *slot < FP_BUCKET_SLOTS; (*slot)++) {
		const struct fp_flow_entry *entry =
			record_at(FP_REGION_FLOW_ENTRIES, bucket->slot[*slot] & index_mask());
		if (bucket->slot[*slot] && memcmp(&entry->key, &key, sizeof(key)) == 0)
			return bucket;
	}
	abort();
}

static bool
present(const struct fp_arena *arena, uint32_t number)
{
	const struct fp_flow_key key = key_of(ingress, number);
	fp_action_word word;
	return lookup(arena, &key, 1000, &word);
}

static void
test_an_untouched_image_is_kept_whole(void)
{
	image_open();
	struct fp_arena *arena = image_adopt();
	const struct fp_adoption_report *report = fp_arena_adoption(arena);

	assert(report->vnets == 1 && report->ingresses == 1 && report->tunnels == 1 &&
	       report->locations == 2);
	assert(report->flows == FLOWS);
	assert(report->dropped_range + report->dropped_twice + report->dropped_key + report->dropped_vnet +
		       report->dropped_location + report->dropped_tunnel ==
	       0);
	assert(arena->pool[FP_POOL_LOCATION].references[location[0]] == FLOWS / 2);
	assert(arena->pool[FP_POOL_TUNNEL].references[tunnel] == 1);
	assert(arena->pool[FP_POOL_INGRESS].references[ingress] == FLOWS + 1);
	assert(!fp_index_live(&arena->pool[FP_POOL_HEADER], header + 1));
	image_close(arena);
}

static void
test_a_slot_out_of_range_loses_only_its_flow(void)
{
	uint32_t slot;

	image_open();
	bucket_of(7, &slot)->slot[slot] = 0xfffffff0;
	struct fp_arena *arena = image_adopt();
	assert(fp_arena_adoption(arena)->dropped_range == 1 && fp_arena_adoption(arena)->flows == FLOWS - 1);
	assert(!present(arena, 7) && present(arena, 8));
	image_close(arena);
}

static void
test_an_entry_in_two_slots_stands_in_one(void)
{
	uint32_t slot, free_slot = 0;

	image_open();
	struct fp_flow_bucket *bucket = bucket_of(7, &slot);
	while (bucket->slot[free_slot])
		free_slot++;
	bucket->slot[free_slot] = bucket->slot[slot];
	struct fp_arena *arena = image_adopt();
	assert(fp_arena_adoption(arena)->dropped_twice == 1 && fp_arena_adoption(arena)->flows == FLOWS);
	assert(present(arena, 7));
	const struct fp_flow_key key = key_of(ingress, 7);
	assert(fp_flow_remove(arena, &key) == 0 && !present(arena, 7));
	image_close(arena);
}

static void
test_a_key_in_two_entries_stands_in_one(void)
{
	uint32_t slot, free_slot = 0;

	image_open();
	struct fp_flow_bucket *bucket = bucket_of(7, &slot);
	const uint32_t spare = FLOWS + 50;
	memcpy(record_at(FP_REGION_FLOW_ENTRIES, spare),
	       record_at(FP_REGION_FLOW_ENTRIES, bucket->slot[slot] & index_mask()), 64);
	while (bucket->slot[free_slot])
		free_slot++;
	bucket->slot[free_slot] = (bucket->slot[slot] & ~index_mask()) | spare;
	struct fp_arena *arena = image_adopt();
	assert(fp_arena_adoption(arena)->dropped_twice == 1 && fp_arena_adoption(arena)->flows == FLOWS);
	image_close(arena);
}

static void
test_a_key_that_does_not_fit_its_slot_is_dropped(void)
{
	uint32_t slot;

	image_open();
	bucket_of(7, &slot)->slot[slot] ^= 1u << 31;
	struct fp_flow_bucket *bucket = bucket_of(9, &slot);
	((struct fp_flow_entry *)record_at(FP_REGION_FLOW_ENTRIES, bucket->slot[slot] & index_mask()))
		->key.source[0] ^= 1;
	struct fp_arena *arena = image_adopt();
	assert(fp_arena_adoption(arena)->dropped_key == 2 && fp_arena_adoption(arena)->flows == FLOWS - 2);
	image_close(arena);
}

static void
test_a_dead_vnet_takes_all_of_it_along(void)
{
	image_open();
	((struct fp_vnet *)record_at(FP_REGION_VNETS, vnet))->flags = 0;
	struct fp_arena *arena = image_adopt();
	const struct fp_adoption_report *report = fp_arena_adoption(arena);
	assert(report->vnets == 0 && report->ingresses == 0 && report->locations == 0 && report->flows == 0);
	assert(report->tunnels == 1 && report->dropped_vnet == 1 + 2 + FLOWS);
	image_close(arena);
}

static void
test_a_dead_tunnel_takes_its_locations_and_their_flows(void)
{
	image_open();
	*(fp_tunnel_word *)record_at(FP_REGION_TUNNELS, tunnel) = 0;
	struct fp_arena *arena = image_adopt();
	const struct fp_adoption_report *report = fp_arena_adoption(arena);
	assert(report->locations == 1 && report->dropped_tunnel == 1);
	assert(report->flows == FLOWS / 2 && report->dropped_location == FLOWS / 2);
	assert(present(arena, 0) && !present(arena, 1));
	image_close(arena);
}

static void
test_a_location_that_was_dying_is_gone(void)
{
	image_open();
	((struct fp_location *)record_at(FP_REGION_LOCATIONS, location[0]))->state = FP_LOCATION_DYING;
	struct fp_arena *arena = image_adopt();
	assert(fp_arena_adoption(arena)->dropped_location == FLOWS / 2);
	assert(!fp_index_live(&arena->pool[FP_POOL_LOCATION], location[0]));
	assert(arena->view.location[location[0]].state == FP_LOCATION_FREE);
	image_close(arena);
}

static void
test_an_age_from_the_future_is_set_to_now(void)
{
	uint32_t slot;

	image_open();
	struct fp_flow_bucket *bucket = bucket_of(7, &slot);
	const uint32_t entry = bucket->slot[slot] & index_mask();
	((struct fp_flow_entry *)record_at(FP_REGION_FLOW_ENTRIES, entry))->used_s = UINT32_MAX;
	struct fp_arena *arena;
	assert(fp_arena_open(path, &config, NOW_NS, &arena) == 0);
	assert(fp_flow_at(arena, entry)->used_s == fp_arena_now_s(arena));
	image_close(arena);
}

// What no check may miss, whatever was damaged.
static void
consistency_check(struct fp_arena *arena)
{
	const struct fp_arena_view *view = &arena->view;
	uint32_t standing = 0, counted = 0;

	for (uint32_t i = 0; i < view->flow_buckets; i++)
		for (uint32_t slot = 0; slot < FP_BUCKET_SLOTS; slot++) {
			const uint32_t index = view->flow_bucket[i].slot[slot] & view->flow_index_mask;
			if (view->flow_bucket[i].slot[slot] == 0)
				continue;
			standing++;
			assert(index < view->flows && fp_index_live(&arena->pool[FP_POOL_FLOW], index));
			assert(fp_flow_find(arena, &view->flow_entry[index].key) == index);
		}
	for (uint32_t i = 1; i < view->vnets; i++)
		counted += fp_index_live(&arena->pool[FP_POOL_VNET], i) ? view->vnet[i].flows : 0;
	assert(standing == arena->pool[FP_POOL_FLOW].live && standing == counted);
	for (uint32_t i = 1; i < view->locations; i++) {
		const struct fp_location_half *half = fp_location_now(&view->location[i]);
		if (!fp_index_live(&arena->pool[FP_POOL_LOCATION], i))
			continue;
		assert(fp_index_live(&arena->pool[FP_POOL_VNET], view->location[i].vnet));
		if (half->kind == FP_LOCATION_TUNNEL)
			assert(fp_tunnel_state(fp_tunnel_at(arena, half->target)) != FP_TUNNEL_FREE);
	}
	for (uint32_t i = 1; i < view->tunnels; i++)
		if (fp_index_live(&arena->pool[FP_POOL_TUNNEL], i)) {
			assert(fp_header_at(arena, fp_tunnel_header(fp_tunnel_at(arena, i)))->len_bytes <=
			       FP_HEADER_BYTES_MAX);
			const uint32_t group = fp_tunnel_nexthops(fp_tunnel_at(arena, i));
			assert(fp_nexthops_at(arena, group));
			for (uint32_t k = 1; group && k < i; k++)
				assert(!fp_index_live(&arena->pool[FP_POOL_TUNNEL], k) ||
				       fp_tunnel_nexthops(fp_tunnel_at(arena, k)) != group);
		}
	// and it can be used: everything goes in and out again
	for (uint32_t n = 0; n < 600 && fp_index_live(&arena->pool[FP_POOL_INGRESS], ingress); n++) {
		const struct fp_flow_key key = key_of(ingress, n);
		const struct fp_flow_value value = {.action = fp_action_make(FP_ACTION_DROP, 0, 0, 1),
						    .expire_at_s = UINT32_MAX,
						    .vnet = view->ingress[ingress].vnet};
		assert(fp_flow_insert(arena, &key, &value) == 0);
		assert(n % 3 || fp_flow_remove(arena, &key) == 0);
	}
}

// Both would retire it, and one index would be given out twice.
static void
test_a_next_hop_group_of_two_tunnels_is_the_first_ones(void)
{
	image_open();
	fp_tunnel_word *words = record_at(FP_REGION_TUNNELS, 0), word = words[tunnel];
	const uint32_t group = fp_tunnel_nexthops(word), other = tunnel + 1,
		       its_header = fp_tunnel_header(word) + 1;
	assert(group && words[other] == 0);
	memcpy(record_at(FP_REGION_TUNNEL_INFOS, other), record_at(FP_REGION_TUNNEL_INFOS, tunnel),
	       sizeof(struct fp_tunnel_info));
	((struct fp_tunnel_info *)record_at(FP_REGION_TUNNEL_INFOS, other))->object_id++;
	memcpy(record_at(FP_REGION_HEADERS, its_header), record_at(FP_REGION_HEADERS, fp_tunnel_header(word)),
	       sizeof(struct fp_header));
	words[other] = fp_tunnel_make(its_header, group, fp_tunnel_mtu(word), FP_TUNNEL_UP);
	struct fp_arena *arena = image_adopt();
	assert(fp_arena_adoption(arena)->dropped_twice == 1 && fp_arena_adoption(arena)->tunnels == 2);
	assert(fp_tunnel_at(arena, tunnel) == word);
	assert(fp_tunnel_at(arena, other) ==
	       fp_tunnel_make(its_header, 0, fp_tunnel_mtu(word), FP_TUNNEL_UNRESOLVED));
	assert(arena->pool[FP_POOL_NEXTHOPS].live == 1);
	image_close(arena);
}

static void
test_random_damage_leaves_a_sound_arena(void)
{
	uint64_t seed = (uint64_t)time(NULL);

	fprintf(stderr, "  seed %lu\n", (unsigned long)seed);
	for (int round = 0; round < 300; round++) {
		image_open();
		const uint64_t hits = 1 + random_next(&seed) % 60;
		for (uint64_t i = 0; i < hits; i++) {
			// a region, then a byte of it; the header stays: a damaged one starts cold
			const uint64_t random = random_next(&seed);
			const struct fp_region *region = &layout.region[1 + random % (FP_REGION_MAX - 1)];
			const size_t used = region->record_bytes * region->records;
			image[region->offset + random_next(&seed) % (used < 4096 ? used : 4096)] ^=
				(uint8_t)(1 + (random >> 32) % 255);
		}
		struct fp_arena *arena = image_adopt();
		consistency_check(arena);
		image_close(arena);
	}
}

int
main(void)
{
	snprintf(path, sizeof(path), "/dev/shm/vnet-test-adoption-%d", getpid());
	RUN(test_an_untouched_image_is_kept_whole);
	RUN(test_a_slot_out_of_range_loses_only_its_flow);
	RUN(test_an_entry_in_two_slots_stands_in_one);
	RUN(test_a_key_in_two_entries_stands_in_one);
	RUN(test_a_key_that_does_not_fit_its_slot_is_dropped);
	RUN(test_a_dead_vnet_takes_all_of_it_along);
	RUN(test_a_dead_tunnel_takes_its_locations_and_their_flows);
	RUN(test_a_location_that_was_dying_is_gone);
	RUN(test_an_age_from_the_future_is_set_to_now);
	RUN(test_a_next_hop_group_of_two_tunnels_is_the_first_ones);
	RUN(test_random_damage_leaves_a_sound_arena);
	return 0;
}
