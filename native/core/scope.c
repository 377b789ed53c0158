// SPDX-License-Identifier: Apache-2.0
#include "scope.h"

#include <string.h>

static bool prefix_valid(const uint8_t *prefix, uint32_t bits);
static bool prefix_covers(const uint8_t *prefix, uint32_t bits, const uint8_t *address);
static bool addresses_covered(const struct fp_scope *scope, const struct fp_flow_key *key,
			      const uint8_t *first, const uint8_t *second);

bool
fp_scope_valid(const struct fp_scope *scope)
{
	return prefix_valid(scope->source, scope->source_bits) &&
	       prefix_valid(scope->destination, scope->destination_bits) &&
	       !(scope->flags & ~FP_SCOPE_FLAGS) && scope->port_low <= scope->port_high;
}

bool
fp_scope_covers(const struct fp_scope *scope, const struct fp_flow_key *key)
{
	if (scope->flags & FP_SCOPE_JUDGED && key->key_class == FP_CLASS_NEIGHBOR)
		return false;
	if (scope->flags & FP_SCOPE_IP && key->key_class != FP_CLASS_ROUTED &&
	    key->key_class != FP_CLASS_BRIDGED)
		return false;
	if (key->flags & FP_KEY_CONNECTION) {
		bool source = scope->flags & FP_SCOPE_SOURCE_PORT;
		uint16_t port = __builtin_bswap16(source ? key->source_port : key->destination_port);
		if (scope->protocol && scope->protocol != key->protocol)
			return false;
		if (port < scope->port_low || port > scope->port_high)
			return false;
	} else if (scope->flags & FP_SCOPE_CONNECTIONS) {
		return false;
	}
	return addresses_covered(scope, key, scope->source, scope->destination) ||
	       (scope->flags & FP_SCOPE_EITHER &&
		addresses_covered(scope, key, scope->destination, scope->source));
}

// The prefixes in the order in which the key's addresses are compared with them.
static bool
addresses_covered(const struct fp_scope *scope, const struct fp_flow_key *key, const uint8_t *first,
		  const uint8_t *second)
{
	static const uint8_t zero[FP_ADDRESS_BYTES];
	bool swapped = first != scope->source;
	uint32_t first_bits = swapped ? scope->destination_bits : scope->source_bits;
	uint32_t second_bits = swapped ? scope->source_bits : scope->destination_bits;
	if (!prefix_covers(second, second_bits, key->destination))
		return false;
	// No source (granularity destination, an ARP probe): it may be anybody's.
	return prefix_covers(first, first_bits, key->source) || memcmp(key->source, zero, sizeof(zero)) == 0;
}

static bool
prefix_covers(const uint8_t *prefix, uint32_t bits, const uint8_t *address)
{
	uint32_t bytes = bits / 8, rest = bits % 8;
	if (memcmp(prefix, address, bytes) != 0)
		return false;
	return rest == 0 || ((prefix[bytes] ^ address[bytes]) >> (8 - rest)) == 0;
}

static bool
prefix_valid(const uint8_t *prefix, uint32_t bits)
{
	if (bits > 8 * FP_ADDRESS_BYTES)
		return false;
	for (uint32_t i = bits; i < 8 * FP_ADDRESS_BYTES; i++)
		if (prefix[i / 8] & (0x80 >> i % 8))
			return false;
	return true;
}
