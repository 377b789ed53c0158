// SPDX-License-Identifier: Apache-2.0
//
// A poll thread's state: made, fed by housekeeping through private rings, and unmade.
#include <errno.h>
#include <stdlib.h>

#include "attachment.h"
#include "decap.h"
#include "egress.h"
#include "entropy.h"
#include "stages.h"
#include "tables.h"
#include "tx.h"

#define TICK_RELEASES 256
#define RELEASE_BURST 32
#define TICK_OUTGOING 64

static struct rte_ring *private_ring(uint32_t slots, uint32_t element_bytes, const char *name);
static void burst_destroy(struct fp_thread *t, const struct burst *burst);
static void *lines_make(size_t count, size_t record_bytes);
static void send_outgoing(struct fp_thread *t);
static void send_one(struct fp_thread *t, const struct outgoing *out);

int
fp_thread_create(const struct fp_thread_config *config, struct fp_thread **thread)
{
	struct fp_thread *t;
	int rc = -ENOMEM;

	if (posix_memalign((void **)&t, FP_CACHE_LINE, sizeof(*t)) != 0)
		return -ENOMEM;
	memset(t, 0, sizeof(*t));
	t->arena = config->arena;
	t->ports = config->ports;
	t->mempool = config->mempool;
	t->index = config->index;
	t->tx_queue = config->tx_queue;
	t->threads = RTE_MAX(config->threads, 1u);
	t->icmp_per_s = config->icmp_per_s;
	t->exceptions_per_s = config->exceptions_per_s != 0 ? config->exceptions_per_s : EXCEPTIONS_PER_S;
	t->secret = *fp_arena_secret(config->arena);
	t->entropy = entropy_secret(&t->secret);
	t->random = config->index + 1;
	t->sample_in = FP_SAMPLE_EVERY;
	for (uint32_t i = 0; i < BURSTS * FP_BURST; i++) {
		struct burst *burst = &t->burst[i / FP_BURST];

		burst->key[i % FP_BURST] = &burst->packet[i % FP_BURST].key;
	}
	fp_arena_view(config->arena, &t->view);
	for (uint32_t i = 0; i < FP_WORKERS_MAX; i++)
		t->worker[i].doorbell_fd = -1;

	t->releases = private_ring(RELEASE_SLOTS, sizeof(struct fp_release), "releases");
	t->outgoing = private_ring(OUTGOING_SLOTS, sizeof(struct outgoing), "outgoing");
	t->exceptions = private_ring(EXCEPTION_SLOTS, sizeof(struct rte_mbuf *), "exceptions");
	t->counters.vnet = calloc(t->view.vnets, sizeof(*t->counters.vnet));
	t->counters.tunnel = calloc(t->view.tunnels, sizeof(*t->counters.tunnel));
	t->icmp_rate.vnet = calloc(t->view.vnets, sizeof(*t->icmp_rate.vnet));
	t->tunnel_of = calloc(t->view.ingresses, sizeof(*t->tunnel_of));
	t->egress = lines_make(EGRESS_TUNNELS * FP_NEXTHOPS_MAX + EGRESS_ATTACHMENTS, sizeof(*t->egress));
	t->egress_set = lines_make(EGRESS_SETS, sizeof(*t->egress_set));
	t->attachment_seen = lines_make(ATTACHMENTS_SEEN, sizeof(*t->attachment_seen));
	t->locator_seen = lines_make(LOCATORS_SEEN, sizeof(*t->locator_seen));
	t->waiting = calloc(FRAGMENTS_WAITING, sizeof(*t->waiting));
	if (t->releases == NULL || t->outgoing == NULL || t->exceptions == NULL || t->counters.vnet == NULL ||
	    t->counters.tunnel == NULL || t->icmp_rate.vnet == NULL || t->tunnel_of == NULL ||
	    t->egress == NULL || t->egress_set == NULL || t->attachment_seen == NULL ||
	    t->locator_seen == NULL || t->waiting == NULL)
		goto err;
	rc = hold_create(t, &config->hold);
	if (rc != 0)
		goto err;
	*thread = t;
	return 0;
err:
	fp_thread_destroy(t);
	return rc;
}

void
fp_thread_destroy(struct fp_thread *t)
{
	struct rte_mbuf *mbuf;
	struct outgoing out;

	if (t == NULL)
		return;
	burst_destroy(t, t->started);
	burst_destroy(t, t->found);
	if (t->counters.vnet != NULL) {
		fragments_drop(t, FP_DROP_shutdown);
		hold_destroy(t);
	}
	for (uint32_t i = 0; i < FP_PORTS_MAX; i++)
		rte_pktmbuf_free_bulk(t->tx[i].mbuf, t->tx[i].n);
	while (t->outgoing != NULL && rte_ring_sc_dequeue_elem(t->outgoing, &out, sizeof(out)) == 0)
		rte_pktmbuf_free(out.mbuf);
	while (t->exceptions != NULL && rte_ring_sc_dequeue_elem(t->exceptions, &mbuf, sizeof(mbuf)) == 0)
		rte_pktmbuf_free(mbuf);
	free(t->releases);
	free(t->outgoing);
	free(t->exceptions);
	free(t->counters.vnet);
	free(t->icmp_rate.vnet);
	free(t->counters.tunnel);
	free(t->tunnel_of);
	free(t->egress);
	free(t->egress_set);
	free(t->attachment_seen);
	free(t->locator_seen);
	free(t->waiting);
	free(t);
}

static void
burst_destroy(struct fp_thread *t, const struct burst *burst)
{
	for (uint32_t i = 0; burst != NULL && i < burst->n; i++)
		drop_packet(t, &burst->packet[i], burst->mbuf[i], FP_DROP_shutdown);
}

void
fp_thread_tick(struct fp_thread *t, uint64_t now_ns)
{
	struct fp_release release[RELEASE_BURST];

	t->now_ns = now_ns;
	t->now_s = fp_arena_now_s(t->arena);
	t->generation = fp_arena_generation(t->arena);
	for (uint32_t taken = 0, n; taken < TICK_RELEASES; taken += n) {
		n = rte_ring_sc_dequeue_burst_elem(t->releases, release, sizeof(release[0]), RELEASE_BURST,
						   NULL);
		if (n == 0)
			break;
		for (uint32_t i = 0; i < n; i++)
			hold_release(t, &release[i]);
	}
	hold_tick(t);
	fragments_tick(t);
	send_outgoing(t);
}

bool
fp_thread_has_work(const struct fp_thread *t)
{
	return !rte_ring_empty(t->releases) || !rte_ring_empty(t->outgoing) || t->workers_written != 0;
}

bool
fp_thread_takes_turns(const struct fp_thread *t)
{
	return fp_flow_beyond_cache(t->arena);
}

void
fp_thread_flush(struct fp_thread *t)
{
	while (t->tx_waiting != 0)
		tx_flush(t, (uint32_t)__builtin_ctzll(t->tx_waiting));
}

void
fp_thread_worker_attach(struct fp_thread *t, uint32_t worker, const struct fp_ring_end *ring, int doorbell_fd)
{
	if (worker >= FP_WORKERS_MAX)
		return;
	t->worker[worker] = (struct worker){.doorbell_fd = -1};
	t->workers_written &= ~(1u << worker);
	if (ring == NULL)
		return;
	t->worker[worker] = (struct worker){.ring = *ring, .doorbell_fd = doorbell_fd, .attached = true};
	hold_ask_all(t, worker);
}

void
fp_thread_hold_limits(struct fp_thread *t, const struct fp_hold_limits *limits)
{
	t->hold.limits = *limits;
	t->hold.limits.packets = RTE_MIN(limits->packets, t->hold.room);
}

int
fp_thread_doorbell_fd(const struct fp_thread *t, uint32_t worker)
{
	return worker < FP_WORKERS_MAX ? t->worker[worker].doorbell_fd : -1;
}

uint32_t
fp_thread_doorbells(struct fp_thread *t)
{
	uint32_t wanted = 0, later = 0;

	while (unlikely(t->workers_written != 0)) {
		uint32_t worker = (uint32_t)__builtin_ctz(t->workers_written);
		struct worker *w = &t->worker[worker];

		t->workers_written &= t->workers_written - 1;
		if (!w->attached)
			continue;
		if (w->rung_ns != 0 && t->now_ns - w->rung_ns < DOORBELL_EVERY_NS) {
			later |= 1u << worker;
			continue;
		}
		if (fp_ring_wanted(&w->ring)) {
			wanted |= 1u << worker;
			w->rung_ns = t->now_ns;
		}
	}
	t->workers_written = later;
	return wanted;
}

uint32_t
fp_thread_release(struct fp_thread *t, const struct fp_release *releases, uint32_t n)
{
	return rte_ring_sp_enqueue_burst_elem(t->releases, releases, sizeof(*releases), n, NULL);
}

bool
fp_thread_send(struct fp_thread *t, uint16_t port_index, struct rte_mbuf *mbuf)
{
	struct outgoing out = {.mbuf = mbuf, .target = port_index};

	return rte_ring_sp_enqueue_elem(t->outgoing, &out, sizeof(out)) == 0;
}

bool
fp_thread_send_inner(struct fp_thread *t, uint8_t kind, uint32_t target, uint32_t wire_id,
		     struct rte_mbuf *mbuf)
{
	struct outgoing out = {.mbuf = mbuf, .target = target, .wire_id = wire_id, .kind = kind};
	const struct fp_ingress *ingress = ingress_at(t, target);

	// The frame may wait in the ring for longer than a grace period: say whose index it is.
	if (kind == FP_LOCATION_LOCAL && ingress != NULL) {
		out.object = ingress->object_id;
		out.vnet = ingress->vnet;
	} else if (kind == FP_LOCATION_TUNNEL && target < t->view.tunnels) {
		out.object = t->view.tunnel_info[target].object_id;
	}
	return rte_ring_sp_enqueue_elem(t->outgoing, &out, sizeof(out)) == 0;
}

uint32_t
fp_thread_exceptions(struct fp_thread *t, struct rte_mbuf **mbufs, uint32_t n)
{
	return rte_ring_sc_dequeue_burst_elem(t->exceptions, mbufs, sizeof(*mbufs), n, NULL);
}

void
fp_thread_counters_begin(struct fp_thread *t, enum fp_counted what, uint32_t index)
{
	struct fp_pair_counters *pair = what == FP_COUNTED_VNET ? t->counters.vnet : t->counters.tunnel;

	if (index < (what == FP_COUNTED_VNET ? t->view.vnets : t->view.tunnels))
		pair[index] = (struct fp_pair_counters){0};
}

struct fp_counters *
fp_thread_counters(struct fp_thread *t)
{
	return &t->counters;
}

void
worker_full(struct fp_thread *t, uint32_t worker)
{
	t->counters.miss_ring_full++;
	t->workers_written |= 1u << worker; // it has enough to do, but may sleep
}

bool
worker_write(struct fp_thread *t, uint32_t worker, const struct fp_record *record)
{
	if (worker >= FP_WORKERS_MAX || !t->worker[worker].attached)
		return false;
	if (fp_ring_write(&t->worker[worker].ring, record, 1) != 1) {
		worker_full(t, worker);
		return false;
	}
	t->counters.miss_records++;
	t->workers_written |= 1u << worker;
	return true;
}

// In this process's own memory: nobody else looks at it.
static struct rte_ring *
private_ring(uint32_t slots, uint32_t element_bytes, const char *name)
{
	ssize_t bytes = rte_ring_get_memsize_elem(element_bytes, slots);
	struct rte_ring *ring;

	if (bytes < 0 || posix_memalign((void **)&ring, FP_CACHE_LINE * 2, (size_t)bytes) != 0)
		return NULL;
	if (rte_ring_init(ring, name, slots, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
		free(ring);
		return NULL;
	}
	return ring;
}

// Zeroed records of whole cache lines.
static void *
lines_make(size_t count, size_t record_bytes)
{
	void *lines;

	if (posix_memalign(&lines, FP_CACHE_LINE, count * record_bytes) != 0)
		return NULL;
	return memset(lines, 0, count * record_bytes);
}

static void
send_outgoing(struct fp_thread *t)
{
	struct outgoing out[TICK_OUTGOING];
	uint32_t n;

	if (likely(rte_ring_empty(t->outgoing)))
		return;
	n = rte_ring_sc_dequeue_burst_elem(t->outgoing, out, sizeof(out[0]), TICK_OUTGOING, NULL);
	for (uint32_t i = 0; i < n; i++)
		send_one(t, &out[i]);
}

static void
send_one(struct fp_thread *t, const struct outgoing *out)
{
	const struct fp_ingress *attachment;
	struct packet p = {0};

	if (out->mbuf->nb_segs > 1 && rte_pktmbuf_linearize(out->mbuf) != 0) {
		rte_pktmbuf_free(out->mbuf);
		return;
	}
	switch (out->kind) {
	case FP_LOCATION_NONE:
		if (!tx_possible(t, out->target) || out->mbuf->data_len < ETHERNET_BYTES)
			break;
		p.length = (uint16_t)(out->mbuf->data_len - ETHERNET_BYTES);
		tx_put(t, &t->tx[out->target], &p, out->mbuf, tx_tally(TX_OWN, 0, 0));
		return;
	case FP_LOCATION_LOCAL:
		attachment = ingress_at(t, out->target);
		if (attachment == NULL || attachment->kind != FP_INGRESS_ATTACHMENT ||
		    !ingress_live(attachment) || attachment->object_id != out->object ||
		    attachment->vnet != out->vnet || out->mbuf->data_len < ETHERNET_BYTES)
			break;
		deliver_own(t, out->mbuf, out);
		return;
	case FP_LOCATION_TUNNEL:
		encapsulate_own(t, out->mbuf, out);
		return;
	default:
		break;
	}
	rte_pktmbuf_free(out->mbuf);
}
