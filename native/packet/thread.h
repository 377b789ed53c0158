// SPDX-License-Identifier: Apache-2.0
//
// What the stages of the pipeline share: a packet on its way, the thread's state, and what each
// stage offers to the others. Private to native/dpdk. Everything belongs to one poll thread.
#pragma once

#include <rte_branch_prediction.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>
#include <rte_ring_elem.h>

#include "../wire/wire.h"
#include "fp_thread.h"
#include "frame.h"
#include "hold.h"
#include "rate.h"
#include "shared_rate.h"

// Whose verbs a packet with PACKET_IP takes (l3.h).
enum l3_kind { L3_NONE, L3_IPV4 };

enum packet_flag {
	PACKET_IP = 1 << 0,       // its header checked, at byte 14 of the frame
	PACKET_ROUTED = 1 << 1,   // came to the V-net's gateway MAC
	PACKET_TUNNELED = 1 << 2, // came out of a tunnel: outer_ttl is valid
	PACKET_FRAGMENT = 1 << 3, // any fragment
	PACKET_LATER = 1 << 4,    // a fragment that is not the first: no ports in it
	PACKET_PORTS = 1 << 5,    // whole, and its ports tell flows apart
};

// A packet between parse and tx; its buffer stands beside it. After parse the frame starts with the
// inner Ethernet header (14 bytes, no tag) and ends with the IP packet. One cache line.
struct packet {
	uint16_t l4_at;      // byte of the frame where TCP, UDP, ICMP ... begin, behind all of the IP header
	uint8_t l3;          // enum l3_kind
	uint8_t outer_bytes; // taken off with its tunnel
	uint8_t looks;       // how often it has been looked up again
	uint8_t zero[3];
	struct fp_flow_key key; // key.ingress is where it came in
	uint16_t vnet;
	uint16_t length;           // inner IP packet, or what follows the Ethernet header
	uint16_t source_port;      // wire order; ICMP: type
	uint16_t destination_port; // wire order; ICMP: code
	uint8_t protocol;
	uint8_t flags; // enum packet_flag
	uint8_t outer_ttl;
	uint8_t port; // index of the port it came by
};
static_assert(sizeof(struct packet) == 64, "packet");

// Where packets come in, as far as parsing wants to know.
struct inside {
	// The last 16 bytes of struct packet, with nothing of the packet itself in them.
	uint32_t ingress;
	uint16_t vnet;
	uint16_t zero0[3];
	uint8_t zero1;
	uint8_t flags; // enum packet_flag: of a usual packet
	uint8_t zero2;
	uint8_t port;         // index of the port
	uint64_t gateway_mac; // of the V-net, << 16; broadcast: it has none
	uint16_t usual_bytes; // longest IP packet that is usual; 0: none is
	bool believed;        // ingress_believed()
	uint8_t zero3[5];
} __attribute__((aligned(16)));
static_assert(sizeof(struct inside) == 32, "inside");

// Attachments that packets came by lately. Good for one generation of the tables.
#define ATTACHMENTS_SEEN 256
struct attachment_seen {
	uint64_t name; // attachment_name(); 0: never used
	uint64_t zero[3];
	struct inside inside; // ingress 0: there is no attachment
};
static_assert(sizeof(struct attachment_seen) == 64, "attachment_seen");

// As what a sent frame is counted, once the device has taken it.
enum tx_kind { TX_FORWARDED, TX_DELIVERED, TX_RELAYED, TX_ANSWERED, TX_ICMP, TX_OWN };

// What to count when the device has taken a frame.
struct tx_note {
	uint16_t vnet;
	uint16_t length; // of what follows the inner Ethernet header
	uint32_t way;    // tx_way()
};
#define TX_TUNNEL_BITS 20 // as many as a tunnel word's indexes have
static inline uint32_t
tx_way(enum tx_kind kind, uint32_t tunnel, uint32_t added_bytes)
{
	return (uint32_t)kind << 29 | added_bytes / 2 << TX_TUNNEL_BITS | tunnel;
}
// The same of another kind.
static inline uint32_t
tx_way_as(uint32_t way, enum tx_kind kind)
{
	return (way & ~(7u << 29)) | (uint32_t)kind << 29;
}
// Whether they count the same but for tunnel and length.
static inline bool
tx_notes_alike(const struct tx_note *a, const struct tx_note *b)
{
	static_assert(sizeof(*a) == 8 && offsetof(struct tx_note, way) == 4);
	return ((load64(a) ^ load64(b)) & (~0ull << (32 + TX_TUNNEL_BITS) | 0xffff)) == 0;
}
static inline enum tx_kind
tx_kind_of(uint32_t way)
{
	return (enum tx_kind)(way >> 29);
}
static inline uint32_t
tx_tunnel_of(uint32_t way)
{
	return way & ((1u << TX_TUNNEL_BITS) - 1);
}
static inline uint32_t
tx_added_of(uint32_t way)
{
	return (way >> TX_TUNNEL_BITS & 0x1ff) * 2;
}

struct tx_batch {
	struct rte_mbuf *mbuf[FP_BURST];
	struct tx_note note[FP_BURST];
	uint32_t n;
};

// First fragments seen lately: what ports the later ones belong to.
#define FRAGMENT_SETS 256
#define FRAGMENT_WAYS 8
#define FRAGMENT_LIFE_S 5
struct fragment {
	uint64_t ingress_object;
	uint32_t vni;
	uint32_t ingress;
	uint8_t source[16], destination[16]; // as in a flow's key
	uint32_t id;                         // as it lies in the header
	uint32_t sequence;                   // counted on with each entry: which is older
	uint32_t seen_s;
	uint16_t source_port, destination_port; // wire order
	uint8_t protocol;
	uint8_t used;
};

// Later fragments that came before their first one, in the order in which they came.
#define FRAGMENTS_WAITING 128
#define FRAGMENTS_WAITING_VNET 32 // of one V-net
#define FRAGMENT_WAIT_NS (100 * MILLISECOND_NS)
struct waiting_fragment {
	struct packet packet;
	struct rte_mbuf *mbuf;
	struct fragment datagram;
	uint64_t received_ns, until_ns;
};

// Locators asked about lately, and so not to be asked about again.
#define LOCATOR_SLOTS 256
#define LOCATOR_QUIET_NS (5 * SECOND_NS)
#define LOCATORS_PER_S 100
struct locator_asked {
	struct fp_locator_key key;
	uint64_t until_ns;
};

// A worker that says it sleeps is woken no more often than this: each time is a system call.
#define DOORBELL_EVERY_NS 20000ull
struct worker {
	struct fp_ring_end ring;
	int doorbell_fd;
	bool attached;
	uint64_t rung_ns; // when its doorbell was rung last
};

// Housekeeping -> this thread: a frame to send.
struct outgoing {
	struct rte_mbuf *mbuf;
	uint32_t target; // port index, ingress index or tunnel index
	uint32_t wire_id;
	uint32_t kind;   // 0: as it is, out of a port; else enum fp_location_kind
	uint32_t vnet;   // of the ingress
	uint64_t object; // of the ingress or tunnel: the index may be another's when it is sent
};

// Packets of a V-net between parse and act. Their look-up is under way while the next bursts are
// parsed; no quiescent state in between.
#define BURSTS 3 // one for each step of a look-up
struct burst {
	struct packet packet[FP_BURST];
	struct rte_mbuf *mbuf[FP_BURST];         // of packet[i]
	const struct fp_flow_key *key[FP_BURST]; // of packet[i]
	uint64_t hash[FP_BURST];
	uint32_t entry[FP_BURST];
	uint32_t n;
	bool timed; // its stages are
} __attribute__((aligned(FP_CACHE_LINE)));

#define RELEASE_SLOTS 4096
#define OUTGOING_SLOTS 512
#define EXCEPTION_SLOTS 512
#define EXCEPTION_SLOTS_CONTROL 256 // of these for control protocols alone
#define EXCEPTIONS_PER_S 20000

struct fp_thread {
	struct fp_arena *arena;
	struct fp_arena_view view;
	struct fp_port *ports;
	struct rte_mempool *mempool;
	struct fp_secret secret, entropy;
	uint64_t now_ns;
	uint32_t now_s;
	uint32_t index;
	uint32_t sample_in; // hits until the next sample
	uint32_t random;
	uint32_t stage_clock;
	uint16_t tx_queue;
	uint64_t tx_waiting;               // bit per port with a batch
	uint32_t generation;               // of the tables, as this burst sees them
	struct egress *egress;             // egress.h
	struct egress_set *egress_set;     // egress.h
	struct locator_seen *locator_seen; // decap.h
	struct attachment_seen *attachment_seen;
	// By ingress: through which tunnel answers go, for its counters. Good for one generation:
	// egress_name(); 0: not known.
	uint64_t *tunnel_of;
	struct hold hold;
	struct burst burst[BURSTS];    // taken in turns
	struct burst *started, *found; // what waits, by the last step of its look-up; NULL: none
	uint32_t next_burst;
	struct tx_batch tx[FP_PORTS_MAX];

	struct rte_ring *releases, *outgoing, *exceptions;
	struct worker worker[FP_WORKERS_MAX];
	uint32_t workers_written; // bit per worker whose ring got a record
	uint32_t threads;
	uint32_t icmp_per_s, exceptions_per_s;
	struct shared_rate icmp_rate;
	uint64_t locators_paid_ns;
	uint64_t exceptions_paid_ns[2]; // control protocols apart: [1]
	struct fragment fragment[FRAGMENT_SETS][FRAGMENT_WAYS];
	uint32_t fragments_seen;
	struct waiting_fragment *waiting; // FRAGMENTS_WAITING
	uint32_t waiting_n;
	struct locator_asked locator[LOCATOR_SLOTS];
	struct fp_counters counters;
};

// ---- the tables, followed inline: NULL for an index out of range ------------------------------

static inline const struct fp_vnet *
vnet_at(const struct fp_thread *t, uint32_t i)
{
	return likely(i < t->view.vnets) ? &t->view.vnet[i] : NULL;
}

static inline const struct fp_ingress *
ingress_at(const struct fp_thread *t, uint32_t i)
{
	return likely(i < t->view.ingresses) ? &t->view.ingress[i] : NULL;
}

// Flags and states are the writer's to change while we look.
static inline bool
ingress_live(const struct fp_ingress *ingress)
{
	return __atomic_load_n(&ingress->flags, __ATOMIC_RELAXED) & FP_INGRESS_LIVE;
}

// A gateway of ours has checked what comes from there: the sum of the inner IPv4 header, that its
// addresses are unicast, that the source MAC is not zero. Lengths are checked all the same, memory
// rests on them (docs/security.md).
static inline bool
ingress_believed(const struct fp_ingress *ingress)
{
	return ingress->kind == FP_INGRESS_NODE && !(__atomic_load_n(&ingress->flags, __ATOMIC_RELAXED) &
						     (FP_INGRESS_FOREIGN | FP_INGRESS_CHECK));
}

static inline bool
vnet_live(const struct fp_vnet *vnet)
{
	return __atomic_load_n(&vnet->flags, __ATOMIC_RELAXED) & FP_VNET_LIVE;
}

// NULL: gone.
static inline const struct fp_location *
location_at(const struct fp_thread *t, uint32_t i)
{
	const struct fp_location *location;

	if (unlikely(i >= t->view.locations)) // 0 is never live
		return NULL;
	location = &t->view.location[i];
	return likely(__atomic_load_n(&location->state, __ATOMIC_RELAXED) == 1) ? location : NULL;
}

// The half that is valid now.
static inline const struct fp_location_half *
location_now(const struct fp_location *location)
{
	return &location->half[__atomic_load_n(&location->selector, __ATOMIC_ACQUIRE) & 1];
}

static inline const struct fp_location_half *
location_half(const struct fp_thread *t, uint32_t i)
{
	const struct fp_location *location = location_at(t, i);

	return likely(location != NULL) ? location_now(location) : NULL;
}

// Between the files of this directory only: calls are direct, not through the library's table.
#pragma GCC visibility push(hidden)

// ---- stages ----------------------------------------------------------------------------------

// parse.c: fills packets with what is a packet of a V-net, their buffers beside them; all else ends
// there. Returns how many.
#define PARSE_EXCEPTION 0x100
struct parse_context { // what the packets of a burst have in common
	const struct fp_port *port;
	uint64_t port_mac;      // << 16
	uint64_t locators;      // decap.h, locator_current()
	uint64_t attachments;   // attachment_name() of no VLAN
	struct inside untagged; // attachment; ingress 0: there is none
	uint16_t udp_port;
	uint8_t udp_protocol;      // of udp_port
	uint8_t attachments_mixed; // the port's part of a place in attachment_seen
};
uint32_t parse(struct fp_thread *t, const struct fp_port *port, struct rte_mbuf **mbufs, uint32_t n,
	       struct packet *packets, struct rte_mbuf **kept);
struct inside inside_of(const struct fp_thread *t, const struct fp_port *port, uint32_t ingress,
			uint32_t mtu_bytes);

// act.c: does what the words say. Returns a bit for each packet that is to be looked up again.
uint64_t act(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs,
	     const fp_action_word *words, uint32_t n);

// again.c: those of a burst whose words say "look again", a bit for each. received_ns NULL: now.
void look_again(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs,
		const fp_action_word *decisions, uint64_t which, const uint64_t *received_ns);

// leave.c: what is not usual, to the location of the half.
void encapsulate(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf,
		 const struct fp_location *location, const struct fp_location_half *half, fp_action_word word,
		 enum tx_kind kind);
void deliver(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, const struct fp_location *location,
	     const struct fp_location_half *half, fp_action_word word);
// The way it came: the attachment, or the tunnel of the word's source location.
void send_back(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word,
	       enum tx_kind kind);
// Frames of housekeeping's, into a tunnel or out of an attachment. They take the mbuf.
void encapsulate_own(struct fp_thread *t, struct rte_mbuf *mbuf, const struct outgoing *out);
void deliver_own(struct fp_thread *t, struct rte_mbuf *mbuf, const struct outgoing *out);

// pipeline.c
void pipeline_decided(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs,
		      const uint64_t *received_ns, uint32_t n, fp_action_word word);
bool decided(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, uint64_t hash, fp_action_word word,
	     uint64_t received_ns);
void drop(struct fp_thread *t, struct rte_mbuf *mbuf, uint32_t vnet, enum fp_drop_reason reason);
static inline void
drop_packet(struct fp_thread *t, const struct packet *p, struct rte_mbuf *mbuf, enum fp_drop_reason reason)
{
	drop(t, mbuf, p->vnet, reason);
}
// Ends a packet that was to be sent as `kind`. One of our own was never received: it is freed and
// not counted.
static inline void
give_up(struct fp_thread *t, const struct packet *p, struct rte_mbuf *mbuf, enum tx_kind kind,
	enum fp_drop_reason reason)
{
	if (kind >= TX_ICMP)
		rte_pktmbuf_free(mbuf);
	else
		drop(t, mbuf, p->vnet, reason);
}
// neighbor.c, icmp.c
uint32_t neighbor_parse(struct packet *p, struct rte_mbuf *mbuf);
void neighbor_answer(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word);
void too_big(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word,
	     uint32_t mtu_bytes);

// fragment.c
void fragment_remember(struct fp_thread *t, const struct packet *p, const struct rte_mbuf *mbuf);
bool fragment_ports(struct fp_thread *t, struct packet *p, const struct rte_mbuf *mbuf);
void fragment_wait(struct fp_thread *t, const struct packet *p, struct rte_mbuf *mbuf, uint64_t received_ns);
uint32_t fragments_known(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs,
			 uint64_t *received_ns);
void fragments_tick(struct fp_thread *t);
void fragments_drop(struct fp_thread *t, enum fp_drop_reason reason);

// checksum.c
void checksum_complete(uint8_t *ip, uint32_t len);

// exception.c
void exception(struct fp_thread *t, const struct fp_port *port, struct rte_mbuf *mbuf);
void locator_unknown(struct fp_thread *t, const struct fp_locator_key *key);

// tx.c
void tx_flush(struct fp_thread *t, uint32_t port);
static inline void
tx_put(struct fp_thread *t, struct tx_batch *batch, const struct packet *p, struct rte_mbuf *mbuf,
       uint32_t way)
{
	uint32_t n = batch->n;

	if (unlikely(n == FP_BURST)) {
		tx_flush(t, (uint32_t)(batch - t->tx));
		n = 0;
	}
	if (n == 0)
		t->tx_waiting |= 1ull << (batch - t->tx);
	batch->n = n + 1;
	batch->mbuf[n] = mbuf;
	static_assert(offsetof(struct packet, length) == offsetof(struct packet, vnet) + 2);
	store32(&batch->note[n], load32(&p->vnet));
	batch->note[n].way = way;
}
static inline bool
tx_possible(const struct fp_thread *t, uint32_t port)
{
	return likely(port < FP_PORTS_MAX && t->ports[port].live);
}

// thread.c: to a worker's miss ring; false if nobody is attached or it is full.
bool worker_write(struct fp_thread *t, uint32_t worker, const struct fp_record *record);
void worker_full(struct fp_thread *t, uint32_t worker); // a record for it found no room

#pragma GCC visibility pop
