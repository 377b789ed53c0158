// SPDX-License-Identifier: Apache-2.0
//
// Tunnels and their next hops. A tunnel is one word; header slots and next-hop groups never change once the
// word names them, so a new header or another next hop is a free slot, filled, and one store. Each tunnel has
// a group of its own.
//
// V-nets share tunnels, and workers share out V-nets, so a tunnel is gone when no worker names it any more:
// each says which it names within a snapshot of VNI 0, takes a name back with TUNNEL_REMOVE, and what nobody
// names goes with the last location that leads there. After an adoption nothing is swept before every worker
// has told its snapshot.
#include "../wire/tunnel_kind.h"
#include "tunnel_internal.h"

#define UNUSED_S 900 // a tunnel that nothing names is forgotten after this
#define SWEEP_NS 40  // one that is looked at

static bool tunnel_valid(const struct fp_record_tunnel *record);
static int tunnel_add(struct fp_installer *in, const struct fp_tunnel_info *info);
static void tunnel_forget(struct fp_installer *in, uint32_t index);
static void tunnel_leave(struct fp_installer *in, uint32_t index);
static void name_it(struct fp_installer *in, uint32_t index);
static int header_take(struct fp_installer *in, const struct fp_tunnel_info *info, uint32_t *header);

void
fp_tunnels_open(struct fp_installer *in)
{
	for (uint32_t i = 1; i < in->arena->view.tunnels; i++) {
		if (!fp_index_live(&in->arena->pool[FP_POOL_TUNNEL], i))
			continue;
		const struct fp_tunnel_info *info = &in->arena->view.tunnel_info[i];
		uint16_t mtu = fp_tunnel_mtu(*fp_tunnel_word_at(in, i));
		in->tunnel_route_mtu[i] = mtu < info->mtu_bytes ? mtu : 0;
		in->tunnel_seen_s[i] = in->arena->now_s;
		in->tunnel_adopted[i] = 1;
		in->tunnel_high = i;
		fp_id_map_put(&in->tunnels, info->object_id, 0, i);
		fp_tunnel_path_add(in, i);
	}
}

uint32_t
fp_tunnel_by_id(const struct fp_installer *in, uint64_t object_id)
{
	return fp_id_map_find(&in->tunnels, object_id, 0);
}

int
fp_tunnel_set_record(struct fp_installer *in, const struct fp_record_tunnel *record)
{
	if (!tunnel_valid(record))
		return FP_REFUSED_MALFORMED;
	struct fp_tunnel_info info = {
		.object_id = record->object_id,
		.profile_id = record->profile_id,
		.node_id = record->node_id,
		.revision = record->head.revision,
		.incarnation = record->incarnation,
		.udp_port = record->udp_port,
		.mtu_bytes = record->mtu_bytes,
		.protocol = record->protocol,
		.ttl = record->ttl,
		.dscp = record->dscp,
		.dscp_copy = record->dscp_copy,
	};
	memcpy(info.local, record->local, sizeof(info.local));
	memcpy(info.remote, record->remote, sizeof(info.remote));
	uint32_t index = fp_tunnel_by_id(in, record->object_id);
	if (index == 0)
		return tunnel_add(in, &info);
	const struct fp_tunnel_info *now = &in->arena->view.tunnel_info[index];
	if (memcmp(now->local, info.local, sizeof(info.local)) != 0 ||
	    memcmp(now->remote, info.remote, sizeof(info.remote)) != 0 ||
	    now->profile_id != info.profile_id || now->protocol != info.protocol)
		return FP_REFUSED_CONFLICT;
	name_it(in, index);
	in->tunnel_seen_s[index] = in->now_s;
	if (info.incarnation == now->incarnation && info.revision < now->revision)
		return FP_REFUSED_LATE; // revisions of two stores say nothing of each other
	return fp_tunnel_propose(in, index, &info);
}

int
fp_tunnel_remove(struct fp_installer *in, const struct fp_record_tunnel *record)
{
	uint32_t index = fp_tunnel_by_id(in, record->object_id);
	if (index == 0)
		return FP_REFUSED_UNKNOWN_OBJECT;
	in->tunnel_workers[index] &= (uint16_t)~fp_own_bit(in);
	in->tunnel_proposal[index].workers &= (uint16_t)~fp_own_bit(in);
	if (in->tunnel_workers[index] || in->tunnel_adopted[index]) // another one may still name it
		return fp_tunnel_weigh(in, index);
	tunnel_leave(in, index);
	return 0;
}

int
fp_tunnels_snapshot_begin(struct fp_installer *in)
{
	for (uint32_t i = 1; i <= in->tunnel_high; i++)
		in->tunnel_workers[i] &= (uint16_t)~fp_own_bit(in);
	in->workers_whole &= (uint16_t)~fp_own_bit(in);
	in->tunnel_sweep = 1;
	return 0;
}

int
fp_tunnels_snapshot_end(struct fp_installer *in, const struct fp_record_snapshot *record)
{
	if (record->workers > FP_CLIENT_WORKERS || in->client >= record->workers)
		return FP_REFUSED_MALFORMED;
	if (in->workers && record->workers != in->workers)
		return FP_REFUSED_OTHER_CLIENT; // it would sweep what others name
	uint16_t all = (uint16_t)((1u << record->workers) - 1);
	in->workers_whole = (in->workers_whole | fp_own_bit(in)) & all;
	if (in->workers_whole != all)
		return 0;
	if (in->tunnel_sweep == 0)
		in->tunnel_sweep = 1;
	for (; in->tunnel_sweep <= in->tunnel_high; in->tunnel_sweep++) {
		const uint32_t i = in->tunnel_sweep;
		if (in->left_ns == 0)
			return -EINPROGRESS;
		fp_spend(in, SWEEP_NS);
		if (!fp_index_live(&in->arena->pool[FP_POOL_TUNNEL], i))
			continue;
		in->tunnel_workers[i] &= all; // there may have been more workers
		in->tunnel_adopted[i] = 0;
		const int rc = fp_tunnel_weigh(in, i);
		if (rc != 0)
			return rc;
		if (in->tunnel_workers[i] == 0)
			tunnel_leave(in, i);
	}
	in->tunnel_sweep = 0;
	return 0;
}

void
fp_tunnels_collect(struct fp_installer *in, uint32_t count)
{
	fp_tunnel_sets_collect(in, count); // first: they hold tunnels
	for (; count; count--) {
		if (in->collect_tunnel > in->tunnel_high)
			in->collect_tunnel = 1;
		uint32_t i = in->collect_tunnel++;
		if (!fp_index_live(&in->arena->pool[FP_POOL_TUNNEL], i))
			continue;
		if (fp_index_references(&in->arena->pool[FP_POOL_TUNNEL], i))
			in->tunnel_seen_s[i] = in->now_s;
		else if (in->now_s - in->tunnel_seen_s[i] > UNUSED_S)
			tunnel_forget(in, i);
	}
}

void
fp_tunnel_hold(struct fp_installer *in, uint32_t index)
{
	struct fp_index_pool *pool = &in->arena->pool[FP_POOL_TUNNEL];
	fp_index_hold(pool, index);
	fp_store(&in->arena->view.tunnel_info[index].references, fp_index_references(pool, index));
}

void
fp_tunnel_drop(struct fp_installer *in, uint32_t index)
{
	struct fp_index_pool *pool = &in->arena->pool[FP_POOL_TUNNEL];
	fp_store(&in->arena->view.tunnel_info[index].references, fp_index_references(pool, index) - 1);
	in->tunnel_seen_s[index] = in->now_s;
	fp_index_drop(pool, index);
	if (in->tunnel_leaving[index] && fp_index_references(pool, index) == 0)
		tunnel_forget(in, index);
}

static void
name_it(struct fp_installer *in, uint32_t index)
{
	in->tunnel_workers[index] |= fp_own_bit(in);
	in->tunnel_leaving[index] = 0;
}

// Nobody names it. What still leads there goes on until it has been asked again.
static void
tunnel_leave(struct fp_installer *in, uint32_t index)
{
	if (fp_index_references(&in->arena->pool[FP_POOL_TUNNEL], index))
		in->tunnel_leaving[index] = 1;
	else
		tunnel_forget(in, index);
}

static bool
tunnel_valid(const struct fp_record_tunnel *record)
{
	const struct tunnel_kind *kind = tunnel_kind(record->protocol);
	return kind != NULL && record->object_id && fp_is_ipv4(record->local) && fp_is_ipv4(record->remote) &&
	       record->local[12] != 0 && record->local[12] < 224 && record->remote[12] != 0 &&
	       record->remote[12] < 224 && (record->udp_port != 0) == kind->udp_port &&
	       record->mtu_bytes >= MTU_BYTES_MIN && record->ttl && record->dscp < 64 &&
	       record->dscp_copy <= 1 && record->backup_id == 0;
}

static int
tunnel_add(struct fp_installer *in, const struct fp_tunnel_info *info)
{
	struct fp_index_pool *pool = in->arena->pool;
	uint32_t index, header, nexthops = 0;
	int rc = fp_take(in, FP_POOL_TUNNEL, &index);
	if (rc != 0)
		return rc;
	rc = header_take(in, info, &header);
	if (rc != 0)
		goto err_tunnel;
	fp_store_bytes(&in->arena->view.tunnel_info[index], info, sizeof(*info));
	in->tunnel_route_mtu[index] = 0;
	in->tunnel_seen_s[index] = in->now_s;
	uint32_t sibling = fp_tunnel_sibling(in, index);
	if (sibling) { // the way to this address is known already
		uint32_t group = fp_tunnel_nexthops(*fp_tunnel_word_at(in, sibling));
		rc = fp_nexthops_take(in, &in->arena->view.nexthops[group], &nexthops);
		if (rc != 0)
			goto err_header;
		in->tunnel_route_mtu[index] = in->tunnel_route_mtu[sibling];
	}
	fp_counters_begin(in, FP_COUNTED_TUNNEL, index);
	fp_tunnel_word_store(in, index, header, nexthops);
	fp_id_map_put(&in->tunnels, info->object_id, 0, index);
	if (index > in->tunnel_high)
		in->tunnel_high = index;
	in->tunnel_workers[index] = fp_own_bit(in);
	in->tunnel_adopted[index] = 0;
	in->tunnel_proposal[index].workers = 0;
	fp_tunnel_path_add(in, index);
	fp_tunnel_announce(in, FP_CLIENT_CONTROL, index, FP_RECORD_TUNNEL_CHANGED, 0);
	return 0;
err_header:
	fp_index_untake(&pool[FP_POOL_HEADER], header);
err_tunnel:
	fp_index_untake(&pool[FP_POOL_TUNNEL], index);
	return rc;
}

int
fp_tunnel_change(struct fp_installer *in, uint32_t index, const struct fp_tunnel_info *info)
{
	struct fp_tunnel_info *now = &in->arena->view.tunnel_info[index];
	fp_tunnel_word word = *fp_tunnel_word_at(in, index);
	uint32_t old_header = fp_tunnel_header(word), header = old_header;
	struct fp_header built;
	fp_header_build(&built, info);
	if (memcmp(&built, &in->arena->view.header[old_header], sizeof(built)) != 0) {
		int rc = header_take(in, info, &header);
		if (rc != 0)
			return rc;
	}
	fp_store(&now->node_id, info->node_id);
	fp_store(&now->revision, info->revision);
	fp_store(&now->incarnation, info->incarnation);
	fp_store(&now->udp_port, info->udp_port);
	fp_store(&now->mtu_bytes, info->mtu_bytes);
	fp_store(&now->ttl, info->ttl);
	fp_store(&now->dscp, info->dscp);
	fp_store(&now->dscp_copy, info->dscp_copy);
	fp_tunnel_word_store(in, index, header, fp_tunnel_nexthops(word));
	if (header != old_header)
		fp_index_retire(&in->arena->pool[FP_POOL_HEADER], old_header);
	return 0;
}

static void
tunnel_forget(struct fp_installer *in, uint32_t index)
{
	struct fp_index_pool *pool = in->arena->pool;
	fp_tunnel_word word = *fp_tunnel_word_at(in, index);
	fp_tunnel_announce(in, FP_CLIENT_CONTROL, index, FP_RECORD_TUNNEL_CHANGED, FP_RECORD_GONE);
	in->tunnel_leaving[index] = 0;
	fp_store(fp_tunnel_word_at(in, index), fp_tunnel_make(0, 0, 0, FP_TUNNEL_DYING));
	fp_arena_changed(in->arena);
	fp_tunnel_path_remove(in, index);
	fp_id_map_remove(&in->tunnels, in->arena->view.tunnel_info[index].object_id, 0);
	fp_index_retire(&pool[FP_POOL_HEADER], fp_tunnel_header(word));
	if (fp_tunnel_nexthops(word))
		fp_index_retire(&pool[FP_POOL_NEXTHOPS], fp_tunnel_nexthops(word));
	fp_index_retire(&pool[FP_POOL_TUNNEL], index);
}

static int
header_take(struct fp_installer *in, const struct fp_tunnel_info *info, uint32_t *header)
{
	struct fp_header built;
	int rc = fp_take(in, FP_POOL_HEADER, header);
	if (rc != 0)
		return rc;
	fp_header_build(&built, info);
	fp_store_bytes(&in->arena->view.header[*header], &built, sizeof(built));
	return 0;
}

void
fp_tunnel_word_store(struct fp_installer *in, uint32_t index, uint32_t header, uint32_t nexthops)
{
	uint16_t mtu = in->arena->view.tunnel_info[index].mtu_bytes;
	uint16_t route = in->tunnel_route_mtu[index];
	fp_tunnel_word word = fp_tunnel_make(header, nexthops, route && route < mtu ? route : mtu,
					     nexthops ? FP_TUNNEL_UP : FP_TUNNEL_UNRESOLVED);
	if (*fp_tunnel_word_at(in, index) != word)
		fp_store(fp_tunnel_word_at(in, index), word);
}

// To control, which finds next hops, or to a worker.
void
fp_tunnel_announce(struct fp_installer *in, uint8_t client, uint32_t index, uint16_t type, uint8_t flags)
{
	const struct fp_tunnel_info *info = &in->arena->view.tunnel_info[index];
	struct fp_record_tunnel record = {
		.head = {.type = type,
			 .version = FP_RECORD_VERSION,
			 .flags = flags,
			 .revision = info->revision},
		.object_id = info->object_id,
		.profile_id = info->profile_id,
		.node_id = info->node_id,
		.udp_port = info->udp_port,
		.mtu_bytes = info->mtu_bytes,
		.protocol = info->protocol,
		.ttl = info->ttl,
		.dscp = info->dscp,
		.dscp_copy = info->dscp_copy,
	};
	memcpy(record.local, info->local, sizeof(record.local));
	memcpy(record.remote, info->remote, sizeof(record.remote));
	in->hooks.emit(in->hooks.context, client, (const struct fp_record *)&record);
}
