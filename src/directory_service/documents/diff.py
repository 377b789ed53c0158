# SPDX-License-Identifier: Apache-2.0
"""What differs between records before and after, in the words that an operator reads."""

from collections.abc import Iterable

from directory_client.wire.changes import DiffRow
from directory_service.kinds.kind import UNREADABLE, describe_values, say
from directory_service.kinds.records import Record
from directory_service.kinds.registry import KIND_OF, KINDS

_ORDER = {kind.name: number for number, kind in enumerate(KINDS)}
_SIGNS = {"~": 0, "+": 1, "-": 2}


def describe_changes(changes: Iterable[tuple[Record | None, Record | None]]) -> list[DiffRow]:
    """Return a row per change."""
    rows: list[DiffRow] = []
    for before, after in changes:
        record = after or before
        if record is None:
            continue
        if before is None:
            sign, text = "+", describe(record)
        elif after is None:
            sign, text = "-", describe(record)
        else:
            sign, text = "~", describe_change(before, after)
        rows.append(DiffRow(sign=sign, kind=record.kind, name=record.name, text=text))
    return sorted(rows, key=lambda row: (_SIGNS[row.sign], _ORDER[row.kind], row.name))


def describe(record: Record) -> str:
    """Return what a record says, on one line."""
    try:
        return KIND_OF[record.kind].describe(record.values)
    except UNREADABLE:  # a newer program has written it
        return describe_values(record.values)


def describe_change(before: Record, after: Record) -> str:
    """Return the fields that differ: "node  ber1-gw1 → ber1-leaf7"."""
    parts: list[str] = []
    compared = KIND_OF[after.kind].compared
    old, new = compared(before.values), compared(after.values)
    for key in [*old, *(key for key in new if key not in old)]:
        if old.get(key) != new.get(key):
            parts.append(f"{key}  {say(old.get(key))} → {say(new.get(key))}")
    if (before.owner, before.document) != (after.owner, after.document):
        parts.append(f"owner  {_owner(before)} → {_owner(after)}")
    return ", ".join(parts)


def _owner(record: Record) -> str:
    return f"document {record.document}" if record.owner == "document" else record.owner
