# SPDX-License-Identifier: Apache-2.0
"""Documents (topology.toml): from text to what is declared, and from records back to text.

The text that `write_document` makes declares the same again, and is made again byte for byte from that.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from directory_client.toml.strict_toml import Table, TomlError, raise_all, read_toml
from directory_client.toml.toml_lines import format_path, toml_string
from directory_client.toml.toml_text import toml_value
from directory_client.vocabulary.addresses import parse_network
from directory_client.vocabulary.names import NAME, Place, check_name, parse_place
from directory_service.kinds import fields
from directory_service.kinds.plain_endpoint import read_plain_endpoint
from directory_service.kinds.records import Record

_NAMED = ("site", "path", "profile", "node")
_INSIDE = frozenset(("attachment", "endpoint", "route", "rule", "peering"))
RESERVED_NAMES = frozenset(("any", "all"))


@dataclass(frozen=True, slots=True)
class Declared:
    """One thing that a document declares, and where it stands, for errors: the table `inner` of `outer`, or
    `outer` itself."""

    kind: str
    name: str
    values: Mapping[str, Any]
    outer: Table
    inner: str | None = None

    @property
    def table(self) -> Table:
        """The table that it stands in."""
        return self.outer if self.inner is None else self.outer.table(self.inner)

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.name}"

    def problem(self, field: str | None, problem: str, fix: str) -> TomlError:
        """Make an error that says where this stands."""
        table = self.table
        return table.problem(field if field and field in table else None, problem, fix)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document: its name and what it declares, by key."""

    name: str
    file: str
    declared: Mapping[str, Declared]


def parse_document(text: str, file: str) -> Document:
    """Parse topology.toml. Raises TomlError, TomlErrors if more than one thing is wrong."""
    table = read_toml(text, file)
    mistakes: list[TomlError] = []
    name = table.take_string("document", mistakes, check=check_name)
    declared: dict[str, Declared] = {}
    for kind in _NAMED:
        for item, settings in table.tables_by_name(kind, check_name, mistakes):
            _add(declared, kind, item, settings.read_all(fields.READERS[kind], mistakes), settings, mistakes)
    for vnet, settings in table.tables_by_name("vnet", check_name, mistakes):
        _read_inside(declared, vnet, settings, mistakes)
        if not settings.keys() or set(settings.keys()) - _INSIDE:  # else another document declares the V-net
            own = settings.read_all(_read_own, mistakes)
            _add(declared, "vnet", vnet, own, settings, mistakes)
    mistakes += table.unknown()
    raise_all(mistakes)
    return Document(name, file, declared)


def _read_own(settings: Table) -> fields.Values:
    for kind in _INSIDE:  # read by themselves
        settings.raw(kind)
    return fields.read_vnet(settings)


def _read_attachment(attachment: Table) -> tuple[tuple[str, ...], str, int, fields.Values]:
    return *fields.read_attachment_place(attachment), fields.read_attachment(attachment)


def _read_inside(
    declared: dict[str, Declared], vnet: str, settings: Table, mistakes: list[TomlError]
) -> None:
    for attachment in settings.tables_in_list("attachment", mistakes):
        read = attachment.read_all(_read_attachment, mistakes)
        if read is not None:
            nodes, port, vlan, values = read
            for node in nodes:
                place = Place(node, port, vlan)
                _add(declared, "attachment", f"{vnet}/{place}", values, attachment, mistakes)
    slow = _read_plain_endpoints(declared, vnet, settings)
    for item, table in settings.tables_by_name("endpoint", check_member_name, mistakes, slow):
        found = table.read_all(fields.read_endpoint, mistakes)
        _add(declared, "endpoint", f"{vnet}/{item}", found, table, mistakes)
    for kind, check in (
        ("route", _check_route),
        ("rule", check_name),
        ("peering", check_name),
    ):
        for item, table in settings.tables_by_name(kind, check, mistakes):
            name = str(parse_network(item)) if kind == "route" else item
            found = table.read_all(fields.READERS[kind], mistakes)
            _add(declared, kind, f"{vnet}/{name}", found, table, mistakes)


def _read_plain_endpoints(declared: dict[str, Declared], vnet: str, settings: Table) -> list[str] | None:
    """Add the endpoints that are written plainly; returns the names of the others (None: of all)."""
    endpoints = settings.raw("endpoint")
    if not isinstance(endpoints, dict):
        return None
    outer, slow = settings.table("endpoint"), []
    for item, said in endpoints.items():
        plain = NAME.fullmatch(item) is not None and item not in RESERVED_NAMES and isinstance(said, dict)
        values = read_plain_endpoint(said) if plain else None
        if values is None:
            slow.append(item)
        else:
            name = f"{vnet}/{item}"
            declared["endpoint/" + name] = Declared("endpoint", name, values, outer, item)
    return slow


def _add(
    declared: dict[str, Declared],
    kind: str,
    name: str,
    values: Mapping[str, Any] | None,
    table: Table,
    mistakes: list[TomlError],
) -> None:
    """Add what could be read; None could not."""
    if values is None:
        return
    item = Declared(kind, name, values, table)
    if item.key in declared:
        line = declared[item.key].table.line()
        problem = f"{kind} {name} is declared twice, first in line {line}"
        mistakes.append(table.problem(None, problem, "remove one"))
    declared[item.key] = item


def check_member_name(text: str) -> None:
    """Raise ValueError for what cannot be an endpoint's name."""
    check_name(text)
    if text in RESERVED_NAMES:
        raise ValueError(f'"{text}" means all in rules and cannot be a name')


def _check_route(text: str) -> None:
    if str(parse_network(text)) != text:
        raise ValueError(f"{text} is written {parse_network(text)}")


def write_document(name: str, records: Iterable[Record]) -> str:
    """Write a document from its records."""
    by_kind: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.name):
        by_kind.setdefault(record.kind, []).append(record)
    blocks = [[f"document = {toml_string(name)}"]]
    for kind in _NAMED:
        for record in by_kind.get(kind, ()):
            blocks.append([_header(kind, record.name), *_lines(record.values)])
    owned = {record.name for record in by_kind.get("vnet", ())}
    inside = {
        record.vnet
        for kind in ("attachment", "endpoint", "route", "rule", "peering")
        for record in by_kind.get(kind, ())
    }
    by_vnet: dict[str, dict[str, list[Record]]] = {}  # once: not all records for every V-net
    for kind, some in by_kind.items():
        for record in some:
            if record.vnet:
                by_vnet.setdefault(record.vnet, {}).setdefault(kind, []).append(record)
    for vnet in sorted(owned | inside):
        here = by_vnet.get(vnet, {})
        for record in here.get("vnet", ()):
            blocks.append([_header("vnet", vnet), *_lines(record.values)])
        blocks += _write_inside(vnet, here)
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _write_inside(vnet: str, by_kind: Mapping[str, list[Record]]) -> list[list[str]]:
    blocks: list[list[str]] = []
    attachments: dict[tuple[str, int, str], list[str]] = {}
    for record in by_kind.get("attachment", ()):
        if record.vnet == vnet:
            place = parse_place(record.local_name)
            key = (place.port, place.vlan, toml_value(dict(record.values)))
            attachments.setdefault(key, []).append(record.name)
    for (port, vlan, _), names in sorted(attachments.items()):
        nodes = [parse_place(name.partition("/")[2]).node for name in names]
        values: dict[str, Any] = {"nodes": nodes, "port": port}
        if vlan:
            values["vlan"] = vlan
        first = next(record for record in by_kind["attachment"] if record.name == names[0])
        blocks.append([f"[[vnet.{vnet}.attachment]]", *_lines({**values, **first.values})])
    for kind in ("endpoint", "route"):
        lines = [
            f"{format_path((record.local_name,))} = {toml_value(dict(record.values))}"
            for record in by_kind.get(kind, ())
            if record.vnet == vnet
        ]
        if lines:
            blocks.append([f"[vnet.{vnet}.{kind}]", *lines])
    for kind in ("rule", "peering"):
        for record in by_kind.get(kind, ()):
            if record.vnet == vnet:
                blocks.append([f"[vnet.{vnet}.{kind}.{record.local_name}]", *_lines(record.values)])
    return blocks


def _header(kind: str, name: str) -> str:
    return f"[{kind}.{name}]"


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{format_path((key,))} = {toml_value(value)}" for key, value in values.items()]
