// SPDX-License-Identifier: Apache-2.0
//
// The installer: takes a client's records one by one, refuses what is wrong, counted and told, and hands the
// rest to the file that owns the table.
#include "install_internal.h"

#include "flow_internal.h"

#define COLLECT_PER_TICK 512

static int tables_open(struct fp_installer *in);
static void close_unpeered(void *context, uint32_t index, struct fp_flow_entry *entry,
			   struct fp_flow_side *side);
static int dispatch(struct fp_installer *in, const struct fp_record *record);
static bool may_send(const struct fp_installer *in, const struct fp_record *record);
static bool only_removes(uint16_t type);
static bool changes_prepared(uint16_t type);
static int refuse(struct fp_installer *in, uint8_t client_worker, const struct fp_record *record, int why);
static uint64_t object_of(const struct fp_record *record);

int
fp_installer_create(struct fp_arena *arena, const struct fp_installer_hooks *hooks,
		    struct fp_installer **installer)
{
	struct fp_installer *in = calloc(1, sizeof(*in));
	if (in == NULL)
		return -ENOMEM;
	in->arena = arena;
	in->hooks = *hooks;
	in->now_s = arena->now_s;
	in->left_ns = UINT32_MAX;
	int rc = tables_open(in);
	in->left_ns = FP_RECORD_NS;
	if (rc < 0) {
		fp_installer_destroy(in);
		return rc;
	}
	*installer = in;
	return 0;
}

void
fp_installer_share(struct fp_installer *in, uint32_t workers)
{
	in->workers = workers;
}

void
fp_installer_destroy(struct fp_installer *in)
{
	if (in == NULL)
		return;
	fp_id_map_free(&in->vnets);
	fp_id_map_free(&in->ingresses);
	fp_id_map_free(&in->locations);
	fp_id_map_free(&in->tunnels);
	fp_id_map_free(&in->sets);
	fp_id_map_free(&in->tunnel_paths);
	fp_chain_free(&in->location_chain);
	fp_chain_free(&in->target_chain);
	fp_chain_free(&in->ingress_chain);
	fp_chain_free(&in->locator_chain);
	fp_chain_free(&in->tunnel_chain);
	free(in->ingress_locations);
	free(in->set_locations);
	free(in->ingress_locators);
	free(in->location_era);
	free(in->vnet);
	free(in->ingress_generation);
	free(in->locator_generation);
	free(in->peering_generation);
	free(in->location_generation);
	free(in->location_revision);
	free(in->location_token);
	free(in->location_seen_s);
	free(in->tunnel_seen_s);
	free(in->tunnel_route_mtu);
	free(in->set_seen_s);
	free(in->tunnel_workers);
	free(in->tunnel_leaving);
	free(in->tunnel_adopted);
	free(in->udp_port_users);
	free(in->assembly);
	free(in);
}

int
fp_installer_apply(struct fp_installer *in, uint8_t client_worker, const struct fp_record *given,
		   uint64_t now_ns)
{
	const struct fp_record record = *given; // the client may still be writing it
	in->applying_vni = record.head.vni;     // noted if this ends the process
	in->now_ns = now_ns;
	in->now_s = (uint32_t)(now_ns / 1000000000);
	if (client_worker != FP_CLIENT_CONTROL && client_worker >= FP_CLIENT_WORKERS)
		return refuse(in, client_worker, &record, FP_REFUSED_MALFORMED);
	in->client = client_worker == FP_CLIENT_CONTROL ? FP_CLIENT_WORKERS : client_worker;
	fp_worker_heard(in);
	if (record.head.version != FP_RECORD_VERSION)
		return refuse(in, client_worker, &record, FP_REFUSED_MALFORMED);
	if (!may_send(in, &record))
		return refuse(in, client_worker, &record, FP_REFUSED_OTHER_CLIENT);
	if (!only_removes(record.head.type)) // removals in a row are closed together
		fp_close_now(in);
	int rc = dispatch(in, &record);
	if (changes_prepared(record.head.type))
		fp_arena_changed(in->arena);
	if (rc == -EINPROGRESS)
		in->left_ns = FP_RECORD_NS; // for when it is applied again
	return rc > 0 ? refuse(in, client_worker, &record, rc) : rc;
}

void
fp_installer_foresee(const struct fp_installer *in, const struct fp_record *records, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t vni = records[i].head.vni;
		if (records[i].head.type == FP_RECORD_FLOW_INSTALL) {
			const struct fp_record_flow *flow = (const void *)&records[i];
			fp_flow_foresee(in->arena, &flow->key);
			fp_location_foresee(in, flow->destination_object,
					    flow->destination_vni ? flow->destination_vni : vni,
					    flow->ways & 15);
		} else if (records[i].head.type == FP_RECORD_LOCATION_SET) {
			const struct fp_record_location *location = (const void *)&records[i];
			fp_location_foresee(in, location->object_id, vni, location->way);
		}
	}
}

bool
fp_installer_tick(struct fp_installer *in, uint64_t now_ns)
{
	in->now_ns = now_ns;
	in->now_s = (uint32_t)(now_ns / 1000000000);
	fp_arena_tick(in->arena, now_ns);
	fp_arena_reclaim(in->arena);
	fp_workers_watch(in);
	uint32_t closing_ns = FP_SLICE_NS, marking_ns = FP_SLICE_NS, upkeep_ns = FP_SLICE_NS;
	bool more = fp_closings_walk(in->arena, &closing_ns);
	more |= fp_marking_tick(in, &marking_ns);
	more |= fp_upkeep_tick(in, &upkeep_ns);
	fp_locations_collect(in, COLLECT_PER_TICK);
	fp_tunnels_collect(in, COLLECT_PER_TICK / 16);
	fp_installer_sync(in);
	return more;
}

bool
fp_installer_due(const struct fp_installer *in)
{
	return fp_closings_due(in->arena) || in->marking || in->marks_due;
}

void
fp_close_now(struct fp_installer *in)
{
	if (fp_closings_fresh(in->arena) && in->left_ns)
		(void)fp_closings_walk(in->arena, &in->left_ns);
}

void
fp_installer_leave(struct fp_installer *in, uint8_t client_worker)
{
	const uint32_t client = client_worker == FP_CLIENT_CONTROL ? FP_CLIENT_WORKERS : client_worker;
	if (client >= FP_CLIENTS)
		return;
	in->assembly[client].have_bytes = 0;
	in->assembly[client].group_open = false;
	in->syncs_waiting &= ~(1u << client);
}

uint32_t
fp_installer_at_work(const struct fp_installer *in)
{
	return in->applying_vni;
}

uint64_t
fp_installer_refused(const struct fp_installer *in, enum fp_refusal why)
{
	return (unsigned)why < FP_REFUSED_MAX ? in->refused[why] : 0;
}

int
fp_take(struct fp_installer *in, enum fp_pool pool, uint32_t *index)
{
	int rc = fp_index_take(&in->arena->pool[pool], index);
	if (rc == -ENOSPC && in->arena->pool[pool].dead && fp_closings_pending(in->arena->view.closings))
		return -EAGAIN; // flows that are being closed hold some
	return rc == -ENOSPC ? FP_REFUSED_NO_ROOM : rc;
}

bool
fp_bytes_zero(const void *bytes, size_t len_bytes)
{
	const uint8_t *at = bytes;
	uint8_t any = 0;
	for (size_t i = 0; i < len_bytes; i++)
		any |= at[i];
	return any == 0;
}

static int
tables_open(struct fp_installer *in)
{
	const struct fp_arena_view *view = &in->arena->view;
	const struct fp_secret *secret = &view->secret;
	in->vnet = calloc(view->vnets, sizeof(*in->vnet));
	in->ingress_generation = calloc(view->ingresses, sizeof(*in->ingress_generation));
	in->locator_generation = calloc((size_t)in->arena->locator_mask + 1, sizeof(*in->locator_generation));
	in->peering_generation = calloc((size_t)in->arena->peering_mask + 1, sizeof(*in->peering_generation));
	in->location_generation = calloc(view->locations, sizeof(*in->location_generation));
	in->location_revision = calloc(view->locations, sizeof(*in->location_revision));
	in->location_token = calloc(view->locations, sizeof(*in->location_token));
	in->location_seen_s = calloc(view->locations, sizeof(*in->location_seen_s));
	in->tunnel_seen_s = calloc(view->tunnels, sizeof(*in->tunnel_seen_s));
	in->set_seen_s = calloc(view->tunnel_sets, sizeof(*in->set_seen_s));
	in->tunnel_route_mtu = calloc(view->tunnels, sizeof(*in->tunnel_route_mtu));
	in->tunnel_workers = calloc(view->tunnels, sizeof(*in->tunnel_workers));
	in->tunnel_leaving = calloc(view->tunnels, sizeof(*in->tunnel_leaving));
	in->udp_port_users = calloc(65536, sizeof(*in->udp_port_users));
	in->assembly = calloc(FP_CLIENTS, sizeof(*in->assembly));
	in->tunnel_adopted = calloc(view->tunnels, sizeof(*in->tunnel_adopted));
	in->location_era = calloc(view->locations, sizeof(*in->location_era));
	in->ingress_locations = calloc(view->ingresses, sizeof(*in->ingress_locations));
	in->set_locations = calloc(view->tunnel_sets, sizeof(*in->set_locations));
	in->ingress_locators = calloc(view->ingresses, sizeof(*in->ingress_locators));
	if (!in->vnet || !in->ingress_generation || !in->locator_generation || !in->peering_generation ||
	    !in->location_generation || !in->location_revision || !in->location_token ||
	    !in->location_seen_s || !in->tunnel_seen_s || !in->tunnel_route_mtu || !in->tunnel_workers ||
	    !in->tunnel_leaving || !in->set_seen_s || !in->udp_port_users || !in->assembly ||
	    !in->location_era || !in->tunnel_adopted || !in->ingress_locations || !in->set_locations ||
	    !in->ingress_locators)
		return -ENOMEM;
	if (fp_id_map_init(&in->vnets, secret, view->vnets) < 0 ||
	    fp_id_map_init(&in->ingresses, secret, view->ingresses) < 0 ||
	    fp_id_map_init(&in->locations, secret, view->locations) < 0 ||
	    fp_id_map_init(&in->tunnels, secret, view->tunnels) < 0 ||
	    fp_id_map_init(&in->sets, secret, view->tunnel_sets) < 0 ||
	    fp_id_map_init(&in->tunnel_paths, secret, view->tunnels) < 0 ||
	    fp_chain_init(&in->location_chain, view->locations) < 0 ||
	    fp_chain_init(&in->target_chain, view->locations) < 0 ||
	    fp_chain_init(&in->ingress_chain, view->ingresses) < 0 ||
	    fp_chain_init(&in->locator_chain, (size_t)in->arena->locator_mask + 2) < 0 ||
	    fp_chain_init(&in->tunnel_chain, view->tunnels) < 0)
		return -ENOMEM;
	fp_vnets_open(in);
	int rc = fp_peerings_open(in);
	if (rc < 0)
		return rc;
	fp_tunnels_open(in);
	fp_locations_open(in);
	fp_tunnel_sets_open(in);
	fp_ingresses_open(in);
	fp_changes_open(in);
	// The last data plane may have ended between taking a pair or an object out and closing its flows.
	uint32_t cursor = 0;
	fp_flow_walk(in->arena, &cursor, UINT32_MAX, close_unpeered, in);
	fp_close_dead(in->arena);
	fp_closings_finish(in->arena);
	return 0;
}

static void
close_unpeered(void *context, uint32_t index, struct fp_flow_entry *entry, struct fp_flow_side *)
{
	struct fp_installer *in = context;
	const uint32_t vnet = in->arena->view.ingress[entry->key.ingress].vnet;
	const uint32_t to = fp_flow_destination_vnet(&in->arena->view, entry);
	if (to != vnet && !fp_peered(in, vnet, to))
		fp_flow_remove_at(in->arena, index);
}

static int
dispatch(struct fp_installer *in, const struct fp_record *record)
{
	const void *r = record;
	switch (record->head.type) {
	case FP_RECORD_VNET_SET:
		return fp_vnet_set(in, r);
	case FP_RECORD_VNET_REMOVE:
		return fp_vnet_remove(in, r);
	case FP_RECORD_SNAPSHOT_BEGIN:
		return record->head.vni ? fp_vnet_snapshot_begin(in, r) : fp_tunnels_snapshot_begin(in);
	case FP_RECORD_SNAPSHOT_END:
		return record->head.vni ? fp_vnet_snapshot_end(in, r) : fp_tunnels_snapshot_end(in, r);
	case FP_RECORD_ATTACHMENT_SET:
		return fp_attachment_set(in, r);
	case FP_RECORD_ATTACHMENT_REMOVE:
		return fp_attachment_remove(in, r);
	case FP_RECORD_INGRESS_SET:
		return fp_ingress_set(in, r);
	case FP_RECORD_INGRESS_REMOVE:
		return fp_ingress_remove(in, r);
	case FP_RECORD_TUNNEL_SET:
		return fp_tunnel_set_record(in, r);
	case FP_RECORD_TUNNEL_REMOVE:
		return fp_tunnel_remove(in, r);
	case FP_RECORD_TUNNEL_GROUP_SET:
		return fp_tunnel_group_set(in, r);
	case FP_RECORD_LOCATION_SET:
		return fp_location_set(in, r);
	case FP_RECORD_LOCATION_REMOVE:
		return fp_location_remove(in, r);
	case FP_RECORD_NEXTHOP_SET:
		return fp_nexthop_set(in, r);
	case FP_RECORD_PEERING_SET:
		return fp_peering_set(in, r);
	case FP_RECORD_PEERING_REMOVE:
		return fp_peering_remove(in, r);
	case FP_RECORD_FLOW_INSTALL:
		return fp_flow_apply(in, r);
	case FP_RECORD_CHANGE:
		return fp_change_apply(in, r);
	case FP_RECORD_RELEASE_DROP:
		return fp_release_drop(in, r);
	case FP_RECORD_DIRECTORY_STATE:
		return fp_directory_state(in, r);
	case FP_RECORD_PACKET_OUT:
		return fp_packet_out(in, r);
	case FP_RECORD_SYNC:
		return fp_sync_apply(in, r);
	default:
		return FP_REFUSED_MALFORMED;
	}
}

// Control tells next hops and a worker all else, of its own V-nets: vni % workers. A worker that somebody has
// taken over is still no other one.
static bool
may_send(const struct fp_installer *in, const struct fp_record *record)
{
	const bool is_control = in->client == FP_CLIENT_WORKERS;
	if (record->head.type == FP_RECORD_NEXTHOP_SET || is_control)
		return is_control && record->head.type == FP_RECORD_NEXTHOP_SET;
	if (record->head.type == FP_RECORD_DIRECTORY_STATE)
		return ((const struct fp_record_directory_state *)(const void *)record)->worker == in->client;
	return record->head.vni == 0 || in->workers == 0 || record->head.vni % in->workers == in->client;
}

// These may follow a removal, or a change of the same batch, before the pass that closes flows.
static bool
only_removes(uint16_t type)
{
	return type == FP_RECORD_LOCATION_REMOVE || type == FP_RECORD_ATTACHMENT_REMOVE ||
	       type == FP_RECORD_INGRESS_REMOVE || type == FP_RECORD_CHANGE;
}

// These may change a V-net, an ingress or a tunnel; they are taken to, whatever became of them.
static bool
changes_prepared(uint16_t type)
{
	switch (type) {
	case FP_RECORD_VNET_SET:
	case FP_RECORD_VNET_REMOVE:
	case FP_RECORD_SNAPSHOT_BEGIN:
	case FP_RECORD_SNAPSHOT_END:
	case FP_RECORD_ATTACHMENT_SET:
	case FP_RECORD_ATTACHMENT_REMOVE:
	case FP_RECORD_INGRESS_SET:
	case FP_RECORD_INGRESS_REMOVE:
	case FP_RECORD_TUNNEL_SET:
	case FP_RECORD_TUNNEL_REMOVE:
	case FP_RECORD_TUNNEL_GROUP_SET:
	case FP_RECORD_NEXTHOP_SET:
	case FP_RECORD_PEERING_SET:
	case FP_RECORD_PEERING_REMOVE:
		return true;
	default:
		return false;
	}
}

static int
refuse(struct fp_installer *in, uint8_t client_worker, const struct fp_record *record, int why)
{
	static const int errors[FP_REFUSED_MAX] = {
		[FP_REFUSED_MALFORMED] = -EINVAL, [FP_REFUSED_UNKNOWN_VNET] = -ENOENT,
		[FP_REFUSED_OTHER_VNET] = -EPERM, [FP_REFUSED_UNKNOWN_OBJECT] = -ENOENT,
		[FP_REFUSED_LATE] = -ESTALE,      [FP_REFUSED_OTHER_INCARNATION] = -ESTALE,
		[FP_REFUSED_NO_ROOM] = -ENOSPC,   [FP_REFUSED_QUOTA] = -EDQUOT,
		[FP_REFUSED_CONFLICT] = -EEXIST,  [FP_REFUSED_OTHER_CLIENT] = -EPERM,
	};
	struct fp_record_refused refused = {
		.head = {.type = FP_RECORD_REFUSED,
			 .version = FP_RECORD_VERSION,
			 .vni = record->head.vni,
			 .revision = record->head.revision},
		.refused_type = record->head.type,
		.why = (uint16_t)why,
		.object = object_of(record),
	};
	if (record->head.type == FP_RECORD_FLOW_INSTALL) {
		const struct fp_record_flow *flow = (const void *)record;
		refused.token = flow->token;
		refused.key = flow->key;
	}
	in->refused[why]++;
	in->hooks.emit(in->hooks.context, client_worker, (const struct fp_record *)&refused);
	return errors[why];
}

// The id that a record names first, for the client's log.
static uint64_t
object_of(const struct fp_record *record)
{
	uint64_t object = 0;
	switch (record->head.type) {
	case FP_RECORD_FLOW_INSTALL:
		return ((const struct fp_record_flow *)(const void *)record)->destination_object;
	case FP_RECORD_INGRESS_SET:
		return ((const struct fp_record_ingress *)(const void *)record)->node_id;
	case FP_RECORD_VNET_SET:
	case FP_RECORD_VNET_REMOVE:
	case FP_RECORD_ATTACHMENT_SET:
	case FP_RECORD_ATTACHMENT_REMOVE:
	case FP_RECORD_TUNNEL_SET:
	case FP_RECORD_TUNNEL_REMOVE:
	case FP_RECORD_TUNNEL_GROUP_SET:
	case FP_RECORD_LOCATION_SET:
	case FP_RECORD_LOCATION_REMOVE:
	case FP_RECORD_PACKET_OUT: // the id is the first member of the body
		memcpy(&object, record->body, sizeof(object));
		return object;
	default:
		return 0;
	}
}
