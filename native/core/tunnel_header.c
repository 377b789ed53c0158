// SPDX-License-Identifier: Apache-2.0
//
// The outer header of a tunnel, ready to copy: IPv4 (RFC 791), UDP, VXLAN (RFC 7348 section 5). What differs
// from packet to packet is left zero: total and UDP length, IPv4 checksum, source port, VNI.
#include "install_internal.h"

#define IPV4_BYTES 20
#define UDP_BYTES 8
#define VXLAN_BYTES 8
#define UDP_PROTOCOL 17
#define DONT_FRAGMENT 0x40
#define VXLAN_FLAG_VNI 0x08

static uint16_t checksum_base(const uint8_t *ipv4);

void
fp_header_build(struct fp_header *header, const struct fp_tunnel_info *info)
{
	*header = (struct fp_header){
		.len_bytes = IPV4_BYTES + UDP_BYTES + VXLAN_BYTES,
		.protocol = FP_PROTOCOL_VXLAN,
		.dscp_copy = info->dscp_copy,
	};
	uint8_t *ipv4 = header->bytes, *udp = ipv4 + IPV4_BYTES, *vxlan = udp + UDP_BYTES;
	ipv4[0] = 0x45;
	ipv4[1] = (uint8_t)(info->dscp << 2);
	ipv4[6] = DONT_FRAGMENT; // id 0: RFC 6864 section 4.1
	ipv4[8] = info->ttl;
	ipv4[9] = UDP_PROTOCOL;
	memcpy(ipv4 + 12, info->local + 12, 4);
	memcpy(ipv4 + 16, info->remote + 12, 4);
	udp[2] = (uint8_t)(info->udp_port >> 8);
	udp[3] = (uint8_t)info->udp_port;
	vxlan[0] = VXLAN_FLAG_VNI;
	header->checksum_base = checksum_base(ipv4);
}

// RFC 1071 section 2(B): the words are summed as they lie in memory, in whichever order.
static uint16_t
checksum_base(const uint8_t *ipv4)
{
	uint8_t fixed[IPV4_BYTES];
	uint32_t sum = 0;
	memcpy(fixed, ipv4, sizeof(fixed));
	fixed[1] = 0; // type of service
	for (size_t i = 0; i < sizeof(fixed); i += 2) {
		uint16_t word;
		memcpy(&word, fixed + i, sizeof(word));
		if (i != 2 && i != 10) // total length, checksum
			sum += word;
	}
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}
