// SPDX-License-Identifier: Apache-2.0
//
// The writer is stopped after every single store of a sequence that touches every table: each image of the
// arena is adopted as a later data plane would, installer and all, and what is found there is compared, fact
// by fact and by the names that clients use, with what stood before and after the operation.
//
// A fact that the operation does not change is there, unchanged. One that it changes is old or new; where
// one store turns old into new (flows, locations, tunnels) it is there in every image. What comes or goes
// may be there or not.
//
// Compiled with FP_STORE_HOOK, see store.h.
#include "arena_facts.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOW_NS (2000ull * 1000000000)

static struct fp_arena *arena;
static struct fp_installer *installer;
static char path[64];
static const char *operation = "set-up";
static uint64_t images, stores;

// What is found in each image of the operation at hand. Compared when its end is known.
static struct facts *found[8192];
static uint32_t found_count;
static uint8_t *last_image;
static bool watching;

static int
port_by_name(void *, const char *name, uint16_t *mtu_bytes)
{
	*mtu_bytes = 1500;
	return name[0] == 'p' && name[1] >= '0' && name[1] <= '1' ? name[1] - '0' : -1;
}
static void
nothing_released(void *, const struct fp_release *)
{
}
static void
nothing_emitted(void *, uint8_t, const struct fp_record *)
{
}
static void
nothing_sent(void *, uint8_t, uint32_t, uint32_t, const uint8_t *, uint32_t)
{
}

static const struct fp_installer_hooks hooks = {.port_by_name = port_by_name,
						.release = nothing_released,
						.emit = nothing_emitted,
						.send = nothing_sent};

static void
counts_check(const struct fp_arena *a)
{
	uint32_t flows = 0;
	for (uint32_t i = 1; i < a->view.vnets; i++)
		if (fp_index_live(&a->pool[FP_POOL_VNET], i))
			flows += a->view.vnet[i].flows;
	assert(flows == a->pool[FP_POOL_FLOW].live && flows == a->adoption.flows);
	for (int pool = 0; pool < FP_POOL_MAX; pool++)
		assert(a->pool[pool].live + a->pool[pool].free.count + a->pool[pool].dead +
			       fp_index_waiting(&a->pool[pool]) ==
		       a->pool[pool].capacity);
}

// A client that names an attachment reaches the one that is there.
static void
attachments_check(const struct fp_installer *in)
{
	const struct fp_arena *a = in->arena;
	for (uint32_t i = 1; i < a->view.ingresses; i++)
		if (fp_index_live(&a->pool[FP_POOL_INGRESS], i) &&
		    a->view.ingress[i].kind == FP_INGRESS_ATTACHMENT)
			assert(fp_attachment_by_id(in, a->view.ingress[i].object_id) == i);
}

static struct facts *
image_adopt(void)
{
	struct fp_arena_config config = arena->config;
	struct fp_arena *later;
	struct fp_installer *in;
	struct facts *facts = malloc(sizeof(*facts));

	assert(facts);
	((struct fp_arena_header *)last_image)->clean = 1; // this many crashes would start cold
	const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert(fd >= 0 && write(fd, last_image, arena->len_bytes) == (ssize_t)arena->len_bytes);
	close(fd);
	assert(fp_arena_open(path, &config, NOW_NS, &later) == 0);
	assert(fp_arena_adoption(later)->how == FP_ARENA_ADOPTED);
	fp_arena_tick(later, NOW_NS);
	counts_check(later);
	assert(fp_installer_create(later, &hooks, &in) == 0);
	attachments_check(in);
	facts_gather(facts, later, true);
	fp_installer_destroy(in);
	fp_arena_close(later);
	return facts;
}

void
fp_store_hook(void)
{
	if (!watching)
		return;
	watching = false;
	stores++;
	((struct fp_arena_header *)last_image)->clean = 0;
	if (memcmp(last_image, arena->base, arena->len_bytes) != 0) {
		images++;
		memcpy(last_image, arena->base, arena->len_bytes);
		assert(found_count < sizeof(found) / sizeof(found[0]));
		found[found_count++] = image_adopt();
	}
	watching = true;
}

static void
complain(const struct fact *fact, uint32_t image, const char *what)
{
	fprintf(stderr, "stopped in '%s', image %u of %u: %s %#lx %s\n", operation, image, found_count,
		kind_names[fact->kind], (unsigned long)fact->name, what);
	abort();
}

static bool
always_there(enum kind kind)
{
	return kind == FLOW || kind == FLOW_LIFE || kind == LOCATION || kind == TUNNEL || kind == VNET;
}

// A revocation holds from the image in which it is kept: no flow that it closes comes back.
static bool
revoked(const struct facts *before, const struct facts *now)
{
	for (uint32_t i = 0; i < now->count; i++)
		if (now->fact[i].kind == CHANGE && !fact_find(before, CHANGE, now->fact[i].name))
			return true;
	return false;
}

// No decision lives longer than it was made for.
static void
life_check(uint32_t image, const struct fact *flow, const struct facts *made, const struct facts *now)
{
	const struct fact *life = fact_find(now, FLOW_LIFE, flow->name),
			  *meant = fact_find(made, FLOW_LIFE, flow->name);
	if (life->value > meant->value)
		complain(flow, image, "lives longer than its decision");
}

static void
image_check(uint32_t image, const struct facts *before, const struct facts *after)
{
	const struct facts *now = found[image];
	const bool is_revoked = revoked(before, now);

	for (uint32_t i = 0; i < before->count; i++) {
		const struct fact *old = &before->fact[i], *new = fact_find(after, old->kind, old->name);
		const struct fact *is = fact_find(now, old->kind, old->name);
		const bool kept = new &&new->value == old->value;

		if (!is && new && (kept || always_there(old->kind)))
			complain(old, image, "is lost");
		if (is && is->value != old->value && !(new && is->value == new->value))
			complain(old, image, kept ? "has changed" : "is neither old nor new");
		if (is && new && is->kind == FLOW &&new->value != old->value)
			life_check(image, is, is->value == old->value ? before : after, now);
		if (is && !new && old->kind == FLOW && is_revoked)
			complain(old, image, "outlives its revocation");
	}
	for (uint32_t i = 0; i < now->count; i++) {
		const struct fact *is = &now->fact[i], *new = fact_find(after, is->kind, is->name);

		if (!fact_find(before, is->kind, is->name) && !(new &&new->value == is->value))
			complain(is, image, "came from nowhere");
		if (fact_find(now, is->kind, is->name) != is)
			complain(is, image, "is there twice");
	}
}

// Does one thing with every store of it watched.
static void
watch(const char *name, int (*act)(const void *), const void *argument, int expected)
{
	static struct facts before, after;

	operation = name;
	found_count = 0;
	facts_gather(&before, arena, false);
	memcpy(last_image, arena->base, arena->len_bytes);
	watching = true;
	const int rc = act(argument);
	watching = false;
	if (rc != expected) {
		fprintf(stderr, "'%s' returned %d, not %d\n", name, rc, expected);
		abort();
	}
	facts_gather(&after, arena, false);
	for (uint32_t i = 0; i < found_count; i++) {
		image_check(i, &before, &after);
		free(found[i]);
	}
}

// ---- operations ------------------------------------------------------------------------------

static uint64_t revision = 1;

static int
apply(const void *record)
{
	return fp_installer_apply(
		installer, ((const struct fp_record *)record)->head.type == FP_RECORD_NEXTHOP_SET ? 0xff : 0,
		record, NOW_NS);
}

static int
tick(const void *ns)
{
	fp_installer_tick(installer, *(const uint64_t *)ns);
	return 0;
}

#define HEAD(kind, in_vnet)                                                                                  \
	.head = {.type = (kind), .version = FP_RECORD_VERSION, .vni = (in_vnet), .revision = ++revision}

static void
vnet_set(const char *name, uint32_t vni, uint64_t object_id, uint8_t mac)
{
	const struct fp_record_vnet record = {HEAD(FP_RECORD_VNET_SET, vni),
					      .object_id = object_id,
					      .incarnation = 7,
					      .quota_flows = 40 + mac,
					      .stale_max_s = mac,
					      .gateway_mac = {2, 0, 0, 0, mac, 1},
					      .gateway_address = {[12] = 10, 0, mac, 1}};
	watch(name, apply, &record, 0);
}

static void
snapshot(const char *name, uint16_t type, uint32_t vni)
{
	const struct fp_record_snapshot record = {HEAD(type, vni), .incarnation = 7};
	watch(name, apply, &record, 0);
}

static void
attachment_set(const char *name, uint32_t vni, uint64_t object_id, const char *port, uint16_t vlan)
{
	struct fp_record_attachment record = {HEAD(FP_RECORD_ATTACHMENT_SET, vni), .object_id = object_id,
					      .vlan = vlan};
	memcpy(record.port, port, strlen(port));
	watch(name, apply, &record, 0);
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
	watch(name, apply, &record, 0);
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
	watch(name, apply, &record, 0);
}

static void
nexthop_set(const char *name, uint8_t address, uint8_t mac, uint8_t count)
{
	struct fp_record_nexthop record = {HEAD(FP_RECORD_NEXTHOP_SET, 0), .local = {[12] = 192, 0, 2, 1},
					   .remote = {[12] = 192, 0, 2, address}, .count = count};
	for (uint8_t i = 0; i < count; i++)
		record.hop[i] =
			(struct fp_nexthop){.destination_mac = {2, 9, 9, 9, mac, i}, .source_mac = {2, 1}};
	watch(name, apply, &record, 0);
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
	watch(name, apply, &record, 0);
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
	watch(name, apply, &record, 0);
}

static void
flow_set(const char *name, uint32_t number, uint64_t attachment, uint8_t action, uint64_t destination,
	 uint32_t to_vni)
{
	struct fp_record_flow record = {
		HEAD(FP_RECORD_FLOW_INSTALL, 100),
		.key = key_of(fp_attachment_by_id(installer, attachment), 0),
		.action = action,
		.reason = action == FP_ACTION_DROP ? 1 : 0,
		.ingress_object = attachment,
		.destination_object = destination,
		.destination_vni = to_vni,
		.lifetime_ms = 60000 + 1000 * (uint32_t)(revision % 50),
		.incarnation = 7,
	};
	memcpy(record.key.source + 12, &number, sizeof(number));
	watch(name, apply, &record, 0);
}

static void
change(const char *name, uint8_t kind, uint32_t number)
{
	struct fp_record_change record = {HEAD(FP_RECORD_CHANGE, 100),
					  .scope = {.source_bits = 128, .port_high = 0xffff},
					  .incarnation = 7, .kind = kind};
	memcpy(record.scope.source + 12, &number, sizeof(number));
	record.head.flags = FP_RECORD_FIRST | FP_RECORD_LAST;
	watch(name, apply, &record, 0);
}

static void
peering(const char *name, uint16_t type, uint32_t from, uint32_t to)
{
	const struct fp_record_peering record = {HEAD(type, from), .to_vni = to};
	watch(name, apply, &record, 0);
}

static void
topology_grows(void)
{
	snapshot("snapshot begins", FP_RECORD_SNAPSHOT_BEGIN, 100);
	vnet_set("V-net comes", 100, 1100, 1);
	vnet_set("second V-net comes", 200, 1200, 2);
	attachment_set("attachment comes", 100, 11, "p0", 5);
	attachment_set("second attachment comes", 100, 12, "p1", 5);
	attachment_set("attachment of the other V-net comes", 200, 21, "p0", 6);
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
	fp_arena_tick(arena, NOW_NS);
}

static void
topology_changes(void)
{
	for (uint32_t n = 0; n < 12; n++)
		flow_set("flow comes again", n, 11 + n % 2, FP_ACTION_DELIVER, 61 + n % 3, 0);
	flow_set("flow to the peer comes again", 35, 11, FP_ACTION_DELIVER, 64, 200);
	vnet_set("V-net's settings change", 100, 1100, 9);
	location_set("endpoint moves away", FP_RECORD_LOCATION_SET, 100, 61, FP_LOCATION_TUNNEL, 31);
	location_set("endpoint moves back", FP_RECORD_LOCATION_SET, 100, 61, FP_LOCATION_LOCAL, 12);
	tunnel_set("tunnel's header changes", 31, 2, 32);
	nexthop_set("next hop changes", 2, 7, 2);
	nexthop_set("next hop goes", 3, 0, 0);
	group_set("tunnel set changes", 41, 32, 31);
	attachment_set("attachment moves to another VLAN", 100, 11, "p0", 8);
	ingress_set("locator goes", FP_RECORD_INGRESS_REMOVE, 100, 501, 3, 4790);
	ingress_set("node goes", FP_RECORD_INGRESS_REMOVE, 100, 502, 4, 4789);
	peering("peering goes", FP_RECORD_PEERING_REMOVE, 100, 200);
	location_set("location goes", FP_RECORD_LOCATION_REMOVE, 100, 62, 0, 0);
	vnet_set("V-net gives its number to another", 200, 1201, 3);
	const struct fp_record_vnet gone = {HEAD(FP_RECORD_VNET_REMOVE, 100), .object_id = 1100};
	watch("V-net goes", apply, &gone, 0);
	watch("tick after all", tick, &(const uint64_t){NOW_NS + 2000000}, 0);
}

int
main(void)
{
	struct fp_arena_config config = small_config(64);

	config.ingresses = 16;
	config.ports = 2;
	snprintf(path, sizeof(path), "/dev/shm/vnet-test-stops-%d", getpid());
	arena = arena_new(NULL, &config);
	fp_arena_tick(arena, NOW_NS);
	last_image = calloc(1, arena->len_bytes);
	assert(last_image && fp_installer_create(arena, &hooks, &installer) == 0);
	topology_grows();
	flows_come_and_go();
	topology_changes();
	fprintf(stderr, "stopped after each of %lu stores, adopted %lu images\n", (unsigned long)stores,
		(unsigned long)images);
	assert(images > 1000);
	fp_installer_destroy(installer);
	fp_arena_close(arena);
	free(last_image);
	unlink(path);
	return 0;
}
