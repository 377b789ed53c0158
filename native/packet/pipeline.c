// SPDX-License-Identifier: Apache-2.0
//
// What happens to a burst: parse all, look all up, hold what misses, act. The journey is told in
// docs/architecture.md; each stage has its own file.
//
// Where flows are many three bursts take turns: while one is parsed and hashed, the buckets of the
// one before come from memory, and the flows of the one before that.
#include <rte_cycles.h>

#include "egress.h"
#include "sample.h"
#include "stages.h"

static void burst_find(struct fp_thread *t);
static void burst_finish(struct fp_thread *t, struct burst *b);
static void settle(struct fp_thread *t, struct burst *b, const fp_action_word *words);
static inline uint64_t stage_passed(struct fp_thread *t, enum fp_stage stage, uint64_t since);
static bool pair_gone(const struct fp_thread *t, const struct fp_reason_vnet *pair);

void
fp_thread_receive(struct fp_thread *t, const struct fp_port *port, struct rte_mbuf **mbufs, uint16_t n)
{
	struct burst *b = &t->burst[t->next_burst], *found = t->found;
	uint64_t at = 0;

	t->next_burst = t->next_burst == BURSTS - 1 ? 0 : t->next_burst + 1;
	t->generation = fp_arena_generation(t->arena);
	b->timed = ++t->stage_clock % FP_STAGE_CLOCK_EVERY == 0;
	if (unlikely(b->timed))
		at = rte_rdtsc();
	b->n = receive(t, port, mbufs, n, b->packet, b->mbuf);
	t->counters.received += n;
	t->counters.bursts++;
	if (unlikely(b->timed))
		at = stage_passed(t, FP_STAGE_PARSE, at);
	fp_flow_lookup_start(t->arena, b->key, b->n, b->hash, b->entry);
	if (unlikely(b->timed))
		stage_passed(t, FP_STAGE_LOOKUP, at);
	burst_find(t);
	t->started = b;
	if (found != NULL)
		burst_finish(t, found);
}

void
fp_thread_finish(struct fp_thread *t)
{
	while (t->found != NULL || t->started != NULL) {
		struct burst *found = t->found;

		burst_find(t);
		if (found != NULL)
			burst_finish(t, found);
	}
}

// The one that was started, if there is one.
static inline void
burst_find(struct fp_thread *t)
{
	struct burst *b = t->started;
	uint64_t at = 0;

	t->started = NULL;
	t->found = b;
	if (b == NULL)
		return;
	if (unlikely(b->timed))
		at = rte_rdtsc();
	fp_flow_lookup_find(t->arena, b->n, b->hash, b->entry);
	if (unlikely(b->timed))
		stage_passed(t, FP_STAGE_LOOKUP, at);
}

// What misses is held, what follows a held packet queues behind it; on the rest is acted.
static inline void
burst_finish(struct fp_thread *t, struct burst *b)
{
	fp_action_word words[FP_BURST];
	uint64_t at = 0, which;
	uint32_t hits;

	if (unlikely(b->n == 0))
		return;
	if (unlikely(b->timed))
		at = rte_rdtsc();
	hits = fp_flow_lookup_finish(t->arena, b->key, b->n, t->now_s, b->hash, words, b->entry);
	t->counters.lookups += b->n;
	t->counters.hits += hits;
	if (unlikely(b->timed))
		at = stage_passed(t, FP_STAGE_LOOKUP, at);
	sample(t, b->packet, b->mbuf, b->entry, b->n);
	if (unlikely(t->hold.keys != 0 || hits != b->n)) {
		settle(t, b, words);
	} else {
		which = act(t, b->packet, b->mbuf, words, b->n);
		if (unlikely(which != 0))
			look_again(t, b->packet, b->mbuf, words, which, NULL);
	}
	if (unlikely(b->timed))
		stage_passed(t, FP_STAGE_ACT, at);
}

// Packets that waited for the same decision, in order.
void
pipeline_decided(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs,
		 const uint64_t *received_ns, uint32_t n, fp_action_word word)
{
	fp_action_word words[FP_BURST];
	uint64_t which;

	for (uint32_t i = 0; i < n; i++)
		words[i] = word;
	which = act(t, packets, mbufs, words, n);
	if (which != 0)
		look_again(t, packets, mbufs, words, which, received_ns);
}

// Some packets have no decision, or packets of the same key wait for one: one by one, in order.
static void
settle(struct fp_thread *t, struct burst *b, const fp_action_word *words)
{
	uint64_t which = 0;

	for (uint32_t i = 0; i < b->n; i++)
		if (decided(t, &b->packet[i], b->mbuf[i], b->hash[i], words[i], t->now_ns))
			which |= act(t, &b->packet[i], &b->mbuf[i], &words[i], 1) << i;
	if (which != 0)
		look_again(t, b->packet, b->mbuf, words, which, NULL);
}

// Whether a packet may be acted on now. If its key is held and there is a decision, what was held
// goes first; if there is none it is held.
bool
decided(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, uint64_t hash, fp_action_word word,
	uint64_t received_ns)
{
	uint32_t slot = t->hold.keys != 0 ? hold_find(t, &p->key, hash) : 0;

	if (fp_action_of(word) == FP_ACTION_NONE) {
		t->counters.misses++;
		hold_put(t, p, mbuf, hash, slot, received_ns);
		return false;
	}
	if (slot != 0)
		hold_decided(t, slot, word);
	return true;
}

// Cycles of one burst in FP_STAGE_CLOCK_EVERY, counted for all of them. Returns the time.
static inline uint64_t
stage_passed(struct fp_thread *t, enum fp_stage stage, uint64_t since)
{
	uint64_t now = rte_rdtsc();

	t->counters.stage_cycles[stage] += (now - since) * FP_STAGE_CLOCK_EVERY;
	return now;
}

void
drop(struct fp_thread *t, struct rte_mbuf *mbuf, uint32_t vnet, enum fp_drop_reason reason)
{
	struct fp_counters *c = &t->counters;
	uint32_t first = (vnet * 2654435761u + reason * 40503u) % FP_REASON_VNETS;
	struct fp_reason_vnet *room = NULL;
	uint64_t object_id;

	rte_pktmbuf_free(mbuf);
	c->dropped[reason]++;
	if (vnet == 0)
		return;
	object_id = t->view.vnet[vnet].object_id;
	for (uint32_t i = 0; i < 8; i++) {
		struct fp_reason_vnet *pair = &c->reason_vnet[(first + i) % FP_REASON_VNETS];

		if (pair->packets != 0 && pair->object_id == object_id && pair->reason == reason) {
			__atomic_store_n(&pair->packets, pair->packets + 1, __ATOMIC_RELEASE);
			return;
		}
		if (room == NULL && (pair->packets == 0 || pair_gone(t, pair)))
			room = pair;
		if (pair->packets == 0) // once taken, a place never comes free
			break;
	}
	if (room == NULL) {
		c->reason_vnet_full++;
		return;
	}
	// Readers look at packets first, and at the rest once more after it.
	__atomic_store_n(&room->packets, 0, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&room->object_id, object_id, __ATOMIC_RELAXED);
	__atomic_store_n(&room->vni, t->view.vnet[vnet].vni, __ATOMIC_RELAXED);
	__atomic_store_n(&room->vnet, (uint16_t)vnet, __ATOMIC_RELAXED);
	__atomic_store_n(&room->reason, (uint16_t)reason, __ATOMIC_RELAXED);
	__atomic_store_n(&room->packets, 1, __ATOMIC_RELEASE);
}

// Another V-net has the index now.
static bool
pair_gone(const struct fp_thread *t, const struct fp_reason_vnet *pair)
{
	return t->view.vnet[pair->vnet].object_id != pair->object_id;
}
