// SPDX-License-Identifier: Apache-2.0
//
// The flow table against rte_hash (lock-free readers, RCU): cycles of one operation with the product's 44-byte
// key, hash included. Both live in the same process and on pages of the same kind, and are measured in turn,
// some milliseconds each, so that whatever else the machine does hits both.
//
//	flow_table [--quick] [flows ...]            default 1000 10000 100000 1000000, and 10000000 if not quick
//
//	hit, miss                look-ups in bursts of 32 in random order. A burst's keys are made just before, as by
//	                         parsing, which is taken off; and as in a poll thread ours finishes a burst when the next
//	                         ones have been started, if flows are many
//	  -alone                 each burst finished before the next one is made
//	  -with-writer           the same while a thread on another processor takes flows out and puts them back,
//	                         200 000 updates a second
//	hit-small-pages          on pages of 4 KB
//	insert                   from empty to full
//	evict                    one into a full table; rte_hash cannot, so that another is taken out first
//
// A table for people on stderr, a JSON line for each result on stdout.
#define _GNU_SOURCE // CPU affinity
#include "flow_table.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_pause.h>

#define BURSTS 32 // from one quiescent state to the next, as in a poll thread; three take turns
#define BATCHES_MAX 512
#define TURN_MS 3 // and at least so many batches:
#define BATCHES_MIN 64
#define TURNS_MAX 33
#define CHUNK 1024 // inserts timed at once
#define UPDATES_PER_S 200000

static const char *const subjects[TABLES] = {"vnet-gateway", "rte_hash"};

struct options {
	uint32_t turns;
	cpu_set_t reader, writer;
	bool has_writer;
};

struct figure {
	double cycles[TURNS_MAX];
	uint32_t turns;
	uint64_t lookups, hits, updates, tsc;
};

void
die(const char *what, int rc)
{
	fprintf(stderr, "error: %s: %s\n", what, strerror(rc < 0 ? -rc : rc));
	exit(1);
}

static int
by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void
report(const struct tables *tables, enum table table, const char *scenario, struct figure *figure)
{
	qsort(figure->cycles, figure->turns, sizeof(figure->cycles[0]), by_value);
	const double hz = (double)rte_get_tsc_hz();
	const double median = figure->cycles[figure->turns / 2];
	const double spread = figure->cycles[figure->turns * 3 / 4] - figure->cycles[figure->turns / 4];
	const double hit_ratio = figure->lookups ? (double)figure->hits / (double)figure->lookups : 0;
	const double resident_ratio = (double)tables->resident[table] / tables->entries;
	const double bytes = (double)tables->bytes[table] / tables->entries;
	const double updates_per_s = figure->tsc ? (double)figure->updates / ((double)figure->tsc / hz) : 0;

	fprintf(stderr, "%-27s %9u  %-12s  %7.1f  %5.1f  %7.2f  %9.0f  %8.3f  %8.3f  %6.1f  %4zu KB\n",
		scenario, tables->entries, subjects[table], median, spread, hz / median / 1e6, updates_per_s,
		100 * hit_ratio, 100 * resident_ratio, bytes, tables->page_bytes[table] / 1024);
	printf("{\"scenario\": \"%s\", \"subject\": \"%s\", \"flows\": %u, \"cycles_per_lookup\": %.2f, "
	       "\"cycles_per_packet\": %.2f, \"spread\": %.2f, \"per_second\": %.0f, \"turns\": %u, "
	       "\"burst\": %d, "
	       "\"key_bytes\": %zu, \"hit_ratio\": %.6f, \"resident_ratio\": %.6f, \"bytes_per_flow\": %.1f, "
	       "\"writer_updates_per_s\": %.0f, \"page_bytes\": %zu, \"variant\": \"%s\"}\n",
	       scenario, subjects[table], tables->entries, median, median, spread, hz / median, figure->turns,
	       BURST, sizeof(struct fp_flow_key), hit_ratio, resident_ratio, bytes, updates_per_s,
	       tables->page_bytes[table], table == OURS ? tables->arena->view.flow_lookup->variant : "");
	fflush(stdout);
}

// ---- the writer ------------------------------------------------------------------------------

struct writer {
	struct tables *tables;
	cpu_set_t cpus;
	int target; // enum table, -1: rest, -2: end
	uint64_t updates;
} __attribute__((aligned(64))); // it is looked at all the time: nothing of the reader's lies beside it

static void
update(struct tables *tables, enum table table, uint32_t n, bool remove)
{
	struct fp_flow_key key;

	key_make(tables, n, &key);
	if (remove)
		table_remove(tables, table, &key);
	else
		while (!table_put(tables, table, &key))
			rte_pause();
}

// Removes a random flow, puts it back, and so on, at a fixed rate.
static void *
writer_run(void *argument)
{
	struct writer *writer = argument;
	struct tables *tables = writer->tables;
	const uint64_t pause = rte_get_tsc_hz() / UPDATES_PER_S;
	uint64_t random = 1, due = 0;
	uint32_t n = 0;
	int before = -1;
	bool remove = true;

	pthread_setaffinity_np(pthread_self(), sizeof(writer->cpus), &writer->cpus);
	for (;;) {
		const int table = __atomic_load_n(&writer->target, __ATOMIC_ACQUIRE);
		if (table != before && before >= 0 && !remove) { // put back what is missing there
			update(tables, (enum table)before, n, false);
			remove = true;
		}
		if (table == -2)
			return NULL;
		if (table != before)
			due = rte_rdtsc();
		before = table;
		if (table < 0 || rte_rdtsc() < due) {
			rte_pause();
			continue;
		}
		due += pause;
		if (remove)
			n = (uint32_t)(mix(random++) % tables->entries);
		update(tables, (enum table)table, n, remove);
		remove = !remove;
		__atomic_fetch_add(&writer->updates, 1, __ATOMIC_RELAXED);
	}
}

// ---- look-ups --------------------------------------------------------------------------------

// What a batch does to its bursts. Keys are those of flows first .. first + entries - 1.
struct batch {
	struct tables *tables;
	enum table table;
	uint32_t first;
	bool alone;
	uint64_t random;
	struct burst burst[3];
};

static inline void
keys_make(struct batch *batch, uint32_t b)
{
	for (int i = 0; i < BURST; i++)
		key_make(batch->tables,
			 batch->first + (uint32_t)(mix(batch->random++) % batch->tables->entries),
			 &batch->burst[b % 3].key[i]);
	__atomic_signal_fence(__ATOMIC_SEQ_CST); // they are written, looked up or not
}

static double
cycles_a_key(uint64_t since)
{
	return (double)(rte_rdtsc_precise() - since) / (BURSTS * BURST);
}

// The keys of a burst are made just before it is looked up, as parsing does; what that takes by itself is taken off.
static double
batch_look(struct batch *batch, uint64_t *hits)
{
	const uint64_t random = batch->random;
	uint64_t start = rte_rdtsc_precise();

	for (uint32_t b = 0; b < BURSTS; b++)
		keys_make(batch, b);
	const double keys_alone = cycles_a_key(start);

	batch->random = random; // the same ones again
	start = rte_rdtsc_precise();
	for (uint32_t b = 0; b < BURSTS; b++) {
		keys_make(batch, b);
		*hits += table_look(batch->tables, batch->table, &batch->burst[b % 3], batch->alone);
	}
	*hits += table_finish(batch->tables, batch->table);
	table_quiescent(batch->tables, batch->table);
	return cycles_a_key(start) - keys_alone;
}

static double
look_turn(struct batch *batch, struct figure *figure)
{
	double cycles[BATCHES_MAX];
	const uint64_t end = rte_rdtsc() + rte_get_tsc_hz() / 1000 * TURN_MS;
	uint32_t n = 0;

	table_online(batch->tables, batch->table);
	while (n < BATCHES_MIN || (n < BATCHES_MAX && rte_rdtsc() < end))
		cycles[n++] = batch_look(batch, &figure->hits);
	table_offline(batch->tables, batch->table);
	figure->lookups += n * BURSTS * BURST;
	qsort(cycles, n, sizeof(cycles[0]), by_value);
	return cycles[n / 2]; // not the mean: another process may have had the processor for a while
}

static void
look(struct tables *tables, const struct options *options, const char *scenario, uint32_t first, bool alone,
     struct writer *writer)
{
	static struct batch batch;
	struct figure figure[TABLES] = {0};

	alone |= tables->entries < FP_FLOWS_BEYOND_CACHE; // as a poll thread does it then
	batch = (struct batch){.tables = tables, .first = first, .alone = alone, .random = 12345};
	for (uint32_t b = 0; b < 3; b++)
		for (uint32_t i = 0; i < BURST; i++)
			batch.burst[b].pointer[i] = &batch.burst[b].key[i];
	for (uint32_t t = 0; t <= options->turns; t++) // the first one warms up
		for (int table = 0; table < TABLES; table++) {
			const uint64_t start = rte_rdtsc();
			uint64_t updates = 0;

			if (writer) {
				updates = __atomic_load_n(&writer->updates, __ATOMIC_RELAXED);
				__atomic_store_n(&writer->target, table, __ATOMIC_RELEASE);
			}
			batch.table = (enum table)table;
			const double cycles = look_turn(&batch, &figure[table]);
			if (t == 0) {
				figure[table] = (struct figure){0};
				continue;
			}
			figure[table].cycles[figure[table].turns++] = cycles;
			if (writer) {
				figure[table].updates +=
					__atomic_load_n(&writer->updates, __ATOMIC_RELAXED) - updates;
				figure[table].tsc += rte_rdtsc() - start;
			}
		}
	if (writer)
		__atomic_store_n(&writer->target, -1, __ATOMIC_RELEASE);
	for (int table = 0; table < TABLES; table++)
		report(tables, (enum table)table, scenario, &figure[table]);
}

static void
look_with_writer(struct tables *tables, const struct options *options)
{
	struct writer writer = {.tables = tables, .cpus = options->writer, .target = -1};
	pthread_t thread;

	if (!options->has_writer) {
		fprintf(stderr, "one processor: nothing is measured with a writer beside\n");
		return;
	}
	if (pthread_create(&thread, NULL, writer_run, &writer))
		die("pthread_create", errno);
	look(tables, options, "flow-table-hit-with-writer", 0, false, &writer);
	look(tables, options, "flow-table-miss-with-writer", tables->entries, false, &writer);
	__atomic_store_n(&writer.target, -2, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
}

// ---- inserts ---------------------------------------------------------------------------------

// Puts flows first .. first + n - 1 in, in chunks, the tables in turn; for each, one that was there before is taken
// out if the table does not make room by itself.
static void
put(struct tables *tables, uint32_t first, uint32_t n, bool evict, struct figure figure[TABLES])
{
	static struct fp_flow_key key[CHUNK], old[CHUNK];
	const uint32_t chunks = (n + CHUNK - 1) / CHUNK, keep_every = (chunks + TURNS_MAX - 1) / TURNS_MAX;

	for (uint32_t chunk = 0; chunk < chunks; chunk++) {
		const uint32_t at = chunk * CHUNK, count = n - at < CHUNK ? n - at : CHUNK;

		for (uint32_t i = 0; i < count; i++) {
			key_make(tables, first + at + i, &key[i]);
			key_make(tables, first + at + i - tables->entries, &old[i]);
		}
		for (int table = 0; table < TABLES; table++) {
			const uint64_t start = rte_rdtsc_precise();
			for (uint32_t i = 0; i < count; i++) {
				if (evict && table == RTE_HASH)
					table_remove(tables, RTE_HASH, &old[i]);
				table_put(tables, (enum table)table, &key[i]);
			}
			const double cycles = (double)(rte_rdtsc_precise() - start) / count;
			if (figure && chunk % keep_every == 0)
				figure[table].cycles[figure[table].turns++] = cycles;
		}
	}
}

static void
resident_count(struct tables *tables)
{
	static struct burst burst;

	for (uint32_t n = 0; n < tables->entries; n += BURST) {
		for (uint32_t i = 0; i < BURST; i++) {
			key_make(tables, n + i, &burst.key[i]);
			burst.pointer[i] = &burst.key[i];
		}
		for (int table = 0; table < TABLES; table++)
			tables->resident[table] += table_look(tables, (enum table)table, &burst, true);
	}
}

static void
put_measured(struct tables *tables, const char *scenario, uint32_t first, uint32_t n, bool evict)
{
	struct figure figure[TABLES] = {0};

	put(tables, first, n, evict, figure);
	if (!evict)
		resident_count(tables);
	for (int table = 0; table < TABLES; table++)
		report(tables, (enum table)table, scenario, &figure[table]);
}

// ---- all of it -------------------------------------------------------------------------------

static void
run(uint32_t entries, const struct options *options, int huge_heap, int small_heap)
{
	struct tables tables;

	tables_make(&tables, entries, huge_heap, true);
	put_measured(&tables, "flow-table-insert", 0, entries, false);
	look(&tables, options, "flow-table-hit", 0, false, NULL);
	look(&tables, options, "flow-table-hit-alone", 0, true, NULL);
	look(&tables, options, "flow-table-miss", entries, false, NULL);
	look_with_writer(&tables, options);
	put_measured(&tables, "flow-table-evict", entries, entries < 1 << 18 ? entries : 1 << 18, true);
	tables_free(&tables);

	tables_make(&tables, entries, small_heap, false);
	put(&tables, 0, entries, false, NULL);
	resident_count(&tables);
	look(&tables, options, "flow-table-hit-small-pages", 0, false, NULL);
	tables_free(&tables);
}

// The reader keeps the last processor, as a poll thread does; the writer has the others.
static void
processors_share(struct options *options)
{
	cpu_set_t all;
	int last = -1;

	if (sched_getaffinity(0, sizeof(all), &all))
		die("sched_getaffinity", errno);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all))
			last = cpu;
	CPU_ZERO(&options->reader);
	CPU_SET(last, &options->reader);
	options->writer = all;
	CPU_CLR(last, &options->writer);
	options->has_writer = CPU_COUNT(&options->writer) > 0;
}

int
main(int argc, char **argv)
{
	static const uint32_t usual[] = {1000, 10000, 100000, 1000000, 10000000};
	char memory_mb[16];
	char *eal[] = {argv[0],
		       "--no-huge",
		       "--no-shconf",
		       "--no-pci",
		       "-m",
		       memory_mb,
		       "--no-telemetry",
		       "--log-level=error",
		       "--file-prefix=bench-flow-table",
		       NULL};
	const bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
	struct options options = {.turns = quick ? 11 : TURNS_MAX};
	uint32_t sizes[16], count = 0, largest = 0;

	for (int i = quick ? 2 : 1; i < argc && count < 16; i++) {
		sizes[count] = (uint32_t)strtoul(argv[i], NULL, 0);
		if (sizes[count] < 1 || sizes[count] > 10000000) {
			fprintf(stderr, "error: %s is no number of flows; fix: 1 to 10000000\n", argv[i]);
			return 2;
		}
		count++;
	}
	for (uint32_t i = 0; i < (quick ? 4 : 5) && (int)(quick ? 2 : 1) == argc; i++)
		sizes[count++] = usual[i];
	for (uint32_t i = 0; i < count; i++)
		largest = sizes[i] > largest ? sizes[i] : largest;

	snprintf(memory_mb, sizeof(memory_mb), "%u",
		 64 + largest / 20000); // rte_hash's queue of what was removed
	processors_share(&options);
	if (rte_eal_init(9, eal) < 0)
		die("rte_eal_init", rte_errno);
	if (sched_setaffinity(0, sizeof(options.reader), &options.reader)) // EAL had its own idea
		die("sched_setaffinity", errno);
	const size_t heap_bytes = (size_t)largest * 160 + (64 << 20);
	const int huge_heap = heap_make("huge", heap_bytes, true),
		  small_heap = heap_make("small", heap_bytes, false);
	fprintf(stderr,
		"TSC %.2f GHz; keys of %zu bytes, bursts of %d, medians of %u turns and width of their "
		"middle half\n",
		(double)rte_get_tsc_hz() / 1e9, sizeof(struct fp_flow_key), BURST, options.turns);
	fprintf(stderr, "%-27s %9s  %-12s  %7s  %5s  %7s  %9s  %8s  %8s  %6s  %7s\n", "scenario", "flows",
		"subject", "cycles", "±", "M/s", "updates/s", "hits %", "there %", "B/flow", "pages");
	for (uint32_t i = 0; i < count; i++)
		run(sizes[i], &options, huge_heap, small_heap);
	return 0;
}
