// SPDX-License-Identifier: Apache-2.0
//
// Clients: their rings given to housekeeping and to the poll threads, and taken away again. What a
// client wrote is applied in its order: a record that cannot be applied yet (-EAGAIN) stays first.
//
// A client whose ring is broken (impossible index) is not read any more until it connects anew.
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "dataplane.h"

struct client_change {
	struct fp_housekeeping *hk;
	const struct fp_client_config *config;
	uint32_t miss_rings;
	int id;     // to remove; out: the one added
	int worker; // out: of the one removed, -1: none
	int rc;
};

static void client_attach(void *context);
static void client_detach(void *context);
static void client_clear(struct fp_housekeeping *hk, struct fp_client *client);
static int workers_attach(struct fp_dataplane *dp, uint8_t worker, const struct fp_client_config *config);

int
fp_client_add(struct fp_dataplane *dp, const struct fp_client_config *config)
{
	if (config->worker != FP_WORKER_CONTROL && config->worker >= dp->config.workers)
		return -EINVAL;
	pthread_mutex_lock(&dp->lock);
	if (!dp->started) {
		pthread_mutex_unlock(&dp->lock);
		return -ESHUTDOWN;
	}
	struct client_change change = {.hk = &dp->housekeeping,
				       .config = config,
				       .miss_rings = dp->config.threads + 1,
				       .id = dp->next_client};
	fp_housekeeping_call(&dp->housekeeping, client_attach, &change);
	if (change.rc == 0 && config->worker != FP_WORKER_CONTROL) {
		change.rc = workers_attach(dp, config->worker, config);
		if (change.rc < 0) { // the caller will unmap what some have got
			workers_attach(dp, config->worker, NULL);
			fp_housekeeping_call(&dp->housekeeping, client_detach, &change);
		}
	}
	if (change.rc == 0)
		dp->next_client++;
	pthread_mutex_unlock(&dp->lock);
	return change.rc < 0 ? change.rc : change.id;
}

int
fp_client_remove(struct fp_dataplane *dp, int client)
{
	pthread_mutex_lock(&dp->lock);
	if (!dp->started) { // nor is there a thread that could let go of it
		pthread_mutex_unlock(&dp->lock);
		return -ESHUTDOWN;
	}
	struct client_change change = {.hk = &dp->housekeeping, .id = client, .worker = -1};
	fp_housekeeping_call(&dp->housekeeping, client_detach, &change);
	if (change.worker >= 0 && change.worker != FP_WORKER_CONTROL)
		workers_attach(dp, (uint8_t)change.worker, NULL);
	pthread_mutex_unlock(&dp->lock);
	return 0;
}

int
fp_client_at(struct fp_dataplane *dp, uint32_t i, struct fp_client_state *state)
{
	if (i >= FP_CLIENTS_MAX)
		return -ENOENT;
	const struct fp_client *client = &dp->housekeeping.client[i];
	*state = (struct fp_client_state){
		.id = client->id,
		.worker = client->worker,
		.live = client->live,
		.broken = client->broken,
		.applied = client->applied,
		.refused = client->refused,
		.emitted = client->emitted,
		.emit_lost = client->emit_lost,
		.pending = client->batch_n - client->batch_next,
	};
	return 0;
}

bool
fp_client_drain(struct fp_housekeeping *hk, struct fp_client *client, uint64_t now_ns)
{
	if (client->broken || client->waits)
		return false;
	if (client->batch_next == client->batch_n) {
		client->batch_next = 0;
		client->batch_n = fp_ring_read(&client->install, client->batch, FP_INSTALL_BATCH);
		if (client->install.broken && !client->broken) {
			client->broken = true;
			hk->counters.broken_rings++;
		}
		fp_installer_foresee(hk->installer, client->batch, client->batch_n);
	}
	bool any = client->batch_next < client->batch_n;
	while (client->batch_next < client->batch_n) {
		int rc = fp_installer_apply(hk->installer, client->worker, &client->batch[client->batch_next],
					    now_ns);
		if (rc == -EINPROGRESS) // others have their turn, then it goes on
			break;
		if (rc == -EAGAIN) {
			client->waits = true;
			if (hk->next_tick_ns > now_ns + TICK_WAIT_NS)
				hk->next_tick_ns = now_ns + TICK_WAIT_NS;
			hk->counters.waited++;
			break;
		}
		client->batch_next++;
		if (rc < 0) {
			client->refused++;
			hk->counters.refused++;
		} else {
			client->applied++;
			hk->counters.applied++;
		}
	}
	return any && !client->waits;
}

void
fp_client_emit(struct fp_housekeeping *hk, uint8_t worker, const struct fp_record *record)
{
	for (int i = 0; i < FP_CLIENTS_MAX; i++) {
		struct fp_client *client = &hk->client[i];
		if (!client->live || client->worker != worker)
			continue;
		if (fp_ring_write(&client->out, record, 1) == 1) {
			client->emitted++;
			hk->counters.emitted++;
			return;
		}
		client->emit_lost++;
		break;
	}
	hk->counters.emit_lost++;
}

void
fp_client_doorbells(struct fp_housekeeping *hk)
{
	for (int i = 0; i < FP_CLIENTS_MAX; i++)
		if (hk->client[i].live && fp_ring_wanted(&hk->client[i].out))
			fp_doorbell_ring(hk->client[i].wake_client_fd);
}

// In housekeeping's thread.
static void
client_attach(void *context)
{
	struct client_change *change = context;
	const struct fp_client_config *config = change->config;
	struct fp_housekeeping *hk = change->hk;
	struct fp_client *client = NULL;

	for (int i = 0; i < FP_CLIENTS_MAX; i++) {
		struct fp_client *other = &hk->client[i];
		if (other->live && other->worker == config->worker) {
			client_clear(hk, other);
			client = other;
		} else if (!other->live && !client) {
			client = other;
		}
	}
	change->rc = -ENOSPC;
	if (!client)
		return;
	memset(client, 0, sizeof(*client));
	client->worker = config->worker;
	client->id = change->id;
	client->wake_client_fd = config->wake_client_fd;
	client->wake_self_fd = config->wake_self_fd;
	change->rc = fp_ring_attach(&client->install, config->base, config->len_bytes, change->miss_rings,
				    FP_RING_CONSUMER);
	if (change->rc == 0)
		change->rc = fp_ring_attach(&client->out, config->base, config->len_bytes,
					    change->miss_rings - 1, FP_RING_PRODUCER);
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	if (change->rc == 0 && epoll_ctl(hk->epoll_fd, EPOLL_CTL_ADD, config->wake_self_fd, &event) < 0)
		change->rc = -errno;
	client->live = change->rc == 0;
}

static void
client_detach(void *context)
{
	struct client_change *change = context;
	for (int i = 0; i < FP_CLIENTS_MAX; i++) {
		struct fp_client *client = &change->hk->client[i];
		if (!client->live || client->id != change->id)
			continue;
		change->worker = client->worker;
		client_clear(change->hk, client);
	}
}

static void
client_clear(struct fp_housekeeping *hk, struct fp_client *client)
{
	epoll_ctl(hk->epoll_fd, EPOLL_CTL_DEL, client->wake_self_fd, NULL);
	client->live = false;
	client->batch_n = client->batch_next = 0;
	client->waits = false;
	fp_installer_leave(hk->installer, client->worker);
}

// Gives every poll thread its ring of this client; config NULL: takes it away.
static int
workers_attach(struct fp_dataplane *dp, uint8_t worker, const struct fp_client_config *config)
{
	int rc = 0;
	for (uint32_t i = 0; i < dp->config.threads; i++) {
		struct fp_ring_end end;
		if (config) {
			int one = fp_ring_attach(&end, config->base, config->len_bytes, i, FP_RING_PRODUCER);
			if (one < 0)
				rc = one;
		}
		fp_poll_pause(&dp->poll[i]);
		fp_thread_worker_attach(dp->poll[i].thread, worker, config && rc == 0 ? &end : NULL,
					config && rc == 0 ? config->wake_client_fd : -1);
		fp_poll_resume(&dp->poll[i]);
	}
	return rc;
}
