# SPDX-License-Identifier: Apache-2.0
"""Decide cached flows again: what would become of them under another snapshot.

Flows are rows of a gateway's dump (docs/protocol.md, section 1) with "node" added. They come from gateways
and so may say anything: a row that cannot be read is counted, not believed.

A flow whose member moves away from its gateway is judged where its packets will arrive: what the old gateway
would say of packets that no longer come is nobody's loss. ARP answers and pairs that only say "look at the
ports" are entries of the cache, not connections.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.names import parse_mac
from directory_client.vocabulary.numbers import Action, IngressKind, KeyClass, KeyFlag
from directory_client.wire.changes import DroppedRow, FlowsAnswer, MoveRow, plain
from directory_service.decide.decide import decide
from directory_service.decide.explain import find_asker
from directory_service.decide.question import Asker, Decision, Query
from directory_service.kinds.rule import PROTO_NUMBERS
from directory_service.model.member import FAMILY_IPV4, FAMILY_IPV6, FAMILY_MAC
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.refused import Refused
from directory_service.settings import Settings

_CAPABILITIES = frozenset(("vxlan",))
_CLASSES = {key_class.name.lower(): int(key_class) for key_class in KeyClass}


class Judged(NamedTuple):
    """A flow and its decisions before and after. `leaves`: its packets will pass another gateway, or none."""

    row: Mapping[str, Any]
    before: Decision
    after: Decision
    leaves: bool
    is_connection: bool


def judge_flows(
    before: Snapshot, after: Snapshot, flows: Iterable[Mapping[str, Any]], now_ms: int, settings: Settings
) -> dict[str, Any]:
    """Return, as the map of a FlowsAnswer, how many flows stay, take another way, leave their gateway, would
    be dropped or let through, and which; `connections` counts each dropped connection once, whichever way and
    wherever it is cached."""
    same, allowed, left, aside, unreadable = 0, 0, 0, 0, 0
    connections: set[tuple[Any, ...]] = set()
    moved: Counter[tuple[str, str]] = Counter()
    reasons: Counter[str] = Counter()
    dropped: list[DroppedRow] = []
    gateways: set[str] = set()
    vnets: set[str] = set()
    total = 0
    for row in flows:
        judged = _judge(before, after, row, now_ms, settings)
        total += 1
        if judged is None:
            unreadable += 1
            continue
        gateways.add(str(row["node"]))
        vnets.add(_vnet_name(before, row))
        was, now = judged.before, judged.after
        reason = now.reason or ("other_member" if _is_served_by_another(was, now) else "")
        cut = bool(reason) and was.action != Action.DROP
        if was.action != Action.DROP and ((judged.leaves and not cut) or now.reason == "same_segment"):
            left += 1
        elif cut and not judged.is_connection:
            aside += 1
        elif cut:
            reasons[reason] += 1
            dropped.append(_describe(before, row, now, reason))
            connections.add(_connection(row))
        elif was.action == Action.DROP and now.action != Action.DROP:
            allowed += 1
        elif _way(was) != _way(now):
            moved[_node(was), _node(now)] += 1
        else:
            same += 1
    dropped.sort(key=lambda one: -(one.packets or 0))
    judged_flows = FlowsAnswer(
        total=total,
        gateways=sorted(gateways),
        vnets=sorted(vnets - {""}),
        same=same,
        allowed=allowed,
        left=left,
        aside=aside,
        moved=[
            MoveRow(source=one, destination=other, count=count) for (one, other), count in moved.most_common()
        ],
        dropped=len(dropped),
        connections=len(connections),
        reasons=dict(reasons),
        dropped_rows=dropped,
        unreadable=unreadable,
    )
    return plain(judged_flows)


def _judge(
    before: Snapshot, after: Snapshot, row: Mapping[str, Any], now_ms: int, settings: Settings
) -> Judged | None:
    try:
        posed, posed_after = _pose(before, row), _pose(after, row)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    if posed is None or posed_after is None:
        return None
    was = decide(before, *posed, now_ms, settings)
    is_connection = posed[0].key_class != KeyClass.NEIGHBOR and was.action != Action.NARROW
    leaves = _leaves(before, after, *posed)
    if leaves:
        elsewhere = _pose_elsewhere(after, posed[0])
        if elsewhere is None:  # both ends are at foreign nodes now: no gateway of ours sees it
            return Judged(row, was, was, True, is_connection)
        posed_after = elsewhere
    return Judged(row, was, decide(after, *posed_after, now_ms, settings), leaves, is_connection)


def _leaves(before: Snapshot, after: Snapshot, query: Query, asker: Asker) -> bool:
    """Tell whether a flow's gateway had one of its ends and has neither any more, though both are there."""
    was, now = before.by_vni[query.vni], after.by_vni[query.vni]
    family = _family(query)
    ends = (query.source, query.destination)
    if not all(now.holders(family, end) for end in ends):
        return False
    name = asker.node.name
    return any(name in _hosts(was, family, end) for end in ends) and not any(
        name in _hosts(now, family, end) for end in ends
    )


def _pose_elsewhere(snapshot: Snapshot, query: Query) -> tuple[Query, Asker] | None:
    """Make the query of the gateway that will decide about a flow; None if none of ours will."""
    state, family = snapshot.by_vni[query.vni], _family(query)
    if not any(_hosts(state, family, end) for end in (query.source, query.destination)):
        return None
    try:
        node, ingress = find_asker(snapshot, state, family, query.source, query.destination, None)
    except Refused:
        return None
    return query._replace(ingress_kind=ingress[0], ingress_object=ingress[1]), Asker(node, _CAPABILITIES)


def _hosts(state: VnetState, family: int, address: bytes) -> set[str]:
    """Return the gateways that have an attachment at which an address is."""
    return {
        spot.node
        for holder in state.holders(family, address)
        for spot in (holder.member.spots if holder.member else ())
        if spot.attachment
    }


def _family(query: Query) -> int:
    if query.key_class == KeyClass.MAC:
        return FAMILY_MAC
    return FAMILY_IPV6 if query.key_flags & KeyFlag.IPV6 else FAMILY_IPV4


def _connection(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the two ways of one connection, at whichever gateways, have in common."""
    ends = sorted(
        ((str(row[end]), int(row.get(f"{end}_port") or 0)) for end in ("source", "destination")),
    )
    return int(row["vni"]), str(row.get("protocol") or ""), *ends


def _pose(snapshot: Snapshot, row: Mapping[str, Any]) -> tuple[Query, Asker] | None:
    """Make the query that led to a flow; its ingress is where the source lives, seen from the node."""
    node = snapshot.fabric.nodes.get(str(row["node"]))
    state = snapshot.by_vni.get(int(row["vni"]))
    if node is None or state is None:
        return None
    said = row["class"]
    key_class = _CLASSES[said] if isinstance(said, str) else int(said)
    if key_class not in (KeyClass.ROUTED, KeyClass.BRIDGED, KeyClass.MAC, KeyClass.NEIGHBOR):
        return None
    if key_class == KeyClass.MAC:
        family, source, destination = FAMILY_MAC, _mac(row["source"]), _mac(row["destination"])
    else:
        ipv6 = ":" in row["source"]
        family = FAMILY_IPV6 if ipv6 else FAMILY_IPV4
        source, destination = pack_address(row["source"]), pack_address(row["destination"])
    flags = KeyFlag.IPV6 if family == FAMILY_IPV6 else KeyFlag(0)
    protocol = row.get("protocol") or 0
    if isinstance(protocol, str):
        protocol = PROTO_NUMBERS[protocol] if protocol in PROTO_NUMBERS else int(protocol)
    if row.get("level") == "connection":
        flags |= KeyFlag.CONNECTION
    ingress = _ingress(snapshot, state, node.name, family, source, row)
    query = Query(
        int(row["vni"]),
        key_class,
        flags,
        protocol,
        ingress[0],
        source,
        destination,
        int(row.get("source_port") or 0),
        int(row.get("destination_port") or 0),
        ingress[1],
        int(row.get("destination_object") or 0),
    )
    return query, Asker(node, _CAPABILITIES)


def _ingress(
    snapshot: Snapshot, state: VnetState, node: str, family: int, source: bytes, row: Mapping[str, Any]
) -> tuple[int, int]:
    if isinstance(row.get("ingress_object"), int) and row.get("ingress_kind") in (1, 2):
        return row["ingress_kind"], row["ingress_object"]
    others: list[str] = []
    for holder in state.holders(family, source):
        for spot in holder.member.spots if holder.member else ():
            if spot.node == node and spot.attachment:
                return IngressKind.ATTACHMENT, spot.attachment
            others.append(spot.node)
        if holder.route is not None and holder.member is None:
            others.append(holder.route.via)
    for name in others:
        if name in snapshot.fabric.nodes and name != node:
            return IngressKind.NODE, snapshot.fabric.nodes[name].id
    attachments = state.attachments_by_node.get(node, ())
    return IngressKind.ATTACHMENT, attachments[0].id if attachments else 0


def _mac(text: str) -> bytes:
    return parse_mac(text).rjust(16, b"\0")


def _way(decision: Decision) -> tuple[int, int, int]:
    location = decision.destination_location
    return decision.action, location.target_id if location else 0, location.wire_id if location else 0


def _node(decision: Decision) -> str:
    return decision.located.node if decision.located else ""


def _vnet_name(snapshot: Snapshot, row: Mapping[str, Any]) -> str:
    state = snapshot.by_vni.get(int(row["vni"]))
    return state.vnet.name if state and state.vnet else ""


def _is_served_by_another(was: Decision, now: Decision) -> bool:
    """Tell whether another member serves the address of a flow: it knows nothing of the connection."""
    one, other = was.destination, now.destination
    if one is None or other is None or one.route is not None or other.route is not None:
        return False
    return one.member is not None and other.member is not None and one.member.id != other.member.id


def _describe(snapshot: Snapshot, row: Mapping[str, Any], decision: Decision, reason: str) -> DroppedRow:
    packets = row.get("packets")
    return DroppedRow(
        vnet=_vnet_name(snapshot, row),
        source=row["source"],
        destination=row["destination"],
        protocol=row.get("protocol") or 0,
        source_port=row.get("source_port") or 0,
        destination_port=row.get("destination_port") or 0,
        packets=packets if isinstance(packets, int) else 0,
        source_name=_holder_name(decision, True),
        destination_name=_holder_name(decision, False),
        reason=reason,
        node=row["node"],
    )


def _holder_name(decision: Decision, source: bool) -> str:
    holder = decision.source if source else decision.destination
    if holder is None:
        return ""
    if holder.route is not None:
        return str(holder.route.prefix)
    return holder.member.name if holder.member else ""
