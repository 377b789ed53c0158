// SPDX-License-Identifier: Apache-2.0
//
// Look again: a decision that says "look again" makes another key of the packet, and what the table says of that
// one is acted on next. Each action that does so has its line in key_next(), and no stage in front of it or
// behind it knows of it. A packet looks so often and no more, also where it waits in the hold in between.
#include "sample.h"
#include "stages.h"

#define LOOKS_MAX 4

static bool key_next(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word,
		     uint64_t received_ns);
static bool key_narrow(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, uint64_t received_ns);
static void fragments_go_on(struct fp_thread *t);

void
look_again(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs,
	   const fp_action_word *decisions, uint64_t which, const uint64_t *received_ns)
{
	const struct fp_flow_key *keys[FP_BURST] = {NULL};
	uint64_t hashes[FP_BURST] = {0}, again;
	fp_action_word words[FP_BURST], found[FP_BURST];
	uint32_t entries[FP_BURST], at[FP_BURST], n;
	bool first_fragments = false;

	for (; which != 0; which = again) {
		n = 0;
		again = 0;
		for (; which != 0; which &= which - 1) {
			uint32_t i = (uint32_t)__builtin_ctzll(which);

			if (!key_next(t, &packets[i], mbufs[i], decisions[i],
				      received_ns != NULL ? received_ns[i] : t->now_ns))
				continue;
			first_fragments |=
				(packets[i].flags & (PACKET_FRAGMENT | PACKET_LATER)) == PACKET_FRAGMENT;
			at[n] = i;
			keys[n++] = &packets[i].key;
		}
		if (n == 0)
			break;
		t->counters.hits += fp_flow_lookup_bulk(t->arena, keys, n, t->now_s, hashes, found, entries);
		t->counters.lookups += n;
		t->counters.narrowed += n;
		for (uint32_t k = 0; k < n; k++) {
			uint32_t i = at[k];

			sample(t, &packets[i], &mbufs[i], &entries[k], 1);
			words[i] = found[k];
			if (decided(t, &packets[i], mbufs[i], hashes[k], found[k],
				    received_ns != NULL ? received_ns[i] : t->now_ns))
				again |= act(t, &packets[i], &mbufs[i], &found[k], 1) << i;
		}
		decisions = words;
	}
	if (unlikely(first_fragments && t->waiting_n != 0))
		fragments_go_on(t);
}

// Makes the key that the word asks for. false: the packet has ended, or waits.
static bool
key_next(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word,
	 uint64_t received_ns)
{
	if (unlikely(p->looks == LOOKS_MAX)) {
		drop_packet(t, p, mbuf, FP_DROP_not_supported);
		return false;
	}
	switch (fp_action_of(word)) {
	case FP_ACTION_NARROW:
		if (!key_narrow(t, p, mbuf, received_ns))
			return false;
		break;
	default:
		drop_packet(t, p, mbuf, FP_DROP_not_supported);
		return false;
	}
	p->looks++;
	return true;
}

// One of connection level: the policy needs ports. Once is enough.
static bool
key_narrow(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, uint64_t received_ns)
{
	if (unlikely(!(p->flags & PACKET_IP) || (p->key.flags & FP_KEY_CONNECTION))) {
		drop_packet(t, p, mbuf, FP_DROP_not_supported);
		return false;
	}
	if (unlikely(p->flags & PACKET_FRAGMENT)) {
		if (!(p->flags & PACKET_LATER)) {
			fragment_remember(t, p, mbuf);
		} else if (!fragment_ports(t, p, mbuf)) {
			fragment_wait(t, p, mbuf, received_ns);
			return false;
		}
	}
	p->key.flags |= FP_KEY_CONNECTION;
	p->key.protocol = p->protocol;
	p->key.source_port = p->source_port;
	p->key.destination_port = p->destination_port;
	return true;
}

// Later fragments that waited for first ones go on behind them.
static void
fragments_go_on(struct fp_thread *t)
{
	struct packet packets[FP_BURST] __attribute__((aligned(FP_CACHE_LINE)));
	struct rte_mbuf *mbufs[FP_BURST];
	fp_action_word words[FP_BURST];
	uint64_t received_ns[FP_BURST];
	uint32_t n;

	for (uint32_t i = 0; i < FP_BURST; i++)
		words[i] = fp_action_make(FP_ACTION_NARROW, 0, 0, 0);
	while ((n = fragments_known(t, packets, mbufs, received_ns)) != 0)
		look_again(t, packets, mbufs, words, (1ull << n) - 1, received_ns);
}
