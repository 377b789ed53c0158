// SPDX-License-Identifier: Apache-2.0
//
// Passes over all flows. Closing is done at once and whole, before anything else is applied: the records
// that follow a revocation must not find what it revoked. Marking (loosened, moved, missed) and upkeep
// (refresh, expiry, extension while no directory answers) go on in slices. A lap of upkeep takes LAP_S at most,
// whatever the capacity: what is owed for the time that has passed is done slice after slice, records between.
#include "install_internal.h"

#define SLICE 16384           // entries a tick, of each kind of pass
#define LAP_S 15              // less than EXTEND_AHEAD_S, and than what is left of a life at its refresh
#define REFRESHES_PER_TICK 256
#define REFRESH_AGAIN_S 5     // an unanswered refresh is repeated
#define IN_USE_S 60           // used this recently: worth asking again
#define SILENT_AFTER_S 3      // a worker that was asked and says nothing for so long is silent
#define EXTEND_AHEAD_S 30     // while silent, expiry is kept this far ahead
#define EXPIRED_KEPT_S 10     // an expired flow can be revived so long if its worker is found silent
#define COLLECT_PER_TICK 1024

struct pass {
	struct fp_installer *in;
	const struct fp_arena_view *view;
};

static void closings_count(struct fp_installer *in);
static void close_one(void *context, uint32_t index, struct fp_flow_entry *entry, struct fp_flow_side *side);
static bool to_be_closed(const struct fp_installer *in, const struct fp_arena_view *view,
			 const struct fp_flow_entry *entry);
static uint32_t destination_vnet(const struct fp_arena_view *view, const struct fp_flow_entry *entry);
static bool list_covers(const struct fp_scope_list *list, uint32_t vnet, const struct fp_flow_entry *entry);
static void list_forget(struct fp_scope_list *list, uint32_t vnet);
static bool stale_tick(struct fp_installer *in);
static void stale_lap(struct fp_installer *in);
static void stale_one(void *context, uint32_t index, struct fp_flow_entry *entry, struct fp_flow_side *side);
static void upkeep_one(void *context, uint32_t index, struct fp_flow_entry *entry, struct fp_flow_side *side);
static void upkeep_owe(struct fp_installer *in);
static void extend(const struct fp_installer *in, const struct fp_vnet *vnet, struct fp_flow_entry *entry,
		   const struct fp_flow_side *side);
static void refresh(struct fp_installer *in, const struct fp_flow_entry *entry, struct fp_flow_side *side);
static void workers_watch(struct fp_installer *in);
static void silence(struct fp_installer *in, uint32_t worker);

void
fp_scan_close(struct fp_installer *in)
{
	struct pass pass = { in, &in->arena->view };
	uint32_t cursor = 0;
	closings_count(in);
	fp_flow_walk(in->arena, &cursor, UINT32_MAX, close_one, &pass);
	for (uint32_t i = 0; i < in->tighten.count; i++) {
		uint32_t vnet = in->tighten.item[i].vnet;
		in->vnet[vnet].tighten = 0;
		if (pass.view->vnet[vnet].closing)
			fp_store(&pass.view->vnet[vnet].closing, (uint8_t)0);
	}
	in->tighten.count = 0;
	in->close_dead = false;
	in->close_unpeered = false;
	in->close_vnet = 0;
}

void
fp_scan_stale(struct fp_installer *in, const struct fp_scope_pending *item)
{
	static const struct fp_scope any = { .port_high = 0xffff };
	struct fp_scope_list *list = &in->stale_next;
	if (list->count == FP_SCOPES_PENDING) { // no room: all of the V-net is asked again, once
		for (uint32_t i = 0; i < list->count; i++)
			if (list->item[i].vnet == item->vnet) {
				list->item[i] = (struct fp_scope_pending){ .vnet = item->vnet, .scope = any };
				return;
			}
		while (in->stale.count || in->stale_next.count == FP_SCOPES_PENDING)
			stale_lap(in);
	}
	list->item[list->count++] = *item;
}

void
fp_scan_forget(struct fp_installer *in, uint32_t vnet)
{
	list_forget(&in->tighten, vnet);
	list_forget(&in->stale, vnet);
	list_forget(&in->stale_next, vnet);
}

bool
fp_scan_tick(struct fp_installer *in)
{
	struct pass pass = { in, &in->arena->view };
	if (fp_scan_due(in))
		fp_scan_close(in);
	workers_watch(in);
	bool more = stale_tick(in);
	upkeep_owe(in);
	const uint32_t from = in->upkeep_cursor;
	in->asked = 0;
	fp_flow_walk(in->arena, &in->upkeep_cursor, SLICE, upkeep_one, &pass);
	if (in->asked >= REFRESHES_PER_TICK)
		in->upkeep_cursor = from; // some were left: they do not wait for the next lap
	else
		in->upkeep_owed -= in->upkeep_owed < SLICE ? in->upkeep_owed : SLICE;
	fp_flow_expire(in->arena, &in->expire_cursor, SLICE, EXPIRED_KEPT_S);
	fp_locations_collect(in, COLLECT_PER_TICK);
	fp_tunnels_collect(in, COLLECT_PER_TICK / 16);
	return more || in->upkeep_owed || in->asked >= REFRESHES_PER_TICK;
}

int
fp_directory_state(struct fp_installer *in, const struct fp_record_directory_state *record)
{
	if (record->worker >= FP_CLIENT_WORKERS || record->answering > 1)
		return FP_REFUSED_MALFORMED;
	if (record->answering) {
		in->worker[record->worker] = (struct fp_worker_state){ 0 };
		return 0;
	}
	silence(in, record->worker);
	in->worker[record->worker].declared = true;
	return 0;
}

// Silence that it declared itself lasts until it says otherwise.
void
fp_worker_heard(struct fp_installer *in)
{
	if (in->client >= FP_CLIENT_WORKERS)
		return;
	struct fp_worker_state *worker = &in->worker[in->client];
	worker->asked_at_s = 0;
	if (!worker->declared)
		worker->silent_since_s = 0;
}

// ---- closing ---------------------------------------------------------------------------------

// What a poll thread has been handed and not yet looked at is no less closed: it compares.
static void
closings_count(struct fp_installer *in)
{
	struct fp_vnet *vnet = in->arena->view.vnet;
	for (uint32_t i = 0; i < in->tighten.count; i++) {
		struct fp_vnet *one = &vnet[in->tighten.item[i].vnet];
		fp_store(&one->closings, one->closings + 1);
	}
	if (in->close_vnet)
		fp_store(&vnet[in->close_vnet].closings, vnet[in->close_vnet].closings + 1);
	for (uint32_t v = 1; in->close_unpeered && v < in->arena->view.vnets; v++)
		if (fp_index_live(&in->arena->pool[FP_POOL_VNET], v))
			fp_store(&vnet[v].closings, vnet[v].closings + 1);
}

static void
close_one(void *context, uint32_t index, struct fp_flow_entry *entry, struct fp_flow_side *)
{
	struct pass *pass = context;
	if (to_be_closed(pass->in, pass->view, entry))
		fp_flow_remove_at(pass->in->arena, index);
}

static bool
to_be_closed(const struct fp_installer *in, const struct fp_arena_view *view,
	     const struct fp_flow_entry *entry)
{
	const struct fp_ingress *ingress = &view->ingress[entry->key.ingress];
	uint32_t vnet = ingress->vnet;
	// Where no V-net may send into another one, the destination's is the key's.
	bool across = in->close_unpeered || in->close_vnet || in->peerings;
	uint32_t to = across ? destination_vnet(view, entry) : vnet;
	if (in->vnet[vnet].tighten && list_covers(&in->tighten, vnet, entry))
		return true;
	if (to != vnet && in->vnet[to].tighten && list_covers(&in->tighten, to, entry))
		return true;
	if (in->close_vnet && (vnet == in->close_vnet || to == in->close_vnet))
		return true;
	if (in->close_unpeered && to != vnet && !fp_peered(in, vnet, to))
		return true;
	if (!in->close_dead)
		return false;
	if (!(ingress->flags & FP_INGRESS_LIVE))
		return true;
	if (fp_action_of(entry->action) == FP_ACTION_DROP)
		return false;
	uint32_t source = fp_action_source(entry->action);
	uint32_t destination = fp_action_destination(entry->action);
	return (source && view->location[source].state != FP_LOCATION_LIVE) ||
	       (destination && view->location[destination].state != FP_LOCATION_LIVE);
}

static uint32_t
destination_vnet(const struct fp_arena_view *view, const struct fp_flow_entry *entry)
{
	uint32_t destination = fp_action_destination(entry->action);
	if (fp_action_of(entry->action) == FP_ACTION_DROP || destination == 0)
		return view->ingress[entry->key.ingress].vnet;
	return view->location[destination].vnet;
}

static bool
list_covers(const struct fp_scope_list *list, uint32_t vnet, const struct fp_flow_entry *entry)
{
	for (uint32_t i = 0; i < list->count; i++) {
		const struct fp_scope_pending *item = &list->item[i];
		if (item->vnet == vnet && (!item->older || (int32_t)(entry->revision - item->before) < 0) &&
		    fp_scope_covers(&item->scope, &entry->key))
			return true;
	}
	return false;
}

static void
list_forget(struct fp_scope_list *list, uint32_t vnet)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < list->count; i++)
		if (list->item[i].vnet != vnet)
			list->item[kept++] = list->item[i];
	list->count = kept;
}

// ---- marking ---------------------------------------------------------------------------------

// Scopes that come during a lap wait for the next one, so that each sees every flow.
static bool
stale_tick(struct fp_installer *in)
{
	struct pass pass = { in, &in->arena->view };
	if (in->stale.count == 0) {
		if (in->stale_next.count == 0)
			return false;
		in->stale = in->stale_next;
		in->stale_next.count = 0;
		in->stale_cursor = 0;
	}
	if (fp_flow_walk(in->arena, &in->stale_cursor, SLICE, stale_one, &pass))
		in->stale.count = 0;
	return in->stale.count || in->stale_next.count;
}

static void
stale_lap(struct fp_installer *in)
{
	do
		stale_tick(in);
	while (in->stale.count);
}

static void
stale_one(void *context, uint32_t, struct fp_flow_entry *entry, struct fp_flow_side *side)
{
	const struct pass *pass = context;
	struct fp_installer *in = pass->in;
	uint32_t vnet = pass->view->ingress[entry->key.ingress].vnet;
	uint32_t to = in->peerings ? destination_vnet(pass->view, entry) : vnet;
	if (!list_covers(&in->stale, vnet, entry) && (to == vnet || !list_covers(&in->stale, to, entry)))
		return;
	if (!(fp_action_flags(entry->action) & FP_ACTION_STALE))
		fp_store(&entry->action, entry->action | (uint64_t)FP_ACTION_STALE << 48);
	fp_store(&side->refresh_at_s, in->now_s);
}

// ---- upkeep ----------------------------------------------------------------------------------

static void
upkeep_owe(struct fp_installer *in)
{
	const uint64_t lap_ns = LAP_S * 1000000000ull;
	uint64_t elapsed_ns = in->now_ns > in->upkeep_ns ? in->now_ns - in->upkeep_ns : 0;
	if (elapsed_ns > lap_ns)
		elapsed_ns = lap_ns;
	const uint32_t entries = in->arena->view.flows;
	const uint64_t owed = in->upkeep_owed + entries * elapsed_ns / lap_ns;
	in->upkeep_owed = owed < entries ? (uint32_t)owed : entries;
	in->upkeep_ns = in->now_ns;
}

static void
upkeep_one(void *context, uint32_t, struct fp_flow_entry *entry, struct fp_flow_side *side)
{
	const struct pass *pass = context;
	struct fp_installer *in = pass->in;
	const struct fp_vnet *vnet = &pass->view->vnet[pass->view->ingress[entry->key.ingress].vnet];
	if (vnet->worker < FP_CLIENT_WORKERS && in->worker[vnet->worker].silent_since_s) {
		extend(in, vnet, entry, side);
	} else if (side->refresh_at_s && side->refresh_at_s <= in->now_s && in->asked < REFRESHES_PER_TICK &&
		   entry->expire_at_s > in->now_s) {
		uint32_t used_s = __atomic_load_n(&entry->used_s, __ATOMIC_RELAXED);
		if ((int32_t)(in->now_s - used_s) < IN_USE_S)
			refresh(in, entry, side);
	}
}

static void
refresh(struct fp_installer *in, const struct fp_flow_entry *entry, struct fp_flow_side *side)
{
	const struct fp_ingress *ingress = &in->arena->view.ingress[entry->key.ingress];
	const struct fp_vnet *vnet = &in->arena->view.vnet[ingress->vnet];
	const uint32_t to = fp_action_of(entry->action) == FP_ACTION_DROP ?
				    0 :
				    fp_action_destination(entry->action);
	struct fp_record_miss record = {
		.head = { .type = FP_RECORD_REFRESH,
			  .version = FP_RECORD_VERSION,
			  .vni = vnet->vni,
			  .revision = vnet->revision },
		.key = entry->key,
		.ingress_object = ingress->object_id,
		.ingress_kind = ingress->kind,
		.received_ns = in->now_ns,
		.current_object = to ? in->arena->view.location[to].object_id : 0,
	};
	in->hooks.emit(in->hooks.context, vnet->worker, (const struct fp_record *)&record);
	fp_store(&side->refresh_at_s, in->now_s + REFRESH_AGAIN_S);
	in->asked++;
	if (vnet->worker < FP_CLIENT_WORKERS && in->worker[vnet->worker].asked_at_s == 0)
		in->worker[vnet->worker].asked_at_s = in->now_s;
}

// ---- silence ---------------------------------------------------------------------------------

// A worker that was asked and sends nothing at all is dead or stopped: its flows live on as if it had said
// that no directory answers.
static void
workers_watch(struct fp_installer *in)
{
	for (uint32_t w = 0; w < FP_CLIENT_WORKERS; w++) {
		const struct fp_worker_state *worker = &in->worker[w];
		if (worker->silent_since_s == 0 && worker->asked_at_s &&
		    in->now_s - worker->asked_at_s >= SILENT_AFTER_S)
			silence(in, w);
	}
}

static void
silence(struct fp_installer *in, uint32_t worker)
{
	if (in->worker[worker].silent_since_s)
		return;
	in->worker[worker].silent_since_s = in->now_s ? in->now_s : 1;
	in->upkeep_owed = in->arena->view.flows; // a whole lap at once: what has expired meanwhile lives on
}

// However often the line comes and goes: what bounds a flow is when it was last decided.
static void
extend(const struct fp_installer *in, const struct fp_vnet *vnet, struct fp_flow_entry *entry,
       const struct fp_flow_side *side)
{
	uint64_t limit_s = (uint64_t)side->decided_at_s + vnet->stale_max_s;
	uint64_t until_s = (uint64_t)in->now_s + EXTEND_AHEAD_S;
	if (until_s > limit_s)
		until_s = limit_s;
	if (entry->expire_at_s < until_s && entry->expire_at_s + EXPIRED_KEPT_S >= in->now_s)
		fp_store(&entry->expire_at_s, (uint32_t)until_s);
}
