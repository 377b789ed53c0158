// SPDX-License-Identifier: Apache-2.0
//
// Sleeping without losing a wake-up: `sleeping` is stored, then a full fence, then the rings are
// looked at once more (fp_thread_tick). Whoever puts something into a ring does it in the other
// order. What comes by a device's descriptor is seen by ppoll itself, which is level-triggered.
#define _GNU_SOURCE // ppoll
#include "poll_sleep.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>

#define DEAF_NS 1000000000ull // how long a device that is gone is not waited for

static void interrupts_switch(struct fp_poll *poll, bool on);
static bool ready(struct pollfd *one);
static void devices_gone(struct fp_poll *poll);
static void devices_hear(struct fp_poll *poll);

void
fp_poll_wake(struct fp_poll *poll)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&poll->sleeping, __ATOMIC_RELAXED))
		return;
	__atomic_store_n(&poll->sleeping, 0, __ATOMIC_RELAXED);
	eventfd_write(poll->wake_fd, 1);
}

void
fp_poll_sleep_announce(struct fp_poll *poll)
{
	__atomic_store_n(&poll->sleeping, 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	interrupts_switch(poll, true);
}

void
fp_poll_sleep_wait(struct fp_poll *poll, uint32_t sleep_us)
{
	struct timespec timeout = {.tv_sec = sleep_us / 1000000, .tv_nsec = sleep_us % 1000000 * 1000};
	uint64_t count;
	devices_hear(poll);
	int n = ppoll(poll->wait, poll->waits, &timeout, NULL);
	if (n > 0)
		devices_gone(poll);
	if (n > 0 && poll->wait[0].revents && read(poll->wake_fd, &count, sizeof(count)) < 0)
		return; // taken meanwhile
}

void
fp_poll_sleep_end(struct fp_poll *poll)
{
	interrupts_switch(poll, false);
	__atomic_store_n(&poll->sleeping, 0, __ATOMIC_RELAXED);
}

// A descriptor in error wakes at once, for ever. That of a socket is told by reading it (a link went down);
// that of a TAP stays (it was deleted): it is left out for a while.
static void
devices_gone(struct fp_poll *poll)
{
	for (uint32_t i = 1; i < poll->waits; i++) {
		struct pollfd *one = &poll->wait[i];
		int error;
		socklen_t len = sizeof(error);
		if (!(one->revents & (POLLERR | POLLHUP | POLLNVAL)) || one->revents & POLLIN)
			continue;
		if (getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error != 0)
			continue;
		one->fd = ~one->fd; // negative ones are not looked at
		poll->deaf_until_ns = poll_clock_ns(&poll->clock, rte_rdtsc()) + DEAF_NS;
	}
}

static void
devices_hear(struct fp_poll *poll)
{
	if (poll->deaf_until_ns == 0 || poll_clock_ns(&poll->clock, rte_rdtsc()) < poll->deaf_until_ns)
		return;
	poll->deaf_until_ns = 0;
	for (uint32_t i = 1; i < poll->waits; i++)
		if (poll->wait[i].fd < 0)
			poll->wait[i].fd = ~poll->wait[i].fd;
}

static void
interrupts_switch(struct fp_poll *poll, bool on)
{
	for (uint32_t i = 0; i < poll->queues; i++) {
		struct fp_poll_queue *queue = &poll->queue[i];
		uint64_t count;
		if (!queue->port->wake_event)
			continue;
		if (on) {
			rte_eth_dev_rx_intr_enable(queue->port->dpdk_port, queue->queue);
			continue;
		}
		rte_eth_dev_rx_intr_disable(queue->port->dpdk_port, queue->queue);
		struct pollfd one = {.fd = queue->wake_fd, .events = POLLIN};
		if (ready(&one) && read(queue->wake_fd, &count, sizeof(count)) < 0)
			continue; // taken meanwhile
	}
}

static bool
ready(struct pollfd *one)
{
	return poll(one, 1, 0) == 1;
}
