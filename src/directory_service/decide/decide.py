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

from directory_client.vocabulary.addresses import ZERO
from directory_client.vocabulary.numbers import Action, Granularity, IngressKind, KeyClass, KeyFlag
from directory_client.vocabulary.reasons import reason_number
from directory_client.vocabulary.scopes import Scope
from directory_client.wire.limits import LIFETIME_MS_MIN
from directory_service.decide.locate import Located, Location, choose, locate
from directory_service.kinds.node import Node
from directory_service.kinds.peering import PEERING
from directory_service.kinds.rule import Rule
from directory_service.model.member import FAMILY_IPV4, FAMILY_IPV6, FAMILY_MAC, Holder
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


class Query(NamedTuple):
    """A QUERY row; addresses are 16 bytes, ports numbers. `current_object`: whom a cached flow goes to."""

    vni: int
    key_class: int
    key_flags: int
    protocol: int
    ingress_kind: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    ingress_object: int
    current_object: int = 0


class Asker(NamedTuple):
    """The node that asks, and what its data plane can do ("vxlan")."""

    node: Node
    capabilities: frozenset[str]


class Decision(NamedTuple):
    """What happens, and all that led to it. `why` is a sentence where the reason says too little."""

    action: int
    granularity: int
    reason: str  # of a drop, else empty
    source_location: Location | None
    destination_location: Location | None
    scope: Scope | None
    lifetime_ms: int
    refresh_ms: int
    revision: int
    rule: Rule | None
    source: Holder | None
    destination: Holder | None
    located: Located | None
    why: str

    @property
    def reason_number(self) -> int:
        return reason_number(self.reason) if self.reason else 0


class _Refusal(Exception):
    """Ends a decision with a drop."""

    def __init__(
        self,
        reason: str,
        scope: Scope | None,
        rule: Rule | None = None,
        source: Holder | None = None,
        destination: Holder | None = None,
        located: Located | None = None,
        why: str = "",
    ) -> None:
        self.reason = reason
        self.scope = scope
        self.rule = rule
        self.source = source
        self.destination = destination
        self.located = located
        self.why = why


def decide(snapshot: Snapshot, query: Query, asker: Asker, now_ms: int, settings: Settings) -> Decision:
    """Decide one query. Never raises for anything in the query."""
    try:
        decision = _decide(snapshot, query, asker, now_ms, settings)
        if decision.action == _NARROW or decision.source is None or decision.source_location is not None:
            return decision
        return decision._replace(source_location=_locate_source(snapshot, query, asker.node, decision.source))
    except _Refusal as refusal:
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


def family_of(query: Query) -> int:
    """Return 4, 6, or 0 for MACs; -1 if the key contradicts itself."""
    if query.key_class == _MAC:
        return FAMILY_MAC if not (any(query.source[:10]) or any(query.destination[:10])) else -1
    if query.key_flags & _IPV6:
        return FAMILY_IPV6
    return FAMILY_IPV4 if not (any(query.source[:12]) or any(query.destination[:12])) else -1


def _decide(snapshot: Snapshot, query: Query, asker: Asker, now_ms: int, settings: Settings) -> Decision:
    family = family_of(query)
    state = snapshot.by_vni.get(query.vni)
    if state is None or state.vnet is None:
        raise _Refusal("vnet_gone", _everything(family))
    if family < 0 or not _ROUTED <= query.key_class <= _NEIGHBOR:
        raise _Refusal("not_supported", None, why=f"a key of class {query.key_class} that cannot be decided")
    if query.key_flags & _DESTINATION:
        raise _Refusal("not_supported", None, why="granularity destination is for relays")
    if "vxlan" not in asker.capabilities:
        raise _Refusal("not_supported", _everything(family), why=f"{asker.node.name} cannot VXLAN")

    arp = query.key_class == _NEIGHBOR
    bound_ms = 0  # how long the decision may hold at most, 0: as usual
    if query.ingress_kind == _ATTACHMENT:
        source = _source_at_origin(state, query, family, asker.node, arp)
        at_origin = True
    elif query.ingress_kind == _NODE:
        source, bound_ms = _source_at_target(snapshot, state, query, family, asker.node, now_ms, settings)
        at_origin = False
    else:
        raise _Refusal("not_supported", None, why=f"ingress kind {query.ingress_kind}")

    if is_gateway_address(state, query.destination, family):
        if arp and (at_origin or _answers_for_gateway(snapshot, state, asker.node)):
            return _answer(snapshot, state, query, asker, settings, at_origin, source, None, None)
        raise _Refusal("not_here" if arp else "to_gateway", _pair(query), source=source)
    holders = state.holders(family, query.destination)
    if not holders:
        hole = state.hole(family, query.destination)
        peerings = state.tables[PEERING.name]
        reason = "not_supported" if peerings else "unknown_destination"
        why = "no member of the V-net, and traffic between V-nets needs sessions" if peerings else ""
        raise _Refusal(reason, _scope(query.source, 128, query.destination, hole), source=source, why=why)

    here = asker.node
    if at_origin:
        holder = _choose(snapshot, state, here, holders, query)
        located = locate(snapshot, state, here, holder)
        if query.key_class != _ROUTED and located.attachment == query.ingress_object:
            raise _Refusal("same_segment", _pair(query), source=source, destination=holder)
    else:
        holder = _choose_at_target(snapshot, state, here, holders, query)
        located = locate(snapshot, state, here, holder)
    if arp:
        if located.location is None:
            raise _Refusal(located.reason, _pair(query), None, source, holder, located, located.why)
        if not at_origin and located.node != here.name:
            raise _Refusal("not_here", _pair(query), None, source, holder, located)
        return _answer(snapshot, state, query, asker, settings, at_origin, source, holder, located)

    verdict = _judge(state, query, family, source, holder)
    if verdict.narrow:
        return _decision(snapshot, query, settings, Action.NARROW, 0, verdict.rule, source, holder, None)
    rule = verdict.rule
    if located.location is not None and located.node == here.name:
        return _decision(snapshot, query, settings, Action.DELIVER, bound_ms, rule, source, holder, located)
    action = Action.ENCAPSULATE
    if not at_origin:
        left_ms = _grace_left(state, holder, here.name, now_ms, settings)
        if not left_ms:
            if here.name in state.vnet.relays:
                why = "relaying for a V-net is not carried"
                raise _Refusal("not_supported", verdict.scope(query), rule, source, holder, located, why)
            raise _Refusal("not_here", verdict.scope(query), rule, source, holder, located)
        bound_ms = min(bound_ms or left_ms, left_ms)
        action = Action.RELAY
    if located.location is None:
        reason, why = located.reason, located.why
        if reason == "no_path" and state.vnet.relays:
            reason, why = "not_supported", why + "; a relay would be asked, which is not carried"
        raise _Refusal(reason, verdict.scope(query), rule, source, holder, located, why)
    if action == Action.RELAY and located.location.node_id == query.ingress_object:
        raise _Refusal("relay_loop", verdict.scope(query), rule, source, holder, located)
    return _decision(snapshot, query, settings, action, bound_ms, rule, source, holder, located)


def _source_at_origin(state: VnetState, query: Query, family: int, here: Node, arp: bool) -> Holder | None:
    """Return who the source is; refuse what may not come in by this attachment. None: an ARP probe."""
    attachment = state.attachments_by_id.get(query.ingress_object)
    if attachment is None or attachment.place.node != here.name:
        raise _Refusal("no_attachment", _everything(family))
    if arp and query.source == ZERO:
        return None
    holders = state.holders(family, query.source)
    for holder in holders:
        if is_on_segment(holder, query.ingress_object):
            return holder
    raise _unwanted_source(state, query, family, holders)


def _source_at_target(
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
        raise _Refusal("unknown_vtep", _everything(family))
    holders = state.holders(family, query.source)
    if not holders:
        raise _unwanted_source(state, query, family, holders)
    scope = _scope(query.source, 128, *_any(family))
    bound_ms = 0
    accepted = next((holder for holder in holders if _is_at(holder, node.name)), None)
    if accepted is None and node.name in vnet.relays:
        accepted = holders[0]
    if accepted is None:
        targets = state.holders(family, query.destination)
        bound_ms = max((_grace_left(state, one, node.name, now_ms, settings) for one in targets), default=0)
        if not bound_ms:
            raise _unwanted_source(state, query, family, holders, narrow=node.name in state.nodes_left)
        accepted = holders[0]
        scope = _scope(query.source, 128, query.destination, 128)
    link = snapshot.fabric.link(here, node, vnet.min_trust)
    if link.tunnel is None:
        located = Located(None, node.name, link, link.reason, link.why)
        raise _Refusal(link.reason, scope, source=accepted, located=located, why=link.why)
    return accepted, bound_ms


def is_on_segment(holder: Holder, attachment: int) -> bool:
    """Tell whether a holder, or the endpoint that a route leads through, may be on an attachment's
    segment."""
    return holder.member is not None and attachment in holder.member.attachments


def _locate_source(snapshot: Snapshot, query: Query, here: Node, source: Holder) -> Location | None:
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
) -> _Refusal:
    if not holders:
        bits = state.hole(family, query.source)
        if query.key_class == _NEIGHBOR:  # a probe comes from 0.0.0.0: no question of membership
            bits = max(bits, min(128, 129 - int.from_bytes(query.source, "big").bit_length()))
        return _Refusal("unknown_source", _scope(query.source, bits, *_any(family)))
    wide = _scope(query.source, 128, query.destination, 128) if narrow else None
    return _Refusal("spoofed", wide or _scope(query.source, 128, *_any(family)), source=holders[0])


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
            return _pair(query)
        ports = like_ports(self.matches, query.protocol, query.destination_port) if query.protocol else None
        if ports is None:
            return None
        return Scope(query.source, 128, query.destination, 128, query.protocol, ports[0], ports[1])


def _judge(
    state: VnetState, query: Query, family: int, source: Holder | None, destination: Holder
) -> _Verdict:
    """Ask the rules. Refuses by raising."""
    if source is None:
        raise _Refusal("unknown_source", _pair(query))
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
        raise _Refusal("no_rule", scope, None, source, destination)
    if not rule.allow:
        raise _Refusal("denied", scope, rule, source, destination)
    why = f"rule {rule.name} asks for {rule.needs}"
    raise _Refusal("not_supported", scope, rule, source, destination, why=why)


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
        raise _Refusal(way_back.reason, _pair(query), None, source, holder, way_back, way_back.why)
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


def _grace_left(state: VnetState, holder: Holder, node: str, now_ms: int, settings: Settings) -> int:
    """Return for how many ms yet the holder counts as just having left a node; 0: it does not."""
    if holder.member is None:
        return 0
    left_at = state.left_at_ms(holder.member, node)
    if left_at is None:
        return 0
    return max(0, left_at + int(settings.move_grace_s * 1000) - now_ms)


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


def _pair(query: Query) -> Scope:
    return Scope(query.source, 128, query.destination, 128)


def _any(family: int) -> tuple[bytes, int]:
    return ZERO, _IPV4_BITS if family == FAMILY_IPV4 else 0


def _everything(family: int) -> Scope:
    return Scope(*_any(family), *_any(family))


def _scope(source: bytes, source_bits: int, destination: bytes, destination_bits: int) -> Scope:
    return Scope(
        _cut(source, source_bits), source_bits, _cut(destination, destination_bits), destination_bits
    )


def _cut(address: bytes, bits: int) -> bytes:
    if bits >= 128:
        return address
    shift = 128 - bits
    return (int.from_bytes(address, "big") >> shift << shift).to_bytes(16, "big")


def _with_jitter(seconds: float, ratio: float, query: Query) -> int:
    """Return ms, shortened by up to `ratio` depending on the key, so that what came together does not end
    together; never less than a gateway can keep."""
    spread = zlib.crc32(query.source + query.destination) / 0xFFFFFFFF
    return max(LIFETIME_MS_MIN, int(seconds * 1000 * (1.0 - ratio * spread)))
