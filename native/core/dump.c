// SPDX-License-Identifier: Apache-2.0
#include "../wire/tunnel_kind.h"
#include "fp_dump.h"

#include "arena_internal.h"

#define VISIT_MAX                                                                                            \
	65536 // records looked at in one call, so that a filter cannot keep a reader online for long

static bool flow_row(const struct fp_arena_view *view, uint32_t index, uint32_t vni,
		     struct fp_dump_flow *row);
static uint32_t location_tunnel(const struct fp_arena_view *view, uint32_t location);
static uint64_t location_object(const struct fp_arena_view *view, uint32_t location);
static bool location_row(const struct fp_arena_view *view, uint32_t index, uint32_t vni,
			 struct fp_dump_location *row);
static bool tunnel_row(const struct fp_arena_view *view, uint32_t index, struct fp_dump_tunnel *row);
static bool vnet_row(const struct fp_arena_view *view, uint32_t index, struct fp_dump_vnet *row);
static bool ingress_row(const struct fp_arena_view *view, uint32_t index, uint32_t vni,
			struct fp_dump_ingress *row);
static uint64_t revision_widen(uint64_t newest, uint32_t low);
static void copy_words(void *to, const void *from, size_t len_bytes);

// Walks a table from *cursor, `each` giving up to FITS rows per record.
#define WALK(total, fits, each)                                                                              \
	const struct fp_arena_view *view = fp_arena_tables(arena);                                           \
	uint32_t found = 0, visited = 0, i = *cursor;                                                        \
	fp_arena_reader_online((struct fp_arena *)(uintptr_t)arena, reader);                                 \
	for (; i < (total) && found + (fits) <= n && visited < VISIT_MAX; i++, visited++)                    \
		each;                                                                                        \
	fp_arena_reader_offline((struct fp_arena *)(uintptr_t)arena, reader);                                \
	*cursor = i < (total) ? i : FP_DUMP_END;                                                             \
	return found

static uint32_t
bucket_rows(const struct fp_arena_view *view, uint32_t bucket, uint32_t vni, struct fp_dump_flow *rows)
{
	uint32_t found = 0;
	for (uint32_t slot = 0; slot < FP_BUCKET_SLOTS; slot++) {
		uint32_t index = fp_load(&view->flow_bucket[bucket].slot[slot]) & view->flow_index_mask;
		if (index && index < view->flows)
			found += flow_row(view, index, vni, &rows[found]);
	}
	return found;
}

uint32_t
fp_dump_flows(const struct fp_arena *arena, uint32_t reader, uint32_t *cursor, uint32_t vni,
	      struct fp_dump_flow *rows, uint32_t n)
{
	WALK(view->flow_buckets, FP_BUCKET_SLOTS, found += bucket_rows(view, i, vni, rows + found));
}

uint32_t
fp_dump_locations(const struct fp_arena *arena, uint32_t reader, uint32_t *cursor, uint32_t vni,
		  struct fp_dump_location *rows, uint32_t n)
{
	WALK(view->locations, 1, found += location_row(view, i, vni, &rows[found]));
}

uint32_t
fp_dump_tunnels(const struct fp_arena *arena, uint32_t reader, uint32_t *cursor, struct fp_dump_tunnel *rows,
		uint32_t n)
{
	WALK(view->tunnels, 1, found += tunnel_row(view, i, &rows[found]));
}

uint32_t
fp_dump_vnets(const struct fp_arena *arena, uint32_t reader, uint32_t *cursor, struct fp_dump_vnet *rows,
	      uint32_t n)
{
	WALK(view->vnets, 1, found += vnet_row(view, i, &rows[found]));
}

uint32_t
fp_dump_ingresses(const struct fp_arena *arena, uint32_t reader, uint32_t *cursor, uint32_t vni,
		  struct fp_dump_ingress *rows, uint32_t n)
{
	WALK(view->ingresses, 1, found += ingress_row(view, i, vni, &rows[found]));
}

static bool
flow_row(const struct fp_arena_view *view, uint32_t index, uint32_t vni, struct fp_dump_flow *row)
{
	const struct fp_flow_entry *entry = &view->flow_entry[index];
	const struct fp_flow_side *side = &view->flow_side[index];
	fp_action_word action = fp_load(&entry->action);
	*row = (struct fp_dump_flow){.key = entry->key, .action = action};
	if (row->key.ingress >= view->ingresses)
		return false;
	const struct fp_ingress *ingress = &view->ingress[row->key.ingress];
	if (ingress->vnet >= view->vnets || (vni && ingress->vni != vni))
		return false;
	uint32_t now_s = __atomic_load_n(view->now_s, __ATOMIC_RELAXED);
	uint32_t used_s = __atomic_load_n(&entry->used_s, __ATOMIC_RELAXED);
	row->vni = ingress->vni;
	row->revision = revision_widen(view->vnet[ingress->vnet].revision, fp_load(&entry->revision));
	row->packets = (uint64_t)__atomic_load_n(&side->packets_sampled, __ATOMIC_RELAXED) * FP_SAMPLE_EVERY;
	row->bytes =
		(uint64_t)__atomic_load_n(&side->kbytes_sampled, __ATOMIC_RELAXED) * 64 * FP_SAMPLE_EVERY;
	row->idle_s = now_s > used_s ? now_s - used_s : 0;
	row->expires_in_s = (int32_t)(fp_load(&entry->expire_at_s) - now_s);
	if (fp_action_of(action) != FP_ACTION_DROP) {
		row->source_object = location_object(view, fp_action_source(action));
		row->destination_object = location_object(view, fp_action_destination(action));
		row->tunnel = location_tunnel(view, fp_action_destination(action));
	}
	return true;
}

static uint64_t
location_object(const struct fp_arena_view *view, uint32_t location)
{
	return location && location < view->locations ? view->location[location].object_id : 0;
}

static uint32_t
location_tunnel(const struct fp_arena_view *view, uint32_t location)
{
	if (location == 0 || location >= view->locations)
		return 0;
	struct fp_location_half half = *fp_location_now(&view->location[location]);
	if (half.kind == FP_LOCATION_SET && half.target < view->tunnel_sets)
		return view->tunnel_set[half.target].tunnel[0];
	return half.kind == FP_LOCATION_TUNNEL ? half.target : 0;
}

static bool
location_row(const struct fp_arena_view *view, uint32_t index, uint32_t vni, struct fp_dump_location *row)
{
	const struct fp_location *location = &view->location[index];
	if (fp_load(&location->state) != FP_LOCATION_LIVE || (vni && location->vni_way >> 8 != vni))
		return false;
	*row = (struct fp_dump_location){
		.object_id = location->object_id,
		.location = index,
		.vni = location->vni_way >> 8,
		.way = (uint8_t)location->vni_way,
		.half = *fp_location_now(location),
	};
	return true;
}

static bool
tunnel_row(const struct fp_arena_view *view, uint32_t index, struct fp_dump_tunnel *row)
{
	fp_tunnel_word word = fp_load(&view->tunnel[index]);
	uint8_t state = fp_tunnel_state(word);
	if (state == FP_TUNNEL_FREE || state == FP_TUNNEL_DYING)
		return false;
	*row = (struct fp_dump_tunnel){
		.tunnel = index,
		.mtu_bytes = fp_tunnel_mtu(word),
		.state = state,
	};
	copy_words(&row->info, &view->tunnel_info[index], sizeof(row->info));
	const struct tunnel_kind *kind = tunnel_kind(row->info.protocol);
	if (kind == NULL)
		return false;
	row->protocol = kind->name;
	row->inner_mtu_bytes = tunnel_inner_mtu_bytes(kind, row->mtu_bytes);
	uint32_t group = fp_tunnel_nexthops(word);
	if (group && group < view->nexthop_groups)
		row->nexthops = view->nexthops[group];
	return true;
}

static bool
vnet_row(const struct fp_arena_view *view, uint32_t index, struct fp_dump_vnet *row)
{
	if (!(fp_load(&view->vnet[index].flags) & FP_VNET_LIVE))
		return false;
	union {
		struct fp_vnet vnet;
		uint8_t head[offsetof(struct fp_vnet, changes)];
	} copy;
	copy_words(copy.head, &view->vnet[index], sizeof(copy.head));
	const struct fp_vnet *vnet = &copy.vnet;
	*row = (struct fp_dump_vnet){
		.vnet = index,
		.vni = vnet->vni,
		.quota_flows = vnet->quota_flows,
		.quota_misses_per_s = vnet->quota_misses_per_s,
		.stale_max_s = vnet->stale_max_s,
		.flows = vnet->flows,
		.drops_resident = vnet->drops_resident,
		.object_id = vnet->object_id,
		.incarnation = vnet->incarnation,
		.revision = vnet->revision,
		.in_force = fp_load(&vnet->in_force),
		.floor = vnet->floor,
		.worker = vnet->worker,
	};
	memcpy(row->gateway_mac, vnet->gateway_mac, sizeof(row->gateway_mac));
	memcpy(row->gateway_address, vnet->gateway_address, sizeof(row->gateway_address));
	return true;
}

static bool
ingress_row(const struct fp_arena_view *view, uint32_t index, uint32_t vni, struct fp_dump_ingress *row)
{
	if (!(fp_load(&view->ingress[index].flags) & FP_INGRESS_LIVE))
		return false;
	row->ingress = index;
	copy_words(&row->record, &view->ingress[index], sizeof(row->record));
	return vni == 0 || row->record.vni == vni;
}

// The newest revision with these low bits that is not after `newest`.
static uint64_t
revision_widen(uint64_t newest, uint32_t low)
{
	uint64_t wide = (newest & ~0xffffffffull) | low;
	return wide > newest && wide >> 32 ? wide - (1ull << 32) : wide;
}

// Members of these records change in place while they live; a copy may mix before and after, never worse.
static void
copy_words(void *to, const void *from, size_t len_bytes)
{
	const uint64_t *words = from;
	uint64_t *copy = to;
	for (size_t i = 0; i < len_bytes / sizeof(*words); i++)
		copy[i] = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
}
