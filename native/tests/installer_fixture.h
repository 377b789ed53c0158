// SPDX-License-Identifier: Apache-2.0
//
// Tables that are made by records: an arena with its installer, whose hooks count what they are told and do nothing,
// and the records that most tests begin with. For tests of the writer, and a benchmark of it; arena_fixture.h is for
// tests of single tables, by hand.
//
//	struct world w = world_open(NULL, &config, NOW_NS);
//	assert(vnet_set(&w, RED, 1, 60) == 0);
//	assert(apply(&w, &record, FP_RECORD_LOCATION_SET, RED, revision) == 0);
//	world_close(&w);
#pragma once

#include "fixture.h"

#include "fp_flow_table.h"
#include "fp_install.h"

struct world {
	struct fp_arena *arena;
	struct fp_installer *in;
	uint64_t now_ns; // records are applied at this time
};

// What installers have said so far.
static struct {
	uint64_t released, refused, synced;
} said;

static inline void
said_release(void *, const struct fp_release *)
{
	said.released++;
}

static inline void
said_record(void *, uint8_t, const struct fp_record *record)
{
	said.refused += record->head.type == FP_RECORD_REFUSED;
	said.synced += record->head.type == FP_RECORD_SYNCED;
}

// "rack" is port 0; "p0" to "p9" are ports by their number.
static inline int
port_named(void *, const char *name, uint16_t *mtu_bytes)
{
	*mtu_bytes = 1500;
	if (name[0] == 'p' && name[1] >= '0' && name[1] <= '9' && name[2] == 0)
		return name[1] - '0';
	return strcmp(name, "rack") == 0 ? 0 : -1;
}

static inline void
frame_read(void *, uint8_t, uint32_t, uint32_t, const uint8_t *frame, uint32_t len_bytes)
{
	static volatile uint8_t ends; // a sanitizer looks on

	ends = frame[0] ^ frame[len_bytes - 1];
	(void)ends;
}

static const struct fp_installer_hooks quiet_hooks = {
	.release = said_release, .emit = said_record, .port_by_name = port_named, .send = frame_read};

static inline struct world
world_open(const char *path, const struct fp_arena_config *config, uint64_t now_ns)
{
	struct world w = {.now_ns = now_ns};
	const int rc = fp_arena_open(path, config, now_ns, &w.arena);

	if (rc != 0)
		fprintf(stderr, "fp_arena_open(%s): %s\n", path ? path : "anonymous", strerror(-rc));
	assert(rc == 0);
	fp_arena_tick(w.arena, now_ns);
	assert(fp_installer_create(w.arena, &quiet_hooks, &w.in) == 0);
	return w;
}

static inline void
world_close(struct world *w)
{
	fp_installer_destroy(w->in);
	fp_arena_close(w->arena);
}

// ---- records ---------------------------------------------------------------------------------------------

// The head of one that stands for itself.
static inline const struct fp_record *
headed(void *record, uint16_t type, uint32_t vni, uint64_t revision)
{
	struct fp_record *r = record;

	r->head = (struct fp_record_head){.type = type,
					  .version = FP_RECORD_VERSION,
					  .flags = FP_RECORD_FIRST | FP_RECORD_LAST,
					  .vni = vni,
					  .revision = revision};
	return r;
}

// From worker 0, next hops from control.
static inline int
apply_headed(struct world *w, const void *record)
{
	const struct fp_record *r = record;

	return fp_installer_apply(w->in, r->head.type == FP_RECORD_NEXTHOP_SET ? 0xff : 0, r, w->now_ns);
}

static inline int
apply(struct world *w, void *record, uint16_t type, uint32_t vni, uint64_t revision)
{
	return apply_headed(w, headed(record, type, vni, revision));
}

static inline int
vnet_set(struct world *w, uint32_t vni, uint64_t object_id, uint32_t stale_max_s)
{
	struct fp_record_vnet r = {.object_id = object_id, .incarnation = 1, .stale_max_s = stale_max_s};

	return apply(w, &r, FP_RECORD_VNET_SET, vni, 0);
}

static inline int
attachment_set(struct world *w, uint32_t vni, uint64_t object_id, uint16_t vlan)
{
	struct fp_record_attachment r = {.object_id = object_id, .port = "rack", .vlan = vlan};

	return apply(w, &r, FP_RECORD_ATTACHMENT_SET, vni, 0);
}

// ---- a reader --------------------------------------------------------------------------------------------

static inline void
reader_begins(struct world *w)
{
	assert(fp_arena_reader_register(w->arena, 0) == 0);
	fp_arena_reader_online(w->arena, 0);
}

static inline void
reader_ends(struct world *w)
{
	fp_arena_reader_offline(w->arena, 0);
	fp_arena_reader_unregister(w->arena, 0);
}

static inline bool
found_at(const struct world *w, const struct fp_flow_key *key, uint32_t now_s)
{
	uint64_t hash;
	fp_action_word word;
	uint32_t entry;

	return fp_flow_lookup_bulk(w->arena, &key, 1, now_s, &hash, &word, &entry) == 1;
}

static inline uint32_t
resident(const struct world *w)
{
	struct fp_flow_stats stats;

	fp_flow_stats(w->arena, &stats);
	return stats.resident;
}
