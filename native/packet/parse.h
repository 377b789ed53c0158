// SPDX-License-Identifier: Apache-2.0
//
// What the two halves of parsing share: parse.c finds where a frame came in, and takes tags and
// tunnels off; parse_frame.c makes a key of what is left.
#pragma once

#include "thread.h"

#pragma GCC visibility push(hidden)
// The frame in the packet's buffer came in by `ingress`. A reason, or 0: the packet is filled in.
// mtu_bytes 0: any length will do.
uint32_t parse_frame(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf,
		     const struct fp_ingress *ingress, const struct fp_port *port, uint32_t mtu_bytes);
#pragma GCC visibility pop
