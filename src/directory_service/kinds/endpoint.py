# SPDX-License-Identifier: Apache-2.0
"""Endpoints: members of a V-net. A document may have a million of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from sys import intern
from typing import Any

import msgspec

from directory_client.kinds import endpoint
from directory_client.toml.strict_toml import Table, TomlError
from directory_client.vocabulary.addresses import pack_address, pack_mac
from directory_client.vocabulary.names import (
    NAME,
    Place,
    check_name,
    derive_gateway_mac,
    format_mac,
    parse_mac,
    parse_place,
    suggest,
)
from directory_service.kinds.carried import doubt_address
from directory_service.kinds.kind import Declared, Kind, Values, World
from directory_service.kinds.plain_endpoint import DEFAULT_PREFERENCE, FIELDS, read_plain_endpoint
from directory_service.kinds.reading import read_addresses, without
from directory_service.kinds.records import Record
from directory_service.kinds.sections import Lines, read_tables
from directory_service.kinds.together import Fault, Inside, Together

RESERVED_NAMES = frozenset(("any", "all"))
_NO_GROUPS: frozenset[str] = frozenset()


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """As declared: places are not yet resolved. Addresses and services are (is IPv6, packed)."""

    record: Record
    id: int
    name: str
    mac_key: bytes  # the MAC, as keys have it
    known_by: bytes | tuple[tuple[bool, bytes], ...]  # of one IPv4 address, which most have, only that
    services: tuple[tuple[bool, bytes], ...]
    node: str
    at: tuple[Place, ...]
    groups: frozenset[str]
    preference: int

    @property
    def mac(self) -> bytes:
        """Its MAC."""
        return self.mac_key[-6:]

    @property
    def addresses(self) -> tuple[tuple[bool, bytes], ...]:
        """Its addresses."""
        known = self.known_by
        return ((False, known),) if isinstance(known, bytes) else known


def to_endpoint(record: Record) -> Endpoint:
    values = record.values
    if not FIELDS.issuperset(values):
        raise ValueError(f"{', '.join(sorted(values.keys() - FIELDS))}: unknown key")
    at, groups = values.get("at"), values.get("groups")
    if groups and type(groups) is not list:
        raise TypeError(f"groups: {groups!r} is no list")
    mac = bytes.fromhex(values["mac"].replace(":", ""))
    if len(mac) != 6:
        raise ValueError(f"mac: {values['mac']} is none")
    addresses = _pack_all(values.get("addresses"))
    return Endpoint(
        record,
        record.id,
        record.key.split("/", 2)[2],
        pack_mac(mac),
        addresses[0][1] if len(addresses) == 1 and not addresses[0][0] else addresses,
        _pack_all(values.get("services")),
        intern(values.get("node", "")),
        tuple([parse_place(text) for text in at]) if at else (),
        frozenset(map(intern, groups)) if groups else _NO_GROUPS,
        int(values.get("preference", DEFAULT_PREFERENCE)),
    )


def _pack_all(texts: Sequence[str] | None) -> tuple[tuple[bool, bytes], ...]:
    return tuple([(":" in text, pack_address(text)) for text in texts]) if texts else ()


def read_endpoint(table: Table) -> Values:
    """Read one line of [vnet.NAME.endpoint]."""
    mac = format_mac(parse_mac(table.string("mac", check=parse_mac)))
    at = list(table.strings("at", (), check=parse_place))
    node = table.string("node", "", check=check_name)
    if bool(at) == bool(node):
        raise table.problem(
            None, "needs either at or node", 'at = ["ams1-gw1/rack:101"] or node = "ams1-gw1"'
        )
    values: Values = {
        "addresses": read_addresses(table, "addresses"),
        "services": read_addresses(table, "services"),
        "mac": mac,
        "node": node,
        "at": [str(parse_place(text)) for text in at],
        "groups": list(table.strings("groups", (), check=check_name)),
        "preference": table.integer("preference", DEFAULT_PREFERENCE, 0, 255),
    }
    return without(
        values, addresses=[], services=[], node="", at=[], groups=[], preference=DEFAULT_PREFERENCE
    )


def check_member_name(text: str) -> None:
    """Raise ValueError for what cannot be an endpoint's name."""
    check_name(text)
    if text in RESERVED_NAMES:
        raise ValueError(f'"{text}" means all in rules and cannot be a name')


class _Members(Lines):
    """A line each; those that are written plainly are read at once."""

    def read(self, kind: Kind, outer: Table, within: str, mistakes: list[TomlError]) -> Iterator[Declared]:
        """Yield the plain ones, then the others."""
        said, slow = outer.raw(kind.name), None
        if isinstance(said, dict):
            slow = []
            table, word = outer.table(kind.name), kind.name
            for name, fields in said.items():
                plain = (
                    NAME.fullmatch(name) is not None
                    and name not in RESERVED_NAMES
                    and isinstance(fields, dict)
                )
                values = read_plain_endpoint(fields) if plain else None
                if values is None:
                    slow.append(name)
                else:
                    yield Declared(word, within + name, values, table, name)
        yield from read_tables(kind, outer, within, mistakes, slow)


class _Attached:
    """The attachments of a V-net: their places, by node, and the nodes that have one, where `node` says
    all."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.places = {record.local_name for record in records}
        self.by_node: dict[str, list[str]] = {}
        for place in self.places:
            self.by_node.setdefault(place.partition("/")[0], []).append(place)
        self.once = {node for node, places in self.by_node.items() if len(places) == 1}


def _check(together: Together) -> Iterator[Fault]:
    for vnet, kinds in together.vnets():
        yield from _check_vnet(together, vnet, kinds)


def _check_vnet(together: Together, vnet: Record, kinds: Inside) -> Iterator[Fault]:
    here, nodes = _Attached(kinds.get("attachment", ())), together.of("node")
    own = vnet.values
    prefixes = tuple(own.get("prefixes", ()))
    gateway_mac = own.get("gateway_mac") or format_mac(derive_gateway_mac(own["vni"]))
    macs: dict[str, Record | str] = {gateway_mac: "the V-net's gateway"}
    held: dict[str, Record | str] = dict.fromkeys(own.get("gateway_addresses", ()), "the V-net's gateway")
    services: dict[str, str] = {}
    for record in kinds.get("endpoint", ()):
        values = record.values
        mac = values["mac"]
        if mac in macs:
            problem = f"mac {mac} is already {_whose(macs[mac])}'s"
            yield Fault(record.key, "mac", problem, "give each endpoint its own")
        macs[mac] = record
        for address in values.get("addresses", ()):
            if prefixes and not together.is_inside(address, prefixes):
                yield from together.in_prefixes(vnet, record, "addresses", address)
            if address in held:
                fix = "give each endpoint its own; an address that several serve goes into services"
                yield Fault(record.key, "addresses", f"{address} is already {_whose(held[address])}'s", fix)
            held[address] = record
        for address in values.get("services", ()):
            yield from together.in_prefixes(vnet, record, "services", address)
            services[address] = record.key
        node = values.get("node")
        if node is None or node not in here.once or node not in nodes:
            yield from _check_places(together, record, values, here)
    for address, key in services.items():
        if address in held:
            fix = "an address is either one endpoint's or a service of several"
            yield Fault(key, "services", f"{address} is already {_whose(held[address])}'s", fix)


def _whose(holder: Record | str) -> str:
    return holder if isinstance(holder, str) else holder.name


def _check_places(
    together: Together, record: Record, values: Mapping[str, Any], here: _Attached
) -> Iterator[Fault]:
    nodes = together.of("node")
    for place in values.get("at", ()):
        node = parse_place(place).node
        yield from together.known(record, "at", "node", node)
        if node in nodes and place not in here.places:
            fix = f"{suggest(place, here.places)}, or declare it: [[vnet.{record.vnet}.attachment]]"
            yield Fault(record.key, "at", f"V-net {record.vnet} has no attachment {place}", fix)
    name = values.get("node")
    if not name:
        return
    yield from together.known(record, "node", "node", name)
    node_record = nodes.get(name)
    if node_record is None or node_record.values["kind"] != "gateway":
        return
    there = sorted(here.by_node.get(name, ()))
    if not there:
        fix = f'declare one: [[vnet.{record.vnet}.attachment]] with nodes = ["{name}"]'
        yield Fault(record.key, "node", f"V-net {record.vnet} has no attachment on {name}", fix)
    elif len(there) > 1:
        fix = f'say which: at = ["{there[0]}"]'
        problem = f"V-net {record.vnet} has {len(there)} attachments on {name}: {', '.join(there)}"
        yield Fault(record.key, "node", problem, fix)


def _doubts(record: Record, vnet: Mapping[str, Any]) -> Iterator[str]:
    values = record.values
    for address in (*values.get("addresses", ()), *values.get("services", ())):
        yield from doubt_address(record, address, vnet)


def _describe(values: Mapping[str, Any]) -> str:
    where = [values["node"]] if "node" in values else values["at"]
    known = [*values.get("addresses", ()), *values.get("services", ())]
    return "  ".join([", ".join(known), values["mac"], ", ".join(where)]).strip()


def _compared(values: Mapping[str, Any]) -> Values:
    """`at` and `node` under one name where that reads better."""
    compared = dict(values)
    if "at" in compared:
        at = compared.pop("at")
        compared["node"] = at[0] if len(at) == 1 else at
    return compared


def _more(world: World, record: Record) -> Values:
    state = world.vnets.get(record.vnet)
    if state is None:
        return {}
    member = state.members.get(record.local_name)
    spots = member.spots if member else ()
    places = []
    for spot in spots:
        attachment = state.attachments_by_id.get(spot.attachment)
        places.append(str(attachment.place) if attachment else spot.node)
    seen = state.sightings.get(record.local_name, "") if len(spots) > 1 else ""
    return {"at": places, "nodes": [spot.node for spot in spots], "seen": seen if seen in places else ""}


ENDPOINT = Kind(
    endpoint.ENDPOINT,
    read_endpoint,
    _Members(),
    check_name=check_member_name,
    to_typed=to_endpoint,
    reads_itself=True,
    exclusive=(("at", "node"), ("node", "at")),
    check=_check,
    doubts=_doubts,
    describe=_describe,
    compared=_compared,
    more=_more,
)
