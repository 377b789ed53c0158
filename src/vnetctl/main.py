# SPDX-License-Identifier: Apache-2.0
"""vnetctl: look at gateways and their directory, and change what it says."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from directory_client.kinds.nouns import NOUNS
from vnetctl.errors import DONE, REFUSED, WRONG_INPUT, Failure, show_error
from vnetctl.session import DIRECTORY_OPTIONS, Session, output_options

EPILOG = """
\b
Start here:
  vnetctl show                              how is this gateway, what needs attention
  vnetctl explain red web-1 db-1 tcp 5432   how a connection travels, or why not
  vnetctl apply -f topology.toml --dry-run  what a document would change, and cut
  vnetctl show drops --last 5m              what is thrown away and why

\b
On a machine without a gateway: --directory tcp://HOST:PORT, and --at NODE for what is a gateway's.
Exit status: 0 done, 1 refused or failed, 2 the input is wrong, 3 who was asked did not answer (of --at all:
not everybody), 4 changes are pending, 5 a change is made, but not known to be in force everywhere.
"""


# The commands beside those of the nouns, and what the list of commands says of each: a command's module is
# loaded when it is called, so that nobody who asks for one waits for all.
COMMANDS = {
    "apply": ("vnetctl.documents", "Make the directory say what a document says."),
    "document": ("vnetctl.document", "Rename or remove a whole document."),
    "events": ("vnetctl.events", "Show what happened lately."),
    "explain": ("vnetctl.explain", "Explain how a connection travels, or why not."),
    "export": ("vnetctl.documents", "Print a document as it stands in the directory."),
    "history": ("vnetctl.documents", "Show who changed what and when, newest first."),
    "release": ("vnetctl.release", "Say that the machine of gateway NODE is off for good."),
    "reload": ("vnetctl.reload", "Have gateway.toml and directory.toml read again."),
    "rollback": ("vnetctl.documents", "Go back to REVISION."),
    "show": ("vnetctl.show", "Show NOUN, or how the gateway is."),
}

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Root(click.Group):
    """Finds commands by name and loads what is called. Ends every run with `error:`, `fix:` and the exit
    status that the outcome has."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *COMMANDS, *(noun.kind for noun in NOUNS)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            found: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
            return found
        noun = next((noun for noun in NOUNS if noun.kind == cmd_name), None)
        if noun is None:
            return super().get_command(ctx, cmd_name)
        records = importlib.import_module("vnetctl.records")
        group: click.Group = records.group_of(noun)
        return group

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, says) for name, (_, says) in COMMANDS.items()]
        rows += [(noun.kind, noun.short_help) for noun in NOUNS]
        rows += [(name, command.get_short_help_str(limit=80)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))

    def main(self, args: Any = None, **extra: Any) -> Any:  # type: ignore[override]
        if not extra.pop("standalone_mode", True):
            return super().main(args, standalone_mode=False, **extra)
        try:
            status = super().main(args, standalone_mode=False, **extra)
        except Failure as failure:
            show_error(failure.message, failure.fix)
            sys.exit(failure.code)
        except click.UsageError as error:
            if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # from click 8.2 on
                error.show()
                sys.exit(WRONG_INPUT)
            command = error.ctx.command_path if error.ctx else "vnetctl"
            show_error(error.format_message().rstrip("."), f"{command} --help")
            sys.exit(WRONG_INPUT)
        except click.ClickException as error:
            show_error(error.format_message())
            sys.exit(REFUSED)
        except (click.Abort, KeyboardInterrupt):
            click.echo(err=True)
            sys.exit(REFUSED)
        except BrokenPipeError:  # the reader (head, a pager) has seen enough
            sys.stderr.close()
            sys.exit(0)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            show_error(f"the output cannot be written: {error.strerror}", "df -h . /tmp")
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left is written again at the end
            sys.exit(REFUSED)
        session = extra.get("obj")
        status = status or (session.status if isinstance(session, Session) else DONE)
        sys.exit(status if isinstance(status, int) else DONE)


@click.group(cls=Root, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vnet-gateway", prog_name="vnetctl")
@output_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Look at gateways and their directory, and change what the directory says."""


for decorate in DIRECTORY_OPTIONS:
    decorate(cli)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes your shell complete vnetctl's commands.

    \b
    bash:  vnetctl completion bash > /etc/bash_completion.d/vnetctl
    zsh:   vnetctl completion zsh > ~/.zfunc/_vnetctl
    fish:  vnetctl completion fish > ~/.config/fish/completions/vnetctl.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, "vnetctl", "_VNETCTL_COMPLETE").source())


def main() -> None:
    """Run vnetctl."""
    cli.main(prog_name="vnetctl", obj=Session(), complete_var="_VNETCTL_COMPLETE")


if __name__ == "__main__":
    main()
