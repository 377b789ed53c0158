// SPDX-License-Identifier: Apache-2.0
//
// What tunnel_table.c, tunnel_proposal.c and tunnel_nexthop.c share. The writer.
#pragma once

#include "install_internal.h"

#define MTU_BYTES_MIN 576 // of a tunnel, of a route

static inline fp_tunnel_word *
fp_tunnel_word_at(const struct fp_installer *in, uint32_t index)
{
	return &in->arena->view.tunnel[index];
}

// The client's bit in tunnel_workers; control names nothing.
static inline uint16_t
fp_own_bit(const struct fp_installer *in)
{
	return in->client < FP_CLIENT_WORKERS ? (uint16_t)(1u << in->client) : 0;
}

// tunnel_proposal.c. What a worker says of a tunnel that is there: at once if it is its own alone.
int fp_tunnel_propose(struct fp_installer *in, uint32_t index, const struct fp_tunnel_info *info);
// What is proposed is in force once all who name it have said so. 0 or -EAGAIN.
int fp_tunnel_weigh(struct fp_installer *in, uint32_t index);

// tunnel_table.c
int fp_tunnel_change(struct fp_installer *in, uint32_t index, const struct fp_tunnel_info *info);
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
