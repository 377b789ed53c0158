# SPDX-License-Identifier: Apache-2.0
"""`vnetctl show drops`: what is thrown away, why, and what to type about it."""

from __future__ import annotations

from rich.text import Text

from vnetctl.client import Answer
from vnetctl.table import Column, Layout, Row, table, with_node
from vnetctl.units import UNKNOWN

COLUMNS = (
    Column("reason", "reason"),
    Column("packets", "packets", lambda row, units: units.count(row.get("packets")), right=True),
    Column("share", "share_ratio", lambda row, units: units.ratio(row.get("share_ratio")), right=True),
    Column("V-nets", "vnets", lambda row, units: _vnets(row)),
    Column("", "sentence", rank=1),
)
VNETS_SHOWN = 4


def drops(answer: Answer, layout: Layout, of_all: bool = False) -> list[Text]:
    """Return the table, with the command below each sentence, and the sum; `of_all`: with a node column."""
    rows: list[Row] = answer.get("rows", [])
    units = layout.units
    seconds = answer.get("seconds")
    period = f" in {units.duration(seconds)}" if seconds is not None else ""
    if not rows:
        return [Text(f"nothing was dropped{period}")]
    lines = table(with_node(COLUMNS) if of_all else COLUMNS, rows, layout)
    heading = lines[0].plain
    has_sentences = lines[-1].plain.startswith("left out") is False
    lines = lines[: len(rows) + 1]
    indent = _sentence_column(lines[1].plain, str(rows[0].get("sentence"))) if has_sentences else 4
    shown = [Text(heading.rstrip(), style="bold")]
    for row, line in zip(rows, lines[1:], strict=True):
        shown.append(line)
        if not has_sentences and row.get("sentence"):
            shown.append(Text(" " * indent + str(row["sentence"])))
        if row.get("command"):
            shown.append(Text(" " * indent + str(row["command"]), style="dim"))
    total = sum(row.get("packets") or 0 for row in rows)
    received = answer.get("received")
    of = f" of {units.short(received)} packets that came" if received else " packets"
    shown.append(Text(f"{units.count(total)}{of}{period}"))
    return shown


def _sentence_column(line: str, sentence: str) -> int:
    found = line.find(sentence) if sentence else -1
    return found if found > 0 else 4


def _vnets(row: Row) -> str:
    names = [str(name) for name in row.get("vnets") or ()]
    more = f" and {len(names) - VNETS_SHOWN} more" if len(names) > VNETS_SHOWN else ""
    return (", ".join(names[:VNETS_SHOWN]) + more) or UNKNOWN
