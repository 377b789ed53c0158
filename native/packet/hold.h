// SPDX-License-Identifier: Apache-2.0
//
// The hold: where packets wait for a decision, by key, in order. Bounded per flow, ingress, V-net
// and in all; every packet in it ends exactly once: released and acted on, dropped by name, or
// expired. Nothing is copied but the 64 bytes that the pipeline knows of a packet. One poll thread.
#pragma once

#include "fp_thread.h"

struct fp_thread;
struct packet;
struct rte_mbuf;

#define HOLD_WHEEL 4096       // places, one a millisecond
#define HOLD_ASKS_AT_ONCE 16u // so often a refused answer may be asked again without waiting for a timer

struct hold_slot { // one key
	struct fp_flow_key key;
	uint32_t uses;                   // counted up each time the slot is taken: part of the token
	uint64_t ingress_object;         // whose index key.ingress was: it may be another's by now
	uint64_t first_ns;               // when its first packet was received
	uint64_t held_ns;                // when it came here; asks and expiry count from then
	uint64_t due_ns;                 // next ask, or expiry
	uint32_t next;                   // in its hash chain, or in the free list
	uint32_t due_next, due_previous; // in its place of the wheel
	uint32_t head, tail;             // of its packets
	uint32_t packets;
	uint32_t vni;
	uint32_t vnet_owner, ingress_owner; // hold_share.owner of whom its packets are counted with
	uint16_t vnet;
	uint16_t place; // in the wheel
	uint8_t used;
	uint8_t asked; // records written
	uint8_t stage; // timers that ran out or are not needed: 0, 1, 2, 3
};

struct hold_packet;

// A V-net may hold so many packets for each place that is free, and have so many records in its worker's ring for each
// one that there is room for: alone it gets most of it, and however many want all, there is room left for the next.
#define HOLD_SHARE_OF_FREE 8
#define HOLD_SHARE_OF_RING 4

// What a V-net or an ingress has in the hold, and how often it has asked lately. By index: whoever
// gets the index next begins anew, and what the one before has left here is not counted with it.
struct hold_share {
	uint64_t object_id;
	uint64_t paid_ns; // rate limit
	uint32_t vni;
	uint32_t owner; // counted up with each new one
	uint32_t packets;
	// A V-net's records in its worker's ring: those up to ring_mark, and since. Counted until the worker has read
	// up to the mark, so that there are never more.
	uint32_t ring_mark, ring_before, ring_since;
};

struct hold {
	struct fp_hold_limits limits;
	uint32_t room;          // slots and packets there are
	uint32_t keys, packets; // in it now
	uint32_t free_slot, free_packet;
	uint32_t chain_mask;
	uint32_t *chain;                   // by hash
	struct hold_share *vnet, *ingress; // by index
	struct hold_slot *slot;
	struct hold_packet *packet;
	uint64_t wheel_ms; // up to where the wheel has turned
	uint32_t wheel[HOLD_WHEEL];
};

#pragma GCC visibility push(hidden)

int hold_create(struct fp_thread *t, const struct fp_hold_limits *limits);
void hold_destroy(struct fp_thread *t); // what is in it is dropped: shutdown

// The slot of a held key, 0 if it is not held.
uint32_t hold_find(struct fp_thread *t, const struct fp_flow_key *key, uint64_t hash);
// Holds a packet (or drops it by name). slot 0: the first of its key.
void hold_put(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, uint64_t hash, uint32_t slot,
	      uint64_t received_ns);
// A decision is known: acts on what is held, in order. The slot is free afterwards.
void hold_decided(struct fp_thread *t, uint32_t slot, fp_action_word word);
// A release by token, from housekeeping.
void hold_release(struct fp_thread *t, const struct fp_release *release);
// Asks again and expires what is due.
void hold_tick(struct fp_thread *t);
// A worker is new: asks again at once for what is its to answer.
void hold_ask_all(struct fp_thread *t, uint32_t worker);

#pragma GCC visibility pop
