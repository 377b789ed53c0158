// SPDX-License-Identifier: Apache-2.0
//
// Later fragments carry no ports. Where a decision needs them (narrow), a bounded table remembers the
// first ones for a few seconds: (ingress, source, destination, protocol, id) -> ports.
//
// A full row forgets the oldest entry of the V-net that has the most in it: a tenant that sends first
// fragments without end forgets its own, and leaves the others at least as many places in each row as
// it keeps.
//
// A later one that comes before its first one waits for it, for a moment, bounded by thread and by V-net. What
// waits is kept together and in order: there is little of it, and a look through it costs less than lists would.
#include "l3.h"
#include "stages.h"
#include "tables.h"

static bool still_from_there(const struct fp_thread *t, const struct waiting_fragment *w);
static void waiting_left(struct fp_thread *t, uint32_t n);
static void key_make(const struct fp_thread *t, const struct packet *p, const struct rte_mbuf *mbuf,
		     struct fragment *key);
static struct fragment *row_of(struct fp_thread *t, const struct fragment *key);
static bool same(const struct fragment *a, const struct fragment *b);
static bool lives(const struct fp_thread *t, const struct fragment *f);
static struct fragment *place_in(const struct fp_thread *t, struct fragment *row, const struct fragment *f);

// The packet is a first fragment whose decision needs its ports.
void
fragment_remember(struct fp_thread *t, const struct packet *p, const struct rte_mbuf *mbuf)
{
	struct fragment f;

	key_make(t, p, mbuf, &f);
	f.source_port = p->source_port;
	f.destination_port = p->destination_port;
	f.seen_s = t->now_s;
	f.sequence = t->fragments_seen++;
	f.used = 1;
	*place_in(t, row_of(t, &f), &f) = f;
}

// Gives a later fragment the ports of its first one. false: that one was not seen lately.
bool
fragment_ports(struct fp_thread *t, struct packet *p, const struct rte_mbuf *mbuf)
{
	const struct fragment *row;
	struct fragment key;

	key_make(t, p, mbuf, &key);
	row = row_of(t, &key);
	for (uint32_t i = 0; i < FRAGMENT_PLACES; i++) {
		if (!lives(t, &row[i]) || !same(&row[i], &key))
			continue;
		p->source_port = row[i].source_port;
		p->destination_port = row[i].destination_port;
		return true;
	}
	return false;
}

// The packet is a later fragment without ports. Takes it: it goes on with its first one, or ends.
void
fragment_wait(struct fp_thread *t, const struct packet *p, struct rte_mbuf *mbuf, uint64_t received_ns)
{
	struct waiting_fragment *w = &t->waiting[t->waiting_n];
	const uint32_t free = FRAGMENTS_WAITING - t->waiting_n;
	uint32_t of_vnet = 0;

	for (uint32_t i = 0; i < t->waiting_n; i++)
		of_vnet += t->waiting[i].packet.vnet == p->vnet;
	if (of_vnet >= free * FRAGMENTS_SHARE_OF_FREE) {
		drop_packet(t, p, mbuf, FP_DROP_fragment_unknown);
		return;
	}
	*w = (struct waiting_fragment){.packet = *p,
				       .mbuf = mbuf,
				       .received_ns = received_ns,
				       .until_ns = t->now_ns + FRAGMENT_WAIT_NS};
	key_make(t, p, mbuf, &w->datagram);
	t->counters.held++;
	waiting_left(t, t->waiting_n + 1);
}

// Takes up to FP_BURST of those whose first one has been seen by now. Returns how many.
uint32_t
fragments_known(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs, uint64_t *received_ns)
{
	uint32_t n = 0, left = 0;

	for (uint32_t i = 0; i < t->waiting_n; i++) {
		struct waiting_fragment *w = &t->waiting[i];

		if (!still_from_there(t, w)) {
			drop(t, w->mbuf, 0, FP_DROP_ingress_gone);
		} else if (n < FP_BURST && fragment_ports(t, &w->packet, w->mbuf)) {
			packets[n] = w->packet;
			mbufs[n] = w->mbuf;
			received_ns[n++] = w->received_ns;
		} else {
			t->waiting[left++] = *w;
		}
	}
	t->counters.released += n;
	waiting_left(t, left);
	return n;
}

// Ends those whose first one does not come.
void
fragments_tick(struct fp_thread *t)
{
	uint32_t late = 0;

	while (late < t->waiting_n && t->waiting[late].until_ns <= t->now_ns) {
		const struct waiting_fragment *w = &t->waiting[late++];

		if (still_from_there(t, w))
			drop_packet(t, &w->packet, w->mbuf, FP_DROP_fragment_unknown);
		else
			drop(t, w->mbuf, 0, FP_DROP_ingress_gone);
	}
	if (late == 0)
		return;
	memmove(t->waiting, t->waiting + late, (t->waiting_n - late) * sizeof(*t->waiting));
	waiting_left(t, t->waiting_n - late);
}

// All that wait.
void
fragments_drop(struct fp_thread *t, enum fp_drop_reason reason)
{
	for (uint32_t i = 0; i < t->waiting_n; i++)
		drop_packet(t, &t->waiting[i].packet, t->waiting[i].mbuf, reason);
	waiting_left(t, 0);
}

static void
waiting_left(struct fp_thread *t, uint32_t n)
{
	t->waiting_n = n;
	t->counters.held_now = t->hold.packets + n;
}

// Indexes may be others' by now.
static bool
still_from_there(const struct fp_thread *t, const struct waiting_fragment *w)
{
	const struct fp_ingress *ingress = &t->view.ingress[w->packet.key.ingress];

	return ingress_live(ingress) && ingress->object_id == w->datagram.ingress_object &&
	       ingress->vni == w->datagram.vni && ingress->vnet == w->packet.vnet;
}

// Index and owner of the ingress: an index may be given to another while an entry stands.
static void
key_make(const struct fp_thread *t, const struct packet *p, const struct rte_mbuf *mbuf, struct fragment *key)
{
	const struct fp_ingress *ingress = &t->view.ingress[p->key.ingress];

	*key = (struct fragment){
		.ingress_object = ingress->object_id,
		.vni = ingress->vni,
		.ingress = p->key.ingress,
		.id = l3_datagram_id(p, rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, ETHERNET_BYTES)),
		.protocol = p->protocol,
	};
	memcpy(key->source, p->key.source, sizeof(key->source));
	memcpy(key->destination, p->key.destination, sizeof(key->destination));
}

// Ids of one pair of hosts differ by one: all bits of the hash must depend on all of these.
static struct fragment *
row_of(struct fp_thread *t, const struct fragment *key)
{
	uint32_t words[11] = {key->id, key->ingress, key->protocol};

	memcpy(words + 3, key->source, sizeof(key->source));
	memcpy(words + 7, key->destination, sizeof(key->destination));

	return t->fragment[fp_hash_bytes(&t->entropy, words, sizeof(words)) % FRAGMENT_ROWS];
}

static bool
same(const struct fragment *a, const struct fragment *b)
{
	return a->id == b->id && memcmp(a->source, b->source, sizeof(a->source)) == 0 &&
	       memcmp(a->destination, b->destination, sizeof(a->destination)) == 0 &&
	       a->protocol == b->protocol && a->ingress == b->ingress &&
	       a->ingress_object == b->ingress_object && a->vni == b->vni;
}

static bool
lives(const struct fp_thread *t, const struct fragment *f)
{
	return f->used && t->now_s - f->seen_s <= FRAGMENT_LIFE_S;
}

// Where an entry goes: its own place if it stands already, a free one, or that of the oldest of whoever
// would have the most with it.
static struct fragment *
place_in(const struct fp_thread *t, struct fragment *row, const struct fragment *f)
{
	struct fragment *place = NULL, *oldest = NULL;
	uint32_t most = 0;

	for (uint32_t i = 0; i < FRAGMENT_PLACES; i++) {
		uint32_t has = row[i].vni == f->vni;

		if (!lives(t, &row[i])) {
			place = &row[i];
			continue;
		}
		if (same(&row[i], f))
			return &row[i];
		for (uint32_t k = 0; k < FRAGMENT_PLACES; k++)
			has += row[k].vni == row[i].vni;
		if (has > most || (has == most && (int32_t)(row[i].sequence - oldest->sequence) < 0)) {
			most = has;
			oldest = &row[i];
		}
	}
	return place != NULL ? place : oldest;
}
