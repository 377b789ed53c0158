# SPDX-License-Identifier: Apache-2.0
"""`vnetctl apply`, `export`, `history`, `rollback`: documents, what they would change, and taking it back."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from vnetctl.client import SLOW_TIMEOUT_S, Answer
from vnetctl.errors import NOT_IN_FORCE, PENDING, WRONG_INPUT, Failure, printable
from vnetctl.rows import read_row
from vnetctl.screens import SCREENS
from vnetctl.session import Session, output_options, pass_session
from vnetctl.table import Layout
from vnetctl.transfer import fetch, said_of
from vnetctl.units import UNKNOWN, Units

if TYPE_CHECKING:
    from directory_client.wire.changes import ChangeAnswer, DroppedRow, GatewayRow, MoveRow

SIGN_STYLES = {"+": "green", "-": "red", "~": "yellow"}
EXAMPLES_SHOWN = 2


def complete_document(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    session = ctx.find_root().obj or Session()
    try:
        rows = session.ask("history", name=None, args={"limit": 1000}).get("rows", [])
    except Failure:
        return []
    return sorted(
        {str(row["document"]) for row in rows if str(row.get("document") or "").startswith(incomplete or "")}
        - {""}
    )


@click.command(
    epilog="""
\b
Examples:
  vnetctl apply -f topology.toml --dry-run        what would it change, and cut?
  vnetctl apply -f topology.toml --comment "close red"
  vnetctl apply -f berlin.toml --take-over red/db-1
  vnetctl apply -f topology.toml --dry-run --exit-code && echo nothing to do
"""
)
@click.option(
    "-f", "--file", "file", type=click.Path(), required=True, help="The document; - is standard input."
)
@click.option("--dry-run", is_flag=True, help="Only say what would change, also to connections in use.")
@click.option("--yes", is_flag=True, help="Do not ask, even if connections in use are cut.")
@click.option(
    "--take-over",
    multiple=True,
    metavar="NAME",
    help="Move what another document owns into this one; document:NAME is all that NAME owns of it.",
)
@click.option("-m", "--comment", default="", help="Why; stands in the history.")
@click.option("--exit-code", is_flag=True, help="With --dry-run: exit status 4 if changes are pending.")
@click.option("--all", "everything", is_flag=True, help="List every connection that would be dropped.")
@output_options
@pass_session
def apply(
    session: Session, file: str, dry_run: bool, yes: bool, exit_code: bool, everything: bool, **options: Any
) -> None:
    """Make the directory say what a document says.

    A document owns what it declares: applying it again changes what differs and removes what it no longer
    declares. What would cut connections in use is asked about first.
    """
    args = {
        **said_of(session, read(file)),
        "name": "standard input" if file == "-" else file,
        "take_over": list(options["take_over"]),
        "comment": options["comment"],
        "user": getpass.getuser(),
    }
    preview = session.ask("apply", SLOW_TIMEOUT_S, args={**args, "dry_run": True})
    told = read_change(preview)
    if dry_run:
        show_preview(session, preview, everything)
        if exit_code and told.diff:
            raise SystemExit(PENDING)
        return
    ask_before_cutting(session, preview, yes, everything)
    expected = expected_revision(preview)
    show_done(session, session.ask("apply", SLOW_TIMEOUT_S, args={**args, **expected, "dry_run": False}))


@click.command()
@click.argument("document", shell_complete=complete_document)
@output_options
@pass_session
def export(session: Session, document: str) -> None:
    """Print a document as it stands in the directory.

    What it prints can be applied again.
    """
    text = fetch(session, document)
    if session.json:
        session.show_json({"document": document, "text": text})
    else:
        click.echo(text, nl=False)


@click.command()
@click.argument("document", required=False, shell_complete=complete_document)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="The newest so many."
)
@output_options
@pass_session
def history(session: Session, document: str | None, limit: int) -> None:
    """Show who changed what and when, newest first."""
    answer = session.ask("history", name=document, args={"limit": limit})
    from directory_client.wire.changes import HistoryRow, plain

    rows = answer.get("rows", [])
    if not session.json:
        rows = [plain(read_row(row, HistoryRow)) for row in rows]
    session.show_rows(
        SCREENS["history"], rows, ["back to a revision: vnetctl rollback REVISION"] if rows else []
    )


@click.command()
@click.argument("revision", type=click.IntRange(0))
@click.option("--dry-run", is_flag=True, help="Only say what would change, also to connections in use.")
@click.option("--yes", is_flag=True, help="Do not ask, even if connections in use are cut.")
@click.option("--all", "everything", is_flag=True, help="List every connection that would be dropped.")
@output_options
@pass_session
def rollback(session: Session, revision: int, dry_run: bool, yes: bool, everything: bool) -> None:
    """Go back to REVISION.

    Documents and operators' changes become what they were then; that is a new revision itself.
    """
    args = {"revision": revision, "user": getpass.getuser()}
    preview = session.ask("rollback", SLOW_TIMEOUT_S, args={**args, "dry_run": True})
    if dry_run:
        show_preview(session, preview, everything)
        return
    ask_before_cutting(session, preview, yes, everything)
    expected = expected_revision(preview)
    show_done(session, session.ask("rollback", SLOW_TIMEOUT_S, args={**args, **expected, "dry_run": False}))


def expected_revision(preview: Answer) -> dict[str, Any]:
    """Return what keeps a change from being another than was previewed."""
    before = read_change(preview).before
    return {} if before is None else {"expect_revision": before}


def read(file: str) -> str:
    """Return a document's text. Raises Failure (2)."""
    # Imported here, so that help starts fast.
    from directory_client.wire.messages import DirectoryError
    from directory_client.wire.operator_requests import check_document_size

    try:
        data = sys.stdin.buffer.read() if file == "-" else open(file, "rb").read()  # noqa: SIM115
        text = data.decode("utf-8")
        check_document_size(text)
        return text
    except DirectoryError as error:
        raise Failure(f"{file}: {error.error}", error.fix, WRONG_INPUT) from error
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", "vnetctl apply -f topology.toml", WRONG_INPUT) from error
    except UnicodeDecodeError as error:
        raise Failure(f"{file}: byte {error.start} is not UTF-8", f"file {file}", WRONG_INPUT) from error


def read_change(answer: Answer) -> ChangeAnswer:
    """Return what a change or its dry run answers. Raises Failure."""
    from directory_client.wire.changes import ChangeAnswer

    return read_row(answer, ChangeAnswer)


def cut(answer: ChangeAnswer) -> tuple[int, bool]:
    """Return how many connections in use would be dropped, and whether that is all that is known."""
    flows = answer.flows
    if flows is None:
        return 0, False
    asked = bool(flows.gateways) or flows.concerned is False
    known = asked and not (flows.silent or flows.unseen or flows.unreadable)
    return flows.dropped if flows.connections is None else flows.connections, known


def ask_before_cutting(session: Session, preview: Answer, yes: bool, everything: bool) -> None:
    """Ask on a terminal, refuse in a script without --yes; nothing is asked where nothing is cut."""
    told = read_change(preview)
    dropped, known = cut(told)
    takes_away = any(entry.sign != "+" for entry in told.diff)
    if yes or not (dropped or (takes_away and not known)):
        return
    units = session.layout.units
    count = f"{units.count(dropped)} connection{'s' if dropped != 1 else ''} in use"
    sentence = f"{count} will be dropped"
    if not known:
        sentence = f"{count} or more will be dropped: not every gateway's flows are known"
    if not known and not dropped:
        sentence = "not every gateway's flows are known: connections in use may be dropped"
    if not (session.is_terminal and sys.stdin.isatty()):
        raise Failure(sentence, "look with --dry-run, then add --yes")
    show_preview(session, preview, everything)
    if not click.confirm(f"{sentence}. Go on?"):
        raise Failure("nothing was changed", "")


def show_preview(session: Session, answer: Answer, everything: bool) -> None:
    if session.json:
        session.show_json({key: value for key, value in answer.items() if key not in ("v", "id", "ok")})
        return
    told = read_change(answer)
    if not told.diff:
        session.show_lines([Text(f"{_subject(told)}   nothing to change at revision {told.before}")])
        return
    revisions = f"revision {told.before} → {_next(told)}"
    heading = f"{_subject(told)}   {revisions}   dry run, nothing is changed"
    lines = [
        Text(heading, style="bold"),
        Text(""),
        *diff_lines(told),
        *flow_lines(told, session.layout, everything),
    ]
    lines += warning_lines(told)
    session.show_lines(lines)


def show_done(session: Session, answer: Answer) -> None:
    if session.json:
        session.show_json({key: value for key, value in answer.items() if key not in ("v", "id", "ok")})
        fail_unless_in_force(read_change(answer))
        return
    told = read_change(answer)
    if not told.is_change:
        session.show_lines([Text(f"{_subject(told)}   nothing to change at revision {told.revision}")])
        return
    counts = f"{told.added} added, {told.changed} changed, {told.removed} removed"
    lines = [Text(f"{_subject(told)}   revision {told.revision}   {counts}", style="bold")]
    lines += warning_lines(told)
    if told.gateways:
        width = max(len(row.node) for row in told.gateways)
        lines.append(Text(""))
        lines += [Text(f"  {printable(row.node).ljust(width)}   {_arrived(row)}") for row in told.gateways]
    session.show_lines(lines)
    fail_unless_in_force(told)


def warning_lines(answer: ChangeAnswer) -> list[Text]:
    """Return what fits but may not be meant, or is not carried yet."""
    return [Text(f"warning: {printable(text)}") for text in answer.warnings]


def fail_unless_in_force(answer: ChangeAnswer) -> None:
    """End with status 5 if a gateway has not said that the change, which is made, is in force there."""
    missing = ("late", "silent", "no_room")
    names = [f"{row.node} ({row.state.replace('_', ' ')})" for row in answer.gateways if row.state in missing]
    if names and answer.is_change:
        raise Failure(
            f"the change is made, but not known to be in force at {', '.join(names)}",
            "vnetctl show nodes",
            NOT_IN_FORCE,
        )


def diff_lines(answer: ChangeAnswer) -> list[Text]:
    kinds = max((len(entry.kind) for entry in answer.diff), default=0)
    names = max((len(entry.name) for entry in answer.diff), default=0)
    lines = []
    for entry in answer.diff:
        line = Text("  ")
        line.append(entry.sign, style=SIGN_STYLES.get(entry.sign, ""))
        kind, name = printable(entry.kind), printable(entry.name)
        line.append(f" {kind.ljust(kinds)}  {name.ljust(names)}  {printable(entry.text)}".rstrip())
        lines.append(line)
    if answer.diff_more:
        lines.append(Text(f"  and {answer.diff_more} more"))
    return lines


def flow_lines(answer: ChangeAnswer, layout: Layout, everything: bool) -> list[Text]:
    """Return what becomes of the flows that gateways have cached."""
    flows = answer.flows
    if flows is not None and flows.concerned is False:
        return [Text(""), Text("no gateway has flows that this could concern")]
    if flows is None or not (flows.gateways or flows.silent):
        return [Text(""), Text("no gateway was asked for its cached flows")]
    units = layout.units
    vnets = f" of {', '.join(flows.vnets)}" if flows.vnets else ""
    plural = "s" if len(flows.gateways) != 1 else ""
    total = f"{units.count(flows.total)} flows{vnets} are cached on {len(flows.gateways)} gateway{plural}"
    counts = {
        "stay as they are": flows.same,
        "take another way": sum(move.count for move in flows.moved),
        "pass another gateway, or none": flows.left,
        "would be let through": flows.allowed,
        "are ARP answers and pairs, no connections": flows.aside,
        "would be dropped": flows.dropped,
    }
    width = max(len(units.count(count)) for count in counts.values())
    indent = " " * (width + 6)
    lines = [Text(""), Text(printable(total))]
    for text, count in counts.items():
        if not count and text != "stay as they are":
            continue
        reasons = ", ".join(flows.reasons) if text == "would be dropped" else ""
        style = "red" if text == "would be dropped" else ""
        lines.append(
            Text(
                printable(f"  {units.count(count).rjust(width)}  {text.ljust(20)} {reasons}".rstrip()),
                style=style,
            )
        )
        if text == "take another way":
            lines += [Text(printable(f"{indent}{move_text(move, units)}")) for move in flows.moved]
        if text == "would be dropped":
            shown = flows.dropped_rows if everything else flows.dropped_rows[:EXAMPLES_SHOWN]
            lines += [Text(f"{indent}{dropped_text(row)}") for row in shown]
            if len(shown) < count:
                lines.append(
                    Text(
                        f"{indent}{units.count(count - len(shown))} more"
                        + ("" if everything else "   (--all)")
                    )
                )
    if flows.silent:
        lines.append(
            Text(printable(f"  not known: the flows of {', '.join(flows.silent)}, which did not answer"))
        )
    if unseen := flows.unseen + flows.unreadable:
        lines.append(Text(f"  not looked at: {units.count(unseen)} more flows"))
    return lines


def move_text(move: MoveRow, units: Units) -> str:
    return f"{move.source or UNKNOWN} → {move.destination or UNKNOWN}   {units.count(move.count)}"


def dropped_text(row: DroppedRow) -> str:
    port = f" {row.destination_port}" if row.destination_port else ""
    protocol = f"  {row.protocol}{port}" if row.protocol else ""
    names = f"   {row.source_name} → {row.destination_name}" if row.source_name else ""
    connection = f"{row.source} → {row.destination}{protocol}{names}"
    return printable(f"{connection}   {row.reason or ''}   {row.node or ''}".rstrip())


def _subject(answer: ChangeAnswer) -> str:
    return f"document {printable(answer.document)}" if answer.document else "the directory"


def _next(answer: ChangeAnswer) -> int | None:
    before, revision = answer.before, answer.revision
    return before + 1 if before is not None and revision in (None, before) else revision


def _arrived(row: GatewayRow) -> str:
    if row.ms is not None:
        return f"{row.ms:.0f} ms"
    if row.state == "not_started":
        return "was never started: gets it with its first start"
    if row.state == "no_room":
        return f"not applied: {printable(row.why or 'no room')}"
    if row.state == "late" and row.workers:
        return f"{', '.join(map(printable, row.workers))}: not said yet that it is in force"
    return (
        "has not said yet that it is in force"
        if row.state == "late"
        else "is silent: gets it when it is back"
    )
