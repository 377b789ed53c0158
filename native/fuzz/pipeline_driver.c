// SPDX-License-Identifier: Apache-2.0
//
// See pipeline_driver.h.
#undef NDEBUG
#include "pipeline_driver.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>

#include "frames.h"
#include "rig.h"

#define NOW_NS 1000000000000ull
#define FRAME_BYTES_MAX 9000

// What the first byte of an input says, besides the time that passes (its upper half).
#define PORT 7
#define MEND_CHECKSUMS 8 // IPv4 header checksums are made right, so that what is behind them is reached

// A buffer of its own for every frame: headroom, then exactly the frame.
struct exact {
	struct rte_mbuf_ext_shared_info shared;
	uint8_t *buffer;
};

static struct rig *rig;
static uint64_t now_ns = NOW_NS, inputs;

static void tables_fill(void);
static void flow_add(uint32_t ingress, uint64_t ingress_object, uint8_t key_class, uint8_t source,
		     uint8_t destination, uint8_t action, uint64_t to, uint16_t reason);
static void record_apply(uint16_t type, uint32_t vni, const void *body, uint8_t flags);
static void address_put(uint8_t *field, uint8_t a, uint8_t b, uint8_t c, uint8_t d);
static struct rte_mbuf *mbuf_exact(const uint8_t *frame, size_t len);
static void exact_free(void *, void *opaque);
static void accounting_check(void);
static void checksums_mend(uint8_t *frame, size_t len);

int
pipeline_driver_start(void)
{
	struct rig_config config = {
		.port =
			{
				{.role = FP_PORT_INSIDE, .mac = {2, 0, 0, 0, 0, 0xf0}, .mtu_bytes = 1500},
				{.role = FP_PORT_UNDERLAY,
				 .mac = {2, 0, 0, 0, 0, 0xf1},
				 .mtu_bytes = 1600,
				 .partial_checksums = 1},
				{.role = FP_PORT_BOTH,
				 .mac = {2, 0, 0, 0, 0, 0xf2},
				 .mtu_bytes = 9000,
				 .partial_checksums = 1},
			},
		.ports = 3,
		.ring_slots = 64,
		.mbufs = 511,
		.miss_slots = 64,
		.arena = {.flows = 1024,
			  .locations = 64,
			  .tunnels = 16,
			  .vnets = 8,
			  .ingresses = 32,
			  .ports = 8,
			  .threads = 1,
			  .refusal_share_percent = 50},
		.hold = {.packets = 64,
			 .packets_per_vnet = 48,
			 .packets_per_ingress = 32,
			 .packets_per_flow = 4,
			 .wait_ms = 300},
		.icmp_per_s = 1000,
		.exceptions_per_s = 1000000,
	};
	int rc = rig_eal();

	if (rc == 0)
		rc = rig_create(&config, &rig);
	if (rc != 0)
		return rc;
	tables_fill();
	return 0;
}

void
pipeline_driver_run(const uint8_t *data, size_t size)
{
	static uint8_t buffer[RIG_FRAME_BYTES];
	struct fp_record record;
	struct rte_mbuf *mbuf;
	uint32_t port, len;

	if (size < 2 || size > FRAME_BYTES_MAX)
		return;
	mbuf = mbuf_exact(data + 1, size - 1);
	if (mbuf == NULL)
		return;
	if (data[0] & MEND_CHECKSUMS)
		checksums_mend(rte_pktmbuf_mtod(mbuf, uint8_t *), size - 1);
	now_ns += (data[0] >> 4) * 5000000ull;
	rig_step(rig, now_ns);
	fp_thread_receive(rig_thread(rig), rig_port(rig, (data[0] & PORT) % 3), &mbuf, 1);
	fp_thread_finish(rig_thread(rig));
	fp_thread_flush(rig_thread(rig));
	while (rig_sent(rig, &port, buffer, &len))
		assert(len >= 14);
	while (rig_exception(rig, &port, buffer, &len))
		assert(port == 1 || port == 2);
	for (uint32_t worker = 0; worker < RIG_WORKERS; worker++)
		while (rig_record(rig, worker, &record))
			;
	inputs++;
	accounting_check();
}

void
pipeline_driver_stop(void)
{
	const struct fp_counters *c = fp_thread_counters(rig_thread(rig));

	assert(c->forwarded && c->delivered && c->relayed && c->answered && c->icmp_sent && c->exceptions);
	assert(c->narrowed && c->held && c->expired && c->miss_records);
	for (uint32_t i = 0; i < FP_REASONS_MAX; i++)
		if (c->dropped[i] != 0)
			printf("%12lu %s\n", (unsigned long)c->dropped[i], fp_drop_name(i));
	printf("%12lu forwarded, delivered, relayed or answered\n",
	       (unsigned long)(c->forwarded + c->delivered + c->relayed + c->answered));
	rig_destroy(rig);
}

static void
accounting_check(void)
{
	const struct fp_counters *c = fp_thread_counters(rig_thread(rig));
	uint64_t ended = c->forwarded + c->delivered + c->relayed + c->answered + c->exceptions + c->held_now;

	for (uint32_t i = 0; i < FP_REASONS_MAX; i++)
		ended += c->dropped[i];
	assert(c->received == inputs && ended == inputs);
	assert(rig_mbufs_in_use(rig) == c->held_now);
}

// Of the outer and of the inner header, as far as they are there.
static void
checksums_mend(uint8_t *frame, size_t len)
{
	for (int depth = 0; depth < 2 && len >= 34 && frame[12] == 8 && frame[13] == 0; depth++) {
		uint8_t *ip = frame + 14;
		size_t header_bytes = (ip[0] & 15) * 4u, skip;

		if (header_bytes < 20 || len < 14 + header_bytes)
			return;
		ip[10] = ip[11] = 0;
		frame_put16(ip + 10, frame_sum(ip, header_bytes));
		skip = 14 + header_bytes + 16;
		if (ip[9] != 17 || len < skip)
			return;
		frame += skip;
		len -= skip;
	}
}

static struct rte_mbuf *
mbuf_exact(const uint8_t *frame, size_t len)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(rig_mempool(rig));
	struct exact *exact = malloc(sizeof(*exact));

	assert(exact != NULL);
	if (mbuf == NULL) {
		free(exact);
		return NULL;
	}
	exact->buffer = malloc(RTE_PKTMBUF_HEADROOM + len);
	assert(exact->buffer != NULL);
	memcpy(exact->buffer + RTE_PKTMBUF_HEADROOM, frame, len);
	exact->shared = (struct rte_mbuf_ext_shared_info){.free_cb = exact_free, .fcb_opaque = exact};
	rte_mbuf_ext_refcnt_set(&exact->shared, 1);
	rte_pktmbuf_attach_extbuf(mbuf, exact->buffer, RTE_BAD_IOVA, (uint16_t)(RTE_PKTMBUF_HEADROOM + len),
				  &exact->shared);
	mbuf->data_off = RTE_PKTMBUF_HEADROOM;
	mbuf->data_len = (uint16_t)len;
	mbuf->pkt_len = (uint32_t)len;
	return mbuf;
}

static void
exact_free(void *, void *opaque)
{
	struct exact *exact = opaque;

	free(exact->buffer);
	free(exact);
}

static void
tables_fill(void)
{
	const uint8_t gateway[6] = {2, 0, 0, 0, 0, 0xaa};
	struct fp_record_vnet vnet = {.object_id = 1, .incarnation = 7};
	struct fp_record_snapshot snapshot = {.incarnation = 7};
	struct fp_record_attachment attachment = {.object_id = 10, .port = "port0"};
	struct fp_record_ingress ingress = {
		.key = {.wire_id = 100, .protocol = FP_PROTOCOL_VXLAN}, .node_id = 50, .udp_port = 4789};
	struct fp_record_tunnel tunnel = {.object_id = 20,
					  .profile_id = 1,
					  .node_id = 51,
					  .udp_port = 4789,
					  .mtu_bytes = 1400,
					  .protocol = FP_PROTOCOL_VXLAN,
					  .ttl = 64,
					  .dscp_copy = 1};
	struct fp_record_nexthop nexthop = {.count = 1};
	struct fp_record_location location = {.object_id = 30,
					      .target_id = 20,
					      .node_id = 51,
					      .wire_id = 100,
					      .kind = FP_LOCATION_TUNNEL,
					      .mac = {2, 0, 0, 0, 0, 3}};
	uint32_t here, remote;

	memcpy(vnet.gateway_mac, gateway, sizeof(gateway));
	address_put(vnet.gateway_address, 10, 0, 0, 254);
	record_apply(FP_RECORD_VNET_SET, 100, &vnet, 0);
	record_apply(FP_RECORD_SNAPSHOT_BEGIN, 100, &snapshot, 0);
	record_apply(FP_RECORD_SNAPSHOT_END, 100, &snapshot, 0);
	record_apply(FP_RECORD_ATTACHMENT_SET, 100, &attachment, 0);
	attachment = (struct fp_record_attachment){.object_id = 11, .port = "port2", .vlan = 5};
	record_apply(FP_RECORD_ATTACHMENT_SET, 100, &attachment, 0);
	address_put(ingress.key.local, 192, 0, 2, 1);
	address_put(ingress.key.remote, 192, 0, 2, 2);
	record_apply(FP_RECORD_INGRESS_SET, 100, &ingress, 0);
	remote = fp_ingress_by_locator(rig_arena(rig), &ingress.key);
	address_put(ingress.key.remote, 192, 0, 2, 3);
	ingress.node_id = 51;
	ingress.ingress_flags = FP_INGRESS_CHECK; // the other one is believed
	record_apply(FP_RECORD_INGRESS_SET, 100, &ingress, 0);
	address_put(tunnel.local, 192, 0, 2, 1);
	address_put(tunnel.remote, 192, 0, 2, 3);
	record_apply(FP_RECORD_TUNNEL_SET, 0, &tunnel, 0);
	address_put(nexthop.local, 192, 0, 2, 1);
	address_put(nexthop.remote, 192, 0, 2, 3);
	nexthop.hop[0] = (struct fp_nexthop){.destination_mac = {2, 0, 0, 0, 0, 0xe1}, .port = 1};
	record_apply(FP_RECORD_NEXTHOP_SET, 0, &nexthop, 0);
	record_apply(FP_RECORD_LOCATION_SET, 100, &location, 0);
	location = (struct fp_record_location){
		.object_id = 31, .target_id = 11, .kind = FP_LOCATION_LOCAL, .mac = {2, 0, 0, 0, 0, 1}};
	record_apply(FP_RECORD_LOCATION_SET, 100, &location, 0);
	here = fp_ingress_by_vlan(rig_arena(rig), 0, 0);
	assert(here != 0 && remote != 0);

	for (uint8_t key_class = FP_CLASS_ROUTED; key_class <= FP_CLASS_BRIDGED; key_class++) {
		flow_add(here, 10, key_class, 1, 2, FP_ACTION_ENCAPSULATE, 30, 0);
		flow_add(here, 10, key_class, 1, 3, FP_ACTION_DELIVER, 31, 0);
		flow_add(here, 10, key_class, 1, 4, FP_ACTION_NARROW, 0, 0);
		flow_add(here, 10, key_class, 1, 5, FP_ACTION_DROP, 0, FP_DROP_denied);
		flow_add(remote, 50, key_class, 2, 1, FP_ACTION_DELIVER, 31, 0);
		flow_add(remote, 50, key_class, 2, 3, FP_ACTION_RELAY, 30, 0);
	}
	flow_add(here, 10, FP_CLASS_NEIGHBOR, 1, 2, FP_ACTION_ANSWER, 30, 0);
	flow_add(remote, 50, FP_CLASS_NEIGHBOR, 2, 1, FP_ACTION_ANSWER, 31, 0);
}

static void
flow_add(uint32_t ingress, uint64_t ingress_object, uint8_t key_class, uint8_t source, uint8_t destination,
	 uint8_t action, uint64_t to, uint16_t reason)
{
	struct fp_record_flow flow = {
		.key = {.key_class = key_class, .ingress = ingress},
		.reason = reason,
		.action = action,
		.ingress_object = ingress_object,
		.source_object = ingress_object == 50 ? 30 : 0,
		.destination_object = to,
		.destination_vni = to != 0 ? 100 : 0,
		.lifetime_ms = 86400000,
		.incarnation = 7,
	};

	address_put(flow.key.source, 10, 0, 0, source);
	address_put(flow.key.destination, 10, 0, 0, destination);
	record_apply(FP_RECORD_FLOW_INSTALL, 100, &flow, 0);
}

// body: the type's struct; its head is written here.
static void
record_apply(uint16_t type, uint32_t vni, const void *body, uint8_t flags)
{
	struct fp_record record;

	memcpy(&record, body, sizeof(record));
	record.head = (struct fp_record_head){
		.type = type, .version = FP_RECORD_VERSION, .flags = flags, .vni = vni, .revision = 1};
	if (rig_apply(rig, &record, NOW_NS) != 0) {
		fprintf(stderr, "the installer refused a record of type %u\n", type);
		abort();
	}
}

static void
address_put(uint8_t *field, uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	field[12] = a;
	field[13] = b;
	field[14] = c;
	field[15] = d;
}
