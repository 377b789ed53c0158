// SPDX-License-Identifier: Apache-2.0
//
// A port: a DPDK ethdev under its configured name. Control thread makes and closes ports; poll threads read.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "fp_records.h"

#define FP_PORTS_MAX 32

enum fp_port_role { FP_PORT_INSIDE = 1, FP_PORT_UNDERLAY = 2, FP_PORT_BOTH = 3 };

struct fp_port {
	char name[FP_PORT_NAME_BYTES];
	uint16_t index;     // ours, 0 .. FP_PORTS_MAX-1; what fp_nexthop.port and fp_ingress.port hold
	uint16_t dpdk_port;
	uint8_t role;       // enum fp_port_role
	uint8_t up;
	uint8_t partial_checksums; // af_packet: complete L4 checksums that a local kernel left partial
	uint8_t live;
	uint16_t mtu_bytes;        // largest IP packet
	uint16_t rx_queues, tx_queues;
	struct rte_ether_addr mac;
	int exception_fd;          // TAP queue, -1: none. Housekeeping's.
};
