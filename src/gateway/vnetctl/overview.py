# SPDX-License-Identifier: Apache-2.0
"""`vnetctl show`: one screen a gateway, and what needs a person at its end."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from gateway.vnetctl.errors import printable
from gateway.vnetctl.table import Layout, Row
from gateway.vnetctl.units import UNKNOWN, Units

NAME_WIDTH = 9
REASONS_SHOWN = 4


def overview(row: Row, layout: Layout) -> list[Text]:
    """Return the screen of one gateway."""
    units = layout.units
    lines = [Text(_head(row, units), style="bold"), Text("")]
    if row.get("data_plane") == "up":
        for name, value in _entries(row, units):
            line = Text(name.ljust(NAME_WIDTH) + "  ")
            line.append(value)
            lines.append(line)
    else:
        lines.append(Text("data plane  gone: nothing is forwarded by it now", style="red"))
    lines.append(Text(""))
    lines += _attention(row, layout)
    return lines


def _head(row: Row, units: Units) -> str:
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
    return printable("   ".join(parts))


def _entries(row: Row, units: Units) -> list[tuple[str, str]]:
    busy = " ".join(f" {units.ratio(thread.get('busy_ratio'))}" for thread in row.get("threads") or ())
    cycles = row.get("cycles_per_packet")
    per_packet = f"   {units.count(cycles)} cycles/packet" if cycles is not None else ""
    entries = [
        (
            "traffic",
            _columns(
                f"{units.short(row.get('packets_per_s'))} packets/s",
                f"in {units.bits_per_s(row.get('in_bits_per_s'))}",
                f"out {units.bits_per_s(row.get('out_bits_per_s'))}",
            ),
        ),
        (
            "flows",
            _columns(
                f"{units.count(row.get('flows'))} of {units.short(row.get('flows_max'))}",
                f"misses {units.short(row.get('misses_per_s'))}/s",
                f"first packet p50 {units.delay_us(row.get('first_packet_p50_us'))}"
                f"  p99 {units.delay_us(row.get('first_packet_p99_us'))}",
            ),
        ),
        (
            "held",
            _columns(
                f"{units.count(row.get('held_packets'))} of {units.count(row.get('held_packets_max'))}",
                f"released {units.short(row.get('released_per_s'))}/s",
                f"expired {units.short(row.get('expired_per_s'))}/s",
            ),
        ),
        (
            "tunnels",
            _columns(
                units.count(row.get("tunnels")),
                f"{units.count(row.get('tunnels_up'))} up",
                f"{units.count(row.get('tunnels_unresolved'))} unresolved"
                f"   {units.count(row.get('tunnels_down'))} down",
            ),
        ),
        ("threads", _columns(units.count(len(row.get("threads") or ())), f"busy{busy}{per_packet}", "")),
        ("dropped", _dropped(row, units)),
    ]
    return entries


def _columns(first: str, second: str, third: str) -> str:
    return f"{_pad(first, 18)} {_pad(second, 18)} {third}".rstrip()


def _pad(text: str, width: int) -> str:
    return text + " " * max(0, width - cell_len(text))


def _dropped(row: Row, units: Units) -> str:
    drops = row.get("drops_per_s") or {}
    reasons = [
        f"{reason} {units.short(rate)}" for reason, rate in list(drops.items())[:REASONS_SHOWN] if rate > 0
    ]
    if len(drops) > REASONS_SHOWN:
        reasons.append(f"{len(drops) - REASONS_SHOWN} more (vnetctl show drops)")
    return printable(
        f"{_pad(units.short(row.get('dropped_per_s')) + '/s', 18)} {'   '.join(reasons)}".rstrip()
    )


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
        line.append(_pad(printable(entry["about"]), about), style="yellow")
        if wide:
            line.append(f"   {_pad(printable(entry['text']), text)}   {printable(entry['command'])}")
            lines.append(line)
        else:  # too narrow: the sentence and the command on lines of their own
            lines += [
                line,
                Text(f"      {printable(entry['text'])}"),
                Text(f"      {printable(entry['command'])}"),
            ]
    return lines
