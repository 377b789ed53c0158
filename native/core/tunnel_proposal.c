// SPDX-License-Identifier: Apache-2.0
//
// No worker changes a tunnel that others name: what it says of it waits until each of them has said the same. One that
// has not said yet, since it began anew, which tunnels it names may name any. One proposal a tunnel: another one takes
// its place, so a worker that others do not agree with can hold a change up, and make none.
#include "tunnel_internal.h"

// Who names it, or may.
static uint16_t
namers(const struct fp_installer *in, uint32_t index)
{
	const uint16_t all = (uint16_t)((1u << in->workers) - 1);
	return in->tunnel_workers[index] | (uint16_t)(all & ~in->workers_whole);
}

static bool
is_same(const struct fp_tunnel_info *one, const struct fp_tunnel_info *other)
{
	return one->node_id == other->node_id && one->udp_port == other->udp_port &&
	       one->mtu_bytes == other->mtu_bytes && one->ttl == other->ttl && one->dscp == other->dscp &&
	       one->dscp_copy == other->dscp_copy;
}

int
fp_tunnel_propose(struct fp_installer *in, uint32_t index, const struct fp_tunnel_info *info)
{
	struct fp_tunnel_proposal *proposal = &in->tunnel_proposal[index];
	const uint16_t own = fp_own_bit(in);
	if ((namers(in, index) & ~own) == 0) {
		proposal->workers = 0;
		return fp_tunnel_change(in, index, info);
	}
	const bool same_store = proposal->info.incarnation == info->incarnation;
	if (proposal->workers & own && same_store && info->revision < proposal->info.revision)
		return FP_REFUSED_LATE;
	if (is_same(&in->arena->view.tunnel_info[index], info)) {
		proposal->workers &= (uint16_t)~own; // its revision is not taken: it would make others late
		return 0;
	}
	if (proposal->workers == 0 || !same_store || !is_same(&proposal->info, info)) {
		*proposal = (struct fp_tunnel_proposal){.info = *info, .workers = own};
	} else {
		proposal->workers |= own;
		if (info->revision < proposal->info.revision)
			proposal->info.revision = info->revision;
	}
	return fp_tunnel_weigh(in, index);
}

// What is proposed is in force once all have said it.
int
fp_tunnel_weigh(struct fp_installer *in, uint32_t index)
{
	struct fp_tunnel_proposal *proposal = &in->tunnel_proposal[index];
	if (proposal->workers == 0 || namers(in, index) & ~proposal->workers)
		return 0;
	const int rc = fp_tunnel_change(in, index, &proposal->info);
	if (rc == 0)
		proposal->workers = 0;
	return rc;
}
