# SPDX-License-Identifier: Apache-2.0
"""Attachments: where a V-net touches a port of a gateway, called NODE/PORT:VLAN.

In a document one [[vnet.VNET.attachment]] declares one on each of its `nodes`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from directory_client.kinds import attachment
from directory_client.toml.strict_toml import Table, TomlError
from directory_client.toml.toml_text import toml_value
from directory_client.vocabulary.names import PORT, Place, check_name, parse_place
from directory_service.kinds.kind import Block, Declared, Kind, Reference, Surroundings, Values, World
from directory_service.kinds.reading import without
from directory_service.kinds.records import Record
from directory_service.kinds.sections import lines_of
from directory_service.kinds.together import Fault, Together


@dataclass(frozen=True, slots=True)
class Attachment:
    record: Record
    id: int
    place: Place
    mtu_bytes: int


def to_attachment(record: Record) -> Attachment:
    return Attachment(record, record.id, parse_place(record.local_name), record.values.get("mtu_bytes", 0))


def read_attachment(table: Table) -> Values:
    """Read what an attachment says beside its place, which is its name."""
    return without({"mtu_bytes": table.integer("mtu_bytes", 0, 68, 65535)}, mtu_bytes=0)


class Grouped:
    """`[[vnet.VNET.attachment]]`, for what is alike on several nodes."""

    def read(self, kind: Kind, outer: Table, within: str, mistakes: list[TomlError]) -> Iterator[Declared]:
        """Yield one for each node that a table names."""
        for table in outer.tables_in_list(kind.name, mistakes):
            found = table.read_all(_read_with_place, mistakes)
            if found is not None:
                nodes, port, vlan, values = found
                for node in nodes:
                    yield Declared(kind.name, f"{within}{Place(node, port, vlan)}", values, table)

    def write(self, kind: Kind, heading: str, records: Sequence[Record]) -> Iterator[Block]:
        """Yield a block for those that are alike but for their node."""
        alike: dict[tuple[str, int, str], list[Record]] = {}
        for record in records:
            place = parse_place(record.local_name)
            alike.setdefault((place.port, place.vlan, toml_value(dict(record.values))), []).append(record)
        for (port, vlan, _), some in sorted(alike.items(), key=lambda item: item[0]):
            values: dict[str, Any] = {"nodes": [parse_place(one.local_name).node for one in some]}
            values["port"] = port
            if vlan:
                values["vlan"] = vlan
            yield [f"[[{heading}{kind.name}]]", *lines_of({**values, **some[0].values})]


def _read_with_place(table: Table) -> tuple[tuple[str, ...], str, int, Values]:
    return (
        table.strings("nodes", check=check_name, least=1),
        table.string("port", check=_check_port),
        table.integer("vlan", 0, 1, 4094),
        read_attachment(table),
    )


def _check_port(text: str) -> None:
    if PORT.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no port name: at most 15 letters, digits, dots, hyphens")


def _references(record: Record) -> Iterator[Reference]:
    yield Reference("nodes", "node", parse_place(record.local_name).node)


def _check(together: Together) -> Iterator[Fault]:
    places: dict[str, Record] = {}
    for record in together.of("attachment").values():
        place = parse_place(record.local_name)
        node = together.of("node").get(place.node)
        if node is not None:
            kind = node.values["kind"]
            if kind != "gateway":
                problem = f"{place.node} is a {kind}: only gateways of ours have attachments"
                yield Fault(record.key, "nodes", problem, f'endpoints there say node = "{place.node}"')
        other = places.get(record.local_name)
        if other is not None:
            problem = f"{place} is already attached to V-net {other.vnet}"
            yield Fault(record.key, "vlan", problem, "choose another VLAN or port")
        places[record.local_name] = record


def _doubts_among(record: Record, around: Surroundings) -> Iterator[str]:
    place = parse_place(record.local_name)
    said = around.ports(place.node)
    if said is not None and place.port not in said:
        ports = ", ".join(said) or "none"
        here = f"{place.node} has no inside port {place.port}"
        yield f"attachment {record.name}: {here}; it has {ports}"


def _more(world: World, record: Record) -> Values:
    place = parse_place(record.local_name)
    return {"node": place.node, "port": place.port, "vlan": place.vlan}


ATTACHMENT = Kind(
    attachment.ATTACHMENT,
    read_attachment,
    Grouped(),
    check_name=parse_place,
    to_typed=to_attachment,
    references=_references,
    check=_check,
    doubts_among=_doubts_among,
    more=_more,
)
