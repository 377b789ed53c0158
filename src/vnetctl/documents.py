# SPDX-License-Identifier: Apache-2.0
"""`vnetctl apply`, `export`, `history`, `rollback`: documents, what they would change, and taking it back."""

from __future__ import annotations

import getpass
import sys
from typing import Any

import click
from rich.text import Text

from vnetctl.client import SLOW_TIMEOUT_S, Answer
from vnetctl.errors import NOT_IN_FORCE, PENDING, WRONG_INPUT, Failure, printable
from vnetctl.screens import SCREENS
from vnetctl.session import Session, output_options, pass_session
from vnetctl.table import Layout
from vnetctl.transfer import fetch, said_of
from vnetctl.units import UNKNOWN, Units

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
    if dry_run:
        show_preview(session, preview, everything)
        if exit_code and preview.get("diff"):
            raise SystemExit(PENDING)
        return
    ask_before_cutting(session, preview, yes, everything)
    expected = {"expect_revision": preview["before"]} if "before" in preview else {}
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
    rows = [{**row, "time": seconds(row.get("time"))} for row in answer.get("rows", [])]
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
    show_done(session, session.ask("rollback", SLOW_TIMEOUT_S, args={**args, "dry_run": False}))


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


def seconds(time: Any) -> float | None:
    """Take seconds or milliseconds since 1970 as seconds."""
    if not isinstance(time, (int, float)):
        return None
    return time / 1000 if time > 1e11 else float(time)


def cut(answer: Answer) -> tuple[int, bool]:
    """Return how many connections in use would be dropped, and whether that is all that is known."""
    flows = answer.get("flows") or {}
    asked = bool(flows.get("gateways")) or flows.get("concerned") is False
    known = asked and not any(flows.get(key) for key in ("silent", "unseen", "unreadable"))
    return int(flows.get("connections", flows.get("dropped")) or 0), known


def ask_before_cutting(session: Session, preview: Answer, yes: bool, everything: bool) -> None:
    """Ask on a terminal, refuse in a script without --yes; nothing is asked where nothing is cut."""
    dropped, known = cut(preview)
    takes_away = any(entry.get("sign") != "+" for entry in preview.get("diff") or ())
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
    layout = session.layout
    if not answer.get("diff"):
        session.show_lines(
            [Text(f"{_subject(answer)}   nothing to change at revision {answer.get('before')}")]
        )
        return
    revisions = f"revision {answer.get('before')} → {_next(answer)}"
    heading = f"{_subject(answer)}   {revisions}   dry run, nothing is changed"
    lines = [
        Text(heading, style="bold"),
        Text(""),
        *diff_lines(answer),
        *flow_lines(answer, layout, everything),
    ]
    lines += warning_lines(answer)
    session.show_lines(lines)


def show_done(session: Session, answer: Answer) -> None:
    if session.json:
        session.show_json({key: value for key, value in answer.items() if key not in ("v", "id", "ok")})
        fail_unless_in_force(answer)
        return
    if answer.get("revision") == answer.get("before"):
        session.show_lines(
            [Text(f"{_subject(answer)}   nothing to change at revision {answer.get('revision')}")]
        )
        return
    counts = ", ".join(f"{answer.get(what, 0)} {what}" for what in ("added", "changed", "removed"))
    lines = [Text(f"{_subject(answer)}   revision {answer.get('revision')}   {counts}", style="bold")]
    lines += warning_lines(answer)
    gateways = [row for row in answer.get("gateways") or () if isinstance(row, dict)]
    if gateways:
        width = max(len(str(row.get("node"))) for row in gateways)
        lines.append(Text(""))
        lines += [Text(f"  {str(row.get('node')).ljust(width)}   {_arrived(row)}") for row in gateways]
    session.show_lines(lines)
    fail_unless_in_force(answer)


def warning_lines(answer: Answer) -> list[Text]:
    """Return what fits but may not be meant, or is not carried yet."""
    return [Text(f"warning: {printable(text)}") for text in answer.get("warnings") or ()]


def fail_unless_in_force(answer: Answer) -> None:
    """End with status 5 if a gateway has not said that the change, which is made, is in force there."""
    rows = [row for row in answer.get("gateways") or () if isinstance(row, dict)]
    missing = ("late", "silent", "no_room")
    names = [
        f"{row.get('node')} ({row['state'].replace('_', ' ')})" for row in rows if row.get("state") in missing
    ]
    if names and answer.get("revision") != answer.get("before"):
        raise Failure(
            f"the change is made, but not known to be in force at {', '.join(names)}",
            "vnetctl show nodes",
            NOT_IN_FORCE,
        )


def diff_lines(answer: Answer) -> list[Text]:
    entries = answer.get("diff") or []
    kinds = max((len(str(entry.get("kind"))) for entry in entries), default=0)
    names = max((len(str(entry.get("name"))) for entry in entries), default=0)
    lines = []
    for entry in entries:
        sign = str(entry.get("sign"))
        line = Text("  ")
        line.append(sign, style=SIGN_STYLES.get(sign, ""))
        kind, name = printable(entry.get("kind")), printable(entry.get("name"))
        line.append(
            f" {kind.ljust(kinds)}  {name.ljust(names)}  {printable(entry.get('text') or '')}".rstrip()
        )
        lines.append(line)
    if more := answer.get("diff_more"):
        lines.append(Text(f"  and {more} more"))
    return lines


def flow_lines(answer: Answer, layout: Layout, everything: bool) -> list[Text]:
    """Return what becomes of the flows that gateways have cached."""
    flows = answer.get("flows")
    if flows and flows.get("concerned") is False:
        return [Text(""), Text("no gateway has flows that this could concern")]
    if not flows or not (flows.get("gateways") or flows.get("silent")):
        return [Text(""), Text("no gateway was asked for its cached flows")]
    units = layout.units
    gateways = flows.get("gateways") or []
    vnets = f" of {', '.join(flows['vnets'])}" if flows.get("vnets") else ""
    plural = "s" if len(gateways) != 1 else ""
    total = (
        f"{units.count(flows.get('total') or 0)} flows{vnets} are cached on {len(gateways)} gateway{plural}"
    )
    moves = [move for move in flows.get("moved") or () if isinstance(move, dict)]
    counts = {
        "stay as they are": flows.get("same") or 0,
        "take another way": sum(move.get("count") or 0 for move in moves),
        "pass another gateway, or none": flows.get("left") or 0,
        "would be let through": flows.get("allowed") or 0,
        "are ARP answers and pairs, no connections": flows.get("aside") or 0,
        "would be dropped": flows.get("dropped") or 0,
    }
    width = max(len(units.count(count)) for count in counts.values())
    indent = " " * (width + 6)
    lines = [Text(""), Text(printable(total))]
    for text, count in counts.items():
        if not count and text != "stay as they are":
            continue
        reasons = ", ".join(flows.get("reasons") or ()) if text == "would be dropped" else ""
        style = "red" if text == "would be dropped" else ""
        lines.append(
            Text(
                printable(f"  {units.count(count).rjust(width)}  {text.ljust(20)} {reasons}".rstrip()),
                style=style,
            )
        )
        if text == "take another way":
            lines += [Text(printable(f"{indent}{move_text(move, units)}")) for move in moves]
        if text == "would be dropped":
            dropped = flows.get("dropped_rows") or []
            shown = dropped if everything else dropped[:EXAMPLES_SHOWN]
            lines += [Text(f"{indent}{dropped_text(row)}") for row in shown]
            if len(shown) < count:
                lines.append(
                    Text(
                        f"{indent}{units.count(count - len(shown))} more"
                        + ("" if everything else "   (--all)")
                    )
                )
    if flows.get("silent"):
        lines.append(
            Text(printable(f"  not known: the flows of {', '.join(flows['silent'])}, which did not answer"))
        )
    if flows.get("unseen") or flows.get("unreadable"):
        unseen = (flows.get("unseen") or 0) + (flows.get("unreadable") or 0)
        lines.append(Text(f"  not looked at: {units.count(unseen)} more flows"))
    return lines


def move_text(move: dict[str, Any], units: Units) -> str:
    return f"{move.get('from') or UNKNOWN} → {move.get('to') or UNKNOWN}   {units.count(move.get('count'))}"


def dropped_text(row: dict[str, Any]) -> str:
    port = f" {row['destination_port']}" if row.get("destination_port") else ""
    protocol = f"  {row['protocol']}{port}" if row.get("protocol") else ""
    names = f"   {row['source_name']} → {row['destination_name']}" if row.get("source_name") else ""
    connection = f"{row.get('source')} → {row.get('destination')}{protocol}{names}"
    return printable(f"{connection}   {row.get('reason') or ''}   {row.get('node') or ''}".rstrip())


def _subject(answer: Answer) -> str:
    return f"document {printable(answer['document'])}" if answer.get("document") else "the directory"


def _next(answer: Answer) -> Any:
    before, revision = answer.get("before"), answer.get("revision")
    return before + 1 if isinstance(before, int) and revision in (None, before) else revision


def _arrived(row: dict[str, Any]) -> str:
    if row.get("ms") is not None:
        return f"{row['ms']:.0f} ms"
    state = row.get("state")
    if state == "not_started":
        return "was never started: gets it with its first start"
    if state == "no_room":
        return f"not applied: {printable(row.get('why') or 'no room')}"
    if state == "late" and row.get("workers"):
        return f"{', '.join(map(printable, row['workers']))}: not said yet that it is in force"
    return "has not said yet that it is in force" if state == "late" else "is silent: gets it when it is back"
