# SPDX-License-Identifier: Apache-2.0
"""decide: what happens to a packet. A pure function of snapshot, query, asking node and time.

The asking node is the *origin* if the packet came in by an attachment, and the *target* if it came by a
tunnel. In order, and the first that holds:

    the V-net, the ingress, the source's right to send from there
    the destination: the gateway itself, nobody, somebody whose home is on the same segment (who is reached
      there, unless the packet was sent to the gateway's MAC: then it is routed back into the segment)
    ARP: answered for every member, without asking the rules
    the rules (rules.py), both at the origin and at the target
    the destination's location; at the target it must be here, or have left lately (then it is relayed)

A refusal carries the widest scope in which it holds. Scopes speak of addresses, protocol and destination
ports, and hold for keys of the same V-net, class, family and ingress.
"""

import zlib
from typing import NamedTuple

from directory_client.vocabulary.numbers import Action, Granularity, IngressKind, KeyClass, KeyFlag
from directory_client.vocabulary.scopes import Scope
from directory_client.wire.limits import LIFETIME_MS_MIN
from directory_service.decide.locate import Located, choose, locate
from directory_service.decide.question import (
    Asker,
    Decision,
    Query,
    Refusal,
    everything,
    family_of,
    pair,
    scope_of,
)
from directory_service.decide.source import grace_left, locate_source, source_at_origin, source_at_target
from directory_service.kinds.node import Node
from directory_service.kinds.peering import PEERING
from directory_service.kinds.rule import Rule
from directory_service.model.member import FAMILY_MAC, Holder
from directory_service.model.rules import Match, first_match, is_pair, like_ports, of_macs
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.settings import Settings

REFRESH_RATIO = 0.75
_IPV6, _CONNECTION, _DESTINATION = (
    int(KeyFlag.IPV6),
    int(KeyFlag.CONNECTION),
    int(KeyFlag.DESTINATION),
)  # faster
_ROUTED, _MAC, _NEIGHBOR = int(KeyClass.ROUTED), int(KeyClass.MAC), int(KeyClass.NEIGHBOR)
_NARROW = int(Action.NARROW)
_ATTACHMENT, _NODE = int(IngressKind.ATTACHMENT), int(IngressKind.NODE)
_IPV4_BITS = 96


def decide(snapshot: Snapshot, query: Query, asker: Asker, now_ms: int, settings: Settings) -> Decision:
    """Decide one query. Never raises for anything in the query."""
    try:
        decision = _decide(snapshot, query, asker, now_ms, settings)
        if decision.action == _NARROW or decision.source is None or decision.source_location is not None:
            return decision
        return decision._replace(source_location=locate_source(snapshot, query, asker.node, decision.source))
    except Refusal as refusal:
        if query.current_object:  # whoever serves it is not for it any more: is somebody else?
            return decide(snapshot, query._replace(current_object=0), asker, now_ms, settings)
        return Decision(
            Action.DROP,
            Granularity.CONNECTION if query.key_flags & _CONNECTION else Granularity.PAIR,
            refusal.reason,
            None,
            None,
            refusal.scope,
            _with_jitter(settings.negative_lifetime_s, settings.jitter_ratio, query),
            0,
            snapshot.revision,
            refusal.rule,
            refusal.source,
            refusal.destination,
            refusal.located,
            refusal.why,
        )


def _decide(snapshot: Snapshot, query: Query, asker: Asker, now_ms: int, settings: Settings) -> Decision:
    family = family_of(query)
    state = snapshot.by_vni.get(query.vni)
    if state is None or state.vnet is None:
        raise Refusal("vnet_gone", everything(family))
    if family < 0 or not _ROUTED <= query.key_class <= _NEIGHBOR:
        raise Refusal("not_supported", None, why=f"a key of class {query.key_class} that cannot be decided")
    if query.key_flags & _DESTINATION:
        raise Refusal("not_supported", None, why="granularity destination is for relays")
    if "vxlan" not in asker.capabilities:
        raise Refusal("not_supported", everything(family), why=f"{asker.node.name} cannot VXLAN")

    arp = query.key_class == _NEIGHBOR
    bound_ms = 0  # how long the decision may hold at most, 0: as usual
    if query.ingress_kind == _ATTACHMENT:
        source = source_at_origin(state, query, family, asker.node, arp)
        at_origin = True
    elif query.ingress_kind == _NODE:
        source, bound_ms = source_at_target(snapshot, state, query, family, asker.node, now_ms, settings)
        at_origin = False
    else:
        raise Refusal("not_supported", None, why=f"ingress kind {query.ingress_kind}")

    if is_gateway_address(state, query.destination, family):
        if arp and (at_origin or _answers_for_gateway(snapshot, state, asker.node)):
            return _answer(snapshot, state, query, asker, settings, at_origin, source, None, None)
        raise Refusal("not_here" if arp else "to_gateway", pair(query), source=source)
    holders = state.holders(family, query.destination)
    if not holders:
        hole = state.hole(family, query.destination)
        peerings = state.tables[PEERING.name]
        reason = "not_supported" if peerings else "unknown_destination"
        why = "no member of the V-net, and traffic between V-nets needs sessions" if peerings else ""
        raise Refusal(reason, scope_of(query.source, 128, query.destination, hole), source=source, why=why)

    here = asker.node
    if at_origin:
        holder = _choose(snapshot, state, here, holders, query)
        located = locate(snapshot, state, here, holder)
        if query.key_class != _ROUTED and located.attachment == query.ingress_object:
            raise Refusal("same_segment", pair(query), source=source, destination=holder)
    else:
        holder = _choose_at_target(snapshot, state, here, holders, query)
        located = locate(snapshot, state, here, holder)
    if arp:
        if located.location is None:
            raise Refusal(located.reason, pair(query), None, source, holder, located, located.why)
        if not at_origin and located.node != here.name:
            raise Refusal("not_here", pair(query), None, source, holder, located)
        return _answer(snapshot, state, query, asker, settings, at_origin, source, holder, located)

    verdict = _judge(state, query, family, source, holder)
    if verdict.narrow:
        return _decision(snapshot, query, settings, Action.NARROW, 0, verdict.rule, source, holder, None)
    rule = verdict.rule
    if located.location is not None and located.node == here.name:
        return _decision(snapshot, query, settings, Action.DELIVER, bound_ms, rule, source, holder, located)
    action = Action.ENCAPSULATE
    if not at_origin:
        left_ms = grace_left(state, holder, here.name, now_ms, settings)
        if not left_ms:
            if here.name in state.vnet.relays:
                why = "relaying for a V-net is not carried"
                raise Refusal("not_supported", verdict.scope(query), rule, source, holder, located, why)
            raise Refusal("not_here", verdict.scope(query), rule, source, holder, located)
        bound_ms = min(bound_ms or left_ms, left_ms)
        action = Action.RELAY
    if located.location is None:
        reason, why = located.reason, located.why
        if reason == "no_path" and state.vnet.relays:
            reason, why = "not_supported", why + "; a relay would be asked, which is not carried"
        raise Refusal(reason, verdict.scope(query), rule, source, holder, located, why)
    if action == Action.RELAY and located.location.node_id == query.ingress_object:
        raise Refusal("relay_loop", verdict.scope(query), rule, source, holder, located)
    return _decision(snapshot, query, settings, action, bound_ms, rule, source, holder, located)


def _choose_at_target(
    snapshot: Snapshot, state: VnetState, here: Node, holders: tuple[Holder, ...], query: Query
) -> Holder:
    """Prefer who is here, then who was here: of all, only the origin chooses."""
    here_now = tuple(one for one in holders if one.member and one.member.home_node == here.name)
    left = tuple(one for one in holders if one.member and state.left_at_ms(one.member, here.name) is not None)
    for one in left:
        if one.member is not None and one.member.id == query.current_object:
            return one
    return _choose(snapshot, state, here, here_now or left or holders, query)


def _choose(
    snapshot: Snapshot, state: VnetState, here: Node, holders: tuple[Holder, ...], query: Query
) -> Holder:
    return choose(snapshot, state, here, holders, query.source, query.destination, query.current_object)


class _Verdict(NamedTuple):
    """What the rules say: ask again with ports, or the rule that allows."""

    narrow: bool
    rule: Rule | None
    matches: tuple[Match, ...]

    def scope(self, query: Query) -> Scope | None:
        """Return the keys for which the rules say the same; None if that cannot be said."""
        if is_pair(self.matches):
            return pair(query)
        ports = like_ports(self.matches, query.protocol, query.destination_port) if query.protocol else None
        if ports is None:
            return None
        return Scope(query.source, 128, query.destination, 128, query.protocol, ports[0], ports[1])


def _judge(
    state: VnetState, query: Query, family: int, source: Holder | None, destination: Holder
) -> _Verdict:
    """Ask the rules. Refuses by raising."""
    if source is None:
        raise Refusal("unknown_source", pair(query))
    matches = state.rule_set.matches(
        state.mask(family, query.source, source), state.mask(family, query.destination, destination)
    )
    if family == FAMILY_MAC:
        matches = of_macs(matches)
    if is_pair(matches):
        rule = matches[0].rule if matches else None
    elif not query.key_flags & _CONNECTION:
        return _Verdict(True, None, matches)
    else:
        rule = first_match(matches, query.protocol, query.source_port, query.destination_port)
    verdict = _Verdict(False, rule, matches)
    if rule is not None and not rule.refuses:
        return verdict
    scope = verdict.scope(query)
    if rule is None:
        raise Refusal("no_rule", scope, None, source, destination)
    if not rule.allow:
        raise Refusal("denied", scope, rule, source, destination)
    why = f"rule {rule.name} asks for {rule.needs}"
    raise Refusal("not_supported", scope, rule, source, destination, why=why)


def _answer(
    snapshot: Snapshot,
    state: VnetState,
    query: Query,
    asker: Asker,
    settings: Settings,
    at_origin: bool,
    source: Holder | None,
    holder: Holder | None,
    located: Located | None,
) -> Decision:
    """Answer an ARP question; one that came by a tunnel is answered through the asker's location."""
    decision = _decision(snapshot, query, settings, Action.ANSWER, 0, None, source, holder, located)
    if at_origin or source is None:
        return decision
    way_back = locate(snapshot, state, asker.node, source)
    if way_back.location is None:
        raise Refusal(way_back.reason, pair(query), None, source, holder, way_back, way_back.why)
    return decision._replace(source_location=way_back.location)


def _decision(
    snapshot: Snapshot,
    query: Query,
    settings: Settings,
    action: int,
    bound_ms: int,
    rule: Rule | None,
    source: Holder | None,
    holder: Holder | None,
    located: Located | None,
) -> Decision:
    lifetime_ms = _with_jitter(settings.lifetime_s, settings.jitter_ratio, query)
    if bound_ms:
        lifetime_ms = max(LIFETIME_MS_MIN, min(lifetime_ms, bound_ms))
    connection = action == Action.NARROW or query.key_flags & _CONNECTION
    return Decision(
        action,
        Granularity.CONNECTION if connection else Granularity.PAIR,
        "",
        None,
        located.location if located else None,
        None,
        lifetime_ms,
        0 if bound_ms else int(lifetime_ms * REFRESH_RATIO),
        snapshot.revision,
        rule,
        source,
        holder,
        located,
        "",
    )


def _answers_for_gateway(snapshot: Snapshot, state: VnetState, here: Node) -> bool:
    """Tell whether this node answers foreign VTEPs that ask for the V-net's gateway: the first by id does."""
    return here.id == gateway_answerer(snapshot, state)


def gateway_answerer(snapshot: Snapshot, state: VnetState) -> int:
    """Return the id of the gateway that answers foreign VTEPs for the V-net's gateway address, 0 if none."""
    nodes = snapshot.fabric.nodes
    return min((nodes[name].id for name in state.attachments_by_node if name in nodes), default=0)


def is_gateway_address(state: VnetState, address: bytes, family: int) -> bool:
    """Tell whether a packed address (or MAC) is the V-net's gateway's."""
    if family != FAMILY_MAC:
        return state.is_gateway_address(address)
    return state.vnet is not None and address[10:] == state.vnet.gateway_mac


def _with_jitter(seconds: float, ratio: float, query: Query) -> int:
    """Return ms, shortened by up to `ratio` depending on the key, so that what came together does not end
    together; never less than a gateway can keep."""
    spread = zlib.crc32(query.source + query.destination) / 0xFFFFFFFF
    return max(LIFETIME_MS_MIN, int(seconds * 1000 * (1.0 - ratio * spread)))
