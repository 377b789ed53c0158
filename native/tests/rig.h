// SPDX-License-Identifier: Apache-2.0
//
// A pipeline on a bench: poll threads' state (fp_thread) over an arena filled by the installer, with
// ring-backed ports, a mempool and workers whose rings are read here. What tests (through
// fastpath.probe), the fuzz target and the benchmark stand on; no part of a gateway.
//
// Stepped, by one thread; time stands still unless it is moved:
//
//	rig_eal();                                     // once a process
//	rig_create(&config, &rig);
//	rig_apply(rig, record, now_ns);                // tables, by the records of fp_records.h
//	rig_inject(rig, 0, frame, len_bytes, 1);       // into port 0's receive ring
//	rig_step(rig, now_ns);                         // tick, receive, flush
//	while (rig_sent(rig, &port, buffer, &len)) ...
//
// Or running: between rig_start and rig_stop the poll threads of native/run walk the pipeline, by
// CLOCK_BOOTTIME. Of the others one is the writer (rig_apply, rig_maintain, rig_record, rig_emitted,
// rig_exception, rig_send_inner) and one is the world outside (rig_inject_at, rig_sent).
#pragma once

#include "fp_install.h"
#include "fp_thread.h"

#define RIG_PORTS_MAX 8
#define RIG_WORKERS 2
#define RIG_THREADS_MAX 2
#define RIG_FRAME_BYTES 16384

struct rig_port {
	uint8_t role; // enum fp_port_role
	uint8_t mac[6];
	uint8_t partial_checksums;
	uint16_t mtu_bytes;
};

struct rig_config {
	struct rig_port port[RIG_PORTS_MAX]; // named port0, port1 ...
	uint32_t ports;
	uint32_t ring_slots; // of a port's rings, and so the most that fits in a transmit queue
	uint32_t mbufs;
	uint32_t mbuf_cache;
	uint32_t miss_slots;
	struct fp_arena_config arena;
	struct fp_hold_limits hold;
	uint32_t icmp_per_s, exceptions_per_s;
	bool null_ports;  // transmit into net_null instead: a benchmark's sink
	uint32_t threads; // 0: one
	bool runs;        // is to be started: rings and buffers go through code that a thread sanitizer sees
};

struct rig;

int rig_eal(void);
int rig_create(const struct rig_config *config, struct rig **rig);
void rig_destroy(struct rig *rig);

// As fp_installer_apply; -EAGAIN is waited for while the rig runs, else for some quiescent states.
int rig_apply(struct rig *rig, const struct fp_record *record, uint64_t now_ns);
void rig_maintain(struct rig *rig, uint64_t now_ns); // fp_installer_tick until there is no more to do
int rig_attach(struct rig *rig, uint32_t worker, bool attached); // its ring; new and empty. Not while it runs

// Into the receive ring of a port, of its first queue or of that of a thread; segments > 1: chained mbufs.
// -ENOBUFS, -ENOSPC.
int rig_inject(struct rig *rig, uint32_t port, const uint8_t *frame, uint32_t len_bytes, uint32_t segments);
int rig_inject_at(struct rig *rig, uint32_t port, uint32_t thread, const uint8_t *frame, uint32_t len_bytes,
		  uint32_t segments);
uint32_t rig_waiting(const struct rig *rig); // in receive rings
void rig_step(struct rig *rig, uint64_t now_ns);
// What came out since, in order of ports and time: false if there is no more. buffer:
// RIG_FRAME_BYTES.
bool rig_sent(struct rig *rig, uint32_t *port, uint8_t *buffer, uint32_t *len_bytes);
bool rig_exception(struct rig *rig, uint32_t *port, uint8_t *buffer, uint32_t *len_bytes);
// From a worker's rings; doorbell: whether it was to be rung.
bool rig_record(struct rig *rig, uint32_t worker, struct fp_record *record);
uint32_t rig_doorbells(struct rig *rig);
void rig_worker_sleeps(struct rig *rig, uint32_t worker); // says that it does
// A record that the installer emitted.
bool rig_emitted(struct rig *rig, struct fp_record *record);
int rig_send_inner(struct rig *rig, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
		   uint32_t len_bytes);

// 0, or -errno. After rig_stop the rig may be stepped, or started again.
int rig_start(struct rig *rig);
void rig_stop(struct rig *rig);

// Counters by name, the next one from *cursor on; NULL past the last. Of the first thread.
const char *rig_counter(struct rig *rig, uint32_t *cursor, uint64_t *value);

struct fp_arena *rig_arena(struct rig *rig);
struct fp_installer *rig_installer(struct rig *rig);
struct fp_thread *rig_thread(struct rig *rig); // the first
struct fp_thread *rig_thread_at(struct rig *rig, uint32_t thread);
struct fp_port *rig_port(struct rig *rig, uint32_t port);
struct rte_mempool *rig_mempool(struct rig *rig);
uint32_t rig_mbufs_in_use(const struct rig *rig);
