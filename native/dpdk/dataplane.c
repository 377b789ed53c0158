// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE // strdup, usleep
#include "dataplane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_malloc.h>

#include "eal.h"

#define MBUF_CACHE 256
#define QUEUE_MBUFS 2048 // what a port's queue pair of one thread can bind: both rings of a NIC
#define DATA_ROOM_MIN 2048
#define FRAME_EXTRA 22     // Ethernet header, two VLAN tags
#define TAIL_EXTRA 64      // an ESP trailer and its check value
#define EAL_MB 64          // drivers' and EAL's own memory
#define BUSY_RETRIES 2000  // of 1 ms: a killed predecessor is still being taken down

static uint32_t mbufs_needed(const struct fp_dataplane_config *config);
static uint16_t data_room(const struct fp_dataplane_config *config);
static int config_check(const struct fp_dataplane_config *config, struct fp_error *error);
static int arena_open(struct fp_dataplane *dp, struct fp_error *error);
static int ports_open(struct fp_dataplane *dp, struct fp_error *error);
static int threads_start(struct fp_dataplane *dp, struct fp_error *error);
static int poll_prepare(struct fp_dataplane *dp, uint32_t index, struct fp_error *error);
static void counters_add(struct fp_counters *sum, const struct fp_counters *one,
			 const struct fp_dataplane_config *config);
static void reason_vnet_add(struct fp_counters *sum, const struct fp_reason_vnet *one);
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
	dp->mempool = rte_pktmbuf_pool_create("packets", dp->report.mbufs, MBUF_CACHE, 0,
					      (uint16_t)(RTE_PKTMBUF_HEADROOM + data_room(config)), SOCKET_ID_ANY);
	dp->report.mempool_ns = clock_ns() - start_ns;
	if (!dp->mempool) {
		rc = fp_error_set(error, -rte_errno, "lower memory.packet_buffers, hold.packets or the number of poll_cpus",
				  "no memory for %u packet buffers: %s", dp->report.mbufs, rte_strerror(rte_errno));
		fp_dataplane_destroy(dp);
		return rc;
	}
	*dataplane = dp;
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
	if (dp->installer)
		fp_installer_destroy(dp->installer);
	dp->installer = NULL;
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		if (dp->poll[i].thread)
			fp_thread_destroy(dp->poll[i].thread);
		dp->poll[i].thread = NULL;
	}
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

void
fp_dataplane_set_hold(struct fp_dataplane *dp, const struct fp_hold_limits *limits)
{
	pthread_mutex_lock(&dp->lock);
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		fp_poll_pause(&dp->poll[i]);
		fp_thread_hold_limits(dp->poll[i].thread, limits);
		fp_poll_resume(&dp->poll[i]);
	}
	pthread_mutex_unlock(&dp->lock);
}

void
fp_dataplane_counters(struct fp_dataplane *dp, struct fp_counters *sum)
{
	struct fp_pair_counters *vnet = sum->vnet, *tunnel = sum->tunnel;
	memset(sum, 0, sizeof(*sum));
	sum->vnet = vnet;
	sum->tunnel = tunnel;
	for (uint32_t i = 0; i < dp->config.threads; i++)
		if (dp->poll[i].thread)
			counters_add(sum, fp_thread_counters(dp->poll[i].thread), &dp->config);
}

int
fp_dataplane_thread(struct fp_dataplane *dp, uint32_t thread, struct fp_thread_state *state)
{
	if (thread >= dp->config.threads || !dp->poll[thread].thread)
		return -ENOENT;
	const struct fp_poll *poll = &dp->poll[thread];
	const struct fp_counters *counters = fp_thread_counters(poll->thread);
	*state = (struct fp_thread_state){
		.index = thread,
		.cpu = poll->pinned ? poll->cpu : FP_CPU_ANY,
		.polls = counters->polls,
		.bursts = counters->bursts,
		.sleeps = counters->sleeps,
		.cycles_busy = counters->cycles_busy,
		.cycles_idle = counters->cycles_idle,
		.received = counters->received,
		.held_now = (uint32_t)counters->held_now,
		.cpu_ns = fp_poll_cpu_ns(poll),
		.cycles_hz = rte_get_tsc_hz(),
	};
	memcpy(state->stage_cycles, counters->stage_cycles, sizeof(state->stage_cycles));
	return 0;
}

int
fp_dataplane_port_state(struct fp_dataplane *dp, uint32_t index, struct fp_port_state *state)
{
	struct rte_eth_stats stats = {0};
	struct rte_eth_link link = {0};
	const struct fp_port *port = fp_dataplane_port(dp, index);
	if (!port)
		return -ENOENT;
	memset(state, 0, sizeof(*state));
	if (rte_eth_stats_get(port->dpdk_port, &stats) == 0) {
		state->rx_missed = stats.imissed + stats.rx_nombuf;
		state->rx_errors = stats.ierrors;
	}
	if (rte_eth_link_get_nowait(port->dpdk_port, &link) == 0 && link.link_speed != UINT32_MAX)
		state->speed_mbps = link.link_speed;
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		const struct fp_port_counters *one = &fp_thread_counters(dp->poll[i].thread)->port[index];
		state->counters.rx_packets += one->rx_packets;
		state->counters.rx_bytes += one->rx_bytes;
		state->counters.tx_packets += one->tx_packets;
		state->counters.tx_bytes += one->tx_bytes;
		state->counters.tx_full += one->tx_full;
		state->counters.exceptions += one->exceptions;
	}
	return 0;
}

void
fp_dataplane_housekeeping(struct fp_dataplane *dp, struct fp_housekeeping_counters *counters)
{
	clockid_t clock;
	struct timespec t;
	*counters = dp->housekeeping.counters;
	if (dp->housekeeping.started && pthread_getcpuclockid(dp->housekeeping.pthread, &clock) == 0 &&
	    clock_gettime(clock, &t) == 0)
		counters->cpu_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void
fp_dataplane_call(struct fp_dataplane *dp, void (*call)(void *context), void *context)
{
	fp_housekeeping_call(&dp->housekeeping, call, context);
}

static uint32_t
mbufs_needed(const struct fp_dataplane_config *config)
{
	uint32_t bound = config->threads * (config->hold.packets + MBUF_CACHE * 2 + config->ports_n * QUEUE_MBUFS) + 1024;
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
		return fp_error_set(error, -EINVAL, "configure between 1 and 32 ports", "%u ports are configured",
				    config->ports_n);
	if (config->threads == 0 || config->threads > FP_THREADS_MAX || config->threads > config->arena.threads)
		return fp_error_set(error, -EINVAL, "configure fewer poll_cpus or raise capacity.threads",
				    "%u poll threads are configured, and there is room for %u", config->threads,
				    config->arena.threads);
	if (config->workers == 0 || config->workers > FP_WORKERS_MAX)
		return fp_error_set(error, -EINVAL, "configure between 1 and 16", "%u slow-path workers are configured",
				    config->workers);
	for (uint32_t i = 0; i < config->ports_n; i++)
		if (config->ports[i].mtu_bytes < 576 || config->ports[i].mtu_bytes > 9700)
			return fp_error_set(error, -EINVAL, "between 576 and 9700", "port %s: mtu_bytes is %u",
					    config->ports[i].name, config->ports[i].mtu_bytes);
	return 0;
}

static int
arena_open(struct fp_dataplane *dp, struct fp_error *error)
{
	int rc = -EBUSY;
	for (int i = 0; i < BUSY_RETRIES && rc == -EBUSY; i++) {
		if (i)
			usleep(1000);
		rc = fp_arena_open(dp->arena_path, &dp->config.arena, &dp->arena);
	}
	if (rc < 0)
		return fp_error_set(error, rc,
				    rc == -EBUSY ? "stop the other data plane of this name first" :
				    rc == -ENOMEM || rc == -ENOSPC ? "lower [capacity], or make room" :
								     "look at its owner and mode",
				    "arena %s cannot be opened: %s", dp->arena_path ? dp->arena_path : "(memory)",
				    strerror(-rc));
	return 0;
}

static int
ports_open(struct fp_dataplane *dp, struct fp_error *error)
{
	for (uint32_t i = 0; i < dp->config.ports_n; i++) {
		int rc = fp_port_open(&dp->ports[i], &dp->port_config[i], (uint16_t)i, (uint16_t)dp->config.threads,
				      dp->mempool, error);
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

	hk->arena = dp->arena;
	hk->ports = dp->ports;
	hk->polls = dp->poll;
	hk->threads = dp->config.threads;
	hk->mempool = dp->mempool;
	hk->stop = false;
	int rc = fp_housekeeping_init(hk, error);
	if (rc < 0)
		return rc;
	fp_arena_tick(dp->arena, clock_ns());
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		rc = poll_prepare(dp, i, error);
		if (rc < 0)
			return rc;
	}
	fp_housekeeping_hooks(hk, &hooks);
	rc = fp_installer_create(dp->arena, &hooks, &dp->installer);
	if (rc < 0)
		return fp_error_set(error, rc, "lower [capacity]", "the installer cannot be made: %s", strerror(-rc));
	hk->installer = dp->installer;
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		rc = fp_poll_start(&dp->poll[i], error);
		if (rc < 0)
			return rc;
	}
	return fp_housekeeping_start(hk, error);
}

// The state of one poll thread, and which queues are its own: queue i of every port is thread i's; where a port has fewer
// queues than there are threads, ports take turns.
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
		return fp_error_set(error, rc, "lower [hold] or [capacity]", "poll thread %u cannot be made: %s", index,
				    strerror(-rc));
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
				poll->queue[poll->queues++] =
					(struct fp_poll_queue){.port = port, .queue = q, .wake_fd = port->wake_fd[q]};
		}
	}
	return 0;
}

// Members are read while their threads write them: each is a word, and a sum is a moment old anyway.
static void
counters_add(struct fp_counters *sum, const struct fp_counters *one, const struct fp_dataplane_config *config)
{
#define ADD(member) sum->member += __atomic_load_n(&one->member, __ATOMIC_RELAXED)
	ADD(received);
	ADD(forwarded);
	ADD(delivered);
	ADD(relayed);
	ADD(answered);
	ADD(icmp_sent);
	ADD(exceptions);
	for (int i = 0; i < FP_REASONS_MAX; i++)
		ADD(dropped[i]);
	for (int i = 0; i < FP_REASON_VNETS; i++)
		if (one->reason_vnet[i].packets)
			reason_vnet_add(sum, &one->reason_vnet[i]);
	ADD(reason_vnet_full);
	for (int i = 0; i < FP_COUNTER_PORTS; i++) {
		ADD(port[i].rx_packets);
		ADD(port[i].rx_bytes);
		ADD(port[i].tx_packets);
		ADD(port[i].tx_bytes);
		ADD(port[i].tx_full);
		ADD(port[i].exceptions);
	}
	for (uint32_t i = 0; sum->vnet && one->vnet && i < config->arena.vnets; i++) {
		ADD(vnet[i].rx_packets);
		ADD(vnet[i].rx_bytes);
		ADD(vnet[i].tx_packets);
		ADD(vnet[i].tx_bytes);
	}
	for (uint32_t i = 0; sum->tunnel && one->tunnel && i < config->arena.tunnels; i++) {
		ADD(tunnel[i].rx_packets);
		ADD(tunnel[i].rx_bytes);
		ADD(tunnel[i].tx_packets);
		ADD(tunnel[i].tx_bytes);
	}
	ADD(lookups);
	ADD(hits);
	ADD(narrowed);
	ADD(misses);
	ADD(miss_records);
	ADD(miss_ring_full);
	ADD(refreshes);
	ADD(held);
	ADD(held_now);
	ADD(released);
	ADD(expired);
	ADD(dropped_full);
	for (int i = 0; i < FP_DELAY_BUCKETS; i++)
		ADD(delay_us_bucket[i]);
	ADD(bursts);
	ADD(polls);
	ADD(cycles_busy);
	ADD(cycles_idle);
	ADD(sleeps);
	for (int i = 0; i < FP_STAGE_MAX; i++)
		ADD(stage_cycles[i]);
#undef ADD
}

static void
reason_vnet_add(struct fp_counters *sum, const struct fp_reason_vnet *one)
{
	uint32_t at = (one->vnet * 31 + one->reason) % FP_REASON_VNETS;
	for (uint32_t i = 0; i < FP_REASON_VNETS; i++, at = (at + 1) % FP_REASON_VNETS) {
		struct fp_reason_vnet *mine = &sum->reason_vnet[at];
		if (mine->packets == 0 || (mine->vnet == one->vnet && mine->reason == one->reason)) {
			mine->vnet = one->vnet;
			mine->reason = one->reason;
			mine->packets += one->packets;
			return;
		}
	}
	sum->reason_vnet_full += one->packets;
}

static uint64_t
clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
