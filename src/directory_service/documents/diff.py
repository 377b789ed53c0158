# SPDX-License-Identifier: Apache-2.0
"""What differs between records before and after, in the words that an operator reads."""

from collections.abc import Iterable, Mapping
from typing import Any

from directory_client.toml.toml_text import toml_value
from directory_service.kinds.fields import Values
from directory_service.kinds.records import Record

_ORDER = (
    "site",
    "profile",
    "path",
    "node",
    "vnet",
    "attachment",
    "endpoint",
    "route",
    "rule",
    "peering",
)
_SIGNS = {"~": 0, "+": 1, "-": 2}

Row = dict[str, str]


def describe_changes(changes: Iterable[tuple[Record | None, Record | None]]) -> list[Row]:
    """Return a row per change: sign (+ ~ -), kind, name, text."""
    rows: list[Row] = []
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
        rows.append({"sign": sign, "kind": record.kind, "name": record.name, "text": text})
    return sorted(rows, key=lambda row: (_SIGNS[row["sign"]], _ORDER.index(row["kind"]), row["name"]))


def describe(record: Record) -> str:
    """Return what a record says, on one line."""
    values = record.values
    if record.kind == "rule":
        return describe_rule(values)
    if record.kind == "endpoint":
        where = [values["node"]] if "node" in values else values["at"]
        known = [*values.get("addresses", ()), *values.get("services", ())]
        return "  ".join([", ".join(known), values["mac"], ", ".join(where)]).strip()
    if record.kind == "route":
        return f"via {values['via']}"
    if record.kind == "path":
        return f"{values['sites'][0]} – {values['sites'][1]}  trust {values['trust']}"
    return "  ".join(f"{key} {_say(value)}" for key, value in values.items())


def describe_rule(values: Mapping[str, Any]) -> str:
    """Return "allow  group:web → group:db  tcp 5432"."""
    text = f"{values['action']}  {values['from']} → {values['to']}"
    if "proto" in values:
        text += f"  {values['proto']}"
        if "ports" in values:
            text += " " + ", ".join(str(port) for port in values["ports"])
    if "priority" in values:
        text += f"  priority {values['priority']}"
    return text


def describe_change(before: Record, after: Record) -> str:
    """Return the fields that differ: "node  ber1-gw1 → ber1-leaf7"."""
    parts: list[str] = []
    old, new = _where(before), _where(after)
    for key in [*old, *(key for key in new if key not in old)]:
        if old.get(key) != new.get(key):
            parts.append(f"{key}  {_say(old.get(key))} → {_say(new.get(key))}")
    if (before.owner, before.document) != (after.owner, after.document):
        parts.append(f"owner  {_owner(before)} → {_owner(after)}")
    return ", ".join(parts)


def _where(record: Record) -> Values:
    """The values, with `at` and `node` of an endpoint under one name where that reads better."""
    values = dict(record.values)
    if record.kind == "endpoint" and "at" in values:
        at = values.pop("at")
        return {**values, "node": at[0] if len(at) == 1 else at}
    return values


def _owner(record: Record) -> str:
    return f"document {record.document}" if record.owner == "document" else record.owner


def _say(value: Any) -> str:
    if value is None:
        return "(default)"
    if isinstance(value, list):
        return ", ".join(_say(item) for item in value) if value else "(none)"
    return value if isinstance(value, str) else toml_value(value)
