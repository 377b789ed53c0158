// SPDX-License-Identifier: Apache-2.0
//
// The outer header of a tunnel, ready to copy: IPv4 and what its kind puts behind it (wire/). What differs from
// packet to packet is patched by who sends.
#include "../wire/tunnel_kind.h"
#include "install_internal.h"

void
fp_header_build(struct fp_header *header, const struct fp_tunnel_info *info)
{
	const struct tunnel_kind *kind = tunnel_kind(info->protocol);
	*header = (struct fp_header){
		.len_bytes = (uint8_t)(IPV4_BYTES + kind->bytes),
		.protocol = info->protocol,
		.dscp_copy = info->dscp_copy,
	};
	ipv4_write(header->bytes, info->dscp << 2, 0, info->ttl, kind->ip_protocol, load32(info->local + 12),
		   load32(info->remote + 12));
	store16(header->bytes + IPV4_CHECKSUM, 0);
	tunnel_write(info->protocol, header->bytes + IPV4_BYTES, info);
	header->checksum_base = ipv4_outer_base(header->bytes);
}
