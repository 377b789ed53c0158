// SPDX-License-Identifier: Apache-2.0
//
// The records of the data plane's shared tables ("the arena"), laid out for the whole design.
//
// Who writes: the housekeeping thread alone, except where a member says "poll threads".
// Who reads: every poll thread, without locks. A reader may follow an index found in a record until it
// next reports a quiescent state; no index is reused before all readers have done so.
//
// Byte order: host order, except members named in a comment as "wire order". Addresses are 16 bytes;
// IPv4 stands in the last 4 and the first 12 are zero (kept apart from IPv6 by FP_KEY_IPV6).
// Index 0 of every table is never used: 0 means "none".
#pragma once

#include <assert.h>
#include <stdint.h>

#define FP_CACHE_LINE 64
#define FP_ADDRESS_BYTES 16
#define FP_MAC_BYTES 6

// ---- flow key --------------------------------------------------------------------------------

enum fp_key_class {
	FP_CLASS_ROUTED = 1,   // unicast IP sent to the V-net's gateway MAC
	FP_CLASS_BRIDGED = 2,  // other unicast IP
	FP_CLASS_MAC = 3,      // not IP: source and destination are MACs (last 6 bytes)
	FP_CLASS_NEIGHBOR = 4, // ARP, ND: source is the asker, destination the address asked for
	FP_CLASS_SOURCE = 5,   // relay: source -> home ingress (reserved)
	FP_CLASS_RESTORE = 6,  // rewritten packets coming home (reserved)
};

enum fp_key_flag {
	FP_KEY_IPV6 = 1 << 0,
	FP_KEY_CONNECTION = 1 << 1, // "level": set when the ports take part, clear for a pair
	FP_KEY_FRAGMENT = 1 << 2,
	FP_KEY_DESTINATION = 1 << 3, // granularity destination: the source is zero
};

// 44 bytes, unused bytes zero. At pair level ports and protocol are zero.
struct fp_flow_key {
	uint8_t source[16];
	uint8_t destination[16];
	uint16_t source_port;      // wire order; ICMP: type, as a 16-bit number
	uint16_t destination_port; // wire order; ICMP: code, as a 16-bit number
	uint8_t protocol;
	uint8_t key_class; // enum fp_key_class
	uint8_t flags;     // enum fp_key_flag
	uint8_t zero;
	uint32_t ingress; // index of the home ingress
};
static_assert(sizeof(struct fp_flow_key) == 44, "fp_flow_key");

// ---- action word -----------------------------------------------------------------------------

// What a decision does. The same numbers stand on the directory's wire.
enum fp_action {
	FP_ACTION_NONE = 0,        // no decision: the packet is a miss
	FP_ACTION_DROP = 1,        // destination field: the drop reason
	FP_ACTION_ENCAPSULATE = 2, // to the tunnel of the destination location
	FP_ACTION_DELIVER = 3,     // to the attachment of the destination location
	FP_ACTION_RELAY = 4,       // decapsulate and encapsulate to the destination location's tunnel
	FP_ACTION_ANSWER = 5,  // ARP: answer with the destination location's MAC (0: the V-net's gateway MAC)
	FP_ACTION_NARROW = 6,  // policy needs ports: look again with a connection key
	FP_ACTION_REWRITE = 7, // reserved: addresses become location addresses
	FP_ACTION_RESTORE = 8, // reserved
	FP_ACTION_SECURE = 9,  // reserved: into ESP
	FP_ACTION_MAX = 10,
};

enum fp_action_flag {
	FP_ACTION_STALE = 1 << 0,   // forwards, but was overtaken by a change: being asked again
	FP_ACTION_SESSION = 1 << 1, // reserved
};

// {action 8, flags 8, source location 24, destination location 24}, high to low. Changed by one
// release-store.
typedef uint64_t fp_action_word;

static inline fp_action_word
fp_action_make(uint8_t action, uint8_t flags, uint32_t source, uint32_t destination)
{
	return (uint64_t)action << 56 | (uint64_t)flags << 48 | (uint64_t)(source & 0xffffff) << 24 |
	       (destination & 0xffffff);
}
static inline uint8_t
fp_action_of(fp_action_word w)
{
	return (uint8_t)(w >> 56);
}
static inline uint8_t
fp_action_flags(fp_action_word w)
{
	return (uint8_t)(w >> 48);
}
static inline uint32_t
fp_action_source(fp_action_word w)
{
	return (uint32_t)(w >> 24) & 0xffffff;
}
static inline uint32_t
fp_action_destination(fp_action_word w)
{
	return (uint32_t)w & 0xffffff;
}

// ---- flow table ------------------------------------------------------------------------------

// One cache line, all that a packet touches. Immutable while published, but for used_s, action, revision
// and expiry.
struct fp_flow_entry {
	struct fp_flow_key key;
	uint32_t used_s;       // poll threads, at most once a second: arena clock of the last use
	fp_action_word action; // release-store
	uint32_t revision;     // low bits of the V-net's revision at which this was decided
	uint32_t expire_at_s;  // arena clock (CLOCK_BOOTTIME seconds): from then on a miss
};
static_assert(sizeof(struct fp_flow_entry) == 64, "fp_flow_entry");

#define FP_BUCKET_SLOTS 16
// One cache line. A slot is {signature, entry index}, high to low; the index has as many bits as this table's
// indexes need, the signature has the rest (11 of a million flows) and is never 0. A slot of 0 is free.
// Order of publishing: entry line, slot.
struct fp_flow_bucket {
	uint32_t slot[FP_BUCKET_SLOTS];
};
static_assert(sizeof(struct fp_flow_bucket) == 64, "fp_flow_bucket");

// Beside each entry, in a dense array: what is not needed for each packet. Poll threads store the samples, for
// one packet in FP_SAMPLE_EVERY.
#define FP_SAMPLE_EVERY 64
struct fp_flow_side {
	uint64_t packets_sampled; // poll threads: estimate = this * FP_SAMPLE_EVERY
	uint64_t kbytes_sampled;  // poll threads: likewise, sum of frame bytes / 64
	uint32_t decided_at_s;    // arena clock of the answer: nothing lives longer than stale_max from then
	uint32_t refresh_at_s;    // from then on housekeeping asks again if the flow is in use
};
static_assert(sizeof(struct fp_flow_side) == 24, "fp_flow_side");

// ---- V-net -----------------------------------------------------------------------------------

#define FP_CHANGES_KEPT 256

enum fp_change_kind {
	FP_CHANGE_TIGHTEN = 1, // flows in the scope close at once
	FP_CHANGE_LOOSEN = 2,  // keep forwarding (drops too), asked again at a bounded rate
	FP_CHANGE_MOVE = 3,    // the same; the location has changed
};

// The first is 1 and the only one that the directory's SCOPE rows carry.
enum fp_scope_flag {
	FP_SCOPE_EITHER = 1 << 0,      // the two prefixes in either order
	FP_SCOPE_SOURCE_PORT = 1 << 1, // the ports are compared with the key's source port
	FP_SCOPE_CONNECTIONS = 1 << 2, // only keys with ports: no decision of two addresses alone differs
	FP_SCOPE_JUDGED = 1 << 3,      // only what rules judge: no ARP or ND
	FP_SCOPE_IP = 1 << 4,          // only IP packets: routed and bridged keys
};
#define FP_SCOPE_FLAGS 0x1f

// What a change may have touched: a flow is in the scope if its two addresses lie in the two prefixes,
// its protocol is equal (0: any), its port lies between (0..65535: any) and the flags let it in. Flows
// of pair level have no ports: any match. Unused prefix bytes are zero, lengths count
// in bits of the 16 bytes: IPv4 10.0.0.0/24 is 96 + 24 = 120; any address: 0.
struct fp_scope {
	uint8_t source[16];
	uint8_t destination[16];
	uint8_t source_bits;
	uint8_t destination_bits;
	uint8_t protocol;
	uint8_t flags;      // enum fp_scope_flag
	uint16_t port_low;  // host order
	uint16_t port_high; // host order
};
static_assert(sizeof(struct fp_scope) == 40, "fp_scope");

struct fp_change {
	uint64_t revision;
	struct fp_scope scope;
	uint8_t kind; // enum fp_change_kind
	uint8_t zero[7];
};
static_assert(sizeof(struct fp_change) == 56, "fp_change");

enum fp_vnet_flag {
	FP_VNET_LIVE = 1 << 0,
	FP_VNET_STATEFUL = 1 << 1, // reserved
};

// What is not yet all taken out. Readers compare with lists of their own; a data plane that adopts looks here.
enum fp_vnet_closing {
	FP_VNET_CLOSING_NONE = 0,
	FP_VNET_CLOSING_SCOPES = 1, // what the tightening ones of changes[] cover
	FP_VNET_CLOSING_ALL = 2,    // all flows from here and into here
};

// Looked at by poll threads: the first line. The rest is housekeeping's.
struct fp_vnet {
	uint32_t vni; // 24 bits
	uint32_t
		closings; // how often something was closed from here or into here; never set back, whoever has the index
	uint8_t flags; // enum fp_vnet_flag
	uint8_t gateway_mac[6];
	uint8_t worker;              // which slow-path worker serves it: vni % workers
	uint8_t gateway_address[16]; // zero: none
	uint64_t object_id;          // the directory's id, never reused
	uint64_t incarnation;        // store incarnation that the revisions below belong to
	uint64_t revision;           // newest revision seen
	uint32_t quota_flows;
	uint32_t quota_misses_per_s;
	// second line
	uint64_t floor;          // an answer older than this is refused
	uint32_t stale_max_s;    // how long flows outlive a silent directory
	uint32_t flows;          // resident now
	uint32_t drops_resident; // of these: refusals
	uint32_t change_next;    // next place to write in changes[]
	uint8_t closing;         // enum fp_vnet_closing
	uint8_t zero[31];
	uint64_t in_force; // what was tightened up to this revision is closed; 0: not known
	struct fp_change changes[FP_CHANGES_KEPT];
};
static_assert(sizeof(struct fp_vnet) % FP_CACHE_LINE == 0, "fp_vnet");

// ---- ingress ---------------------------------------------------------------------------------

enum fp_ingress_kind {
	FP_INGRESS_ATTACHMENT = 1, // (port, VLAN) of this node
	FP_INGRESS_NODE = 2,       // (remote node, V-net)
};

enum fp_ingress_flag {
	FP_INGRESS_LIVE = 1 << 0,
	FP_INGRESS_RELAY = 1 << 1,   // authorized relay for this V-net (reserved for class source)
	FP_INGRESS_FOREIGN = 1 << 2, // not a gateway of ours
	FP_INGRESS_CHECK = 1 << 3,   // a gateway of ours that is not believed: docs/security.md
};

// Where a packet came in, and so what it may claim to be. Never changes but for live and relay.
struct fp_ingress {
	uint64_t object_id; // attachment id or node id
	uint32_t vni;
	uint16_t vnet;       // index
	uint8_t kind;        // enum fp_ingress_kind
	uint8_t flags;       // enum fp_ingress_flag
	uint16_t port;       // attachment: port index
	uint16_t vlan;       // attachment: 0 untagged
	uint16_t mtu_bytes;  // attachment: largest inner IP packet
	uint16_t references; // locators that lead here
	uint64_t node_id;    // node: same as object_id; attachment: 0
	uint8_t zero[32];
};
static_assert(sizeof(struct fp_ingress) == 64, "fp_ingress");

enum fp_protocol { // how the V-net stands on the wire
	FP_PROTOCOL_VXLAN = 1,
	FP_PROTOCOL_GRE = 2,   // reserved
	FP_PROTOCOL_NVGRE = 3, // reserved
	FP_PROTOCOL_ESP = 4,   // reserved
};

// (local address, outer source, protocol, id) -> ingress.
struct fp_locator_key {
	uint8_t local[16];
	uint8_t remote[16];
	uint32_t wire_id; // VNI, GRE key, VSID, SPI; host order
	uint8_t protocol; // enum fp_protocol
	uint8_t zero[3];
};
static_assert(sizeof(struct fp_locator_key) == 40, "fp_locator_key");

// ---- location --------------------------------------------------------------------------------

enum fp_location_kind {
	FP_LOCATION_NONE = 0,
	FP_LOCATION_LOCAL = 1,  // target: index of an ingress of kind attachment
	FP_LOCATION_TUNNEL = 2, // target: index of a tunnel
	FP_LOCATION_SET = 3,    // target: index of a tunnel set
};

struct fp_location_half {
	uint32_t node;    // low bits of the node's id: "never back to the ingress"
	uint32_t target;  // see enum fp_location_kind
	uint32_t wire_id; // what stands on the wire: the destination's V-net, or the peer's own id
	uint8_t mac[6];   // inner destination MAC
	uint8_t kind;     // enum fp_location_kind
	uint8_t flags;
	uint32_t rewrite; // reserved: rewrite slot
};
static_assert(sizeof(struct fp_location_half) == 24, "fp_location_half");

// One per (V-net, endpoint or route, way) in use. One line: fixed part, then two halves of which
// `selector` says which one is valid (one release-store moves an endpoint).
struct fp_location {
	uint64_t object_id; // endpoint or route id of the directory
	uint32_t vni_way;   // vni << 8 | way
	uint16_t vnet;      // index
	uint8_t selector;   // 0 or 1, release-store
	uint8_t state;      // 0 free, 1 live, 2 dying
	struct fp_location_half half[2];
};
static_assert(sizeof(struct fp_location) == 64, "fp_location");

#include "fp_tunnel.h"
