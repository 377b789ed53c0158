// SPDX-License-Identifier: Apache-2.0
//
// Upkeep: one pass over all flows, again and again in slices. Asks about those in use before their time is over,
// extends them while no directory answers, and takes out what has expired. A lap takes LAP_S at most, whatever the
// capacity, and less where flows are to be asked about within less, down to what VISITS_PER_S allow: what is owed
// for the time that has passed is done slice after slice, records between.
#include "install_internal.h"

#include "flow_internal.h"

#define LAP_S 15              // less than EXTEND_AHEAD_S
#define LAP_S_MIN 2           // however short lives are
#define VISITS_PER_S 2000000u // of shorter laps: a third of the writer's time where caches are cold
#define REFRESHES_PER_TICK 128
#define REFRESH_NS 200
#define REFRESH_AGAIN_S 5 // an unanswered refresh is repeated
#define IN_USE_S 60       // used this recently: worth asking again
#define EXTEND_AHEAD_S 30 // while silent, expiry is kept this far ahead
#define EXPIRED_KEPT_S 10 // an expired flow can be revived so long if its worker is found silent

static void owe(struct fp_installer *in);
static uint32_t upkeep_one(void *context, uint32_t index, struct fp_flow_entry *entry,
			   struct fp_flow_side *side);
static bool to_be_asked(const struct fp_installer *in, const struct fp_flow_entry *entry,
			const struct fp_flow_side *side);
static void refresh(struct fp_installer *in, const struct fp_flow_entry *entry, struct fp_flow_side *side);
static void extend(const struct fp_installer *in, const struct fp_vnet *vnet, struct fp_flow_entry *entry,
		   const struct fp_flow_side *side);

void
fp_upkeep_open(struct fp_installer *in)
{
	in->lap_s = in->window_s = LAP_S;
}

// No tenant's short lives, nor questions that are asked again, keep the writer at it all the time.
static uint32_t
shortest_lap_s(const struct fp_installer *in)
{
	const uint32_t lap_s = in->arena->view.flows / VISITS_PER_S;
	return lap_s < LAP_S_MIN ? LAP_S_MIN : lap_s;
}

void
fp_upkeep_expects(struct fp_installer *in, uint32_t refresh_at_s, uint32_t expire_at_s)
{
	uint32_t window_s = expire_at_s - refresh_at_s;
	if (refresh_at_s <= in->now_s || refresh_at_s >= expire_at_s || window_s >= in->window_s)
		return;
	if (window_s < shortest_lap_s(in))
		window_s = shortest_lap_s(in);
	if (window_s >= in->window_s)
		return;
	in->window_s = window_s;
	if (window_s < in->lap_s)
		in->lap_s = window_s;
}

bool
fp_upkeep_tick(struct fp_installer *in, uint32_t *left_ns)
{
	const uint32_t entries = in->arena->view.flows, from = in->upkeep_cursor;
	owe(in);
	in->asked = 0;
	const bool around = fp_flow_pass(in->arena, &in->upkeep_cursor, left_ns, upkeep_one, in);
	if (around) {
		in->lap_s = in->window_s;
		in->window_s = LAP_S;
	}
	const uint32_t seen = (around ? entries : in->upkeep_cursor) - from;
	if (in->asked >= REFRESHES_PER_TICK)
		in->upkeep_cursor = from; // some were left: they do not wait for the next lap
	else
		in->upkeep_owed -= in->upkeep_owed < seen ? in->upkeep_owed : seen;
	return in->upkeep_owed || in->asked >= REFRESHES_PER_TICK;
}

static void
owe(struct fp_installer *in)
{
	const uint64_t lap_ns = in->lap_s * 1000000000ull;
	uint64_t elapsed_ns = in->now_ns > in->upkeep_ns ? in->now_ns - in->upkeep_ns : 0;
	if (elapsed_ns > lap_ns)
		elapsed_ns = lap_ns;
	const uint32_t entries = in->arena->view.flows;
	const uint64_t owed = in->upkeep_owed + entries * elapsed_ns / lap_ns;
	in->upkeep_owed = owed < entries ? (uint32_t)owed : entries;
	in->upkeep_ns = in->now_ns;
}

static uint32_t
upkeep_one(void *context, uint32_t index, struct fp_flow_entry *entry, struct fp_flow_side *side)
{
	struct fp_installer *in = context;
	const struct fp_arena_view *view = &in->arena->view;
	const struct fp_vnet *vnet = &view->vnet[view->ingress[entry->key.ingress].vnet];
	if (vnet->worker < FP_CLIENT_WORKERS && in->worker[vnet->worker].silent_since_s) {
		extend(in, vnet, entry, side);
	} else if (to_be_asked(in, entry, side)) {
		refresh(in, entry, side);
		return REFRESH_NS;
	}
	fp_upkeep_expects(in, side->refresh_at_s, entry->expire_at_s);
	return fp_flow_expire_at(in->arena, index, EXPIRED_KEPT_S) ? FP_REMOVE_NS : 0;
}

static bool
to_be_asked(const struct fp_installer *in, const struct fp_flow_entry *entry, const struct fp_flow_side *side)
{
	if (side->refresh_at_s == 0 || side->refresh_at_s > in->now_s || in->asked >= REFRESHES_PER_TICK ||
	    entry->expire_at_s <= in->now_s)
		return false;
	const uint32_t used_s = __atomic_load_n(&entry->used_s, __ATOMIC_RELAXED);
	return (int32_t)(in->now_s - used_s) < IN_USE_S;
}

static void
refresh(struct fp_installer *in, const struct fp_flow_entry *entry, struct fp_flow_side *side)
{
	const struct fp_ingress *ingress = &in->arena->view.ingress[entry->key.ingress];
	const struct fp_vnet *vnet = &in->arena->view.vnet[ingress->vnet];
	const uint32_t to =
		fp_action_of(entry->action) == FP_ACTION_DROP ? 0 : fp_action_destination(entry->action);
	struct fp_record_miss record = {
		.head = {.type = FP_RECORD_REFRESH,
			 .version = FP_RECORD_VERSION,
			 .vni = vnet->vni,
			 .revision = vnet->revision},
		.key = entry->key,
		.ingress_object = ingress->object_id,
		.ingress_kind = ingress->kind,
		.received_ns = in->now_ns,
		.current_object = to ? in->arena->view.location[to].object_id : 0,
	};
	in->hooks.emit(in->hooks.context, vnet->worker, (const struct fp_record *)&record);
	fp_store(&side->refresh_at_s, in->now_s + REFRESH_AGAIN_S);
	in->asked++;
	fp_worker_asked(in, vnet->worker);
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
	if (entry->expire_at_s > limit_s) // its life is longer than stale_max
		fp_store(&entry->expire_at_s, (uint32_t)limit_s);
	else if (entry->expire_at_s < until_s && entry->expire_at_s + EXPIRED_KEPT_S >= in->now_s)
		fp_store(&entry->expire_at_s, (uint32_t)until_s);
}
