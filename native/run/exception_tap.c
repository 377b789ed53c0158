// SPDX-License-Identifier: Apache-2.0
//
// Exception traffic: frames addressed to this gateway itself go from the poll threads to the
// kernel, by a TAP per underlay port, and what the kernel sends there goes out of the port. All by
// housekeeping, so that no poll thread makes a system call for it. A TAP that is full, down or gone loses
// frames, counted as dropped (exception_refused), and nothing else.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <linux/if_tun.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "dataplane.h"

#define BATCH 32

struct exception_change {
	struct fp_housekeeping *hk;
	struct fp_port *port;
	int fd;
	int rc;
};

static bool frames_out(struct fp_housekeeping *hk, uint32_t thread);
static void not_taken(struct fp_housekeeping *hk, const struct fp_port *port);
static bool frames_in(struct fp_housekeeping *hk, struct fp_port *port);
static void exception_change(void *context);

int
fp_exception_set(struct fp_dataplane *dp, uint32_t port, int fd)
{
	struct exception_change change = {.hk = &dp->housekeeping, .fd = fd};
	int flags;

	pthread_mutex_lock(&dp->lock);
	if (!dp->started)
		change.rc = -ESHUTDOWN;
	else if (port >= FP_PORTS_MAX || !dp->ports[port].live)
		change.rc = -ENOENT;
	else if ((flags = fcntl(fd, F_GETFL)) < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		change.rc = -errno;
	if (change.rc == 0) {
		change.port = &dp->ports[port];
		fp_housekeeping_call(&dp->housekeeping, exception_change, &change);
	}
	pthread_mutex_unlock(&dp->lock);
	return change.rc;
}

bool
fp_exception_carry(struct fp_housekeeping *hk)
{
	bool any = false;
	for (uint32_t i = 0; i < hk->threads; i++)
		any |= frames_out(hk, i);
	for (int i = 0; i < FP_PORTS_MAX; i++)
		if (hk->ports[i].live && hk->ports[i].exception_fd >= 0)
			any |= frames_in(hk, &hk->ports[i]);
	return any;
}

static bool
frames_out(struct fp_housekeeping *hk, uint32_t thread)
{
	struct rte_mbuf *mbufs[BATCH];
	uint32_t n = fp_thread_exceptions(hk->polls[thread].thread, mbufs, BATCH);
	for (uint32_t i = 0; i < n; i++) {
		struct fp_port *port = mbufs[i]->port < FP_PORTS_MAX ? &hk->ports[mbufs[i]->port] : NULL;
		if (port && port->exception_fd >= 0 &&
		    write(port->exception_fd, rte_pktmbuf_mtod(mbufs[i], void *), mbufs[i]->data_len) > 0)
			hk->counters.exception_out++;
		else
			not_taken(hk, port);
	}
	if (n)
		rte_pktmbuf_free_bulk(mbufs, n);
	return n > 0;
}

// Poll threads have counted it as an exception: who sums up takes it from these (fp_dataplane_counters).
static void
not_taken(struct fp_housekeeping *hk, const struct fp_port *port)
{
	uint64_t *refused = &hk->exceptions_refused[port ? port->index : 0];
	__atomic_store_n(refused, *refused + 1, __ATOMIC_RELEASE);
}

static bool
frames_in(struct fp_housekeeping *hk, struct fp_port *port)
{
	bool any = false;
	for (int i = 0; i < BATCH; i++) {
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(hk->mempool);
		if (!mbuf) {
			hk->counters.exception_lost++;
			break;
		}
		ssize_t n =
			read(port->exception_fd, rte_pktmbuf_mtod(mbuf, void *), rte_pktmbuf_tailroom(mbuf));
		if (n <= 0) {
			rte_pktmbuf_free(mbuf);
			if (n == 0 || (errno != EAGAIN && errno != EINTR && errno != EIO)) {
				close(port->exception_fd); // the TAP is gone; EIO: only down
				port->exception_fd = -1;
			}
			break;
		}
		any = true;
		rte_pktmbuf_append(mbuf, (uint16_t)n);
		uint32_t thread = port->index % hk->threads;
		if (fp_thread_send(hk->polls[thread].thread, port->index, mbuf)) {
			hk->counters.exception_in++;
			hk->wake_mask[thread / 64] |= 1ull << (thread % 64);
		} else {
			hk->counters.exception_lost++;
			rte_pktmbuf_free(mbuf);
		}
	}
	return any;
}

void
fp_exception_carrier(const struct fp_port *port)
{
	const int carrier = port->up;
	if (port->exception_fd >= 0)
		(void)ioctl(port->exception_fd, TUNSETCARRIER, &carrier);
}

// In housekeeping's thread.
static void
exception_change(void *context)
{
	struct exception_change *change = context;
	struct epoll_event event = {.events = EPOLLIN};
	if (epoll_ctl(change->hk->epoll_fd, EPOLL_CTL_ADD, change->fd, &event) < 0) {
		change->rc = -errno;
		return;
	}
	if (change->port->exception_fd >= 0) {
		epoll_ctl(change->hk->epoll_fd, EPOLL_CTL_DEL, change->port->exception_fd, NULL);
		close(change->port->exception_fd);
	}
	change->port->exception_fd = change->fd;
	fp_exception_carrier(change->port);
}
