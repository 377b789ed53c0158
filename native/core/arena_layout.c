// SPDX-License-Identifier: Apache-2.0
//
// Where each table lies in the arena, what it costs, and the hash by which a later data plane knows whether
// it would read the same records.
#include "arena_internal.h"

#include <errno.h>

#include "fp_layouts.h"

#define PAGE_BYTES 4096
#define LAYOUT_VERSION 4 // counts up when a member keeps its name and place but not its meaning

static uint64_t
text_hash(const struct fp_secret *secret, const char *text)
{
	return fp_hash_bytes(secret, text, (uint32_t)strlen(text));
}

static bool
in_range(uint32_t value, uint32_t low, uint32_t high)
{
	return value >= low && value <= high;
}

static bool
config_valid(const struct fp_arena_config *config)
{
	return in_range(config->flows, 1, (1 << 24) - 1) && in_range(config->locations, 1, (1 << 24) - 1) &&
	       in_range(config->tunnels, 1, (1 << 19) - 1) && in_range(config->vnets, 1, (1 << 16) - 1) &&
	       in_range(config->ingresses, 1, (1 << 24) - 1) && in_range(config->ports, 1, 64) &&
	       in_range(config->threads, 1, 64) && config->refusal_share_percent <= 100;
}

// With the name, type, place and size of each member of every shared record, and the value of every number in them:
// two that change places in a record of the same size are another layout.
static uint64_t
members_hash(const struct fp_secret *secret, uint64_t hash)
{
	const uint64_t own[] = {
		offsetof(struct fp_locator_slot, ingress),     offsetof(struct fp_locator_slot, udp_port),
		offsetof(struct fp_locator_slot, passed),      offsetof(struct fp_arena_header, secret),
		offsetof(struct fp_arena_header, incarnation), offsetof(struct fp_arena_header, clean),
		offsetof(struct fp_arena_header, ends),        offsetof(struct fp_arena_header, boot)};
	hash ^= fp_hash_bytes(secret, own, sizeof(own));
	for (const struct fp_layout_member *m = fp_arena_layout_members; m->structure; m++) {
		const uint64_t words[] = {hash,
					  m->offset,
					  m->size_bytes,
					  text_hash(secret, m->structure),
					  text_hash(secret, m->member),
					  text_hash(secret, m->type)};
		hash = fp_hash_bytes(secret, words, sizeof(words));
	}
	for (const struct fp_layout_value *v = fp_arena_layout_values; v->enumeration; v++) {
		const uint64_t words[] = {hash, (uint64_t)v->value, text_hash(secret, v->name)};
		hash = fp_hash_bytes(secret, words, sizeof(words));
	}
	return hash;
}

static uint32_t
power_of_two_at_least(uint64_t value)
{
	uint32_t power = 64;
	while (power < value)
		power *= 2;
	return power;
}

uint32_t
fp_pool_capacity(const struct fp_arena_config *config, enum fp_pool pool)
{
	switch (pool) {
	case FP_POOL_VNET:
		return config->vnets;
	case FP_POOL_INGRESS:
		return config->ingresses;
	case FP_POOL_LOCATION:
		return config->locations;
	case FP_POOL_TUNNEL:
	case FP_POOL_TUNNEL_SET:
		return config->tunnels;
	case FP_POOL_HEADER: // a change takes a second slot until a grace period has passed
	case FP_POOL_NEXTHOPS:
		return config->tunnels * 2;
	case FP_POOL_FLOW:
		return fp_flow_capacity(config);
	case FP_POOL_MAX:
		break;
	}
	return 0;
}

// Records of a table that is indexed from 1: index 0 is there and means none.
static size_t
indexed(const struct fp_arena_config *config, enum fp_pool pool)
{
	return (size_t)fp_pool_capacity(config, pool) + 1;
}

int
fp_layout_make(const struct fp_arena_config *config, struct fp_layout *layout)
{
	if (!config_valid(config))
		return -EINVAL;

	const struct fp_region region[FP_REGION_MAX] = {
		[FP_REGION_HEADER] = {"header", sizeof(struct fp_arena_header), 1},
		[FP_REGION_FLOW_BUCKETS] = {"flow buckets", sizeof(struct fp_flow_bucket),
					    fp_flow_bucket_count(config)},
		[FP_REGION_FLOW_ENTRIES] = {"flow entries", sizeof(struct fp_flow_entry),
					    indexed(config, FP_POOL_FLOW)},
		[FP_REGION_FLOW_SIDES] = {"flow samples", sizeof(struct fp_flow_side),
					  indexed(config, FP_POOL_FLOW)},
		[FP_REGION_VNETS] = {"vnets", sizeof(struct fp_vnet), indexed(config, FP_POOL_VNET)},
		[FP_REGION_INGRESSES] = {"ingresses", sizeof(struct fp_ingress),
					 indexed(config, FP_POOL_INGRESS)},
		[FP_REGION_VLANS] = {"vlans", sizeof(uint32_t), (size_t)config->ports * 4096},
		[FP_REGION_LOCATORS] = {"locators", sizeof(struct fp_locator_slot),
					power_of_two_at_least((uint64_t)config->ingresses * 4)},
		[FP_REGION_UDP_PORTS] = {"udp ports", 1, 65536},
		[FP_REGION_PEERINGS] = {"peerings", sizeof(uint32_t),
					power_of_two_at_least((uint64_t)config->vnets * 8)},
		[FP_REGION_LOCATIONS] = {"locations", sizeof(struct fp_location),
					 indexed(config, FP_POOL_LOCATION)},
		[FP_REGION_TUNNELS] = {"tunnels", sizeof(fp_tunnel_word), indexed(config, FP_POOL_TUNNEL)},
		[FP_REGION_TUNNEL_INFOS] = {"tunnel infos", sizeof(struct fp_tunnel_info),
					    indexed(config, FP_POOL_TUNNEL)},
		[FP_REGION_TUNNEL_SETS] = {"tunnel sets", sizeof(struct fp_tunnel_set),
					   indexed(config, FP_POOL_TUNNEL_SET)},
		[FP_REGION_HEADERS] = {"headers", sizeof(struct fp_header), indexed(config, FP_POOL_HEADER)},
		[FP_REGION_NEXTHOPS] = {"next hops", sizeof(struct fp_nexthop_group),
					indexed(config, FP_POOL_NEXTHOPS)},
	};
	const struct fp_secret fixed = {{FP_ARENA_MAGIC, FP_HASH_LANE_1 + LAYOUT_VERSION}};
	uint64_t sizes[FP_REGION_MAX * 2];

	layout->len_bytes = 0;
	for (int i = 0; i < FP_REGION_MAX; i++) {
		struct fp_region *r = &layout->region[i];
		*r = region[i];
		r->offset = layout->len_bytes;
		r->bytes = (r->record_bytes * r->records + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
		layout->len_bytes += r->bytes;
		sizes[2 * i] = r->record_bytes;
		sizes[2 * i + 1] = r->records;
	}
	layout->hash = members_hash(&fixed, fp_hash_bytes(&fixed, sizes, sizeof(sizes)));
	return 0;
}

// 2^n - 1, the smallest that is not less than value.
static uint32_t
mask_over(uint32_t value)
{
	uint32_t mask = 1;
	while (mask < value)
		mask = mask << 1 | 1;
	return mask;
}

void
fp_layout_apply(struct fp_arena *arena, const struct fp_layout *layout)
{
	const struct fp_region *region = layout->region;
	struct fp_arena_view *view = &arena->view;

#define AT(id) ((void *)((uint8_t *)arena->base + region[id].offset))
#define RECORDS(id) ((uint32_t)region[id].records)
	arena->header = AT(FP_REGION_HEADER);
	arena->vlans = AT(FP_REGION_VLANS);
	arena->locators = AT(FP_REGION_LOCATORS);
	arena->locator_mask = RECORDS(FP_REGION_LOCATORS) - 1;
	arena->peerings = AT(FP_REGION_PEERINGS);
	arena->peering_mask = RECORDS(FP_REGION_PEERINGS) - 1;
	arena->udp_ports = AT(FP_REGION_UDP_PORTS);

	view->vnet = AT(FP_REGION_VNETS);
	view->vnets = RECORDS(FP_REGION_VNETS);
	view->ingress = AT(FP_REGION_INGRESSES);
	view->ingresses = RECORDS(FP_REGION_INGRESSES);
	view->location = AT(FP_REGION_LOCATIONS);
	view->locations = RECORDS(FP_REGION_LOCATIONS);
	view->tunnel = AT(FP_REGION_TUNNELS);
	view->tunnel_info = AT(FP_REGION_TUNNEL_INFOS);
	view->tunnels = RECORDS(FP_REGION_TUNNELS);
	view->tunnel_set = AT(FP_REGION_TUNNEL_SETS);
	view->tunnel_sets = RECORDS(FP_REGION_TUNNEL_SETS);
	view->header = AT(FP_REGION_HEADERS);
	view->headers = RECORDS(FP_REGION_HEADERS);
	view->nexthops = AT(FP_REGION_NEXTHOPS);
	view->nexthop_groups = RECORDS(FP_REGION_NEXTHOPS);
	view->flow_bucket = AT(FP_REGION_FLOW_BUCKETS);
	view->flow_buckets = RECORDS(FP_REGION_FLOW_BUCKETS);
	view->flow_entry = AT(FP_REGION_FLOW_ENTRIES);
	view->flow_side = AT(FP_REGION_FLOW_SIDES);
	view->flows = RECORDS(FP_REGION_FLOW_ENTRIES);
	view->flow_index_mask = mask_over(view->flows - 1);
	view->now_s = &arena->now_s;
	view->generation = &arena->generation;
	view->flows_resident = &arena->flows_resident;
	view->secret = arena->header->secret;
#undef AT
#undef RECORDS
}

int
fp_arena_cost(const struct fp_arena_config *config, const char **names, size_t *bytes, int n)
{
	struct fp_layout layout;
	size_t private_bytes = 0;
	int rc = fp_layout_make(config, &layout);

	if (rc < 0)
		return rc;
	// next, references and state of every index; for flows previous, V-net and kind instead of references
	for (int pool = 0; pool < FP_POOL_MAX; pool++)
		private_bytes += indexed(config, pool) * (pool == FP_POOL_FLOW ? 12 : 9);

	const int rows = FP_REGION_MAX + 1;
	for (int i = 0; i < n && i < rows; i++) {
		names[i] = i < FP_REGION_MAX ? layout.region[i].name : "writer's indexes";
		bytes[i] = i < FP_REGION_MAX ? layout.region[i].bytes : private_bytes;
	}
	return rows;
}
