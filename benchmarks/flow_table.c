// SPDX-License-Identifier: Apache-2.0
//
// The flow table against rte_hash (lock-free readers, RCU): cycles per look-up of the product's 44-byte key,
// hash included, in bursts of 32 in random order. Both live in the same process and on pages of the same
// size, and are measured in turn, a few milliseconds each, so that whatever else the machine does hits both.
// Inserts are timed as the tables are filled; evictions, of ours only, by new keys when it is full.
// The keys of a burst lie in the first-level cache, as they do after parsing.
//
//	flow_table [entries ...]            default 1000 10000 100000 1000000
//
// A table for people on stderr, a JSON line for each result on stdout.
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_malloc.h>
#include <rte_rcu_qsbr.h>

#include "../native/core/arena_internal.h"

#define BURST 32
#define BURSTS 16     // prepared at once: 22 KB of keys
#define BATCHES 96    // timed in one turn: 49 152 look-ups
#define TURNS 15
#define EVICTIONS 4096 // in one turn
#define UPDATES_PER_S 200000
#define HUGE_BYTES (2u << 20)
#define HEAP_BYTES_PER_ENTRY 192 // room for rte_hash: address space, touched as it is used
#define HEAP_BYTES_LEAST (512ull << 20)

enum table { OURS, RTE_HASH, TABLES };
enum operation { HIT, MISS, INSERT, EVICT };
static const char *const table_names[TABLES] = { "fp_flow", "rte_hash" };
static const char *const operation_names[] = { "hit", "miss", "insert", "evict" };

struct figure {
	double cycles[TURNS];
	uint64_t lookups, hits, updates, tsc;
};

struct bench {
	uint32_t entries;
	struct fp_arena *arena;
	uint32_t vnet, ingress, location;
	struct rte_hash *hash;
	struct rte_rcu_qsbr *qsbr;
	size_t bytes[TABLES];
	uint32_t resident[TABLES];
	struct figure filling[TABLES];
	int heap_socket;
	int writer_target; // enum table, -1: rest, -2: end
	uint64_t updates;
};

static void report(const struct bench *bench, enum table table, enum operation operation, bool with_writer,
		   struct figure *figure);

static uint64_t
mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static void
die(const char *what, int rc)
{
	fprintf(stderr, "error: %s: %s\n", what, strerror(rc < 0 ? -rc : rc));
	exit(1);
}

// Flow n: two IPv4 addresses of 10.0.0.0/8.
static void
key_make(const struct bench *bench, uint32_t n, struct fp_flow_key *key)
{
	const uint64_t random = mix(n + 1);

	*key = (struct fp_flow_key){ .key_class = FP_CLASS_BRIDGED, .ingress = bench->ingress };
	memcpy(key->source + 12, &random, 4);
	memcpy(key->destination + 12, (const uint8_t *)&random + 4, 4);
	key->source[12] = key->destination[12] = 10;
	memcpy(key->source + 13, &n, 3); // no two alike
}

// ---- the tables ------------------------------------------------------------------------------

static void
world_make(struct bench *bench)
{
	struct fp_arena *arena = bench->arena;
	const struct fp_arena_view *view = &arena->view;

	if (fp_index_take(&arena->pool[FP_POOL_VNET], &bench->vnet) ||
	    fp_index_take(&arena->pool[FP_POOL_INGRESS], &bench->ingress) ||
	    fp_index_take(&arena->pool[FP_POOL_LOCATION], &bench->location))
		die("arena", ENOSPC);
	view->vnet[bench->vnet].flags = FP_VNET_LIVE;
	view->ingress[bench->ingress].vnet = (uint16_t)bench->vnet;
	view->ingress[bench->ingress].flags = FP_INGRESS_LIVE;
	view->location[bench->location].vnet = (uint16_t)bench->vnet;
	view->location[bench->location].state = FP_LOCATION_LIVE;
}

static int
ours_put(struct bench *bench, const struct fp_flow_key *key)
{
	const struct fp_flow_value value = {
		.action = fp_action_make(FP_ACTION_DELIVER, 0, bench->location, bench->location),
		.expire_at_s = UINT32_MAX,
		.vnet = bench->vnet,
	};
	return fp_flow_insert(bench->arena, key, &value);
}

static size_t
flow_bytes(const struct fp_arena_config *config)
{
	const char *names[32];
	size_t bytes[32], sum = 0;
	struct fp_arena_config none = *config;

	none.flows = 1;
	const int rows = fp_arena_cost(config, names, bytes, 32);
	for (int i = 0; i < rows; i++)
		sum += bytes[i];
	fp_arena_cost(&none, names, bytes, 32);
	for (int i = 0; i < rows; i++)
		sum -= bytes[i];
	return sum;
}

static void
ours_insert(struct bench *bench, uint32_t n, const struct fp_flow_key *key)
{
	(void)n;
	const int put = ours_put(bench, key);

	if (put < 0)
		die("fp_flow_insert", put);
}

static void
theirs_insert(struct bench *bench, uint32_t n, const struct fp_flow_key *key)
{
	bench->resident[RTE_HASH] += rte_hash_add_key_data(bench->hash, key, (void *)(uintptr_t)(n + 1)) == 0;
}

// Inserts all keys, in TURNS parts that are timed. Making a key is timed with it.
static void
fill(struct bench *bench, enum table table, void (*insert)(struct bench *, uint32_t, const struct fp_flow_key *))
{
	struct figure *figure = &bench->filling[table];

	for (uint32_t turn = 0; turn < TURNS; turn++) {
		const uint32_t from = (uint32_t)((uint64_t)bench->entries * turn / TURNS),
			       to = (uint32_t)((uint64_t)bench->entries * (turn + 1) / TURNS);
		const uint64_t start = rte_rdtsc_precise();

		for (uint32_t n = from; n < to; n++) {
			struct fp_flow_key key;
			key_make(bench, n, &key);
			insert(bench, n, &key);
		}
		figure->cycles[turn] = (double)(rte_rdtsc_precise() - start) / (to > from ? to - from : 1);
	}
}

static void
ours_make(struct bench *bench)
{
	struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
	struct fp_flow_stats stats;

	config.flows = bench->entries;
	config.threads = 1;
	const int rc = fp_arena_open(NULL, &config, &bench->arena);
	if (rc < 0)
		die("fp_arena_open", rc);
	fp_arena_tick(bench->arena, 1000000000);
	world_make(bench);
	fill(bench, OURS, ours_insert);
	fp_flow_stats(bench->arena, &stats);
	bench->resident[OURS] = stats.resident;
	bench->bytes[OURS] = flow_bytes(&config);
	fp_arena_reader_register(bench->arena, 0);
}

static size_t
heap_used(const struct bench *bench)
{
	struct rte_malloc_socket_stats stats;
	return rte_malloc_get_socket_stats(bench->heap_socket, &stats) ? 0 : stats.heap_allocsz_bytes;
}

static void
theirs_make(struct bench *bench)
{
	struct rte_hash_parameters parameters = {
		.name = "baseline",
		.entries = bench->entries + bench->entries / 32 + 128, // as many to spare as ours
		.key_len = sizeof(struct fp_flow_key),
		.socket_id = bench->heap_socket,
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF,
	};
	const size_t before = heap_used(bench);

	bench->hash = rte_hash_create(&parameters);
	if (!bench->hash)
		die("rte_hash_create", rte_errno);
	bench->bytes[RTE_HASH] = heap_used(bench) - before;
	if (posix_memalign((void **)&bench->qsbr, 64, rte_rcu_qsbr_get_memsize(1)))
		die("memory", ENOMEM);
	rte_rcu_qsbr_init(bench->qsbr, 1);
	struct rte_hash_rcu_config rcu = { .v = bench->qsbr, .mode = RTE_HASH_QSBR_MODE_DQ };
	const int rc = rte_hash_rcu_qsbr_add(bench->hash, &rcu);
	if (rc)
		die("rte_hash_rcu_qsbr_add", rte_errno);
	rte_rcu_qsbr_thread_register(bench->qsbr, 0);
	fill(bench, RTE_HASH, theirs_insert);
}

// ---- the writer ------------------------------------------------------------------------------

static void
update_once(struct bench *bench, enum table table, uint32_t n, bool remove)
{
	struct fp_flow_key key;

	key_make(bench, n, &key);
	if (table == OURS && remove)
		fp_flow_remove(bench->arena, &key);
	if (table == RTE_HASH && remove)
		rte_hash_del_key(bench->hash, &key);
	if (remove)
		return;
	// Either may be short of entries until the reader was quiescent.
	while (table == OURS ? ours_put(bench, &key) == -EAGAIN
			     : rte_hash_add_key_data(bench->hash, &key, (void *)(uintptr_t)(n + 1)) == -ENOSPC)
		rte_pause();
}

// Removes a random flow, puts it back, and so on, at a fixed rate.
static void *
writer(void *argument)
{
	struct bench *bench = argument;
	const uint64_t pause = rte_get_tsc_hz() / UPDATES_PER_S;
	uint64_t random = 1, due = rte_rdtsc();
	uint32_t n = 0;
	int table = -1, before = -1;
	bool remove = true;

	for (;;) {
		table = __atomic_load_n(&bench->writer_target, __ATOMIC_ACQUIRE);
		if (table == -2)
			return NULL;
		if (table != before && before >= 0 && !remove) { // put back what is missing there
			update_once(bench, (enum table)before, n, false);
			remove = true;
		}
		before = table;
		if (rte_rdtsc() < due || table < 0)
			continue;
		due = rte_rdtsc() - due > 1000 * pause ? rte_rdtsc() : due + pause;
		if (remove)
			n = (uint32_t)(mix(random++) % bench->entries);
		update_once(bench, (enum table)table, n, remove);
		remove = !remove;
		__atomic_fetch_add(&bench->updates, 1, __ATOMIC_RELAXED);
	}
}

// ---- the reader ------------------------------------------------------------------------------

struct burst {
	struct fp_flow_key key[BURST];
	const void *pointer[BURST];
};

static void
quiescent(struct bench *bench, enum table table)
{
	if (table == OURS)
		fp_arena_reader_quiescent(bench->arena, 0);
	else
		rte_rcu_qsbr_quiescent(bench->qsbr, 0);
}

static uint64_t
ours_burst(struct bench *bench, const struct burst *burst)
{
	const struct fp_flow_key *const *key = (const struct fp_flow_key *const *)(const void *)burst->pointer;
	uint64_t hash[BURST];
	fp_action_word word[BURST];
	uint32_t entry[BURST];

	const uint64_t hits = fp_flow_lookup_bulk(bench->arena, key, BURST, fp_arena_now_s(bench->arena), hash, word, entry);
	quiescent(bench, OURS);
	return hits;
}

static uint64_t
theirs_burst(struct bench *bench, struct burst *burst)
{
	void *data[BURST];
	uint64_t hits = 0;

	rte_hash_lookup_bulk_data(bench->hash, burst->pointer, BURST, &hits, data);
	quiescent(bench, RTE_HASH);
	return hits;
}

static int
by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double
turn(struct bench *bench, enum table table, enum operation operation, uint64_t *random, struct figure *figure)
{
	static struct burst bursts[BURSTS];
	const uint32_t first = operation == MISS ? bench->entries : 0; // keys from there on are in no table
	double cycles[BATCHES];

	if (table == OURS)
		fp_arena_reader_online(bench->arena, 0);
	else
		rte_rcu_qsbr_thread_online(bench->qsbr, 0);
	for (int batch = 0; batch < BATCHES; batch++) {
		for (int b = 0; b < BURSTS; b++) {
			for (int i = 0; i < BURST; i++) {
				key_make(bench, first + (uint32_t)(mix((*random)++) % bench->entries), &bursts[b].key[i]);
				bursts[b].pointer[i] = &bursts[b].key[i];
			}
			quiescent(bench, table); // a real reader is, after every burst
		}
		const uint64_t start = rte_rdtsc_precise();
		for (int b = 0; b < BURSTS; b++)
			figure->hits += (uint64_t)__builtin_popcountll(table == OURS ? ours_burst(bench, &bursts[b])
										     : theirs_burst(bench, &bursts[b]));
		cycles[batch] = (double)(rte_rdtsc_precise() - start) / (BURSTS * BURST);
	}
	// The other table's turn: this one's writer waits for nobody.
	fp_arena_reader_offline(bench->arena, 0);
	rte_rcu_qsbr_thread_offline(bench->qsbr, 0);
	figure->lookups += BATCHES * BURSTS * BURST;
	qsort(cycles, BATCHES, sizeof(cycles[0]), by_value);
	return cycles[BATCHES / 2]; // not the mean: another process may have had the processor for a while
}

static void
report(const struct bench *bench, enum table table, enum operation operation, bool with_writer, struct figure *figure)
{
	qsort(figure->cycles, TURNS, sizeof(figure->cycles[0]), by_value);
	const double median = figure->cycles[TURNS / 2];
	const double middle_half = figure->cycles[TURNS * 3 / 4] - figure->cycles[TURNS / 4];
	const double low = figure->cycles[TURNS / 10], high = figure->cycles[TURNS - 1 - TURNS / 10];
	const double hit_percent = figure->lookups ? 100.0 * (double)figure->hits / (double)figure->lookups : 0;
	const double resident_percent = 100.0 * bench->resident[table] / bench->entries;
	const double bytes = (double)bench->bytes[table] / bench->entries;
	const double rate = with_writer ? (double)figure->updates / ((double)figure->tsc / (double)rte_get_tsc_hz()) : 0;

	fprintf(stderr, "%8u  %-8s  %-9s  %9.0f  %6.1f  %6.1f … %-6.1f  %7.3f %%  %7.3f %%  %6.1f\n",
		bench->entries, table_names[table], operation_names[operation], rate, median, low, high, hit_percent, resident_percent, bytes);
	printf("{\"benchmark\": \"flow_table\", \"table\": \"%s\", \"operation\": \"%s\", \"entries\": %u, "
	       "\"updates_per_s\": %.0f, \"cycles\": %.2f, \"spread\": %.2f, \"p10\": %.2f, \"p90\": %.2f, "
	       "\"tsc_hz\": %" PRIu64 ", \"turns\": %d, \"burst\": %d, "
	       "\"key_bytes\": %zu, \"hit_percent\": %.4f, \"resident_percent\": %.4f, \"bytes_per_flow\": %.1f}\n",
	       table_names[table], operation_names[operation], bench->entries, rate, median, middle_half, low, high,
	       rte_get_tsc_hz(), TURNS, BURST,
	       sizeof(struct fp_flow_key), hit_percent, resident_percent, bytes);
	fflush(stdout);
}

static void
measure(struct bench *bench, enum operation operation, bool with_writer)
{
	struct figure figure[TABLES] = { 0 };
	uint64_t random = 12345;

	for (int t = -1; t < TURNS; t++) // the first one warms up
		for (int table = 0; table < TABLES; table++) {
			const uint64_t updates = __atomic_load_n(&bench->updates, __ATOMIC_RELAXED);
			const uint64_t start = rte_rdtsc();

			if (with_writer)
				__atomic_store_n(&bench->writer_target, table, __ATOMIC_RELEASE);
			const double cycles = turn(bench, (enum table)table, operation, &random, &figure[table]);
			if (t < 0)
				figure[table] = (struct figure){ 0 };
			else
				figure[table].cycles[t] = cycles;
			figure[table].updates += __atomic_load_n(&bench->updates, __ATOMIC_RELAXED) - updates;
			figure[table].tsc += rte_rdtsc() - start;
		}
	__atomic_store_n(&bench->writer_target, -1, __ATOMIC_RELEASE);
	for (int table = 0; table < TABLES; table++)
		report(bench, (enum table)table, operation, with_writer, &figure[table]);
}

// Inserts of new keys into our full table: each evicts.
static void
evict(struct bench *bench)
{
	struct figure figure = { 0 };
	uint32_t n = bench->entries;

	for (int t = -1; t < TURNS; t++) { // the first one warms up
		const uint64_t start = rte_rdtsc_precise();

		for (int i = 0; i < EVICTIONS; i++)
			update_once(bench, OURS, n++, false);
		if (t >= 0)
			figure.cycles[t] = (double)(rte_rdtsc_precise() - start) / EVICTIONS;
	}
	report(bench, OURS, EVICT, false, &figure);
}

static void
run(uint32_t entries, int heap_socket)
{
	struct bench bench = { .entries = entries, .heap_socket = heap_socket, .writer_target = -1 };
	pthread_t thread;

	ours_make(&bench);
	theirs_make(&bench);
	for (int table = 0; table < TABLES; table++)
		report(&bench, (enum table)table, INSERT, false, &bench.filling[table]);
	measure(&bench, HIT, false);
	measure(&bench, MISS, false);
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
		if (pthread_create(&thread, NULL, writer, &bench))
			die("pthread_create", errno);
		measure(&bench, HIT, true);
		__atomic_store_n(&bench.writer_target, -2, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
	}
	evict(&bench);
	rte_rcu_qsbr_thread_unregister(bench.qsbr, 0);
	rte_hash_free(bench.hash);
	free(bench.qsbr);
	fp_arena_close(bench.arena);
}

// EAL without hugepages serves 4 KB pages only: give rte_hash a heap on transparent huge pages, such as
// anonymous memory of the arena lies on.
static int
heap_make(uint32_t entries)
{
	const size_t bytes = RTE_ALIGN_CEIL(RTE_MAX(HEAP_BYTES_LEAST, (size_t)entries * HEAP_BYTES_PER_ENTRY), HUGE_BYTES);
	uint8_t *room = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED)
		die("heap", errno);
	uint8_t *base = (uint8_t *)(((uintptr_t)room + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES);
	madvise(base, bytes, MADV_HUGEPAGE);
	if (rte_malloc_heap_create("bench") ||
	    rte_malloc_heap_memory_add("bench", base, bytes, NULL, (unsigned int)(bytes / HUGE_BYTES), HUGE_BYTES))
		die("rte_malloc_heap", rte_errno);
	return rte_malloc_heap_get_socket("bench");
}

int
main(int argc, char **argv)
{
	uint32_t largest = 1000000;
	char megabytes[16];
	char *eal[] = { argv[0], "--no-huge", "--no-shconf", "--no-pci", "-m", megabytes, "--no-telemetry",
			"--log-level=error", "--file-prefix=bench-flow-table", NULL };

	for (int i = 1; i < argc; i++)
		largest = RTE_MAX(largest, (uint32_t)strtoul(argv[i], NULL, 0));
	// rte_hash's queue of deleted keys is made from EAL's own memory.
	snprintf(megabytes, sizeof(megabytes), "%u", 64 + largest / (1u << 20) * 64);
	if (rte_eal_init(9, eal) < 0)
		die("rte_eal_init", rte_errno);
	const int heap_socket = heap_make(largest);
	fprintf(stderr, "TSC %.2f GHz; keys of %zu bytes, bursts of %d, median of %d turns and 10th … 90th percentile\n",
		(double)rte_get_tsc_hz() / 1e9, sizeof(struct fp_flow_key), BURST, TURNS);
	fprintf(stderr, " entries  table     operation  updates/s  cycles                   hits       resident   bytes/flow\n");
	if (argc < 2)
		for (uint32_t entries = 1000; entries <= 1000000; entries *= 10)
			run(entries, heap_socket);
	for (int i = 1; i < argc; i++)
		run((uint32_t)strtoul(argv[i], NULL, 0), heap_socket);
	return 0;
}
