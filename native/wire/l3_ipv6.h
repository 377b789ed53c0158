// SPDX-License-Identifier: Apache-2.0
//
// As much of an IPv6 header (RFC 8200 section 3) as tells what of the kernel's goes first. Any thread.
#pragma once

#include "wire.h"

#define IPV6_BYTES 40

enum { IPV6_NEXT_HEADER = 6 };

static inline uint8_t
ipv6_next_header(const uint8_t *ip)
{
	return ip[IPV6_NEXT_HEADER];
}
