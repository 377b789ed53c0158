// SPDX-License-Identifier: Apache-2.0
//
// A sequence of operations that touches every table, each stopped after every single store of it.
#include "adoption_images.h"

#include "../core/install_internal.h"

static uint64_t revision = 1;

static int
put(const void *record)
{
	struct world w = {watched.arena, watched.installer, NOW_NS};
	return apply_headed(&w, record);
}

static int
tick(const void *ns)
{
	fp_installer_tick(watched.installer, *(const uint64_t *)ns);
	return 0;
}

#define HEAD(kind, in_vnet)                                                                                  \
	.head = {.type = (kind), .version = FP_RECORD_VERSION, .vni = (in_vnet), .revision = ++revision}

static void
vnet_put(const char *name, uint32_t vni, uint64_t object_id, uint8_t mac)
{
	const struct fp_record_vnet record = {HEAD(FP_RECORD_VNET_SET, vni),
					      .object_id = object_id,
					      .incarnation = 7,
					      .quota_flows = 40 + mac,
					      .stale_max_s = mac,
					      .gateway_mac = {2, 0, 0, 0, mac, 1},
					      .gateway_address = {[12] = 10, 0, mac, 1}};
	watch(name, put, &record, 0);
}

static void
snapshot(const char *name, uint16_t type, uint32_t vni)
{
	const struct fp_record_snapshot record = {HEAD(type, vni), .incarnation = 7};
	watch(name, put, &record, 0);
}

static void
attachment_put(const char *name, uint32_t vni, uint64_t object_id, const char *port, uint16_t vlan)
{
	struct fp_record_attachment record = {HEAD(FP_RECORD_ATTACHMENT_SET, vni), .object_id = object_id,
					      .vlan = vlan};
	memcpy(record.port, port, strlen(port));
	watch(name, put, &record, 0);
}

static void
ingress_set(const char *name, uint16_t type, uint32_t vni, uint64_t node_id, uint8_t address,
	    uint16_t udp_port)
{
	const struct fp_record_ingress record = {
		HEAD(type, vni),
		.key = {.local = {[12] = 192, 0, 2, 1},
			.remote = {[12] = 192, 0, 2, address},
			.wire_id = vni,
			.protocol = FP_PROTOCOL_VXLAN},
		.node_id = node_id,
		.udp_port = udp_port,
	};
	watch(name, put, &record, 0);
}

static void
tunnel_set(const char *name, uint64_t object_id, uint8_t address, uint8_t ttl)
{
	const struct fp_record_tunnel record = {
		HEAD(FP_RECORD_TUNNEL_SET, 0),
		.object_id = object_id,
		.profile_id = 1,
		.node_id = 500 + address,
		.local = {[12] = 192, 0, 2, 1},
		.remote = {[12] = 192, 0, 2, address},
		.udp_port = 4789,
		.mtu_bytes = 1500,
		.protocol = FP_PROTOCOL_VXLAN,
		.ttl = ttl,
	};
	watch(name, put, &record, 0);
}

static void
nexthop_set(const char *name, uint8_t address, uint8_t mac, uint8_t count)
{
	struct fp_record_nexthop record = {HEAD(FP_RECORD_NEXTHOP_SET, 0), .local = {[12] = 192, 0, 2, 1},
					   .remote = {[12] = 192, 0, 2, address}, .count = count};
	for (uint8_t i = 0; i < count; i++)
		record.hop[i] =
			(struct fp_nexthop){.destination_mac = {2, 9, 9, 9, mac, i}, .source_mac = {2, 1}};
	watch(name, put, &record, 0);
}

static void
group_set(const char *name, uint64_t object_id, uint64_t first, uint64_t second)
{
	struct fp_record_tunnel_group record = {HEAD(FP_RECORD_TUNNEL_GROUP_SET, 0),
						.object_id = object_id,
						.tunnel = {first, second},
						.weight = {1, 3},
						.mode = FP_SET_ENTROPY,
						.count = 2};
	record.head.flags = FP_RECORD_FIRST | FP_RECORD_LAST;
	watch(name, put, &record, 0);
}

static void
location_set(const char *name, uint16_t type, uint32_t vni, uint64_t object_id, uint8_t kind, uint64_t target)
{
	const struct fp_record_location record = {HEAD(type, vni),
						  .object_id = object_id,
						  .target_id = target,
						  .node_id = 501,
						  .wire_id = vni,
						  .kind = kind,
						  .mac = {2, 5, 5, 5, 5, (uint8_t)object_id}};
	watch(name, put, &record, 0);
}

static void
flow_set(const char *name, uint32_t number, uint64_t attachment, uint8_t action, uint64_t destination,
	 uint32_t to_vni)
{
	const uint32_t life_s = 60 + (uint32_t)((revision + 1) % 50);
	struct fp_record_flow record = {
		HEAD(FP_RECORD_FLOW_INSTALL, 100),
		.key = key_of(fp_attachment_by_id(watched.installer, attachment), 0),
		.action = action,
		.reason = action == FP_ACTION_DROP ? 1 : 0,
		.ingress_object = attachment,
		.destination_object = destination,
		.destination_vni = to_vni,
		.lifetime_ms = 1000 * life_s,
		.incarnation = 7,
	};
	memcpy(record.key.source + 12, &number, sizeof(number));
	watch(name, put, &record, 0);
}

static void
change(const char *name, uint8_t kind, uint32_t number)
{
	struct fp_record_change record = {HEAD(FP_RECORD_CHANGE, 100),
					  .scope = {.source_bits = 128, .port_high = 0xffff},
					  .incarnation = 7, .kind = kind};
	memcpy(record.scope.source + 12, &number, sizeof(number));
	record.head.flags = FP_RECORD_FIRST | FP_RECORD_LAST;
	watch(name, put, &record, 0);
}

static void
peering(const char *name, uint16_t type, uint32_t from, uint32_t to)
{
	const struct fp_record_peering record = {HEAD(type, from), .to_vni = to};
	watch(name, put, &record, 0);
}

static void
topology_grows(void)
{
	snapshot("snapshot begins", FP_RECORD_SNAPSHOT_BEGIN, 100);
	vnet_put("V-net comes", 100, 1100, 1);
	vnet_put("second V-net comes", 200, 1200, 2);
	attachment_put("attachment comes", 100, 11, "p0", 5);
	attachment_put("second attachment comes", 100, 12, "p1", 5);
	attachment_put("attachment of the other V-net comes", 200, 21, "p0", 6);
	ingress_set("node comes", FP_RECORD_INGRESS_SET, 100, 501, 2, 4789);
	ingress_set("its second locator comes", FP_RECORD_INGRESS_SET, 100, 501, 3, 4790);
	ingress_set("another node comes", FP_RECORD_INGRESS_SET, 100, 502, 4, 4789);
	tunnel_set("tunnel comes", 31, 2, 64);
	tunnel_set("second tunnel comes", 32, 3, 64);
	nexthop_set("next hop comes", 2, 1, 1);
	nexthop_set("second next hop comes", 3, 1, 2);
	group_set("tunnel set comes", 41, 31, 32);
	location_set("local location comes", FP_RECORD_LOCATION_SET, 100, 61, FP_LOCATION_LOCAL, 11);
	location_set("location behind a tunnel comes", FP_RECORD_LOCATION_SET, 100, 62, FP_LOCATION_TUNNEL,
		     31);
	location_set("location behind a set comes", FP_RECORD_LOCATION_SET, 100, 63, FP_LOCATION_SET, 41);
	location_set("location of the other V-net comes", FP_RECORD_LOCATION_SET, 200, 64, FP_LOCATION_LOCAL,
		     21);
	peering("peering comes", FP_RECORD_PEERING_SET, 100, 200);
	peering("peering back comes", FP_RECORD_PEERING_SET, 200, 100);
	snapshot("snapshot ends", FP_RECORD_SNAPSHOT_END, 100);
}

static void
flows_come_and_go(void)
{
	for (uint32_t n = 0; n < 24; n++)
		flow_set("flow comes", n, 11 + n % 2, n % 3 ? FP_ACTION_DELIVER : FP_ACTION_ENCAPSULATE,
			 61 + n % 3, 0);
	for (uint32_t n = 30; n < 34; n++)
		flow_set("refusal comes", n, 11, FP_ACTION_DROP, 0, 0);
	flow_set("flow to the peer comes", 35, 11, FP_ACTION_DELIVER, 64, 200);
	for (uint32_t n = 0; n < 12; n += 3)
		flow_set("flow changes", n, 11 + n % 2, FP_ACTION_ENCAPSULATE, 62, 0);
	flow_set("flow becomes a refusal", 1, 12, FP_ACTION_DROP, 0, 0);
	flow_set("refusal becomes a flow", 30, 11, FP_ACTION_DELIVER, 61, 0);
	for (uint32_t n = 40; n < 80; n++) // over the quota: another one goes
		flow_set("flow evicts", n, 11, FP_ACTION_DELIVER, 61, 0);
	change("change tightens", FP_CHANGE_TIGHTEN, 79);
	change("change loosens", FP_CHANGE_LOOSEN, 78);
	watch("tick", tick, &(const uint64_t){NOW_NS + 1000000}, 0);
	watch("tick expires", tick, &(const uint64_t){NOW_NS + 250ull * 1000000000}, 0);
	fp_arena_tick(watched.arena, NOW_NS);
}

static void
topology_changes(void)
{
	for (uint32_t n = 0; n < 12; n++)
		flow_set("flow comes again", n, 11 + n % 2, FP_ACTION_DELIVER, 61 + n % 3, 0);
	flow_set("flow to the peer comes again", 35, 11, FP_ACTION_DELIVER, 64, 200);
	vnet_put("V-net's settings change", 100, 1100, 9);
	location_set("endpoint moves away", FP_RECORD_LOCATION_SET, 100, 61, FP_LOCATION_TUNNEL, 31);
	location_set("endpoint moves back", FP_RECORD_LOCATION_SET, 100, 61, FP_LOCATION_LOCAL, 12);
	tunnel_set("tunnel's header changes", 31, 2, 32);
	nexthop_set("next hop changes", 2, 7, 2);
	nexthop_set("next hop goes", 3, 0, 0);
	group_set("tunnel set changes", 41, 32, 31);
	attachment_put("attachment moves to another VLAN", 100, 11, "p0", 8);
	ingress_set("locator goes", FP_RECORD_INGRESS_REMOVE, 100, 501, 3, 4790);
	ingress_set("node goes", FP_RECORD_INGRESS_REMOVE, 100, 502, 4, 4789);
	peering("peering goes", FP_RECORD_PEERING_REMOVE, 100, 200);
	location_set("location goes", FP_RECORD_LOCATION_REMOVE, 100, 62, 0, 0);
	vnet_put("V-net gives its number to another", 200, 1201, 3);
	const struct fp_record_vnet gone = {HEAD(FP_RECORD_VNET_REMOVE, 100), .object_id = 1100};
	watch("V-net goes", put, &gone, 0);
	watch("tick after all", tick, &(const uint64_t){NOW_NS + 2000000}, 0);
}

int
main(void)
{
	struct fp_arena_config config = small_config(64);

	config.ingresses = 16;
	config.ports = 2;
	watched_open(&config);
	topology_grows();
	flows_come_and_go();
	topology_changes();
	fprintf(stderr, "stopped after each of %lu stores, adopted %lu images\n",
		(unsigned long)watched.stores, (unsigned long)watched.images);
	assert(watched.images > 1000);
	watched_close();
	return 0;
}
