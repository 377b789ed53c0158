// SPDX-License-Identifier: Apache-2.0
//
// What tunnel_table.c and tunnel_nexthop.c share. The writer.
#pragma once

#include "install_internal.h"

#define MTU_BYTES_MIN 576 // of a tunnel, of a route

static inline fp_tunnel_word *
fp_tunnel_word_at(const struct fp_installer *in, uint32_t index)
{
	return &in->arena->view.tunnel[index];
}

// tunnel_table.c
void fp_tunnel_word_store(struct fp_installer *in, uint32_t index, uint32_t header, uint32_t nexthops);
// To control, which finds next hops, or to a worker.
void fp_tunnel_announce(struct fp_installer *in, uint8_t client, uint32_t index, uint16_t type,
			uint8_t flags);

// tunnel_nexthop.c. Tunnels are listed by their two addresses.
void fp_tunnel_path_add(struct fp_installer *in, uint32_t index);
void fp_tunnel_path_remove(struct fp_installer *in, uint32_t index);
// Another tunnel between the same addresses that has a next hop; 0: none.
uint32_t fp_tunnel_sibling(const struct fp_installer *in, uint32_t index);
int fp_nexthops_take(struct fp_installer *in, const struct fp_nexthop_group *group, uint32_t *index);
