// SPDX-License-Identifier: Apache-2.0
//
// A whole data plane, threads and all, on devices that are none: what its clients and whoever reads
// its counters may rely on.
#undef NDEBUG
#define _GNU_SOURCE // pipe2
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../run/dataplane.h"
#include "fp_dataplane.h"
#include "fp_drop_reasons.h"

#define VNETS 3
#define TUNNELS 2
#define NODE 7
#define WAIT_S 20

static struct fp_dataplane *dp;
static struct fp_client_config client;

static void
dataplane_start(const char *arena_path)
{
	static struct fp_port_config ports[] = {
		{.name = "rack", .device = "net_ring0", .role = FP_PORT_INSIDE, .mtu_bytes = 1500},
		{.name = "up", .device = "net_null1,no-rx=1", .role = FP_PORT_UNDERLAY, .mtu_bytes = 1600},
	};
	struct fp_dataplane_config config = {
		.arena = {.flows = 1024,
			  .locations = 64,
			  .tunnels = TUNNELS,
			  .vnets = VNETS,
			  .ingresses = 16,
			  .ports = FP_PORTS_MAX,
			  .threads = 2,
			  .refusal_share_percent = 10},
		.arena_path = arena_path,
		.ports = ports,
		.ports_n = 2,
		.threads = 1,
		.poll_cpu = {FP_CPU_ANY},
		.workers = 1,
		.idle = FP_IDLE_DEFAULT,
		.hold = {.packets = 512,
			 .packets_per_vnet = 512,
			 .packets_per_ingress = 512,
			 .packets_per_flow = 16,
			 .wait_ms = 1000},
	};
	struct fp_error error = {0};

	if (fp_dataplane_create(&config, &dp, &error) != 0 || fp_dataplane_start(dp, &error) != 0) {
		printf("%s; %s\n", error.text, error.fix);
		abort();
	}
}

static void
client_make(void)
{
	size_t len_bytes = fp_rings_bytes(2, 256, 256);
	int pipes[2];

	client = (struct fp_client_config){.worker = 0, .len_bytes = len_bytes};
	client.base = aligned_alloc(4096, (len_bytes + 4095) / 4096 * 4096);
	assert(client.base != NULL && fp_rings_format(client.base, len_bytes, 2, 256, 256) == 0);
	assert(pipe2(pipes, O_NONBLOCK) == 0);
	client.wake_client_fd = pipes[1];
	client.wake_self_fd = eventfd(0, EFD_NONBLOCK);
}

struct application {
	struct fp_record *record;
	uint8_t client; // worker, or control
	int rc;
};

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void
apply_now(void *context)
{
	struct application *application = context;

	application->rc = fp_installer_apply(fp_dataplane_installer(dp), application->client,
					     application->record, now_ns());
}

static void
put(void *record, uint16_t type, uint32_t vni, uint8_t flags)
{
	struct application application = {.record = record,
					  .client = type == FP_RECORD_NEXTHOP_SET ? FP_WORKER_CONTROL : 0};

	application.record->head = (struct fp_record_head){
		.type = type, .version = FP_RECORD_VERSION, .vni = vni, .flags = flags};
	fp_dataplane_call(dp, apply_now, &application);
	assert(application.rc == 0);
}

// A frame of a V-net's out of its attachment, and by the device's ring in again.
static void
frame_out(uint32_t vni, uint64_t attachment)
{
	struct fp_record_packet packet = {
		.target_id = attachment, .kind = FP_LOCATION_LOCAL, .frame_bytes = 60};
	uint8_t frame[60] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};

	static_assert(sizeof(packet.data) >= sizeof(frame));
	memcpy(packet.data, frame, sizeof(frame));
	put(&packet, FP_RECORD_PACKET_OUT, vni, FP_RECORD_FIRST | FP_RECORD_LAST);
}

static void
last_of_a_full_table_is_counted(void)
{
	static struct fp_pair_counters vnets[VNETS + 1], tunnels[TUNNELS + 1];
	struct fp_counters sum = {.vnet = vnets, .tunnel = tunnels};
	time_t until = time(NULL) + WAIT_S;

	for (uint32_t i = 1; i <= VNETS; i++) {
		struct fp_record_vnet vnet = {.object_id = i, .incarnation = 1};
		struct fp_record_attachment attachment = {
			.object_id = 100 + i, .port = "rack", .vlan = (uint16_t)i};

		put(&vnet, FP_RECORD_VNET_SET, 10 * i, 0);
		put(&attachment, FP_RECORD_ATTACHMENT_SET, 10 * i, 0);
	}
	for (uint32_t i = 1; i <= TUNNELS; i++) {
		struct fp_record_tunnel tunnel = {.object_id = 200 + i,
						  .profile_id = 1,
						  .node_id = NODE,
						  .udp_port = 4789,
						  .mtu_bytes = 1500,
						  .protocol = FP_PROTOCOL_VXLAN,
						  .ttl = 64};
		struct fp_record_nexthop hop = {.count = 1,
						.hop = {{.destination_mac = {2, 0, 0, 0, 0, 9}, .port = 1}}};

		memcpy(tunnel.local + 12, (uint8_t[]){192, 0, 2, 1}, 4);
		memcpy(tunnel.remote + 12, (uint8_t[]){192, 0, 2, (uint8_t)(10 + i)}, 4);
		memcpy(hop.local, tunnel.local, sizeof(hop.local));
		memcpy(hop.remote, tunnel.remote, sizeof(hop.remote));
		put(&tunnel, FP_RECORD_TUNNEL_SET, 0, 0);
		put(&hop, FP_RECORD_NEXTHOP_SET, 0, 0);
	}
	for (uint32_t i = 1; i <= TUNNELS; i++) {
		struct fp_record_ingress ingress = {.node_id = NODE, .udp_port = 4789};
		struct fp_record_packet packet = {
			.target_id = 200 + i, .wire_id = 10, .kind = FP_LOCATION_TUNNEL, .frame_bytes = 60};

		memcpy(ingress.key.local + 12, (uint8_t[]){192, 0, 2, 1}, 4);
		memcpy(ingress.key.remote + 12, (uint8_t[]){192, 0, 2, (uint8_t)(10 + i)}, 4);
		ingress.key.wire_id = 10;
		ingress.key.protocol = FP_PROTOCOL_VXLAN;
		put(&ingress, FP_RECORD_INGRESS_SET, 10, 0);
		put(&packet, FP_RECORD_PACKET_OUT, 10, FP_RECORD_FIRST | FP_RECORD_LAST);
	}
	for (uint32_t i = 1; i <= VNETS; i++)
		frame_out(10 * i, 100 + i);
	do {
		assert(time(NULL) < until);
		usleep(1000);
		fp_dataplane_counters(dp, &sum);
	} while (vnets[1].rx_packets == 0 || vnets[VNETS].rx_packets == 0 || tunnels[1].tx_packets == 0 ||
		 tunnels[TUNNELS].tx_packets == 0);
	assert(vnets[VNETS].rx_packets == 1 && tunnels[TUNNELS].tx_packets == 1);
	printf("the last V-net and the last tunnel of a full table are counted\n");
}

static bool
write_and_hear(const void *record, struct fp_ring_end *install, struct fp_ring_end *out)
{
	const time_t until = time(NULL) + WAIT_S;
	struct fp_record answer;

	while (fp_ring_write(install, record, 1) != 1) {
		if (time(NULL) >= until)
			return false;
		eventfd_write(client.wake_self_fd, 1);
		usleep(100);
	}
	eventfd_write(client.wake_self_fd, 1);
	while (((const struct fp_record *)record)->head.type == FP_RECORD_SYNC) {
		if (fp_ring_read(out, &answer, 1) == 1 && answer.head.type == FP_RECORD_SYNCED)
			break;
		if (time(NULL) >= until)
			return false;
		usleep(100);
	}
	return true;
}

// A thread that takes no releases any more, since it does not run: what a client writes is applied all the same, and
// once the thread runs again it gets them.
static void
stuck_thread_keeps_nobody_waiting(void)
{
	const uint32_t places = 512, rounds = 10; // of the hold; more than the ring between takes
	struct fp_record_flow drop = {
		.head = {.type = FP_RECORD_RELEASE_DROP, .version = FP_RECORD_VERSION, .vni = 10},
		.reason = FP_DROP_no_rule};
	struct fp_record_sync sync = {.head = {.type = FP_RECORD_SYNC, .version = FP_RECORD_VERSION}};
	const time_t until = time(NULL) + WAIT_S;
	struct fp_housekeeping_counters counters;
	struct fp_ring_end install, out;
	const int id = fp_client_add(dp, &client);

	assert(id >= 0);
	assert(fp_ring_attach(&out, client.base, client.len_bytes, 1, FP_RING_CONSUMER) == 0);
	assert(fp_ring_attach(&install, client.base, client.len_bytes, 2, FP_RING_PRODUCER) == 0);
	fp_dataplane_housekeeping(dp, &counters);
	const uint64_t before = counters.releases;
	drop.key.ingress = fp_ingress_by_vlan(fp_dataplane_arena(dp), 0, 1);
	fp_poll_pause(&dp->poll[0]);
	for (uint32_t i = 0; i < places * rounds; i++) {
		drop.token = (uint64_t)(i % places + 1) << 32 | (i / places + 1);
		assert(write_and_hear(&drop, &install, &out));
	}
	assert(write_and_hear(&sync, &install, &out));
	fp_dataplane_housekeeping(dp, &counters);
	assert(counters.release_waits > places && counters.releases - before < places * rounds);
	fp_poll_resume(&dp->poll[0]);
	do { // the newest of each place, at least
		assert(time(NULL) < until);
		usleep(1000);
		fp_dataplane_housekeeping(dp, &counters);
	} while (counters.releases - before < places * rounds - counters.release_waits + places);
	assert(fp_client_remove(dp, id) == 0);
	printf("a thread that does not run keeps nobody else waiting\n");
}

static void
stopped_data_plane_says_so(void)
{
	struct fp_hold_limits limits = FP_HOLD_LIMITS_DEFAULT;
	struct fp_client_state state;
	int id = fp_client_add(dp, &client);

	assert(id >= 0 && fp_client_at(dp, 0, &state) == 0 && state.live);
	assert(fp_dataplane_set_hold(dp, &limits) == 0);
	fp_dataplane_stop(dp);
	alarm(WAIT_S); // it did wait for a thread that is gone
	assert(fp_client_remove(dp, id) == -ESHUTDOWN);
	assert(fp_client_add(dp, &client) == -ESHUTDOWN);
	assert(fp_dataplane_set_hold(dp, &limits) == -ESHUTDOWN);
	assert(fp_exception_set(dp, 1, -1) == -ESHUTDOWN);
	for (uint32_t i = 0; fp_client_at(dp, i, &state) == 0; i++)
		assert(!state.live);
	alarm(0);
	printf("a stopped data plane has no client and takes none\n");
}

static void
eal_start(void)
{
	struct fp_eal_config eal = {
		.memory_mb = 128, .hugepages = FP_HUGEPAGES_NEVER, .log_prefix = "dpdk: "};
	struct fp_eal_report report;
	struct fp_error error = {0};
	char prefix[32];

	snprintf(prefix, sizeof(prefix), "test-%d", (int)getpid());
	eal.file_prefix = prefix;
	assert(fp_eal_start(&eal, &report, &error) == 0);

	char left[64];
	snprintf(left, sizeof(left), "/var/run/dpdk/%s", prefix);
	assert(access(left, F_OK) != 0); // nothing stays on the machine
}

static void
vnet_put(uint32_t vni)
{
	struct fp_record_vnet vnet = {.object_id = vni, .incarnation = 1};

	put(&vnet, FP_RECORD_VNET_SET, vni, 0);
}

static void
fault_now(void *)
{
	// A page that nobody may touch: of a null pointer a sanitizer tells before there is a fault.
	volatile int *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*nowhere = 1;
}

// A process of its own: its writer faults after a record of the second V-net.
static void
crash_once(const char *path)
{
	const pid_t child = fork();
	int status;

	assert(child >= 0);
	if (child == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0});
		alarm(WAIT_S);
		eal_start();
		dataplane_start(path);
		vnet_put(10);
		vnet_put(20);
		fp_dataplane_call(dp, fault_now, NULL);
		_exit(0);
	}
	assert(waitpid(child, &status, 0) == child);
	assert(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
}

static void
crashes_say_whose_they_were(void)
{
	char path[] = "/tmp/fp-dataplane-XXXXXX";
	struct fp_arena_config config = {.flows = 1024,
					 .locations = 64,
					 .tunnels = TUNNELS,
					 .vnets = VNETS,
					 .ingresses = 16,
					 .ports = FP_PORTS_MAX,
					 .threads = 2,
					 .refusal_share_percent = 10};
	struct fp_arena *arena;
	const int fd = mkstemp(path);

	assert(fd >= 0);
	close(fd);
	for (int i = 0; i < 3; i++)
		crash_once(path);
	assert(fp_arena_open(path, &config, now_ns(), &arena) == 0);
	const struct fp_adoption_report *report = fp_arena_adoption(arena);
	assert(report->how == FP_ARENA_ADOPTED && report->left_out == 1 && report->vnets == 1);
	fp_arena_close(arena);
	remove(path);
	printf("three crashes cost one V-net its tables\n");
}

int
main(void)
{
	crashes_say_whose_they_were();
	eal_start();
	dataplane_start(NULL);
	client_make();
	last_of_a_full_table_is_counted();
	stuck_thread_keeps_nobody_waiting();
	stopped_data_plane_says_so();
	fp_dataplane_destroy(dp);
	return 0;
}
