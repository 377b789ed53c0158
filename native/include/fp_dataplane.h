// SPDX-License-Identifier: Apache-2.0
//
// The data plane as one thing: EAL, ports, poll threads, housekeeping thread, clients. What the
// Cython class fastpath.dataplane.DataPlane wraps. All calls from control threads of one process;
// fp_dataplane_* may be called from several, they take a lock.
//
// clang-format off
//
//	fp_eal_start(&eal_config, &eal_report, &error);   // once a process; slow: a spare does it early
//	fp_dataplane_create(&config, &dataplane, &error); // mempool; no port, no arena yet
//	fp_dataplane_start(dataplane, &error);            // arena (adopted), ports, threads
//	fp_client_add(dataplane, &client);                // a slow path or control has connected
//	...
//	fp_dataplane_stop(dataplane);                     // the arena stays as it is, to be adopted
//	fp_dataplane_destroy(dataplane);
//
// clang-format on
#pragma once

#include "fp_install.h"
#include "fp_port.h"
#include "fp_thread.h"

#define FP_CPU_ANY 0xffffffffu
#define FP_THREADS_MAX 64
#define FP_WORKER_CONTROL 0xff
#define FP_CLIENTS_MAX (FP_WORKERS_MAX + 1)

// ---- EAL -------------------------------------------------------------------------------------

enum fp_hugepages { FP_HUGEPAGES_AUTO = 0, FP_HUGEPAGES_ALWAYS = 1, FP_HUGEPAGES_NEVER = 2 };

struct fp_eal_config {
	const char *file_prefix;  // unique on this machine
	const char *control_cpus; // "0,2-3": where everything floats that is not a poll thread;
				  // NULL: anywhere
	uint32_t memory_mb;       // what mempools will need
	uint8_t hugepages;        // enum fp_hugepages
	uint8_t pci;              // a port is a PCI device
	const char *log_prefix;   // before every line of DPDK's log; NULL: "dpdk: "
};

struct fp_eal_report {
	uint64_t ns; // how long it took
	uint32_t memory_mb;
	uint8_t hugepages; // enough were free
	uint8_t pci;       // the PCI bus was looked at
};

int fp_eal_start(const struct fp_eal_config *config, struct fp_eal_report *report, struct fp_error *error);

// ---- the data plane --------------------------------------------------------------------------

// A thread that finds nothing spins for 20 us, then sleeps. Devices that can wake it do (net_tap,
// af_packet, af_xdp, PCI in mode interrupt); while it polls one that cannot, it looks again after
// growing steps up to max_sleep_us.
enum fp_idle_mode {
	FP_IDLE_SLEEP = 1,
	FP_IDLE_SPIN = 2,      // never sleep
	FP_IDLE_INTERRUPT = 3, // as sleep, and every device must be able to wake: fixed at start
};

struct fp_idle {
	uint8_t mode; // enum fp_idle_mode
	uint32_t max_sleep_us;
};
#define FP_IDLE_DEFAULT                                                                                      \
	{                                                                                                    \
		.mode = FP_IDLE_SLEEP, .max_sleep_us = 900                                                   \
	}

struct fp_dataplane_config {
	const char *arena_path; // NULL: anonymous
	struct fp_arena_config arena;
	const struct fp_port_config *ports;
	uint32_t ports_n;
	uint32_t threads;
	uint32_t poll_cpu[FP_THREADS_MAX]; // FP_CPU_ANY: not pinned
	uint32_t workers;                  // slow-path workers
	struct fp_idle idle;
	struct fp_hold_limits hold;
	uint32_t icmp_per_s;
	uint32_t packet_buffers; // 0: as many as the queues and the hold can bind
};

struct fp_dataplane;

// Where the time of a start went, in ns.
struct fp_start_report {
	uint64_t mempool_ns, arena_ns, ports_ns, threads_ns;
	uint64_t first_packet_ns; // CLOCK_BOOTTIME of the first packet received since start; 0:
				  // none yet
	uint64_t started_ns;      // CLOCK_BOOTTIME when the poll threads ran
	uint32_t unpinned;        // poll threads that could not be pinned
	uint32_t mbufs;
};

int fp_dataplane_create(const struct fp_dataplane_config *config, struct fp_dataplane **dataplane,
			struct fp_error *error);
// Where the tables are, instead of config.arena_path: known only once nobody else makes them. Before
// start.
int fp_dataplane_set_arena(struct fp_dataplane *dataplane, const char *path);
int fp_dataplane_start(struct fp_dataplane *dataplane, struct fp_error *error);
void fp_dataplane_stop(struct fp_dataplane *dataplane);
void fp_dataplane_destroy(struct fp_dataplane *dataplane);

// Megabytes of packet memory that a configuration needs (for fp_eal_config.memory_mb).
uint32_t fp_dataplane_memory_mb(const struct fp_dataplane_config *config);
void fp_dataplane_start_report(const struct fp_dataplane *dataplane, struct fp_start_report *report);
struct fp_arena *fp_dataplane_arena(struct fp_dataplane *dataplane);
const struct fp_port *fp_dataplane_port(const struct fp_dataplane *dataplane,
					uint32_t index); // NULL: none
void fp_dataplane_set_idle(struct fp_dataplane *dataplane, const struct fp_idle *idle);
// -ESHUTDOWN: it does not run.
int fp_dataplane_set_hold(struct fp_dataplane *dataplane, const struct fp_hold_limits *limits);

// Sum over all poll threads. vnet and tunnel in *sum point to arrays of one more than the configured
// number (indexes are 1 .. capacity), or are NULL: not wanted. Pairs of V-nets that are gone are not in it.
void fp_dataplane_counters(struct fp_dataplane *dataplane, struct fp_counters *sum);

// One poll thread, for `show threads`.
struct fp_thread_state {
	uint32_t index, cpu; // cpu: FP_CPU_ANY if it floats
	uint64_t polls, bursts, sleeps, cycles_busy, cycles_idle, received;
	uint32_t held_now;
	uint64_t cpu_ns; // that it has used
	uint64_t cycles_hz;
	uint64_t stage_cycles[FP_STAGE_MAX];
};
int fp_dataplane_thread(struct fp_dataplane *dataplane, uint32_t thread, struct fp_thread_state *state);

// One port, for `show ports`: what its driver counts, and the sum over threads of what they do.
struct fp_port_state {
	uint64_t rx_missed, rx_errors;
	uint32_t speed_mbps; // 0: unknown
	struct fp_port_counters counters;
};
int fp_dataplane_port_state(struct fp_dataplane *dataplane, uint32_t index, struct fp_port_state *state);

// What housekeeping counts itself.
struct fp_housekeeping_counters {
	uint64_t rounds, sleeps, applied, refused,
		waited; // waited: records that were not to be applied yet (-EAGAIN)
	uint64_t releases, release_waits, emitted, emit_lost, sent, send_lost;
	uint64_t exception_out, exception_in, exception_lost;
	uint64_t broken_rings, cpu_ns;
	uint64_t indexes_misused; // see fp_arena_indexes_misused
};
void fp_dataplane_housekeeping(struct fp_dataplane *dataplane, struct fp_housekeeping_counters *counters);

// The TAP queue for a port's exception traffic; takes fd over (closed with the port or when
// replaced). -ENOENT: no such port; -ESHUTDOWN: it does not run.
// Which VLANs of an underlay port its tunnels come in; 0: untagged.
int fp_dataplane_set_underlay_vlans(struct fp_dataplane *dataplane, uint32_t port, const uint16_t *vlans,
				    uint32_t n);
int fp_exception_set(struct fp_dataplane *dataplane, uint32_t port, int fd);

// ---- clients ---------------------------------------------------------------------------------

struct fp_client_config {
	uint8_t worker; // 0 .. workers-1, or FP_WORKER_CONTROL
	void *base;     // the memfd, mapped; formatted with threads + 1 miss rings
	size_t len_bytes;
	int wake_client_fd; // writing end of a pipe, non-blocking and not shared with the client
	int wake_self_fd;   // eventfd that the client writes; only waited for
};

// A client of the same worker is replaced. The caller keeps the mapping and the descriptors until
// fp_client_remove has returned (a replaced one: until this has returned). Returns an id >= 0, or
// -errno, and keeps nothing of it then. -ESHUTDOWN: it does not run; fp_dataplane_stop has let go
// of all clients.
int fp_client_add(struct fp_dataplane *dataplane, const struct fp_client_config *config);
int fp_client_remove(struct fp_dataplane *dataplane, int client); // 0 also if it was replaced

struct fp_client_state {
	int id;
	uint8_t worker, live, broken;
	uint64_t applied, refused, emitted, emit_lost;
	uint32_t pending; // install records that wait
};
int fp_client_at(struct fp_dataplane *dataplane, uint32_t i,
		 struct fp_client_state *state); // -ENOENT past the last

// Runs call(context) in the housekeeping thread between two rounds, and waits for it. For dumps of
// what only the writer may see. Keep it short: first packets wait meanwhile.
void fp_dataplane_call(struct fp_dataplane *dataplane, void (*call)(void *context), void *context);
struct fp_installer *fp_dataplane_installer(struct fp_dataplane *dataplane);
