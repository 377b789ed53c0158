// SPDX-License-Identifier: Apache-2.0
//
// Two poll threads, a writer, and the world outside, all at once (TSan), on tables so small that every index soon has
// another owner: V-nets, ingresses, locations, tunnels, headers, next hop groups, sets, flows. What must hold is said
// by what goes in and comes out: nothing reaches a member of another V-net, each frame ends once, by a name if not by
// a port, and what counts by an index begins at zero with each owner of it.
//
//	test_recycling [V-NETS]
#include "recycling.h"

#include <pthread.h>

static struct recycling recycling = {.lives = 250};

static void
rig_make(void)
{
	struct rig_config config = {
		.port = {{.role = FP_PORT_INSIDE, .mtu_bytes = 1500},
			 {.role = FP_PORT_INSIDE, .mtu_bytes = 1500},
			 {.role = FP_PORT_UNDERLAY, .mtu_bytes = 1600}},
		.ports = 3,
		.ring_slots = 1024,
		.mbufs = 8191,
		.mbuf_cache = 32,
		.miss_slots = 256,
		.arena = {.flows = 128,
			  .locations = 64,
			  .tunnels = REMOTES + 3,
			  .vnets = SLOTS + 2,
			  .ingresses = SLOTS * 4 + 8,
			  .ports = 3,
			  .threads = RIG_THREADS_MAX,
			  .refusal_share_percent = 25},
		.hold = {.packets = 512,
			 .packets_per_vnet = 256,
			 .packets_per_ingress = 128,
			 .packets_per_flow = 8,
			 .wait_ms = 300},
		.icmp_per_s = 100000,
		.exceptions_per_s = 1000000,
		.threads = RIG_THREADS_MAX,
		.runs = true,
	};

	for (uint32_t i = 0; i < config.ports; i++)
		memcpy(config.port[i].mac, port_macs[i], 6);
	assert(rig_eal() == 0 && rig_create(&config, &recycling.rig) == 0);
}

// What is held waits no longer than wait_ms; time is moved by hand now.
static void
rest_end(struct traffic *traffic, uint64_t now_ns)
{
	static uint8_t buffer[RIG_FRAME_BYTES];
	uint32_t port, len_bytes;

	for (int i = 0; i < 8; i++) {
		now_ns += 100000000;
		rig_step(recycling.rig, now_ns);
		rig_maintain(recycling.rig, now_ns);
		traffic_look(&recycling, traffic);
		while (rig_exception(recycling.rig, &port, buffer, &len_bytes))
			recycling.exceptions++;
	}
}

static uint64_t
clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t
sum_of(size_t offset)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < RIG_THREADS_MAX; i++)
		sum += *(const uint64_t *)((const char *)fp_thread_counters(rig_thread_at(recycling.rig, i)) +
					   offset);
	return sum;
}
#define SUM(member) sum_of(offsetof(struct fp_counters, member))

// What may become of frames that were sent as they should be, while V-nets and tunnels come and go.
static const enum fp_drop_reason expected[] = {
	FP_DROP_no_attachment,     FP_DROP_unknown_vtep,           FP_DROP_denied,
	FP_DROP_hold_full,         FP_DROP_hold_flow_full,         FP_DROP_hold_vnet_full,
	FP_DROP_hold_ingress_full, FP_DROP_hold_expired,           FP_DROP_mtu_frag_needed,
	FP_DROP_location_gone,     FP_DROP_tunnel_unresolved,      FP_DROP_tx_full,
	FP_DROP_exception_full,    FP_DROP_exception_control_full, FP_DROP_vnet_gone,
	FP_DROP_ingress_gone,
};

static void
every_frame_ended_once(const struct traffic *traffic)
{
	uint64_t dropped = 0;

	for (uint32_t reason = 0; reason < FP_REASONS_MAX; reason++) {
		const uint64_t n = sum_of(offsetof(struct fp_counters, dropped) + reason * sizeof(uint64_t));
		bool is_expected = false;

		for (size_t i = 0; i < RTE_DIM(expected); i++)
			is_expected |= expected[i] == reason;
		if (n != 0)
			printf("%12lu %s\n", (unsigned long)n, fp_drop_name(reason));
		assert(n == 0 || is_expected);
		dropped += n;
	}
	printf("%12lu sent, %lu came out, %lu for the gateway\n", (unsigned long)traffic->sent,
	       (unsigned long)traffic->out, (unsigned long)recycling.exceptions);
	assert(traffic->sent == traffic->out + recycling.exceptions + dropped);
	assert(traffic->out == SUM(forwarded) + SUM(delivered) + SUM(relayed) + SUM(answered));
	assert(traffic->out_icmp == SUM(icmp_sent) && traffic->out_own <= recycling.frames_own);
	assert(rig_mbufs_in_use(recycling.rig) == 0);
	assert(SUM(forwarded) && SUM(delivered) && SUM(relayed) && SUM(answered) && SUM(icmp_sent));
	assert(SUM(narrowed) && SUM(released) && recycling.exceptions && traffic->out_own);
}

// Those that live last had nothing taken from them: all that was sent to them was counted for them, and nothing else.
static void
counters_are_their_owners(void)
{
	const struct fp_arena *arena = rig_arena(recycling.rig);
	const struct fp_vnet *vnet;
	uint32_t seen = 0;

	for (uint32_t i = 1; (vnet = fp_vnet_at(arena, i)) != NULL; i++) {
		uint64_t rx = 0, tx = 0;

		if (!(vnet->flags & FP_VNET_LIVE))
			continue;
		const struct life *life = &recycling.life[vnet->vni - VNI_BASE];
		for (uint32_t t = 0; t < RIG_THREADS_MAX; t++) {
			const struct fp_counters *c = fp_thread_counters(rig_thread_at(recycling.rig, t));
			rx += c->vnet[i].rx_packets;
			tx += c->vnet[i].tx_packets;
		}
		assert(rx == life->sent && tx == life->came_out);
		seen++;
	}
	assert(seen == SLOTS && fp_arena_indexes_misused(arena) == 0);
}

int
main(int argc, char **argv)
{
	struct traffic traffic = {0};
	uint64_t seed = 2;
	pthread_t tables;

	if (argc > 1)
		recycling.lives = (uint32_t)atoi(argv[1]);
	assert(recycling.lives >= SLOTS && recycling.lives <= LIVES_MAX);
	setvbuf(stdout, NULL, _IOLBF, 0);
	rig_make();
	assert(rig_start(recycling.rig) == 0);
	assert(pthread_create(&tables, NULL, tables_main, &recycling) == 0);
	while (!__atomic_load_n(&recycling.written, __ATOMIC_ACQUIRE))
		traffic_step(&recycling, &traffic, &seed);
	pthread_join(tables, NULL);
	while (traffic_waits(&recycling))
		traffic_look(&recycling, &traffic);
	rig_stop(recycling.rig);
	rest_end(&traffic, clock_ns());
	tables_report(&recycling);
	every_frame_ended_once(&traffic);
	counters_are_their_owners();
	rig_destroy(recycling.rig);
	return 0;
}
