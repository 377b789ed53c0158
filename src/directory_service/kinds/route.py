# SPDX-License-Identifier: Apache-2.0
"""Routes: prefixes behind a node or an endpoint, called by the prefix."""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from directory_client.kinds import route
from directory_client.toml.strict_toml import Table
from directory_client.vocabulary.addresses import Network, pack_network, parse_network
from directory_client.vocabulary.names import check_name, parse_mac, suggest
from directory_service.kinds.carried import doubt_prefix
from directory_service.kinds.kind import Kind, Values
from directory_service.kinds.reading import without
from directory_service.kinds.records import Record
from directory_service.kinds.sections import Lines
from directory_service.kinds.together import Fault, Together
from directory_service.kinds.vnet import VNI_MAX


@dataclass(frozen=True, slots=True)
class Route:
    record: Record
    id: int
    prefix: Network
    packed: bytes
    bits: int
    via: str
    router_mac: bytes  # empty: none given
    wire_id: int  # 0: the node's


def to_route(record: Record) -> Route:
    values = record.values
    prefix = ipaddress.ip_network(record.local_name)
    packed, bits = pack_network(prefix)
    mac = values.get("router_mac", "")
    return Route(
        record,
        record.id,
        prefix,
        packed,
        bits,
        values["via"],
        parse_mac(mac) if mac else b"",
        values.get("id", 0),
    )


def read_route(table: Table) -> Values:
    """Read one line of [vnet.NAME.route]."""
    mac = table.string("router_mac", "", check=parse_mac)
    return without(
        {
            "via": table.string("via", check=check_name),
            "router_mac": mac.lower(),
            "id": table.integer("id", 0, 1, VNI_MAX),
        },
        router_mac="",
        id=0,
    )


def check_prefix(text: str) -> None:
    """Raise ValueError unless a text is a prefix, written as it is kept."""
    if str(parse_network(text)) != text:
        raise ValueError(f"{text} is written {parse_network(text)}")


def _check(together: Together) -> Iterator[Fault]:
    nodes = together.of("node")
    for vnet, kinds in together.vnets():
        endpoints = {record.local_name for record in kinds.get("endpoint", ())}
        for record in kinds.get("route", ()):
            values = record.values
            via = values["via"]
            node = nodes.get(via)
            if via in endpoints:
                if node is not None:
                    problem = f"{via} is a node and an endpoint of {vnet.name}"
                    yield Fault(record.key, "via", problem, "rename one of them")
                for field in ("router_mac", "id"):
                    if field in values:
                        problem = f"behind an endpoint a route has no {field}"
                        yield Fault(record.key, field, problem, "remove it")
            elif node is None:
                fix = suggest(via, endpoints | nodes.keys())
                yield Fault(record.key, "via", f"{via} is no node and no endpoint of {vnet.name}", fix)
            elif node.values["kind"] == "gateway":
                problem = f"{via} is a gateway of ours: it does not say who there routes the prefix"
                yield Fault(record.key, "via", problem, "name the endpoint behind which it is")
            elif node.values["kind"] == "vtep" and "router_mac" not in values:
                problem = f"the router's MAC at {via} is missing"
                yield Fault(record.key, "via", problem, 'add router_mac = "02:…"')


def _doubts(record: Record, vnet: Mapping[str, Any]) -> Iterator[str]:
    if not record.local_name.endswith("/0"):
        yield from doubt_prefix(record, record.local_name)


def _describe(values: Mapping[str, Any]) -> str:
    return f"via {values['via']}"


ROUTE = Kind(
    route.ROUTE,
    read_route,
    Lines(),
    check_name=check_prefix,
    to_typed=to_route,
    check=_check,
    doubts=_doubts,
    describe=_describe,
)
