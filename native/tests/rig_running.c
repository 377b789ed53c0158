// SPDX-License-Identifier: Apache-2.0
//
// A rig that runs: the poll threads of native/run over its ports.
#include "rig_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

static int poll_start(struct rig *rig, uint32_t i);

int
rig_start(struct rig *rig)
{
	rig->housekeeping_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (rig->housekeeping_fd < 0)
		return -errno;
	rig->running = true;
	for (uint32_t i = 0; i < rig->config.threads; i++) {
		const int rc = poll_start(rig, i);

		if (rc != 0) {
			rig_stop(rig);
			return rc;
		}
	}
	return 0;
}

void
rig_stop(struct rig *rig)
{
	for (uint32_t i = 0; i < rig->config.threads; i++) {
		if (!rig->poll[i].started)
			continue;
		fp_poll_stop(&rig->poll[i]);
		fp_arena_reader_register(rig->arena, i); // its own steps again
		fp_arena_reader_online(rig->arena, i);
	}
	close(rig->housekeeping_fd);
	rig->running = false;
}

static int
poll_start(struct rig *rig, uint32_t i)
{
	struct fp_poll *poll = &rig->poll[i];
	struct fp_error error;

	*poll = (struct fp_poll){
		.index = i,
		.cpu = FP_CPU_ANY,
		.thread = rig->thread[i],
		.arena = rig->arena,
		.housekeeping_fd = rig->housekeeping_fd,
		.housekeeping_sleeps = &rig->housekeeping_sleeps,
		.queue = calloc(rig->config.ports, sizeof(*poll->queue)),
		.queues = rig->config.ports,
		.idle_mode = FP_IDLE_SLEEP,
		.max_sleep_us = 100,
		.wake_fd = -1,
	};
	if (poll->queue == NULL)
		return -ENOMEM;
	for (uint32_t q = 0; q < rig->config.ports; q++)
		poll->queue[q] =
			(struct fp_poll_queue){.port = &rig->port[q], .queue = (uint16_t)i, .wake_fd = -1};
	fp_arena_reader_offline(rig->arena, i);
	fp_arena_reader_unregister(rig->arena, i);
	return fp_poll_start(poll, &error);
}
