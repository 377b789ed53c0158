# SPDX-License-Identifier: Apache-2.0
"""`vnetctl explain`: how a connection travels, or why it does not, and who says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len
from rich.text import Text

from vnetctl.errors import WRONG_INPUT, Failure, printable
from vnetctl.rows import read_row
from vnetctl.session import Session, output_options, pass_session
from vnetctl.table import STATE_STYLES, Column, Layout
from vnetctl.units import UNKNOWN, Units

if TYPE_CHECKING:
    from directory_client.wire.reasons import Explanation, RecordRow

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
    # Imported here, so that help starts fast.
    from directory_client.wire.reasons import Explanation

    explained = [] if session.json else [read_row(row, Explanation) for row in rows]
    if session.plain:
        tsv = ({**row, "rule": one.rule} for row, one in zip(rows, explained, strict=False))
        session.show_rows(PLAIN, [*tsv] if session.tsv else rows)
        return
    lines: list[Text] = []
    for one in explained:
        lines += [*([Text("")] if lines else []), *explanation(one, args, session.layout)]
    session.show_lines(lines)
    session.show_silent()


def explanation(row: Explanation, args: dict[str, Any], layout: Layout) -> list[Text]:
    """Return the screen: the answer first, the reasons below it, what gateways have, what to type next."""
    units = layout.units
    action = row.action or UNKNOWN
    outcome = f"drop: {row.reason}" if action == "drop" and row.reason else action
    if action in ("encapsulate", "relay") and row.to_node:
        outcome = f"{action} to {row.to_node}"
    wanted = " ".join(str(args[key]) for key in ("protocol", "port") if args.get(key) is not None)
    head = Text(style="bold")
    head.append(printable(f"{row.vnet}   {row.source} → {row.destination}   "))
    head.append(f"{printable(wanted)}   " if wanted else "")
    head.append(printable(outcome), style=STATE_STYLES.get(action, "green"))
    lines = [head, Text("")]
    lines += aligned([_reason(entry) for entry in row.records])
    lines += _against(row, units)
    lines += _rules(row) + _back(row)
    lines += [*([Text("")] if lines[-1].plain else []), _decision(row, units)]
    lines += _cached(row, units)
    lines = [part for line in lines for part in wrapped(line, layout.width)]
    if row.reason == "no_rule":  # a command is copied: it stays one line
        lines += [Text(""), Text(f"to allow it:  {allowing(row, args)}")]
    return lines


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


def _rules(row: Explanation) -> list[Text]:
    """What the rules say of a pair whose packets are judged by their ports."""
    words = {"there": "", "back": "   on the way back only: answers", "both": "   both ways"}
    lines = []
    for number, rule in enumerate(row.rules or ()):
        title = ("" if number else "rules").ljust(NAME_WIDTH)
        lines.append(Text(printable(f"  {title}  {rule.name}  {rule.text}{words.get(rule.way, '')}")))
    if lines:
        lines.append(Text(printable(f"  {''.ljust(NAME_WIDTH)}  name protocol and port to see one decided")))
    return lines


def _back(row: Explanation) -> list[Text]:
    """What becomes of the answers."""
    back = row.back
    if not back:
        return []
    by = f" by {back.rule}" if back.rule else ""
    reason = f" {back.reason}" if back.reason else ""
    port = f" to port {back.port}" if back.port else ""
    text = f"{back.action}{reason}{port}{by}, asked by {back.node}"
    style = "red" if back.action == "drop" else ""
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


def _reason(entry: RecordRow) -> tuple[str, str, str, str]:
    """One record that led to the decision: what it is, its name, what it says, its revision."""
    revision = f"revision {entry.revision}" if entry.revision else ""
    name = entry.name if entry.kind == "route" else entry.name.rpartition("/")[2]
    text = entry.text + ("   matched on the way back" if entry.way == "back" else "")
    return printable(entry.role), printable(name), printable(text), revision


def _against(row: Explanation, units: Units) -> list[Text]:
    """What keeps it from being allowed: the sentence, the nearest rule, what allowed it before."""
    lines: list[Text] = []
    sentence = row.why or row.sentence
    if row.reason and sentence:
        lines.append(Text(printable(f"  {'because'.ljust(NAME_WIDTH)}  {sentence}")))
    if nearest := row.nearest:
        way = " on the way back" if nearest.way == "back" else ""
        text = f"{nearest.name}  {nearest.text}     differs{way} in: {', '.join(nearest.differs)}"
        lines.append(Text(printable(f"  {'nearest rule'.ljust(NAME_WIDTH)}  {text}")))
    if before := row.before:
        comment = f': "{before.comment}"' if before.comment else ""
        when = f"{units.clock(before.time)}, {before.user or 'somebody'}{comment}"
        text = f"{row.vnet}/{before.name} allowed it until revision {before.revision} ({when})"
        lines.append(Text(printable(f"  {'before'.ljust(NAME_WIDTH)}  {text}")))
    return lines


def allowing(row: Explanation, args: dict[str, Any]) -> str:
    """Return the command that would add a rule for just this connection."""
    protocol, port = args.get("protocol"), args.get("port")
    ends: dict[str, str] = {}
    for entry in row.records:
        # What is behind a route is no member: rules select it by its prefix. The route comes first.
        ends.setdefault(entry.role, entry.name if entry.kind == "route" else entry.name.rpartition("/")[2])
    source, destination = ends.get("source", args["source"]), ends.get("destination", args["destination"])
    name = "-".join(str(part) for part in ("allow", protocol, port) if part is not None)
    what = (f" --proto {protocol}" if protocol else "") + (f" --port {port}" if port is not None else "")
    return printable(f"vnetctl rule add {row.vnet}/{name} --from {source} --to {destination}{what}")


def _decision(row: Explanation, units: Units) -> Text:
    parts = [row.action or UNKNOWN, f"granularity {row.granularity or UNKNOWN}"]
    if row.lifetime_s is not None:
        parts.append(f"lifetime {row.lifetime_s:.0f} s")
    parts.append(f"at revision {row.revision}")
    if row.locator:
        parts.append(f"locator {row.locator}")
    return Text(printable(f"  {'decision'.ljust(NAME_WIDTH)}  {'   '.join(parts)}"))


def _cached(row: Explanation, units: Units) -> list[Text]:
    if not row.node:
        return []
    cached, name = row.cached, printable(row.node).ljust(NAME_WIDTH)
    if cached is None:
        return [Text(f"  {name}  its flow cache was not asked", style="dim")]
    if not cached:
        return [Text(f"  {name}  not cached: the next packet asks")]
    lines = []
    for flow in cached[:FLOWS_SHOWN]:
        tunnel = f", tunnel {flow.tunnel}" if flow.tunnel else ""
        stale = ", overtaken by a change: being asked again" if flow.stale else ""
        packets = f", {units.short(flow.packets)} packets" if flow.packets is not None else ""
        says = flow.action + (f" {flow.reason}" if flow.reason else "")
        idle = flow.idle_s
        last = (
            ", last now"
            if idle is not None and idle < 2
            else f", last {units.duration(idle)} ago"
            if idle
            else ""
        )
        text = f"cached: {says}, revision {flow.revision}{tunnel}{packets}{last}{stale}"
        lines.append(Text(printable(f"  {name}  {text}")))
        name = " " * NAME_WIDTH
    if len(cached) > FLOWS_SHOWN:
        lines.append(Text(f"  {name}  {units.count(len(cached) - FLOWS_SHOWN)} more"))
    return lines
