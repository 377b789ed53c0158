# SPDX-License-Identifier: Apache-2.0
"""The rule that comes nearest to allowing a refused packet, and in what the packet differs."""

import ipaddress
from collections.abc import Iterable

from directory_client.vocabulary.addresses import unpack_address
from directory_client.wire.reasons import NearestRow
from directory_service.decide.question import Decision, Query
from directory_service.kinds.rule import WITH_PORTS, Ranges, Rule, describe_rule, proto_name
from directory_service.model.member import FAMILY_MAC, Holder
from directory_service.model.rules import in_ranges
from directory_service.model.vnet import VnetState


def find_nearest(state: VnetState, query: Query, family: int, decision: Decision) -> NearestRow | None:
    """Return the allowing rule that differs in least, and in what; None if there is no such rule.

    A rule is looked at both ways; `way` says as which of the two it is near."""
    source, destination = decision.source, decision.destination
    if source is None or destination is None:
        return None
    best: tuple[int, Rule, str, list[str]] | None = None
    for rule in state.rule_set.rules:
        if rule.refuses or rule is decision.rule:
            continue
        for way, differs in (
            ("there", list(_on_the_way_there(query, family, source, destination, rule))),
            ("back", list(_on_the_way_back(query, family, source, destination, rule))),
        ):
            weight = sum(2 if ":" in text else 1 for text in differs)
            if best is None or weight < best[0]:
                best = weight, rule, way, differs
    if best is None:
        return None
    _, rule, way, differs = best
    if not differs:
        differs = [f"overruled by {decision.rule.name}"] if decision.rule else ["direction"]
    return NearestRow(
        name=rule.name,
        text=describe_rule(rule.record.values),
        way=way,
        differs=differs,
        revision=rule.record.revision,
    )


def _on_the_way_there(
    query: Query, family: int, source: Holder, destination: Holder, rule: Rule
) -> Iterable[str]:
    if not _selects(family, query.source, source, rule.source):
        yield f"source: not in {rule.source}"
    if not _selects(family, query.destination, destination, rule.destination):
        yield f"destination: not in {rule.destination}"
    if rule.protocol and rule.protocol != query.protocol:
        yield f"protocol {proto_name(query.protocol)}"
    elif rule.ports and not in_ranges(rule.ports, query.destination_port):
        yield f"port {query.destination_port}"


def _on_the_way_back(
    query: Query, family: int, source: Holder, destination: Holder, rule: Rule
) -> Iterable[str]:
    if not _selects(family, query.source, source, rule.destination):
        yield f"source: not in {rule.destination}"
    if not _selects(family, query.destination, destination, rule.source):
        yield f"destination: not in {rule.source}"
    if not rule.both_directions:
        yield "direction: forward lets no answers through"
    if rule.protocol and rule.protocol != query.protocol:
        yield f"protocol {proto_name(query.protocol)}"
        return
    if rule.ports and not in_ranges(rule.ports, query.source_port):
        came = f"source port {query.source_port}" if query.source_port else "source port"
        yield f"{came} (an answer comes from {_say(rule.ports)})"
    if query.protocol in WITH_PORTS and not in_ranges(rule.answer_ports, query.destination_port):
        yield f"port {query.destination_port} (an answer leads to {_say(rule.answer_ports)})"


def _say(ranges: Ranges) -> str:
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def _selects(family: int, address: bytes, holder: Holder, selector: str) -> bool:
    if selector == "any":
        return True
    if "/" in selector:
        if family == FAMILY_MAC:
            return False
        network = ipaddress.ip_network(selector)
        return (
            network.version == family
            and ipaddress.ip_address(unpack_address(address, family == 6)) in network
        )
    member = holder.member if holder.route is None else None
    if member is None:
        return False
    if selector.startswith("group:"):
        return selector.removeprefix("group:") in member.endpoint.groups
    return member.name == selector
