// SPDX-License-Identifier: Apache-2.0
//
// When a held key is asked about again, and when what waits for it ends: timers in a wheel of milliseconds (hold.h).
#include "hold_internal.h"
#include "stages.h"
#include "tables.h"

// The first ones only for a question that found no room in the ring.
static const uint16_t ask_after_ms[] = {20, 60, 140};
#define ASK_STAGES (sizeof(ask_after_ms) / sizeof(ask_after_ms[0]))

static bool ring_has_room_for(struct hold_share *share, struct fp_ring_end *ring);
static void slot_due(struct fp_thread *t, uint32_t slot);
static void wheel_add(struct hold *hold, uint32_t slot);

void
hold_tick(struct fp_thread *t)
{
	struct hold *hold = &t->hold;
	uint64_t now_ms = t->now_ns / MILLISECOND_NS;

	if (hold->keys == 0) {
		hold->wheel_ms = now_ms;
		return;
	}
	if (now_ms > hold->wheel_ms + HOLD_WHEEL)
		hold->wheel_ms = now_ms - HOLD_WHEEL; // once around is all of it
	while (hold->wheel_ms < now_ms) {
		const uint32_t *place = &hold->wheel[++hold->wheel_ms % HOLD_WHEEL];
		uint32_t slot = *place;

		// From the front again after each: what one decision lets go may take others out
		// with it.
		while (slot != 0) {
			if (hold->slot[slot].due_ns > t->now_ns) {
				slot = hold->slot[slot].due_next; // a later turn's
				continue;
			}
			slot_due(t, slot);
			slot = *place;
		}
	}
}

void
hold_ask_all(struct fp_thread *t, uint32_t worker)
{
	struct hold *hold = &t->hold;

	for (uint32_t i = 1; hold->keys != 0 && i <= hold->room; i++)
		if (hold->slot[i].used && hold_slot_current(t, i) &&
		    t->view.vnet[hold->slot[i].vnet].worker == worker)
			hold_slot_ask(t, i);
}

// Writes the record; if it does not fit, the next timer tries again, else only the last one does: a
// worker that is busy is not helped by hearing everything twice.
void
hold_slot_ask(struct fp_thread *t, uint32_t slot)
{
	struct hold_slot *s = &t->hold.slot[slot];
	struct hold_share *share = &t->hold.vnet[s->vnet];
	const struct fp_vnet *vnet = &t->view.vnet[s->vnet];
	const struct rte_mbuf *mbuf = t->hold.packet[s->head].mbuf;
	const struct fp_ingress *ingress = &t->view.ingress[s->key.ingress];
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	struct fp_record_miss record = {
		.head = {.type = FP_RECORD_MISS, .version = FP_RECORD_VERSION, .vni = vnet->vni},
		.key = s->key,
		.frame_bytes = mbuf->data_len,
		.token = (uint64_t)t->index << 56 | (uint64_t)slot << 32 | s->uses,
		.ingress_object = s->ingress_object,
		.received_ns = s->first_ns,
		.ingress_kind = ingress->kind,
		.asked = s->asked,
	};

	memcpy(record.destination_mac, frame, FP_MAC_BYTES);
	memcpy(record.source_mac, frame + 6, FP_MAC_BYTES);
	if (vnet->worker >= FP_WORKERS_MAX || !t->worker[vnet->worker].attached)
		return;
	if (!ring_has_room_for(share, &t->worker[vnet->worker].ring)) {
		worker_full(t, vnet->worker);
		return;
	}
	if (!worker_write(t, vnet->worker, (const struct fp_record *)&record))
		return;
	share->ring_since++;
	if (s->asked < UINT8_MAX)
		s->asked++;
	s->stage = RTE_MAX(s->stage, (uint8_t)(ASK_STAGES - 1)); // it is read, sooner or later
}

static bool
ring_has_room_for(struct hold_share *share, struct fp_ring_end *ring)
{
	const uint64_t room = fp_ring_room(ring);

	if ((int32_t)(ring->mine - share->ring_mark) < 0) // another ring
		share->ring_mark = share->ring_before = share->ring_since = 0;
	for (int i = 0; i < 2 && (int32_t)(ring->other - share->ring_mark) >= 0; i++) {
		share->ring_before = share->ring_since;
		share->ring_since = 0;
		share->ring_mark = ring->mine;
	}
	return share->ring_before + share->ring_since < room * HOLD_SHARE_OF_RING;
}

// A timer of the slot ran out. A decision that came by another way (another thread asked) is taken
// as it stands.
static void
slot_due(struct fp_thread *t, uint32_t slot)
{
	struct hold_slot *s = &t->hold.slot[slot];
	fp_action_word word;

	if (unlikely(!hold_slot_current(t, slot))) {
		hold_slot_end(t, slot, FP_DROP_ingress_gone);
		return;
	}
	word = hold_word_now(t, &s->key);
	if (fp_action_of(word) != FP_ACTION_NONE) {
		hold_decided(t, slot, word);
		return;
	}
	if (t->now_ns >= s->held_ns + t->hold.limits.wait_ms * MILLISECOND_NS) {
		t->counters.expired += s->packets;
		hold_slot_end(t, slot, FP_DROP_hold_expired);
		return;
	}
	if (s->stage < ASK_STAGES) {
		s->stage++;
		hold_slot_ask(t, slot);
	}
	hold_slot_untime(t, slot);
	hold_slot_time(t, slot);
}

// Puts the slot where its next timer is.
void
hold_slot_time(struct fp_thread *t, uint32_t slot)
{
	struct hold_slot *s = &t->hold.slot[slot];
	uint64_t expire_ns = s->held_ns + t->hold.limits.wait_ms * MILLISECOND_NS;

	while (s->stage < ASK_STAGES && s->held_ns + ask_after_ms[s->stage] * MILLISECOND_NS <= t->now_ns)
		s->stage++; // a late tick asks once, not three times
	s->due_ns = s->stage < ASK_STAGES ? s->held_ns + ask_after_ms[s->stage] * MILLISECOND_NS : expire_ns;
	s->due_ns = RTE_MIN(s->due_ns, expire_ns);
	wheel_add(&t->hold, slot);
}

static void
wheel_add(struct hold *hold, uint32_t slot)
{
	struct hold_slot *s = &hold->slot[slot];
	// Rounded up, and never where the wheel has been in this turn: it comes by when it is due.
	uint64_t due_ms = (s->due_ns + MILLISECOND_NS - 1) / MILLISECOND_NS;
	uint32_t *place;

	s->due_ns = due_ms * MILLISECOND_NS;
	s->place = (uint16_t)(RTE_MAX(due_ms, hold->wheel_ms + 1) % HOLD_WHEEL);
	place = &hold->wheel[s->place];
	s->due_previous = 0;
	s->due_next = *place;
	if (*place != 0)
		hold->slot[*place].due_previous = slot;
	*place = slot;
}

void
hold_slot_untime(struct fp_thread *t, uint32_t slot)
{
	struct hold *hold = &t->hold;
	const struct hold_slot *s = &hold->slot[slot];

	if (s->due_next != 0)
		hold->slot[s->due_next].due_previous = s->due_previous;
	if (s->due_previous != 0)
		hold->slot[s->due_previous].due_next = s->due_next;
	else
		hold->wheel[s->place] = s->due_next;
}
