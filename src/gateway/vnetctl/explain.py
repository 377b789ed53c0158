# SPDX-License-Identifier: Apache-2.0
"""`vnetctl explain`: how a connection travels, or why it does not, and who says so."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from gateway.vnetctl.errors import WRONG_INPUT, Failure, printable
from gateway.vnetctl.session import Session, output_options, pass_session
from gateway.vnetctl.table import STATE_STYLES, Layout, Row
from gateway.vnetctl.units import UNKNOWN, Units

NAME_WIDTH = 12


@click.command(
    epilog="""
\b
Examples:
  vnetctl explain red web-1 db-1 tcp 5432
  vnetctl explain red 10.0.0.12 10.0.0.21
  vnetctl explain red web-1 db-1 tcp 5432 --revision 41     as it was then
  vnetctl explain red web-1 db-1 --node ber1-gw1            as that gateway would decide
"""
)
@click.argument("vnet")
@click.argument("source")
@click.argument("destination")
@click.argument("protocol", required=False)
@click.argument("port", type=click.IntRange(0, 65_535), required=False)
@click.option("--revision", type=click.IntRange(0), help="As the directory would have answered then.")
@click.option("--node", help="As it would answer that gateway; default: the one that is asked.")
@output_options
@pass_session
def explain(session: Session, vnet: str, source: str, destination: str, **options: Any) -> None:
    """Explain how a connection travels, or why not.

    How SOURCE reaches DESTINATION in VNET, or what stops it, and which records say so.

    SOURCE and DESTINATION are endpoints' names or addresses.
    """
    if options["port"] is not None and options["protocol"] is None:
        raise Failure(
            "a port needs its protocol",
            f"vnetctl explain {vnet} {source} {destination} tcp {options['port']}",
            WRONG_INPUT,
        )
    args = {"vnet": vnet, "source": source, "destination": destination}
    args |= {key: value for key, value in options.items() if value is not None}
    rows = session.ask("explain", args=args).get("rows", [])
    if session.plain:
        for row in rows:
            session.show_json(row)
        return
    lines: list[Text] = []
    for row in rows:
        lines += [*([Text("")] if lines else []), *explanation(row, args, session.layout)]
    session.show_lines(lines)
    session.show_silent()


def explanation(row: Row, args: dict[str, Any], layout: Layout) -> list[Text]:
    """Return the screen: the answer first, the reasons below it, what gateways have, what to type next."""
    units = layout.units
    action = str(row.get("action") or UNKNOWN)
    outcome = f"drop: {row['reason']}" if action == "drop" and row.get("reason") else action
    if action in ("encapsulate", "relay") and row.get("to"):
        outcome = f"{action} to {row['to']}"
    head = Text(f"{_end(row, 'source', args)} → {_end(row, 'destination', args)}", style="bold")
    head = Text(f"{printable(row.get('vnet') or args['vnet'])}   ", style="bold") + head
    wanted = " ".join(str(args[key]) for key in ("protocol", "port") if args.get(key) is not None)
    head.append(f"   {wanted}   " if wanted else "   ")
    head.append(printable(outcome), style=STATE_STYLES.get(action, "green"))
    lines = [head, Text("")]
    lines += [_reason(entry) for entry in row.get("lines") or () if isinstance(entry, dict)]
    lines += [Text(""), _decision(row, units)]
    lines += _cached(row, units)
    for command in row.get("commands") or ([row["fix"]] if row.get("fix") else []):
        lines += [Text(""), Text(printable(command))]
    return lines


def _end(row: Row, which: str, args: dict[str, Any]) -> str:
    end = row.get(which)
    if isinstance(end, dict):
        end = end.get("address") or end.get("name")
    return printable(end or args[which])


def _reason(entry: dict[str, Any]) -> Text:
    """One record that led to the decision: what it is, its name, what it says, its revision."""
    line = Text(f"  {printable(entry.get('what') or '').ljust(NAME_WIDTH)}  ")
    line.append(f"{printable(entry.get('name') or '').ljust(NAME_WIDTH)}  ")
    line.append(printable(entry.get("text") or ""))
    if entry.get("revision"):
        line.append(f"   revision {entry['revision']}", style="dim")
    return line


def _decision(row: Row, units: Units) -> Text:
    parts = [f"{row.get('action') or UNKNOWN}"]
    if row.get("granularity"):
        parts.append(f"granularity {row['granularity']}")
    lifetime_s = row.get("lifetime_s")
    if lifetime_s is None and isinstance(row.get("lifetime_ms"), (int, float)):
        lifetime_s = row["lifetime_ms"] / 1000
    if lifetime_s is not None:
        parts.append(f"lifetime {lifetime_s:.0f} s")
    if row.get("revision") is not None:
        parts.append(f"revision {row['revision']}")
    if row.get("directory"):
        parts.append(f"by {row['directory']}")
    return Text(printable(f"  {'decision'.ljust(NAME_WIDTH)}  {'   '.join(parts)}"))


def _cached(row: Row, units: Units) -> list[Text]:
    cached, node = row.get("cached"), str(row.get("node") or "")
    if not node:
        return []
    name = printable(node).ljust(NAME_WIDTH)
    if cached is None:
        return [Text(f"  {name}  its flow cache was not asked", style="dim")]
    if not cached:
        return [Text(f"  {name}  not cached: the next packet asks")]
    lines = []
    for flow in cached:
        tunnel = f", tunnel {flow['tunnel']}" if flow.get("tunnel") else ""
        stale = ", overtaken by a change: being asked again" if flow.get("stale") else ""
        packets = f", {units.short(flow.get('packets'))} packets" if flow.get("packets") is not None else ""
        says = str(flow.get("action")) + (f" {flow['reason']}" if flow.get("reason") else "")
        text = f"cached: {says}, revision {flow.get('revision')}{tunnel}{packets}{stale}"
        lines.append(Text(printable(f"  {name}  {text}")))
        name = " " * NAME_WIDTH
    return lines
