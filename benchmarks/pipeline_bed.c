// SPDX-License-Identifier: Apache-2.0
//
// See pipeline.h. The source takes buffers from the pool, copies a template of one or two cache
// lines and patches addresses and checksums.
#undef NDEBUG
#include "pipeline.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_memcpy.h>

#define VNI 100
#define LOCAL 0xc0000201u  // 192.0.2.1
#define REMOTE 0xc6330000u // 198.51.0.0 + tunnel
#define ATTACHMENT_ID 10
#define TUNNEL_ID 100 // and those that follow
#define SET_ID 500
#define NODE_ID 1000
#define SOURCE_ID 1500 // a location behind each tunnel
#define PLACE_ID 2000
#define HERE_ID 10000000

const struct shape shapes[] = {
	{"vxlan-encap-in-process", ENCAP, .hops = 1, .tunnels = 16},
	{"vxlan-encap-tagged-in-process", ENCAP, .vlan = 20, .hops = 1, .tunnels = 16},
	{"vxlan-encap-hops-in-process", ENCAP, .hops = 2, .tunnels = 16},
	{"vxlan-encap-four-hops-in-process", ENCAP, .hops = 4, .tunnels = 16},
	{"vxlan-encap-set-in-process", ENCAP, .hops = 1, .sets = true, .tunnels = 16},
	{"vxlan-encap-tagged-hops-in-process", ENCAP, .vlan = 20, .hops = 2, .tunnels = 16},
	{"vxlan-encap-tunnels-in-process", ENCAP, .hops = 1, .tunnels = 256},
	{"vxlan-decap-in-process", DECAP, .hops = 1, .tunnels = 1},
	{"vxlan-decap-tagged-in-process", DECAP, .vlan = 20, .hops = 1, .tunnels = 1},
	{"vxlan-decap-tunnels-in-process", DECAP, .hops = 1, .tunnels = 256},
};
const uint32_t shapes_count = RTE_DIM(shapes);

static void
put_address(uint8_t *field, uint32_t address)
{
	address = rte_cpu_to_be_32(address);
	memcpy(field + 12, &address, 4);
}

// Flow i: from here_address(i) to there_address(i); every pair once.
static uint32_t
place_of(const struct bed *bed, uint32_t i)
{
	return i % bed->places;
}
static uint32_t
here_address(const struct bed *bed, uint32_t i)
{
	return 0x0a000001 + i / bed->places;
}
static uint32_t
there_address(const struct bed *bed, uint32_t i)
{
	return 0x0a800001 + place_of(bed, i);
}
// Encapsulation: that the place is behind. Decapsulation: that the flow comes out of.
static uint32_t
tunnel_of(const struct bed *bed, uint32_t i)
{
	return place_of(bed, i) % bed->shape->tunnels;
}

static void
apply(const struct bed *bed, uint16_t type, uint32_t vni, void *record)
{
	struct fp_record_head *head = record;

	*head = (struct fp_record_head){.type = type,
					.version = FP_RECORD_VERSION,
					.flags = FP_RECORD_FIRST | FP_RECORD_LAST,
					.vni = vni,
					.revision = 1};
	if (type != FP_RECORD_TUNNEL_GROUP_SET)
		head->flags = 0;
	if (rig_apply(bed->rig, record, NOW_NS) != 0) {
		fprintf(stderr, "error: the installer refused a record of type %u\n", type);
		exit(1);
	}
}

// The tunnel to node i, the ingress of what comes from there, and a set of it alone. Returns the
// ingress.
static uint32_t
tunnel_make(const struct bed *bed, uint32_t i)
{
	struct fp_record_ingress in = {.key = {.wire_id = VNI, .protocol = FP_PROTOCOL_VXLAN},
				       .node_id = NODE_ID + i,
				       .udp_port = 4789};
	struct fp_record_tunnel tunnel = {.object_id = TUNNEL_ID + i,
					  .profile_id = 1,
					  .node_id = NODE_ID + i,
					  .udp_port = 4789,
					  .mtu_bytes = 1600,
					  .protocol = FP_PROTOCOL_VXLAN,
					  .ttl = 64};
	struct fp_record_nexthop hop = {.count = bed->shape->hops};
	struct fp_record_tunnel_group set = {.object_id = SET_ID + i,
					     .tunnel = {TUNNEL_ID + i},
					     .weight = {1},
					     .mode = FP_SET_ENTROPY,
					     .count = 1};

	put_address(in.key.local, LOCAL);
	put_address(in.key.remote, REMOTE + i);
	put_address(tunnel.local, LOCAL);
	put_address(tunnel.remote, REMOTE + i);
	put_address(hop.local, LOCAL);
	put_address(hop.remote, REMOTE + i);
	for (uint8_t h = 0; h < hop.count; h++)
		hop.hop[h] = (struct fp_nexthop){.destination_mac = {2, 0, 0, h, 1, (uint8_t)i},
						 .source_mac = {2, 0, 0, 0, 0, 0xf1},
						 .port = 1};
	apply(bed, FP_RECORD_INGRESS_SET, VNI, &in);
	apply(bed, FP_RECORD_TUNNEL_SET, 0, &tunnel);
	apply(bed, FP_RECORD_NEXTHOP_SET, 0, &hop);
	if (bed->shape->sets)
		apply(bed, FP_RECORD_TUNNEL_GROUP_SET, 0, &set);
	return fp_ingress_by_locator(rig_arena(bed->rig), &in.key);
}

static void
place_make(const struct bed *bed, uint32_t i)
{
	uint32_t tunnel = tunnel_of(bed, i);
	struct fp_record_location location = {
		.object_id = PLACE_ID + i,
		.mac = {2, 1, 0, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i},
		.kind = FP_LOCATION_LOCAL,
		.target_id = ATTACHMENT_ID};

	if (bed->shape->direction == ENCAP) {
		location.node_id = NODE_ID + tunnel;
		location.wire_id = VNI;
		location.kind = bed->shape->sets ? FP_LOCATION_SET : FP_LOCATION_TUNNEL;
		location.target_id = (bed->shape->sets ? SET_ID : TUNNEL_ID) + tunnel;
	}
	apply(bed, FP_RECORD_LOCATION_SET, VNI, &location);
}

// Where what comes out of a tunnel came from: the way back, by which it is counted too.
static void
source_make(const struct bed *bed, uint32_t tunnel)
{
	struct fp_record_location location = {.object_id = SOURCE_ID + tunnel,
					      .node_id = NODE_ID + tunnel,
					      .wire_id = VNI,
					      .kind = FP_LOCATION_TUNNEL,
					      .target_id = TUNNEL_ID + tunnel,
					      .mac = {2, 0, 0, 0, 0, 9}};

	apply(bed, FP_RECORD_LOCATION_SET, VNI, &location);
}

// Members here, as sources: whose MAC is looked at.
static void
here_make(const struct bed *bed, uint32_t i)
{
	struct fp_record_location location = {.object_id = HERE_ID + i,
					      .mac = {2, 0, 0, 0, 0, 9},
					      .kind = FP_LOCATION_LOCAL,
					      .target_id = ATTACHMENT_ID};

	apply(bed, FP_RECORD_LOCATION_SET, VNI, &location);
}

static void
tables_fill(const struct bed *bed)
{
	struct fp_record_vnet vnet = {.object_id = 1, .incarnation = 7};
	struct fp_record_snapshot snapshot = {.incarnation = 7};
	struct fp_record_attachment attachment = {
		.object_id = ATTACHMENT_ID, .port = "port0", .vlan = bed->shape->vlan};
	uint32_t ingress[256], here;

	assert(bed->shape->tunnels <= RTE_DIM(ingress));
	apply(bed, FP_RECORD_VNET_SET, VNI, &vnet);
	apply(bed, FP_RECORD_SNAPSHOT_BEGIN, VNI, &snapshot);
	apply(bed, FP_RECORD_SNAPSHOT_END, VNI, &snapshot);
	apply(bed, FP_RECORD_ATTACHMENT_SET, VNI, &attachment);
	here = fp_ingress_by_vlan(rig_arena(bed->rig), 0, bed->shape->vlan);
	for (uint32_t i = 0; i < bed->shape->tunnels; i++) {
		ingress[i] = tunnel_make(bed, i);
		source_make(bed, i);
	}
	for (uint32_t i = 0; i < bed->places; i++)
		place_make(bed, i);
	for (uint32_t i = 0; bed->shape->direction == ENCAP && i < bed->flows; i += bed->places)
		here_make(bed, i / bed->places);
	for (uint32_t i = 0; i < bed->flows; i++) {
		struct fp_record_flow flow = {
			.key = {.key_class = FP_CLASS_BRIDGED, .ingress = here},
			.action = FP_ACTION_ENCAPSULATE,
			.ingress_object = ATTACHMENT_ID,
			.source_object = HERE_ID + i / bed->places,
			.destination_object = PLACE_ID + place_of(bed, i),
			.lifetime_ms = 86400000,
			.incarnation = 7,
		};

		if (bed->shape->direction == DECAP) {
			flow.key.ingress = ingress[tunnel_of(bed, i)];
			flow.action = FP_ACTION_DELIVER;
			flow.ingress_object = NODE_ID + tunnel_of(bed, i);
			flow.source_object = SOURCE_ID + tunnel_of(bed, i);
		}
		put_address(flow.key.source, here_address(bed, i));
		put_address(flow.key.destination, there_address(bed, i));
		apply(bed, FP_RECORD_FLOW_INSTALL, VNI, &flow);
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

// clang-format off
static const uint8_t outer[OUTER_BYTES] = { // without source address and checksum
	2, 0, 0, 0, 0, 0xf1,  2, 0, 0, 0, 1, 0,  8, 0, // Ethernet
	0x45, 0, 0, 36 + INNER_BYTES, 0, 0, 0x40, 0, 64, 17, 0, 0,
	0, 0, 0, 0,  192, 0, 2, 1,
	0xc3, 0x50, 0x12, 0xb5, 0, 16 + INNER_BYTES, 0, 0, // UDP to 4789
	8, 0, 0, 0, 0, 0, VNI, 0,
};
static const uint8_t inner[INNER_BYTES] = { // without addresses and checksum
	2, 1, 0, 0, 0, 0,  2, 0, 0, 0, 0, 9,  8, 0,
	0x45, 0, 0, INNER_BYTES - 14, 0, 0, 0, 0, 64, 17, 0, 0,
	0, 0, 0, 0,  0, 0, 0, 0,
	0x10, 0x00, 0x20, 0x00, 0, INNER_BYTES - 34, 0, 0,
};
// clang-format on

static void
template_make(struct bed *bed)
{
	uint8_t *at = bed->template;

	bed->inner_sum = sum16(inner + 14, 20);
	bed->outer_sum = sum16(outer + 14, 20);
	if (bed->shape->direction == DECAP) {
		memcpy(at, outer, OUTER_BYTES);
		at += OUTER_BYTES;
	}
	memcpy(at, inner, 12);
	at += 12;
	if (bed->shape->direction == ENCAP && bed->shape->vlan != 0) {
		*at++ = 0x81;
		*at++ = 0;
		*at++ = (uint8_t)(bed->shape->vlan >> 8);
		*at++ = (uint8_t)bed->shape->vlan;
	}
	memcpy(at, inner + 12, INNER_BYTES - 12);
	bed->ip_at = (uint32_t)(at + 2 - bed->template);
	bed->template_bytes = (uint32_t)(at + INNER_BYTES - 12 - bed->template);
}

// Addresses and the checksum of an IPv4 header. `sum` is that of its other words.
static inline void
address_put(uint8_t *ip, uint32_t sum, uint32_t source, uint32_t destination)
{
	uint16_t checksum = (uint16_t)~fold(sum + (source & 0xffff) + (source >> 16) +
					    (destination & 0xffff) + (destination >> 16));

	memcpy(ip + 10, &checksum, 2);
	memcpy(ip + 12, &source, 4);
	memcpy(ip + 16, &destination, 4);
}

void
burst_make(const struct bed *bed, struct rte_mbuf **mbufs, const uint32_t *flows)
{
	const bool decap = bed->shape->direction == DECAP;

	if (rte_pktmbuf_alloc_bulk(rig_mempool(bed->rig), mbufs, FP_BURST) != 0)
		abort();
	for (uint32_t i = 0; i < FP_BURST; i++) {
		uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], uint8_t *);

		rte_memcpy(frame, bed->template, bed->template_bytes);
		address_put(frame + bed->ip_at, bed->inner_sum, rte_cpu_to_be_32(here_address(bed, flows[i])),
			    rte_cpu_to_be_32(there_address(bed, flows[i])));
		if (decap) {
			uint32_t remote = rte_cpu_to_be_32(REMOTE + tunnel_of(bed, flows[i]));
			uint16_t checksum =
				(uint16_t)~fold(bed->outer_sum + (remote & 0xffff) + (remote >> 16));

			memcpy(frame + 24, &checksum, 2);
			memcpy(frame + 26, &remote, 4);
		}
		mbufs[i]->data_len = (uint16_t)bed->template_bytes;
		mbufs[i]->pkt_len = bed->template_bytes;
	}
}

// One frame that came out; `flow` went in.
static void
frame_verify(const struct bed *bed, const struct rte_mbuf *mbuf, uint32_t flow)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *), *ip = frame + 14;
	uint32_t place = place_of(bed, flow), tunnel = tunnel_of(bed, flow);
	const uint8_t mac[6] = {2, 1, 0, (uint8_t)(place >> 16), (uint8_t)(place >> 8), (uint8_t)place};
	uint32_t source = rte_cpu_to_be_32(here_address(bed, flow)),
		 destination = rte_cpu_to_be_32(there_address(bed, flow)),
		 remote = rte_cpu_to_be_32(REMOTE + tunnel);

	if (bed->shape->direction == ENCAP) {
		assert(mbuf->data_len == OUTER_BYTES + INNER_BYTES);
		assert(frame[3] < bed->shape->hops && frame[5] == (uint8_t)tunnel);
		assert(memcmp(frame + 30, &remote, 4) == 0 && frame[48] == VNI);
		assert(sum16(ip, 20) == 0xffff && frame[34] >= 0xc0);
		frame += OUTER_BYTES;
		ip = frame + 14;
	} else if (bed->shape->vlan != 0) {
		assert(mbuf->data_len == INNER_BYTES + TAG_BYTES);
		assert(frame[12] == 0x81 && frame[13] == 0 && frame[15] == bed->shape->vlan);
		ip += TAG_BYTES;
	} else {
		assert(mbuf->data_len == INNER_BYTES);
	}
	assert(memcmp(frame, mac, 6) == 0 && memcmp(frame + 6, inner + 6, 6) == 0 && ip[-2] == 8);
	assert(memcmp(ip + 12, &source, 4) == 0 && memcmp(ip + 16, &destination, 4) == 0);
	assert(sum16(ip, 20) == 0xffff);
	assert(memcmp(ip + 20, inner + 34, INNER_BYTES - 34) == 0);
}

// An extra reference keeps the buffers.
void
burst_verify(const struct bed *bed, const uint32_t *flows)
{
	struct fp_thread *thread = rig_thread(bed->rig);
	const struct fp_counters *counters = fp_thread_counters(thread);
	uint64_t sent = counters->forwarded + counters->delivered, missed = counters->misses;
	struct rte_mbuf *mbufs[FP_BURST];

	burst_make(bed, mbufs, flows);
	for (uint32_t i = 0; i < FP_BURST; i++)
		rte_mbuf_refcnt_update(mbufs[i], 1);
	fp_thread_receive(thread, bed_source(bed), mbufs, FP_BURST);
	fp_thread_finish(thread);
	fp_thread_flush(thread);
	sent = counters->forwarded + counters->delivered - sent;
	missed = counters->misses - missed; // not resident
	assert(sent + missed == FP_BURST);
	for (uint32_t i = 0; i < FP_BURST; i++) {
		assert(rte_mbuf_refcnt_read(mbufs[i]) == 1);
		if (missed == 0)
			frame_verify(bed, mbufs[i], flows[i]);
		rte_pktmbuf_free(mbufs[i]);
	}
}

void
bed_make(struct bed *bed, const struct shape *shape, uint32_t flows)
{
	struct rig_config config = {
		.port = {{.role = FP_PORT_INSIDE, .mac = {2, 0, 0, 0, 0, 0xf0}, .mtu_bytes = 1500},
			 {.role = FP_PORT_UNDERLAY, .mac = {2, 0, 0, 0, 0, 0xf1}, .mtu_bytes = 1600}},
		.ports = 2,
		.ring_slots = 64,
		.mbufs = 1023,
		.mbuf_cache = 256,
		.miss_slots = 256,
		.null_ports = true,
		.arena = {.flows = flows < 1024 ? 2048 : flows + flows / 4,
			  .locations = PLACES * 2,
			  .tunnels = 512,
			  .vnets = 8,
			  .ingresses = 512,
			  .ports = 8,
			  .threads = 1,
			  .refusal_share_percent = 10},
		.hold = {.packets = 0}, // what misses ends
	};

	*bed = (struct bed){.shape = shape, .flows = flows, .places = RTE_MIN(flows, (uint32_t)PLACES)};
	assert(rig_create(&config, &bed->rig) == 0);
	tables_fill(bed);
	template_make(bed);
	rig_step(bed->rig, NOW_NS + 2000000000ull);
}

void
bed_destroy(struct bed *bed)
{
	rig_destroy(bed->rig);
}
