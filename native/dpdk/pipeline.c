// SPDX-License-Identifier: Apache-2.0
//
// What happens to a burst: parse all, look all up, hold what misses, act. The journey is told in
// docs/architecture.md; each stage has its own file.
#include <rte_cycles.h>
#include <rte_ethdev.h>

#include "thread.h"

struct verdict {
	struct packet *packet;
	fp_action_word word;
	uint32_t entry; // 0: not known
};

static uint32_t parse(struct fp_thread *t, const struct fp_port *port, struct rte_mbuf **mbufs,
		      uint16_t n);
static uint32_t look_up(struct fp_thread *t, struct packet *packets, uint32_t n,
			struct verdict *verdicts);
static bool decided(struct fp_thread *t, struct packet *p, uint64_t hash, fp_action_word word,
		    uint64_t received_ns);
static bool narrow(struct fp_thread *t, struct packet *p);
static uint32_t look_up_connections(struct fp_thread *t, struct packet **packets,
				    const uint64_t *received_ns, uint32_t n,
				    struct verdict *verdicts);
static void act(struct fp_thread *t, const struct verdict *verdicts, uint32_t n);
static void act_one(struct fp_thread *t, struct packet *p, fp_action_word word);
static void forward(struct fp_thread *t, struct packet *p, fp_action_word word);
static void count_use(struct fp_thread *t, const struct verdict *verdict);
static void count_tunnel(struct fp_thread *t, const struct packet *p, fp_action_word word);

void
fp_thread_receive(struct fp_thread *t, const struct fp_port *port, struct rte_mbuf **mbufs,
		  uint16_t n)
{
	struct verdict verdicts[FP_BURST];
	uint64_t start = 0, parsed = 0, looked = 0, *cycles = t->counters.stage_cycles;
	bool timed = ++t->stage_clock % STAGE_CLOCK_EVERY == 0;
	uint32_t packets;

	if (unlikely(timed))
		start = rte_rdtsc();
	packets = parse(t, port, mbufs, n);
	if (unlikely(timed))
		parsed = rte_rdtsc();
	packets = look_up(t, t->packet, packets, verdicts);
	if (unlikely(timed))
		looked = rte_rdtsc();
	act(t, verdicts, packets);
	if (unlikely(timed)) {
		cycles[FP_STAGE_ACT] += (rte_rdtsc() - looked) * STAGE_CLOCK_EVERY;
		cycles[FP_STAGE_LOOKUP] += (looked - parsed) * STAGE_CLOCK_EVERY;
		cycles[FP_STAGE_PARSE] += (parsed - start) * STAGE_CLOCK_EVERY;
	}
}

// Packets that waited for the same decision, in order.
void
pipeline_decided(struct fp_thread *t, struct packet *packets, const uint64_t *received_ns,
		 uint32_t n, fp_action_word word)
{
	struct packet *connections[FP_BURST];
	struct verdict verdicts[FP_BURST];
	uint64_t times[FP_BURST];
	uint32_t narrowed = 0;

	if (fp_action_of(word) != FP_ACTION_NARROW) {
		for (uint32_t i = 0; i < n; i++)
			verdicts[i] = (struct verdict){.packet = &packets[i], .word = word};
		act(t, verdicts, n);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (!narrow(t, &packets[i]))
			continue;
		times[narrowed] = received_ns[i];
		connections[narrowed++] = &packets[i];
	}
	n = look_up_connections(t, connections, times, narrowed, verdicts);
	act(t, verdicts, n);
}

// Fills t->packet with what is a packet of a V-net; all else ends here. Returns how many.
static uint32_t
parse(struct fp_thread *t, const struct fp_port *port, struct rte_mbuf **mbufs, uint16_t n)
{
	struct fp_pair_counters *vnet_counters = t->counters.vnet;
	struct parse_context context;
	struct packet *p = t->packet;
	uint64_t bytes = 0;
	uint32_t rc;

	for (uint32_t i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	parse_begin(&context, port);
	for (uint32_t i = 0; i < n; i++) {
		bytes += mbufs[i]->pkt_len;
		p->mbuf = mbufs[i];
		rc = parse_port(t, &context, p);
		if (unlikely(rc != 0)) {
			if (rc == PARSE_EXCEPTION)
				exception(t, port, mbufs[i]);
			else
				drop(t, mbufs[i], p->vnet, rc);
			continue;
		}
		vnet_counters[p->vnet].rx_packets++;
		vnet_counters[p->vnet].rx_bytes += mbufs[i]->data_len;
		p++;
	}
	t->counters.received += n;
	t->counters.bursts++;
	t->counters.port[port->index].rx_packets += n;
	t->counters.port[port->index].rx_bytes += bytes;
	return (uint32_t)(p - t->packet);
}

// Looks packets up at pair level, and where policy needs ports again at connection level. What
// misses is held, what follows a held packet queues behind it; the rest is in verdicts. Returns how
// many.
static uint32_t
look_up(struct fp_thread *t, struct packet *packets, uint32_t n, struct verdict *verdicts)
{
	const struct fp_flow_key *keys[FP_BURST];
	struct packet *connections[FP_BURST];
	fp_action_word words[FP_BURST];
	uint64_t hashes[FP_BURST], times[FP_BURST], hits;
	uint32_t entries[FP_BURST], decisions = 0, narrowed = 0;

	if (unlikely(n == 0))
		return 0;
	for (uint32_t i = 0; i < n; i++)
		keys[i] = &packets[i].key;
	hits = fp_flow_lookup_bulk(t->arena, keys, n, t->now_s, hashes, words, entries);
	t->counters.lookups += n;
	t->counters.hits += (uint32_t)__builtin_popcountll(hits);
	for (uint32_t i = 0; i < n; i++) {
		struct packet *p = &packets[i];

		if (unlikely(fp_action_of(words[i]) == FP_ACTION_NONE || t->hold.keys != 0) &&
		    !decided(t, p, hashes[i], words[i], t->now_ns))
			continue;
		if (unlikely(fp_action_of(words[i]) == FP_ACTION_NARROW)) {
			count_use(t, &(struct verdict){.packet = p, .entry = entries[i]});
			if (narrow(t, p)) {
				times[narrowed] = t->now_ns;
				connections[narrowed++] = p;
			}
			continue;
		}
		verdicts[decisions++] =
			(struct verdict){.packet = p, .word = words[i], .entry = entries[i]};
	}
	if (unlikely(narrowed != 0))
		decisions +=
			look_up_connections(t, connections, times, narrowed, verdicts + decisions);
	return decisions;
}

// Whether a packet may be acted on now. If its key is held and there is a decision, what was held
// goes first; if there is none it is held.
static bool
decided(struct fp_thread *t, struct packet *p, uint64_t hash, fp_action_word word,
	uint64_t received_ns)
{
	uint32_t slot = t->hold.keys != 0 ? hold_find(t, &p->key, hash) : 0;

	if (fp_action_of(word) == FP_ACTION_NONE) {
		t->counters.misses++;
		hold_put(t, p, hash, slot, received_ns);
		return false;
	}
	if (slot != 0)
		hold_decided(t, slot, word);
	return true;
}

// Makes the key one of connection level. false: the packet has ended.
static bool
narrow(struct fp_thread *t, struct packet *p)
{
	if (unlikely(!(p->flags & PACKET_IP) || (p->key.flags & FP_KEY_CONNECTION))) {
		drop_packet(t, p, FP_DROP_not_supported);
		return false;
	}
	if (unlikely(p->flags & PACKET_LATER) && !fragment_ports(t, p)) {
		drop_packet(t, p, FP_DROP_fragment_unknown);
		return false;
	}
	p->key.flags |= FP_KEY_CONNECTION;
	p->key.protocol = p->protocol;
	p->key.source_port = p->source_port;
	p->key.destination_port = p->destination_port;
	return true;
}

static uint32_t
look_up_connections(struct fp_thread *t, struct packet **packets, const uint64_t *received_ns,
		    uint32_t n, struct verdict *verdicts)
{
	const struct fp_flow_key *keys[FP_BURST] = {NULL};
	fp_action_word words[FP_BURST];
	uint64_t hashes[FP_BURST] = {0}, hits;
	uint32_t entries[FP_BURST], decisions = 0;

	if (n == 0 || n > FP_BURST)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		keys[i] = &packets[i]->key;
	hits = fp_flow_lookup_bulk(t->arena, keys, n, t->now_s, hashes, words, entries);
	t->counters.lookups += n;
	t->counters.narrowed += n;
	t->counters.hits += (uint32_t)__builtin_popcountll(hits);
	for (uint32_t i = 0; i < n; i++) {
		if (unlikely(fp_action_of(words[i]) == FP_ACTION_NONE || t->hold.keys != 0) &&
		    !decided(t, packets[i], hashes[i], words[i], received_ns[i]))
			continue;
		verdicts[decisions++] = (struct verdict){
			.packet = packets[i], .word = words[i], .entry = entries[i]};
	}
	return decisions;
}

static void
act(struct fp_thread *t, const struct verdict *verdicts, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t location = fp_action_destination(verdicts[i].word);

		rte_prefetch0(&t->view.location[location < t->view.locations ? location : 0]);
	}
	for (uint32_t i = 0; i < n; i++) {
		if (likely(verdicts[i].entry != 0))
			count_use(t, &verdicts[i]);
		if (verdicts[i].packet->flags & PACKET_TUNNELED)
			count_tunnel(t, verdicts[i].packet, verdicts[i].word);
		act_one(t, verdicts[i].packet, verdicts[i].word);
	}
}

static void
act_one(struct fp_thread *t, struct packet *p, fp_action_word word)
{
	uint32_t reason;

	switch (fp_action_of(word)) {
	case FP_ACTION_ENCAPSULATE:
	case FP_ACTION_DELIVER:
	case FP_ACTION_RELAY:
		forward(t, p, word);
		return;
	case FP_ACTION_ANSWER:
		if (p->key.key_class != FP_CLASS_NEIGHBOR)
			break;
		neighbor_answer(t, p, word);
		return;
	case FP_ACTION_DROP:
		reason = fp_action_destination(word);
		drop_packet(t, p,
			    reason != 0 && reason < FP_DROP_MAX ? reason : FP_DROP_not_supported);
		return;
	default:
		break;
	}
	drop_packet(t, p, FP_DROP_not_supported);
}

// Where the location is says how: an endpoint that has moved since the decision is one store in its
// location.
static void
forward(struct fp_thread *t, struct packet *p, fp_action_word word)
{
	uint32_t index = fp_action_destination(word);
	const struct fp_location_half *half;

	if (unlikely(p->key.key_class == FP_CLASS_NEIGHBOR)) {
		drop_packet(t, p, FP_DROP_not_supported);
		return;
	}
	half = location_half(t, index);
	if (unlikely(half == NULL)) {
		drop_packet(t, p, FP_DROP_location_gone);
		return;
	}
	switch (half->kind) {
	case FP_LOCATION_LOCAL:
		deliver(t, p, t->view.location[index].vnet, half, word);
		return;
	case FP_LOCATION_TUNNEL:
	case FP_LOCATION_SET:
		encapsulate(t, p, t->view.location[index].vnet, half, word,
			    p->flags & PACKET_TUNNELED ? TX_RELAYED : TX_FORWARDED);
		return;
	default:
		drop_packet(t, p, FP_DROP_location_gone);
	}
}

void
send_back(struct fp_thread *t, struct packet *p, fp_action_word word, enum tx_kind kind)
{
	const struct fp_location_half *half;

	if (!(p->flags & PACKET_TUNNELED)) {
		deliver_by(t, p, &t->view.ingress[p->key.ingress], kind);
		return;
	}
	half = location_half(t, fp_action_source(word));
	if (half == NULL || (half->kind != FP_LOCATION_TUNNEL && half->kind != FP_LOCATION_SET)) {
		give_up(t, p, kind, FP_DROP_location_gone);
		return;
	}
	encapsulate(t, p, p->vnet, half, word, kind);
}

// Age at most once a second; one packet in FP_SAMPLE_EVERY, at random distances, for the flow's
// estimates.
static void
count_use(struct fp_thread *t, const struct verdict *verdict)
{
	struct fp_flow_side *side;
	const struct packet *p = verdict->packet;

	fp_flow_used(&t->view.flow_entry[verdict->entry], t->now_s);
	if (likely(--t->sample_in != 0))
		return;
	t->random = t->random * 1664525u + 1013904223u;
	side = &t->view.flow_side[verdict->entry];
	t->sample_in = 1 + (t->random >> 16) % (2 * FP_SAMPLE_EVERY - 1);
	__atomic_store_n(&side->packets_sampled, side->packets_sampled + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&side->kbytes_sampled,
			 side->kbytes_sampled + (p->mbuf->data_len + 63u) / 64, __ATOMIC_RELAXED);
	t->tunnel_of[p->key.ingress] = 0; // learnt again: tunnels come and go
}

// Came out of a tunnel: which one, is told by the location that leads back to the source.
static void
count_tunnel(struct fp_thread *t, const struct packet *p, fp_action_word word)
{
	uint32_t tunnel = t->tunnel_of[p->key.ingress];

	if (unlikely(tunnel == 0)) {
		const struct fp_location_half *source = location_half(t, fp_action_source(word));

		if (source != NULL && source->kind == FP_LOCATION_TUNNEL &&
		    source->target < t->view.tunnels)
			tunnel = t->tunnel_of[p->key.ingress] = source->target;
	}
	t->counters.tunnel[tunnel].rx_packets++;
	t->counters.tunnel[tunnel].rx_bytes += p->mbuf->data_len + TUNNEL_BYTES;
}

void
drop(struct fp_thread *t, struct rte_mbuf *mbuf, uint32_t vnet, enum fp_drop_reason reason)
{
	struct fp_counters *c = &t->counters;
	uint32_t i, first = (vnet * 2654435761u + reason * 40503u) % FP_REASON_VNETS;

	rte_pktmbuf_free(mbuf);
	c->dropped[reason]++;
	if (vnet == 0)
		return;
	for (i = 0; i < 8; i++) {
		struct fp_reason_vnet *pair = &c->reason_vnet[(first + i) % FP_REASON_VNETS];

		if (pair->packets == 0) { // readers look at packets first
			pair->vnet = vnet;
			pair->reason = reason;
		} else if (pair->vnet != vnet || pair->reason != reason) {
			continue;
		}
		__atomic_store_n(&pair->packets, pair->packets + 1, __ATOMIC_RELEASE);
		return;
	}
	c->reason_vnet_full++;
}
