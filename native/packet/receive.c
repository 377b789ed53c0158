// SPDX-License-Identifier: Apache-2.0
//
// From a frame to a key: the usual frame in l3_ipv4_usual.h, all others here and in inner.c. Everything
// in a frame is hostile: every length is checked before the bytes behind it are read, and what is
// wrong ends with a name. The order of the checks is that of docs/architecture.md, "Journey of a
// packet".
#include "attachment.h"
#include "decap.h"
#include "inside.h"
#include "l3.h"
#include "l3_ipv4_usual.h"
#include "receive.h"
#include "stages.h"

// Of untagged frames: which are recognized in one go. Tagged ones are where there are attachments.
enum usual_kind { USUAL_NOTHING, USUAL_INSIDE, USUAL_UNDERLAY };
struct run {
	uint32_t vnet; // 0: of none
	uint64_t packets, bytes;
};
static struct packet *receive_all(struct fp_thread *t, struct receive_context *context, enum usual_kind usual,
				  bool attached, struct rte_mbuf **mbufs, uint32_t n, struct packet *p,
				  struct rte_mbuf **kept);
static uint32_t receive_one(struct fp_thread *t, struct receive_context *context, enum usual_kind usual,
			    bool attached, struct run *run, struct packet *p, struct rte_mbuf *mbuf);
static void run_add(struct fp_thread *t, struct run *run, uint32_t vnet, uint32_t bytes);
static void run_end(struct fp_thread *t, struct run run);
static uint32_t receive_tunneled(struct fp_thread *t, const struct receive_context *context, struct packet *p,
				 struct rte_mbuf *mbuf, const struct inside *inside,
				 const struct outer *outer);
static uint32_t join_ecn(const struct packet *p, struct rte_mbuf *mbuf, const struct outer *outer);
static uint32_t receive_seldom(struct fp_thread *t, struct receive_context *context, struct packet *p,
			       struct rte_mbuf *mbuf);
// Where a frame's type stands behind its tag, if it has one.
struct tag {
	uint32_t vlan, bytes; // 0: there is none
	uint16_t ethertype;
};
static uint32_t receive_attached(struct fp_thread *t, struct receive_context *context, struct packet *p,
				 struct rte_mbuf *mbuf, const struct inside *inside, struct tag tag);
static uint32_t receive_underlay(struct fp_thread *t, struct receive_context *context, struct packet *p,
				 struct rte_mbuf *mbuf, struct tag tag);

const uint8_t usual_not_unicast[256] = {[0] = 1, [127] = 1, [224 ... 255] = 1};
const uint16_t usual_least_bytes[256] = {
	[0 ... PROTOCOL_TCP - 1] = UINT16_MAX,
	[PROTOCOL_TCP] = IPV4_BYTES + TCP_BYTES,
	[PROTOCOL_TCP + 1 ... PROTOCOL_UDP - 1] = UINT16_MAX,
	[PROTOCOL_UDP] = IPV4_BYTES + UDP_BYTES,
	[PROTOCOL_UDP + 1 ... 255] = UINT16_MAX,
};

uint32_t
receive(struct fp_thread *t, const struct fp_port *port, struct rte_mbuf **mbufs, uint32_t n,
	struct packet *packets, struct rte_mbuf **kept)
{
	struct receive_context context = {.port = port,
					  .port_mac = load_mac(port->mac.addr_bytes) << 16,
					  .locators = locator_current(t, port),
					  .attachments = attachment_name_of(t, port),
					  .attachments_mixed = (uint8_t)(port->index * 37u)};
	const bool untagged_underlay = fp_port_is_underlay_vlan(port, 0);
	struct packet *end;

	for (uint32_t i = 0; port->dma && i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	if (port->role != FP_PORT_UNDERLAY)
		context.untagged = *attachment_of(t, &context, 0);
	// One loop for each kind of port.
	if (port->role == FP_PORT_UNDERLAY && untagged_underlay)
		end = receive_all(t, &context, USUAL_UNDERLAY, false, mbufs, n, packets, kept);
	else if (context.untagged.ingress != 0)
		end = receive_all(t, &context, USUAL_INSIDE, true, mbufs, n, packets, kept);
	else if (port->role == FP_PORT_BOTH && untagged_underlay)
		end = receive_all(t, &context, USUAL_UNDERLAY, true, mbufs, n, packets, kept);
	else
		end = receive_all(t, &context, USUAL_NOTHING, true, mbufs, n, packets, kept);
	t->counters.port[port->index].rx_packets += n;
	return (uint32_t)(end - packets);
}

// Returns the end of what is a packet of a V-net.
static inline __attribute__((always_inline)) struct packet *
receive_all(struct fp_thread *t, struct receive_context *context, enum usual_kind usual, bool attached,
	    struct rte_mbuf **mbufs, uint32_t n, struct packet *p, struct rte_mbuf **kept)
{
	uint64_t frame_bytes = 0;
	struct run run = {0};
	uint32_t rc;

	for (uint32_t i = 0; i < n; i++) {
		frame_bytes += mbufs[i]->pkt_len;
		rc = receive_one(t, context, usual, attached, &run, p, mbufs[i]);
		if (likely(rc == 0)) {
			p++;
			*kept++ = mbufs[i];
		} else if (rc == RECEIVE_EXCEPTION) {
			exception(t, context->port, mbufs[i]);
		} else {
			drop(t, mbufs[i], p->vnet, rc);
		}
	}
	run_end(t, run);
	t->counters.port[context->port->index].rx_bytes += frame_bytes;
	return p;
}

// A reason, 0 (the packet is filled in and counted), or RECEIVE_EXCEPTION. What is counted comes from
// where the packet's line was written from: the line itself would be read too soon after.
static inline __attribute__((always_inline)) uint32_t
receive_one(struct fp_thread *t, struct receive_context *context, enum usual_kind usual, bool attached,
	    struct run *run, struct packet *p, struct rte_mbuf *mbuf)
{
	struct outer outer = {0};
	uint32_t bytes, rc;
	const struct inside *inside = NULL;

	if (likely(mbuf->nb_segs == 1)) {
		if (attached && (inside = tagged_inside(t, context, mbuf)) != NULL) {
			if (likely((bytes = usual_parse(p, mbuf, inside, VLAN_BYTES, 0)) != 0)) {
				run_add(t, run, inside->vnet, bytes);
				return 0;
			}
			inside = NULL;
		} else if (usual == USUAL_INSIDE) {
			inside = &context->untagged;
		} else if (usual == USUAL_UNDERLAY) {
			inside = usual_decap(t, context, mbuf, &outer);
		}
	}
	if (likely(inside != NULL && (bytes = usual_parse(p, mbuf, inside, 0, outer.bytes)) != 0)) {
		if (usual == USUAL_UNDERLAY) {
			p->outer_ttl = (uint8_t)outer.hops_left;
			if (unlikely((outer.traffic_class & ECN_MASK) != ECN_NOT_ECT) &&
			    (rc = join_ecn(p, mbuf, &outer)) != 0)
				return rc;
		}
		run_add(t, run, inside->vnet, bytes);
		return 0;
	}
	p->flags = 0;
	p->vnet = 0;
	p->port = (uint8_t)context->port->index;
	rc = usual == USUAL_UNDERLAY && inside != NULL ? receive_tunneled(t, context, p, mbuf, inside, &outer)
						       : receive_seldom(t, context, p, mbuf);
	if (rc == 0)
		run_add(t, run, p->vnet, mbuf->data_len);
	return rc;
}

// Packets received by a V-net, one after the other.
static inline void
run_add(struct fp_thread *t, struct run *run, uint32_t vnet, uint32_t bytes)
{
	if (unlikely(vnet != run->vnet)) {
		run_end(t, *run);
		*run = (struct run){.vnet = vnet};
	}
	run->packets++;
	run->bytes += bytes;
}

static inline void
run_end(struct fp_thread *t, struct run run)
{
	t->counters.vnet[run.vnet].rx_packets += run.packets;
	t->counters.vnet[run.vnet].rx_bytes += run.bytes;
}

// What came out of a tunnel and is not usual: the inner frame, and then its ECN.
static uint32_t
receive_tunneled(struct fp_thread *t, const struct receive_context *context, struct packet *p,
		 struct rte_mbuf *mbuf, const struct inside *inside, const struct outer *outer)
{
	uint32_t rc;

	p->flags = PACKET_TUNNELED;
	p->vnet = 0;
	p->port = inside->port;
	p->outer_ttl = (uint8_t)outer->hops_left;
	p->key.ingress = inside->ingress;
	rc = inner_parse(t, p, mbuf, &t->view.ingress[inside->ingress], context->port, 0);
	if (unlikely(rc != 0))
		return rc;
	p->outer_bytes = (uint8_t)outer->bytes;
	return p->flags & PACKET_IP ? join_ecn(p, mbuf, outer) : 0;
}

// What the outer header saw of congestion. The inner header was checked.
static uint32_t
join_ecn(const struct packet *p, struct rte_mbuf *mbuf, const struct outer *outer)
{
	return l3_join_ecn(p, rte_pktmbuf_mtod_offset(mbuf, uint8_t *, ETHERNET_BYTES),
			   outer->traffic_class & ECN_MASK);
}

static uint32_t
receive_seldom(struct fp_thread *t, struct receive_context *context, struct packet *p, struct rte_mbuf *mbuf)
{
	const uint8_t *frame;
	struct tag tag = {0};
	uint32_t len;

	if (unlikely(mbuf->nb_segs > 1) && rte_pktmbuf_linearize(mbuf) != 0)
		return FP_DROP_no_buffer;
	frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	len = mbuf->data_len;
	if (unlikely(len < ETHERNET_BYTES))
		return FP_DROP_frame_truncated;
	tag.ethertype = load16_be(frame + 12);
	if (tag.ethertype == ETHERTYPE_VLAN) {
		if (unlikely(len < ETHERNET_BYTES + VLAN_BYTES))
			return len == AF_PACKET_S_TAG_BYTES && context->port->cuts_s_tags
				       ? FP_DROP_vlan_nested
				       : FP_DROP_frame_truncated;
		tag = (struct tag){.vlan = load16_be(frame + 14) & 0xfff,
				   .bytes = VLAN_BYTES,
				   .ethertype = load16_be(frame + 16)};
	}
	if (context->port->role == FP_PORT_UNDERLAY)
		return receive_underlay(t, context, p, mbuf, tag);
	return receive_attached(t, context, p, mbuf,
				tag.vlan != 0 ? attachment_of(t, context, tag.vlan) : &context->untagged,
				tag);
}

static uint32_t
receive_attached(struct fp_thread *t, struct receive_context *context, struct packet *p,
		 struct rte_mbuf *mbuf, const struct inside *inside, struct tag tag)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

	if (inside->ingress == 0 && context->port->role == FP_PORT_BOTH)
		return receive_underlay(t, context, p, mbuf, tag);
	if (unlikely(tag.ethertype == ETHERTYPE_VLAN || tag.ethertype == ETHERTYPE_QINQ))
		return FP_DROP_vlan_nested;
	if (unlikely(inside->ingress == 0))
		return FP_DROP_no_attachment;
	if (tag.bytes != 0) {
		memmove(frame + VLAN_BYTES, frame, 12);
		frame_pull(mbuf, VLAN_BYTES);
	}
	p->key.ingress = inside->ingress;
	return inner_parse(t, p, mbuf, &t->view.ingress[inside->ingress], context->port,
			   context->port->mtu_bytes);
}

static uint32_t
receive_underlay(struct fp_thread *t, struct receive_context *context, struct packet *p,
		 struct rte_mbuf *mbuf, struct tag tag)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	uint64_t destination = load_mac(frame);
	struct inside inside;
	struct outer outer;
	uint32_t rc;

	if (destination << 16 != context->port_mac)
		return mac_is_group(destination) ? RECEIVE_EXCEPTION : FP_DROP_not_for_this_mac;
	if (tag.ethertype != ETHERTYPE_IPV4)
		return RECEIVE_EXCEPTION;
	rc = decap(t, context, p, mbuf, tag.vlan, ETHERNET_BYTES + tag.bytes, &outer);
	if (unlikely(rc != 0))
		return rc;
	inside = inside_of(t, context->port, p->key.ingress, 0);
	return receive_tunneled(t, context, p, mbuf, &inside, &outer);
}
