# SPDX-License-Identifier: Apache-2.0
"""Say why: the decision for one connection with the records and rules that led to it.

Where it is refused for want of a rule: the rule that came nearest and in what the connection differs from
it, and which rule allowed it until when.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, NamedTuple

import msgspec

from directory_client.vocabulary.addresses import pack_address, parse_address, unpack_address
from directory_client.vocabulary.names import format_mac, parse_mac, suggest
from directory_client.vocabulary.numbers import Action, Granularity, IngressKind, KeyClass, KeyFlag
from directory_client.vocabulary.reasons import find_reason
from directory_client.wire.reasons import BackRow, BeforeRow, Explanation, Provenance, RecordRow, RuleRow
from directory_service.decide.decide import decide
from directory_service.decide.nearest import find_nearest
from directory_service.decide.question import Asker, Decision, Query
from directory_service.documents.history import undo
from directory_service.documents.writer import decode_note
from directory_service.kinds.node import Node
from directory_service.kinds.path import TRUST
from directory_service.kinds.records import Record
from directory_service.kinds.rule import PROTO_NUMBERS, WITH_PORTS, Rule, describe_rule, proto_name
from directory_service.model.member import FAMILY_IPV4, FAMILY_IPV6, FAMILY_MAC, Holder, Member
from directory_service.model.rules import Match, in_ranges, matches_there, of_macs
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.contract import Commit

BEFORE_COMMITS = 500
EPHEMERAL_PORT = 49_152  # stands for whatever port a client opens a connection from
_CLOSED = ("no_rule", "denied")


class Question(NamedTuple):
    """A connection as an operator names it."""

    vnet: str
    source: str
    destination: str
    protocol: str
    port: int | None
    node: str | None
    source_port: int | None = None


class Posed(NamedTuple):
    """A question as decide takes it."""

    query: Query
    asker: Asker
    family: int


def pose(snapshot: Snapshot, question: Question) -> Posed:
    """Make the query of a question; asked of the node of the source, or of the destination's.

    Raises Refused.
    """
    state = find_vnet(snapshot, question.vnet)
    family, source = _find_end(state, question.source, "source", None)
    _, destination = _find_end(state, question.destination, "destination", family)
    protocol = _find_protocol(question)
    node, ingress = find_asker(snapshot, state, family, source, destination, question.node)
    query = Query(
        state.vnet.vni if state.vnet else 0,
        _key_class(state, family, source, destination),
        (KeyFlag.IPV6 if family == FAMILY_IPV6 else 0) | (KeyFlag.CONNECTION if protocol else 0),
        protocol,
        ingress[0],
        source,
        destination,
        question.source_port or 0,
        question.port or 0,
        ingress[1],
    )
    return Posed(query, Asker(node, frozenset(("vxlan",))), family)


def _key_class(state: VnetState, family: int, source: bytes, destination: bytes) -> int:
    """Return how a host sends: to the gateway's MAC what is in no prefix together with its own address."""
    if family == FAMILY_MAC:
        return KeyClass.MAC
    ends = [ip_address(unpack_address(end)) for end in (source, destination)]
    prefixes = state.vnet.prefixes if state.vnet else ()
    together = any(all(end in prefix for end in ends) for prefix in prefixes)
    behind = any(holder.route is not None for holder in state.holders(family, destination))
    return KeyClass.ROUTED if behind or (prefixes and not together) else KeyClass.BRIDGED


def explain(
    snapshot: Snapshot, question: Question, commits: Iterable[Commit], now_ms: int, settings: Settings
) -> dict[str, Any]:
    """Decide and say why: an Explanation as a map. `commits` are those that led to the snapshot, newest
    first. Raises Refused."""
    posed = pose(snapshot, question)
    decision = decide(snapshot, posed.query, posed.asker, now_ms, settings)
    state = find_vnet(snapshot, question.vnet)
    answer = Explanation(
        vnet=question.vnet,
        source=_show(posed.family, posed.query.source),
        destination=_show(posed.family, posed.query.destination),
        protocol=proto_name(posed.query.protocol) if posed.query.protocol else "any",
        port=question.port,
        source_port=question.source_port,
        node=posed.asker.node.name,
        vni=posed.query.vni,
        **msgspec.structs.asdict(_provenance(snapshot, state, posed.family, decision)),
    )
    matches = _matches_of(state, posed, decision)
    for record in answer.records:
        if record.role == "rule":
            record.way = _way_matched(matches, posed.query, decision)
    if decision.action == Action.NARROW:
        answer.rules = _rules_of(matches)
    elif decision.action != Action.DROP:
        answer.back = _way_back(snapshot, question, decision.rule, now_ms, settings)
    if decision.reason in _CLOSED:
        answer.nearest = find_nearest(state, posed.query, posed.family, decision)
        answer.before = _find_before(snapshot, question, commits, now_ms, settings)
    return _plain(answer)


def _plain(row: msgspec.Struct) -> dict[str, Any]:
    """Return a row as a map for the wire."""
    found: dict[str, Any] = msgspec.to_builtins(row)
    return found


def _matches_of(state: VnetState, posed: Posed, decision: Decision) -> tuple[Match, ...]:
    """Return the rules that look at packets of a pair, in the order in which they are judged."""
    if decision.source is None or decision.destination is None:
        return ()
    query = posed.query
    matches = state.rule_set.matches(
        state.mask(posed.family, query.source, decision.source),
        state.mask(posed.family, query.destination, decision.destination),
    )
    return of_macs(matches) if posed.family == FAMILY_MAC else matches


def _way_matched(matches: tuple[Match, ...], query: Query, decision: Decision) -> str:
    """Return "there" or "back": as which of the two the rule that decided matched."""
    match = next((match for match in matches if match.rule is decision.rule), None)
    if match is None or (match.plain and match.forward) or matches_there(match, query.destination_port):
        return "there"
    return "back"


def _rules_of(matches: tuple[Match, ...]) -> list[RuleRow]:
    return [
        RuleRow(
            name=match.rule.name,
            text=describe_rule(match.rule.record.values),
            way="both" if match.forward and match.backward else "there" if match.forward else "back",
        )
        for match in matches
    ]


def _way_back(
    snapshot: Snapshot, question: Question, rule: Rule | None, now_ms: int, settings: Settings
) -> BackRow | None:
    """Decide the answers of a connection: ends and ports change places. None if nobody of ours is asked.

    Where no source port is named, it is one that the rule takes for a client's."""
    client = EPHEMERAL_PORT
    if rule is not None and not in_ranges(rule.answer_ports, client):
        client = rule.answer_ports[0][0]
    back = question._replace(
        source=question.destination,
        destination=question.source,
        node=None,
        port=None if question.port is None else question.source_port or client,
        source_port=question.port,
    )
    try:
        posed = pose(snapshot, back)
    except Refused:
        return None
    decision = decide(snapshot, posed.query, posed.asker, now_ms, settings)
    return BackRow(
        action=Action(decision.action).name.lower(),
        reason=decision.reason,
        rule=decision.rule.name if decision.rule else "",
        port=posed.query.destination_port,
        node=posed.asker.node.name,
    )


def provenance(snapshot: Snapshot, state: VnetState, family: int, decision: Decision) -> dict[str, Any]:
    """Return a decision with the records that led to it: a Provenance as a map."""
    return _plain(_provenance(snapshot, state, family, decision))


def _provenance(snapshot: Snapshot, state: VnetState, family: int, decision: Decision) -> Provenance:
    reason = find_reason(decision.reason) if decision.reason else None
    records = [_row("source", record, text) for record, text in _of_holder(state, decision.source)] + [
        _row("destination", record, text) for record, text in _of_holder(state, decision.destination)
    ]
    if decision.rule is not None:
        records.append(_row("rule", decision.rule.record, describe_rule(decision.rule.record.values)))
    link = decision.located.link if decision.located else None
    if link is not None and state.vnet is not None:
        asked = TRUST[state.vnet.min_trust]
        if link.path is not None:
            trust = f"trust {TRUST[link.path.trust]}; {state.vnet.name} asks for {asked}"
            text = f"{trust}, {link.path.mtu_bytes} bytes"
            records.append(_row("path", link.path.record, text))
        if link.profile is not None:
            profile = link.profile
            text = f"{profile.protocol}, udp {profile.udp_port}, ttl {profile.ttl}"
            records.append(
                _row("profile", profile.record, text)
                if profile.record
                else RecordRow(role="profile", kind="profile", name=profile.name, text=text)
            )
    location = decision.destination_location
    return Provenance(
        action=Action(decision.action).name.lower(),
        reason=decision.reason,
        sentence=reason.sentence if reason else "",
        why=decision.why,
        granularity=Granularity(decision.granularity).name.lower(),
        lifetime_s=decision.lifetime_ms / 1000,
        revision=decision.revision,
        to_node=decision.located.node if decision.located else "",
        wire_id=location.wire_id if location else 0,
        tunnel_id=location.tunnel.object_id if location and location.tunnel else 0,
        locator=unpack_address(location.tunnel.remote) if location and location.tunnel else "",
        records=records,
    )


def find_vnet(snapshot: Snapshot, name: str) -> VnetState:
    """Return a V-net by name. Raises Refused."""
    state = snapshot.vnets.get(name)
    if state is None or state.vnet is None:
        raise Refused(f"there is no V-net {name}", suggest(name, snapshot.vnets))
    return state


def _find_before(
    snapshot: Snapshot, question: Question, commits: Iterable[Commit], now_ms: int, settings: Settings
) -> BeforeRow | None:
    """Go back commit by commit to the newest revision at which it was allowed."""
    older = snapshot
    for count, commit in enumerate(commits):
        if count >= BEFORE_COMMITS:
            return None
        older = undo(older, commit)
        try:
            posed = pose(older, question)
        except Refused:
            return None
        decision = decide(older, posed.query, posed.asker, now_ms, settings)
        if decision.reason in _CLOSED:
            continue
        if decision.action == Action.DROP or decision.rule is None:
            return None
        note = decode_note(commit)
        return BeforeRow(
            name=decision.rule.name,
            text=describe_rule(decision.rule.record.values),
            revision=commit.revision,
            time=commit.time_ms / 1000,
            user=note.user,
            comment=note.comment,
        )
    return None


def _find_end(state: VnetState, text: str, word: str, family: int | None) -> tuple[int, bytes]:
    """Return (family, packed address) of an endpoint's name, an address or a MAC."""
    member = state.members.get(text.rpartition("/")[2] if text.startswith(f"{_name(state)}/") else text)
    if member is not None:
        return _address_of(member, family)
    try:
        address = parse_address(text)
    except ValueError as error:
        if str(error).endswith("is no unicast address"):
            raise Refused(str(error), "V-nets carry unicast only: name an endpoint or its address") from None
        try:
            return FAMILY_MAC, parse_mac(text).rjust(16, b"\0")
        except ValueError:
            known = suggest(text, state.members)
            problem = f"{word} {text} is no endpoint of {_name(state)} and no address"
            raise Refused(problem, known) from None
    return (FAMILY_IPV4 if address.version == 4 else FAMILY_IPV6), pack_address(address)


def _address_of(member: Member, family: int | None) -> tuple[int, bytes]:
    for ipv6, address in (*member.endpoint.addresses, *member.endpoint.services):
        found = FAMILY_IPV6 if ipv6 else FAMILY_IPV4
        if family in (None, found):
            return found, address
    return FAMILY_MAC, member.endpoint.mac.rjust(16, b"\0")


def _find_protocol(question: Question) -> int:
    name = question.protocol.lower()
    if name in ("", "any"):
        if question.port is not None:
            raise Refused("a port needs a protocol", "tcp, udp or sctp", 2)
        return 0
    number = PROTO_NUMBERS.get(
        name, int(name) if name.isascii() and name.isdigit() and int(name) < 256 else 0
    )
    if not number:
        raise Refused(f"{question.protocol} is no protocol", suggest(name, PROTO_NUMBERS), 2)
    if question.port is not None and not 0 <= question.port <= 65535:
        raise Refused(f"{question.port} is no port", "a number from 0 to 65535", 2)
    if number in WITH_PORTS and question.port is None:
        raise Refused(f"{name} needs a port", f"… {name} 443", 2)
    return number


def find_asker(
    snapshot: Snapshot, state: VnetState, family: int, source: bytes, destination: bytes, name: str | None
) -> tuple[Node, tuple[int, int]]:
    """Return which gateway decides about packets between two addresses, and by which ingress they come
    there: the one at the source, else the one at the destination. `name` asks another. Raises Refused."""
    nodes = snapshot.fabric.nodes
    spots = [
        spot
        for holder in state.holders(family, source)
        for spot in (holder.member.spots if holder.member else ())
        if spot.node in nodes
    ]
    routed = [
        holder.route.via for holder in state.holders(family, source) if holder.route and not holder.member
    ]
    if name is None:
        here = next((spot for spot in spots if spot.attachment), None)
        if here is not None:
            return nodes[here.node], (IngressKind.ATTACHMENT, here.attachment)
        name = _gateway_of(snapshot, state, family, destination)
    node = nodes.get(name)
    if node is None:
        raise Refused(f"there is no node {name}", suggest(name, nodes))
    if node.foreign:
        raise Refused(f"{name} is a {node.kind}: it asks no directory", "name a gateway")
    for spot in spots:
        if spot.node == name and spot.attachment:
            return node, (IngressKind.ATTACHMENT, spot.attachment)
    for other in [*(spot.node for spot in spots), *routed]:
        if other in nodes:
            return node, (IngressKind.NODE, nodes[other].id)
    attachments = state.attachments_by_node.get(name, ())
    return node, (IngressKind.ATTACHMENT, attachments[0].id if attachments else 0)


def _gateway_of(snapshot: Snapshot, state: VnetState, family: int, address: bytes) -> str:
    """Return the gateway at which somebody is, else any that hosts the V-net."""
    for holder in state.holders(family, address):
        for spot in holder.member.spots if holder.member else ():
            if spot.attachment:
                return spot.node
    hosts = sorted(name for name in state.attachments_by_node if name in snapshot.fabric.nodes)
    if not hosts:
        raise Refused(
            f"no gateway hosts V-net {_name(state)}", f"add an attachment: [[vnet.{_name(state)}.attachment]]"
        )
    return hosts[0]


def _of_holder(state: VnetState, holder: Holder | None) -> Iterable[tuple[Record, str]]:
    if holder is None:
        return
    if holder.route is not None:
        yield holder.route.record, f"route {holder.route.prefix} via {holder.route.via}"
    if holder.member is not None:
        places = []
        for spot in holder.member.spots:
            attachment = state.attachments_by_id.get(spot.attachment)
            if attachment is None:
                places.append(spot.node)
            else:
                vlan = f", vlan {attachment.place.vlan}" if attachment.place.vlan else ""
                places.append(f"{spot.node}, port {attachment.place.port}{vlan}")
        yield holder.member.endpoint.record, f"{format_mac(holder.member.endpoint.mac)}  {'; '.join(places)}"


def _row(role: str, record: Record, text: str) -> RecordRow:
    return RecordRow(
        role=role,
        kind=record.kind,
        name=record.local_name,
        text=text,
        revision=record.revision,
        owner=record.document or record.owner,
    )


def _show(family: int, address: bytes) -> str:
    return (
        format_mac(address[10:]) if family == FAMILY_MAC else unpack_address(address, family == FAMILY_IPV6)
    )


def _name(state: VnetState) -> str:
    return state.vnet.name if state.vnet else ""
