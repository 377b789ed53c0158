// SPDX-License-Identifier: Apache-2.0
//
// An interface of this kernel's that a port sits on.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>

// Up, and with an MTU of at least so much. 0 or -errno.
int interface_prepare(const char *interface, uint16_t mtu_bytes);
int interface_mac(const char *interface, struct rte_ether_addr *mac); // 0 or -errno
// Whether a TAP outlives its queues. The driver takes one that does not down when it stops.
bool interface_persists(const char *interface);
// Whether it has a carrier; `otherwise` where that cannot be asked.
bool interface_running(const char *interface, bool otherwise);
