// SPDX-License-Identifier: Apache-2.0
//
// A poll thread's own state and the stages that a burst walks through in it. Everything here belongs to one
// thread; nothing locks, allocates, logs or makes a system call.
//
//	while (running) {
//		fp_thread_tick(t, now_ns);                     // the thread's time; releases, hold timers, sends
//		n = rte_eth_rx_burst(port->dpdk_port, queue, mbufs, FP_BURST);
//		if (n) fp_thread_receive(t, port, mbufs, n);   // parses, acts on the burst before; ends in tx batches
//		if (n < FP_BURST || !fp_thread_takes_turns(t))
//			fp_thread_finish(t);                   // acts on this one too
//		fp_thread_flush(t);                            // sends the tx batches
//		for each worker in fp_thread_doorbells(t): ring
//	}
//
// now_ns is CLOCK_BOOTTIME and what a held packet is stamped with: after a sleep, tick before receive.
//
// Every packet received ends exactly once. At any time between two calls:
//	received == forwarded + delivered + relayed + answered + exceptions + sum(dropped) + held_now
//	            + the burst that waits (none after a finish) + what waits in the tx batches (nothing after a flush)
#pragma once

#include "fp_arena.h"
#include "fp_counters.h"
#include "fp_drop_reasons.h"
#include "fp_flow_table.h"
#include "fp_install.h"
#include "fp_port.h"
#include "fp_ring.h"

#define FP_BURST 32
#define FP_WORKERS_MAX 16

struct fp_hold_limits {
	uint32_t packets, packets_per_vnet, packets_per_ingress, packets_per_flow;
	uint32_t wait_ms;
	uint32_t misses_per_ingress_s; // new keys that one ingress may ask for; 0: no limit
};
#define FP_HOLD_LIMITS_DEFAULT                                                                               \
	{                                                                                                    \
		.packets = 8192, .packets_per_vnet = 2048, .packets_per_ingress = 1024,                      \
		.packets_per_flow = 16, .wait_ms = 1000, .misses_per_ingress_s = 50000                       \
	}

struct fp_thread_config {
	uint32_t index;
	struct fp_arena *arena;
	struct fp_port *ports; // FP_PORTS_MAX of them, shared
	struct rte_mempool *mempool;
	struct fp_hold_limits hold;
	uint32_t workers;          // slow-path workers: worker of a V-net is vnet->worker
	uint16_t tx_queue;         // of every port
	uint32_t icmp_per_s;       // limit of what we originate ourselves
	uint32_t threads;          // poll threads that share a V-net's quota_misses_per_s; 0: one
	uint32_t exceptions_per_s; // frames handed to the kernel, and as many of control protocols; 0: 20000
};

struct fp_thread; // in native/packet/thread.h

int fp_thread_create(const struct fp_thread_config *config, struct fp_thread **thread);
void fp_thread_destroy(struct fp_thread *thread); // frees held packets (counted as shutdown)

// Parses a burst and begins to look it up; acts on the one received before, whose tables' lines have come meanwhile.
void fp_thread_receive(struct fp_thread *thread, const struct fp_port *port, struct rte_mbuf **mbufs,
		       uint16_t n);
// Whether a full burst had better wait for the next one: the flows are too many for the caches near. With few of them
// nothing is gained, and what waits is crowded out itself.
bool fp_thread_takes_turns(const struct fp_thread *thread);
// Acts on the burst received last, if that has not happened. Before every quiescent state and before any wait.
void fp_thread_finish(struct fp_thread *thread);
void fp_thread_tick(struct fp_thread *thread, uint64_t now_ns);
void fp_thread_flush(struct fp_thread *thread);
// More is in its rings than the last tick took: not the time to sleep.
bool fp_thread_has_work(const struct fp_thread *thread);

// Attaches or detaches (ring NULL) the miss ring of a worker. Only while the thread is parked between two
// bursts (fp_poll_pause) or from itself.
void fp_thread_worker_attach(struct fp_thread *thread, uint32_t worker, const struct fp_ring_end *ring,
			     int doorbell_fd);
// New limits; packets is cut to what the thread was created with. Under the same rule as worker_attach.
void fp_thread_hold_limits(struct fp_thread *thread, const struct fp_hold_limits *limits);
int fp_thread_doorbell_fd(const struct fp_thread *thread, uint32_t worker); // -1: nobody attached
// Doorbells that want ringing after a burst: bit per worker. Clears them. The poll loop makes the system call.
uint32_t fp_thread_doorbells(struct fp_thread *thread);

// Producer side of the release ring: housekeeping. Returns how many of them found room.
uint32_t fp_thread_release(struct fp_thread *thread, const struct fp_release *releases, uint32_t n);

// Frames to be sent by this thread for housekeeping (announcements, exception replies), from the next tick on.
// Housekeeping only. true: the mbuf is taken; false: no room, the mbuf stays the caller's. send_inner takes a
// complete inner frame; kind LOCAL: target is an ingress index; TUNNEL: a tunnel index, wire_id the VNI on the wire.
bool fp_thread_send(struct fp_thread *thread, uint16_t port_index, struct rte_mbuf *mbuf);
bool fp_thread_send_inner(struct fp_thread *thread, uint8_t kind, uint32_t target, uint32_t wire_id,
			  struct rte_mbuf *mbuf);

// Frames addressed to this gateway itself: consumer is housekeeping. mbuf->port is our port index.
uint32_t fp_thread_exceptions(struct fp_thread *thread, struct rte_mbuf **mbufs, uint32_t n);

struct fp_counters *fp_thread_counters(struct fp_thread *thread);
// Housekeeping, for every thread: the index is about to be given to another V-net or tunnel, whose counters begin
// at zero. Every thread has passed a quiescent state since the one before it was taken out.
void fp_thread_counters_begin(struct fp_thread *thread, enum fp_counted what, uint32_t index);
// A pair of a thread's counters as it stands. false: it is free, or its V-net is gone.
bool fp_reason_vnet_read(const struct fp_reason_vnet *pair, const struct fp_arena *arena,
			 struct fp_reason_vnet *copy);
