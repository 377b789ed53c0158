// SPDX-License-Identifier: Apache-2.0
//
// SYNC: a client asks to be told when everything that it wrote before is in force. What was closed before this record
// readers compare with from then on (closing.h); a packet that a reader had looked up before may still leave, so the
// answer waits until every reader has passed a quiescent state since.
#include <rte_rcu_qsbr.h>

#include "install_internal.h"

#define NOTED_AT_ONCE 4096 // V-nets

static void sync_answer(struct fp_installer *in, uint32_t client);
static bool in_force_note(struct fp_installer *in, uint32_t worker);

int
fp_sync_apply(struct fp_installer *in, const struct fp_record_sync *record)
{
	if (!fp_bytes_zero(record->zero, sizeof(record->zero)))
		return FP_REFUSED_MALFORMED;
	if (record->workers && in->workers && record->workers != in->workers)
		return FP_REFUSED_OTHER_CLIENT; // it would confirm V-nets of others
	in->sync[in->client] = (struct fp_sync_state){
		.record = *record,
		.token = rte_rcu_qsbr_start(in->arena->qsbr),
	};
	in->syncs_waiting |= 1u << in->client;
	fp_installer_sync(in);
	return 0;
}

bool
fp_installer_sync(struct fp_installer *in)
{
	fp_refill(in);
	const bool settling = fp_closings_settle(in->arena);
	for (uint32_t left = in->syncs_waiting; left; left &= left - 1) {
		uint32_t client = (uint32_t)__builtin_ctz(left);
		if (rte_rcu_qsbr_check(in->arena->qsbr, in->sync[client].token, false) == 1 &&
		    in_force_note(in, client))
			sync_answer(in, client);
	}
	return settling || in->syncs_waiting != 0;
}

static void
sync_answer(struct fp_installer *in, uint32_t client)
{
	struct fp_record_sync answer = in->sync[client].record;
	answer.head.type = FP_RECORD_SYNCED;
	in->syncs_waiting &= ~(1u << client);
	in->hooks.emit(in->hooks.context, client == FP_CLIENT_WORKERS ? FP_CLIENT_CONTROL : (uint8_t)client,
		       (const struct fp_record *)&answer);
}

// By number and not by who has set a V-net: it may have been another worker's when there were more of them. Some
// V-nets at a time; true: all know.
static bool
in_force_note(struct fp_installer *in, uint32_t worker)
{
	const struct fp_record_sync *record = &in->sync[worker].record;
	uint32_t *noted = &in->sync[worker].noted;
	if (record->workers == 0 || worker >= FP_CLIENT_WORKERS)
		return true;
	for (uint32_t left = NOTED_AT_ONCE; left && *noted + 1 < in->arena->view.vnets; left--) {
		const uint32_t v = ++*noted;
		struct fp_vnet *vnet = &in->arena->view.vnet[v];
		if (fp_index_live(&in->arena->pool[FP_POOL_VNET], v) &&
		    vnet->vni % record->workers == worker && vnet->incarnation == record->incarnation &&
		    vnet->in_force < record->head.revision)
			fp_store(&vnet->in_force, record->head.revision);
	}
	return *noted + 1 >= in->arena->view.vnets;
}
