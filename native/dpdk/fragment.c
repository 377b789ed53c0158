// SPDX-License-Identifier: Apache-2.0
//
// Later fragments carry no ports. Where a decision needs them, a bounded table remembers the first
// ones for a few seconds: (ingress, source, destination, protocol, id) -> ports. A full set forgets
// its oldest.
#include "entropy.h"
#include "thread.h"

static struct fragment *fragment_set(struct fp_thread *t, const struct packet *p,
				     const uint8_t *ip);
static bool fragment_is(const struct fragment *f, const struct packet *p, const uint8_t *ip,
			uint16_t id);

// The packet is a first fragment, parsed. id in wire order.
void
fragment_remember(struct fp_thread *t, const struct packet *p, uint16_t id)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(p->mbuf, const uint8_t *, ETHERNET_BYTES);
	struct fragment *set = fragment_set(t, p, ip), *f = NULL;

	for (uint32_t i = 0; i < FRAGMENT_WAYS; i++) {
		if (fragment_is(&set[i], p, ip, id)) {
			f = &set[i];
			break;
		}
		if (f == NULL || !set[i].used || (f->used && set[i].seen_s < f->seen_s))
			f = &set[i];
	}
	*f = (struct fragment){
		.source = load32(ip + 12),
		.destination = load32(ip + 16),
		.ingress = p->key.ingress,
		.seen_s = t->now_s,
		.id = id,
		.source_port = p->source_port,
		.destination_port = p->destination_port,
		.protocol = p->protocol,
		.used = 1,
	};
}

// Gives a later fragment the ports of its first one. false: that one was not seen lately.
bool
fragment_ports(struct fp_thread *t, struct packet *p)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(p->mbuf, const uint8_t *, ETHERNET_BYTES);
	const struct fragment *set = fragment_set(t, p, ip);
	uint16_t id = load16(ip + 4);

	for (uint32_t i = 0; i < FRAGMENT_WAYS; i++) {
		if (!fragment_is(&set[i], p, ip, id) || t->now_s - set[i].seen_s > FRAGMENT_LIFE_S)
			continue;
		p->source_port = set[i].source_port;
		p->destination_port = set[i].destination_port;
		return true;
	}
	return false;
}

static struct fragment *
fragment_set(struct fp_thread *t, const struct packet *p, const uint8_t *ip)
{
	uint32_t hash = entropy_hash(t, load64(ip + 12),
				     (uint64_t)load16(ip + 4) << 40 | (uint64_t)p->protocol << 32 |
					     p->key.ingress);

	return t->fragment[hash % FRAGMENT_SETS];
}

static bool
fragment_is(const struct fragment *f, const struct packet *p, const uint8_t *ip, uint16_t id)
{
	return f->used && f->id == id && f->source == load32(ip + 12) &&
	       f->destination == load32(ip + 16) && f->protocol == p->protocol &&
	       f->ingress == p->key.ingress;
}
