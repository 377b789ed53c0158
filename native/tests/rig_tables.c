// SPDX-License-Identifier: Apache-2.0
//
// The rig's tables: records are applied by hand, and what the installer has to say goes to the threads and to
// whoever asks for it.
#include "rig_internal.h"

#include <errno.h>
#include <sched.h>

#define ATTEMPTS 8 // a grace period is over within so many

static void readers_quiescent(struct rig *rig);

int
rig_apply(struct rig *rig, const struct fp_record *record, uint64_t now_ns)
{
	int rc;

	fp_arena_tick(rig->arena, now_ns);
	for (int i = 0; i < ATTEMPTS;) {
		rc = fp_installer_apply(rig->installer, record->head.type == FP_RECORD_NEXTHOP_SET ? 0xff : 0,
					record, now_ns);
		if (rc == -EINPROGRESS)
			continue;
		if (rc != -EAGAIN)
			break;
		i += !rig->running; // the threads' grace period takes what it takes
		rig_maintain(rig, now_ns);
	}
	return rc;
}

void
rig_maintain(struct rig *rig, uint64_t now_ns)
{
	readers_quiescent(rig);
	fp_arena_tick(rig->arena, now_ns);
	while (fp_installer_tick(rig->installer, now_ns))
		readers_quiescent(rig);
}

bool
rig_emitted(struct rig *rig, struct fp_record *record)
{
	if (rig->emitted_head == rig->emitted_tail)
		return false;
	*record = rig->emitted[rig->emitted_head++ % RIG_EMITTED];
	return true;
}

int
rig_send_inner(struct rig *rig, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
	       uint32_t len_bytes)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(rig->mempool);
	char *data = mbuf != NULL ? rte_pktmbuf_append(mbuf, (uint16_t)len_bytes) : NULL;
	bool taken;

	if (data == NULL) {
		rte_pktmbuf_free(mbuf);
		return -ENOBUFS;
	}
	memcpy(data, frame, len_bytes);
	taken = kind == 0 ? fp_thread_send(rig->thread[0], (uint16_t)target, mbuf)
			  : fp_thread_send_inner(rig->thread[0], kind, target, wire_id, mbuf);
	if (!taken)
		rte_pktmbuf_free(mbuf);
	return taken ? 0 : -ENOSPC;
}

static void
readers_quiescent(struct rig *rig)
{
	if (rig->running) {
		sched_yield(); // they say so themselves
		return;
	}
	for (uint32_t i = 0; i < rig->config.threads; i++)
		fp_arena_reader_quiescent(rig->arena, i);
}

static void
hook_release(void *context, const struct fp_release *release)
{
	struct rig *rig = context;
	const uint32_t thread = (uint32_t)(release->token >> 56);

	if (thread >= rig->config.threads)
		return;
	fp_thread_release(rig->thread[thread], release, 1);
	if (rig->running)
		fp_poll_wake(&rig->poll[thread]);
}

static void
hook_emit(void *context, uint8_t, const struct fp_record *record)
{
	struct rig *rig = context;

	if (rig->emitted_tail - rig->emitted_head < RIG_EMITTED)
		rig->emitted[rig->emitted_tail++ % RIG_EMITTED] = *record;
}

static int
hook_port(void *context, const char *name, uint16_t *mtu_bytes)
{
	struct rig *rig = context;

	for (uint32_t i = 0; i < rig->config.ports; i++) {
		if (strncmp(name, rig->port[i].name, FP_PORT_NAME_BYTES) != 0)
			continue;
		*mtu_bytes = rig->port[i].mtu_bytes;
		return (int)i;
	}
	return -1;
}

static void
hook_send(void *context, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
	  uint32_t len_bytes)
{
	rig_send_inner(context, kind, target, wire_id, frame, len_bytes);
}

static void
hook_counters_begin(void *context, enum fp_counted what, uint32_t index)
{
	struct rig *rig = context;

	for (uint32_t i = 0; i < rig->config.threads; i++)
		if (rig->thread[i] != NULL) // not before it is made
			fp_thread_counters_begin(rig->thread[i], what, index);
}

const struct fp_installer_hooks rig_hooks = {
	.release = hook_release,
	.emit = hook_emit,
	.port_by_name = hook_port,
	.send = hook_send,
	.counters_begin = hook_counters_begin,
};
