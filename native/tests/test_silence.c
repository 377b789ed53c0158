// SPDX-License-Identifier: Apache-2.0
//
// A directory that is silent, or comes and goes: how long flows live, on a virtual clock, whatever the capacity.
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "fp_flow_table.h"
#include "fp_install.h"

#define RED 7001
#define START_NS (1000ull * 1000000000)
#define TICK_NS 100000000ull // of an idle data plane
#define LIFETIME_S 300
#define STALE_MAX_S 900

static void
on_release(void *, const struct fp_release *)
{
}

static void
on_emit(void *, uint8_t, const struct fp_record *)
{
}

static int
on_port(void *, const char *, uint16_t *mtu_bytes)
{
	*mtu_bytes = 1500;
	return 0;
}

static void
on_send(void *, uint8_t, uint32_t, uint32_t, const uint8_t *, uint32_t)
{
}

static const struct fp_installer_hooks hooks = {
	.release = on_release, .emit = on_emit, .port_by_name = on_port, .send = on_send};

struct world {
	struct fp_arena *arena;
	struct fp_installer *in;
	uint64_t now_ns;
	struct fp_flow_key key;
};

static int
apply(struct world *w, void *record, uint16_t type)
{
	struct fp_record *r = record;
	r->head = (struct fp_record_head){.type = type, .version = FP_RECORD_VERSION, .vni = RED};
	return fp_installer_apply(w->in, 0, r, w->now_ns);
}

static void
directory_state(struct world *w, bool answering)
{
	struct fp_record_directory_state r = {.answering = answering, .workers = 1};
	assert(apply(w, &r, FP_RECORD_DIRECTORY_STATE) == 0);
}

static void
decide(struct world *w)
{
	struct fp_record_flow r = {.key = w->key,
				   .action = FP_ACTION_NARROW,
				   .ingress_object = 100,
				   .lifetime_ms = LIFETIME_S * 1000,
				   .incarnation = 1};
	assert(apply(w, &r, FP_RECORD_FLOW_INSTALL) == 0);
}

static struct world
world_new(uint32_t flows)
{
	struct world w = {.now_ns = START_NS};
	struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
	config.flows = flows;
	assert(fp_arena_open(NULL, &config, w.now_ns, &w.arena) == 0);
	fp_arena_tick(w.arena, w.now_ns);
	assert(fp_installer_create(w.arena, &hooks, &w.in) == 0);
	struct fp_record_vnet v = {.object_id = 1, .incarnation = 1, .stale_max_s = STALE_MAX_S};
	struct fp_record_attachment a = {.object_id = 100, .port = "rack"};
	assert(apply(&w, &v, FP_RECORD_VNET_SET) == 0 && apply(&w, &a, FP_RECORD_ATTACHMENT_SET) == 0);
	w.key = (struct fp_flow_key){.key_class = FP_CLASS_ROUTED,
				     .ingress = fp_ingress_by_vlan(w.arena, 0, 0)};
	memcpy(w.key.source + 12, (uint8_t[]){10, 0, 0, 1}, 4);
	memcpy(w.key.destination + 12, (uint8_t[]){10, 0, 0, 2}, 4);
	decide(&w);
	return w;
}

static void
world_close(struct world *w)
{
	fp_installer_destroy(w->in);
	fp_arena_close(w->arena);
}

// As housekeeping does: the next tick at once as long as there is more to do.
static void
tick(struct world *w)
{
	w->now_ns += TICK_NS;
	while (fp_installer_tick(w->in, w->now_ns))
		;
}

static uint32_t
lived_s(const struct world *w)
{
	return (uint32_t)((w->now_ns - START_NS) / 1000000000);
}

static bool
forwards(const struct world *w)
{
	const uint32_t now_s = (uint32_t)(w->now_ns / 1000000000);
	const struct fp_flow_key *key[1] = {&w->key};
	uint64_t hash[1];
	fp_action_word word[1];
	uint32_t entry[1];
	return fp_flow_lookup_bulk(w->arena, key, 1, now_s, hash, word, entry) == 1;
}

// Every tick of it, up to stale_max after the answer, and not a second longer.
static void
test_silence(uint32_t flows)
{
	struct world w = world_new(flows);
	directory_state(&w, false);
	while (lived_s(&w) < STALE_MAX_S - 1) {
		tick(&w);
		assert(forwards(&w));
	}
	while (lived_s(&w) < STALE_MAX_S + 1)
		tick(&w);
	assert(!forwards(&w));
	world_close(&w);
}

// The line comes back for half a second every 20 s, and no answer ever does.
static void
test_a_line_that_flaps_prolongs_nothing(uint32_t flows)
{
	struct world w = world_new(flows);
	while (lived_s(&w) < STALE_MAX_S + 100) {
		tick(&w);
		const uint64_t phase = (w.now_ns - START_NS) / TICK_NS % 200;
		if (phase == 0 || phase == 5)
			directory_state(&w, phase == 0);
		assert(lived_s(&w) > STALE_MAX_S - 1 || forwards(&w));
		assert(lived_s(&w) < STALE_MAX_S + 1 || !forwards(&w));
	}
	world_close(&w);
}

// An answer in between begins the time anew.
static void
test_an_answer_begins_it_anew(void)
{
	struct world w = world_new(1000);
	directory_state(&w, false);
	while (lived_s(&w) < STALE_MAX_S / 2)
		tick(&w);
	decide(&w);
	while (lived_s(&w) < STALE_MAX_S + STALE_MAX_S / 2 - 1) {
		tick(&w);
		assert(forwards(&w));
	}
	while (lived_s(&w) < STALE_MAX_S + STALE_MAX_S / 2 + 1)
		tick(&w);
	assert(!forwards(&w));
	world_close(&w);
}

int
main(void)
{
	static const uint32_t capacity[] = {1000, 1000000, 16000000};
	for (int i = 0; i < 3; i++) {
		test_silence(capacity[i]);
		test_a_line_that_flaps_prolongs_nothing(capacity[i]);
		printf("capacity %u: as long as stale_max says\n", capacity[i]);
	}
	test_an_answer_begins_it_anew();
	return 0;
}
