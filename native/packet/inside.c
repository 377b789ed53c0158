// SPDX-License-Identifier: Apache-2.0
//
// See inside.h.
#include "inside.h"
#include "tables.h"

struct inside
inside_of(const struct fp_thread *t, const struct fp_port *port, uint32_t ingress, uint32_t mtu_bytes)
{
	const struct fp_ingress *i = ingress_at(t, ingress);
	const struct fp_vnet *vnet = i != NULL ? vnet_at(t, i->vnet) : NULL;
	struct inside inside = {
		.gateway_mac = MAC_BROADCAST << 16, .ingress = ingress, .port = (uint8_t)port->index};

	if (vnet == NULL || !vnet_live(vnet))
		return inside;
	inside.vnet = i->vnet;
	inside.believed = ingress_believed(i);
	inside.flags = PACKET_IP | PACKET_PORTS | (i->kind == FP_INGRESS_NODE ? PACKET_TUNNELED : 0);
	if (load_mac(vnet->gateway_mac) != 0)
		inside.gateway_mac = load_mac(vnet->gateway_mac) << 16;
	if (!port->partial_checksums)
		inside.usual_bytes = (uint16_t)(mtu_bytes != 0 ? mtu_bytes : UINT16_MAX);
	return inside;
}
