# SPDX-License-Identifier: Apache-2.0
"""`vnetctl events`: what happened at a gateway lately, and what happens now."""

from __future__ import annotations

import time

import click

from vnetctl.errors import Failure, show_error
from vnetctl.screens import SCREENS
from vnetctl.session import Session, output_options, pass_session

WAIT_MS = 5000
RETRY_S = 1.0


@click.command(
    epilog="""
\b
Examples:
  vnetctl events
  vnetctl events --limit 100 --json
  vnetctl events --follow
"""
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now, until Ctrl-C.")
@click.option(
    "--limit", type=click.IntRange(1, 4096), default=40, show_default=True, help="The newest so many."
)
@output_options
@pass_session
def events(session: Session, follow: bool, limit: int) -> None:
    """Show what happened lately.

    Processes, tunnels, directories, tables, endpoints, documents.
    """
    answer = session.ask("events", args={"after": 0, "wait_ms": 0})
    rows = answer.get("rows", [])
    session.show_rows(SCREENS["events"], rows[-limit:])
    if not follow:
        return
    after = max((row.get("seq", 0) for row in rows), default=0)
    lost = False
    while True:
        try:
            answer = session.ask("events", args={"after": after, "wait_ms": WAIT_MS})
        except Failure as failure:
            if not lost:  # control is restarted now and then; that is no reason to stop looking
                show_error(failure.message, "waiting for it to come back")
            lost = True
            time.sleep(RETRY_S)
            continue
        lost = False
        for row in answer.get("rows", []):
            if session.json:
                session.show_json(row)
            elif session.tsv:
                click.echo("\t".join(column.raw(row) for column in SCREENS["events"]))
            else:
                click.echo("  ".join(column.cell(row, session.layout.units) for column in SCREENS["events"]))
            after = row.get("seq", after)
