// SPDX-License-Identifier: Apache-2.0
//
// The installer: what it keeps beside the tables, made when they are opened, and what it does with time.
#include "install_internal.h"

#include "flow_internal.h"

#define COLLECT_PER_TICK 512

static int tables_open(struct fp_installer *in);
static void close_unpeered(void *context, uint32_t index, struct fp_flow_entry *entry,
			   struct fp_flow_side *side);

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
	arena->clock_ns = hooks->clock_ns; // nobody waits before
	fp_refill(in);
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
	fp_share_open(in);
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
	fp_id_map_free(&in->tunnel_sets);
	fp_id_map_free(&in->peered);
	fp_id_map_free(&in->gateways);
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
	free(in->ingress_snapshot);
	free(in->locator_snapshot);
	free(in->locator_foreign);
	free(in->peering_word);
	free(in->location_snapshot);
	free(in->location_revision);
	free(in->location_token);
	free(in->location_seen_s);
	free(in->tunnel_seen_s);
	free(in->tunnel_route_mtu);
	free(in->set_seen_s);
	free(in->tunnel_workers);
	free(in->tunnel_proposal);
	free(in->set_owner);
	free(in->tunnel_leaving);
	free(in->tunnel_adopted);
	free(in->udp_port_users);
	free(in->assembly);
	free(in);
}

bool
fp_installer_tick(struct fp_installer *in, uint64_t now_ns)
{
	in->now_ns = now_ns;
	in->now_s = (uint32_t)(now_ns / 1000000000);
	const uint32_t last_vni = in->applying_vni;
	in->applying_vni = 0; // a pass is at work for nobody in particular
	fp_arena_tick(in->arena, now_ns);
	fp_arena_reclaim(in->arena);
	fp_workers_watch(in);
	uint32_t closing_ns = FP_SLICE_NS, marking_ns = FP_SLICE_NS, upkeep_ns = FP_SLICE_NS;
	bool more = fp_closings_walk(in->arena, &closing_ns);
	more |= fp_marking_tick(in, &marking_ns);
	more |= fp_upkeep_tick(in, &upkeep_ns);
	const uint32_t collect =
		more ? COLLECT_PER_TICK / 8 : COLLECT_PER_TICK; // with more to do, ticks are many
	fp_locations_collect(in, collect);
	fp_tunnels_collect(in, collect / 16);
	fp_tunnel_sets_tick(in);
	fp_installer_sync(in);
	in->applying_vni = last_vni;
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
fp_refill(struct fp_installer *in)
{
	in->left_ns = FP_RECORD_NS;
	in->until_ns = 0;
}

void
fp_spend_look(struct fp_installer *in)
{
	const uint64_t now_ns = in->arena->clock_ns();
	if (in->until_ns == 0)
		in->until_ns = now_ns + in->left_ns;
	else if (now_ns >= in->until_ns)
		in->left_ns = 0;
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
	fp_tunnel_sets_leave(in, client);
}

static int
tables_open(struct fp_installer *in)
{
	const struct fp_arena_view *view = &in->arena->view;
	const struct fp_secret *secret = &view->secret;
	in->vnet = calloc(view->vnets, sizeof(*in->vnet));
	in->ingress_snapshot = calloc(view->ingresses, sizeof(*in->ingress_snapshot));
	in->locator_snapshot = calloc((size_t)in->arena->locator_mask + 1, sizeof(*in->locator_snapshot));
	in->locator_foreign = calloc((size_t)in->arena->locator_mask + 1, sizeof(*in->locator_foreign));
	in->peering_word = calloc(fp_peering_words_max(in->arena), sizeof(*in->peering_word));
	in->location_snapshot = calloc(view->locations, sizeof(*in->location_snapshot));
	in->location_revision = calloc(view->locations, sizeof(*in->location_revision));
	in->location_token = calloc(view->locations, sizeof(*in->location_token));
	in->location_seen_s = calloc(view->locations, sizeof(*in->location_seen_s));
	in->tunnel_seen_s = calloc(view->tunnels, sizeof(*in->tunnel_seen_s));
	in->set_seen_s = calloc(view->tunnel_sets, sizeof(*in->set_seen_s));
	in->tunnel_route_mtu = calloc(view->tunnels, sizeof(*in->tunnel_route_mtu));
	in->tunnel_workers = calloc(view->tunnels, sizeof(*in->tunnel_workers));
	in->tunnel_proposal = calloc(view->tunnels, sizeof(*in->tunnel_proposal));
	in->set_owner = calloc(view->tunnel_sets, sizeof(*in->set_owner));
	in->tunnel_leaving = calloc(view->tunnels, sizeof(*in->tunnel_leaving));
	in->udp_port_users = calloc(65536, sizeof(*in->udp_port_users));
	in->assembly = calloc(FP_CLIENTS, sizeof(*in->assembly));
	in->tunnel_adopted = calloc(view->tunnels, sizeof(*in->tunnel_adopted));
	in->location_era = calloc(view->locations, sizeof(*in->location_era));
	in->ingress_locations = calloc(view->ingresses, sizeof(*in->ingress_locations));
	in->set_locations = calloc(view->tunnel_sets, sizeof(*in->set_locations));
	in->ingress_locators = calloc(view->ingresses, sizeof(*in->ingress_locators));
	if (!in->vnet || !in->ingress_snapshot || !in->locator_snapshot || !in->peering_word ||
	    !in->locator_foreign || !in->location_snapshot || !in->location_revision || !in->location_token ||
	    !in->location_seen_s || !in->tunnel_seen_s || !in->tunnel_route_mtu || !in->tunnel_workers ||
	    !in->tunnel_leaving || !in->tunnel_proposal || !in->set_owner || !in->set_seen_s ||
	    !in->udp_port_users || !in->assembly || !in->location_era || !in->tunnel_adopted ||
	    !in->ingress_locations || !in->set_locations || !in->ingress_locators)
		return -ENOMEM;
	if (fp_id_map_init(&in->vnets, secret, view->vnets) < 0 ||
	    fp_id_map_init(&in->ingresses, secret, view->ingresses) < 0 ||
	    fp_id_map_init(&in->locations, secret, view->locations) < 0 ||
	    fp_id_map_init(&in->tunnels, secret, view->tunnels) < 0 ||
	    fp_id_map_init(&in->tunnel_sets, secret, view->tunnel_sets) < 0 ||
	    fp_id_map_init(&in->gateways, secret, in->arena->locator_mask + 1) < 0 || // two names for each
	    fp_id_map_init(&in->peered, secret, fp_peering_words_max(in->arena)) < 0 ||
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
	rc = fp_share_init(in);
	if (rc < 0)
		return rc;
	fp_upkeep_open(in);
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
