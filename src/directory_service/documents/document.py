# SPDX-License-Identifier: Apache-2.0
"""Documents (topology.toml): from text to what is declared, and from records back to text.

The text that `write_document` makes declares the same again, and is made again byte for byte from that.
Where the records of a kind stand in it, the kind's section says.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from directory_client.toml.strict_toml import Table, TomlError, raise_all, read_toml
from directory_client.toml.toml_lines import toml_string
from directory_client.vocabulary.names import check_name
from directory_service.kinds.kind import Block, Declared, Values
from directory_service.kinds.records import Record
from directory_service.kinds.registry import FABRIC, INSIDE
from directory_service.kinds.vnet import VNET


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
    for kind in FABRIC:
        _add(declared, kind.section.read(kind, table, f"{kind.name}/", mistakes), mistakes)
    own_tables = frozenset(kind.name for kind in INSIDE)
    for vnet, settings in table.tables_by_name(VNET.name, check_name, mistakes):
        for kind in INSIDE:
            within = f"{kind.name}/{vnet}/"
            _add(declared, kind.section.read(kind, settings, within, mistakes), mistakes)
        if not settings.keys() or set(settings.keys()) - own_tables:  # else another document declares it
            own = settings.read_all(_read_own, mistakes)
            if own is not None:
                _add(declared, [Declared(VNET.name, f"{VNET.name}/{vnet}", own, settings)], mistakes)
    mistakes += table.unknown()
    raise_all(mistakes)
    return Document(name, file, declared)


def _read_own(settings: Table) -> Values:
    for kind in INSIDE:  # read by themselves
        settings.raw(kind.name)
    return VNET.read(settings)


def _add(declared: dict[str, Declared], found: Iterable[Declared], mistakes: list[TomlError]) -> None:
    for item in found:
        key = item.key
        if key in declared:
            line = declared[key].table.line()
            problem = f"{item.kind} {item.name} is declared twice, first in line {line}"
            mistakes.append(item.table.problem(None, problem, "remove one"))
        declared[key] = item


def write_document(name: str, records: Iterable[Record]) -> str:
    """Write a document from its records."""
    by_vnet: dict[str, dict[str, list[Record]]] = {}  # "": what is in none
    for record in sorted(records, key=lambda record: record.name):
        by_vnet.setdefault(record.vnet, {}).setdefault(record.kind, []).append(record)
    blocks: list[Block] = [[f"document = {toml_string(name)}"]]
    for vnet in sorted(by_vnet):
        here, heading = by_vnet[vnet], f"{VNET.name}.{vnet}."
        if not vnet:
            for kind in FABRIC:
                blocks += kind.section.write(kind, "", here.get(kind.name, ()))
            continue
        blocks += VNET.section.write(VNET, "", here.get(VNET.name, ()))
        for kind in INSIDE:
            blocks += kind.section.write(kind, heading, here.get(kind.name, ()))
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"
