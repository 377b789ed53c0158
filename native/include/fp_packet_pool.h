// SPDX-License-Identifier: Apache-2.0
//
// The pool of packet buffers: rte_pktmbuf_pool_create, but for where buffers lie without hugepages. That gives each
// of them a page of 4 KB of its own, so that a device finds it at one address; all begin at the same place in a page
// then, and a burst's first lines meet in one set of twelve ways in the first-level cache. No device reads memory by
// itself without hugepages: buffers may lie side by side.
#pragma once

#include <stdint.h>

struct rte_mempool;

// NULL: rte_errno says why.
struct rte_mempool *fp_packet_pool_create(const char *name, uint32_t buffers, uint32_t cache,
					  uint16_t room_bytes);
