// SPDX-License-Identifier: Apache-2.0
//
// See attachment.h.
#include "attachment.h"
#include "inside.h"
#include "receive.h"
#include "tables.h"

static struct inside attachment_find(struct fp_thread *t, const struct fp_port *port, uint32_t vlan);

const struct inside *
attachment_of(struct fp_thread *t, const struct receive_context *context, uint32_t vlan)
{
	const uint16_t id = vlan != 0 ? be16((uint16_t)vlan) : UNTAGGED;
	const uint64_t name = attachment_name(context, id);
	struct attachment_seen *seen = attachment_seen_at(t, context, id);

	if (unlikely(seen->name != name))
		*seen = (struct attachment_seen){.name = name,
						 .inside = attachment_find(t, context->port, vlan)};
	return &seen->inside;
}

// The live attachment of (port, VLAN).
static struct inside
attachment_find(struct fp_thread *t, const struct fp_port *port, uint32_t vlan)
{
	uint32_t i = fp_ingress_by_vlan(t->arena, port->index, vlan);
	const struct fp_ingress *ingress = ingress_at(t, i);

	if (ingress == NULL || ingress->kind != FP_INGRESS_ATTACHMENT || !ingress_live(ingress))
		i = 0;
	return inside_of(t, port, i, port->mtu_bytes);
}
