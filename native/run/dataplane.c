// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE // strdup, usleep
#include "dataplane.h"
#include "fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_malloc.h>

#include "../dpdk/eal.h"
#include "fp_packet_pool.h"

#define MBUF_CACHE 256
#define QUEUE_MBUFS 2048 // what a port's queue pair of one thread can bind: both rings of a NIC
#define DATA_ROOM_MIN 2048
#define FRAME_EXTRA 22    // Ethernet header, two VLAN tags
#define TAIL_EXTRA 64     // an ESP trailer and its check value
#define EAL_MB 64         // drivers' and EAL's own memory
#define BUSY_RETRIES 2000 // of 1 ms: a killed predecessor is still being taken down

static uint32_t mbufs_needed(const struct fp_dataplane_config *config);
static uint16_t data_room(const struct fp_dataplane_config *config);
static int config_check(const struct fp_dataplane_config *config, struct fp_error *error);
static int arena_open(struct fp_dataplane *dp, struct fp_error *error);
static int ports_open(struct fp_dataplane *dp, struct fp_error *error);
static int threads_start(struct fp_dataplane *dp, struct fp_error *error);
static int poll_prepare(struct fp_dataplane *dp, uint32_t index, struct fp_error *error);
static uint64_t clock_ns(void);

uint32_t
fp_dataplane_memory_mb(const struct fp_dataplane_config *config)
{
	uint64_t each = sizeof(struct rte_mbuf) + 64u + data_room(config);
	uint64_t bytes = mbufs_needed(config) * each;
	return (uint32_t)((bytes + bytes / 16) >> 20) + EAL_MB + 4 * config->ports_n;
}

int
fp_dataplane_create(const struct fp_dataplane_config *config, struct fp_dataplane **dataplane,
		    struct fp_error *error)
{
	int rc = config_check(config, error);
	if (rc < 0)
		return rc;
	struct fp_dataplane *dp = calloc(1, sizeof(*dp));
	if (!dp)
		return fp_error_set(error, -ENOMEM, "", "no memory for the data plane");
	dp->config = *config;
	dp->arena_path = config->arena_path ? strdup(config->arena_path) : NULL;
	memcpy(dp->port_config, config->ports, config->ports_n * sizeof(*config->ports));
	dp->config.ports = dp->port_config;
	dp->config.arena_path = dp->arena_path;
	dp->housekeeping.wake_fd = dp->housekeeping.epoll_fd = -1;
	pthread_mutex_init(&dp->lock, NULL);
	for (int i = 0; i < FP_PORTS_MAX; i++)
		dp->ports[i].exception_fd = -1;

	uint64_t start_ns = clock_ns();
	dp->report.mbufs = mbufs_needed(config);
	dp->mempool = fp_packet_pool_create("packets", dp->report.mbufs, MBUF_CACHE,
					    (uint16_t)(RTE_PKTMBUF_HEADROOM + data_room(config)));
	dp->report.mempool_ns = clock_ns() - start_ns;
	if (!dp->mempool) {
		rc = fp_error_set(error, -rte_errno,
				  "lower memory.packet_buffers, hold.packets or the number of poll_cpus",
				  "no memory for %u packet buffers: %s", dp->report.mbufs,
				  rte_strerror(rte_errno));
		fp_dataplane_destroy(dp);
		return rc;
	}
	*dataplane = dp;
	return 0;
}

int
fp_dataplane_set_arena(struct fp_dataplane *dp, const char *path)
{
	if (dp->arena)
		return -EBUSY;
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	free(dp->arena_path);
	dp->config.arena_path = dp->arena_path = copy;
	return 0;
}

int
fp_dataplane_start(struct fp_dataplane *dp, struct fp_error *error)
{
	uint64_t before_ns = clock_ns(), after_ns;
	int rc = arena_open(dp, error);
	dp->report.arena_ns = (after_ns = clock_ns()) - before_ns;
	if (rc < 0)
		return rc;
	before_ns = after_ns;
	rc = ports_open(dp, error);
	dp->report.ports_ns = (after_ns = clock_ns()) - before_ns;
	if (rc < 0)
		goto err;
	before_ns = after_ns;
	rc = threads_start(dp, error);
	dp->report.started_ns = after_ns = clock_ns();
	dp->report.threads_ns = after_ns - before_ns;
	if (rc < 0)
		goto err;
	dp->started = true;
	return 0;
err:
	fp_dataplane_stop(dp);
	return rc;
}

void
fp_dataplane_stop(struct fp_dataplane *dp)
{
	pthread_mutex_lock(&dp->lock);
	dp->started = false;
	// Poll threads first: nothing is received any more while housekeeping applies what it has.
	for (uint32_t i = 0; i < dp->config.threads; i++)
		if (dp->poll[i].thread)
			fp_poll_stop(&dp->poll[i]);
	fp_housekeeping_stop(&dp->housekeeping);
	fp_fault_unwatch();
	memset(dp->housekeeping.client, 0, sizeof(dp->housekeeping.client));
	if (dp->installer)
		fp_installer_destroy(dp->installer);
	dp->installer = NULL;
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		if (dp->poll[i].thread)
			fp_thread_destroy(dp->poll[i].thread);
		dp->poll[i].thread = NULL;
		release_backlog_free(&dp->housekeeping.late[i]);
	}
	dp->housekeeping.batch.n = 0;
	dp->housekeeping.releases_late = false;
	for (int i = 0; i < FP_PORTS_MAX; i++)
		if (dp->ports[i].live)
			fp_port_close(&dp->ports[i]);
	if (dp->arena)
		fp_arena_close(dp->arena);
	dp->arena = NULL;
	pthread_mutex_unlock(&dp->lock);
}

void
fp_dataplane_destroy(struct fp_dataplane *dp)
{
	if (!dp)
		return;
	fp_dataplane_stop(dp);
	rte_mempool_free(dp->mempool);
	free(dp->arena_path);
	free(dp);
}

void
fp_dataplane_start_report(const struct fp_dataplane *dp, struct fp_start_report *report)
{
	*report = dp->report;
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		uint64_t first_ns = __atomic_load_n(&dp->poll[i].first_packet_ns, __ATOMIC_RELAXED);
		if (first_ns && (!report->first_packet_ns || first_ns < report->first_packet_ns))
			report->first_packet_ns = first_ns;
		report->unpinned += dp->poll[i].cpu != FP_CPU_ANY && !dp->poll[i].pinned;
	}
}

struct fp_arena *
fp_dataplane_arena(struct fp_dataplane *dp)
{
	return dp->arena;
}

struct fp_installer *
fp_dataplane_installer(struct fp_dataplane *dp)
{
	return dp->installer;
}

const struct fp_port *
fp_dataplane_port(const struct fp_dataplane *dp, uint32_t index)
{
	return index < FP_PORTS_MAX && dp->ports[index].live ? &dp->ports[index] : NULL;
}

void
fp_dataplane_set_idle(struct fp_dataplane *dp, const struct fp_idle *idle)
{
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		fp_poll_set_idle(&dp->poll[i], idle);
		fp_poll_wake(&dp->poll[i]);
	}
}

int
fp_dataplane_set_hold(struct fp_dataplane *dp, const struct fp_hold_limits *limits)
{
	pthread_mutex_lock(&dp->lock);
	int rc = dp->started ? 0 : -ESHUTDOWN;
	for (uint32_t i = 0; rc == 0 && i < dp->config.threads; i++) {
		fp_poll_pause(&dp->poll[i]);
		fp_thread_hold_limits(dp->poll[i].thread, limits);
		fp_poll_resume(&dp->poll[i]);
	}
	pthread_mutex_unlock(&dp->lock);
	return rc;
}

void
fp_dataplane_call(struct fp_dataplane *dp, void (*call)(void *context), void *context)
{
	fp_housekeeping_call(&dp->housekeeping, call, context);
}

static uint32_t
mbufs_needed(const struct fp_dataplane_config *config)
{
	uint32_t bound =
		config->threads * (config->hold.packets + MBUF_CACHE * 2 + config->ports_n * QUEUE_MBUFS) +
		1024;
	return config->packet_buffers > bound ? config->packet_buffers : bound;
}

static uint16_t
data_room(const struct fp_dataplane_config *config)
{
	uint32_t room = DATA_ROOM_MIN;
	for (uint32_t i = 0; i < config->ports_n; i++) {
		uint32_t need = RTE_ALIGN(config->ports[i].mtu_bytes + FRAME_EXTRA + TAIL_EXTRA, 64u);
		if (need > room)
			room = need;
	}
	return (uint16_t)room;
}

static int
config_check(const struct fp_dataplane_config *config, struct fp_error *error)
{
	error->text[0] = error->fix[0] = 0;
	if (config->ports_n == 0 || config->ports_n > FP_PORTS_MAX || config->ports_n > config->arena.ports)
		return fp_error_set(error, -EINVAL, "configure between 1 and 32 ports",
				    "%u ports are configured", config->ports_n);
	if (config->threads == 0 || config->threads > FP_THREADS_MAX ||
	    config->threads > config->arena.threads)
		return fp_error_set(error, -EINVAL, "configure fewer poll_cpus or raise capacity.threads",
				    "%u poll threads are configured, and there is room for %u",
				    config->threads, config->arena.threads);
	if (config->workers == 0 || config->workers > FP_WORKERS_MAX)
		return fp_error_set(error, -EINVAL, "configure between 1 and 16",
				    "%u slow-path workers are configured", config->workers);
	for (uint32_t i = 0; i < config->ports_n; i++)
		if (config->ports[i].mtu_bytes < 576 || config->ports[i].mtu_bytes > 9700)
			return fp_error_set(error, -EINVAL, "between 576 and 9700",
					    "port %s: mtu_bytes is %u", config->ports[i].name,
					    config->ports[i].mtu_bytes);
	return 0;
}

static int
arena_open(struct fp_dataplane *dp, struct fp_error *error)
{
	int rc = -EBUSY;
	for (int i = 0; i < BUSY_RETRIES && rc == -EBUSY; i++) {
		if (i)
			usleep(1000);
		rc = fp_arena_open(dp->arena_path, &dp->config.arena, clock_ns(), &dp->arena);
	}
	if (rc < 0)
		return fp_error_set(error, rc,
				    rc == -EBUSY ? "stop the other data plane of this name first"
				    : rc == -ENOMEM || rc == -ENOSPC ? "lower [capacity], or make room"
								     : "look at its owner and mode",
				    "arena %s cannot be opened: %s",
				    dp->arena_path ? dp->arena_path : "(memory)", strerror(-rc));
	return 0;
}

static int
ports_open(struct fp_dataplane *dp, struct fp_error *error)
{
	for (uint32_t i = 0; i < dp->config.ports_n; i++) {
		int rc = fp_port_open(&dp->ports[i], &dp->port_config[i], (uint16_t)i,
				      (uint16_t)dp->config.threads, dp->mempool, error);
		if (rc < 0)
			return rc;
		if (dp->config.idle.mode != FP_IDLE_INTERRUPT)
			continue;
		for (uint16_t q = 0; q < dp->ports[i].rx_queues; q++)
			if (dp->ports[i].wake_fd[q] < 0)
				return fp_error_set(error, -ENOTSUP, "threads.idle = \"sleep\"",
						    "port %s: device \"%s\" has no interrupts to wait for",
						    dp->ports[i].name, dp->port_config[i].device);
	}
	return 0;
}

static int
threads_start(struct fp_dataplane *dp, struct fp_error *error)
{
	struct fp_housekeeping *hk = &dp->housekeeping;
	struct fp_installer_hooks hooks;

	fp_underlay_vlans_adopt(dp);
	hk->arena = dp->arena;
	hk->ports = dp->ports;
	hk->polls = dp->poll;
	hk->threads = dp->config.threads;
	hk->mempool = dp->mempool;
	hk->stop = false;
	memset(hk->exceptions_refused, 0, sizeof(hk->exceptions_refused)); // of what new threads count
	int rc = fp_housekeeping_init(hk, error);
	if (rc < 0)
		return rc;
	fp_arena_tick(dp->arena, clock_ns());
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		rc = poll_prepare(dp, i, error);
		if (rc < 0)
			return rc;
		rc = release_backlog_init(&hk->late[i], dp->config.hold.packets);
		if (rc < 0)
			return fp_error_set(error, rc, "lower hold.packets",
					    "no memory for releases that wait");
	}
	fp_housekeeping_hooks(hk, &hooks);
	rc = fp_installer_create(dp->arena, &hooks, &dp->installer);
	if (rc == 0)
		fp_installer_share(dp->installer, dp->config.workers);
	if (rc < 0)
		return fp_error_set(error, rc, "lower [capacity]", "the installer cannot be made: %s",
				    strerror(-rc));
	hk->installer = dp->installer;
	fp_fault_watch(hk);
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		rc = fp_poll_start(&dp->poll[i], error);
		if (rc < 0)
			return rc;
	}
	return fp_housekeeping_start(hk, error);
}

// The state of one poll thread, and which queues are its own: queue i of every port is thread i's;
// where a port has fewer queues than there are threads, ports take turns.
static int
poll_prepare(struct fp_dataplane *dp, uint32_t index, struct fp_error *error)
{
	struct fp_poll *poll = &dp->poll[index];
	memset(poll, 0, sizeof(*poll));
	poll->wake_fd = -1;
	struct fp_thread_config config = {
		.index = index,
		.arena = dp->arena,
		.ports = dp->ports,
		.mempool = dp->mempool,
		.hold = dp->config.hold,
		.workers = dp->config.workers,
		.tx_queue = (uint16_t)index,
		.icmp_per_s = dp->config.icmp_per_s,
		.threads = dp->config.threads,
	};
	int rc = fp_thread_create(&config, &poll->thread);
	if (rc < 0)
		return fp_error_set(error, rc, "lower [hold] or [capacity]",
				    "poll thread %u cannot be made: %s", index, strerror(-rc));
	poll->index = index;
	poll->cpu = dp->config.poll_cpu[index];
	poll->arena = dp->arena;
	poll->housekeeping_fd = dp->housekeeping.wake_fd;
	poll->housekeeping_sleeps = &dp->housekeeping.sleeps;
	fp_poll_set_idle(poll, &dp->config.idle);
	poll->queue = calloc(FP_POLL_QUEUES_MAX, sizeof(*poll->queue));
	if (!poll->queue)
		return fp_error_set(error, -ENOMEM, "", "poll thread %u: no memory", index);
	for (uint32_t p = 0; p < dp->config.ports_n; p++) {
		struct fp_port *port = &dp->ports[p];
		for (uint16_t q = 0; q < port->rx_queues; q++) {
			uint32_t turn = port->rx_queues < dp->config.threads ? p : 0;
			if ((q + turn) % dp->config.threads == index)
				poll->queue[poll->queues++] = (struct fp_poll_queue){
					.port = port, .queue = q, .wake_fd = port->wake_fd[q]};
		}
	}
	return 0;
}

static uint64_t
clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
