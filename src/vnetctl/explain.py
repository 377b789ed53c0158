# SPDX-License-Identifier: Apache-2.0
"""`vnetctl explain`: how a connection travels, or why it does not, and who says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich.cells import cell_len
from rich.text import Text

from vnetctl.errors import WRONG_INPUT, Failure, printable
from vnetctl.session import Session, output_options, pass_session
from vnetctl.table import STATE_STYLES, Column, Layout, Row
from vnetctl.units import UNKNOWN, Units

NAME_WIDTH = 12
FLOWS_SHOWN = 3
PLAIN = tuple(
    Column(key, key)
    for key in (
        "vnet",
        "source",
        "destination",
        "protocol",
        "port",
        "action",
        "reason",
        "rule",
        "node",
        "to_node",
        "locator",
        "revision",
    )
)


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
@click.option("--source-port", type=click.IntRange(0, 65_535), help="The port that it comes from.")
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
        session.show_rows(PLAIN, [{**row, "rule": _rule_of(row)} if session.tsv else row for row in rows])
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
    if action in ("encapsulate", "relay") and row.get("to_node"):
        outcome = f"{action} to {row['to_node']}"
    wanted = " ".join(str(args[key]) for key in ("protocol", "port") if args.get(key) is not None)
    head = Text(style="bold")
    head.append(printable(f"{row.get('vnet')}   {row.get('source')} → {row.get('destination')}   "))
    head.append(f"{printable(wanted)}   " if wanted else "")
    head.append(printable(outcome), style=STATE_STYLES.get(action, "green"))
    lines = [head, Text("")]
    records = [entry for entry in row.get("records") or () if isinstance(entry, dict)]
    lines += aligned([_reason(entry) for entry in records])
    lines += _against(row, units)
    lines += _rules(row) + _back(row)
    lines += [*([Text("")] if lines[-1].plain else []), _decision(row, units)]
    lines += _cached(row, units)
    lines = [part for line in lines for part in wrapped(line, layout.width)]
    if row.get("reason") == "no_rule":  # a command is copied: it stays one line
        lines += [Text(""), Text(f"to allow it:  {allowing(row, args)}")]
    return lines


def _rule_of(row: Row) -> str:
    """Return the name of the rule that decided, empty if none did."""
    records = (one for one in row.get("records") or () if isinstance(one, dict))
    return next((str(one.get("name")) for one in records if one.get("role") == "rule"), "")


def wrapped(line: Text, width: int | None) -> list[Text]:
    """Break a line between words where the terminal ends; what goes on is aligned under the text."""
    indent = NAME_WIDTH + 4
    parts: list[Text] = []
    while width is not None and width > 2 * indent and cell_len(line.plain) > width:
        first = indent if parts or line.plain.startswith(" ") else 1
        at = line.plain.rfind(" ", first, width + 1)
        if at < first or not line.plain[:at].strip():
            break
        parts.append(line[:at])
        rest = line[at:]
        rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
        line = Text(" " * indent) + rest
    return [*parts, line]


def _rules(row: Row) -> list[Text]:
    """What the rules say of a pair whose packets are judged by their ports."""
    words = {"there": "", "back": "   on the way back only: answers", "both": "   both ways"}
    lines = []
    for number, rule in enumerate(row.get("rules") or ()):
        title = ("" if number else "rules").ljust(NAME_WIDTH)
        lines.append(
            Text(
                printable(
                    f"  {title}  {rule.get('name')}  {rule.get('text')}{words.get(rule.get('way'), '')}"
                )
            )
        )
    if lines:
        lines.append(Text(printable(f"  {''.ljust(NAME_WIDTH)}  name protocol and port to see one decided")))
    return lines


def _back(row: Row) -> list[Text]:
    """What becomes of the answers."""
    back = row.get("back")
    if not isinstance(back, dict):
        return []
    by = f" by {back['rule']}" if back.get("rule") else ""
    reason = f" {back['reason']}" if back.get("reason") else ""
    port = f" to port {back['port']}" if back.get("port") else ""
    text = f"{back.get('action')}{reason}{port}{by}, asked by {back.get('node')}"
    style = "red" if back.get("action") == "drop" else ""
    return [Text(printable(f"  {'and back'.ljust(NAME_WIDTH)}  {text}"), style=style)]


def aligned(rows: Sequence[tuple[str, str, str, str]]) -> list[Text]:
    """Return what, name, text and revision as columns."""
    widths = [max((cell_len(row[i]) for row in rows), default=0) for i in range(3)]
    lines = []
    for what, name, text, revision in rows:
        cells = (what.ljust(NAME_WIDTH), name.ljust(widths[1]), text.ljust(widths[2]) if revision else text)
        lines.append(Text(f"  {'  '.join(cells)}"))
        if revision:
            lines[-1].append(f"   {revision}", style="dim")
    return lines


def _reason(entry: dict[str, Any]) -> tuple[str, str, str, str]:
    """One record that led to the decision: what it is, its name, what it says, its revision."""
    revision = f"revision {entry['revision']}" if entry.get("revision") else ""
    name = (
        str(entry.get("name") or "").rpartition("/")[2]
        if entry.get("kind") != "route"
        else str(entry.get("name"))
    )
    text = str(entry.get("text") or "")
    text += "   matched on the way back" if entry.get("way") == "back" else ""
    return printable(entry.get("role") or ""), printable(name), printable(text), revision


def _against(row: Row, units: Units) -> list[Text]:
    """What keeps it from being allowed: the sentence, the nearest rule, what allowed it before."""
    lines: list[Text] = []
    sentence = row.get("why") or row.get("sentence")
    if row.get("reason") and sentence:
        lines.append(Text(printable(f"  {'because'.ljust(NAME_WIDTH)}  {sentence}")))
    nearest, before = row.get("nearest"), row.get("before")
    if isinstance(nearest, dict):
        differs = ", ".join(str(item) for item in nearest.get("differs") or ())
        way = " on the way back" if nearest.get("way") == "back" else ""
        text = f"{nearest.get('name')}  {nearest.get('text')}     differs{way} in: {differs}"
        lines.append(Text(printable(f"  {'nearest rule'.ljust(NAME_WIDTH)}  {text}")))
    if isinstance(before, dict):
        comment = f': "{before["comment"]}"' if before.get("comment") else ""
        when = f"{units.clock(before.get('time'))}, {before.get('user') or 'somebody'}{comment}"
        rule = f"{row.get('vnet')}/{before.get('name')}"
        text = f"{rule} allowed it until revision {before.get('revision')} ({when})"
        lines.append(Text(printable(f"  {'before'.ljust(NAME_WIDTH)}  {text}")))
    return lines


def allowing(row: Row, args: dict[str, Any]) -> str:
    """Return the command that would add a rule for just this connection."""
    protocol, port = args.get("protocol"), args.get("port")
    ends: dict[str, str] = {}
    for entry in row.get("records") or ():
        # What is behind a route is no member: rules select it by its prefix. The route comes first.
        name = str(entry.get("name"))
        ends.setdefault(
            str(entry.get("role")), name if entry.get("kind") == "route" else name.rpartition("/")[2]
        )
    source, destination = ends.get("source", args["source"]), ends.get("destination", args["destination"])
    name = "-".join(str(part) for part in ("allow", protocol, port) if part is not None)
    what = (f" --proto {protocol}" if protocol else "") + (f" --port {port}" if port is not None else "")
    return printable(f"vnetctl rule add {row.get('vnet')}/{name} --from {source} --to {destination}{what}")


def _decision(row: Row, units: Units) -> Text:
    parts = [str(row.get("action") or UNKNOWN), f"granularity {row.get('granularity') or UNKNOWN}"]
    if row.get("lifetime_s") is not None:
        parts.append(f"lifetime {row['lifetime_s']:.0f} s")
    parts.append(f"at revision {row.get('revision')}")
    if row.get("locator"):
        parts.append(f"locator {row['locator']}")
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
    for flow in cached[:FLOWS_SHOWN]:
        tunnel = f", tunnel {flow['tunnel']}" if flow.get("tunnel") else ""
        stale = ", overtaken by a change: being asked again" if flow.get("stale") else ""
        packets = f", {units.short(flow.get('packets'))} packets" if flow.get("packets") is not None else ""
        says = str(flow.get("action")) + (f" {flow['reason']}" if flow.get("reason") else "")
        idle = flow.get("idle_s")
        last = (
            ", last now"
            if idle is not None and idle < 2
            else f", last {units.duration(idle)} ago"
            if idle
            else ""
        )
        text = f"cached: {says}, revision {flow.get('revision')}{tunnel}{packets}{last}{stale}"
        lines.append(Text(printable(f"  {name}  {text}")))
        name = " " * NAME_WIDTH
    if len(cached) > FLOWS_SHOWN:
        lines.append(Text(f"  {name}  {units.count(len(cached) - FLOWS_SHOWN)} more"))
    return lines
