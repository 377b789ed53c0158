// SPDX-License-Identifier: Apache-2.0
//
// What threads and ports have counted, summed for whoever wants to see it.
#include "dataplane.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>

static uint64_t refused_of(const struct fp_dataplane *dp, uint32_t port);
static void counters_add(struct fp_counters *sum, const struct fp_counters *one,
			 const struct fp_arena *arena);
static void reason_vnet_add(struct fp_counters *sum, const struct fp_reason_vnet *pair,
			    const struct fp_arena *arena);

void
fp_dataplane_counters(struct fp_dataplane *dp, struct fp_counters *sum)
{
	struct fp_pair_counters *vnet = sum->vnet, *tunnel = sum->tunnel;
	memset(sum, 0, sizeof(*sum));
	sum->vnet = vnet;
	sum->tunnel = tunnel;
	uint64_t refused[FP_COUNTER_PORTS]; // read before what they are taken from
	for (int i = 0; i < FP_COUNTER_PORTS; i++)
		refused[i] = refused_of(dp, i);
	for (uint32_t i = 0; i < dp->config.threads; i++)
		if (dp->poll[i].thread)
			counters_add(sum, fp_thread_counters(dp->poll[i].thread), dp->arena);
	for (int i = 0; i < FP_COUNTER_PORTS; i++) {
		sum->exceptions -= refused[i];
		sum->port[i].exceptions -= refused[i];
		sum->dropped[FP_DROP_exception_refused] += refused[i];
	}
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
	const uint64_t refused = refused_of(dp, index);
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		const struct fp_port_counters *one = &fp_thread_counters(dp->poll[i].thread)->port[index];
		state->counters.rx_packets += one->rx_packets;
		state->counters.rx_bytes += one->rx_bytes;
		state->counters.tx_packets += one->tx_packets;
		state->counters.tx_bytes += one->tx_bytes;
		state->counters.tx_full += one->tx_full;
		state->counters.exceptions += one->exceptions;
	}
	state->counters.exceptions -= refused;
	return 0;
}

void
fp_dataplane_housekeeping(struct fp_dataplane *dp, struct fp_housekeeping_counters *counters)
{
	clockid_t clock;
	struct timespec t;
	*counters = dp->housekeeping.counters;
	counters->indexes_misused = dp->arena ? fp_arena_indexes_misused(dp->arena) : 0;
	if (dp->housekeeping.started && pthread_getcpuclockid(dp->housekeeping.pthread, &clock) == 0 &&
	    clock_gettime(clock, &t) == 0)
		counters->cpu_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// Frames for the kernel that its TAP did not take: dropped, and not carried.
static uint64_t
refused_of(const struct fp_dataplane *dp, uint32_t port)
{
	return __atomic_load_n(&dp->housekeeping.exceptions_refused[port], __ATOMIC_ACQUIRE);
}

// Members are read while their threads write them: each is a word, and a sum is a moment old
// anyway.
static void
counters_add(struct fp_counters *sum, const struct fp_counters *one, const struct fp_arena *arena)
{
	const struct fp_arena_view *view = fp_arena_tables(arena);
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
			reason_vnet_add(sum, &one->reason_vnet[i], arena);
	ADD(reason_vnet_full);
	for (int i = 0; i < FP_COUNTER_PORTS; i++) {
		ADD(port[i].rx_packets);
		ADD(port[i].rx_bytes);
		ADD(port[i].tx_packets);
		ADD(port[i].tx_bytes);
		ADD(port[i].tx_full);
		ADD(port[i].exceptions);
	}
	for (uint32_t i = 0; sum->vnet && one->vnet && i < view->vnets; i++) {
		ADD(vnet[i].rx_packets);
		ADD(vnet[i].rx_bytes);
		ADD(vnet[i].tx_packets);
		ADD(vnet[i].tx_bytes);
	}
	for (uint32_t i = 0; sum->tunnel && one->tunnel && i < view->tunnels; i++) {
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
	ADD(bursts);
	ADD(polls);
	ADD(cycles_busy);
	ADD(cycles_idle);
	ADD(sleeps);
	for (int i = 0; i < FP_STAGE_MAX; i++)
		ADD(stage_cycles[i]);
	ADD(delay.sum_ns);
	for (int i = 0; i < FP_DELAY_BUCKETS; i++)
		ADD(delay.bucket[i]);
#undef ADD
}

// A pair as it stands, if its V-net is there. Its thread may give the place to another V-net's meanwhile.
bool
fp_reason_vnet_read(const struct fp_reason_vnet *pair, const struct fp_arena *arena,
		    struct fp_reason_vnet *copy)
{
	copy->packets = __atomic_load_n(&pair->packets, __ATOMIC_ACQUIRE);
	copy->object_id = __atomic_load_n(&pair->object_id, __ATOMIC_RELAXED);
	copy->vni = __atomic_load_n(&pair->vni, __ATOMIC_RELAXED);
	copy->vnet = __atomic_load_n(&pair->vnet, __ATOMIC_RELAXED);
	copy->reason = __atomic_load_n(&pair->reason, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (copy->packets == 0 || __atomic_load_n(&pair->packets, __ATOMIC_RELAXED) < copy->packets ||
	    __atomic_load_n(&pair->object_id, __ATOMIC_RELAXED) != copy->object_id)
		return false;
	const struct fp_vnet *vnet = fp_vnet_at(arena, copy->vnet);
	return vnet && __atomic_load_n(&vnet->flags, __ATOMIC_RELAXED) & FP_VNET_LIVE &&
	       __atomic_load_n(&vnet->object_id, __ATOMIC_RELAXED) == copy->object_id;
}

static void
reason_vnet_add(struct fp_counters *sum, const struct fp_reason_vnet *pair, const struct fp_arena *arena)
{
	struct fp_reason_vnet now = {0}, *one = &now;
	if (!fp_reason_vnet_read(pair, arena, &now))
		return;
	uint32_t at = (one->vnet * 31u + one->reason) % FP_REASON_VNETS;
	for (uint32_t i = 0; i < FP_REASON_VNETS; i++, at = (at + 1) % FP_REASON_VNETS) {
		struct fp_reason_vnet *mine = &sum->reason_vnet[at];
		if (mine->packets == 0 ||
		    (mine->object_id == one->object_id && mine->reason == one->reason)) {
			const uint64_t packets = mine->packets + one->packets;
			*mine = *one;
			mine->packets = packets;
			return;
		}
	}
	sum->reason_vnet_full += one->packets;
}
