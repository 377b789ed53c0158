// SPDX-License-Identifier: Apache-2.0
#include "fp_packet_pool.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>

struct rte_mempool *
fp_packet_pool_create(const char *name, uint32_t buffers, uint32_t cache, uint16_t room_bytes)
{
	struct rte_pktmbuf_pool_private room = {.mbuf_data_room_size = room_bytes};
	struct rte_mempool *pool;
	int rc;

	if (rte_eal_has_hugepages())
		return rte_pktmbuf_pool_create(name, buffers, cache, 0, room_bytes, SOCKET_ID_ANY);
	pool = rte_mempool_create_empty(name, buffers, sizeof(struct rte_mbuf) + room_bytes, cache,
					sizeof(room), SOCKET_ID_ANY, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	if (pool == NULL)
		return NULL;
	rc = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (rc == 0) {
		rte_pktmbuf_pool_init(pool, &room);
		rc = rte_mempool_populate_default(pool);
	}
	if (rc < 0) {
		rte_mempool_free(pool);
		rte_errno = -rc;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}
