// SPDX-License-Identifier: Apache-2.0
//
// A packet on its way through the stages. Private to native/packet. One poll thread.
#pragma once

#include "fp_types.h"

// Whose verbs a packet with PACKET_IP takes (l3.h).
enum l3_kind { L3_NONE, L3_IPV4 };

enum packet_flag {
	PACKET_IP = 1 << 0,       // its header checked, at byte 14 of the frame
	PACKET_ROUTED = 1 << 1,   // came to the V-net's gateway MAC
	PACKET_TUNNELED = 1 << 2, // came out of a tunnel: outer_ttl is valid
	PACKET_FRAGMENT = 1 << 3, // any fragment
	PACKET_LATER = 1 << 4,    // a fragment that is not the first: no ports in it
	PACKET_PORTS = 1 << 5,    // whole, and its ports tell flows apart
};

// A packet between parse and tx; its buffer stands beside it. After parse the frame starts with the
// inner Ethernet header (14 bytes, no tag) and ends with the IP packet. One cache line.
struct packet {
	uint16_t l4_at;      // byte of the frame where TCP, UDP, ICMP ... begin, behind all of the IP header
	uint8_t l3;          // enum l3_kind
	uint8_t outer_bytes; // taken off with its tunnel
	uint8_t looks;       // how often it has been looked up again
	uint8_t zero[3];
	struct fp_flow_key key; // key.ingress is where it came in
	uint16_t vnet;
	uint16_t length;           // inner IP packet, or what follows the Ethernet header
	uint16_t source_port;      // wire order; ICMP: type
	uint16_t destination_port; // wire order; ICMP: code
	uint8_t protocol;
	uint8_t flags; // enum packet_flag
	uint8_t outer_ttl;
	uint8_t port; // index of the port it came by
};
static_assert(sizeof(struct packet) == 64, "packet");
