// SPDX-License-Identifier: Apache-2.0
//
// net_tap asks for a signal per packet to save reads of an empty queue; a signal costs more than the read, so O_ASYNC
// is taken away again before its handler can ever have run, and threads sleep on the descriptors.
#define _GNU_SOURCE // O_ASYNC
#include "port_wake.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include <rte_ethdev.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif

static bool wakes(const struct fp_port *port, int fd);

void
wake_fds_before(struct wake_fds *before)
{
	memset(before, 0, sizeof(*before));
	for (int fd = 0; fd < WAKE_FDS_MAX; fd++)
		before->open[fd] = fcntl(fd, F_GETFD) >= 0;
}

// ethdev has no call that gives the descriptor behind a queue of these drivers. They open one per
// queue, receive queues first and in order, and descriptors count upwards: the new ones of the
// right kind are theirs.
void
wake_fds_find(struct fp_port *port, const struct wake_fds *before, bool interrupt)
{
	uint16_t queue = 0;

	if (interrupt) {
		for (uint16_t q = 0; q < port->rx_queues; q++)
			port->wake_fd[q] = rte_eth_dev_rx_intr_ctl_q_get_fd(port->dpdk_port, q);
		port->wake_event = 1;
		return;
	}
	for (int fd = 0; fd < WAKE_FDS_MAX && queue < port->rx_queues; fd++)
		if (!before->open[fd] && wakes(port, fd))
			port->wake_fd[queue++] = fd;
	// The handler of the driver's signal must never run: it would make reads conditional on the
	// next signal.
	sigset_t signals;
	sigemptyset(&signals);
	for (int signal_number = SIGRTMIN + 1; signal_number < SIGRTMAX; signal_number++)
		sigaddset(&signals, signal_number);
	while (sigtimedwait(&signals, NULL, &(struct timespec){0}) > 0)
		;
}

static bool
wakes(const struct fp_port *port, int fd)
{
	if (strcmp(port->driver, "net_tap") == 0) {
		struct ifreq request = {0};
		// Fails on anything else. With a detached queue the driver keeps the interface.
		if (ioctl(fd, TUNGETIFF, &request) < 0 || (request.ifr_flags & IFF_DETACH_QUEUE))
			return false;
		int flags = fcntl(fd, F_GETFL);
		return flags >= 0 && fcntl(fd, F_SETFL, flags & ~O_ASYNC) == 0;
	}
	int domain = 0, want = strcmp(port->driver, "net_af_packet") == 0 ? AF_PACKET
			       : strcmp(port->driver, "net_af_xdp") == 0  ? AF_XDP
									  : -1;
	socklen_t size = sizeof(domain);
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == want;
}
