# SPDX-License-Identifier: Apache-2.0
"""The source of a packet: who it is, whether it may come in here, and from which MAC its packets come."""

from directory_client.vocabulary.addresses import ZERO
from directory_client.vocabulary.numbers import IngressKind, KeyClass
from directory_service.decide.locate import Located, Location, locate
from directory_service.decide.question import Query, Refusal, any_of, everything, family_of, scope_of
from directory_service.kinds.node import Node
from directory_service.model.member import Holder
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.settings import Settings

_NODE, _NEIGHBOR = int(IngressKind.NODE), int(KeyClass.NEIGHBOR)  # faster


def source_at_origin(state: VnetState, query: Query, family: int, here: Node, arp: bool) -> Holder | None:
    """Return who the source is; refuse what may not come in by this attachment. None: an ARP probe."""
    attachment = state.attachments_by_id.get(query.ingress_object)
    if attachment is None or attachment.place.node != here.name:
        raise Refusal("no_attachment", everything(family))
    if arp and query.source == ZERO:
        return None
    holders = state.holders(family, query.source)
    for holder in holders:
        if is_on_segment(holder, query.ingress_object):
            return holder
    raise _unwanted_source(state, query, family, holders)


def source_at_target(
    snapshot: Snapshot,
    state: VnetState,
    query: Query,
    family: int,
    here: Node,
    now_ms: int,
    settings: Settings,
) -> tuple[Holder, int]:
    """Return who the source is and for how long at most it may come this way (0: no bound); refuse others."""
    node = snapshot.fabric.nodes_by_id.get(query.ingress_object)
    vnet = state.vnet
    if node is None or vnet is None or node.id == here.id or not state.attachments_by_node.get(here.name):
        raise Refusal("unknown_vtep", everything(family))
    holders = state.holders(family, query.source)
    if not holders:
        raise _unwanted_source(state, query, family, holders)
    scope = scope_of(query.source, 128, *any_of(family))
    bound_ms = 0
    accepted = next((holder for holder in holders if _is_at(holder, node.name)), None)
    if accepted is None and node.name in vnet.relays:
        accepted = holders[0]
    if accepted is None:
        targets = state.holders(family, query.destination)
        bound_ms = max((grace_left(state, one, node.name, now_ms, settings) for one in targets), default=0)
        if not bound_ms:
            raise _unwanted_source(state, query, family, holders, narrow=node.name in state.nodes_left)
        accepted = holders[0]
        scope = scope_of(query.source, 128, query.destination, 128)
    link = snapshot.fabric.link(here, node, vnet.min_trust)
    if link.tunnel is None:
        located = Located(None, node.name, link, link.reason, link.why)
        raise Refusal(link.reason, scope, source=accepted, located=located, why=link.why)
    return accepted, bound_ms


def is_on_segment(holder: Holder, attachment: int) -> bool:
    """Tell whether a holder, or the endpoint that a route leads through, may be on an attachment's
    segment."""
    return holder.member is not None and attachment in holder.member.attachments


def locate_source(snapshot: Snapshot, query: Query, here: Node, source: Holder) -> Location | None:
    """Return where the source is, so that the data plane knows from which MAC its packets have to come; None:
    from any.

    An address that several serve by one ingress has the MACs of all of them, a prefix behind a node those of
    routers that nobody declared. Gateways of ours look where a packet comes in, and put the gateway's MAC on
    what they route.
    """
    state = snapshot.by_vni[query.vni]
    holders = state.holders(family_of(query), query.source)
    if query.ingress_kind == _NODE:
        node = snapshot.fabric.nodes_by_id[query.ingress_object]
        if not node.foreign:
            return None
        fitting = [one for one in holders if _is_at(one, node.name)]
    else:
        fitting = [one for one in holders if is_on_segment(one, query.ingress_object)]
    if len(fitting or holders) != 1 or not has_mac(source):
        return None
    return locate(snapshot, state, here, source).location


def has_mac(holder: Holder) -> bool:
    """Tell whether packets from a holder come from one MAC, which is known."""
    return holder.member is not None or bool(holder.route and holder.route.router_mac)


def _is_at(holder: Holder, node: str) -> bool:
    if holder.member is not None:
        return node in holder.member.nodes
    return holder.route is not None and holder.route.via == node


def _unwanted_source(
    state: VnetState, query: Query, family: int, holders: tuple[Holder, ...], narrow: bool = False
) -> Refusal:
    if not holders:
        bits = state.hole(family, query.source)
        if query.key_class == _NEIGHBOR:  # a probe comes from 0.0.0.0: no question of membership
            bits = max(bits, min(128, 129 - int.from_bytes(query.source, "big").bit_length()))
        return Refusal("unknown_source", scope_of(query.source, bits, *any_of(family)))
    wide = scope_of(query.source, 128, query.destination, 128) if narrow else None
    return Refusal("spoofed", wide or scope_of(query.source, 128, *any_of(family)), source=holders[0])


def grace_left(state: VnetState, holder: Holder, node: str, now_ms: int, settings: Settings) -> int:
    """Return for how many ms yet the holder counts as just having left a node; 0: it does not."""
    if holder.member is None:
        return 0
    left_at = state.left_at_ms(holder.member, node)
    if left_at is None:
        return 0
    return max(0, left_at + int(settings.move_grace_s * 1000) - now_ms)
