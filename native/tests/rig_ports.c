// SPDX-License-Identifier: Apache-2.0
//
// The rig's ports and buffers. A rig that is to run has them in code that is compiled with it: a thread sanitizer
// does not see through DPDK's drivers, and would miss that what one thread put into a ring another took out of it.
#include "rig_internal.h"

#include "fp_packet_pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_bus_vdev.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf_pool_ops.h>

#define RIG_MBUF_BYTES (RTE_PKTMBUF_HEADROOM + 2048)
#define RIG_POOL_OPS "rig_stack"

static int device_make(struct rig *rig, uint32_t i);
static void device_take_over(struct rig *rig, uint32_t i);
static void ring_free(struct rte_ring *ring);

int
rig_pool_make(struct rig *rig)
{
	char name[32];

	if (rig->config.runs && rte_mbuf_set_user_mempool_ops(RIG_POOL_OPS) != 0)
		return -EINVAL;
	snprintf(name, sizeof(name), "rig%u", rig->number);
	rig->mempool = fp_packet_pool_create(name, rig->config.mbufs, rig->config.mbuf_cache, RIG_MBUF_BYTES);
	return rig->mempool != NULL ? 0 : -ENOMEM;
}

int
rig_port_make(struct rig *rig, uint32_t i)
{
	const struct rig_port *config = &rig->config.port[i];
	const uint16_t queues = (uint16_t)rig->config.threads;
	struct fp_port *port = &rig->port[i];
	struct rte_eth_conf conf = {0};
	int rc;

	snprintf(port->name, sizeof(port->name), "port%u", i);
	port->index = (uint16_t)i;
	port->role = config->role;
	port->up = 1;
	port->partial_checksums = config->partial_checksums;
	port->mtu_bytes = config->mtu_bytes;
	port->rx_queues = port->tx_queues = queues;
	port->exception_fd = -1;
	memcpy(port->mac.addr_bytes, config->mac, sizeof(config->mac));
	rc = device_make(rig, i);
	if (rc != 0)
		return rc;
	port->live = 1;
	rc = rte_eth_dev_configure(port->dpdk_port, queues, queues, &conf);
	for (uint16_t q = 0; q < queues && rc == 0; q++) {
		rc = rte_eth_rx_queue_setup(port->dpdk_port, q, 512, SOCKET_ID_ANY, NULL, rig->mempool);
		if (rc == 0)
			rc = rte_eth_tx_queue_setup(port->dpdk_port, q, 512, SOCKET_ID_ANY, NULL);
	}
	if (rc == 0)
		rc = rte_eth_dev_start(port->dpdk_port);
	if (rc == 0 && rig->config.runs)
		device_take_over(rig, i);
	return rc;
}

void
rig_port_free(struct rig *rig, uint32_t i)
{
	if (rig->port[i].live) {
		rte_eth_dev_stop(rig->port[i].dpdk_port);
		rte_eth_dev_close(rig->port[i].dpdk_port);
		rte_vdev_uninit(rig->device[i]);
	}
	for (uint32_t q = 0; q < rig->config.threads; q++) {
		ring_free(rig->rx[i][q]);
		ring_free(rig->tx[i][q]);
	}
}

int
rig_inject(struct rig *rig, uint32_t port, const uint8_t *frame, uint32_t len_bytes, uint32_t segments)
{
	return rig_inject_at(rig, port, 0, frame, len_bytes, segments);
}

int
rig_inject_at(struct rig *rig, uint32_t port, uint32_t thread, const uint8_t *frame, uint32_t len_bytes,
	      uint32_t segments)
{
	struct rte_mbuf *head = NULL, *mbuf;
	uint32_t part = (len_bytes + segments - 1) / segments, done = 0, n;
	char *data;

	do {
		n = RTE_MIN(part, len_bytes - done);
		mbuf = rte_pktmbuf_alloc(rig->mempool);
		data = mbuf != NULL ? rte_pktmbuf_append(mbuf, (uint16_t)n) : NULL;
		if (data == NULL) {
			rte_pktmbuf_free(mbuf);
			rte_pktmbuf_free(head);
			return -ENOBUFS;
		}
		memcpy(data, frame + done, n);
		done += n;
		if (head == NULL)
			head = mbuf;
		else
			rte_pktmbuf_chain(head, mbuf);
	} while (done < len_bytes);
	if (rte_ring_enqueue(rig->rx[port][thread], head) != 0) {
		rte_pktmbuf_free(head);
		return -ENOSPC;
	}
	return 0;
}

uint32_t
rig_waiting(const struct rig *rig)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < rig->config.ports; i++)
		for (uint32_t q = 0; q < rig->config.threads; q++)
			n += __atomic_load_n(&rig->rx[i][q]->prod.tail, __ATOMIC_RELAXED) -
			     __atomic_load_n(&rig->rx[i][q]->cons.tail, __ATOMIC_RELAXED);
	return n;
}

static bool
copy_out(struct rte_mbuf *mbuf, uint8_t *buffer, uint32_t *len_bytes)
{
	const void *data = rte_pktmbuf_read(mbuf, 0, mbuf->pkt_len, buffer);

	*len_bytes = mbuf->pkt_len;
	if (data != buffer)
		memcpy(buffer, data, mbuf->pkt_len);
	rte_pktmbuf_free(mbuf);
	return true;
}

bool
rig_sent(struct rig *rig, uint32_t *port, uint8_t *buffer, uint32_t *len_bytes)
{
	struct rte_mbuf *mbuf;

	for (uint32_t i = 0; i < rig->config.ports; i++)
		for (uint32_t q = 0; q < rig->config.threads; q++) {
			if (rig->tx[i][q] == NULL || rte_ring_dequeue(rig->tx[i][q], (void **)&mbuf) != 0)
				continue;
			*port = i;
			return copy_out(mbuf, buffer, len_bytes);
		}
	return false;
}

bool
rig_exception(struct rig *rig, uint32_t *port, uint8_t *buffer, uint32_t *len_bytes)
{
	struct rte_mbuf *mbuf;

	for (uint32_t i = 0; i < rig->config.threads; i++) {
		if (fp_thread_exceptions(rig->thread[i], &mbuf, 1) == 0)
			continue;
		*port = mbuf->port;
		return copy_out(mbuf, buffer, len_bytes);
	}
	return false;
}

static int
device_make(struct rig *rig, uint32_t i)
{
	const uint32_t queues = rig->config.threads;
	struct fp_port *port = &rig->port[i];
	char name[32];
	int rc;

	for (uint32_t q = 0; q < queues; q++) {
		snprintf(name, sizeof(name), "rig%u-rx%u-%u", rig->number, i, q);
		rig->rx[i][q] = rte_ring_create(name, rig->config.ring_slots, SOCKET_ID_ANY,
						RING_F_SP_ENQ | RING_F_SC_DEQ);
		if (rig->rx[i][q] == NULL)
			return -ENOMEM;
	}
	if (rig->config.null_ports) {
		snprintf(rig->device[i], sizeof(rig->device[i]), "net_null%u",
			 rig->number * RIG_PORTS_MAX + i);
		if (rte_vdev_init(rig->device[i], "no-rx=1") != 0 ||
		    rte_eth_dev_get_port_by_name(rig->device[i], &port->dpdk_port) != 0)
			return -ENODEV;
		return 0;
	}
	for (uint32_t q = 0; q < queues; q++) {
		snprintf(name, sizeof(name), "rig%u-tx%u-%u", rig->number, i, q);
		rig->tx[i][q] = rte_ring_create(name, rig->config.ring_slots, SOCKET_ID_ANY,
						RING_F_SP_ENQ | RING_F_SC_DEQ);
		if (rig->tx[i][q] == NULL)
			return -ENOMEM;
	}
	snprintf(name, sizeof(name), "rig%u-%u", rig->number, i);
	snprintf(rig->device[i], sizeof(rig->device[i]), "net_ring_%s", name);
	rc = rte_eth_from_rings(name, rig->rx[i], queues, rig->tx[i], queues, 0);
	if (rc < 0)
		return -ENODEV;
	port->dpdk_port = (uint16_t)rc;
	return 0;
}

static void
ring_free(struct rte_ring *ring)
{
	struct rte_mbuf *mbuf;

	while (ring != NULL && rte_ring_dequeue(ring, (void **)&mbuf) == 0)
		rte_pktmbuf_free(mbuf);
	rte_ring_free(ring);
}

// ---- what a thread sanitizer sees through ----------------------------------------------------------------

static uint16_t
ring_receive(void *queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return (uint16_t)rte_ring_sc_dequeue_burst(queue, (void **)mbufs, n, NULL);
}

static uint16_t
ring_send(void *queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return (uint16_t)rte_ring_sp_enqueue_burst(queue, (void **)mbufs, n, NULL);
}

// What net_ring does, but here: the queues are the rings themselves.
static void
device_take_over(struct rig *rig, uint32_t i)
{
	struct rte_eth_fp_ops *ops = &rte_eth_fp_ops[rig->port[i].dpdk_port];

	ops->rxq.data = (void **)rig->rx[i];
	ops->txq.data = (void **)rig->tx[i];
	ops->rx_pkt_burst = ring_receive;
	ops->tx_pkt_burst = ring_send;
}

// Free buffers, the last one first. What DPDK's own pools do, but for the order that a thread sanitizer wants to see.
struct pool_stack {
	pthread_mutex_t lock;
	unsigned int n;
	void *buffer[];
};

static int
pool_alloc(struct rte_mempool *pool)
{
	struct pool_stack *stack = calloc(1, sizeof(*stack) + pool->size * sizeof(void *));

	pool->pool_data = stack;
	return stack != NULL ? pthread_mutex_init(&stack->lock, NULL) : -ENOMEM;
}

static void
pool_free(struct rte_mempool *pool)
{
	free(pool->pool_data);
}

static int
pool_put(struct rte_mempool *pool, void *const *buffers, unsigned int n)
{
	struct pool_stack *stack = pool->pool_data;

	pthread_mutex_lock(&stack->lock);
	memcpy(&stack->buffer[stack->n], buffers, n * sizeof(void *));
	stack->n += n;
	pthread_mutex_unlock(&stack->lock);
	return 0;
}

static int
pool_take(struct rte_mempool *pool, void **buffers, unsigned int n)
{
	struct pool_stack *stack = pool->pool_data;

	pthread_mutex_lock(&stack->lock);
	const bool enough = stack->n >= n;
	if (enough) {
		stack->n -= n;
		memcpy(buffers, &stack->buffer[stack->n], n * sizeof(void *));
	}
	pthread_mutex_unlock(&stack->lock);
	return enough ? 0 : -ENOBUFS;
}

static unsigned int
pool_count(const struct rte_mempool *pool)
{
	const struct pool_stack *stack = pool->pool_data;

	return stack->n;
}

static const struct rte_mempool_ops pool_ops = {
	.name = RIG_POOL_OPS,
	.alloc = pool_alloc,
	.free = pool_free,
	.enqueue = pool_put,
	.dequeue = pool_take,
	.get_count = pool_count,
};

int
rig_pool_register(void)
{
	const int rc = rte_mempool_register_ops(&pool_ops);

	return rc < 0 ? rc : 0;
}
