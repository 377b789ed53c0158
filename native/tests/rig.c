// SPDX-License-Identifier: Apache-2.0
//
// See rig.h.
#define _GNU_SOURCE
#include "rig.h"

#include "fp_packet_pool.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mempool.h>

#define RIG_EMITTED 4096
#define RIG_MBUF_BYTES (RTE_PKTMBUF_HEADROOM + 2048)

struct rig {
	uint32_t number;
	struct rig_config config;
	struct fp_port port[FP_PORTS_MAX];
	struct rte_ring *rx[RIG_PORTS_MAX], *tx[RIG_PORTS_MAX];
	char device[RIG_PORTS_MAX][48];
	struct rte_mempool *mempool;
	struct fp_arena *arena;
	struct fp_installer *installer;
	struct fp_thread *thread;
	void *rings[RIG_WORKERS];
	size_t rings_bytes;
	struct fp_ring_end worker[RIG_WORKERS];
	bool attached[RIG_WORKERS];
	struct fp_record emitted[RIG_EMITTED];
	uint32_t emitted_head, emitted_tail;
};

static uint32_t rigs;

static int port_make(struct rig *rig, uint32_t i);
static void hook_counters_begin(void *context, enum fp_counted what, uint32_t index);
static void hook_release(void *context, const struct fp_release *release);
static void hook_emit(void *context, uint8_t worker, const struct fp_record *record);
static int hook_port(void *context, const char *name, uint16_t *mtu_bytes);
static void hook_send(void *context, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
		      uint32_t len_bytes);

int
rig_eal(void)
{
	char prefix[64];
	char *arguments[] = {"rig", "--no-huge",   "--no-shconf",   "--no-pci",      "--no-telemetry", "-m",
			     "256", "--log-level", "lib.eal:error", "--file-prefix", prefix,           "-l",
			     "0",   NULL};
	cpu_set_t cpus;
	int rc;

	snprintf(prefix, sizeof(prefix), "rig-%d", (int)getpid());
	sched_getaffinity(0, sizeof(cpus), &cpus);
	rc = rte_eal_init(sizeof(arguments) / sizeof(arguments[0]) - 1, arguments);
	sched_setaffinity(0, sizeof(cpus), &cpus); // EAL pins whoever starts it
	return rc < 0 ? -EIO : 0;
}

int
rig_create(const struct rig_config *config, struct rig **out)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct fp_thread_config thread = {0};
	struct fp_installer_hooks hooks = {0};
	char name[32];
	int rc = -ENOMEM;

	if (rig == NULL)
		return -ENOMEM;
	rig->number = rigs++;
	rig->config = *config;
	snprintf(name, sizeof(name), "rig%u", rig->number);
	rig->mempool = fp_packet_pool_create(name, config->mbufs, config->mbuf_cache, RIG_MBUF_BYTES);
	if (rig->mempool == NULL)
		goto err;
	for (uint32_t i = 0; i < config->ports; i++)
		if ((rc = port_make(rig, i)) != 0)
			goto err;
	rc = fp_arena_open(NULL, &config->arena, 0, &rig->arena);
	if (rc != 0)
		goto err;
	hooks = (struct fp_installer_hooks){.context = rig,
					    .release = hook_release,
					    .emit = hook_emit,
					    .port_by_name = hook_port,
					    .send = hook_send,
					    .counters_begin = hook_counters_begin};
	rc = fp_installer_create(rig->arena, &hooks, &rig->installer);
	if (rc != 0)
		goto err;
	thread = (struct fp_thread_config){
		.arena = rig->arena,
		.ports = rig->port,
		.mempool = rig->mempool,
		.hold = config->hold,
		.workers = RIG_WORKERS,
		.icmp_per_s = config->icmp_per_s,
		.exceptions_per_s = config->exceptions_per_s,
	};
	rc = fp_thread_create(&thread, &rig->thread);
	if (rc != 0)
		goto err;
	fp_arena_reader_register(rig->arena, 0);
	fp_arena_reader_online(rig->arena, 0);
	rig->rings_bytes = fp_rings_bytes(1, config->miss_slots, 64);
	for (uint32_t i = 0; i < RIG_WORKERS; i++) {
		if (posix_memalign(&rig->rings[i], 4096, rig->rings_bytes) != 0) {
			rig->rings[i] = NULL;
			rc = -ENOMEM;
			goto err;
		}
		if ((rc = rig_attach(rig, i, true)) != 0)
			goto err;
	}
	*out = rig;
	return 0;
err:
	rig_destroy(rig);
	return rc;
}

void
rig_destroy(struct rig *rig)
{
	struct rte_mbuf *mbuf;

	if (rig == NULL)
		return;
	fp_thread_destroy(rig->thread);
	if (rig->installer != NULL)
		fp_installer_destroy(rig->installer);
	if (rig->arena != NULL) {
		fp_arena_reader_unregister(rig->arena, 0);
		fp_arena_close(rig->arena);
	}
	for (uint32_t i = 0; i < rig->config.ports; i++) {
		if (rig->port[i].live) {
			rte_eth_dev_stop(rig->port[i].dpdk_port);
			rte_eth_dev_close(rig->port[i].dpdk_port);
			rte_vdev_uninit(rig->device[i]);
		}
		while (rig->rx[i] != NULL && rte_ring_dequeue(rig->rx[i], (void **)&mbuf) == 0)
			rte_pktmbuf_free(mbuf);
		while (rig->tx[i] != NULL && rte_ring_dequeue(rig->tx[i], (void **)&mbuf) == 0)
			rte_pktmbuf_free(mbuf);
		rte_ring_free(rig->rx[i]);
		rte_ring_free(rig->tx[i]);
	}
	rte_mempool_free(rig->mempool);
	for (uint32_t i = 0; i < RIG_WORKERS; i++)
		free(rig->rings[i]);
	free(rig);
}

int
rig_apply(struct rig *rig, const struct fp_record *record, uint64_t now_ns)
{
	int rc;

	fp_arena_tick(rig->arena, now_ns);
	for (int i = 0; i < 8;) {
		rc = fp_installer_apply(rig->installer, record->head.type == FP_RECORD_NEXTHOP_SET ? 0xff : 0,
					record, now_ns);
		if (rc == -EINPROGRESS)
			continue;
		if (rc != -EAGAIN)
			break;
		i++;
		rig_maintain(rig, now_ns);
	}
	return rc;
}

void
rig_maintain(struct rig *rig, uint64_t now_ns)
{
	fp_arena_reader_quiescent(rig->arena, 0);
	fp_arena_tick(rig->arena, now_ns);
	while (fp_installer_tick(rig->installer, now_ns))
		fp_arena_reader_quiescent(rig->arena, 0);
}

int
rig_attach(struct rig *rig, uint32_t worker, bool attached)
{
	struct fp_ring_end producer;

	fp_thread_worker_attach(rig->thread, worker, NULL, -1);
	rig->attached[worker] = false;
	if (!attached)
		return 0;
	if (fp_rings_format(rig->rings[worker], rig->rings_bytes, 1, rig->config.miss_slots, 64) != 0 ||
	    fp_ring_attach(&rig->worker[worker], rig->rings[worker], rig->rings_bytes, 0, FP_RING_CONSUMER) !=
		    0 ||
	    fp_ring_attach(&producer, rig->rings[worker], rig->rings_bytes, 0, FP_RING_PRODUCER) != 0)
		return -EINVAL;
	fp_ring_sleep(&rig->worker[worker], true);
	rig->attached[worker] = true;
	fp_thread_worker_attach(rig->thread, worker, &producer, -1);
	return 0;
}

int
rig_inject(struct rig *rig, uint32_t port, const uint8_t *frame, uint32_t len_bytes, uint32_t segments)
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
	if (rte_ring_enqueue(rig->rx[port], head) != 0) {
		rte_pktmbuf_free(head);
		return -ENOSPC;
	}
	return 0;
}

void
rig_step(struct rig *rig, uint64_t now_ns)
{
	struct rte_mbuf *mbufs[FP_BURST];
	uint16_t n;

	fp_arena_tick(rig->arena, now_ns);
	fp_thread_tick(rig->thread, now_ns);
	for (uint32_t i = 0; i < rig->config.ports; i++)
		while ((n = rte_eth_rx_burst(rig->port[i].dpdk_port, 0, mbufs, FP_BURST)) != 0)
			fp_thread_receive(rig->thread, &rig->port[i], mbufs, n);
	fp_thread_finish(rig->thread);
	fp_thread_flush(rig->thread);
	fp_arena_reader_quiescent(rig->arena, 0);
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

	for (uint32_t i = 0; i < rig->config.ports; i++) {
		if (rig->tx[i] == NULL || rte_ring_dequeue(rig->tx[i], (void **)&mbuf) != 0)
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

	if (fp_thread_exceptions(rig->thread, &mbuf, 1) == 0)
		return false;
	*port = mbuf->port;
	return copy_out(mbuf, buffer, len_bytes);
}

bool
rig_record(struct rig *rig, uint32_t worker, struct fp_record *record)
{
	return rig->attached[worker] && fp_ring_read(&rig->worker[worker], record, 1) == 1;
}

uint32_t
rig_doorbells(struct rig *rig)
{
	return fp_thread_doorbells(rig->thread);
}

void
rig_worker_sleeps(struct rig *rig, uint32_t worker)
{
	fp_ring_sleep(&rig->worker[worker], true);
}

bool
rig_emitted(struct rig *rig, struct fp_record *record)
{
	if (rig->emitted_head == rig->emitted_tail)
		return false;
	*record = rig->emitted[rig->emitted_head++ % RIG_EMITTED];
	return true;
}

int
rig_send_inner(struct rig *rig, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
	       uint32_t len_bytes)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(rig->mempool);
	char *data = mbuf != NULL ? rte_pktmbuf_append(mbuf, (uint16_t)len_bytes) : NULL;
	bool taken;

	if (data == NULL) {
		rte_pktmbuf_free(mbuf);
		return -ENOBUFS;
	}
	memcpy(data, frame, len_bytes);
	taken = kind == 0 ? fp_thread_send(rig->thread, (uint16_t)target, mbuf)
			  : fp_thread_send_inner(rig->thread, kind, target, wire_id, mbuf);
	if (!taken)
		rte_pktmbuf_free(mbuf);
	return taken ? 0 : -ENOSPC;
}

const char *
rig_counter(struct rig *rig, uint32_t *cursor, uint64_t *value)
{
	static const struct {
		const char *name;
		size_t offset;
	} rows[] = {
#define COUNTER(name) {#name, offsetof(struct fp_counters, name)}
		COUNTER(received),     COUNTER(forwarded),        COUNTER(delivered),
		COUNTER(relayed),      COUNTER(answered),         COUNTER(icmp_sent),
		COUNTER(exceptions),   COUNTER(reason_vnet_full), COUNTER(lookups),
		COUNTER(hits),         COUNTER(narrowed),         COUNTER(misses),
		COUNTER(miss_records), COUNTER(miss_ring_full),   COUNTER(held),
		COUNTER(held_now),     COUNTER(released),         COUNTER(expired),
		COUNTER(dropped_full), COUNTER(bursts),
#undef COUNTER
	};

	if (*cursor >= sizeof(rows) / sizeof(rows[0]))
		return NULL;
	*value = *(const uint64_t *)((const char *)fp_thread_counters(rig->thread) + rows[*cursor].offset);
	return rows[(*cursor)++].name;
}

struct fp_arena *
rig_arena(struct rig *rig)
{
	return rig->arena;
}
struct fp_thread *
rig_thread(struct rig *rig)
{
	return rig->thread;
}
struct fp_port *
rig_port(struct rig *rig, uint32_t port)
{
	return &rig->port[port];
}
struct rte_mempool *
rig_mempool(struct rig *rig)
{
	return rig->mempool;
}
uint32_t
rig_mbufs_in_use(const struct rig *rig)
{
	return rte_mempool_in_use_count(rig->mempool);
}

static int
port_make(struct rig *rig, uint32_t i)
{
	const struct rig_port *config = &rig->config.port[i];
	struct fp_port *port = &rig->port[i];
	struct rte_eth_conf conf = {0};
	char name[32];
	int rc;

	snprintf(port->name, sizeof(port->name), "port%u", i);
	port->index = (uint16_t)i;
	port->role = config->role;
	port->up = 1;
	port->partial_checksums = config->partial_checksums;
	port->mtu_bytes = config->mtu_bytes;
	port->rx_queues = port->tx_queues = 1;
	port->exception_fd = -1;
	memcpy(port->mac.addr_bytes, config->mac, sizeof(config->mac));
	snprintf(name, sizeof(name), "rig%u-rx%u", rig->number, i);
	rig->rx[i] =
		rte_ring_create(name, rig->config.ring_slots, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
	if (rig->config.null_ports) {
		snprintf(rig->device[i], sizeof(rig->device[i]), "net_null%u",
			 rig->number * RIG_PORTS_MAX + i);
		if (rte_vdev_init(rig->device[i], "no-rx=1") != 0 ||
		    rte_eth_dev_get_port_by_name(rig->device[i], &port->dpdk_port) != 0)
			return -ENODEV;
	} else {
		snprintf(name, sizeof(name), "rig%u-tx%u", rig->number, i);
		rig->tx[i] = rte_ring_create(name, rig->config.ring_slots, SOCKET_ID_ANY,
					     RING_F_SP_ENQ | RING_F_SC_DEQ);
		if (rig->rx[i] == NULL || rig->tx[i] == NULL)
			return -ENOMEM;
		snprintf(name, sizeof(name), "rig%u-%u", rig->number, i);
		snprintf(rig->device[i], sizeof(rig->device[i]), "net_ring_%s", name);
		rc = rte_eth_from_rings(name, &rig->rx[i], 1, &rig->tx[i], 1, 0);
		if (rc < 0)
			return -ENODEV;
		port->dpdk_port = (uint16_t)rc;
	}
	port->live = 1;
	rc = rte_eth_dev_configure(port->dpdk_port, 1, 1, &conf);
	if (rc == 0)
		rc = rte_eth_rx_queue_setup(port->dpdk_port, 0, 512, SOCKET_ID_ANY, NULL, rig->mempool);
	if (rc == 0)
		rc = rte_eth_tx_queue_setup(port->dpdk_port, 0, 512, SOCKET_ID_ANY, NULL);
	return rc == 0 ? rte_eth_dev_start(port->dpdk_port) : rc;
}

static void
hook_release(void *context, const struct fp_release *release)
{
	struct rig *rig = context;

	fp_thread_release(rig->thread, release, 1);
}

static void
hook_emit(void *context, uint8_t, const struct fp_record *record)
{
	struct rig *rig = context;

	if (rig->emitted_tail - rig->emitted_head < RIG_EMITTED)
		rig->emitted[rig->emitted_tail++ % RIG_EMITTED] = *record;
}

static int
hook_port(void *context, const char *name, uint16_t *mtu_bytes)
{
	struct rig *rig = context;

	for (uint32_t i = 0; i < rig->config.ports; i++) {
		if (strncmp(name, rig->port[i].name, FP_PORT_NAME_BYTES) != 0)
			continue;
		*mtu_bytes = rig->port[i].mtu_bytes;
		return (int)i;
	}
	return -1;
}

static void
hook_send(void *context, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
	  uint32_t len_bytes)
{
	rig_send_inner(context, kind, target, wire_id, frame, len_bytes);
}

static void
hook_counters_begin(void *context, enum fp_counted what, uint32_t index)
{
	struct rig *rig = context;

	if (rig->thread != NULL) // not before it is made
		fp_thread_counters_begin(rig->thread, what, index);
}
