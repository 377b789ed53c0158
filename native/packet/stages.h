// SPDX-License-Identifier: Apache-2.0
//
// What each stage of the pipeline offers to the others. One poll thread.
#pragma once

#include "thread.h"

// Between the files of this directory only: calls are direct, not through the library's table.
#pragma GCC visibility push(hidden)

// receive.c: fills packets with what is a packet of a V-net, their buffers beside them; all else ends there. Returns
// how many.
uint32_t receive(struct fp_thread *t, const struct fp_port *port, struct rte_mbuf **mbufs, uint32_t n,
		 struct packet *packets, struct rte_mbuf **kept);

// act.c: does what the words say. Returns a bit for each packet that is to be looked up again.
uint64_t act(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs,
	     const fp_action_word *words, uint32_t n);

// again.c: those of a burst whose words say "look again", a bit for each. received_ns NULL: now.
void look_again(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs,
		const fp_action_word *decisions, uint64_t which, const uint64_t *received_ns);

// leave.c: what is not usual, to the location of the half.
void encapsulate(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf,
		 const struct fp_location *location, const struct fp_location_half *half, fp_action_word word,
		 enum tx_kind kind);
void deliver(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, const struct fp_location *location,
	     const struct fp_location_half *half, fp_action_word word);
// The way it came: the attachment, or the tunnel of the word's source location.
void send_back(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word,
	       enum tx_kind kind);
// Frames of housekeeping's, into a tunnel or out of an attachment. They take the mbuf.
void encapsulate_own(struct fp_thread *t, struct rte_mbuf *mbuf, const struct outgoing *out);
void deliver_own(struct fp_thread *t, struct rte_mbuf *mbuf, const struct outgoing *out);

// pipeline.c
void pipeline_decided(struct fp_thread *t, struct packet *packets, struct rte_mbuf **mbufs,
		      const uint64_t *received_ns, uint32_t n, fp_action_word word);
bool decided(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, uint64_t hash, fp_action_word word,
	     uint64_t received_ns);
void drop(struct fp_thread *t, struct rte_mbuf *mbuf, uint32_t vnet, enum fp_drop_reason reason);
static inline void
drop_packet(struct fp_thread *t, const struct packet *p, struct rte_mbuf *mbuf, enum fp_drop_reason reason)
{
	drop(t, mbuf, p->vnet, reason);
}
// Ends a packet that was to be sent as `kind`. One of our own was never received: it is freed and
// not counted.
static inline void
give_up(struct fp_thread *t, const struct packet *p, struct rte_mbuf *mbuf, enum tx_kind kind,
	enum fp_drop_reason reason)
{
	if (kind >= TX_ICMP)
		rte_pktmbuf_free(mbuf);
	else
		drop(t, mbuf, p->vnet, reason);
}
// neighbor.c, too_big.c
uint32_t neighbor_parse(struct packet *p, struct rte_mbuf *mbuf);
void neighbor_answer(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word);
void too_big(struct fp_thread *t, struct packet *p, struct rte_mbuf *mbuf, fp_action_word word,
	     uint32_t mtu_bytes);

// checksum.c
void checksum_complete(uint8_t *ip, uint32_t len);

// exception.c
void exception(struct fp_thread *t, const struct fp_port *port, struct rte_mbuf *mbuf);
void locator_unknown(struct fp_thread *t, const struct fp_locator_key *key);

// thread.c: to a worker's miss ring; false if nobody is attached or it is full.
bool worker_write(struct fp_thread *t, uint32_t worker, const struct fp_record *record);
void worker_full(struct fp_thread *t, uint32_t worker); // a record for it found no room

#pragma GCC visibility pop
