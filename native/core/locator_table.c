// SPDX-License-Identifier: Apache-2.0
//
// Locators: (local address, outer source, protocol, number on the wire), each of which leads to the ingress of a node in
// a V-net; and the UDP ports that are listened on for them.
#include "install_internal.h"
#include "locator_hash.h"

#define SWEEP_NS 100 // one that is looked at

static bool may_take(const struct fp_installer *in, const struct fp_record_ingress *record, uint32_t slot);
static void foreign_note(struct fp_installer *in, uint32_t slot, bool foreign);
static void gateway_count(struct fp_installer *in, uint32_t slot, bool comes);
static void locator_drop(struct fp_installer *in, uint32_t slot);
static void udp_port_use(struct fp_installer *in, uint32_t protocol, uint16_t port, int one);
static void worker_count(struct fp_installer *in, uint32_t ingress, int one);

uint8_t
fp_protocol_by_udp_port(const struct fp_arena *arena, uint16_t port)
{
	return __atomic_load_n(&arena->udp_ports[port], __ATOMIC_RELAXED);
}

void
fp_locators_open(struct fp_installer *in)
{
	struct fp_arena *arena = in->arena;
	const struct fp_index_pool *pool = &arena->pool[FP_POOL_INGRESS];
	for (uint32_t i = 0; i < 65536; i++)
		if (arena->udp_ports[i])
			fp_store(&arena->udp_ports[i], (uint8_t)0);
	for (uint32_t i = 0; i <= arena->locator_mask; i++) {
		uint32_t index = arena->locators[i].ingress;
		if (index == 0)
			continue;
		if (!fp_index_live(pool, index) || arena->view.ingress[index].kind != FP_INGRESS_NODE) {
			fp_store(&arena->locators[i].ingress, 0);
			continue;
		}
		arena->view.ingress[index].references++;
		in->locator_foreign[i] = (arena->view.ingress[index].flags & FP_INGRESS_FOREIGN) != 0;
		if (!in->locator_foreign[i])
			gateway_count(in, i, true);
		fp_chain_add(&in->locator_chain, &in->ingress_locators[index], i + 1);
		udp_port_use(in, arena->locators[i].key.protocol, arena->locators[i].udp_port, 1);
	}
	fp_locators_recount(arena);
}

// The id of a foreign device is anybody's number. Towards a gateway of ours it would be the V-net's of that number.
int
fp_locator_foreign_check(const struct fp_installer *in, const struct fp_record_ingress *record, uint32_t vnet)
{
	uint64_t remote = 0;
	if (!(record->ingress_flags & FP_INGRESS_FOREIGN) || record->key.wire_id == record->head.vni)
		return 0;
	memcpy(&remote, record->key.remote + 12, 4);
	const uint32_t all = fp_id_map_find(&in->gateways, remote, 0);
	return all == fp_id_map_find(&in->gateways, remote, vnet + 1) ? 0 : FP_REFUSED_CONFLICT;
}

void
fp_locators_share(struct fp_installer *in)
{
	memset(in->worker_locators, 0, sizeof(in->worker_locators));
	for (uint32_t i = 0; i <= in->arena->locator_mask; i++)
		if (in->arena->locators[i].ingress)
			worker_count(in, in->arena->locators[i].ingress, 1);
}

int
fp_locator_put(struct fp_installer *in, const struct fp_record_ingress *record, uint32_t index)
{
	struct fp_arena *arena = in->arena;
	struct fp_ingress *ingress = &arena->view.ingress[index];
	int32_t slot = fp_locator_slot_of(arena, &record->key);
	if (slot >= 0 && arena->locators[slot].ingress != index) {
		if (!may_take(in, record, (uint32_t)slot))
			return FP_REFUSED_CONFLICT;
		locator_drop(in, (uint32_t)slot);
		slot = -1;
	}
	if (slot >= 0 && arena->locators[slot].udp_port != record->udp_port) {
		udp_port_use(in, record->key.protocol, arena->locators[slot].udp_port, -1);
		udp_port_use(in, record->key.protocol, record->udp_port, 1);
		fp_store(&arena->locators[slot].udp_port, record->udp_port);
	}
	if (slot < 0) {
		const uint32_t room = (arena->locator_mask + 1) / 2;
		if (in->locators >= room || ingress->references == UINT16_MAX)
			return FP_REFUSED_NO_ROOM;
		if (in->client < FP_CLIENT_WORKERS &&
		    !fp_share_allows(in, in->worker_locators[in->client], room - in->locators))
			return FP_REFUSED_QUOTA;
		slot = fp_locator_add(arena, &record->key, index, record->udp_port);
		if (slot < 0)
			return FP_REFUSED_NO_ROOM;
		fp_store(&ingress->references, (uint16_t)(ingress->references + 1));
		fp_chain_add(&in->locator_chain, &in->ingress_locators[index], (uint32_t)slot + 1);
		udp_port_use(in, record->key.protocol, record->udp_port, 1);
		in->locator_foreign[slot] = 1;
		worker_count(in, index, 1);
	}
	foreign_note(in, (uint32_t)slot, record->ingress_flags & FP_INGRESS_FOREIGN);
	in->locator_snapshot[slot] = in->vnet[ingress->vnet].snapshot_number;
	return 0;
}

int
fp_ingress_remove(struct fp_installer *in, const struct fp_record_ingress *record)
{
	uint32_t vnet = fp_vnet_by_vni(in, record->head.vni);
	if (vnet == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	int32_t slot = fp_locator_slot_of(in->arena, &record->key);
	if (slot < 0)
		return FP_REFUSED_UNKNOWN_OBJECT;
	if (in->arena->view.ingress[in->arena->locators[slot].ingress].vnet != vnet)
		return FP_REFUSED_OTHER_VNET;
	locator_drop(in, (uint32_t)slot);
	return 0;
}

void
fp_locators_sweep(struct fp_installer *in, uint32_t ingress, bool all)
{
	const uint16_t snapshot_number = in->vnet[in->arena->view.ingress[ingress].vnet].snapshot_number;
	for (uint32_t at = in->ingress_locators[ingress], next; at; at = next) {
		next = in->locator_chain.next[at];
		fp_spend(in, SWEEP_NS);
		if (all || in->locator_snapshot[at - 1] != snapshot_number)
			locator_drop(in, at - 1);
	}
}

// May a locator of another V-net go for this one? A gateway of ours has the V-net's own number, so it goes before a
// foreign device that was said to be there. Else what a snapshot has not named yet, of a V-net of the same worker.
static bool
may_take(const struct fp_installer *in, const struct fp_record_ingress *record, uint32_t slot)
{
	const struct fp_ingress *other = &in->arena->view.ingress[in->arena->locators[slot].ingress];
	const struct fp_vnet_state *state = &in->vnet[other->vnet];
	if (!(record->ingress_flags & FP_INGRESS_FOREIGN) && in->locator_foreign[slot] &&
	    other->vni != record->head.vni)
		return true;
	return fp_of_one_worker(in, record->head.vni, other->vni) && state->in_snapshot &&
	       in->locator_snapshot[slot] != state->snapshot_number;
}

static void
foreign_note(struct fp_installer *in, uint32_t slot, bool foreign)
{
	if (in->locator_foreign[slot] == foreign)
		return;
	in->locator_foreign[slot] = foreign;
	gateway_count(in, slot, !foreign);
}

// Of its outer address, in all and of its V-net.
static void
gateway_count(struct fp_installer *in, uint32_t slot, bool comes)
{
	const struct fp_locator_slot *locator = &in->arena->locators[slot];
	const uint64_t names[] = {0, in->arena->view.ingress[locator->ingress].vnet + 1u};
	uint64_t remote = 0;
	memcpy(&remote, locator->key.remote + 12, 4);
	for (int i = 0; i < 2; i++) {
		const uint32_t now = fp_id_map_find(&in->gateways, remote, names[i]) + (comes ? 1 : -1u);
		if (now)
			fp_id_map_put(&in->gateways, remote, names[i], now);
		else
			fp_id_map_remove(&in->gateways, remote, names[i]);
	}
}

static void
locator_drop(struct fp_installer *in, uint32_t slot)
{
	uint32_t index = in->arena->locators[slot].ingress;
	struct fp_ingress *ingress = &in->arena->view.ingress[index];
	if (!in->locator_foreign[slot])
		gateway_count(in, slot, false);
	// Another V-net may have the id next, at this address: nothing of this one goes on by it.
	else if (in->arena->locators[slot].key.wire_id != ingress->vni)
		fp_close_vnet(in->arena, ingress->vnet);
	udp_port_use(in, in->arena->locators[slot].key.protocol, in->arena->locators[slot].udp_port, -1);
	worker_count(in, index, -1);
	fp_chain_remove(&in->locator_chain, &in->ingress_locators[index], slot + 1);
	fp_locator_remove(in->arena, slot);
	fp_store(&ingress->references, (uint16_t)(ingress->references - 1));
	if (ingress->references == 0)
		fp_ingress_drop(in, index);
}

// Counts locators, too: each uses one port.
static void
udp_port_use(struct fp_installer *in, uint32_t protocol, uint16_t port, int one)
{
	in->udp_port_users[port] += (uint32_t)one;
	in->locators += (uint32_t)one;
	uint8_t now = port && in->udp_port_users[port] ? (uint8_t)protocol : 0;
	if (in->arena->udp_ports[port] != now)
		fp_store(&in->arena->udp_ports[port], now);
}

// Of the worker that has the ingress's V-net.
static void
worker_count(struct fp_installer *in, uint32_t ingress, int one)
{
	if (in->workers > 1 && in->workers <= FP_CLIENT_WORKERS)
		in->worker_locators[fp_worker_of(in, in->arena->view.ingress[ingress].vni)] += (uint32_t)one;
}
