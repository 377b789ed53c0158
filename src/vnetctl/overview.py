# SPDX-License-Identifier: Apache-2.0
"""`vnetctl show`: one screen a gateway, and what needs a person at its end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from vnetctl.errors import printable
from vnetctl.table import Layout, Row
from vnetctl.units import UNKNOWN, Units

NAME_WIDTH = 9
COLUMN_WIDTH = 19
THREADS_SHOWN = 8
REASONS_SHOWN = 4


def overview(row: Row, layout: Layout) -> list[Text]:
    """Return the screen of one gateway."""
    units = layout.units
    lines = [Text(line, style="bold") for line in _filled(_head(row, units), layout.width, 4)] + [Text("")]
    if row.get("data_plane") == "up":
        for name, parts in _entries(row, units):
            lines += _entry(name, parts, layout.width)
    else:
        lines.append(Text("data plane  gone: nothing is forwarded by it now", style="red"))
    lines.append(Text(""))
    lines += _attention(row, layout)
    return lines


def _entry(name: str, parts: Sequence[str], width: int | None) -> list[Text]:
    """Return a name with its columns; on a narrow terminal they go below each other."""
    start = name.ljust(NAME_WIDTH) + "  "
    wide = " ".join(_pad(part, COLUMN_WIDTH) for part in parts).rstrip()
    if width is None or cell_len(start + wide) <= width:
        return [Text(printable(start + wide))]
    lines = _filled([part for part in parts if part], width - len(start), 0)
    return [
        Text(printable((start if place == 0 else " " * len(start)) + line))
        for place, line in enumerate(lines)
    ]


def _filled(parts: Sequence[str], width: int | None, indent: int) -> list[str]:
    """Put parts into as few lines as fit; lines after the first are indented."""
    lines: list[str] = []
    for part in parts:
        if lines and (width is None or cell_len(f"{lines[-1]}   {part}") <= width):
            lines[-1] += f"   {part}"
        else:
            lines.append((" " * indent if lines else "") + part)
    return lines


def _head(row: Row, units: Units) -> list[str]:
    parts = [str(row.get("node"))]
    if row.get("uptime_s") is not None:
        parts.append(f"up {units.duration(row['uptime_s'])}")
    parts.append(f"version {row.get('version') or UNKNOWN}")
    if row.get("site"):
        parts.append(f"site {row['site']}")
    if row.get("directory"):
        rtt = (
            f" ({units.delay_us(row['directory_rtt_us'])})" if row.get("directory_rtt_us") is not None else ""
        )
        parts.append(f"directory {row['directory']} at revision {row.get('directory_revision')}{rtt}")
    else:
        parts.append("directory none answers")
    return [printable(part) for part in parts]


def _entries(row: Row, units: Units) -> list[tuple[str, list[str]]]:
    cycles = row.get("cycles_per_packet")
    per_packet = f"{units.count(cycles)} cycles/packet" if cycles is not None else ""
    entries = [
        (
            "traffic",
            [
                f"{units.short(row.get('packets_per_s'))} packets/s",
                f"in {units.bits_per_s(row.get('in_bits_per_s'))}",
                f"out {units.bits_per_s(row.get('out_bits_per_s'))}",
            ],
        ),
        (
            "flows",
            [
                f"{units.count(row.get('flows'))} of {_capacity(row.get('flows_max'), units)}",
                f"misses {units.short(row.get('misses_per_s'))}/s",
                f"first packet p50 {units.delay_us(row.get('first_packet_p50_us'))}"
                f"  p99 {units.delay_us(row.get('first_packet_p99_us'))}",
            ],
        ),
        (
            "held",
            [
                f"{units.count(row.get('held_packets'))} of {units.count(row.get('held_packets_max'))}",
                f"released {units.short(row.get('released_per_s'))}/s",
                f"expired {units.short(row.get('expired_per_s'))}/s",
            ],
        ),
        (
            "tunnels",
            [
                units.count(row.get("tunnels")),
                f"{units.count(row.get('tunnels_up'))} up",
                f"{units.count(row.get('tunnels_unresolved'))} unresolved"
                f"   {units.count(row.get('tunnels_down'))} down",
            ],
        ),
        ("threads", [units.count(len(row.get("threads") or ())), f"busy {_busy(row, units)}", per_packet]),
        ("dropped", _dropped(row, units)),
    ]
    return entries


def _busy(row: Row, units: Units) -> str:
    """Every thread's part, or of many the least and the most."""
    ratios = [thread.get("busy_ratio") for thread in row.get("threads") or ()]
    known = [ratio for ratio in ratios if ratio is not None]
    if len(known) > THREADS_SHOWN:
        return f"{units.ratio(min(known))} to {units.ratio(max(known))}"
    return "  ".join(units.ratio(ratio) for ratio in ratios) or UNKNOWN


def _capacity(flows: int | None, units: Units) -> str:
    """A round million is 1 M; 65 536 stays what it is."""
    return units.short(flows) if flows and flows % 1_000_000 == 0 else units.count(flows)


def _pad(text: str, width: int) -> str:
    return text + " " * max(0, width - cell_len(text))


def _dropped(row: Row, units: Units) -> list[str]:
    drops = row.get("drops_per_s") or {}
    reasons = [
        f"{reason} {units.short(rate)}" for reason, rate in list(drops.items())[:REASONS_SHOWN] if rate > 0
    ]
    if len(drops) > REASONS_SHOWN:
        reasons.append(f"{len(drops) - REASONS_SHOWN} more (vnetctl show drops)")
    return [f"{units.short(row.get('dropped_per_s'))}/s", *reasons]


def _attention(row: Row, layout: Layout) -> list[Text]:
    entries = row.get("attention") or []
    if not entries:
        return [Text("nothing needs attention")]
    lines = [Text("needs attention", style="bold")]
    about = max(cell_len(entry["about"]) for entry in entries)
    text = max(cell_len(entry["text"]) for entry in entries)
    wide = (
        layout.width is None
        or about + text + max(cell_len(e["command"]) for e in entries) + 8 <= layout.width
    )
    for entry in entries:
        line = Text("  ")
        line.append(printable(entry["about"]), style="yellow")
        if wide:
            gap = " " * (about - cell_len(entry["about"]))
            line.append(f"{gap}   {_pad(printable(entry['text']), text)}   {printable(entry['command'])}")
            lines.append(line)
        else:  # too narrow: the sentence and the command on lines of their own
            lines += [
                line,
                Text(f"      {printable(entry['text'])}"),
                Text(f"      {printable(entry['command'])}"),
            ]
    return lines
