// SPDX-License-Identifier: Apache-2.0
//
// What the files of the rig share: rig.c (made and unmade, stepped), rig_ports.c (ports and buffers),
// rig_tables.c (the installer and its hooks), rig_running.c (threads of its own).
#pragma once

#include "../run/poll_thread.h"
#include "rig.h"

#include <rte_mempool.h>
#include <rte_ring.h>

#define RIG_EMITTED 4096

struct rig {
	uint32_t number;
	struct rig_config config;
	struct fp_port port[FP_PORTS_MAX];
	struct rte_ring *rx[RIG_PORTS_MAX][RIG_THREADS_MAX], *tx[RIG_PORTS_MAX][RIG_THREADS_MAX];
	char device[RIG_PORTS_MAX][48];
	struct rte_mempool *mempool;
	struct fp_arena *arena;
	struct fp_installer *installer;
	struct fp_thread *thread[RIG_THREADS_MAX];
	void *rings[RIG_WORKERS];
	size_t rings_bytes;
	struct fp_ring_end worker[RIG_WORKERS][RIG_THREADS_MAX]; // consumers' ends
	bool attached[RIG_WORKERS];
	struct fp_record emitted[RIG_EMITTED];
	uint32_t emitted_head, emitted_tail;
	// while it runs
	bool running;
	struct fp_poll poll[RIG_THREADS_MAX];
	int housekeeping_fd;
	uint32_t housekeeping_sleeps;
};

// rig_ports.c
int rig_pool_register(void); // once a process
int rig_pool_make(struct rig *rig);
int rig_port_make(struct rig *rig, uint32_t i);
void rig_port_free(struct rig *rig, uint32_t i);

// rig_tables.c: what the installer calls.
extern const struct fp_installer_hooks rig_hooks; // context: the rig
