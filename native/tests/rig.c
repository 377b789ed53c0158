// SPDX-License-Identifier: Apache-2.0
//
// See rig.h.
#define _GNU_SOURCE
#include "rig_internal.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ethdev.h>

static uint32_t rigs;

static int threads_make(struct rig *rig);

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
	rmdir(rte_eal_get_runtime_dir());
	return rc < 0 ? -EIO : rig_pool_register();
}

int
rig_create(const struct rig_config *config, struct rig **out)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct fp_installer_hooks hooks = rig_hooks;
	int rc;

	if (rig == NULL)
		return -ENOMEM;
	rig->number = rigs++;
	rig->config = *config;
	rig->config.threads = RTE_MAX(config->threads, 1u);
	rc = rig_pool_make(rig);
	for (uint32_t i = 0; i < config->ports && rc == 0; i++)
		rc = rig_port_make(rig, i);
	if (rc == 0)
		rc = fp_arena_open(NULL, &config->arena, 0, &rig->arena);
	hooks.context = rig;
	if (rc == 0)
		rc = fp_installer_create(rig->arena, &hooks, &rig->installer);
	if (rc == 0)
		rc = threads_make(rig);
	rig->rings_bytes = fp_rings_bytes(rig->config.threads, config->miss_slots, 64);
	for (uint32_t i = 0; i < RIG_WORKERS && rc == 0; i++) {
		if (posix_memalign(&rig->rings[i], 4096, rig->rings_bytes) != 0) {
			rig->rings[i] = NULL;
			rc = -ENOMEM;
		} else {
			rc = rig_attach(rig, i, true);
		}
	}
	if (rc != 0) {
		rig_destroy(rig);
		return rc;
	}
	*out = rig;
	return 0;
}

void
rig_destroy(struct rig *rig)
{
	if (rig == NULL)
		return;
	for (uint32_t i = 0; i < rig->config.threads; i++)
		fp_thread_destroy(rig->thread[i]);
	if (rig->installer != NULL)
		fp_installer_destroy(rig->installer);
	if (rig->arena != NULL) {
		for (uint32_t i = 0; i < rig->config.threads; i++)
			fp_arena_reader_unregister(rig->arena, i);
		fp_arena_close(rig->arena);
	}
	for (uint32_t i = 0; i < rig->config.ports; i++)
		rig_port_free(rig, i);
	rte_mempool_free(rig->mempool);
	for (uint32_t i = 0; i < RIG_WORKERS; i++)
		free(rig->rings[i]);
	free(rig);
}

int
rig_attach(struct rig *rig, uint32_t worker, bool attached)
{
	const uint32_t threads = rig->config.threads, slots = rig->config.miss_slots;
	void *rings = rig->rings[worker];
	struct fp_ring_end producer;

	for (uint32_t i = 0; i < threads; i++)
		fp_thread_worker_attach(rig->thread[i], worker, NULL, -1);
	rig->attached[worker] = false;
	if (!attached)
		return 0;
	if (fp_rings_format(rings, rig->rings_bytes, threads, slots, 64) != 0)
		return -EINVAL;
	for (uint32_t i = 0; i < threads; i++) {
		struct fp_ring_end *end = &rig->worker[worker][i];

		if (fp_ring_attach(end, rings, rig->rings_bytes, i, FP_RING_CONSUMER) != 0 ||
		    fp_ring_attach(&producer, rings, rig->rings_bytes, i, FP_RING_PRODUCER) != 0)
			return -EINVAL;
		fp_ring_sleep(end, true);
		fp_thread_worker_attach(rig->thread[i], worker, &producer, -1);
	}
	rig->attached[worker] = true;
	return 0;
}

void
rig_step(struct rig *rig, uint64_t now_ns)
{
	struct rte_mbuf *mbufs[FP_BURST];
	uint16_t n;

	fp_arena_tick(rig->arena, now_ns);
	for (uint32_t thread = 0; thread < rig->config.threads; thread++) {
		fp_thread_tick(rig->thread[thread], now_ns);
		for (uint32_t i = 0; i < rig->config.ports; i++)
			while ((n = rte_eth_rx_burst(rig->port[i].dpdk_port, (uint16_t)thread, mbufs,
						     FP_BURST)) != 0)
				fp_thread_receive(rig->thread[thread], &rig->port[i], mbufs, n);
		fp_thread_finish(rig->thread[thread]);
		fp_thread_flush(rig->thread[thread]);
		fp_arena_reader_quiescent(rig->arena, thread);
	}
}

bool
rig_record(struct rig *rig, uint32_t worker, struct fp_record *record)
{
	for (uint32_t i = 0; rig->attached[worker] && i < rig->config.threads; i++)
		if (fp_ring_read(&rig->worker[worker][i], record, 1) == 1)
			return true;
	return false;
}

uint32_t
rig_doorbells(struct rig *rig)
{
	uint32_t workers = 0;

	for (uint32_t i = 0; i < rig->config.threads; i++)
		workers |= fp_thread_doorbells(rig->thread[i]);
	return workers;
}

void
rig_worker_sleeps(struct rig *rig, uint32_t worker)
{
	for (uint32_t i = 0; i < rig->config.threads; i++)
		fp_ring_sleep(&rig->worker[worker][i], true);
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
	*value = *(const uint64_t *)((const char *)fp_thread_counters(rig->thread[0]) + rows[*cursor].offset);
	return rows[(*cursor)++].name;
}

struct fp_arena *
rig_arena(struct rig *rig)
{
	return rig->arena;
}
struct fp_installer *
rig_installer(struct rig *rig)
{
	return rig->installer;
}
struct fp_thread *
rig_thread(struct rig *rig)
{
	return rig->thread[0];
}
struct fp_thread *
rig_thread_at(struct rig *rig, uint32_t thread)
{
	return rig->thread[thread];
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
threads_make(struct rig *rig)
{
	for (uint32_t i = 0; i < rig->config.threads; i++) {
		const struct fp_thread_config thread = {
			.index = i,
			.arena = rig->arena,
			.ports = rig->port,
			.mempool = rig->mempool,
			.hold = rig->config.hold,
			.workers = RIG_WORKERS,
			.tx_queue = (uint16_t)i,
			.icmp_per_s = rig->config.icmp_per_s,
			.threads = rig->config.threads,
			.exceptions_per_s = rig->config.exceptions_per_s,
		};
		const int rc = fp_thread_create(&thread, &rig->thread[i]);

		if (rc != 0)
			return rc;
		fp_arena_reader_register(rig->arena, i);
		fp_arena_reader_online(rig->arena, i);
	}
	return 0;
}
