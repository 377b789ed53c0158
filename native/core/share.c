// SPDX-License-Identifier: Apache-2.0
//
// Tables that several workers fill. Each may have so many entries for each one that is free, and whoever has some
// never takes the last: one that wants everything leaves room for the others. With one worker there is nothing to
// share. V-nets and ingresses are counted with the worker that has the V-net, tunnels and sets of tunnels with the one
// that told them first; adopted tunnels and sets are nobody's. Locations are shared by V-net (location_table.c).
#include "install_internal.h"

#define SHARE_OF_FREE 8 // alone a worker gets eight ninths of a table

static const enum fp_pool shared[] = {FP_POOL_VNET, FP_POOL_INGRESS, FP_POOL_TUNNEL, FP_POOL_TUNNEL_SET};

static bool is_shared(const struct fp_installer *in);

int
fp_share_init(struct fp_installer *in)
{
	for (size_t i = 0; i < sizeof(shared) / sizeof(*shared); i++) {
		struct fp_index_pool *pool = &in->arena->pool[shared[i]];
		const int rc = pool->owner ? 0 : fp_index_owners_init(pool);
		if (rc != 0)
			return rc;
	}
	return 0;
}

void
fp_share_open(struct fp_installer *in)
{
	struct fp_index_pool *vnets = &in->arena->pool[FP_POOL_VNET];
	struct fp_index_pool *ingresses = &in->arena->pool[FP_POOL_INGRESS];
	if (!is_shared(in))
		return;
	for (uint32_t i = 1; i <= vnets->capacity; i++)
		if (fp_index_live(vnets, i))
			fp_index_own(vnets, i, (uint8_t)(1 + fp_worker_of(in, in->arena->view.vnet[i].vni)));
	for (uint32_t i = 1; i <= ingresses->capacity; i++)
		if (fp_index_live(ingresses, i))
			fp_index_own(ingresses, i,
				     (uint8_t)(1 + fp_worker_of(in, in->arena->view.ingress[i].vni)));
	fp_locators_share(in);
}

bool
fp_share_allows(const struct fp_installer *in, uint32_t own, uint32_t free)
{
	return !is_shared(in) || own == 0 || (free && own <= (uint64_t)(free - 1) * SHARE_OF_FREE);
}

int
fp_take(struct fp_installer *in, enum fp_pool which, uint32_t *index)
{
	struct fp_index_pool *pool = &in->arena->pool[which];
	const uint8_t owner = is_shared(in) && in->client < FP_CLIENT_WORKERS ? (uint8_t)(1 + in->client) : 0;
	const uint32_t free = fp_index_free(pool);
	if (pool->owner && free && !fp_share_allows(in, owner ? pool->owned[owner] : 0, free))
		return FP_REFUSED_QUOTA;
	int rc = fp_index_take(pool, index);
	if (rc == -ENOSPC && pool->dead && fp_closings_pending(in->arena->view.closings))
		return -EAGAIN; // flows that are being closed hold some
	if (rc == 0)
		fp_index_own(pool, *index, owner);
	return rc == -ENOSPC ? FP_REFUSED_NO_ROOM : rc;
}

static bool
is_shared(const struct fp_installer *in)
{
	return in->workers > 1 && in->workers <= FP_CLIENT_WORKERS;
}
