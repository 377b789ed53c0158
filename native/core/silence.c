// SPDX-License-Identifier: Apache-2.0
//
// Silence: which workers answer. One says so itself; one that was asked and sends nothing at all is dead or
// stopped, and its flows live on as if it had said that no directory answers.
#include "install_internal.h"

#define SILENT_AFTER_S 3 // a worker that was asked and says nothing for so long is silent

static void silence(struct fp_installer *in, uint32_t worker);

int
fp_directory_state(struct fp_installer *in, const struct fp_record_directory_state *record)
{
	if (record->worker >= FP_CLIENT_WORKERS || record->answering > 1)
		return FP_REFUSED_MALFORMED;
	if (record->answering) {
		in->worker[record->worker] = (struct fp_worker_state){0};
		return 0;
	}
	silence(in, record->worker);
	in->worker[record->worker].declared = true;
	return 0;
}

// Silence that it declared itself lasts until it says otherwise.
void
fp_worker_heard(struct fp_installer *in)
{
	if (in->client >= FP_CLIENT_WORKERS)
		return;
	struct fp_worker_state *worker = &in->worker[in->client];
	worker->asked_at_s = 0;
	if (!worker->declared)
		worker->silent_since_s = 0;
}

void
fp_worker_asked(struct fp_installer *in, uint32_t worker)
{
	if (worker < FP_CLIENT_WORKERS && in->worker[worker].asked_at_s == 0)
		in->worker[worker].asked_at_s = in->now_s;
}

void
fp_workers_watch(struct fp_installer *in)
{
	for (uint32_t w = 0; w < FP_CLIENT_WORKERS; w++) {
		const struct fp_worker_state *worker = &in->worker[w];
		if (worker->silent_since_s == 0 && worker->asked_at_s &&
		    in->now_s - worker->asked_at_s >= SILENT_AFTER_S)
			silence(in, w);
	}
}

static void
silence(struct fp_installer *in, uint32_t worker)
{
	if (in->worker[worker].silent_since_s)
		return;
	in->worker[worker].silent_since_s = in->now_s ? in->now_s : 1;
	in->upkeep_owed = in->arena->view.flows; // a whole lap at once: what has expired meanwhile lives on
}
