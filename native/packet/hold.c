// SPDX-License-Identifier: Apache-2.0
//
// See hold.h. Slots and packets are arrays linked by index (0: none), made once. No key is found twice, no token fits
// twice. When it asks and ends is hold_timer.c's.
#include <errno.h>
#include <stdlib.h>

#include "hold_internal.h"
#include "stages.h"
#include "tables.h"

static uint32_t slot_take(struct fp_thread *t, const struct packet *p, uint64_t hash, uint64_t received_ns);
static struct hold_share *share_of(struct hold_share *share, uint64_t object_id, uint32_t vni);
static void slot_free(struct fp_thread *t, uint32_t slot);
static bool names_locations(fp_action_word word);
static bool still_holds(const struct fp_thread *t, const struct hold_slot *s,
			const struct fp_release *release);
static bool location_is(const struct fp_thread *t, uint32_t index, uint64_t object_id);
static uint32_t packets_take(struct fp_thread *t, uint32_t slot, struct packet *packets,
			     struct rte_mbuf **mbufs, uint64_t *received_ns);

int
hold_create(struct fp_thread *t, const struct fp_hold_limits *limits)
{
	struct hold *hold = &t->hold;
	uint32_t room = RTE_MIN(limits->packets, 0xfffffeu), chains = 1;

	while (chains < room * 2)
		chains *= 2;
	hold->limits = *limits;
	hold->limits.packets = hold->room = room;
	hold->chain_mask = chains - 1;
	hold->chain = calloc(chains, sizeof(*hold->chain));
	hold->slot = calloc(room + 1, sizeof(*hold->slot));
	hold->packet = calloc(room + 1, sizeof(*hold->packet));
	hold->vnet = calloc(t->view.vnets, sizeof(*hold->vnet));
	hold->ingress = calloc(t->view.ingresses, sizeof(*hold->ingress));
	if (hold->chain == NULL || hold->slot == NULL || hold->packet == NULL || hold->vnet == NULL ||
	    hold->ingress == NULL)
		return -ENOMEM; // the caller calls hold_destroy
	for (uint32_t i = room; i > 0; i--) {
		hold->slot[i].next = hold->free_slot;
		hold->free_slot = i;
		hold->packet[i].next = hold->free_packet;
		hold->free_packet = i;
	}
	return 0;
}

void
hold_destroy(struct fp_thread *t)
{
	struct hold *hold = &t->hold;
	struct packet packets[FP_BURST];
	struct rte_mbuf *mbufs[FP_BURST];
	uint64_t received_ns[FP_BURST];
	uint32_t n;

	for (uint32_t i = 1; hold->slot != NULL && i <= hold->room; i++)
		while (hold->slot[i].used && (n = packets_take(t, i, packets, mbufs, received_ns)) != 0)
			for (uint32_t k = 0; k < n; k++)
				drop_packet(t, &packets[k], mbufs[k], FP_DROP_shutdown);
	free(hold->chain);
	free(hold->slot);
	free(hold->packet);
	free(hold->vnet);
	free(hold->ingress);
}

uint32_t
hold_find(struct fp_thread *t, const struct fp_flow_key *key, uint64_t hash)
{
	struct hold *hold = &t->hold;
	uint32_t i = hold->chain[hash & hold->chain_mask];

	while (i != 0 && memcmp(&hold->slot[i].key, key, sizeof(*key)) != 0)
		i = hold->slot[i].next;
	if (i != 0 && unlikely(!hold_slot_current(t, i))) {
		hold_slot_end(t, i, FP_DROP_ingress_gone);
		i = 0;
	}
	return i;
}

void
hold_put(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, uint64_t hash, uint32_t slot,
	 uint64_t received_ns)
{
	struct hold *hold = &t->hold;
	const struct fp_hold_limits *limits = &hold->limits;
	const struct fp_vnet *vnet = &t->view.vnet[p->vnet];
	const struct fp_ingress *from = &t->view.ingress[p->key.ingress];
	struct hold_share *of_vnet = share_of(&hold->vnet[p->vnet], vnet->object_id, vnet->vni);
	struct hold_share *of_ingress = share_of(&hold->ingress[p->key.ingress], from->object_id, from->vni);
	struct hold_packet *held;
	bool first = slot == 0;
	uint32_t i, reason = 0;

	if (slot != 0 && hold->slot[slot].packets >= limits->packets_per_flow)
		reason = FP_DROP_hold_flow_full;
	else if (of_ingress->packets >= limits->packets_per_ingress)
		reason = FP_DROP_hold_ingress_full;
	else if (of_vnet->packets >= limits->packets_per_vnet)
		reason = FP_DROP_hold_vnet_full;
	else if (hold->packets >= limits->packets || hold->free_packet == 0)
		reason = FP_DROP_hold_full;
	else if (of_vnet->packets >= (uint64_t)(limits->packets - hold->packets) * HOLD_SHARE_OF_FREE)
		reason = FP_DROP_hold_vnet_full;
	if (unlikely(reason != 0)) {
		t->counters.dropped_full++;
		drop_packet(t, p, mbuf, reason);
		return;
	}
	if (first) {
		if (!rate_take(&of_ingress->paid_ns, t->now_ns, limits->misses_per_ingress_s) ||
		    !rate_take(&of_vnet->paid_ns, t->now_ns,
			       vnet->quota_misses_per_s != 0
				       ? RTE_MAX(vnet->quota_misses_per_s / t->threads, 1u)
				       : 0)) {
			drop_packet(t, p, mbuf, FP_DROP_miss_rate);
			return;
		}
		slot = slot_take(t, p, hash, received_ns);
	}
	i = hold->free_packet;
	held = &hold->packet[i];
	hold->free_packet = held->next;
	*held = (struct hold_packet){.packet = *p, .mbuf = mbuf, .received_ns = received_ns};
	if (hold->slot[slot].tail != 0)
		hold->packet[hold->slot[slot].tail].next = i;
	else
		hold->slot[slot].head = i;
	hold->slot[slot].tail = i;
	hold->slot[slot].packets++;
	of_ingress->packets++;
	of_vnet->packets++;
	hold->packets++;
	t->counters.held++;
	t->counters.held_now = hold->packets + t->waiting_n;
	if (first) {
		hold_slot_ask(t, slot);
		hold_slot_time(t, slot);
	}
}

void
hold_decided(struct fp_thread *t, uint32_t slot, fp_action_word word)
{
	struct packet packets[FP_BURST] __attribute__((aligned(FP_CACHE_LINE)));
	struct hold_slot *s = &t->hold.slot[slot];
	struct rte_mbuf *mbufs[FP_BURST];
	uint64_t received_ns[FP_BURST];
	uint32_t n, rest;

	if (unlikely(!hold_slot_current(t, slot))) {
		hold_slot_end(t, slot, FP_DROP_ingress_gone);
		return;
	}
	if (fp_action_of(word) != FP_ACTION_NARROW)
		fp_delay_add(&t->counters.delay, t->now_ns - RTE_MIN(s->first_ns, t->now_ns));
	do {
		n = packets_take(t, slot, packets, mbufs, received_ns);
		rest = s->packets;
		if (rest == 0)
			slot_free(t, slot); // before acting: a narrowed packet may need the room
		t->counters.released += n;
		pipeline_decided(t, packets, mbufs, received_ns, n, word);
	} while (rest != 0);
}

void
hold_release(struct fp_thread *t, const struct fp_release *release)
{
	uint32_t slot = (uint32_t)(release->token >> 32) & 0xffffff, uses = (uint32_t)release->token;
	struct hold *hold = &t->hold;
	struct hold_slot *s;
	fp_action_word word;

	if (release->token >> 56 != t->index || slot == 0 || slot > hold->room)
		return;
	s = &hold->slot[slot];
	if (!s->used || s->uses != uses || memcmp(&s->key, &release->key, sizeof(s->key)) != 0)
		return; // ended meanwhile
	if (unlikely(!hold_slot_current(t, slot))) {
		hold_slot_end(t, slot, FP_DROP_ingress_gone);
		return;
	}
	word = release->action;
	if (names_locations(word)) {
		word = hold_word_now(t, &s->key);
		if (fp_action_of(word) == FP_ACTION_NONE && still_holds(t, s, release))
			word = release->action; // evicted since, or there was no room for it: decided all the same
	}
	if (fp_action_of(word) != FP_ACTION_NONE)
		hold_decided(t, slot, word);
	else if (s->asked < HOLD_ASKS_AT_ONCE)
		hold_slot_ask(t, slot);
}

static uint32_t
slot_take(struct fp_thread *t, const struct packet *p, uint64_t hash, uint64_t received_ns)
{
	struct hold *hold = &t->hold;
	uint32_t i = hold->free_slot; // there are as many as packets
	struct hold_slot *s = &hold->slot[i];

	if (hold->keys == 0)
		hold->wheel_ms = t->now_ns / MILLISECOND_NS;
	hold->free_slot = s->next;
	*s = (struct hold_slot){
		.key = p->key,
		.ingress_object = t->view.ingress[p->key.ingress].object_id,
		.vni = t->view.ingress[p->key.ingress].vni,
		.uses = s->uses + 1,
		.first_ns = received_ns,
		.held_ns = t->now_ns,
		.next = hold->chain[hash & hold->chain_mask],
		.vnet = p->vnet,
		.vnet_owner = hold->vnet[p->vnet].owner,
		.ingress_owner = hold->ingress[p->key.ingress].owner,
		.used = 1,
	};
	if (s->uses == 0)
		s->uses = 1;
	hold->chain[hash & hold->chain_mask] = i;
	hold->keys++;
	return i;
}

// A share as its index's owner of now has it.
static struct hold_share *
share_of(struct hold_share *share, uint64_t object_id, uint32_t vni)
{
	if (unlikely(share->object_id != object_id || share->vni != vni))
		*share = (struct hold_share){.object_id = object_id, .vni = vni, .owner = share->owner + 1};
	return share;
}

static void
slot_free(struct fp_thread *t, uint32_t slot)
{
	struct hold *hold = &t->hold;
	struct hold_slot *s = &hold->slot[slot];
	uint32_t *link = &hold->chain[fp_hash_flow(&t->secret, &s->key) & hold->chain_mask];

	while (*link != slot)
		link = &hold->slot[*link].next;
	*link = s->next;
	hold_slot_untime(t, slot);
	s->used = 0;
	s->next = hold->free_slot;
	hold->free_slot = slot;
	hold->keys--;
}

// Indexes are used again after a grace period, and packets wait longer than that: a decision for
// whoever has the ingress now is none for what came by the one before.
bool
hold_slot_current(const struct fp_thread *t, uint32_t slot)
{
	const struct hold_slot *s = &t->hold.slot[slot];
	const struct fp_ingress *ingress = &t->view.ingress[s->key.ingress];

	return ingress_live(ingress) && ingress->object_id == s->ingress_object && ingress->vni == s->vni &&
	       ingress->vnet == s->vnet;
}

void
hold_slot_end(struct fp_thread *t, uint32_t slot, enum fp_drop_reason reason)
{
	uint32_t vnet = hold_slot_current(t, slot) ? t->hold.slot[slot].vnet : 0; // else whose is not known
	struct packet packets[FP_BURST];
	struct rte_mbuf *mbufs[FP_BURST];
	uint64_t received_ns[FP_BURST];
	uint32_t n;

	while ((n = packets_take(t, slot, packets, mbufs, received_ns)) != 0)
		for (uint32_t i = 0; i < n; i++)
			drop(t, mbufs[i], vnet, reason);
	slot_free(t, slot);
}

// A word that waited in a ring may have waited for longer than a grace period: its locations may be
// others by now. What the table says now is what is true.
static bool
names_locations(fp_action_word word)
{
	uint8_t action = fp_action_of(word);

	return action != FP_ACTION_NONE && action != FP_ACTION_DROP && action != FP_ACTION_NARROW;
}

// Nothing that the decision may have led through has been closed since, and its locations are the same objects.
static bool
still_holds(const struct fp_thread *t, const struct hold_slot *s, const struct fp_release *release)
{
	const uint32_t source = fp_action_source(release->action),
		       destination = fp_action_destination(release->action);
	const uint32_t to = t->view.location[destination].vnet;
	uint32_t closings = __atomic_load_n(&t->view.vnet[s->vnet].closings, __ATOMIC_ACQUIRE);

	if (destination != 0 && to != s->vnet)
		closings += __atomic_load_n(&t->view.vnet[to].closings, __ATOMIC_ACQUIRE);
	return closings == release->closings && location_is(t, source, release->source_object) &&
	       location_is(t, destination, release->destination_object);
}

static bool
location_is(const struct fp_thread *t, uint32_t index, uint64_t object_id)
{
	return index == 0 ||
	       (location_half(t, index) != NULL && t->view.location[index].object_id == object_id);
}

fp_action_word
hold_word_now(struct fp_thread *t, const struct fp_flow_key *key)
{
	fp_action_word word = 0;
	uint64_t hash;
	uint32_t entry;

	fp_flow_lookup_bulk(t->arena, &key, 1, t->now_s, &hash, &word, &entry);
	return word;
}

// Takes up to FP_BURST packets off the slot's queue, in order.
static uint32_t
packets_take(struct fp_thread *t, uint32_t slot, struct packet *packets, struct rte_mbuf **mbufs,
	     uint64_t *received_ns)
{
	struct hold *hold = &t->hold;
	struct hold_slot *s = &hold->slot[slot];
	uint32_t n = 0, i;

	while (n < FP_BURST && (i = s->head) != 0) {
		struct hold_packet *held = &hold->packet[i];

		packets[n] = held->packet;
		mbufs[n] = held->mbuf;
		received_ns[n++] = held->received_ns;
		s->head = held->next;
		held->next = hold->free_packet;
		hold->free_packet = i;
		hold->ingress[s->key.ingress].packets -=
			hold->ingress[s->key.ingress].owner == s->ingress_owner;
		hold->vnet[s->vnet].packets -= hold->vnet[s->vnet].owner == s->vnet_owner;
	}
	if (s->head == 0)
		s->tail = 0;
	s->packets -= n;
	hold->packets -= n;
	t->counters.held_now = hold->packets + t->waiting_n;
	return n;
}
