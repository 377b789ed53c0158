// SPDX-License-Identifier: Apache-2.0
//
// A directory that is silent, or comes and goes: how long flows live, on a virtual clock, whatever the capacity.
#include "installer_fixture.h"

#define RED 7001
#define TICK_NS 100000000ull // of an idle data plane
#define LIFETIME_S 300
#define STALE_MAX_S 900

struct silence {
	struct world w;
	struct fp_flow_key key;
};

static void
directory_state(struct silence *s, bool answering)
{
	struct fp_record_directory_state r = {.answering = answering, .workers = 1};
	assert(apply(&s->w, &r, FP_RECORD_DIRECTORY_STATE, RED, 0) == 0);
}

static void
decide(struct silence *s)
{
	struct fp_record_flow r = {.key = s->key,
				   .action = FP_ACTION_NARROW,
				   .ingress_object = 100,
				   .lifetime_ms = LIFETIME_S * 1000,
				   .incarnation = 1};
	assert(apply(&s->w, &r, FP_RECORD_FLOW_INSTALL, RED, 0) == 0);
}

static struct silence
silence_begin(uint32_t flows)
{
	struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
	config.flows = flows;
	struct silence s = {.w = world_open(NULL, &config, NOW_NS)};
	assert(vnet_set(&s.w, RED, 1, STALE_MAX_S) == 0 && attachment_set(&s.w, RED, 100, 0) == 0);
	s.key = (struct fp_flow_key){.key_class = FP_CLASS_ROUTED,
				     .ingress = fp_ingress_by_vlan(s.w.arena, 0, 0)};
	memcpy(s.key.source + 12, (uint8_t[]){10, 0, 0, 1}, 4);
	memcpy(s.key.destination + 12, (uint8_t[]){10, 0, 0, 2}, 4);
	decide(&s);
	return s;
}

// As housekeeping does: the next tick at once as long as there is more to do.
static void
tick(struct silence *s)
{
	s->w.now_ns += TICK_NS;
	while (fp_installer_tick(s->w.in, s->w.now_ns))
		;
}

static uint32_t
lived_s(const struct silence *s)
{
	return (uint32_t)((s->w.now_ns - NOW_NS) / SECOND_NS);
}

static bool
forwards(const struct silence *s)
{
	return found_at(&s->w, &s->key, (uint32_t)(s->w.now_ns / SECOND_NS));
}

// Every tick of it, up to stale_max after the answer, and not a second longer.
static void
test_silence(uint32_t flows)
{
	struct silence s = silence_begin(flows);
	directory_state(&s, false);
	while (lived_s(&s) < STALE_MAX_S - 1) {
		tick(&s);
		assert(forwards(&s));
	}
	while (lived_s(&s) < STALE_MAX_S + 1)
		tick(&s);
	assert(!forwards(&s));
	world_close(&s.w);
}

// The line comes back for half a second every 20 s, and no answer ever does.
static void
test_a_line_that_flaps_prolongs_nothing(uint32_t flows)
{
	struct silence s = silence_begin(flows);
	while (lived_s(&s) < STALE_MAX_S + 100) {
		tick(&s);
		const uint64_t phase = (s.w.now_ns - NOW_NS) / TICK_NS % 200;
		if (phase == 0 || phase == 5)
			directory_state(&s, phase == 0);
		assert(lived_s(&s) > STALE_MAX_S - 1 || forwards(&s));
		assert(lived_s(&s) < STALE_MAX_S + 1 || !forwards(&s));
	}
	world_close(&s.w);
}

// An answer in between begins the time anew.
static void
test_an_answer_begins_it_anew(void)
{
	struct silence s = silence_begin(1000);
	directory_state(&s, false);
	while (lived_s(&s) < STALE_MAX_S / 2)
		tick(&s);
	decide(&s);
	while (lived_s(&s) < STALE_MAX_S + STALE_MAX_S / 2 - 1) {
		tick(&s);
		assert(forwards(&s));
	}
	while (lived_s(&s) < STALE_MAX_S + STALE_MAX_S / 2 + 1)
		tick(&s);
	assert(!forwards(&s));
	world_close(&s.w);
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
