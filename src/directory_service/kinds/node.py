# SPDX-License-Identifier: Apache-2.0
"""Nodes: gateways of ours, foreign VTEPs, VPN peers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from directory_client.kinds import node
from directory_client.toml.strict_toml import Table
from directory_client.vocabulary.addresses import looks_ipv6, pack_address, parse_address, unpack_address
from directory_client.vocabulary.names import check_name
from directory_service.kinds.kind import Kind, Reference, Values, World
from directory_service.kinds.reading import check_in, without
from directory_service.kinds.records import Record
from directory_service.kinds.sections import Tables
from directory_service.kinds.together import Fault, Together
from directory_service.kinds.vnet import VNI_MAX


@dataclass(frozen=True, slots=True)
class Node:
    """`locators` are packed; those of a gateway may come from what it says of itself."""

    record: Record
    id: int
    name: str
    kind: str
    site: str
    locators: tuple[bytes, ...]
    ids: Mapping[str, int]
    ports: tuple[str, ...]
    revision: int

    @property
    def foreign(self) -> bool:
        return self.kind != "gateway"


def to_node(record: Record, said_locators: Iterable[str] = (), ports: Iterable[str] = ()) -> Node:
    """Make a node of its record; what a gateway says of itself fills in what no document declares."""
    values = record.values
    locators = values.get("locators") or said_locators
    return Node(
        record,
        record.id,
        record.name,
        values["kind"],
        values.get("site", ""),
        tuple(pack_address(text) for text in locators),
        values.get("ids", {}),
        tuple(ports),
        record.revision,
    )


RESERVED_NAMES = {"all": "means every gateway (--at all)", "any": "means everybody in rules"}


def check_node_name(text: str) -> None:
    """Raise ValueError for what cannot be a node's name."""
    check_name(text)
    if text in RESERVED_NAMES:
        raise ValueError(f'"{text}" {RESERVED_NAMES[text]} and cannot be a node\'s name')


def read_node(table: Table) -> Values:
    """Read [node.NAME]."""
    kind = table.string("kind", choices=("gateway", "vtep", "vpn"))
    values: Values = {
        "kind": kind,
        "site": table.string("site", "", check=check_name),
        "locators": list(table.strings("locators", (), check=parse_address)),
        "ids": {},
    }
    ids = table.table("ids")
    for vnet in sorted(ids.keys()):
        check_in(ids, vnet, vnet, check_name)
        values["ids"][vnet] = ids.integer(vnet, low=1, high=VNI_MAX)
    if kind == "gateway" and values["ids"]:
        raise table.problem("ids", "a gateway of ours uses the V-net's VNI", "remove ids")
    if kind != "gateway" and not values["locators"]:
        raise table.problem(None, f"a {kind} needs an address", 'locators = ["203.0.113.7"]')
    return without(values, site="", locators=[], ids={})


def _references(record: Record) -> Iterator[Reference]:
    values = record.values
    if values.get("site"):
        yield Reference("site", "site", values["site"])
    for vnet in values.get("ids", ()):
        yield Reference("ids", "vnet", vnet)


def _check(together: Together) -> Iterator[Fault]:
    locators: dict[str, str] = {}
    for record in together.of("node").values():
        values = record.values
        for locator in values.get("locators", ()):
            if locator in locators:
                problem = f"locator {locator} is already node {locators[locator]}'s"
                yield Fault(record.key, "locators", problem, "give each node its own")
            locators[locator] = record.name
        wires: dict[int, str] = {}
        for vnet, wire in values.get("ids", {}).items():
            if wire in wires:
                problem = f"id {wire} stands for {wires[wire]} and for {vnet}"
                yield Fault(record.key, "ids", problem, "use each id once")
            wires[wire] = vnet
        if wires:
            yield from _check_wires(together, record, wires)


def _check_wires(together: Together, record: Record, wires: Mapping[int, str]) -> Iterator[Fault]:
    """A V-net that has no id of its own at a peer stands there with its VNI."""
    ids = record.values["ids"]
    for vnet in together.of("vnet").values():
        if vnet.name in ids:
            continue
        vni = vnet.values["vni"]
        other = wires.get(vni)
        if other is not None and _lives_at(together, vnet.name, record.name):
            problem = f"id {vni} stands for {other} and is the VNI of {vnet.name}"
            yield Fault(record.key, "ids", problem, f"give {vnet.name} an id of its own here")


def _lives_at(together: Together, vnet: str, name: str) -> bool:
    kinds = together.inside(vnet)
    return any(record.values.get("node") == name for record in kinds.get("endpoint", ())) or any(
        record.values["via"] == name for record in kinds.get("route", ())
    )


def _more(world: World, record: Record) -> Values:
    typed: Node = world.fabric.nodes[record.name]
    return {
        "locators": [unpack_address(locator, looks_ipv6(locator)) for locator in typed.locators],
        "ports": list(typed.ports),
        "vnets": sorted(
            name for name, state in world.vnets.items() if record.name in state.nodes_concerned()
        ),
    }


NODE = Kind(
    node.NODE,
    read_node,
    Tables(),
    to_typed=to_node,
    references=_references,
    check=_check,
    more=_more,
    check_name=check_node_name,
)
