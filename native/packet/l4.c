// SPDX-License-Identifier: Apache-2.0
//
// What stands behind an IP header, of whichever family: the ports that tell connections apart.
#include "l3.h"

#define SCTP_BYTES 12

uint32_t
l4_parse(struct packet *p, const uint8_t *l4, uint32_t len)
{
	switch (p->protocol) {
	case PROTOCOL_TCP:
		if (unlikely(len < TCP_BYTES))
			return FP_DROP_l4_truncated;
		break;
	case PROTOCOL_SCTP:
		if (unlikely(len < SCTP_BYTES))
			return FP_DROP_l4_truncated;
		break;
	case PROTOCOL_UDP:
	case PROTOCOL_UDPLITE:
		if (unlikely(len < UDP_BYTES))
			return FP_DROP_l4_truncated;
		break;
	case PROTOCOL_ICMP:
		if (unlikely(len < ICMP_BYTES))
			return FP_DROP_l4_truncated;
		p->source_port = be16(l4[0]);
		p->destination_port = be16(l4[1]);
		return 0;
	default:
		return 0;
	}
	p->source_port = load16(l4);
	p->destination_port = load16(l4 + 2);
	if (likely(!(p->flags & PACKET_FRAGMENT)))
		p->flags |= PACKET_PORTS;
	return 0;
}
