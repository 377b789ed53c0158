// SPDX-License-Identifier: Apache-2.0
//
// One V-net as the writer sees it: made, changed, asked about, and taken away.
#include "recycling_writer.h"

#define CHURN_FLOWS 16 // at once

// What a V-net's objects are called.
enum object { OBJECT_VNET, OBJECT_ATTACHMENT_1, OBJECT_ATTACHMENT_2, OBJECT_MEMBER, OBJECTS = 16 };

static uint64_t
object_id(uint32_t number, uint32_t object)
{
	return 1000 + (uint64_t)number * OBJECTS + object;
}

static void
attachment_make(uint32_t number, enum object object, const char *port)
{
	struct fp_record_attachment record = {.object_id = object_id(number, object),
					      .vlan = (uint16_t)vlan_of(number)};

	strcpy(record.port, port);
	put(&record, FP_RECORD_ATTACHMENT_SET, vni_of(number), 1);
}

static void
node_make(uint32_t number, uint32_t remote)
{
	struct fp_record_ingress record = {.key = {.wire_id = vni_of(number), .protocol = FP_PROTOCOL_VXLAN},
					   .node_id = NODE_ID + remote,
					   .udp_port = FRAME_VXLAN_PORT};

	if (random_below(&w.seed, 2))
		record.ingress_flags = FP_INGRESS_CHECK;
	memcpy(record.key.local + 12, local_address, 4);
	remote_address(record.key.remote + 12, remote);
	put(&record, FP_RECORD_INGRESS_SET, vni_of(number), 1);
}

static void
member_put(uint32_t slot, uint8_t member, uint8_t kind, uint64_t target, uint32_t remote)
{
	const uint32_t number = w.number[slot];
	struct fp_record_location record = {
		.object_id = object_id(number, OBJECT_MEMBER + member), .target_id = target, .kind = kind};

	if (kind != FP_LOCATION_LOCAL) {
		record.node_id = NODE_ID + remote;
		record.wire_id = vni_of(number);
	}
	member_mac(record.mac, number, member);
	put(&record, FP_RECORD_LOCATION_SET, vni_of(number), w.revision[slot]);
}

static void
member_3_put(uint32_t slot)
{
	const uint32_t step = random_below(&w.seed, 3), remote = remote_of(w.number[slot], step % 2);

	if (step == 2)
		member_put(slot, 3, FP_LOCATION_SET, SET_ID + remote, remote);
	else
		member_put(slot, 3, FP_LOCATION_TUNNEL, w.tunnel[remote], remote);
}

static void
member_4_put(uint32_t slot)
{
	const uint32_t remote = remote_of(w.number[slot], 1);

	member_put(slot, 4, FP_LOCATION_TUNNEL, w.tunnel[remote], remote);
}

static uint32_t
vnet_index(uint32_t number)
{
	const struct fp_vnet *vnet;

	for (uint32_t i = 1; (vnet = fp_vnet_at(rig_arena(w.r->rig), i)) != NULL; i++)
		if (vnet->flags & FP_VNET_LIVE && vnet->vni == vni_of(number))
			return i;
	abort();
}

// Flows that nobody uses, more than there is room for: they evict one another and what is in use.
static void
flows_churn(uint32_t slot, uint32_t n)
{
	const uint32_t number = w.number[slot];
	const struct fp_arena *arena = rig_arena(w.r->rig);
	struct fp_record_flow record = {.action = FP_ACTION_DELIVER,
					.ingress_object = object_id(number, OBJECT_ATTACHMENT_1),
					.destination_object = object_id(number, OBJECT_MEMBER + 2),
					.lifetime_ms = 3600000,
					.incarnation = INCARNATION};

	for (uint32_t i = 0; i < n; i++) {
		const uint32_t any = random_below(&w.seed, 1 << 16);

		record.key = (struct fp_flow_key){.key_class = FP_CLASS_BRIDGED,
						  .ingress = fp_ingress_by_vlan(arena, 0, vlan_of(number))};
		memcpy(record.key.source + 12, (uint8_t[]){10, 9, (uint8_t)(any >> 8), (uint8_t)any}, 4);
		memcpy(record.key.destination + 12, (uint8_t[]){10, 0, 0, 2}, 4);
		const uint32_t known = fp_flow_find(arena, &record.key);
		put(&record, FP_RECORD_FLOW_INSTALL, vni_of(number), w.revision[slot]);
		const uint32_t entry = fp_flow_find(arena, &record.key);
		const struct fp_flow_side *side = fp_flow_side_at(arena, entry);
		assert(entry != 0 && side->packets_sampled == 0 && side->kbytes_sampled == 0);
		w.churned += known == 0;
	}
}

void
life_begin(uint32_t slot, uint32_t number)
{
	struct fp_record_vnet vnet = {.object_id = object_id(number, OBJECT_VNET),
				      .incarnation = INCARNATION};

	w.number[slot] = number;
	w.revision[slot] = 1;
	member_mac(vnet.gateway_mac, number, GATEWAY);
	put(&vnet, FP_RECORD_VNET_SET, vni_of(number), 1);
	counters_are_zero(FP_COUNTED_VNET, vnet_index(number));
	attachment_make(number, OBJECT_ATTACHMENT_1, "port0");
	attachment_make(number, OBJECT_ATTACHMENT_2, "port1");
	node_make(number, remote_of(number, 0));
	node_make(number, remote_of(number, 1));
	member_put(slot, 1, FP_LOCATION_LOCAL, object_id(number, OBJECT_ATTACHMENT_1), 0);
	member_put(slot, 2, FP_LOCATION_LOCAL, object_id(number, OBJECT_ATTACHMENT_2), 0);
	member_3_put(slot);
	member_4_put(slot);
	flows_churn(slot, CHURN_FLOWS);
	counters_are_zero(FP_COUNTED_VNET, vnet_index(number)); // nobody has sent yet
	__atomic_store_n(&w.r->slot[slot], number, __ATOMIC_RELEASE);
}

void
life_end(uint32_t slot)
{
	struct fp_record_vnet vnet = {.object_id = object_id(w.number[slot], OBJECT_VNET)};

	__atomic_store_n(&w.r->slot[slot], 0, __ATOMIC_RELEASE); // what is on its way comes too late
	put(&vnet, FP_RECORD_VNET_REMOVE, vni_of(w.number[slot]), 0);
	w.number[slot] = 0;
	w.peered[slot] = w.peered[slot ^ 1] = false;
}

void
members_reroute(uint32_t slot)
{
	member_3_put(slot);
	member_4_put(slot);
}

static void
peering_turn(uint32_t slot)
{
	struct fp_record_peering record = {.to_vni = vni_of(w.number[slot ^ 1])};

	if (w.number[slot ^ 1] == 0)
		return;
	put(&record, w.peered[slot] ? FP_RECORD_PEERING_REMOVE : FP_RECORD_PEERING_SET,
	    vni_of(w.number[slot]), w.revision[slot]);
	w.peered[slot] = !w.peered[slot];
	w.peerings++;
}

static void
member_2_renew(uint32_t slot)
{
	const uint32_t number = w.number[slot];
	struct fp_record_location record = {.object_id = object_id(number, OBJECT_MEMBER + 2)};

	put(&record, FP_RECORD_LOCATION_REMOVE, vni_of(number), w.revision[slot]);
	member_put(slot, 2, FP_LOCATION_LOCAL, object_id(number, OBJECT_ATTACHMENT_2), 0);
	w.removals++;
}

static void
tighten(uint32_t slot)
{
	struct fp_record_change record = {
		.kind = FP_CHANGE_TIGHTEN, .incarnation = INCARNATION, .scope = {.port_high = 0xffff}};

	if (random_below(&w.seed, 2)) {
		record.scope.destination_bits = 128;
		memcpy(record.scope.destination + 12,
		       (uint8_t[]){10, 0, 0, (uint8_t)(1 + random_below(&w.seed, 4))}, 4);
	}
	put(&record, FP_RECORD_CHANGE, vni_of(w.number[slot]), ++w.revision[slot]);
	w.changes++;
}

static void
frame_send(uint32_t slot)
{
	const uint32_t number = w.number[slot];
	const struct label label = {LABEL_MAGIC, LABEL_OWN, number, number};
	struct fp_record_packet record = {.target_id = object_id(number, OBJECT_ATTACHMENT_1),
					  .kind = FP_LOCATION_LOCAL};
	uint8_t mac[6], frame[128];

	member_mac(mac, number, 1);
	record.frame_bytes = (uint16_t)labelled_frame(frame, &label, 2, mac, (uint8_t[]){10, 0, 0, 1}, 0, 0,
						      sizeof(label));
	assert(record.frame_bytes <= sizeof(record.data));
	memcpy(record.data, frame, record.frame_bytes);
	if (put_flagged(&record, FP_RECORD_PACKET_OUT, vni_of(number), 0,
			FP_RECORD_FIRST | FP_RECORD_LAST) == 0) // there are so many a second
		w.r->frames_own++;
}

void
life_change(uint32_t slot)
{
	switch (random_below(&w.seed, 6)) {
	case 0:
		member_3_put(slot);
		w.moves++;
		return;
	case 1:
		peering_turn(slot);
		return;
	case 2:
		member_2_renew(slot);
		return;
	case 3:
		tighten(slot);
		return;
	case 4:
		flows_churn(slot, CHURN_FLOWS);
		return;
	default:
		frame_send(slot);
		return;
	}
}

// By what a member's frames come in.
static uint64_t
from_object(uint8_t kind, uint32_t number, uint8_t member)
{
	if (kind == FP_INGRESS_NODE)
		return NODE_ID + remote_of(number, 0);
	return object_id(number, member == 2 ? OBJECT_ATTACHMENT_2 : OBJECT_ATTACHMENT_1);
}

// The V-net of the question may have gone, and its ingress index may be another's.
void
answer(const struct fp_record_miss *miss)
{
	const uint32_t number = miss->head.vni - VNI_BASE, slot = slot_of(number);
	const uint8_t *from = miss->key.source + 12, *to = miss->key.destination + 12;
	struct fp_record_flow flow = {.key = miss->key,
				      .ingress_object = miss->ingress_object,
				      .lifetime_ms = random_below(&w.seed, 4) ? 3600000 : 1000,
				      .token = miss->token,
				      .incarnation = INCARNATION};

	assert(miss->ingress_object == from_object(miss->ingress_kind, number, from[3]));
	if (w.number[slot] != number)
		return;
	const uint64_t member = object_id(number, OBJECT_MEMBER + to[3]);
	flow.source_object = object_id(number, OBJECT_MEMBER + from[3]);
	if (miss->key.key_class == FP_CLASS_NEIGHBOR) {
		flow.action = FP_ACTION_ANSWER;
		flow.destination_object = member;
	} else if (to[1] == 1) {
		const uint32_t peer = frame_get16(to + 2);
		const bool may = w.peered[slot] && w.number[slot ^ 1] == peer;
		flow.action = may ? FP_ACTION_DELIVER : FP_ACTION_DROP;
		flow.destination_object = may ? object_id(peer, OBJECT_MEMBER + 1) : 0;
		flow.destination_vni = may ? vni_of(peer) : 0;
	} else if (to[3] == MEMBER_REFUSED) {
		flow.action = FP_ACTION_DROP;
	} else if (from[3] == 2 && to[3] == 1 && !(miss->key.flags & FP_KEY_CONNECTION)) {
		flow.action = FP_ACTION_NARROW;
	} else {
		flow.action = to[3] <= 2     ? FP_ACTION_DELIVER
			      : from[3] == 3 ? FP_ACTION_RELAY
					     : FP_ACTION_ENCAPSULATE;
		flow.destination_object = member;
	}
	if (flow.action == FP_ACTION_DROP) {
		flow.reason = FP_DROP_denied;
		flow.source_object = 0;
	}
	w.answers += put_flagged(&flow, FP_RECORD_FLOW_INSTALL, vni_of(number), w.revision[slot], 0) == 0;
}
