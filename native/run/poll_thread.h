// SPDX-License-Identifier: Apache-2.0
//
// A poll thread: a pthread that DPDK knows, pinned, which never sees the interpreter. It takes
// bursts from its queues, walks them through the stages of fp_thread.h, and sleeps when there is
// nothing.
//
// Control threads make, pause, resume and stop it. fp_poll_wake and the counters: any thread.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include "fp_dataplane.h"
#include "poll_clock.h"

#define FP_POLL_QUEUES_MAX (FP_PORTS_MAX * FP_PORT_QUEUES_MAX)

enum fp_poll_order { FP_POLL_RUN, FP_POLL_PARK, FP_POLL_STOP };

struct fp_poll_queue {
	struct fp_port *port;
	uint16_t queue;
	int wake_fd; // -1: cannot wake
};

struct fp_poll {
	uint32_t index, cpu; // FP_CPU_ANY: floats
	struct fp_thread *thread;
	struct fp_arena *arena;
	int housekeeping_fd; // eventfd that wakes housekeeping
	uint32_t *housekeeping_sleeps;
	struct fp_poll_queue *queue;
	uint32_t queues;
	bool all_wake;       // every queue has a wake_fd
	struct pollfd *wait; // own eventfd first, then those that can wake
	uint32_t waits;
	uint64_t
		deaf_until_ns; // descriptors of devices that are gone are left out of it until then, 0: none is

	pthread_t pthread;
	bool started, pinned;
	pthread_mutex_t lock; // around order and parked, beside the loop
	pthread_cond_t changed;
	uint32_t order; // enum fp_poll_order
	bool parked;
	bool up; // the loop runs (or could not: see rc)
	int rc;

	uint32_t idle_mode, max_sleep_us; // live
	uint32_t sleeping;                // wants a doorbell
	int wake_fd;                      // its own eventfd
	uint64_t first_packet_ns;         // CLOCK_BOOTTIME, 0: none yet
	uint64_t seen_exceptions;
	struct poll_clock clock;
	uint32_t stage_clock;
};

// queue[] is taken over. The thread runs when this returns.
int fp_poll_start(struct fp_poll *poll, struct fp_error *error);
void fp_poll_stop(struct fp_poll *poll); // joins
// Between pause and resume the thread stands between two bursts, offline for the arena. Nests not.
void fp_poll_pause(struct fp_poll *poll);
void fp_poll_resume(struct fp_poll *poll);
// After something was put into one of the thread's rings.
void fp_poll_wake(struct fp_poll *poll);
// Rings a client that sleeps. The pipe's writing end is ours alone: no client can make it block,
// and full or gone is as good as rung. Signals are blocked in the threads that call this.
static inline void
fp_doorbell_ring(int fd)
{
	const uint8_t one = 1;
	ssize_t n = write(fd, &one, sizeof(one));
	(void)n;
}
void fp_poll_set_idle(struct fp_poll *poll, const struct fp_idle *idle);
uint64_t fp_poll_cpu_ns(const struct fp_poll *poll);
