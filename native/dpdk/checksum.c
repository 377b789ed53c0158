// SPDX-License-Identifier: Apache-2.0
//
// Checksums that a local kernel left partial (af_packet does not say which): the field of TCP or
// UDP then holds the folded sum of the pseudo-header. Completing one that was whole and equal to
// that sum by chance gives the same value again, so nothing can be spoiled.
#include "thread.h"

static uint64_t
sum_bytes(const uint8_t *p, uint32_t len)
{
	uint64_t sum = checksum_sum32(p, len & ~3u);

	p += len & ~3u;
	len &= 3;
	if (len >= 2) {
		sum += load16(p);
		p += 2;
	}
	if (len & 1)
		sum += be16((uint16_t)(*p << 8));
	return sum;
}

// ip: an IPv4 packet of len bytes, header and L4 header checked, not a fragment.
void
checksum_complete(uint8_t *ip, uint32_t len)
{
	uint32_t header_bytes = (ip[0] & 15) * 4u, l4_bytes = len - header_bytes;
	uint8_t *l4 = ip + header_bytes, *field;
	uint64_t pseudo;
	uint16_t sum;

	if (ip[9] == PROTOCOL_TCP && l4_bytes >= 20)
		field = l4 + 16;
	else if (ip[9] == PROTOCOL_UDP && l4_bytes >= UDP_BYTES)
		field = l4 + 6;
	else
		return;
	pseudo = checksum_sum32(ip + 12, 8) + be16(ip[9]) + be16((uint16_t)l4_bytes);
	if (load16(field) != checksum_fold(pseudo))
		return;
	sum = (uint16_t)~checksum_fold(sum_bytes(l4, l4_bytes));
	if (sum == 0 && ip[9] == PROTOCOL_UDP)
		sum = 0xffff; // 0 would say "none" (RFC 768)
	store16(field, sum);
}
