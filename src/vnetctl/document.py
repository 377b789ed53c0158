# SPDX-License-Identifier: Apache-2.0
"""`vnetctl document`: what is done to a whole document: another name, or its end."""

from __future__ import annotations

import getpass
import json
import re
from typing import Any

import click

from vnetctl.client import SLOW_TIMEOUT_S
from vnetctl.documents import (
    ask_before_cutting,
    complete_document,
    expected_revision,
    show_done,
    show_preview,
)
from vnetctl.errors import WRONG_INPUT, Failure
from vnetctl.session import Session, output_options, pass_session
from vnetctl.transfer import fetch, said_of

_NAME_LINE = re.compile(r'^document\s*=\s*"[^"\n]*"', re.M)


@click.group()
def document() -> None:
    """Rename or remove a whole document.

    To change what one says, export it, edit it and apply it.
    """


@document.command(
    epilog="""
\b
Examples:
  vnetctl document remove berlin --dry-run     what would be gone, and cut?
  vnetctl document remove berlin
"""
)
@click.argument("name", shell_complete=complete_document)
@click.option("--dry-run", is_flag=True, help="Only say what would change, also to connections in use.")
@click.option("--yes", is_flag=True, help="Do not ask, even if connections in use are cut.")
@click.option("-m", "--comment", default="", help="Why; stands in the history.")
@click.option("--all", "everything", is_flag=True, help="List every connection that would be dropped.")
@output_options
@pass_session
def remove(session: Session, name: str, **options: Any) -> None:
    """Remove everything that document NAME owns.

    It is taken back by rollback, as any change.
    """
    text = f"document = {json.dumps(name)}\n"
    _change(session, text, options, f"document {name} owns nothing", comment=options["comment"])


@document.command(
    epilog="""
\b
Example:
  vnetctl document rename berlin ber1
"""
)
@click.argument("name", shell_complete=complete_document)
@click.argument("new")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--yes", is_flag=True, help="Do not ask, even if connections in use are cut.")
@output_options
@pass_session
def rename(session: Session, name: str, new: str, **options: Any) -> None:
    """Give document NAME the name NEW.

    What it owns stays as it is, and is owned by NEW. Change its name in your file, too.
    """
    said = fetch(session, name)
    if _exists(session, new):
        raise Failure(f"there is a document {new} already", "choose another name", WRONG_INPUT)
    text, count = _NAME_LINE.subn(lambda _: f"document = {json.dumps(new)}", said, count=1)
    if not count:
        raise Failure(f"what document {name} says has no name in it", f"vnetctl export {name}")

    def is_same() -> bool:
        return fetch(session, name) == said

    comment = f"renamed from {name}"
    nothing = f"document {name} owns nothing"
    _change(session, text, options, nothing, comment, [f"document:{name}"], is_same)


def _exists(session: Session, name: str) -> bool:
    try:
        session.ask("export", name=name, args={"at": 0})
    except Failure as failure:
        if failure.code not in (1, 2):  # nobody answered
            raise
        return False
    return True


def _change(
    session: Session,
    text: str,
    options: dict[str, Any],
    nothing: str,
    comment: str = "",
    take_over: list[str] | None = None,
    is_same: Any = lambda: True,
) -> None:
    """Apply a text as `apply` does: looked at first, asked about, and only if nothing has changed since."""
    args = {
        **said_of(session, text),
        "name": "vnetctl document",
        "take_over": take_over or [],
        "comment": comment,
        "user": getpass.getuser(),
    }
    preview = session.ask("apply", SLOW_TIMEOUT_S, args={**args, "dry_run": True})
    if not preview.get("diff"):
        raise Failure(nothing, "vnetctl show documents", WRONG_INPUT)
    everything = bool(options.get("everything"))
    if options["dry_run"]:
        show_preview(session, preview, everything)
        return
    ask_before_cutting(session, preview, options["yes"], everything)
    if not is_same():
        raise Failure("somebody has changed the document meanwhile", "try again")
    expected = expected_revision(preview)
    show_done(session, session.ask("apply", SLOW_TIMEOUT_S, args={**args, **expected, "dry_run": False}))
