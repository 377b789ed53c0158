// SPDX-License-Identifier: Apache-2.0
//
// The data plane's parts in one place, for the files of this directory.
#pragma once

#include "housekeeping.h"

struct fp_dataplane {
	struct fp_dataplane_config config;
	char *arena_path;
	struct fp_port_config port_config[FP_PORTS_MAX];
	struct fp_arena *arena;
	struct fp_installer *installer;
	struct rte_mempool *mempool;
	struct fp_port ports[FP_PORTS_MAX];
	struct fp_poll poll[FP_THREADS_MAX];
	struct fp_housekeeping housekeeping;
	struct fp_start_report report;
	pthread_mutex_t lock; // of the control threads: clients, reconfiguration
	int next_client;
	bool started;
};

// underlay_vlan.c: before the threads start.
void fp_underlay_vlans_adopt(struct fp_dataplane *dp);
