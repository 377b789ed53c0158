// SPDX-License-Identifier: Apache-2.0
//
// How long the data plane's one writer is away: rounds as housekeeping makes them (up to 64 records, a tick if one is
// due, answers), with much to do in them. And from a revocation's record to its effect, as a reader sees it.
//
//	writer_pause [flows ...]            default 1000000
//
// What is done: a port is forbidden in every V-net; 400 more scopes at once; a V-net's snapshot comes again without
// half of its locations; a V-net is removed; an attachment with a third of all locations is; the directory is silent.
// A round is measured twice: in the thread's own processor time, in which whoever else has the processor meanwhile does
// not count, and by the clock, in which it does. All is done TURNS times, each with tables of its own; the longest round
// is that of the turn where it was shortest, since what is the writer's own comes again in every turn, and what the
// machine adds does not: an interrupt, and another guest's time, which counts as the thread's.
//
// A table for people on stderr, a JSON line for each result on stdout.
#define _GNU_SOURCE
#include "installer_fixture.h"

#include <pthread.h>
#include <time.h>

#define VNETS 16u
#define PLACES 4096u // locations of each V-net
#define FIRST_VNI 100u
#define BATCH 64
#define ROUNDS_MAX (1u << 22)
#define EFFECTS 200
#define TURNS 3

struct writer {
	struct fp_arena *arena;
	struct fp_installer *in;
	uint64_t now_ns;
	uint32_t *round_ns, *wall_ns; // in processor time, by the clock
	uint32_t rounds;
	struct fp_record batch[BATCH];
	uint32_t n, next;
};

struct watch {
	struct fp_arena *arena;
	struct fp_flow_key key;
	uint32_t stop, armed; // armed: the next miss is stamped
	uint64_t missed_ns;
};

static uint64_t
clock_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static uint64_t
on_clock(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

// ---- rounds ----------------------------------------------------------------------------------

static void
round_make(struct writer *w)
{
	const uint64_t wall_began = clock_ns(CLOCK_MONOTONIC), began = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	const bool worked = w->next < w->n || fp_installer_due(w->in);
	if (w->next == 0 && w->n)
		fp_installer_foresee(w->in, w->batch, w->n);
	while (w->next < w->n) {
		const int rc = fp_installer_apply(w->in, 0, &w->batch[w->next], w->now_ns);
		if (rc == -EINPROGRESS || rc == -EAGAIN)
			break;
		assert(rc == 0);
		w->next++;
	}
	if (fp_installer_due(w->in) || w->next < w->n)
		fp_installer_tick(w->in, w->now_ns);
	fp_installer_sync(w->in);
	if (worked && w->rounds < ROUNDS_MAX) {
		w->round_ns[w->rounds] = (uint32_t)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - began);
		w->wall_ns[w->rounds++] = (uint32_t)(clock_ns(CLOCK_MONOTONIC) - wall_began);
	}
	if (w->next == w->n)
		w->n = w->next = 0;
}

static void
put(struct writer *w, void *record, uint16_t type, uint32_t vni, uint64_t revision)
{
	w->batch[w->n++] = *headed(record, type, vni, revision);
	while (w->n == BATCH)
		round_make(w);
}

static void
settle(struct writer *w)
{
	do
		round_make(w);
	while (w->n || fp_installer_due(w->in) || fp_installer_sync(w->in));
}

// ---- what there is ---------------------------------------------------------------------------

static void
vnet_put(struct writer *w, uint32_t vni)
{
	struct fp_record_vnet v = {.object_id = vni, .incarnation = 1, .stale_max_s = 3600};
	put(w, &v, FP_RECORD_VNET_SET, vni, 1);
}

static void
attachment_put(struct writer *w, uint32_t vni)
{
	struct fp_record_attachment a = {.object_id = vni * 10, .port = "rack", .vlan = (uint16_t)vni};
	put(w, &a, FP_RECORD_ATTACHMENT_SET, vni, 1);
}

static void
location_put(struct writer *w, uint32_t vni, uint32_t place)
{
	struct fp_record_location l = {.object_id = 1000 + place,
				       .target_id = vni * 10,
				       .kind = FP_LOCATION_LOCAL,
				       .mac = {2, 0, 0, 0, 0, 9}};
	put(w, &l, FP_RECORD_LOCATION_SET, vni, 1);
}

static struct fp_flow_key
key_of(const struct writer *w, uint32_t vni, uint32_t number, uint16_t port)
{
	struct fp_flow_key key = {.key_class = FP_CLASS_ROUTED,
				  .flags = FP_KEY_CONNECTION,
				  .protocol = 6,
				  .destination_port = __builtin_bswap16(port),
				  .ingress = fp_ingress_by_vlan(w->arena, 0, vni)};
	const uint32_t source = __builtin_bswap32(number), destination = __builtin_bswap32(number % PLACES);
	memcpy(key.source + 12, &source, 4);
	memcpy(key.destination + 12, &destination, 4);
	return key;
}

static void
flow_put(struct writer *w, uint32_t vni, uint32_t number, uint16_t port, uint64_t revision)
{
	struct fp_record_flow r = {.key = key_of(w, vni, number, port),
				   .action = FP_ACTION_DELIVER,
				   .ingress_object = vni * 10,
				   .destination_object = 1000 + number % PLACES,
				   .lifetime_ms = 300000,
				   .refresh_ms = 225000,
				   .incarnation = 1};
	put(w, &r, FP_RECORD_FLOW_INSTALL, vni, revision);
}

static void
forbid(struct writer *w, uint32_t vni, uint16_t low, uint16_t high, uint64_t revision)
{
	struct fp_record_change r = {.kind = FP_CHANGE_TIGHTEN,
				     .incarnation = 1,
				     .scope = {.protocol = 6, .port_low = low, .port_high = high}};
	put(w, &r, FP_RECORD_CHANGE, vni, revision);
}

static void
fill(struct writer *w, uint32_t flows)
{
	for (uint32_t v = 0; v < VNETS; v++) {
		vnet_put(w, FIRST_VNI + v);
		attachment_put(w, FIRST_VNI + v);
		for (uint32_t place = 0; place < PLACES; place++)
			location_put(w, FIRST_VNI + v, place);
	}
	settle(w);
	for (uint32_t i = 0; i < flows; i++)
		flow_put(w, FIRST_VNI + i % VNETS, i / VNETS, (uint16_t)(80 + i / VNETS % 8), 1);
	settle(w);
	w->rounds = 0;
}

// ---- what is done ----------------------------------------------------------------------------

static void
much_is_done(struct writer *w)
{
	for (uint32_t v = 0; v < VNETS; v++)
		forbid(w, FIRST_VNI + v, 80, 80, 2);
	settle(w);
	for (uint16_t port = 10000; port < 10400; port++)
		forbid(w, FIRST_VNI + 1, port, port, 2);
	settle(w);

	struct fp_record_snapshot snapshot = {.incarnation = 1};
	put(w, &snapshot, FP_RECORD_SNAPSHOT_BEGIN, FIRST_VNI + 2, 3);
	vnet_put(w, FIRST_VNI + 2);
	attachment_put(w, FIRST_VNI + 2);
	for (uint32_t place = 0; place < PLACES; place += 2)
		location_put(w, FIRST_VNI + 2, place);
	put(w, &snapshot, FP_RECORD_SNAPSHOT_END, FIRST_VNI + 2, 3);
	settle(w);

	struct fp_record_vnet gone = {.object_id = FIRST_VNI + 3};
	put(w, &gone, FP_RECORD_VNET_REMOVE, FIRST_VNI + 3, 3);
	settle(w);
	struct fp_record_attachment left = {.object_id = (FIRST_VNI + 4) * 10ull};
	put(w, &left, FP_RECORD_ATTACHMENT_REMOVE, FIRST_VNI + 4, 3);
	settle(w);

	struct fp_record_directory_state silent = {.answering = 0, .workers = 1};
	put(w, &silent, FP_RECORD_DIRECTORY_STATE, 0, 0);
	settle(w);
	for (int s = 0; s < 300; s++) {
		w->now_ns += SECOND_NS;
		while (fp_installer_tick(w->in, w->now_ns))
			round_make(w);
	}
	silent.answering = 1;
	put(w, &silent, FP_RECORD_DIRECTORY_STATE, 0, 0);
	settle(w);
}

static void *
watch_on(void *p)
{
	struct watch *watch = p;
	const struct fp_flow_key *key = &watch->key;
	assert(fp_arena_reader_register(watch->arena, 0) == 0);
	fp_arena_reader_online(watch->arena, 0);
	while (!__atomic_load_n(&watch->stop, __ATOMIC_ACQUIRE)) {
		uint64_t hash;
		fp_action_word word;
		uint32_t entry;
		const uint32_t armed = __atomic_load_n(&watch->armed, __ATOMIC_ACQUIRE);
		const uint32_t hits = fp_flow_lookup_bulk(watch->arena, &key, 1, fp_arena_now_s(watch->arena),
							  &hash, &word, &entry);
		if (armed && hits == 0) {
			watch->missed_ns = clock_ns(CLOCK_MONOTONIC);
			__atomic_store_n(&watch->armed, 0, __ATOMIC_RELEASE);
		}
		fp_arena_reader_quiescent(watch->arena, 0);
	}
	fp_arena_reader_offline(watch->arena, 0);
	fp_arena_reader_unregister(watch->arena, 0);
	return NULL;
}

// Each begins while the walk of the one before goes on.
static void
effects_measure(struct writer *w, uint32_t *effect_ns)
{
	struct watch watch = {.arena = w->arena, .key = key_of(w, FIRST_VNI, 0, 5000)};
	pthread_t reader;
	assert(pthread_create(&reader, NULL, watch_on, &watch) == 0);
	for (uint32_t i = 0; i < EFFECTS; i++) {
		flow_put(w, FIRST_VNI, 0, 5000, 10 + i);
		while (w->n)
			round_make(w);
		__atomic_store_n(&watch.armed, 1, __ATOMIC_RELEASE);
		const uint64_t began = clock_ns(CLOCK_MONOTONIC);
		forbid(w, FIRST_VNI, 5000, 5000, 11 + i);
		while (__atomic_load_n(&watch.armed, __ATOMIC_ACQUIRE))
			round_make(w);
		effect_ns[i] = (uint32_t)(watch.missed_ns - began);
		for (int more = 0; more < 20; more++)
			round_make(w);
	}
	__atomic_store_n(&watch.stop, 1, __ATOMIC_RELEASE);
	pthread_join(reader, NULL);
	settle(w);
}

// ---- figures ---------------------------------------------------------------------------------

static int
by_size(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

struct figure {
	double p50_us, p99_us, p999_us, most_us;
};

static struct figure
figure_of(const uint32_t *given_ns, uint32_t n)
{
	uint64_t *ns = calloc(n, sizeof(*ns));
	assert(ns);
	for (uint32_t i = 0; i < n; i++)
		ns[i] = given_ns[i];
	qsort(ns, n, sizeof(*ns), by_size);
	const struct figure figure = {
		.p50_us = (double)ns[n / 2] / 1e3,
		.p99_us = (double)ns[n - 1 - n / 100] / 1e3,
		.p999_us = (double)ns[n - 1 - n / 1000] / 1e3,
		.most_us = (double)ns[n - 1] / 1e3,
	};
	free(ns);
	return figure;
}

// Of the turn where the longest was shortest.
static const struct figure *
best_of(const struct figure *turn)
{
	const struct figure *best = turn;
	for (int i = 1; i < TURNS; i++)
		if (turn[i].most_us < best->most_us)
			best = &turn[i];
	return best;
}

// wall: of the same by the clock, NULL: it is by the clock.
static void
print(const char *scenario, uint32_t flows, const struct figure *turn, const struct figure *wall)
{
	const struct figure *best = best_of(turn);
	fprintf(stderr, "%-14s %9u  %8.1f  %8.1f  %8.1f  %9.1f", scenario, flows, best->p50_us, best->p99_us,
		best->p999_us, best->most_us);
	printf("{\"scenario\": \"%s\", \"flows\": %u, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, "
	       "\"seconds\": %.7f, \"turns\": %d",
	       scenario, flows, best->p50_us, best->p99_us, best->p999_us, best->most_us / 1e6, TURNS);
	if (wall) {
		best = best_of(wall);
		fprintf(stderr, "   by the clock %8.1f  %9.1f", best->p999_us, best->most_us);
		printf(", \"wall_p999_us\": %.2f, \"wall_seconds\": %.7f", best->p999_us,
		       best->most_us / 1e6);
	}
	fprintf(stderr, "\n");
	printf("}\n");
	fflush(stdout);
}

static void
turn(uint32_t flows, struct figure *effect, struct figure *pause, struct figure *wall)
{
	struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
	struct writer w = {.now_ns = 1000 * SECOND_NS,
			   .round_ns = calloc(ROUNDS_MAX, sizeof(uint32_t)),
			   .wall_ns = calloc(ROUNDS_MAX, sizeof(uint32_t))};
	uint32_t effect_ns[EFFECTS];
	config.flows = flows + flows / 8;
	config.locations = 4 * VNETS * PLACES;
	assert(w.round_ns && w.wall_ns && fp_arena_open(NULL, &config, 1000000000, &w.arena) == 0);
	fp_arena_tick(w.arena, w.now_ns);
	struct fp_installer_hooks hooks = quiet_hooks;
	hooks.clock_ns = on_clock;
	assert(fp_installer_create(w.arena, &hooks, &w.in) == 0);
	fill(&w, flows);
	effects_measure(&w, effect_ns);
	*effect = figure_of(effect_ns, EFFECTS);
	much_is_done(&w);
	*pause = figure_of(w.round_ns, w.rounds);
	*wall = figure_of(w.wall_ns, w.rounds);
	fp_installer_destroy(w.in);
	fp_arena_close(w.arena);
	free(w.round_ns);
	free(w.wall_ns);
}

static void
run(uint32_t flows)
{
	struct figure effect[TURNS], pause[TURNS], wall[TURNS];
	for (int i = 0; i < TURNS; i++)
		turn(flows, &effect[i], &pause[i], &wall[i]);
	print("writer-pause", flows, pause, wall);
	print("writer-effect", flows, effect, NULL);
}

int
main(int argc, char **argv)
{
	fprintf(stderr, "%-14s %9s  %8s  %8s  %8s  %9s\n", "scenario", "flows", "p50 us", "p99 us", "p999 us",
		"most us");
	for (int i = 1; i < argc; i++) {
		const uint32_t flows = (uint32_t)strtoul(argv[i], NULL, 0);
		if (flows < 1000 || flows > 10000000) {
			fprintf(stderr, "error: %s is no number of flows; fix: 1000 to 10000000\n", argv[i]);
			return 2;
		}
		run(flows);
	}
	if (argc == 1)
		run(1000000);
	return 0;
}
