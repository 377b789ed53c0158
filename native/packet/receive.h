// SPDX-License-Identifier: Apache-2.0
//
// What the steps of receiving share: receive.c finds where a frame came in and takes tags and tunnels off (decap.c);
// inner.c makes a key of what is left. One poll thread.
#pragma once

#include "inside.h"

// Beside the reasons for which a packet ends: it is for this gateway itself.
#define RECEIVE_EXCEPTION 0x100

struct receive_context { // what the packets of a burst have in common
	const struct fp_port *port;
	uint64_t port_mac;      // << 16
	uint64_t locators;      // decap.h, locator_current()
	uint64_t attachments;   // attachment.h, attachment_name_of()
	struct inside untagged; // attachment; ingress 0: there is none
	uint16_t udp_port;
	uint8_t udp_protocol;      // of udp_port
	uint8_t attachments_mixed; // the port's part of a place in attachment_seen
};

#pragma GCC visibility push(hidden)
// The frame in the packet's buffer came in by `ingress`. A reason, or 0: the packet is filled in.
// mtu_bytes 0: any length will do.
uint32_t inner_parse(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf,
		     const struct fp_ingress *ingress, const struct fp_port *port, uint32_t mtu_bytes);
#pragma GCC visibility pop
