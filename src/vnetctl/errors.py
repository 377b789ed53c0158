# SPDX-License-Identifier: Apache-2.0
"""How vnetctl fails: `error:` what is wrong and where, `fix:` what to type, both on standard error.

Exit status: 0 done; 1 refused or failed; 2 the input is wrong; 3 who was asked did not answer (of
`--at all`: not everybody); 4 changes are pending (only
with --exit-code); 5 a change was made but is not known to be in force at every gateway.
"""

from __future__ import annotations

import click

DONE, REFUSED, WRONG_INPUT, SILENT, PENDING, NOT_IN_FORCE = 0, 1, 2, 3, 4, 5


class Failure(click.ClickException):
    """An end that is no success. `fix` may be empty."""

    def __init__(self, error: str, fix: str = "", code: int = REFUSED) -> None:
        super().__init__(error)
        self.fix = fix
        self.code = code


def show_error(error: str, fix: str = "") -> None:
    """Print the two lines. Text that came from elsewhere cannot move the cursor."""
    click.echo(click.style("error:", fg="red") + f" {printable(error)}", err=True)
    if fix:
        click.echo(f"fix:   {printable(fix)}", err=True)


def printable(text: object) -> str:
    """Return text without control characters; line ends and our thin spaces stay."""
    return "".join(c if c.isprintable() or c in "\n\u2009" else "�" for c in str(text))
