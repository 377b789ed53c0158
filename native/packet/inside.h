// SPDX-License-Identifier: Apache-2.0
//
// Where packets come in, by an attachment or out of a tunnel: all that receiving wants to know of an ingress, in half a
// cache line. Good for one generation of the tables. One poll thread.
#pragma once

#include "tables.h"
#include "thread.h"

struct inside {
	// The last 16 bytes of struct packet, with nothing of the packet itself in them.
	uint32_t ingress;
	uint16_t vnet;
	uint16_t zero0[3];
	uint8_t zero1;
	uint8_t flags; // enum packet_flag: of a usual packet
	uint8_t zero2;
	uint8_t port;         // index of the port
	uint64_t gateway_mac; // of the V-net, << 16; broadcast: it has none
	uint16_t usual_bytes; // longest IP packet that is usual; 0: none is
	bool believed;        // ingress_believed()
	uint8_t zero3[5];
} __attribute__((aligned(16)));
static_assert(sizeof(struct inside) == 32, "inside");

#pragma GCC visibility push(hidden)
// Where packets of an ingress may claim to be. mtu_bytes 0: any length will do.
struct inside inside_of(const struct fp_thread *t, const struct fp_port *port, uint32_t ingress,
			uint32_t mtu_bytes);
#pragma GCC visibility pop
