// SPDX-License-Identifier: Apache-2.0
//
// Well-formed inputs: a port's number, and a frame for it, plain or out of a tunnel.
#include <stdbool.h>

#include "frames.h"
#include "pipeline_driver.h"

#define ROOM_BYTES 2000

static size_t
ethernet(uint8_t *p, uint8_t to, uint8_t from, uint32_t ethertype)
{
	return frame_ethernet(p, (uint8_t[]){2, 0, 0, 0, 0, to}, (uint8_t[]){2, 0, 0, 0, 0, from}, 0,
			      ethertype);
}

static size_t
l4_bytes(uint8_t protocol)
{
	return protocol == 6 ? 20 : 8;
}

static size_t
ipv4(uint8_t *p, const uint8_t *addresses, uint8_t protocol, uint32_t flags, uint32_t port,
     size_t payload_bytes)
{
	const size_t bytes = l4_bytes(protocol) + payload_bytes;
	uint8_t *l4 = p + frame_ipv4(p, addresses, addresses + 4, protocol, flags, bytes);

	memset(l4, 0, l4_bytes(protocol));
	l4[0] = 200;
	frame_put16(l4 + 2, port);
	if (protocol == 17)
		frame_put16(l4 + 4, (uint32_t)bytes);
	return (size_t)(l4 - p) + l4_bytes(protocol);
}

size_t
pipeline_driver_seed(uint32_t i, uint8_t *data, size_t room)
{
	static const struct {
		uint8_t port, to, source, destination, protocol;
		uint16_t flags, payload;
		bool tunnel, arp, snap;
	} seeds[] = {
		{0, 2, 1, 2, 17, 0, 10, false, false, false},
		{0, 0xaa, 1, 2, 6, 0, 100, false, false, false},
		{0, 2, 1, 2, 17, 0x4000, 1450, false, false, false},
		{0, 2, 1, 3, 17, 0, 10, false, false, false},
		{0, 2, 1, 4, 17, 0x2000, 64, false, false, false},
		{0, 2, 1, 4, 17, 0x0009, 64, false, false, false},
		{0, 2, 1, 5, 1, 0, 10, false, false, false},
		{0, 2, 1, 9, 17, 0, 10, false, false, false},
		{0, 0xff, 1, 2, 0, 0, 0, false, true, false},
		{1, 1, 2, 1, 17, 0, 30, true, false, false},
		{1, 1, 2, 3, 6, 0x4000, 1300, true, false, false},
		{1, 1, 2, 1, 0, 0, 0, true, true, false},
		{1, 1, 2, 9, 1, 0, 30, true, false, false},
		{2, 1, 2, 1, 17, 0, 30, true, false, false},
		{0, 2, 1, 2, 17, 0, 10, false, false, true},
		{1, 1, 2, 1, 17, 0, 30, true, false, true},
	};
	const uint8_t outer[8] = {192, 0, 2, 2, 192, 0, 2, 1};
	uint8_t *p = data, *inner;
	size_t inner_bytes;

	if (i >= sizeof(seeds) / sizeof(seeds[0]) || room < ROOM_BYTES)
		return 0;
	memset(data, 0, ROOM_BYTES);
	const uint8_t addresses[8] = {10, 0, 0, seeds[i].source, 10, 0, 0, seeds[i].destination};
	const uint8_t mac[6] = {2, 0, 0, 0, 0, seeds[i].source};
	*p++ = seeds[i].port;
	inner_bytes = 14 + (seeds[i].snap ? 8u : 0u) +
		      (seeds[i].arp ? 28u : 20u + l4_bytes(seeds[i].protocol) + seeds[i].payload);
	if (seeds[i].tunnel) {
		p += ethernet(p, 0xf0 + seeds[i].port, 0xe1, FRAME_ETHERTYPE_IPV4);
		p += ipv4(p, outer, 17, 0x4000, FRAME_VXLAN_PORT, 8 + inner_bytes);
		p += frame_vxlan(p, 100);
	}
	inner = p;
	p += ethernet(p, seeds[i].to, seeds[i].source,
		      seeds[i].snap  ? (uint32_t)(inner_bytes - 14)
		      : seeds[i].arp ? FRAME_ETHERTYPE_ARP
				     : FRAME_ETHERTYPE_IPV4);
	if (seeds[i].snap) {
		memcpy(p, "\xaa\xaa\x03\0\0\0\x08\x00", 8);
		p += 8;
	}
	if (seeds[i].arp)
		frame_arp_request(p, mac, addresses, addresses + 4);
	else
		ipv4(p, addresses, seeds[i].protocol, seeds[i].flags, 53, seeds[i].payload);
	return (size_t)(inner - data) + inner_bytes;
}
