// SPDX-License-Identifier: Apache-2.0
//
// Cycles per packet of the pipeline on one core, from an in-process source to a null port:
// encapsulation and decapsulation, 60-byte inner packets, flows in random order, bursts of 32.
//
// The source takes buffers from the pool, copies a template of one or two cache lines and patches
// addresses and checksum; the sink frees. Buffers are used again at once, so no packet touches new
// memory. What source and sink cost is measured by the same loop without the pipeline and taken off
// ("floor"). Each turn lasts about a million packets; figures are the median of the turns and the
// middle half's spread. After timing, bursts of random flows are sent again and every byte that
// matters is checked.
//
//	pipeline [flows ...]            default 1 1000 10000 100000 1000000
//
// A table for people on stderr, a JSON line for each result on stdout.
#undef NDEBUG
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_memcpy.h>

#include "rig.h"

#define SLICES 1024
#define SLICE_PACKETS 2048u
#define ORDER_PACKETS (1u << 20)
#define PLACES 10000 // endpoints at most: locations
#define TUNNELS 16
#define VNI 100
#define NOW_NS 1000000000000ull
#define INNER_BYTES 60
#define OUTER_BYTES 50

enum direction { ENCAP, DECAP };

struct bench {
	struct rig *rig;
	enum direction direction;
	uint32_t flows, places;
	uint32_t *order;
	uint8_t template[128];
	uint32_t template_bytes, inner_at;
	uint32_t inner_sum; // of the inner header without addresses and checksum, in wire order
};

struct figure {
	double cycles, spread, floor, hit_ratio;
};

static void
put_address(uint8_t *field, uint32_t address)
{
	address = rte_cpu_to_be_32(address);
	memcpy(field + 12, &address, 4);
}

// Flow i: from source_of(i) to destination_of(i); every pair once.
static uint32_t
place_of(const struct bench *b, uint32_t i)
{
	return i % b->places;
}
static uint32_t
here_address(const struct bench *b, uint32_t i)
{
	return 0x0a000001 + i / b->places;
}
static uint32_t
there_address(const struct bench *b, uint32_t i)
{
	return 0x0a800001 + place_of(b, i);
}

static void
apply(struct bench *b, uint16_t type, uint32_t vni, void *record)
{
	struct fp_record_head *head = record;

	*head = (struct fp_record_head){
		.type = type, .version = FP_RECORD_VERSION, .vni = vni, .revision = 1};
	if (rig_apply(b->rig, record, NOW_NS) != 0) {
		fprintf(stderr, "error: the installer refused a record of type %u\n", type);
		exit(1);
	}
}

static void
tables_fill(struct bench *b)
{
	struct fp_record_vnet vnet = {.object_id = 1, .incarnation = 7};
	struct fp_record_snapshot snapshot = {.incarnation = 7};
	struct fp_record_attachment attachment = {.object_id = 10, .port = "port0"};
	uint32_t ingress[TUNNELS], here;

	apply(b, FP_RECORD_VNET_SET, VNI, &vnet);
	apply(b, FP_RECORD_SNAPSHOT_BEGIN, VNI, &snapshot);
	apply(b, FP_RECORD_SNAPSHOT_END, VNI, &snapshot);
	apply(b, FP_RECORD_ATTACHMENT_SET, VNI, &attachment);
	here = fp_ingress_by_vlan(rig_arena(b->rig), 0, 0);
	for (uint32_t i = 0; i < TUNNELS; i++) {
		struct fp_record_ingress in = {
			.key = {.wire_id = VNI, .protocol = FP_PROTOCOL_VXLAN},
			.node_id = 50 + i,
			.udp_port = 4789};
		struct fp_record_tunnel tunnel = {.object_id = 100 + i,
						  .profile_id = 1,
						  .node_id = 50 + i,
						  .udp_port = 4789,
						  .mtu_bytes = 1600,
						  .protocol = FP_PROTOCOL_VXLAN,
						  .ttl = 64};
		struct fp_record_nexthop hop = {.count = 1};

		put_address(in.key.local, 0xc0000201);
		put_address(in.key.remote, 0xc0000210 + i);
		apply(b, FP_RECORD_INGRESS_SET, VNI, &in);
		ingress[i] = fp_ingress_by_locator(rig_arena(b->rig), &in.key);
		put_address(tunnel.local, 0xc0000201);
		put_address(tunnel.remote, 0xc0000210 + i);
		apply(b, FP_RECORD_TUNNEL_SET, 0, &tunnel);
		put_address(hop.local, 0xc0000201);
		put_address(hop.remote, 0xc0000210 + i);
		hop.hop[0] = (struct fp_nexthop){.destination_mac = {2, 0, 0, 0, 1, (uint8_t)i},
						 .source_mac = {2, 0, 0, 0, 0, 0xf1},
						 .port = 1};
		apply(b, FP_RECORD_NEXTHOP_SET, 0, &hop);
	}
	for (uint32_t i = 0; i < b->places; i++) {
		struct fp_record_location location = {
			.object_id = 1000 + i,
			.node_id = 50 + i % TUNNELS,
			.wire_id = VNI,
			.mac = {2, 1, 0, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};

		location.kind = b->direction == ENCAP ? FP_LOCATION_TUNNEL : FP_LOCATION_LOCAL;
		location.target_id = b->direction == ENCAP ? 100 + i % TUNNELS : 10;
		if (b->direction == DECAP)
			location.wire_id = 0;
		apply(b, FP_RECORD_LOCATION_SET, VNI, &location);
	}
	for (uint32_t i = 0; i < b->flows; i++) {
		struct fp_record_flow flow = {
			.key = {.key_class = FP_CLASS_BRIDGED,
				.ingress = b->direction == ENCAP ? here : ingress[0]},
			.action = b->direction == ENCAP ? FP_ACTION_ENCAPSULATE : FP_ACTION_DELIVER,
			.ingress_object = b->direction == ENCAP ? 10 : 50,
			.destination_object = 1000 + place_of(b, i),
			.lifetime_ms = 86400000,
			.incarnation = 7,
		};

		put_address(flow.key.source, here_address(b, i));
		put_address(flow.key.destination, there_address(b, i));
		apply(b, FP_RECORD_FLOW_INSTALL, VNI, &flow);
	}
}

static uint32_t
fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static uint32_t
sum16(const uint8_t *p, uint32_t len)
{
	uint32_t sum = 0;
	uint16_t word;

	for (uint32_t i = 0; i < len; i += 2) {
		memcpy(&word, p + i, 2);
		sum += word;
	}
	return fold(sum);
}

static void
template_make(struct bench *b)
{
	static const uint8_t outer[OUTER_BYTES] = {
		2,    0,
		0,    0,
		0,    0xf1,
		2,    0,
		0,    0,
		1,    0,
		8,    0, // Ethernet
		0x45, 0,
		0,    36 + INNER_BYTES,
		0,    0,
		0x40, 0,
		64,   17,
		0,    0,
		192,  0,
		2,    0x10,
		192,  0,
		2,    1,
		0xc3, 0x50,
		0x12, 0xb5,
		0,    16 + INNER_BYTES,
		0,    0,
		8,    0,
		0,    0,
		0,    0,
		VNI,  0,
	};
	static const uint8_t inner[INNER_BYTES] = {
		2,    1,
		0,    0,
		0,    0,
		2,    0,
		0,    0,
		0,    9,
		8,    0,
		0x45, 0,
		0,    INNER_BYTES - 14,
		0,    0,
		0,    0,
		64,   17,
		0,    0,
		0,    0,
		0,    0,
		0,    0,
		0,    0,
		0x10, 0x00,
		0x20, 0x00,
		0,    INNER_BYTES - 34,
		0,    0,
	};
	uint16_t checksum;

	b->inner_at = b->direction == DECAP ? OUTER_BYTES : 0;
	b->template_bytes = b->inner_at + INNER_BYTES;
	memcpy(b->template + b->inner_at, inner, INNER_BYTES);
	b->inner_sum = sum16(inner + 14, 20);
	if (b->direction == ENCAP)
		return;
	memcpy(b->template, outer, OUTER_BYTES);
	checksum = (uint16_t)~sum16(outer + 14, 20);
	memcpy(b->template + 24, &checksum, 2);
}

static inline void
burst_make(const struct bench *b, struct rte_mbuf **mbufs, const uint32_t *order)
{
	if (rte_pktmbuf_alloc_bulk(rig_mempool(b->rig), mbufs, FP_BURST) != 0)
		abort();
	for (uint32_t i = 0; i < FP_BURST; i++) {
		uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], uint8_t *),
			*ip = frame + b->inner_at + 14;
		uint32_t source = rte_cpu_to_be_32(here_address(b, order[i])),
			 destination = rte_cpu_to_be_32(there_address(b, order[i]));
		uint16_t checksum;

		rte_memcpy(frame, b->template, b->template_bytes);
		memcpy(ip + 12, &source, 4);
		memcpy(ip + 16, &destination, 4);
		checksum = (uint16_t)~fold(b->inner_sum + (source & 0xffff) + (source >> 16) +
					   (destination & 0xffff) + (destination >> 16));
		memcpy(ip + 10, &checksum, 2);
		mbufs[i]->data_len = (uint16_t)b->template_bytes;
		mbufs[i]->pkt_len = b->template_bytes;
	}
}

// Cycles per packet of one slice.
static double
slice(struct bench *b, uint32_t from, bool pipeline)
{
	const struct fp_port *port = rig_port(b->rig, b->direction == ENCAP ? 0 : 1);
	uint16_t sink = rig_port(b->rig, b->direction == ENCAP ? 1 : 0)->dpdk_port;
	struct fp_thread *thread = rig_thread(b->rig);
	struct rte_mbuf *mbufs[FP_BURST];
	uint64_t start = rte_rdtsc();

	for (uint32_t at = from; at < from + SLICE_PACKETS; at += FP_BURST) {
		burst_make(b, mbufs, b->order + at % ORDER_PACKETS);
		if (pipeline) {
			fp_thread_receive(thread, port, mbufs, FP_BURST);
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

// A burst that is looked at when it has passed: an extra reference keeps the buffers.
static void
verify(struct bench *b, const uint32_t *order)
{
	const struct fp_port *port = rig_port(b->rig, b->direction == ENCAP ? 0 : 1);
	struct rte_mbuf *mbufs[FP_BURST];

	burst_make(b, mbufs, order);
	for (uint32_t i = 0; i < FP_BURST; i++)
		rte_mbuf_refcnt_update(mbufs[i], 1);
	fp_thread_receive(rig_thread(b->rig), port, mbufs, FP_BURST);
	fp_thread_finish(rig_thread(b->rig));
	fp_thread_flush(rig_thread(b->rig));
	for (uint32_t i = 0; i < FP_BURST; i++) {
		const uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], const uint8_t *), *inner = frame;
		uint32_t place = place_of(b, order[i]);
		const uint8_t mac[6] = {
			2, 1, 0, (uint8_t)(place >> 16), (uint8_t)(place >> 8), (uint8_t)place};
		uint32_t source = rte_cpu_to_be_32(here_address(b, order[i])),
			 destination = rte_cpu_to_be_32(there_address(b, order[i]));

		assert(rte_mbuf_refcnt_read(mbufs[i]) == 1);
		if (b->direction == ENCAP &&
		    mbufs[i]->data_len == INNER_BYTES) { // not resident: a miss
			rte_pktmbuf_free(mbufs[i]);
			continue;
		}
		if (b->direction == ENCAP) {
			assert(mbufs[i]->data_len == OUTER_BYTES + INNER_BYTES);
			assert(frame[5] == place % TUNNELS && frame[33] == 0x10 + place % TUNNELS &&
			       frame[48] == VNI);
			assert(sum16(frame + 14, 20) == 0xffff && frame[34] >= 0xc0);
			inner += OUTER_BYTES;
		} else {
			assert(mbufs[i]->data_len == INNER_BYTES);
		}
		assert(memcmp(inner, mac, 6) == 0 && memcmp(inner + 26, &source, 4) == 0 &&
		       memcmp(inner + 30, &destination, 4) == 0);
		assert(sum16(inner + 14, 20) == 0xffff);
		rte_pktmbuf_free(mbufs[i]);
	}
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
	if (spread != NULL)
		*spread = values[SLICES * 3 / 4] - values[SLICES / 4];
	return values[SLICES / 2];
}

static void
run(uint32_t flows, enum direction direction, struct figure *figure, struct fp_counters *counters)
{
	struct rig_config config = {
		.port = {{.role = FP_PORT_INSIDE, .mac = {2, 0, 0, 0, 0, 0xf0}, .mtu_bytes = 1500},
			 {.role = FP_PORT_UNDERLAY,
			  .mac = {2, 0, 0, 0, 0, 0xf1},
			  .mtu_bytes = 1600}},
		.ports = 2,
		.ring_slots = 64,
		.mbufs = 1023,
		.mbuf_cache = 256,
		.miss_slots = 256,
		.null_ports = true,
		.arena = {.flows = flows < 1024 ? 2048 : flows + flows / 4,
			  .locations = PLACES * 2,
			  .tunnels = 64,
			  .vnets = 8,
			  .ingresses = 64,
			  .ports = 8,
			  .threads = 1,
			  .refusal_share_percent = 10},
		.hold = {.packets = 0}, // what misses ends
	};
	struct bench b = {
		.direction = direction, .flows = flows, .places = RTE_MIN(flows, (uint32_t)PLACES)};
	static double with[SLICES], without[SLICES];
	uint64_t lookups, hits;

	assert(rig_create(&config, &b.rig) == 0);
	tables_fill(&b);
	template_make(&b);
	b.order = malloc((ORDER_PACKETS) * sizeof(*b.order));
	assert(b.order != NULL);
	srand48(1);
	for (uint32_t i = 0; i < ORDER_PACKETS; i++)
		b.order[i] = (uint32_t)lrand48() % flows;
	rig_step(b.rig, NOW_NS + 2000000000ull);
	for (uint32_t i = 0; i < ORDER_PACKETS; i += SLICE_PACKETS)
		slice(&b, i, true);
	*counters = *fp_thread_counters(rig_thread(b.rig));
	lookups = counters->lookups;
	hits = counters->hits;
	memset(fp_thread_counters(rig_thread(b.rig))->stage_cycles, 0,
	       sizeof(counters->stage_cycles));
	for (uint32_t i = 0; i < SLICES; i++) {
		without[i] = slice(&b, i * SLICE_PACKETS, false);
		with[i] = slice(&b, i * SLICE_PACKETS, true);
	}
	*counters = *fp_thread_counters(rig_thread(b.rig));
	figure->hit_ratio = (double)(counters->hits - hits) / (double)(counters->lookups - lookups);
	figure->floor = median(without, NULL);
	figure->cycles = median(with, &figure->spread);
	for (uint32_t i = 0; i < 64; i++)
		verify(&b, b.order + i * FP_BURST);
	free(b.order);
	rig_destroy(b.rig);
}

int
main(int argc, char **argv)
{
	static const uint32_t usual[] = {1, 1000, 10000, 100000, 1000000};
	static struct fp_counters counters;
	uint32_t n = argc > 1 ? (uint32_t)argc - 1 : sizeof(usual) / sizeof(usual[0]);
	struct figure figure;

	if (rig_eal() != 0) {
		fprintf(stderr, "error: EAL does not start\n");
		return 1;
	}
	fprintf(stderr,
		"TSC %.2f GHz, bursts of %u, %u-byte inner packets, %u slices of %u packets; "
		"cycles per packet\n",
		(double)rte_get_tsc_hz() / 1e9, FP_BURST, INNER_BYTES, SLICES, SLICE_PACKETS);
	fprintf(stderr, "%9s %8s %9s %7s %7s %8s %6s %7s %5s %10s\n", "direction", "flows",
		"pipeline", "spread", "floor", "total", "parse", "lookup", "act", "hit ratio");
	for (uint32_t i = 0; i < n; i++) {
		uint32_t flows = argc > 1 ? (uint32_t)strtoul(argv[i + 1], NULL, 10) : usual[i];

		if (flows == 0) {
			fprintf(stderr, "error: %s is no number of flows\n", argv[i + 1]);
			return 2;
		}
		for (enum direction d = ENCAP; d <= DECAP; d++) {
			const char *name = d == ENCAP ? "encap" : "decap";
			const uint64_t *stage = counters.stage_cycles;
			double timed = (double)SLICES * SLICE_PACKETS;

			run(flows, d, &figure, &counters);
			fprintf(stderr,
				"%9s %8u %9.1f %7.1f %7.1f %8.1f %6.1f %7.1f %5.1f %10.6f\n", name,
				flows, figure.cycles - figure.floor, figure.spread, figure.floor,
				figure.cycles, stage[FP_STAGE_PARSE] / timed,
				stage[FP_STAGE_LOOKUP] / timed, stage[FP_STAGE_ACT] / timed,
				figure.hit_ratio);
			printf("{\"benchmark\": \"pipeline\", \"direction\": \"%s\", \"flows\": "
			       "%u, \"cycles\": %.1f, \"spread\": %.1f, "
			       "\"floor_cycles\": %.1f, \"hit_ratio\": %.6f, \"tsc_hz\": %" PRIu64
			       ", \"burst\": %u, \"inner_bytes\": %u, \"slices\": %u, \"stages\": "
			       "{\"parse\": %.1f, \"lookup\": %.1f, \"act\": %.1f}}\n",
			       name, flows, figure.cycles - figure.floor, figure.spread,
			       figure.floor, figure.hit_ratio, rte_get_tsc_hz(), FP_BURST,
			       INNER_BYTES, SLICES, stage[FP_STAGE_PARSE] / timed,
			       stage[FP_STAGE_LOOKUP] / timed, stage[FP_STAGE_ACT] / timed);
			fflush(stdout);
		}
	}
	return 0;
}
