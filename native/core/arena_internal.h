// SPDX-License-Identifier: Apache-2.0
//
// What the writer's files share: the arena's header, its tables, and the private state that is rebuilt when
// it is opened. Only native/core includes this.
//
// Publishing. A record is filled while nothing leads to it, then one store publishes it; taking it out is
// one store as well, followed by fp_index_retire. Adoption believes a record only if that last store is
// there, and rebuilds every pool, name map and reference count from what it believes:
//
//	table       published by                            taken out by
//	V-net       flags |= FP_VNET_LIVE                   flags &= ~FP_VNET_LIVE
//	ingress     flags |= FP_INGRESS_LIVE                flags &= ~FP_INGRESS_LIVE
//	location    state = FP_LOCATION_LIVE                state = FP_LOCATION_DYING, later FREE
//	tunnel      word with state UP or UNRESOLVED        word with state DYING, later FREE
//	tunnel set  object_id != 0 (stored last)            object_id = 0 (stored first)
//	header,     index in a live tunnel's word           the word holds another
//	  next hops
//	flow        slot of a bucket                        slot = 0
//
// References, kept by fp_index_hold and fp_index_drop: flow -> ingress of its key, source and destination
// location; location (both halves that are in use) -> tunnel, set or ingress; set -> its tunnels. Headers,
// next-hop groups and V-nets are not counted: their owner retires them.
#pragma once

#include "fp_arena.h"
#include "fp_flow_table.h"
#include "index_pool.h"
#include "store.h"

#define FP_CLOCK_EVERY_NS                                                                                    \
	1000 // of estimated cost: so often whoever may spend only so much looks at the clock
#define FP_ARENA_MAGIC 0x76676e772d617231ull // "vgnw-ar1"
#define FP_ENDS_KEPT 8                       // of data planes that did not close the arena
#define FP_CRASHES_KEPT 3 // of these: that ended by a fault of their own, one after the other

enum fp_location_state { FP_LOCATION_FREE = 0, FP_LOCATION_LIVE = 1, FP_LOCATION_DYING = 2 };

// How a data plane ended that did not close the arena.
struct fp_arena_end {
	uint32_t found_s;  // boot-time seconds at which it was found, 0: there was none
	uint32_t fault;    // signal by which it ended itself; 0: not known, it was killed
	uint32_t suspects; // V-nets that it was at work for then
	uint32_t vni[FP_SUSPECTS_MAX];
};

// First page of the file. Only the one who holds its lock writes.
struct fp_arena_header {
	uint64_t magic;  // stored last when the arena is made
	uint64_t layout; // hash over every record's size and every capacity
	struct fp_secret secret;
	uint64_t incarnation; // random when made, one more at every open
	uint32_t clean;       // 1: closed in order
	uint32_t ticked_s;    // the arena's clock at its last tick
	uint64_t boot;        // hash of the kernel's boot id: the arena's clock starts anew with it
	uint8_t pad[8];
	struct fp_arena_end end;                // of this one, noted while it ends
	struct fp_arena_end ends[FP_ENDS_KEPT]; // that were found; newest first
};
static_assert(sizeof(struct fp_arena_header) <= 4096, "fp_arena_header: a page");

// Open addressing; a slot is free if its ingress is 0. ingress is stored last, so that a reader that sees it
// sees the key. A look-up ends at a slot that no key has passed over.
struct fp_locator_slot {
	struct fp_locator_key key;
	uint32_t ingress;
	uint16_t udp_port; // that the peer sends to; 0: not UDP
	uint16_t passed;   // keys that stand further on, although they begin here or before
	uint8_t zero[16];
};
static_assert(sizeof(struct fp_locator_slot) == 64, "fp_locator_slot");

enum fp_pool {
	FP_POOL_VNET,
	FP_POOL_INGRESS,
	FP_POOL_LOCATION,
	FP_POOL_TUNNEL,
	FP_POOL_TUNNEL_SET,
	FP_POOL_HEADER,
	FP_POOL_NEXTHOPS,
	FP_POOL_FLOW,
	FP_POOL_MAX,
};

struct fp_flow_private; // flow_table.c

struct fp_arena {
	struct fp_arena_view view; // first: readers cast to it

	// Tables that have accessors of their own; owners: ingress_table.c, locator_table.c, peering_table.c.
	uint32_t *vlans;                  // [port][4096] -> ingress
	struct fp_locator_slot *locators; // locator_mask + 1 slots, at least four times the ingresses
	uint32_t locator_mask;
	uint32_t peering_mask;
	uint32_t *peerings; // hash of (from V-net << 16 | to V-net), 0: free; peering_mask + 1 slots
	uint8_t *udp_ports; // [65536], host order -> enum fp_protocol

	struct fp_arena_header *header;
	struct fp_arena_config config;
	struct fp_index_pool pool[FP_POOL_MAX];
	struct rte_rcu_qsbr *qsbr;
	struct fp_flow_private *flow;
	uint64_t (*clock_ns)(void); // see fp_installer_hooks; NULL: none
	struct fp_adoption_report adoption;
	struct fp_arena_end left_out; // V-nets that adoption leaves out
	bool clock_went_back;         // since the last data plane's last tick: ages are unknown
	void *base;
	size_t len_bytes;
	int fd; // -1: anonymous

	uint32_t now_s __attribute__((aligned(FP_CACHE_LINE)));
	uint32_t generation; // never 0
	uint32_t flows_resident;
};

// After the stores that it is about: see fp_arena_generation.
static inline void
fp_arena_changed(struct fp_arena *arena)
{
	const uint32_t next = arena->generation + 1;
	__atomic_store_n(&arena->generation, next ? next : 1, __ATOMIC_RELEASE);
}

// Geometry of the flow table. Beside the configured flows, refusals have places that flows never take, so
// that neither evicts the other; and some entries are always on their way through a grace period.
static inline uint32_t
fp_flow_refusal_reserve(const struct fp_arena_config *config)
{
	return config->flows / 64 < 16 ? 16 : config->flows / 64;
}

static inline uint32_t
fp_flow_grace_reserve(const struct fp_arena_config *config)
{
	return config->flows / 64 < 64 ? 64 : config->flows / 64;
}

static inline uint32_t
fp_flow_capacity(const struct fp_arena_config *config) // indexes of the pool
{
	return config->flows + fp_flow_refusal_reserve(config) + fp_flow_grace_reserve(config);
}

// One bucket choice, six entries a bucket of sixteen on average: 0.01 % of a full table finds its bucket full,
// and the buckets of a million flows are 11 MB, which stay in a last-level cache that their entries do not fit.
static inline uint32_t
fp_flow_bucket_count(const struct fp_arena_config *config)
{
	return config->flows < 48 ? 8 : (config->flows + 5) / 6;
}

// arena_layout.c: the tables one after the other, each on its own page.
enum fp_region_id {
	FP_REGION_HEADER,
	FP_REGION_FLOW_BUCKETS,
	FP_REGION_FLOW_ENTRIES,
	FP_REGION_FLOW_SIDES,
	FP_REGION_VNETS,
	FP_REGION_INGRESSES,
	FP_REGION_VLANS,
	FP_REGION_LOCATORS,
	FP_REGION_UDP_PORTS,
	FP_REGION_PEERINGS,
	FP_REGION_LOCATIONS,
	FP_REGION_TUNNELS,
	FP_REGION_TUNNEL_INFOS,
	FP_REGION_TUNNEL_SETS,
	FP_REGION_HEADERS,
	FP_REGION_NEXTHOPS,
	FP_REGION_MAX,
};
struct fp_region {
	const char *name;
	size_t record_bytes, records, offset, bytes;
};
struct fp_layout {
	struct fp_region region[FP_REGION_MAX];
	size_t len_bytes;
	uint64_t hash; // over every record's size and every count
};
int fp_layout_make(const struct fp_arena_config *config, struct fp_layout *layout); // -EINVAL: out of range
void fp_layout_apply(struct fp_arena *arena, const struct fp_layout *layout);
uint32_t fp_pool_capacity(const struct fp_arena_config *config, enum fp_pool pool);

// arena_pages.c: length in whole pages of the file system; mapped, writable, touched, on huge pages if there are
// any. fd -1: anonymous.
size_t fp_pages_round(int fd, size_t len_bytes);
int fp_pages_map(int fd, size_t len_bytes, void **base);

// adoption.c: the pools hold nothing yet. Takes what passes every check into the pools, zeroes the rest.
void fp_adopt(struct fp_arena *arena);

// flow_table.c
int fp_flow_table_init(struct fp_arena *arena);
void fp_flow_table_free(struct fp_arena *arena);

// peering_table.c: may V-net `from` send into V-net `to`? Also before there is an installer.
bool fp_vnets_peered(const struct fp_arena *arena, uint32_t from, uint32_t to);
