# SPDX-License-Identifier: Apache-2.0
"""Rows as a table of plain columns. On a terminal that is too narrow the columns that matter least are left
out, and a line below says which; piped output is never cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from vnetctl.errors import printable
from vnetctl.units import UNKNOWN, Units

Row = dict[str, Any]
Format = Callable[[Row, Units], str]
GAP = 2
STATE_STYLES = {
    "up": "green",
    "late": "yellow",
    "stale": "yellow",
    "relay": "yellow",
    "unresolved": "red",
    "down": "red",
    "drop": "red",
    "gone": "red",
}


@dataclass(frozen=True)
class Column:
    """`key` is the row's key and what --tsv prints; `format` makes the cell's text. Columns with the highest
    `rank` go first where there is no room; rank 0 always stays. `state`: the cell's word has a color."""

    heading: str
    key: str
    format: Format | None = None
    rank: int = 0
    right: bool = False
    state: bool = False
    composed: bool = False  # made of several keys: --tsv prints what is formatted

    def cell(self, row: Row, units: Units) -> str:
        if self.format is not None:
            return printable(self.format(row, units))
        value = row.get(self.key)
        if value is None or value == "":
            return UNKNOWN
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, (list, tuple)):
            return printable(", ".join(str(item) for item in value)) or UNKNOWN
        return printable(value)

    def raw(self, row: Row) -> str:
        """Return the value for --tsv: no units, no tabs, no line ends."""
        if self.composed and self.format is not None:
            return _flat(self.format(row, Units()))
        value = row.get(self.key)
        if value is None:
            return ""
        if isinstance(value, (list, tuple)):
            return ",".join(_flat(item) for item in value)
        return _flat(value)


@dataclass(frozen=True)
class Layout:
    """`width` None: as wide as it gets."""

    units: Units
    width: int | None = None


def table(columns: Sequence[Column], rows: Sequence[Row], layout: Layout) -> list[Text]:
    """Return heading and rows as lines."""
    cells = [[column.cell(row, layout.units) for column in columns] for row in rows]
    widths = [
        max([cell_len(column.heading), *(cell_len(line[i]) for line in cells)])
        for i, column in enumerate(columns)
    ]
    shown = fitting(columns, widths, layout.width)
    lines = [_line(columns, shown, [column.heading for column in columns], widths, heading=True)]
    lines += [_line(columns, shown, line, widths) for line in cells]
    left_out = [column.heading for i, column in enumerate(columns) if i not in shown]
    if left_out:
        lines.append(Text(f"left out for want of width: {', '.join(left_out)}", style="dim"))
    return lines


def fitting(columns: Sequence[Column], widths: Sequence[int], width: int | None) -> list[int]:
    """Return the indexes of the columns that fit, dropping the highest ranks first."""
    shown = list(range(len(columns)))
    while width is not None and sum(widths[i] for i in shown) + GAP * (len(shown) - 1) > width:
        droppable = [i for i in shown if columns[i].rank > 0]
        if not droppable:
            break
        shown.remove(max(droppable, key=lambda i: (columns[i].rank, i)))
    return shown


def pairs(entries: Sequence[tuple[str, str]], *, indent: int = 0) -> list[Text]:
    """Return name and value lines, values aligned."""
    width = max((cell_len(name) for name, _ in entries), default=0)
    lines = []
    for name, value in entries:
        line = Text(" " * indent)
        line.append(name.ljust(width), style="dim" if value == UNKNOWN else "")
        line.append(" " * GAP)
        line.append(printable(value), style=STATE_STYLES.get(value, ""))
        lines.append(line)
    return lines


def with_node(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Add the column that `--at all` needs."""
    return (Column("node", "node"), *(replace(column) for column in columns if column.key != "node"))


def _line(
    columns: Sequence[Column],
    shown: Sequence[int],
    cells: Sequence[str],
    widths: Sequence[int],
    *,
    heading: bool = False,
) -> Text:
    line = Text(style="bold" if heading else "")
    for place, i in enumerate(shown):
        last = place == len(shown) - 1
        padding = " " * (widths[i] - cell_len(cells[i]))
        style = (
            ""
            if heading or not columns[i].state
            else STATE_STYLES.get(cells[i].split()[0] if cells[i] else "", "")
        )
        if columns[i].right:
            line.append(padding)
            line.append(cells[i], style=style)
        else:
            line.append(cells[i], style=style)
            line.append("" if last else padding)
        line.append("" if last else " " * GAP)
    return line


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        value = " ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return printable(value).replace("\n", " ")
