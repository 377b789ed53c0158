// SPDX-License-Identifier: Apache-2.0
//
// What is special about net_af_packet: how large the frames of its rings are, and its sockets.
#pragma once

#include "fp_port.h"

// The rings of a queue: received frames, then those to send, as the driver is told by devargs.
struct af_packet_ring {
	unsigned int frame_bytes, frames, block_bytes, blocks;
};

// The rings for a port: as the device's arguments say, else large enough for the MTU.
struct af_packet_ring af_packet_ring(const char *device, uint16_t mtu_bytes);

// Whether the kernel and the driver take them, and frames of the MTU fit: of arguments of one's own it may not be so, and
// the driver says nothing of it, or something else. `buffer_bytes` is what a packet buffer holds. 0, or -EINVAL with
// *error filled in.
int af_packet_ring_check(const struct af_packet_ring *ring, const struct fp_port_config *config,
			 unsigned int buffer_bytes, struct fp_error *error);

// Puts sockets of our own in the place of the driver's, whose descriptors stand in port->wake_fd.
// Before anything polls the port. 0, or -errno with *error filled in.
int af_packet_take_over(const struct fp_port *port, const struct af_packet_ring *ring,
			struct fp_error *error);
