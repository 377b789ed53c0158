// SPDX-License-Identifier: Apache-2.0
//
// The records that cross between the data plane and its clients (slow path, control) through rings.
//
// Every record is 128 bytes: a 16-byte head and a body. Both sides treat what the other wrote as hostile:
// the reader copies a record out of the ring, then checks it. Unknown types and versions are counted and
// skipped. Clients name things by the directory's ids; indexes are the data plane's own, except
// key.ingress and token, which a client hands back as it got them.
//
// The numpy dtypes of fastpath.records are these structs; a test compares both by DWARF.
// No unions, bit-fields or packing here: a type has its own struct.
#pragma once

#include "fp_types.h"

#define FP_RECORD_BYTES 128
#define FP_RECORD_VERSION 1
#define FP_PORT_NAME_BYTES 16

enum fp_record_type {
	// data plane -> client
	FP_RECORD_MISS = 1,            // struct fp_record_miss: a key waits for a decision
	FP_RECORD_REFRESH = 2,         // struct fp_record_miss with token 0: in use, ask again
	FP_RECORD_UNKNOWN_LOCATOR = 3, // struct fp_record_locator: outer source that nobody announced
	FP_RECORD_PACKET = 4,          // struct fp_record_packet: (part of) a frame
	FP_RECORD_REFUSED = 5,         // struct fp_record_refused: a record of yours was not applied
	FP_RECORD_TUNNEL_CHANGED =
		6, // struct fp_record_tunnel: to control: a tunnel came (wants a next hop) or, GONE, went
	FP_RECORD_SYNCED = 7, // struct fp_record_sync: all that came before that SYNC is in force
	FP_RECORD_TUNNEL_UP =
		8, // struct fp_record_tunnel: to the workers that name it: it has a next hop now

	// client -> data plane, applied in order
	FP_RECORD_VNET_SET = 32,    // struct fp_record_vnet
	FP_RECORD_VNET_REMOVE = 33, // struct fp_record_vnet (only vni, object_id)
	FP_RECORD_SNAPSHOT_BEGIN =
		34, // struct fp_record_snapshot: marks all that stands in the V-net; VNI 0: the
		    // worker's tunnels
	FP_RECORD_SNAPSHOT_END = 35, // sweeps what was not set again; sets floor and revision; VNI 0: sweeps
	// tunnels that no worker names, once all have said which they do
	FP_RECORD_ATTACHMENT_SET = 36, // struct fp_record_attachment
	FP_RECORD_ATTACHMENT_REMOVE = 37,
	FP_RECORD_INGRESS_SET = 38, // struct fp_record_ingress
	FP_RECORD_INGRESS_REMOVE = 39,
	FP_RECORD_TUNNEL_SET = 40, // struct fp_record_tunnel
	FP_RECORD_TUNNEL_REMOVE =
		41, // the worker names it no longer; it goes when nobody does, nor any location
	FP_RECORD_TUNNEL_GROUP_SET = 42, // struct fp_record_tunnel_group: a tunnel set
	FP_RECORD_LOCATION_SET = 43,     // struct fp_record_location
	FP_RECORD_LOCATION_REMOVE = 44,
	FP_RECORD_NEXTHOP_SET = 45, // struct fp_record_nexthop
	FP_RECORD_PEERING_SET = 46, // struct fp_record_peering
	FP_RECORD_PEERING_REMOVE = 47,
	FP_RECORD_FLOW_INSTALL = 48, // struct fp_record_flow: a decision; releases what waits for its token
	FP_RECORD_CHANGE = 49,       // struct fp_record_change
	FP_RECORD_RELEASE_DROP = 50, // struct fp_record_flow: ends a held key without installing (reason)
	FP_RECORD_DIRECTORY_STATE =
		51,                // struct fp_record_directory_state: answers or not (flows are extended)
	FP_RECORD_PACKET_OUT = 52, // struct fp_record_packet: send this frame
	FP_RECORD_SYNC = 53,       // struct fp_record_sync: say SYNCED once all before it is in force
};

enum fp_record_flag {
	FP_RECORD_IF_PRESENT = 1 << 0, // LOCATION_SET: only if the location is in use here
	FP_RECORD_LAST = 1 << 1,  // CHANGE, PACKET, TUNNEL_GROUP_SET: last of several that belong together
	FP_RECORD_FIRST = 1 << 2, // likewise: first
	FP_RECORD_GONE = 1 << 3,  // TUNNEL_CHANGED: it went; without: it came
};

struct fp_record_head {
	uint16_t type; // enum fp_record_type
	uint8_t version;
	uint8_t flags; // enum fp_record_flag
	uint32_t vni;  // 0 where no V-net is concerned
	uint64_t revision;
};
static_assert(sizeof(struct fp_record_head) == 16, "head");

struct fp_record { // any of them
	struct fp_record_head head;
	uint8_t body[112];
};
static_assert(sizeof(struct fp_record) == FP_RECORD_BYTES, "record");

// Hold token: thread 8 | slot 24 | uses of the slot 32. 0: nobody waits.
struct fp_record_miss {
	struct fp_record_head head;
	struct fp_flow_key key;
	uint32_t frame_bytes;
	uint64_t token;
	uint64_t ingress_object; // attachment id or node id
	uint64_t received_ns;    // CLOCK_BOOTTIME when the first packet was held
	uint64_t current_object; // REFRESH: whom the flow goes to now, object id of the location; 0: nobody
	uint8_t ingress_kind;    // enum fp_ingress_kind
	uint8_t asked;           // how often this key was asked before
	uint8_t source_mac[6];
	uint8_t destination_mac[6];
	uint8_t zero[18];
};
static_assert(sizeof(struct fp_record_miss) == 128, "miss");

struct fp_record_locator {
	struct fp_record_head head;
	struct fp_locator_key key;
	uint8_t zero[72];
};
static_assert(sizeof(struct fp_record_locator) == 128, "locator");

struct fp_record_refused {
	struct fp_record_head head; // vni and revision of the refused record
	uint16_t refused_type;
	uint16_t why; // enum fp_refusal
	uint32_t zero0;
	uint64_t object;        // the id it named
	uint64_t token;         // FLOW_INSTALL: still held
	struct fp_flow_key key; // FLOW_INSTALL
	uint8_t zero[44];
};
static_assert(sizeof(struct fp_record_refused) == 128, "refused");

// Why a record was not applied. Each has a counter.
enum fp_refusal {
	FP_REFUSED_MALFORMED = 1, // a value out of its range
	FP_REFUSED_UNKNOWN_VNET = 2,
	FP_REFUSED_OTHER_VNET = 3,        // names something of a V-net that is no peer
	FP_REFUSED_UNKNOWN_OBJECT = 4,    // location, tunnel, attachment, port or ingress that is not there
	FP_REFUSED_LATE = 5,              // a later change covers it: ask again
	FP_REFUSED_OTHER_INCARNATION = 6, // needs a snapshot first
	FP_REFUSED_NO_ROOM = 7,           // table full (not flows: they make room)
	FP_REFUSED_OTHER_CLIENT = 8, // not this client's to send: the type, the V-net or the worker it names
	FP_REFUSED_QUOTA = 9,
	FP_REFUSED_CONFLICT = 10, // same id, other key
	FP_REFUSED_MAX = 11,
};

struct fp_record_vnet {
	struct fp_record_head head;
	uint64_t object_id;
	uint64_t incarnation;
	uint32_t quota_flows;        // 0: the whole table
	uint32_t quota_misses_per_s; // 0: no own limit
	uint32_t stale_max_s;
	uint8_t gateway_mac[6];
	uint8_t zero0[2];
	uint8_t gateway_address[16]; // zero: none
	uint8_t zero[60];
};
static_assert(sizeof(struct fp_record_vnet) == 128, "vnet");

struct fp_record_snapshot {
	struct fp_record_head head; // END: revision is the V-net's new floor
	uint64_t incarnation;
	uint8_t workers; // END with VNI 0: how many there are
	uint8_t zero[103];
};
static_assert(sizeof(struct fp_record_snapshot) == 128, "snapshot");

struct fp_record_attachment {
	struct fp_record_head head;
	uint64_t object_id;
	char port[FP_PORT_NAME_BYTES]; // configured name, NUL-padded
	uint16_t vlan;                 // 0: untagged
	uint16_t mtu_bytes;            // 0: the port's
	uint8_t zero[84];
};
static_assert(sizeof(struct fp_record_attachment) == 128, "attachment");

struct fp_record_ingress {
	struct fp_record_head head;
	struct fp_locator_key key;
	uint64_t node_id;
	uint8_t ingress_flags; // RELAY, FOREIGN, CHECK
	uint8_t zero0;
	uint16_t udp_port; // VXLAN: the port that the peer sends to
	uint8_t zero[60];
};
static_assert(sizeof(struct fp_record_ingress) == 128, "ingress");

struct fp_record_tunnel {
	struct fp_record_head head;
	uint64_t object_id;
	uint64_t profile_id;
	uint64_t node_id;
	uint8_t local[16];
	uint8_t remote[16];
	uint16_t udp_port;
	uint16_t mtu_bytes; // of the underlay path: largest outer IP packet
	uint8_t protocol;
	uint8_t ttl;
	uint8_t dscp;
	uint8_t dscp_copy;
	uint64_t backup_id;   // reserved, 0
	uint64_t incarnation; // of the store that head.revision belongs to
	uint8_t zero[32];
};
static_assert(sizeof(struct fp_record_tunnel) == 128, "tunnel");

// Members 0..7 with FP_RECORD_FIRST, 8..15 in a second record; applied with FP_RECORD_LAST.
struct fp_record_tunnel_group {
	struct fp_record_head head;
	uint64_t object_id;
	uint64_t tunnel[8];
	uint8_t weight[8];
	uint8_t mode; // enum fp_set_mode
	uint8_t count;
	uint8_t zero[30];
};
static_assert(sizeof(struct fp_record_tunnel_group) == 128, "tunnel_group");

struct fp_record_location {
	struct fp_record_head head;
	uint64_t object_id; // endpoint or route
	uint64_t target_id; // attachment, tunnel or tunnel set
	uint64_t node_id;
	uint32_t wire_id;
	uint8_t way;
	uint8_t kind; // enum fp_location_kind
	uint8_t mac[6];
	uint32_t zero0;
	uint8_t zero[72];
};
static_assert(sizeof(struct fp_record_location) == 128, "location");

// For every tunnel between these two addresses. count 0: unresolved.
struct fp_record_nexthop {
	struct fp_record_head head;
	uint8_t local[16];
	uint8_t remote[16];
	struct fp_nexthop hop[FP_NEXTHOPS_MAX]; // port is the index given at connect
	uint8_t count;
	uint8_t zero0;
	uint16_t mtu_bytes; // of the route: lowers the tunnel's; 0: unknown
	uint8_t zero[12];
};
static_assert(sizeof(struct fp_record_nexthop) == 128, "nexthop");

// The word of one of the two V-nets, head.vni: that it sends to to_vni, or that it takes what from_vni sends; the
// other one is 0. A peering is in force while both have said so. Where they are of one worker, the sender's word
// will do.
struct fp_record_peering {
	struct fp_record_head head;
	uint32_t to_vni;
	uint32_t from_vni;
	uint8_t zero[104];
};
static_assert(sizeof(struct fp_record_peering) == 128, "peering");

struct fp_record_flow {
	struct fp_record_head head; // V-net of the key, revision of the decision
	struct fp_flow_key key;
	uint16_t reason;             // FP_ACTION_DROP: enum fp_drop_reason
	uint8_t action;              // enum fp_action
	uint8_t ways;                // source way << 4 | destination way
	uint64_t ingress_object;     // must be the object of key.ingress
	uint64_t source_object;      // 0: none
	uint64_t destination_object; // 0: none
	uint32_t destination_vni;    // 0: the key's V-net
	uint32_t lifetime_ms;        // kept to the second, rounded down
	uint32_t refresh_ms;         // 0: never refreshed
	uint32_t zero0;
	uint64_t token; // 0: nobody waits
	uint64_t incarnation;
	uint8_t zero[8];
};
static_assert(sizeof(struct fp_record_flow) == 128, "flow");

struct fp_record_change {
	struct fp_record_head head;
	struct fp_scope scope;
	uint64_t incarnation;
	uint8_t kind; // enum fp_change_kind
	uint8_t zero[63];
};
static_assert(sizeof(struct fp_record_change) == 128, "change");

struct fp_record_directory_state {
	struct fp_record_head head;
	uint8_t answering; // 0: flows of this worker's V-nets live on up to stale_max_s
	uint8_t worker;
	uint8_t workers;
	uint8_t zero[109];
};
static_assert(sizeof(struct fp_record_directory_state) == 128, "directory_state");

// A client has one on its way at a time: a second one takes the first one's place. Head.revision: what it
// confirms for all V-nets of the worker (vni % workers == its number) that are of this incarnation. They keep it
// (in_force), so that a worker that starts anew knows what is in force. Workers 0: it confirms no revision.
struct fp_record_sync {
	struct fp_record_head head;
	uint64_t number; // the client's own, comes back
	uint64_t incarnation;
	uint8_t workers;
	uint8_t zero[95];
};
static_assert(sizeof(struct fp_record_sync) == 128, "sync");

// A frame in spans. The first one says where to: out of an attachment (LOCAL) or into a tunnel.
#define FP_PACKET_SPAN_BYTES 88
struct fp_record_packet {
	struct fp_record_head head;
	uint64_t target_id; // attachment or tunnel; to the worker: the ingress object
	uint32_t wire_id;   // tunnel: id on the wire
	uint8_t kind;       // enum fp_location_kind; to the worker: enum fp_ingress_kind
	uint8_t span;       // 0, 1, 2 ...
	uint16_t frame_bytes;
	uint8_t data[FP_PACKET_SPAN_BYTES];
	uint8_t zero[8];
};
static_assert(sizeof(struct fp_record_packet) == 128, "packet");
