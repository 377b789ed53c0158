// SPDX-License-Identifier: Apache-2.0
//
// Counters: per thread, written by that thread alone and summed by whoever wants to see them. Exact, but for what
// came out of a tunnel (see there).
// (reason, V-net) pairs stand in a small hashed table; pairs that find no room count in the reason only.
//
// An index of a V-net or tunnel that is given out again counts from zero: housekeeping clears it before it is
// published (fp_thread_counters_begin), when no thread can count for the one before any more. Pairs are by the
// V-net's id; those of a V-net that is gone make room, and count in the reason only.
#pragma once

#include <stdint.h>

#include "fp_delay.h"
#include "fp_types.h"

struct fp_port_counters {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, tx_full, exceptions;
};
struct fp_pair_counters {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
};

// One burst in so many is timed by stage, and counts for all.
#define FP_STAGE_CLOCK_EVERY 16
enum fp_stage {
	FP_STAGE_RX,
	FP_STAGE_PARSE,
	FP_STAGE_LOOKUP,
	FP_STAGE_ACT,
	FP_STAGE_TX,
	FP_STAGE_OTHER,
	FP_STAGE_MAX
};

struct fp_reason_vnet {
	uint64_t object_id; // of the V-net
	uint64_t packets;   // 0: free
	uint32_t vni;
	uint16_t vnet; // its index
	uint16_t reason;
};
#define FP_REASON_VNETS 1024
#define FP_REASONS_MAX 128
#define FP_COUNTER_PORTS 32

struct fp_counters {
	// packets
	uint64_t received, forwarded, delivered, relayed, answered, icmp_sent, exceptions;
	uint64_t dropped[FP_REASONS_MAX];
	struct fp_reason_vnet reason_vnet[FP_REASON_VNETS];
	uint64_t reason_vnet_full;
	struct fp_port_counters port[FP_COUNTER_PORTS];
	struct fp_pair_counters *vnet; // by V-net index, 0 .. capacity
	// By tunnel index, likewise. tx = sent into it. rx is an estimate: packets of the ingress whose answers go into
	// this tunnel, as learnt from decisions, and not what was dropped before it had one.
	struct fp_pair_counters *tunnel;
	// look-ups, misses, hold
	uint64_t lookups, hits, narrowed, misses, miss_records, miss_ring_full, refreshes;
	uint64_t held, held_now, released, expired, dropped_full;
	// time
	uint64_t bursts, polls, cycles_busy, cycles_idle, sleeps, stage_cycles[FP_STAGE_MAX];
	// first-packet delay, stamped in the hold: from the receipt of a key's first packet until its release
	struct fp_delay delay;
};
