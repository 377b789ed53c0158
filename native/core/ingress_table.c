// SPDX-License-Identifier: Apache-2.0
//
// Ingresses: attachments, found by (port, VLAN), and (remote node, V-net), found by locator. An ingress
// never changes what it is; one that does is another one, so that a flow's key stays true.
#include "../wire/tunnel_kind.h"
#include "install_internal.h"

#define VLANS 4096
#define SWEEP_NS 100 // one that is looked at

static int ingress_add(struct fp_installer *in, const struct fp_ingress *ingress, uint32_t *index);
static int attachment_drop(struct fp_installer *in, uint32_t index);
static bool swept(const struct fp_installer *in, uint32_t ingress);

static inline uint64_t
node_name(uint32_t vni)
{
	return 1ull << 32 | vni;
}

static inline uint64_t
name_of(const struct fp_ingress *ingress)
{
	return ingress->kind == FP_INGRESS_NODE ? node_name(ingress->vni) : 0;
}

uint32_t
fp_ingress_by_vlan(const struct fp_arena *arena, uint32_t port, uint32_t vlan)
{
	if (port >= arena->config.ports || vlan >= VLANS)
		return 0;
	return fp_load(&arena->vlans[port * VLANS + vlan]);
}

void
fp_ingresses_open(struct fp_installer *in)
{
	struct fp_arena *arena = in->arena;
	struct fp_index_pool *pool = &arena->pool[FP_POOL_INGRESS];
	for (uint32_t i = 1; i < arena->view.ingresses; i++) {
		struct fp_ingress *ingress = &arena->view.ingress[i];
		if (!fp_index_live(pool, i))
			continue;
		fp_store(&ingress->references, (uint16_t)0);
		fp_chain_add(&in->ingress_chain, &in->vnet[ingress->vnet].ingress_first, i);
	}
	for (uint32_t i = 0; i < arena->config.ports * VLANS; i++) {
		uint32_t index = arena->vlans[i];
		if (index == 0)
			continue;
		const struct fp_ingress *ingress = &arena->view.ingress[index % arena->view.ingresses];
		if (fp_index_live(pool, index) && ingress->kind == FP_INGRESS_ATTACHMENT &&
		    (uint32_t)ingress->port * VLANS + ingress->vlan == i)
			arena->view.ingress[index].references++;
		else
			fp_store(&arena->vlans[i], 0);
	}
	fp_locators_open(in);
	for (uint32_t i = 1; i < arena->view.ingresses; i++) {
		const struct fp_ingress *ingress = &arena->view.ingress[i];
		if (!fp_index_live(pool, i))
			continue;
		// Published, but stopped before anything led there. An attachment that was moving stands
		// twice then, so names are given to those that stay.
		if (ingress->references == 0)
			attachment_drop(in, i);
		else
			fp_id_map_put(&in->ingresses, ingress->object_id, name_of(ingress), i);
	}
}

uint32_t
fp_attachment_by_id(const struct fp_installer *in, uint64_t object_id)
{
	return fp_id_map_find(&in->ingresses, object_id, 0);
}

uint32_t
fp_node_ingress(const struct fp_installer *in, uint64_t node_id, uint32_t vni)
{
	return fp_id_map_find(&in->ingresses, node_id, node_name(vni));
}

int
fp_leads_home(const struct fp_installer *in, uint32_t vnet, uint32_t tunnel, uint32_t wire_id,
	      uint64_t node_id)
{
	const struct fp_tunnel_info *info = &in->arena->view.tunnel_info[tunnel];
	struct fp_locator_key key = {.wire_id = wire_id, .protocol = info->protocol};
	memcpy(key.local, info->local, FP_ADDRESS_BYTES);
	memcpy(key.remote, info->remote, FP_ADDRESS_BYTES);
	const uint32_t index = fp_ingress_by_locator(in->arena, &key);
	const struct fp_ingress *ingress = &in->arena->view.ingress[index];
	if (index == 0)
		return FP_REFUSED_UNKNOWN_OBJECT;
	if (ingress->vnet != vnet)
		return FP_REFUSED_OTHER_VNET;
	return node_id == 0 || node_id == ingress->node_id ? 0 : FP_REFUSED_CONFLICT;
}

int
fp_attachment_set(struct fp_installer *in, const struct fp_record_attachment *record)
{
	struct fp_arena *arena = in->arena;
	char name[FP_PORT_NAME_BYTES + 1] = {0};
	uint16_t port_mtu = 0;
	uint32_t vnet = fp_vnet_by_vni(in, record->head.vni);
	if (vnet == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	if (record->object_id == 0 || record->vlan >= VLANS - 1)
		return FP_REFUSED_MALFORMED;
	memcpy(name, record->port, FP_PORT_NAME_BYTES);
	int port = in->hooks.port_by_name(in->hooks.context, name, &port_mtu);
	if (port < 0 || (uint32_t)port >= arena->config.ports)
		return FP_REFUSED_UNKNOWN_OBJECT;
	uint16_t mtu = record->mtu_bytes && record->mtu_bytes < port_mtu ? record->mtu_bytes : port_mtu;
	uint32_t *place = &arena->vlans[(uint32_t)port * VLANS + record->vlan];
	uint32_t index = fp_attachment_by_id(in, record->object_id);
	if (index && arena->view.ingress[index].vnet != vnet)
		return FP_REFUSED_CONFLICT;
	if (index && *place == index) {
		if (arena->view.ingress[index].mtu_bytes != mtu)
			fp_store(&arena->view.ingress[index].mtu_bytes, mtu);
		in->ingress_snapshot[index] = in->vnet[vnet].snapshot_number;
		return 0;
	}
	if (*place &&
	    (!swept(in, *place) || !fp_of_one_worker(in, record->head.vni, arena->view.ingress[*place].vni)))
		return FP_REFUSED_CONFLICT;
	struct fp_ingress ingress = {
		.object_id = record->object_id,
		.vni = record->head.vni,
		.vnet = (uint16_t)vnet,
		.kind = FP_INGRESS_ATTACHMENT,
		.port = (uint16_t)port,
		.vlan = record->vlan,
		.mtu_bytes = mtu,
		.references = 1,
	};
	uint32_t added;
	int rc = *place ? fp_locations_leave(in, *place) : 0;
	if (rc == 0 && index)
		rc = fp_locations_leave(in, index);
	if (rc == 0)
		rc = ingress_add(in, &ingress, &added);
	if (rc != 0)
		return rc;
	if (*place)
		attachment_drop(in, *place);
	if (index) // it has moved to another port or VLAN
		attachment_drop(in, index);
	fp_id_map_put(&in->ingresses, record->object_id, 0, added);
	fp_store(place, added);
	return 0;
}

int
fp_attachment_remove(struct fp_installer *in, const struct fp_record_attachment *record)
{
	uint32_t vnet = fp_vnet_by_vni(in, record->head.vni);
	if (vnet == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	uint32_t index = fp_attachment_by_id(in, record->object_id);
	if (index == 0)
		return FP_REFUSED_UNKNOWN_OBJECT;
	if (in->arena->view.ingress[index].vnet != vnet)
		return FP_REFUSED_OTHER_VNET;
	return attachment_drop(in, index);
}

int
fp_ingress_set(struct fp_installer *in, const struct fp_record_ingress *record)
{
	struct fp_arena *arena = in->arena;
	const struct fp_locator_key *key = &record->key;
	const struct tunnel_kind *kind = tunnel_kind(key->protocol);
	const uint8_t allowed = FP_INGRESS_RELAY | FP_INGRESS_FOREIGN | FP_INGRESS_CHECK;
	uint32_t vnet = fp_vnet_by_vni(in, record->head.vni);
	if (vnet == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	if (record->node_id == 0 || kind == NULL || key->wire_id > kind->id_max ||
	    !fp_bytes_zero(key->zero, sizeof(key->zero)) || !fp_is_ipv4(key->local) ||
	    !fp_is_ipv4(key->remote) || fp_bytes_zero(key->local, FP_ADDRESS_BYTES) ||
	    fp_bytes_zero(key->remote, FP_ADDRESS_BYTES) || (record->udp_port != 0) != kind->udp_port ||
	    record->ingress_flags & ~allowed)
		return FP_REFUSED_MALFORMED;
	// Between our gateways the id on the wire is the V-net's own.
	if (!(record->ingress_flags & FP_INGRESS_FOREIGN) && key->wire_id != record->head.vni)
		return FP_REFUSED_OTHER_VNET;
	const int foreign = fp_locator_foreign_check(in, record, vnet);
	if (foreign != 0)
		return foreign;
	uint32_t index = fp_node_ingress(in, record->node_id, record->head.vni);
	if (index == 0) {
		struct fp_ingress ingress = {
			.object_id = record->node_id,
			.vni = record->head.vni,
			.vnet = (uint16_t)vnet,
			.kind = FP_INGRESS_NODE,
			.flags = record->ingress_flags,
			.node_id = record->node_id,
		};
		int rc = ingress_add(in, &ingress, &index);
		if (rc != 0)
			return rc;
		fp_id_map_put(&in->ingresses, record->node_id, node_name(record->head.vni), index);
	}
	int rc = fp_locator_put(in, record, index);
	if (rc != 0) {
		if (arena->view.ingress[index].references == 0)
			fp_ingress_drop(in, index);
		return rc;
	}
	uint8_t flags = FP_INGRESS_LIVE | record->ingress_flags;
	if (arena->view.ingress[index].flags != flags)
		fp_store(&arena->view.ingress[index].flags, flags);
	return 0;
}

int
fp_ingresses_sweep(struct fp_installer *in, uint32_t vnet, bool all)
{
	struct fp_vnet_state *state = &in->vnet[vnet];
	if (state->swept & FP_SWEPT_INGRESSES)
		return 0;
	if (all)
		state->ingress_at = state->ingress_first;
	while (state->ingress_at) {
		const uint32_t i = state->ingress_at;
		if (in->left_ns == 0)
			return -EINPROGRESS;
		fp_spend(in, SWEEP_NS);
		if (in->arena->view.ingress[i].kind == FP_INGRESS_NODE) {
			fp_locators_sweep(in, i, all);
		} else if (all || in->ingress_snapshot[i] != state->snapshot_number) {
			const int rc = attachment_drop(in, i);
			if (rc != 0)
				return rc;
		}
		if (state->ingress_at == i) // it stays
			state->ingress_at = in->ingress_chain.next[i];
	}
	state->swept |= FP_SWEPT_INGRESSES;
	return 0;
}

static int
ingress_add(struct fp_installer *in, const struct fp_ingress *ingress, uint32_t *index)
{
	int rc = fp_take(in, FP_POOL_INGRESS, index);
	if (rc != 0)
		return rc;
	struct fp_ingress *place = &in->arena->view.ingress[*index];
	// All but the member that publishes it, which others may be looking at.
	fp_store_bytes(place, ingress, offsetof(struct fp_ingress, flags));
	fp_store_bytes(&place->port, &ingress->port, sizeof(*ingress) - offsetof(struct fp_ingress, port));
	fp_store(&place->flags, (uint8_t)(ingress->flags | FP_INGRESS_LIVE));
	in->ingress_snapshot[*index] = in->vnet[ingress->vnet].snapshot_number;
	fp_chain_add(&in->ingress_chain, &in->vnet[ingress->vnet].ingress_first, *index);
	return 0;
}

static int
attachment_drop(struct fp_installer *in, uint32_t index)
{
	const struct fp_ingress *ingress = &in->arena->view.ingress[index];
	uint32_t *place = &in->arena->vlans[(uint32_t)ingress->port * VLANS + ingress->vlan];
	if (ingress->kind == FP_INGRESS_ATTACHMENT && *place == index)
		fp_store(place, 0);
	const int rc = fp_locations_leave(in, index);
	if (rc == 0)
		fp_ingress_drop(in, index);
	return rc;
}

void
fp_ingress_drop(struct fp_installer *in, uint32_t index)
{
	struct fp_ingress *ingress = &in->arena->view.ingress[index];
	struct fp_index_pool *pool = &in->arena->pool[FP_POOL_INGRESS];
	uint64_t name = name_of(ingress);
	fp_store(&ingress->flags, (uint8_t)(ingress->flags & ~FP_INGRESS_LIVE));
	if (fp_id_map_find(&in->ingresses, ingress->object_id, name) == index)
		fp_id_map_remove(&in->ingresses, ingress->object_id, name);
	struct fp_vnet_state *state = &in->vnet[ingress->vnet];
	if (state->ingress_at == index)
		state->ingress_at = in->ingress_chain.next[index];
	fp_chain_remove(&in->ingress_chain, &state->ingress_first, index);
	if (fp_index_references(pool, index))
		fp_close_dead(in->arena);
	fp_index_retire(pool, index);
}

// Stands only until the end of a snapshot that has not named it (yet).
static bool
swept(const struct fp_installer *in, uint32_t ingress)
{
	const struct fp_vnet_state *state = &in->vnet[in->arena->view.ingress[ingress].vnet];
	return state->in_snapshot && in->ingress_snapshot[ingress] != state->snapshot_number;
}
