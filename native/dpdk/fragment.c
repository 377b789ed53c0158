// SPDX-License-Identifier: Apache-2.0
//
// Later fragments carry no ports. Where a decision needs them (narrow), a bounded table remembers the
// first ones for a few seconds: (ingress, source, destination, protocol, id) -> ports.
//
// A full set forgets the oldest entry of the V-net that has the most in it: a tenant that sends first
// fragments without end forgets its own, and leaves the others at least as many places in each set as
// it keeps.
#include "thread.h"

static void key_make(const struct fp_thread *t, const struct packet *p, struct fragment *key);
static struct fragment *set_of(struct fp_thread *t, const struct fragment *key);
static bool same(const struct fragment *a, const struct fragment *b);
static bool lives(const struct fp_thread *t, const struct fragment *f);
static struct fragment *place_in(const struct fp_thread *t, struct fragment *set,
				 const struct fragment *f);

// The packet is a first fragment whose decision needs its ports.
void
fragment_remember(struct fp_thread *t, const struct packet *p)
{
	struct fragment f;

	key_make(t, p, &f);
	f.source_port = p->source_port;
	f.destination_port = p->destination_port;
	f.seen_s = t->now_s;
	f.sequence = t->fragments_seen++;
	f.used = 1;
	*place_in(t, set_of(t, &f), &f) = f;
}

// Gives a later fragment the ports of its first one. false: that one was not seen lately.
bool
fragment_ports(struct fp_thread *t, struct packet *p)
{
	const struct fragment *set;
	struct fragment key;

	key_make(t, p, &key);
	set = set_of(t, &key);
	for (uint32_t i = 0; i < FRAGMENT_WAYS; i++) {
		if (!lives(t, &set[i]) || !same(&set[i], &key))
			continue;
		p->source_port = set[i].source_port;
		p->destination_port = set[i].destination_port;
		return true;
	}
	return false;
}

// Index and owner of the ingress: an index may be given to another while an entry stands.
static void
key_make(const struct fp_thread *t, const struct packet *p, struct fragment *key)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(p->mbuf, const uint8_t *, ETHERNET_BYTES);
	const struct fp_ingress *ingress = &t->view.ingress[p->key.ingress];

	*key = (struct fragment){
		.ingress_object = ingress->object_id,
		.vni = ingress->vni,
		.ingress = p->key.ingress,
		.source = load32(ip + 12),
		.destination = load32(ip + 16),
		.id = load16(ip + 4),
		.protocol = p->protocol,
	};
}

// Ids of one pair of hosts differ by one: all bits of the hash must depend on all of these.
static struct fragment *
set_of(struct fp_thread *t, const struct fragment *key)
{
	const uint32_t words[] = {key->source, key->destination, key->ingress,
				  (uint32_t)key->protocol << 16 | key->id};

	return t->fragment[fp_hash_bytes(&t->entropy, words, sizeof(words)) % FRAGMENT_SETS];
}

static bool
same(const struct fragment *a, const struct fragment *b)
{
	return a->id == b->id && a->source == b->source && a->destination == b->destination &&
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
place_in(const struct fp_thread *t, struct fragment *set, const struct fragment *f)
{
	struct fragment *place = NULL, *oldest = NULL;
	uint32_t most = 0;

	for (uint32_t i = 0; i < FRAGMENT_WAYS; i++) {
		uint32_t has = set[i].vni == f->vni;

		if (!lives(t, &set[i])) {
			place = &set[i];
			continue;
		}
		if (same(&set[i], f))
			return &set[i];
		for (uint32_t k = 0; k < FRAGMENT_WAYS; k++)
			has += set[k].vni == set[i].vni;
		if (has > most ||
		    (has == most && (int32_t)(set[i].sequence - oldest->sequence) < 0)) {
			most = has;
			oldest = &set[i];
		}
	}
	return place != NULL ? place : oldest;
}
