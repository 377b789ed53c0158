// SPDX-License-Identifier: Apache-2.0
//
// The arena: one named file that holds every shared table, by index and never by pointer, so that a
// restarted data plane adopts it as it stands. Neither DPDK nor root is needed.
//
// Opening, closing, and everything below that changes a table: the one writer (the housekeeping thread, or a
// test). fp_arena_reader_*: each poll thread for itself.
//
//	struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
//	struct fp_arena *arena;
//	int rc = fp_arena_open("/dev/hugepages/vnet-gw1", &config, now_ns, &arena);  // makes it, or adopts what is there
//	...
//	fp_arena_close(arena);
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "fp_hash.h"
#include "fp_types.h"

struct fp_arena_config {
	uint32_t flows;     // resident at once; < 2^24
	uint32_t locations; // < 2^24
	uint32_t tunnels;   // < 2^19: each may hold two header slots and two next-hop groups
	uint32_t vnets;     // < 2^16
	uint32_t ingresses;
	uint32_t ports;                 // <= 64
	uint32_t threads;               // readers, <= 64
	uint32_t refusal_share_percent; // of a V-net's quota (or of the table) for drop decisions
};
#define FP_ARENA_CONFIG_DEFAULT                                                                              \
	{                                                                                                    \
		.flows = 1 << 16, .locations = 1 << 16, .tunnels = 1024, .vnets = 256, .ingresses = 4096,    \
		.ports = 16, .threads = 8, .refusal_share_percent = 10                                       \
	}

enum fp_adoption {
	FP_ARENA_NEW = 0,
	FP_ARENA_ADOPTED = 1,
	FP_ARENA_COLD_LAYOUT = 2,
	FP_ARENA_COLD_CRASHES = 3
};

// What adoption kept and what it dropped, by check.
struct fp_adoption_report {
	uint32_t how; // enum fp_adoption
	uint32_t vnets, ingresses, tunnels, locations, flows;
	uint32_t left_out; // V-nets that three crashes in a row have in common
	uint32_t dropped_range, dropped_twice, dropped_key, dropped_vnet, dropped_location, dropped_tunnel;
	uint64_t ns;
};

struct fp_arena;

// Memory that a configuration costs, by table, in bytes. names[] and bytes[] have room for n rows.
int fp_arena_cost(const struct fp_arena_config *config, const char **names, size_t *bytes, int n);

// path may be on hugetlbfs or tmpfs; NULL: anonymous memory. now_ns: the caller's clock, by which what is adopted is
// judged. -EBUSY: another data plane holds it.
int fp_arena_open(const char *path, const struct fp_arena_config *config, uint64_t now_ns,
		  struct fp_arena **arena);
void fp_arena_close(struct fp_arena *arena); // the file stays, to be adopted
const struct fp_adoption_report *fp_arena_adoption(const struct fp_arena *arena);
// The process ends by this signal while it is at work for these V-nets: for whoever opens the arena next. May be
// called in a signal handler.
#define FP_SUSPECTS_MAX 96
void fp_arena_note_fault(struct fp_arena *arena, int signal_number, const uint32_t *vnis, uint32_t n);
// What pages it lies on. Reads /proc: not for a thread that is in a hurry.
struct fp_arena_pages {
	size_t len_bytes;
	size_t huge_bytes;      // of these on huge pages
	size_t huge_page_bytes; // their size, 0: none
};
void fp_arena_pages(const struct fp_arena *arena, struct fp_arena_pages *pages);
uint64_t fp_arena_incarnation(const struct fp_arena *arena); // another at every open

// The arena's clock in seconds: CLOCK_BOOTTIME. The writer stores it once a tick, and the number of flows; readers read.
void fp_arena_tick(struct fp_arena *arena, uint64_t now_ns);
// What no reader can see any more comes free, in every table. Once a tick.
uint32_t fp_arena_reclaim(struct fp_arena *arena);

// Calls about indexes that were refused, in all tables: faults of the writer's, 0 unless something is wrong.
uint64_t fp_arena_indexes_misused(const struct fp_arena *arena);

// The configuration it was opened with: how many of each there can be.
const struct fp_arena_config *fp_arena_limits(const struct fp_arena *arena);

// Readers. thread: 0 .. config.threads-1. Offline before any wait.
int fp_arena_reader_register(struct fp_arena *arena, uint32_t thread);
void fp_arena_reader_unregister(struct fp_arena *arena, uint32_t thread);
void fp_arena_reader_online(struct fp_arena *arena, uint32_t thread);
void fp_arena_reader_offline(struct fp_arena *arena, uint32_t thread);
void fp_arena_reader_quiescent(struct fp_arena *arena, uint32_t thread);

// The steps of a look-up (fp_flow_table.h) as compiled for this processor.
struct fp_arena;
struct fp_flow_lookup {
	const char *variant; // its name
	void (*start)(const struct fp_arena *arena, const struct fp_flow_key *const *key, uint32_t n,
		      uint64_t *hash, uint32_t *entry);
	void (*find)(const struct fp_arena *arena, uint32_t n, const uint64_t *hash, uint32_t *entry);
	uint32_t (*finish)(const struct fp_arena *arena, const struct fp_flow_key *const *key, uint32_t n,
			   uint32_t now_s, const uint64_t *hash, fp_action_word *word, uint32_t *entry);
};

// Where the tables stand in this process, so that a poll thread follows an index inline: arrays of the records
// with their lengths; index 0 is there and never live. Does not change while the arena is open.
struct fp_arena_view {
	struct fp_vnet *vnet;
	struct fp_ingress *ingress;
	struct fp_location *location;
	fp_tunnel_word *tunnel;
	struct fp_tunnel_info *tunnel_info;
	struct fp_header *header;
	struct fp_nexthop_group *nexthops;
	struct fp_tunnel_set *tunnel_set;
	struct fp_flow_bucket *flow_bucket;
	struct fp_flow_entry *flow_entry;
	struct fp_flow_side *flow_side;
	uint32_t vnets, ingresses, locations, tunnels, headers, nexthop_groups, tunnel_sets, flows;
	uint32_t flow_buckets;
	uint32_t flow_index_mask; // bits of a bucket's slot that are the index of an entry
	uint32_t *now_s;          // see fp_arena_now_s
	uint32_t *generation;     // see fp_arena_generation
	uint32_t *flows_resident; // as of the last tick
	const struct fp_flow_lookup *flow_lookup;
	struct fp_closings *closings; // core/closing.h
	struct fp_secret secret;
};

// The view inside the arena: its first member.
static inline const struct fp_arena_view *
fp_arena_tables(const struct fp_arena *arena)
{
	return (const struct fp_arena_view *)arena;
}

// A copy, for a thread that wants it in its own lines.
static inline void
fp_arena_view(const struct fp_arena *arena, struct fp_arena_view *view)
{
	*view = *fp_arena_tables(arena);
}

static inline uint32_t
fp_arena_now_s(const struct fp_arena *arena)
{
	return __atomic_load_n(fp_arena_tables(arena)->now_s, __ATOMIC_RELAXED);
}

// Another number whenever a V-net, an ingress or a tunnel may have changed: what a poll thread has prepared from
// these is prepared anew. Reader's view; it is enough to look once a burst.
static inline uint32_t
fp_arena_generation(const struct fp_arena *arena)
{
	return __atomic_load_n(fp_arena_tables(arena)->generation, __ATOMIC_ACQUIRE);
}

static inline const struct fp_secret *
fp_arena_secret(const struct fp_arena *arena)
{
	return &fp_arena_tables(arena)->secret;
}

// Reader's view, by index; NULL (tunnel word: 0) for an index out of range. Valid until the next quiescent
// state.
#define FP_ARENA_AT(type, name, table, counted)                                                              \
	static inline type *name(const struct fp_arena *arena, uint32_t index)                               \
	{                                                                                                    \
		const struct fp_arena_view *view = fp_arena_tables(arena);                                   \
		return index < view->counted ? &view->table[index] : NULL;                                   \
	}
FP_ARENA_AT(const struct fp_vnet, fp_vnet_at, vnet, vnets)
FP_ARENA_AT(const struct fp_ingress, fp_ingress_at, ingress, ingresses)
FP_ARENA_AT(const struct fp_location, fp_location_at, location, locations)
FP_ARENA_AT(const struct fp_tunnel_info, fp_tunnel_info_at, tunnel_info, tunnels)
FP_ARENA_AT(const struct fp_header, fp_header_at, header, headers)
FP_ARENA_AT(const struct fp_nexthop_group, fp_nexthops_at, nexthops, nexthop_groups)
FP_ARENA_AT(const struct fp_tunnel_set, fp_tunnel_set_at, tunnel_set, tunnel_sets)
FP_ARENA_AT(struct fp_flow_entry, fp_flow_at, flow_entry, flows)
FP_ARENA_AT(struct fp_flow_side, fp_flow_side_at, flow_side, flows)
#undef FP_ARENA_AT

static inline fp_tunnel_word
fp_tunnel_at(const struct fp_arena *arena, uint32_t tunnel)
{
	const struct fp_arena_view *view = fp_arena_tables(arena);
	return tunnel < view->tunnels ? __atomic_load_n(&view->tunnel[tunnel], __ATOMIC_ACQUIRE) : 0;
}

// The half of a location that is valid now.
static inline const struct fp_location_half *
fp_location_now(const struct fp_location *location)
{
	return &location->half[__atomic_load_n(&location->selector, __ATOMIC_ACQUIRE) & 1];
}

// Ingress of a packet: index, 0 if none.
uint32_t fp_ingress_by_vlan(const struct fp_arena *arena, uint32_t port, uint32_t vlan);
uint32_t fp_ingress_by_locator(const struct fp_arena *arena, const struct fp_locator_key *key);
// enum fp_protocol that listens on this local UDP port (host order), 0 if none.
uint8_t fp_protocol_by_udp_port(const struct fp_arena *arena, uint16_t port);
