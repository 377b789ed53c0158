# SPDX-License-Identifier: Apache-2.0
"""`vnetctl reload`: have a gateway, or a directory, read its file again."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from vnetctl.client import SLOW_TIMEOUT_S
from vnetctl.errors import REFUSED, printable
from vnetctl.screens import SCREENS
from vnetctl.session import Session, output_options, pass_session


@click.command(
    epilog="""
\b
Examples:
  vnetctl reload                                  gateway.toml; and directory.toml of an embedded directory
  vnetctl --directory tcp://HOST:PORT reload      a directory's own file
"""
)
@output_options
@pass_session
def reload(session: Session) -> None:
    """Have gateway.toml and directory.toml read again.

    Shows what has changed, what was taken, and what waits for a restart, with the command to type. A file
    that is wrong changes nothing. Nothing is restarted. (SIGHUP does the same, and writes it to the log.)
    """
    answer = session.ask("reload", SLOW_TIMEOUT_S)
    reloaded = answer.get("rows", [answer])
    rows = changes_of(reloaded)
    problems = [row for row in reloaded if row.get("problem")]
    files = list(dict.fromkeys(str(row.get("file")) for row in reloaded if row.get("file")))
    if rows or session.plain:
        session.show_rows(SCREENS["reload"], rows)
    elif not problems:
        same = f"{' and '.join(map(printable, files))}: nothing has changed" if files else NO_FILE
        session.show_lines([Text(same)])
    if not session.plain:
        session.show_lines([Text(line) for line in commands_of(reloaded)])
    for row in problems:
        click.echo(f"{printable(row.get('process'))}: {printable(row['problem'])}", err=True)
    if problems:
        raise SystemExit(REFUSED)


NO_FILE = "this directory has no file of its own: there is nothing to read again"


def changes_of(reloaded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each change, with all processes that took it, or wait with it, together."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in reloaded:
        for outcome in ("taken", "waiting"):
            for change in row.get(outcome) or ():
                key = (change.get("key"), change.get("before"), change.get("after"), outcome)
                one = found.setdefault(key, {**change, "outcome": outcome, "processes": []})
                one["processes"].append(row.get("process"))
    return [
        {**row, "outcome": "taken" if row["outcome"] == "taken" else "waits for a restart"}
        for row in found.values()
    ]


def commands_of(reloaded: list[dict[str, Any]]) -> list[str]:
    """Return what to type for what waits, one line for each process."""
    rows = [row for row in reloaded if row.get("command")]
    if not rows:
        return []
    width = max(len(str(row.get("process"))) for row in rows)
    return [
        "",
        "to restart what waits:",
        *(f"  {printable(row.get('process')):{width}}  {printable(row['command'])}" for row in rows),
    ]
