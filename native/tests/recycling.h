// SPDX-License-Identifier: Apache-2.0
//
// What the two sides of test_recycling.c agree on: the writer (recycling_tables.c), who makes V-nets and takes them
// away, and the world outside (recycling_traffic.c), which sends into them and looks at what comes out.
//
// A V-net lives once: it has a number, a VNI and a VLAN that no other one has had or will have, and all else is the
// same in all of them: addresses, nodes, and above all the indexes in the tables, of which there are few. A frame
// carries the number of the V-net that it comes from and of the one that it is for, in its payload and its MACs.
//
//	member 1   10.0.0.1   attachment on port 0       asks, sends to all
//	member 2   10.0.0.2   attachment on port 1
//	member 3   10.0.0.3   behind a node, moves       by a tunnel or a set of two
//	member 4   10.0.0.4   behind another node
//	member 9   10.0.0.9   refused
//	10.1.x.y   member 1 of V-net x.y, while the two are peered
#pragma once

#include "fixture.h"
#include "frames.h"
#include "rig.h"

#define SLOTS 6   // V-nets at once
#define REMOTES 4 // nodes; a V-net has members behind two of them
#define LIVES_MAX 4000
#define VNI_BASE 5000
#define PORT_UNDERLAY 2
#define MEMBER_REFUSED 9
#define GATEWAY 0xaa // last byte of a gateway MAC

// Of one V-net. Both sides may look at any time.
struct life {
	uint64_t sent;     // frames that were put into a receive ring for it; the outside's
	uint64_t came_out; // frames of it that came out; the outside's
};

struct recycling {
	struct rig *rig;
	uint32_t lives;       // how many V-nets there are to be
	uint32_t slot[SLOTS]; // number of the V-net that may be sent into, 0: none; the writer's
	bool written;         // the writer has done all its work
	struct life life[LIVES_MAX + 1];
	uint64_t frames_own; // that the writer sent
	uint64_t exceptions; // that the writer took
};

// What came out and what went in, all V-nets together.
struct traffic {
	uint64_t sent, out, out_own, out_icmp;
};

static inline uint32_t
vlan_of(uint32_t number)
{
	return number + 1;
}

static inline uint32_t
vni_of(uint32_t number)
{
	return VNI_BASE + number;
}

static inline void
member_mac(uint8_t *mac, uint32_t number, uint8_t member)
{
	memcpy(mac, (uint8_t[]){2, (uint8_t)(number >> 8), (uint8_t)number, 0, 0, member}, 6);
}

// Where members 3 (step 0) and 4 (step 1) of a V-net are.
static inline uint32_t
remote_of(uint32_t number, uint32_t step)
{
	return (number + step) % REMOTES;
}

static inline void
remote_address(uint8_t *address, uint32_t remote)
{
	memcpy(address, (uint8_t[]){192, 0, 2, (uint8_t)(11 + remote)}, 4);
}

static const uint8_t local_address[4] = {192, 0, 2, 1};
static const uint8_t port_macs[3][6] = {{2, 0, 0, 0, 0, 0xf0}, {2, 0, 0, 0, 0, 0xf1}, {2, 0, 0, 0, 0, 0xf2}};

// What a frame says of itself, behind its UDP header.
#define LABEL_MAGIC 0x1abe1ed0u
#define LABEL_OWN 1 // the writer's, not received
struct label {
	uint32_t magic;
	uint32_t kind;
	uint32_t from, to; // numbers
};

// A frame of member `from_member` of V-net `from`, in its VLAN (0: none, as in a tunnel), to `to_mac`.
static inline size_t
labelled_frame(uint8_t *frame, const struct label *label, uint8_t from_member, const uint8_t *to_mac,
	       const uint8_t *to_address, uint32_t vlan, uint32_t ip_flags, size_t payload_bytes)
{
	uint8_t from_mac[6];
	size_t n;

	member_mac(from_mac, label->from, from_member);
	n = frame_ethernet(frame, to_mac, from_mac, vlan, FRAME_ETHERTYPE_IPV4);
	n += frame_ipv4(frame + n, (uint8_t[]){10, 0, 0, from_member}, to_address, 17, ip_flags,
			8 + payload_bytes);
	n += frame_udp(frame + n, 7000, 7001, payload_bytes);
	memset(frame + n, 0, payload_bytes);
	memcpy(frame + n, label, sizeof(*label));
	return n + payload_bytes;
}

void *tables_main(void *recycling);
void tables_report(const struct recycling *recycling);
// Sends a little and looks at all that has come out.
void traffic_step(struct recycling *recycling, struct traffic *traffic, uint64_t *seed);
void traffic_look(struct recycling *recycling, struct traffic *traffic);
bool traffic_waits(const struct recycling *recycling); // in a receive ring
