// SPDX-License-Identifier: Apache-2.0
//
// A port: a DPDK ethdev under its configured name. Control thread makes and closes ports; poll
// threads read.
//
// fp_port_open plugs the device in while EAL runs (so a warm spare holds no device), gives it one
// receive queue per poll thread where the device can, one transmit queue per poll thread always,
// and starts it.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#include "fp_records.h"

#define FP_PORTS_MAX 32
#define FP_DEVICE_BYTES 256
#define FP_PORT_QUEUES_MAX 16
#define FP_VLANS 4096

enum fp_port_role { FP_PORT_INSIDE = 1, FP_PORT_UNDERLAY = 2, FP_PORT_BOTH = 3 };

// What af_packet leaves of a frame with an 802.1ad tag: two MACs and the tag that the driver makes of it.
#define AF_PACKET_S_TAG_BYTES 16

struct fp_port {
	char name[FP_PORT_NAME_BYTES];
	uint16_t index; // ours, 0 .. FP_PORTS_MAX-1; what fp_nexthop.port and fp_ingress.port hold
	uint16_t dpdk_port;
	uint8_t role; // enum fp_port_role
	uint8_t up;
	uint8_t partial_checksums; // af_packet: complete L4 checksums that a local kernel left
				   // partial
	uint8_t cuts_s_tags;       // af_packet: of a frame with an 802.1ad tag it hands over the MACs
	uint8_t live;
	uint8_t dma;        // a device writes the frames, not this processor: they are not in its cache
	uint16_t mtu_bytes; // largest IP packet
	uint16_t rx_queues, tx_queues;
	struct rte_ether_addr mac;
	int exception_fd;   // TAP queue, -1: none. Housekeeping's.
	uint8_t wake_event; // wake_fd is an interrupt's eventfd: armed before, read after a sleep
	int wake_fd[FP_PORT_QUEUES_MAX]; // by rx queue: readable when there is something; -1:
					 // cannot wake
	char driver[32];
	char interface[16]; // the kernel's that af_packet or af_xdp sits on; empty: none
	// Tunnel packets come in these VLANs, a bit each; 0: untagged. Control says them; until then those
	// of the next hops in adopted tables, or any.
	uint64_t underlay_vlan[FP_VLANS / 64];
	uint8_t underlay_vlans_known;
};

struct fp_port_config {
	char name[FP_PORT_NAME_BYTES];
	char device[FP_DEVICE_BYTES]; // PCI address or devargs: "net_tap0,iface=up0"
	uint8_t role;                 // enum fp_port_role
	uint8_t has_mac;              // set `mac`; otherwise the device keeps its own
	uint8_t interrupt;            // PCI: set up receive interrupts
	uint16_t mtu_bytes;
	struct rte_ether_addr mac;
};

// A sentence that names the thing, and what to do about it (may be empty). For whoever starts us.
struct fp_error {
	char text[256];
	char fix[256];
};

// Plugs, configures and starts. Control thread, EAL started. -errno with *error filled in: nothing
// stays behind.
int fp_port_open(struct fp_port *port, const struct fp_port_config *config, uint16_t index, uint16_t threads,
		 struct rte_mempool *mempool, struct fp_error *error);
// Whether the device, or the kernel's interface that it sits on, has a link now. Any thread.
bool fp_port_has_link(const struct fp_port *port);
// Which VLANs are the underlay's. Any thread, one at a time; poll threads see it as it is written.
void fp_port_set_underlay_vlans(struct fp_port *port, const uint16_t *vlans, uint32_t n);
static inline bool
fp_port_is_underlay_vlan(const struct fp_port *port, uint32_t vlan)
{
	return !__atomic_load_n(&port->underlay_vlans_known, __ATOMIC_ACQUIRE) ||
	       (__atomic_load_n(&port->underlay_vlan[vlan / 64], __ATOMIC_RELAXED) >> vlan % 64 & 1);
}
void fp_port_close(struct fp_port *port); // stops and unplugs; no thread may poll it any more
