# SPDX-License-Identifier: Apache-2.0
"""How records stand in a document: a table each, or a line each in a table of their kind."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from directory_client.toml.strict_toml import Table, TomlError
from directory_client.toml.toml_lines import format_path
from directory_client.toml.toml_text import toml_value
from directory_service.kinds.kind import Block, Declared, Kind
from directory_service.kinds.records import Record


class Tables:
    """`[kind.NAME]`, or `[vnet.VNET.kind.NAME]`, and a line for each field."""

    def read(self, kind: Kind, outer: Table, within: str, mistakes: list[TomlError]) -> Iterator[Declared]:
        """Yield what is declared."""
        return read_tables(kind, outer, within, mistakes)

    def write(self, kind: Kind, heading: str, records: Sequence[Record]) -> Iterator[Block]:
        """Yield a block for each record."""
        for record in records:
            yield [f"[{heading}{kind.name}.{record.local_name}]", *lines_of(record.values)]


class Lines(Tables):
    """`NAME = { … }` under `[vnet.VNET.kind]`; read like tables, which in TOML they are."""

    def write(self, kind: Kind, heading: str, records: Sequence[Record]) -> Iterator[Block]:
        """Yield one block, if there is a record."""
        lines = [
            f"{format_path((record.local_name,))} = {toml_value(dict(record.values))}" for record in records
        ]
        if lines:
            yield [f"[{heading}{kind.name}]", *lines]


def read_tables(
    kind: Kind, outer: Table, within: str, mistakes: list[TomlError], names: Iterable[str] | None = None
) -> Iterator[Declared]:
    """Yield what tables of a kind declare, those by these names only (None: all)."""
    for name, table in outer.tables_by_name(kind.name, kind.check_name, mistakes, names):
        values = table.read_all(kind.read, mistakes)
        if values is not None:
            yield Declared(kind.name, within + name, values, table)


def lines_of(values: Mapping[str, Any]) -> Block:
    """Return a line for each value."""
    return [f"{format_path((key,))} = {toml_value(value)}" for key, value in values.items()]
