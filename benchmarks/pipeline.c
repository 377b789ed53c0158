// SPDX-License-Identifier: Apache-2.0
//
// Cycles per packet of the pipeline on one core, from an in-process source to a null port:
// encapsulation and decapsulation, plain and as gateways are deployed (VLAN tags, several next
// hops, sets, many tunnels); 60-byte inner packets, flows in random order, bursts of 32.
//
// The source takes buffers from the pool, copies a template and patches it; the sink frees. Buffers
// are used again at once, so no packet touches new memory. What source and sink cost is measured by
// the same loop without the pipeline and taken off ("floor"). All shapes of a number of flows stand
// in one process and take turns, so that their ratios are of one time; each turn begins with a
// slice that is not timed. Figures are the median of the slices and the middle half's spread.
// Afterwards bursts of random flows are sent again and every byte that matters is checked.
//
//	pipeline [scenarios ...] [flows ...]    default: all; 1 1000 10000 100000 1000000
//
// The plain shapes are always among them. Above 100000 flows they are alone, unless the others are
// named. A table for people on stderr, a JSON line for each result on stdout.
#undef NDEBUG
#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>

#include "pipeline.h"

#define TURNS 64
#define TURN_SLICES 16 // timed ones
#define SLICES (TURNS * TURN_SLICES)
#define SLICE_PACKETS 2048u
#define ORDER_PACKETS (1u << 20)
#define ALL_SHAPES_FLOWS 100000
#define SHAPES_MAX 32

struct subject {
	struct bed bed;
	double with[SLICES], without[SLICES];
	uint64_t lookups, hits;
};

static uint32_t order[ORDER_PACKETS];

// Cycles per packet of one slice.
static double
slice(const struct bed *bed, uint32_t number, bool pipeline)
{
	const uint32_t from = number * SLICE_PACKETS % ORDER_PACKETS;
	const struct fp_port *source = bed_source(bed);
	const uint16_t sink = bed_sink(bed)->dpdk_port;
	struct fp_thread *thread = rig_thread(bed->rig);
	struct rte_mbuf *mbufs[FP_BURST];
	uint64_t start = rte_rdtsc();

	for (uint32_t at = from; at < from + SLICE_PACKETS; at += FP_BURST) {
		burst_make(bed, mbufs, order + at);
		if (pipeline) {
			fp_thread_receive(thread, source, mbufs, FP_BURST);
			if (!fp_thread_takes_turns(thread))
				fp_thread_finish(thread);
			fp_thread_flush(thread);
		} else {
			rte_eth_tx_burst(sink, 0, mbufs, FP_BURST);
		}
	}
	fp_thread_finish(thread); // as a poll thread does before a quiescent state
	fp_thread_flush(thread);
	return (double)(rte_rdtsc() - start) / SLICE_PACKETS;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(double *values, double *spread)
{
	qsort(values, SLICES, sizeof(*values), compare);
	*spread = values[SLICES * 3 / 4] - values[SLICES / 4];
	return values[SLICES / 2];
}

static void
turn(struct subject *subject, uint32_t number)
{
	const struct bed *bed = &subject->bed;

	slice(bed, number * TURN_SLICES + TURN_SLICES - 1, true);
	for (uint32_t i = number * TURN_SLICES; i < (number + 1) * TURN_SLICES; i++) {
		subject->without[i] = slice(bed, i, false);
		subject->with[i] = slice(bed, i, true);
	}
}

static void
report(struct subject *subject)
{
	const struct fp_counters *counters = fp_thread_counters(rig_thread(subject->bed.rig));
	const uint64_t *stage = counters->stage_cycles;
	double floor, floor_spread, cycles, spread, hit_ratio, packets;
	const char *scenario = subject->bed.shape->scenario;
	uint32_t flows = subject->bed.flows;

	hit_ratio = (double)(counters->hits - subject->hits) / (double)(counters->lookups - subject->lookups);
	packets = (double)(counters->lookups - subject->lookups);
	floor = median(subject->without, &floor_spread);
	cycles = median(subject->with, &spread);
	fprintf(stderr, "%-36s %8u %9.1f %7.1f %7.1f %8.1f %6.1f %7.1f %5.1f %10.6f\n", scenario, flows,
		cycles - floor, spread, floor, cycles, stage[FP_STAGE_PARSE] / packets,
		stage[FP_STAGE_LOOKUP] / packets, stage[FP_STAGE_ACT] / packets, hit_ratio);
	printf("{\"benchmark\": \"pipeline\", \"scenario\": \"%s\", \"flows\": %u, \"cycles\": "
	       "%.1f, \"spread\": %.1f, \"floor_cycles\": %.1f, \"floor_spread\": %.1f, "
	       "\"hit_ratio\": %.6f, \"tsc_hz\": %" PRIu64 ", \"burst\": %u, \"inner_bytes\": %u, "
	       "\"slices\": %u, \"stages\": {\"parse\": %.1f, \"lookup\": %.1f, \"act\": %.1f}}\n",
	       scenario, flows, cycles - floor, spread, floor, floor_spread, hit_ratio, rte_get_tsc_hz(),
	       FP_BURST, INNER_BYTES, SLICES, stage[FP_STAGE_PARSE] / packets,
	       stage[FP_STAGE_LOOKUP] / packets, stage[FP_STAGE_ACT] / packets);
	fflush(stdout);
}

static void
run(uint32_t flows, uint32_t which)
{
	static struct subject subjects[SHAPES_MAX];
	struct fp_counters *counters;
	uint32_t n = 0;

	for (uint32_t i = 0; i < shapes_count; i++)
		if (which & 1u << i)
			bed_make(&subjects[n++].bed, &shapes[i], flows);
	srand48(1);
	for (uint32_t i = 0; i < ORDER_PACKETS; i++)
		order[i] = (uint32_t)lrand48() % flows;
	for (uint32_t s = 0; s < n; s++) {
		for (uint32_t i = 0; i < ORDER_PACKETS / SLICE_PACKETS; i++)
			slice(&subjects[s].bed, i, true);
		counters = fp_thread_counters(rig_thread(subjects[s].bed.rig));
		subjects[s].lookups = counters->lookups;
		subjects[s].hits = counters->hits;
		memset(counters->stage_cycles, 0, sizeof(counters->stage_cycles));
	}
	for (uint32_t i = 0; i < TURNS; i++)
		for (uint32_t s = 0; s < n; s++)
			turn(&subjects[s], i);
	for (uint32_t s = 0; s < n; s++) {
		report(&subjects[s]);
		for (uint32_t i = 0; i < 64; i++)
			burst_verify(&subjects[s].bed, order + i * FP_BURST);
		bed_destroy(&subjects[s].bed);
	}
}

// Bit of the shape; 0: there is none of this name.
static uint32_t
shape_bit(const char *scenario)
{
	for (uint32_t i = 0; i < shapes_count; i++)
		if (strcmp(scenario, shapes[i].scenario) == 0)
			return 1u << i;
	return 0;
}

static uint32_t
plain_shapes(void)
{
	uint32_t bits = 0;

	for (enum direction d = ENCAP; d <= DECAP; d++)
		for (uint32_t i = 0, found = 0; i < shapes_count && !found; i++)
			if (shapes[i].direction == d) {
				bits |= 1u << i;
				found = 1;
			}
	return bits;
}

int
main(int argc, char **argv)
{
	static const uint32_t usual[] = {1, 1000, 10000, 100000, 1000000};
	uint32_t flows[64], n = 0, named = 0, which;

	assert(shapes_count < SHAPES_MAX);
	for (int i = 1; i < argc; i++) {
		if (!isdigit((unsigned char)argv[i][0]) && shape_bit(argv[i]) != 0) {
			named |= shape_bit(argv[i]);
			continue;
		}
		flows[n] = (uint32_t)strtoul(argv[i], NULL, 10);
		if (flows[n] == 0 || n + 1 == sizeof(flows) / sizeof(flows[0])) {
			fprintf(stderr, "error: %s is no number of flows and no scenario\n", argv[i]);
			return 2;
		}
		n++;
	}
	if (n == 0) {
		n = sizeof(usual) / sizeof(usual[0]);
		memcpy(flows, usual, sizeof(usual));
	}
	if (rig_eal() != 0) {
		fprintf(stderr, "error: EAL does not start\n");
		return 1;
	}
	fprintf(stderr,
		"TSC %.2f GHz, bursts of %u, %u-byte inner packets, %u slices of %u packets; "
		"cycles per packet\n",
		(double)rte_get_tsc_hz() / 1e9, FP_BURST, INNER_BYTES, SLICES, SLICE_PACKETS);
	fprintf(stderr, "%-36s %8s %9s %7s %7s %8s %6s %7s %5s %10s\n", "scenario", "flows", "pipeline",
		"spread", "floor", "total", "parse", "lookup", "act", "hit ratio");
	for (uint32_t i = 0; i < n; i++) {
		which = named;
		if (named == 0 && flows[i] <= ALL_SHAPES_FLOWS)
			which = (1u << shapes_count) - 1;
		run(flows[i], which | plain_shapes());
	}
	return 0;
}
