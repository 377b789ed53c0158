// SPDX-License-Identifier: Apache-2.0
//
// The attachment of a (port, VLAN): those that packets came by lately are remembered. One poll thread.
#pragma once

#include "inside.h"
#include "l3_ipv4_usual.h"
#include "receive.h"

// Attachments that packets came by lately. Good for one generation of the tables.
#define ATTACHMENTS_SEEN 256
struct attachment_seen {
	uint64_t name; // attachment_name(); 0: never used
	uint64_t zero[3];
	struct inside inside; // ingress 0: there is no attachment
};
static_assert(sizeof(struct attachment_seen) == 64, "attachment_seen");

#pragma GCC visibility push(hidden)
// The attachment of the port's VLAN, 0 of none; good until the next one is asked for. ingress 0: there is none.
const struct inside *attachment_of(struct fp_thread *t, const struct receive_context *context, uint32_t vlan);
#pragma GCC visibility pop

// Of an attachment in the generation that this burst sees: the tag's VLAN as it lies in a frame, or
// a bit that no VLAN has.
#define VLAN_ID_MASK 0xff0f
#define UNTAGGED 0x10
static inline uint64_t
attachment_name_of(const struct fp_thread *t, const struct fp_port *port)
{
	return (uint64_t)t->generation << 32 | (uint64_t)port->index << 16;
}
static inline uint64_t
attachment_name(const struct receive_context *context, uint16_t id)
{
	return context->attachments | id;
}
// By the id's lower byte.
static inline struct attachment_seen *
attachment_seen_at(const struct fp_thread *t, const struct receive_context *context, uint16_t id)
{
	static_assert(ATTACHMENTS_SEEN == 256);
	return &t->attachment_seen[(uint8_t)(id >> 8 ^ context->attachments_mixed)];
}

// Where a tagged frame came in. NULL: it has no tag, or is the first of its VLAN.
static inline const struct inside *
tagged_inside(const struct fp_thread *t, const struct receive_context *context, const struct rte_mbuf *mbuf)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const struct attachment_seen *seen;
	uint16_t id;

	if (mbuf->data_len < USUAL_BYTES + VLAN_BYTES || load16(frame + 12) != be16(ETHERTYPE_VLAN))
		return NULL;
	id = load16(frame + 14) & VLAN_ID_MASK;
	seen = attachment_seen_at(t, context, id);
	return likely(seen->name == attachment_name(context, id)) ? &seen->inside : NULL;
}
