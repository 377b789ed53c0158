// SPDX-License-Identifier: Apache-2.0
//
// The loop, and who starts, parks and stops it.
//
// A wake-up costs about 20 us of CPU on a virtual machine (timer, exit, switch), 4 us on bare
// metal: hence few of them while idle, and 20 us of spinning before the first.
#define _GNU_SOURCE // pthread_setaffinity_np
#include "poll_sleep.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_pause.h>

#include "../dpdk/eal.h"
#include "fault.h"

#define SPIN_US 20
#define FIRST_SLEEP_US 50
#define QUIESCENT_EVERY 32     // rounds
#define IDLE_WAKEABLE_US 50000 // with nothing to poll by time: the rest of the thread's timers
#define HELD_US 1000           // with packets in the hold: its timers

static void *poll_main(void *argument);
static void thread_prepare(struct fp_poll *poll);
static void thread_park(struct fp_poll *poll);
static uint32_t receive(struct fp_poll *poll, uint64_t tsc, bool finish);
static void doorbells_ring(struct fp_poll *poll);
static uint32_t thread_sleep(struct fp_poll *poll, uint32_t sleep_us);
static uint32_t sleep_limit_us(const struct fp_poll *poll, uint32_t step_us);

int
fp_poll_start(struct fp_poll *poll, struct fp_error *error)
{
	poll->all_wake = true;
	poll->wait = calloc(poll->queues + 1, sizeof(*poll->wait));
	poll->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!poll->wait || poll->wake_fd < 0)
		return fp_error_set(error, -ENOMEM, "", "poll thread %u: no memory or descriptor",
				    poll->index);
	poll->wait[poll->waits++] = (struct pollfd){.fd = poll->wake_fd, .events = POLLIN};
	for (uint32_t i = 0; i < poll->queues; i++) {
		if (poll->queue[i].wake_fd < 0)
			poll->all_wake = false;
		else
			poll->wait[poll->waits++] =
				(struct pollfd){.fd = poll->queue[i].wake_fd, .events = POLLIN};
	}
	pthread_mutex_init(&poll->lock, NULL);
	pthread_cond_init(&poll->changed, NULL);
	poll->order = FP_POLL_RUN;
	int rc = pthread_create(&poll->pthread, NULL, poll_main, poll);
	if (rc != 0)
		return fp_error_set(error, -rc, "", "poll thread %u cannot be made: %s", poll->index,
				    strerror(rc));
	poll->started = true;
	pthread_mutex_lock(&poll->lock);
	while (!poll->up)
		pthread_cond_wait(&poll->changed, &poll->lock);
	pthread_mutex_unlock(&poll->lock);
	if (poll->rc < 0)
		return fp_error_set(error, poll->rc, "raise capacity.threads",
				    "poll thread %u cannot run: %s", poll->index, strerror(-poll->rc));
	return 0;
}

void
fp_poll_stop(struct fp_poll *poll)
{
	if (poll->started) {
		pthread_mutex_lock(&poll->lock);
		__atomic_store_n(&poll->order, FP_POLL_STOP, __ATOMIC_RELEASE);
		pthread_cond_broadcast(&poll->changed);
		pthread_mutex_unlock(&poll->lock);
		eventfd_write(poll->wake_fd, 1);
		pthread_join(poll->pthread, NULL);
		poll->started = false;
	}
	if (poll->wake_fd >= 0)
		close(poll->wake_fd);
	poll->wake_fd = -1;
	free(poll->wait);
	free(poll->queue);
	poll->wait = NULL;
	poll->queue = NULL;
}

void
fp_poll_pause(struct fp_poll *poll)
{
	pthread_mutex_lock(&poll->lock);
	__atomic_store_n(&poll->order, FP_POLL_PARK, __ATOMIC_RELEASE);
	eventfd_write(poll->wake_fd, 1);
	while (!poll->parked)
		pthread_cond_wait(&poll->changed, &poll->lock);
	pthread_mutex_unlock(&poll->lock);
}

void
fp_poll_resume(struct fp_poll *poll)
{
	pthread_mutex_lock(&poll->lock);
	__atomic_store_n(&poll->order, FP_POLL_RUN, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&poll->changed);
	while (poll->parked)
		pthread_cond_wait(&poll->changed, &poll->lock);
	pthread_mutex_unlock(&poll->lock);
}

void
fp_poll_set_idle(struct fp_poll *poll, const struct fp_idle *idle)
{
	__atomic_store_n(&poll->max_sleep_us, idle->max_sleep_us, __ATOMIC_RELAXED);
	__atomic_store_n(&poll->idle_mode, idle->mode, __ATOMIC_RELAXED);
}

uint64_t
fp_poll_cpu_ns(const struct fp_poll *poll)
{
	clockid_t clock;
	struct timespec t;
	if (!poll->started || pthread_getcpuclockid(poll->pthread, &clock) != 0 ||
	    clock_gettime(clock, &t) != 0)
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *
poll_main(void *argument)
{
	struct fp_poll *poll = argument;
	thread_prepare(poll);
	int rc = rte_thread_register();
	if (rc < 0)
		rc = -ENOSPC;
	else
		rc = fp_arena_reader_register(poll->arena, poll->index);
	pthread_mutex_lock(&poll->lock);
	poll->rc = rc;
	poll->up = true;
	pthread_cond_broadcast(&poll->changed);
	pthread_mutex_unlock(&poll->lock);
	if (rc < 0)
		return NULL;

	fp_arena_reader_online(poll->arena, poll->index);
	struct fp_counters *counters = fp_thread_counters(poll->thread);
	const uint64_t spin_cycles = rte_get_tsc_hz() * SPIN_US / 1000000;
	poll->clock = poll_clock_make(rte_get_tsc_hz());
	uint64_t before = rte_rdtsc(), idle_since = before;
	uint32_t sleep_us = FIRST_SLEEP_US, unreported = 0, order;
	while ((order = __atomic_load_n(&poll->order, __ATOMIC_ACQUIRE)) != FP_POLL_STOP) {
		if (order == FP_POLL_PARK) {
			fp_thread_finish(poll->thread);
			fp_thread_flush(poll->thread);
			thread_park(poll);
			before = rte_rdtsc(); // what comes now is not stamped with the time before
		}
		bool report = ++unreported >= QUIESCENT_EVERY;
		uint32_t received = receive(poll, before, report);
		uint64_t after = rte_rdtsc();
		counters->polls++;
		if (report) {
			fp_arena_reader_quiescent(poll->arena, poll->index);
			unreported = 0;
		}
		if (received || fp_thread_has_work(poll->thread)) {
			counters->cycles_busy += after - before;
			idle_since = before = after;
			sleep_us = FIRST_SLEEP_US;
			if (received && !poll->first_packet_ns)
				__atomic_store_n(&poll->first_packet_ns, poll_clock_ns(&poll->clock, after),
						 __ATOMIC_RELAXED);
			continue;
		}
		counters->cycles_idle += after - before;
		before = after;
		if (__atomic_load_n(&poll->idle_mode, __ATOMIC_RELAXED) == FP_IDLE_SPIN ||
		    after - idle_since < spin_cycles) {
			rte_pause();
			continue;
		}
		received = thread_sleep(poll, sleep_limit_us(poll, sleep_us));
		unreported = 0;
		after = rte_rdtsc();
		if (received) { // the last look found packets: it did not sleep
			counters->cycles_busy += after - before;
			idle_since = after;
			sleep_us = FIRST_SLEEP_US;
		} else {
			counters->cycles_idle += after - before;
			counters->sleeps++;
			sleep_us = RTE_MIN(sleep_us * 2, 1u << 20);
		}
		before = after;
	}
	fp_thread_finish(poll->thread);
	fp_thread_flush(poll->thread);
	fp_arena_reader_offline(poll->arena, poll->index);
	fp_arena_reader_unregister(poll->arena, poll->index);
	rte_thread_unregister();
	return NULL;
}

// One round over the queues, begun at `tsc`. The last burst of a round that had a full one may wait
// for the next round, where there will be more, unless it is told to finish. Returns the packets
// received.
static uint32_t
receive(struct fp_poll *poll, uint64_t tsc, bool finish)
{
	uint64_t *stages = fp_thread_counters(poll->thread)->stage_cycles, start = 0, acted = 0;
	bool timed = ++poll->stage_clock % FP_STAGE_CLOCK_EVERY == 0;
	struct rte_mbuf *mbufs[FP_BURST];
	uint32_t received = 0;
	bool full = false;

	fp_thread_tick(poll->thread, poll_clock_ns(&poll->clock, tsc));
	for (uint32_t i = 0; i < poll->queues; i++) {
		struct fp_port *port = poll->queue[i].port;
		if (unlikely(timed))
			start = rte_rdtsc();
		uint16_t n = rte_eth_rx_burst(port->dpdk_port, poll->queue[i].queue, mbufs, FP_BURST);
		if (n == 0)
			continue;
		if (unlikely(timed))
			stages[FP_STAGE_RX] += (rte_rdtsc() - start) * FP_STAGE_CLOCK_EVERY;
		fp_thread_receive(poll->thread, port, mbufs, n);
		received += n;
		full |= n == FP_BURST;
	}
	if (finish || !full || !fp_thread_takes_turns(poll->thread))
		fp_thread_finish(poll->thread);
	if (unlikely(timed && received))
		acted = rte_rdtsc();
	fp_thread_flush(poll->thread);
	if (unlikely(timed && received))
		stages[FP_STAGE_TX] += (rte_rdtsc() - acted) * FP_STAGE_CLOCK_EVERY;
	doorbells_ring(poll);
	return received;
}

static void
doorbells_ring(struct fp_poll *poll)
{
	uint32_t workers = fp_thread_doorbells(poll->thread);
	while (workers) {
		uint32_t worker = (uint32_t)__builtin_ctz(workers);
		workers &= workers - 1;
		int fd = fp_thread_doorbell_fd(poll->thread, worker);
		if (fd >= 0)
			fp_doorbell_ring(fd);
	}
	uint64_t exceptions = fp_thread_counters(poll->thread)->exceptions;
	if (exceptions == poll->seen_exceptions)
		return;
	poll->seen_exceptions = exceptions;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_exchange_n(poll->housekeeping_sleeps, 0, __ATOMIC_RELAXED))
		eventfd_write(poll->housekeeping_fd, 1);
}

static uint32_t
sleep_limit_us(const struct fp_poll *poll, uint32_t step_us)
{
	uint32_t limit =
		poll->all_wake ? IDLE_WAKEABLE_US : __atomic_load_n(&poll->max_sleep_us, __ATOMIC_RELAXED);
	if (fp_thread_counters(poll->thread)->held_now)
		limit = RTE_MIN(limit, (uint32_t)HELD_US);
	return poll->all_wake ? limit : RTE_MIN(limit, step_us);
}

// Sleeps unless there is something to do after all. Returns the packets that the last look found.
static uint32_t
thread_sleep(struct fp_poll *poll, uint32_t sleep_us)
{
	fp_poll_sleep_announce(poll);
	uint32_t received = receive(poll, rte_rdtsc(), true);
	fp_arena_reader_offline(poll->arena, poll->index);
	if (received == 0 && !fp_thread_has_work(poll->thread))
		fp_poll_sleep_wait(poll, sleep_us);
	fp_arena_reader_online(poll->arena, poll->index);
	fp_poll_sleep_end(poll);
	return received;
}

static void
thread_park(struct fp_poll *poll)
{
	fp_arena_reader_offline(poll->arena, poll->index);
	pthread_mutex_lock(&poll->lock);
	poll->parked = true;
	pthread_cond_broadcast(&poll->changed);
	while (poll->order == FP_POLL_PARK)
		pthread_cond_wait(&poll->changed, &poll->lock);
	poll->parked = false;
	pthread_cond_broadcast(&poll->changed);
	pthread_mutex_unlock(&poll->lock);
	fp_arena_reader_online(poll->arena, poll->index);
}

static void
thread_prepare(struct fp_poll *poll)
{
	char name[16];
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	fp_fault_thread(poll->thread);
	snprintf(name, sizeof(name), "poll-%u", poll->index);
	pthread_setname_np(pthread_self(), name);
	prctl(PR_SET_TIMERSLACK, 1);
	if (poll->cpu == FP_CPU_ANY)
		return;
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(poll->cpu, &cpus);
	poll->pinned =
		poll->cpu < CPU_SETSIZE && pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus) == 0;
}
