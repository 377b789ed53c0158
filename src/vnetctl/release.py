# SPDX-License-Identifier: Apache-2.0
"""`vnetctl release`: an operator's word for a gateway that cannot speak for itself any more."""

from __future__ import annotations

import getpass

import click
from rich.text import Text

from vnetctl.records import confirm
from vnetctl.session import Session, output_options, pass_session


@click.command(epilog="\b\nExample:\n  vnetctl release ber1-gw1        its machine burned")
@click.argument("node")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_options
@pass_session
def release(session: Session, node: str, yes: bool) -> None:
    """Say that the machine of gateway NODE is off for good.

    A VNI, an id or a locator that was taken away is nobody else's until every gateway that knew it has
    reported that it is gone. One that is off never does. Only for a machine that forwards nothing any more:
    if it does, one tenant's packets may reach another.
    """
    confirm(session, f"if {node} still forwards anything, one tenant's packets may reach another", yes)
    answer = session.ask("release", name=node, args={"user": getpass.getuser()})
    if session.json:
        session.show_json({"node": node, "revision": answer.get("revision")})
    else:
        session.show_lines([Text(f"nothing waits for {node} any more   revision {answer.get('revision')}")])
