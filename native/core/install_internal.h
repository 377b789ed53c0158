// SPDX-License-Identifier: Apache-2.0
//
// What the files of the installer share: its private state, and one function per record type.
//
// A function that applies a record returns 0, -EAGAIN (nothing was changed: try again after the next tick),
// -EINPROGRESS (it has spent what one record may: apply it again, others in between) or, positive, the enum
// fp_refusal. Writer's thread only.
#pragma once

#include <errno.h>
#include <stdlib.h>

#include "arena_internal.h"
#include "chain.h"
#include "closing.h"
#include "fp_install.h"
#include "id_map.h"
#include "scope.h"

#define FP_VNI_MAX 0xffffffu
#define FP_CLIENT_CONTROL 0xff
#define FP_CLIENT_WORKERS 16
#define FP_CLIENTS (FP_CLIENT_WORKERS + 1) // the last is control
static_assert(FP_CLIENT_WORKERS <= 16, "a bit each in tunnel_workers");
static_assert(FP_CLIENT_WORKERS < FP_INDEX_OWNERS, "a number each, and nobody's");
#define FP_FRAME_BYTES_MAX 9216

// The writer is kept no longer than this by a record, or by a slice of a pass, by estimate.
#define FP_RECORD_NS 100000
#define FP_SLICE_NS 50000

// Flows that are to be asked again in a lap of marking.
struct fp_mark {
	uint32_t lap; // another: nothing is
	bool all, older;
	uint32_t before;     // if `older`: those of a revision (low bits) before this
	uint32_t first, end; // those in the scopes of the changes of these numbers
};

// Beside each V-net, private.
struct fp_vnet_state {
	uint64_t snapshot_incarnation;
	uint64_t snapshot_revision; // of the last one that was applied
	uint64_t newest_change;     // an answer of this revision or a newer one needs no comparison
	uint16_t snapshot_number; // the newest; what was set in another one was not set again since its BEGIN
	bool in_snapshot;
	bool leaving;           // is being removed
	uint8_t swept;          // enum fp_swept: what its snapshot's end has gone through
	uint32_t era;           // another whenever its revisions are another store's
	struct fp_mark mark[2]; // of this lap and of the next one, by the last bit of their number
	uint32_t changes;       // that it has kept: the number of the next one
	uint32_t locations;     // that it has
	uint32_t peerings;      // words that it has said of them
	uint32_t location_first, ingress_first; // lists of what it has
	uint32_t location_at, ingress_at;       // where the sweep goes on
};

enum fp_swept { FP_SWEPT_INGRESSES = 1, FP_SWEPT_LOCATIONS = 2 };

// What a client sends in several records.
struct fp_assembly {
	struct fp_record_packet packet;   // the first span
	uint32_t have_bytes;              // 0: none
	uint32_t frames_s, frames_this_s; // whole ones of this second
	uint8_t next_span;
	uint8_t frame[FP_FRAME_BYTES_MAX];
	struct fp_record_tunnel_group group[2];
	bool group_open;
};

struct fp_worker_state {
	uint32_t silent_since_s; // 0: it answers
	bool declared;           // it said so itself; else it was found silent
	uint32_t asked_at_s;     // first refresh since its last record, 0: none
};

// What two V-nets, by VNI, have said of a peering from one to the other. The one that speaks first need not know
// whether the other one is there.
struct fp_peering_word {
	uint32_t from, to;
	uint16_t snapshot[2]; // by side: number of the V-net's snapshot in which it said so last
	uint8_t said;         // bit: side
};

// Another form of a tunnel that several workers name, and who has said so.
struct fp_tunnel_proposal {
	struct fp_tunnel_info info; // of the lowest revision
	uint16_t workers;           // 0: there is none
};

// The locations of a tunnel set that is replaced: they are all looked at, then turned over, both in slices.
struct fp_set_turn {
	uint32_t from, to; // sets
	uint32_t at;       // next one to be looked at, 0: none is left
	bool looked;       // all of them: `to` has the name now
};

// The SYNC of a client that is not answered yet.
struct fp_sync_state {
	struct fp_record_sync record;
	uint64_t token; // grace period after which no reader acts on what was closed before it
	uint32_t noted; // V-nets up to here know what is in force
};

struct fp_installer {
	struct fp_arena *arena;
	struct fp_installer_hooks hooks;
	uint64_t now_ns;
	uint32_t now_s;
	uint8_t client;        // whose record is being applied
	uint32_t applying_vni; // of the record that is being applied, or was last; 0: within a tick
	uint32_t workers;      // that share the V-nets, 0: they are anybody's
	uint32_t left_ns;      // what records may still spend before others have their turn,
	uint64_t until_ns;     // and until when by the arena's clock, 0: they have not begun

	struct fp_id_map vnets;       // vni
	struct fp_id_map ingresses;   // object id, vni (attachments: 0)
	struct fp_id_map locations;   // object id, vni << 8 | way
	struct fp_id_map tunnels;     // object id
	struct fp_id_map tunnel_sets; // object id, its owner
	struct fp_id_map gateways;    // outer address, 0 or a V-net's index + 1: locators there that are ours
	struct fp_id_map peered;      // vni from << 24 | vni to: place among the words, from 1

	struct fp_vnet_state *vnet;
	uint16_t *ingress_snapshot;           // number of the V-net's snapshot in which it was set last
	uint16_t *locator_snapshot;           // by slot
	uint8_t *locator_foreign;             // by slot: its ingress was told as a foreign device
	struct fp_peering_word *peering_word; // [0 .. peering_words)
	uint16_t *location_snapshot;
	uint64_t *location_revision;
	uint32_t *location_era;    // of its V-net when the revision was told
	uint64_t *location_token;  // grace period after which the idle half may be written
	uint32_t *location_seen_s; // last set or found in use
	uint32_t *tunnel_seen_s;
	uint32_t *set_seen_s;       // last told or found in use
	uint8_t *set_owner;         // client + 1; 0: adopted, and nobody has told it since
	uint16_t *tunnel_route_mtu; // of the route to the next hop, 0: unknown
	uint16_t *tunnel_workers;   // bit: a worker that names it; an adopted one is named by nobody yet
	struct fp_tunnel_proposal *tunnel_proposal;
	uint8_t *tunnel_leaving;  // named by nobody: goes with its last reference
	uint8_t *tunnel_adopted;  // and not all workers have said since which they name
	uint16_t workers_whole;   // bit: a worker that has said which tunnels it names
	uint32_t *udp_port_users; // [65536] locators
	uint32_t locators;
	uint32_t worker_locators[FP_CLIENT_WORKERS]; // of its V-nets, where there are several workers
	uint32_t location_high;                      // no location in use has a higher index
	uint32_t tunnel_high;
	uint32_t peerings; // in force
	uint32_t peering_words;
	struct fp_chain location_chain;              // of each V-net
	struct fp_chain target_chain;                // locations of each attachment and of each set
	uint32_t *ingress_locations, *set_locations; // their first
	struct fp_chain ingress_chain;               // of each V-net
	struct fp_chain locator_chain;               // of each ingress, by slot + 1
	uint32_t *ingress_locators;
	struct fp_chain tunnel_chain;  // of each pair of addresses
	struct fp_id_map tunnel_paths; // hash of the addresses -> the first
	uint32_t tunnel_sweep;

	// marking.c
	uint32_t lap;            // that is under way, or was last
	bool marking, marks_due; // it is under way; there is something for the next one
	uint32_t mark_cursor;
	// upkeep.c
	uint64_t upkeep_ns;   // when the last tick was
	uint32_t upkeep_owed; // entries to be looked at by now
	uint32_t lap_s;       // what a lap over all flows takes
	uint32_t window_s;    // shortest time from a flow's refresh to its end, of those seen in this lap
	uint32_t upkeep_cursor, collect_location, collect_tunnel, collect_set;
	uint32_t asked; // refreshes of this tick
	// silence.c
	struct fp_worker_state worker[FP_CLIENT_WORKERS];

	// sync.c
	struct fp_sync_state sync[FP_CLIENTS];
	uint32_t syncs_waiting; // bit: client

	struct fp_assembly *assembly; // [FP_CLIENTS]
	struct fp_set_turn set_turn[FP_CLIENTS];
	uint32_t set_turns; // bit: client whose turn is under way
	uint64_t refused[FP_REFUSED_MAX];
};

// vnet_table.c
void fp_vnets_open(struct fp_installer *in);
int fp_vnet_set(struct fp_installer *in, const struct fp_record_vnet *record);
int fp_vnet_remove(struct fp_installer *in, const struct fp_record_vnet *record);
int fp_vnet_snapshot_begin(struct fp_installer *in, const struct fp_record_snapshot *record);
int fp_vnet_snapshot_end(struct fp_installer *in, const struct fp_record_snapshot *record);
uint32_t fp_vnet_by_vni(const struct fp_installer *in, uint32_t vni);

// change.c
int fp_change_apply(struct fp_installer *in, const struct fp_record_change *record);
void fp_changes_open(struct fp_installer *in);
// Is an answer of this revision overtaken by a change that covers its key?
bool fp_change_overtook(const struct fp_installer *in, uint32_t vnet, const struct fp_flow_key *key,
			uint64_t revision);

// peering_table.c
uint32_t fp_peering_words_max(const struct fp_arena *arena);
int fp_peerings_open(struct fp_installer *in);
int fp_peering_set(struct fp_installer *in, const struct fp_record_peering *record);
int fp_peering_remove(struct fp_installer *in, const struct fp_record_peering *record);
bool fp_peered(const struct fp_installer *in, uint32_t from, uint32_t to);
void fp_peerings_sweep(struct fp_installer *in, uint32_t vnet); // what it has not said again
void fp_peerings_drop(struct fp_installer *in, uint32_t vnet);  // all, either way; it is closed as a whole

// ingress_table.c
void fp_ingresses_open(struct fp_installer *in);
int fp_attachment_set(struct fp_installer *in, const struct fp_record_attachment *record);
int fp_attachment_remove(struct fp_installer *in, const struct fp_record_attachment *record);
int fp_ingress_set(struct fp_installer *in, const struct fp_record_ingress *record);
void fp_ingress_drop(struct fp_installer *in, uint32_t index);
int fp_ingresses_sweep(struct fp_installer *in, uint32_t vnet, bool all); // 0 or -EINPROGRESS
uint32_t fp_attachment_by_id(const struct fp_installer *in, uint64_t object_id);
uint32_t fp_node_ingress(const struct fp_installer *in, uint64_t node_id, uint32_t vni);
// What leaves by this tunnel with this id on the wire must be what may come back by the two: an ingress of the
// V-net, of this node (0: any). Else refused, since at the other end it would be another V-net's. 0 or fp_refusal.
int fp_leads_home(const struct fp_installer *in, uint32_t vnet, uint32_t tunnel, uint32_t wire_id,
		  uint64_t node_id);

// locator_table.c
// May this be a foreign device's? Not if another V-net has a gateway of ours there. 0 or fp_refusal.
int fp_locator_foreign_check(const struct fp_installer *in, const struct fp_record_ingress *record,
			     uint32_t vnet);
void fp_locators_open(struct fp_installer *in);
void fp_locators_share(struct fp_installer *in); // counts whose they are
// Of an ingress that is there. 0 or fp_refusal.
int fp_locator_put(struct fp_installer *in, const struct fp_record_ingress *record, uint32_t ingress);
int fp_ingress_remove(struct fp_installer *in,
		      const struct fp_record_ingress *record); // the record's locator
void fp_locators_sweep(struct fp_installer *in, uint32_t ingress, bool all);

// location_table.c
void fp_locations_open(struct fp_installer *in);
int fp_location_set(struct fp_installer *in, const struct fp_record_location *record);
int fp_location_remove(struct fp_installer *in, const struct fp_record_location *record);
int fp_locations_sweep(struct fp_installer *in, uint32_t vnet, bool all); // 0 or -EINPROGRESS
int fp_locations_leave(struct fp_installer *in, uint32_t ingress);        // an attachment goes; likewise
// Does every location of the old set lead home by the new one, too, and is it of a V-net of this client's? (Control:
// anybody's.) 0, -EINPROGRESS or fp_refusal.
int fp_locations_look(struct fp_installer *in, struct fp_set_turn *turn, uint32_t client);
// Turns them over. 0, -EINPROGRESS, or -EAGAIN: a reader may still see what one was before.
int fp_locations_retarget(struct fp_installer *in, uint32_t old_set, uint32_t new_set);
void fp_locations_collect(struct fp_installer *in, uint32_t count); // bounded: what nobody uses
void fp_location_foresee(const struct fp_installer *in, uint64_t object_id, uint32_t vni, uint8_t way);
uint32_t fp_location_by_id(const struct fp_installer *in, uint64_t object_id, uint32_t vni, uint8_t way);
// It did when it was told; an id of a foreign device may have become another's since. 0 or fp_refusal.
int fp_location_leads_home(const struct fp_installer *in, uint32_t index);

// tunnel_table.c, tunnel_set.c
void fp_tunnels_open(struct fp_installer *in);
int fp_tunnel_set_record(struct fp_installer *in, const struct fp_record_tunnel *record);
int fp_tunnel_remove(struct fp_installer *in, const struct fp_record_tunnel *record);
int fp_tunnels_snapshot_begin(struct fp_installer *in);
int fp_tunnels_snapshot_end(struct fp_installer *in, const struct fp_record_snapshot *record);
int fp_nexthop_set(struct fp_installer *in, const struct fp_record_nexthop *record);
void fp_tunnels_collect(struct fp_installer *in, uint32_t count);
void fp_tunnel_hold(struct fp_installer *in, uint32_t index);
void fp_tunnel_drop(struct fp_installer *in, uint32_t index);
uint32_t fp_tunnel_by_id(const struct fp_installer *in, uint64_t object_id);
void fp_tunnel_sets_open(struct fp_installer *in);
int fp_tunnel_set_apply(struct fp_installer *in, const struct fp_record_tunnel_group *record);
void fp_tunnel_sets_leave(struct fp_installer *in, uint32_t client); // what it has begun
void fp_tunnel_sets_tick(struct fp_installer *in);                   // goes on with what is left of it
void fp_tunnel_sets_collect(struct fp_installer *in, uint32_t count);
uint32_t fp_tunnel_set_by_id(const struct fp_installer *in, uint64_t object_id);

// tunnel_header.c
void fp_header_build(struct fp_header *header, const struct fp_tunnel_info *info);

// flow_install.c
int fp_flow_apply(struct fp_installer *in, const struct fp_record_flow *record);
int fp_release_drop(struct fp_installer *in, const struct fp_record_flow *record);

// sync.c
int fp_sync_apply(struct fp_installer *in, const struct fp_record_sync *record);

// packet_out.c
int fp_packet_out(struct fp_installer *in, const struct fp_record_packet *record);

// marking.c: what a change may have touched is asked again
void fp_mark_newest(struct fp_installer *in, uint32_t vnet);      // flows in the scope of the newest change
void fp_mark_overwritten(struct fp_installer *in, uint32_t vnet); // the oldest change is kept no longer
void fp_mark_older(struct fp_installer *in, uint32_t vnet, uint32_t before); // flows of older revisions
void fp_mark_forget(struct fp_installer *in, uint32_t vnet);                 // nothing of it waits any more
bool fp_marking_tick(struct fp_installer *in, uint32_t *left_ns);            // true: there is more to do

// upkeep.c
void fp_upkeep_open(struct fp_installer *in);
// A flow has come that is to be asked about between the two: laps are shorter than that.
void fp_upkeep_expects(struct fp_installer *in, uint32_t refresh_at_s, uint32_t expire_at_s);
bool fp_upkeep_tick(struct fp_installer *in, uint32_t *left_ns); // likewise

// silence.c
int fp_directory_state(struct fp_installer *in, const struct fp_record_directory_state *record);
void fp_worker_heard(struct fp_installer *in); // the client lives
void fp_worker_asked(struct fp_installer *in, uint32_t worker);
void fp_workers_watch(struct fp_installer *in);

// share.c: where several workers fill a table, each leaves room for the others
int fp_share_init(struct fp_installer *in);  // 0 or -ENOMEM
void fp_share_open(struct fp_installer *in); // whose what is, by who has which V-net
// May the client have one more beside `own` of a table that has room for so many?
bool fp_share_allows(const struct fp_installer *in, uint32_t own, uint32_t free);
static inline uint32_t
fp_worker_of(const struct fp_installer *in, uint32_t vni) // where there are several
{
	return vni % in->workers;
}
// 0, -EAGAIN, FP_REFUSED_NO_ROOM, FP_REFUSED_QUOTA. The client's, where tables are shared.
int fp_take(struct fp_installer *in, enum fp_pool pool, uint32_t *index);

// installer.c, install.c
void fp_spend_look(struct fp_installer *in);
// Begins the walk for what was published since the last one began; a table that is small is done with.
void fp_close_now(struct fp_installer *in);
// A record has done something that costs so much, by estimate; by the clock, if there is one, it may be more.
static inline void
fp_spend(struct fp_installer *in, uint32_t ns)
{
	const uint32_t before = in->left_ns;
	in->left_ns -= ns < before ? ns : before;
	if (in->arena->clock_ns && before / FP_CLOCK_EVERY_NS != in->left_ns / FP_CLOCK_EVERY_NS)
		fp_spend_look(in);
}
void fp_refill(struct fp_installer *in); // records may spend anew
static inline void
fp_counters_begin(const struct fp_installer *in, enum fp_counted what, uint32_t index)
{
	if (in->hooks.counters_begin)
		in->hooks.counters_begin(in->hooks.context, what, index);
}
bool fp_bytes_zero(const void *bytes, size_t len_bytes);
// What one says of its own V-net may take the place of what it has said of another one of its own only.
static inline bool
fp_of_one_worker(const struct fp_installer *in, uint32_t vni, uint32_t other)
{
	return in->workers == 0 || vni % in->workers == other % in->workers;
}
static inline bool
fp_is_ipv4(const uint8_t *address)
{
	return fp_bytes_zero(address, 12);
}
