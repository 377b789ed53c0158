# SPDX-License-Identifier: Apache-2.0
"""`vnetctl show NOUN NAME`: everything about one thing, a line each, with units."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from vnetctl.table import Layout, Row, pairs
from vnetctl.units import UNKNOWN, Units

HIDDEN = frozenset({"object_id", "node_id", "profile_id", "zero"})
NUMBERS = frozenset(
    ("id", "tunnel", "vni", "revision", "vlan", "udp_port", "ttl", "pid", "cpu", "port", "priority")
)
SUFFIXES = (
    ("_bits_per_s", " bits", "bits_per_s"),
    ("_per_s", "/s", "short"),
    ("mtu_bytes", "mtu", "bytes_exact"),
    ("_bytes", " bytes", "bytes"),
    ("_us", "", "delay_us"),
    ("_ratio", "", "ratio"),
    ("_s", "", "duration"),
)


def details(row: Row, layout: Layout) -> list[Text]:
    """Return one thing as name and value lines; what is wrong with it comes last, with what to type."""
    entries: list[tuple[str, str]] = []
    for key, value in row.items():
        if key in HIDDEN or key in ("why", "fix") or value in (None, "", [], {}):
            continue
        entries += entry(key, value, layout.units)
    lines = pairs(entries)
    if row.get("why"):
        lines += [Text(""), Text(str(row["why"]), style="red")]
        if row.get("fix"):
            lines.append(Text(str(row["fix"])))
    return lines


def entry(key: str, value: Any, units: Units) -> list[tuple[str, str]]:
    """Return the lines of one key; lists of maps have several."""
    name = key.replace("_", " ")
    if key in ("since", "time"):
        return [(name, units.clock(value))]
    if isinstance(value, bool):
        return [(name, "yes" if value else "no")]
    if isinstance(value, (list, tuple)):
        if value and isinstance(value[0], dict):
            return [(name if number == 0 else "", _map(item)) for number, item in enumerate(value)]
        return [(name, ", ".join(str(item) for item in value) or UNKNOWN)]
    if isinstance(value, dict):
        return [(name, _map(value))]
    if isinstance(value, (int, float)):
        if key == "per_s":
            return [("per second", _number(value, "short", units))]
        for suffix, unit, how in SUFFIXES:
            if key.endswith(suffix):
                return [((key.removesuffix(suffix) + unit).replace("_", " "), _number(value, how, units))]
        if key in NUMBERS:
            return [(name, str(value))]
        return [(name, units.count(value))]
    return [(name, str(value))]


def _number(value: float, how: str, units: Units) -> str:
    if how == "bytes_exact":
        return f"{units.count(value)} bytes"
    return str(getattr(units, how)(value))


def _map(item: dict[str, Any]) -> str:
    return "  ".join(
        f"{key.replace('_', ' ')} {value}" for key, value in item.items() if value not in (None, "", 0)
    )
