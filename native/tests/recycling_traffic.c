// SPDX-License-Identifier: Apache-2.0
//
// The world outside: sends what members send, and judges what comes out by what stands in it.
#include "recycling.h"

#define STEP_FRAMES 16
#define PAYLOAD_BYTES 40
#define DF 0x4000
#define FRAME_MAX 2048

enum kind {
	TO_NEIGHBOR,  // 1 -> 2
	TO_NODE,      // 1 -> 3
	TOO_LONG,     // 1 -> 3, more than the tunnel takes
	TO_REFUSED,   // 1 -> 9
	TO_PEER,      // 1 -> 10.1.x.y, by the gateway
	BY_PORTS,     // 2 -> 1, whose decision wants ports
	FROM_NODE,    // 3 -> 1
	FROM_TO_NODE, // 3 -> 4
	QUESTION,     // 1 asks for 2
	TO_GATEWAY,   // for this gateway itself
	KINDS
};

static size_t frame_make(const struct recycling *r, enum kind kind, uint32_t number, uint32_t slot,
			 uint8_t *frame, uint32_t *port);
static void frame_judge(struct recycling *r, struct traffic *traffic, uint32_t port, const uint8_t *frame,
			size_t len_bytes);
static void label_judge(struct recycling *r, struct traffic *traffic, const uint8_t *ip, size_t len_bytes,
			uint32_t number);

void
traffic_step(struct recycling *r, struct traffic *traffic, uint64_t *seed)
{
	uint8_t frame[FRAME_MAX];

	for (int i = 0; i < STEP_FRAMES; i++) {
		const uint32_t slot = random_below(seed, SLOTS), thread = random_below(seed, RIG_THREADS_MAX);
		const uint32_t number = __atomic_load_n(&r->slot[slot], __ATOMIC_ACQUIRE);
		const enum kind kind = (enum kind)random_below(seed, KINDS);
		uint32_t port;

		if (number == 0)
			continue;
		const size_t len_bytes = frame_make(r, kind, number, slot, frame, &port);
		if (len_bytes == 0 || rig_inject_at(r->rig, port, thread, frame, (uint32_t)len_bytes, 1) != 0)
			continue;
		traffic->sent++;
		if (kind != TO_GATEWAY)
			__atomic_fetch_add(&r->life[number].sent, 1, __ATOMIC_RELAXED);
	}
	traffic_look(r, traffic);
}

bool
traffic_waits(const struct recycling *r)
{
	return rig_waiting(r->rig) != 0;
}

void
traffic_look(struct recycling *r, struct traffic *traffic)
{
	static uint8_t buffer[RIG_FRAME_BYTES];
	uint32_t port, len_bytes;

	while (rig_sent(r->rig, &port, buffer, &len_bytes))
		frame_judge(r, traffic, port, buffer, len_bytes);
}

static size_t
from_tunnel(uint8_t *frame, const struct label *label, const uint8_t *to_mac, const uint8_t *to_address)
{
	const size_t inner_bytes = 14 + 20 + 8 + PAYLOAD_BYTES;
	uint8_t remote[4];
	size_t n = frame_ethernet(frame, port_macs[PORT_UNDERLAY], (uint8_t[]){2, 0, 0, 0, 0, 0xe1}, 0,
				  FRAME_ETHERTYPE_IPV4);

	remote_address(remote, remote_of(label->from, 0));
	n += frame_ipv4(frame + n, remote, local_address, 17, DF, 8 + 8 + inner_bytes);
	n += frame_udp(frame + n, 50000, FRAME_VXLAN_PORT, 8 + inner_bytes);
	n += frame_vxlan(frame + n, vni_of(label->from));
	return n + labelled_frame(frame + n, label, 3, to_mac, to_address, 0, 0, PAYLOAD_BYTES);
}

static size_t
question(uint8_t *frame, uint32_t number, uint32_t vlan)
{
	const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint8_t mac[6];

	member_mac(mac, number, 1);
	memset(frame, 0, 64);
	const size_t n = frame_ethernet(frame, everybody, mac, vlan, FRAME_ETHERTYPE_ARP);
	frame_arp_request(frame + n, mac, (uint8_t[]){10, 0, 0, 1}, (uint8_t[]){10, 0, 0, 2});
	return 64;
}

static size_t
frame_make(const struct recycling *r, enum kind kind, uint32_t number, uint32_t slot, uint8_t *frame,
	   uint32_t *port)
{
	struct label label = {.magic = LABEL_MAGIC, .from = number, .to = number};
	const uint32_t vlan = vlan_of(number);
	uint8_t address[4] = {10, 0, 0, 0}, mac[6];

	*port = kind == BY_PORTS ? 1 : kind >= FROM_NODE && kind != QUESTION ? PORT_UNDERLAY : 0;
	switch (kind) {
	case QUESTION:
		return question(frame, number, vlan);
	case TO_GATEWAY:
		return question(frame, number, 0);
	case TO_PEER:
		label.to = __atomic_load_n(&r->slot[slot ^ 1], __ATOMIC_ACQUIRE);
		if (label.to == 0)
			return 0;
		member_mac(mac, number, GATEWAY);
		memcpy(address, (uint8_t[]){10, 1, (uint8_t)(label.to >> 8), (uint8_t)label.to}, 4);
		return labelled_frame(frame, &label, 1, mac, address, vlan, 0, PAYLOAD_BYTES);
	default:
		break;
	}
	address[3] = kind == TO_NEIGHBOR                     ? 2
		     : kind == TO_NODE || kind == TOO_LONG   ? 3
		     : kind == BY_PORTS || kind == FROM_NODE ? 1
		     : kind == FROM_TO_NODE                  ? 4
							     : MEMBER_REFUSED;
	member_mac(mac, number, address[3]);
	if (kind == FROM_NODE || kind == FROM_TO_NODE)
		return from_tunnel(frame, &label, mac, address);
	return labelled_frame(frame, &label, kind == BY_PORTS ? 2 : 1, mac, address, vlan,
			      kind == TOO_LONG ? DF : 0, kind == TOO_LONG ? 1440 : PAYLOAD_BYTES);
}

// The VLAN, or the number in the tunnel, says whose it is by now: its own marks must say the same.
static void
frame_judge(struct recycling *r, struct traffic *traffic, uint32_t port, const uint8_t *frame,
	    size_t len_bytes)
{
	uint32_t number, ethertype;
	size_t at = 18;

	if (port == PORT_UNDERLAY) {
		const uint8_t *ip = frame + 14;
		assert(len_bytes > 50 + 14 && frame_get16(frame + 12) == FRAME_ETHERTYPE_IPV4);
		assert(frame_sum(ip, 20) == 0 && frame_get16(ip + 2) == len_bytes - 14);
		number = ((uint32_t)frame[46] << 16 | frame_get16(frame + 47)) - VNI_BASE;
		const uint32_t remote = ip[19] - 11u;
		assert(remote == remote_of(number, 0) || remote == remote_of(number, 1));
		assert(frame[0] == 2 && frame[1] == 0xee && frame[2] == remote); // by a next hop of its own
		frame += 50;
		len_bytes -= 50;
		at = 14;
	} else {
		assert(len_bytes >= 18 + 28 && frame_get16(frame + 12) == 0x8100);
		number = frame_get16(frame + 14) - 1;
	}
	assert(number >= 1 && number <= r->lives);
	assert(frame_get16(frame + 1) == number);
	ethertype = frame_get16(frame + at - 2);
	if (ethertype == FRAME_ETHERTYPE_ARP) {
		assert(frame_get16(frame + at + 9) == number && frame[at + 13] == 2); // its own member's MAC
		traffic->out++;
		__atomic_fetch_add(&r->life[number].came_out, 1, __ATOMIC_RELEASE);
		return;
	}
	assert(ethertype == FRAME_ETHERTYPE_IPV4 && frame_sum(frame + at, 20) == 0);
	label_judge(r, traffic, frame + at, len_bytes - at, number);
}

static void
label_judge(struct recycling *r, struct traffic *traffic, const uint8_t *ip, size_t len_bytes,
	    uint32_t number)
{
	struct label label = {.from = number, .to = number};

	if (ip[9] == 1) { // about a frame of this V-net, and so in its MACs
		traffic->out_icmp++;
	} else {
		assert(len_bytes >= 28 + sizeof(label));
		memcpy(&label, ip + 28, sizeof(label));
		assert(label.magic == LABEL_MAGIC && label.to == number);
		assert(label.from >= 1 && label.from <= r->lives);
		if (label.kind == LABEL_OWN)
			traffic->out_own++;
		else
			traffic->out++;
	}
	__atomic_fetch_add(&r->life[label.from].came_out, 1, __ATOMIC_RELEASE);
}
