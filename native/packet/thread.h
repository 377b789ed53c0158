// SPDX-License-Identifier: Apache-2.0
//
// A poll thread's state, which the stages of the pipeline share. Private to native/packet. Everything belongs to one
// poll thread.
#pragma once

#include <rte_branch_prediction.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>
#include <rte_ring_elem.h>

#include "../wire/wire.h"
#include "fp_thread.h"
#include "fragment.h"
#include "frame.h"
#include "hold.h"
#include "packet.h"
#include "rate.h"
#include "shared_rate.h"
#include "tx_note.h"

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

struct egress;
struct egress_set;
struct locator_seen;
struct attachment_seen;

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
	uint64_t tx_waiting;                     // bit per port with a batch
	uint32_t generation;                     // of the tables, as this burst sees them
	struct egress *egress;                   // egress.h
	struct egress_set *egress_set;           // egress.h
	struct locator_seen *locator_seen;       // decap.h
	struct attachment_seen *attachment_seen; // inside.h
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
	struct fragment fragment[FRAGMENT_ROWS][FRAGMENT_PLACES];
	uint32_t fragments_seen;
	struct waiting_fragment *waiting; // FRAGMENTS_WAITING
	uint32_t waiting_n;
	struct locator_asked locator[LOCATOR_SLOTS];
	struct fp_counters counters;
};
