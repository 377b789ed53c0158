// SPDX-License-Identifier: Apache-2.0
//
// The housekeeping thread: the one writer of the arena. It applies what clients wrote into their
// install rings, ticks the installer, hands releases and frames to the poll threads, and carries
// exception traffic between them and the TAPs. It sleeps in epoll_wait and is woken by eventfds
// (edge-triggered: they need not be read, so a client that reads its own cannot make it block) and
// by the TAPs.
//
// fp_housekeeping_call runs a function in it between two rounds: everything else that touches what
// it owns.
#pragma once

#include <pthread.h>

#include "poll_thread.h"
#include "release_backlog.h"

#define FP_INSTALL_BATCH 64
#define TICK_WAIT_NS 1000000ull // a record that waits for reclaimed slots is tried again so soon

struct fp_client {
	bool live, broken;
	uint8_t worker;
	int id;                     // of fp_client_add
	struct fp_ring_end install; // consumer
	struct fp_ring_end out;     // producer: housekeeping's own ring, the last of the miss rings
	int wake_client_fd, wake_self_fd;
	struct fp_record batch[FP_INSTALL_BATCH]; // copied out of the ring, not all applied yet
	uint32_t batch_n, batch_next;
	bool waits; // the record at batch_next is to be tried again after a tick
	uint64_t applied, refused, emitted, emit_lost;
};

struct fp_call {
	void (*call)(void *context);
	void *context;
	bool done;
	struct fp_call *next;
};

struct fp_housekeeping {
	struct fp_arena *arena;
	struct fp_installer *installer;
	struct fp_port *ports; // FP_PORTS_MAX
	struct fp_poll *polls;
	uint32_t threads;
	struct rte_mempool *mempool;
	struct fp_client client[FP_CLIENTS_MAX];
	struct { // releases of the records of a batch, handed over together: a ring between two
		 // processors costs by the hand-over, not by the release
		struct fp_release release[FP_INSTALL_BATCH];
		uint32_t n;
	} batch;
	struct release_backlog late[FP_THREADS_MAX]; // of each thread: what its ring has no room for
	bool releases_late;                          // some thread has such

	pthread_t pthread;
	bool started;
	pthread_mutex_t lock; // around the list of calls
	pthread_cond_t done;
	struct fp_call *calls;
	bool stop; // under the lock
	int epoll_fd, wake_fd;
	uint32_t sleeps;                         // set while in epoll_wait
	uint64_t wake_mask[FP_THREADS_MAX / 64]; // threads whose rings got something this round
	uint64_t next_tick_ns, next_links_ns;
	bool busy_tick;
	bool syncing;                              // a client waits to hear that its changes are in force
	uint64_t exceptions_refused[FP_PORTS_MAX]; // by no TAP taken; counted as exceptions by poll threads
	struct fp_housekeeping_counters counters;
};

int fp_housekeeping_init(struct fp_housekeeping *housekeeping,
			 struct fp_error *error); // before the poll threads
int fp_housekeeping_start(struct fp_housekeeping *housekeeping, struct fp_error *error);
void fp_housekeeping_stop(struct fp_housekeeping *housekeeping);
void fp_housekeeping_call(struct fp_housekeeping *housekeeping, void (*call)(void *context), void *context);
void fp_housekeeping_hooks(struct fp_housekeeping *housekeeping, struct fp_installer_hooks *hooks);

// client.c: housekeeping's thread
bool fp_client_drain(struct fp_housekeeping *housekeeping, struct fp_client *client,
		     uint64_t now_ns); // true: did something
void fp_client_emit(struct fp_housekeeping *housekeeping, uint8_t worker, const struct fp_record *record);
void fp_client_doorbells(struct fp_housekeeping *housekeeping);

// exception.c: housekeeping's thread
bool fp_exception_carry(struct fp_housekeeping *housekeeping);
// Shows the port's link as the carrier of its TAP, so that the kernel and control see it at once.
void fp_exception_carrier(const struct fp_port *port);
