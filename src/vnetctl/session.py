# SPDX-License-Identifier: Apache-2.0
"""One run of vnetctl: whom to ask and how to print. Options may stand before or after the command."""

from __future__ import annotations

import glob
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vnetctl.client import TIMEOUT_S, Answer, Client, DirectoryOnly, GatewayClient, refusal
from vnetctl.errors import DONE, SILENT, WRONG_INPUT, Failure, printable, show_error

if TYPE_CHECKING:  # what only output needs is loaded with the output: --help is there at once
    from rich.text import Text

    from vnetctl.table import Column, Layout, Row

RUNTIME_ROOT = "/run/vnet"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Session:
    """Filled by the options; `client` is made when it is first needed (tests put their own in)."""

    json: bool = False
    tsv: bool = False
    utc: bool = False
    at: str | None = None
    socket: str | None = None
    directory: str | None = None
    key_file: str | None = None
    directory_key: str | None = None
    client: Client | None = None
    terminal: bool | None = None
    width: int | None = None
    silent: list[str] = field(default_factory=list)
    status: int = DONE  # of a run that printed what it has, though somebody did not answer or refused

    @property
    def is_terminal(self) -> bool:
        if self.terminal is not None:
            return self.terminal
        return sys.stdout is not None and sys.stdout.isatty()  # None: it was closed before the start

    @property
    def layout(self) -> Layout:
        from vnetctl.table import Layout
        from vnetctl.units import Units

        terminal = self.is_terminal and not (self.json or self.tsv)
        width = (self.width or shutil.get_terminal_size().columns) if terminal else None
        return Layout(Units(terminal, self.utc), width)

    @property
    def plain(self) -> bool:
        """Whether the output is for a program."""
        return self.json or self.tsv

    def ask(self, verb: str, timeout_s: float = TIMEOUT_S, **request: Any) -> Answer:
        """Ask, at the node that --at names if any. Raises Failure."""
        full: dict[str, Any] = {"verb": verb, **request}
        if self.at is not None:
            full["at"] = self.at
        if self.client is None:
            self.client = self._connect()
        answer = self.client.ask(full, timeout_s)
        return answer if "answers" not in answer else self._gathered(answer)

    def _gathered(self, answer: Answer) -> Answer:
        """Make one answer of many gateways' answers. Those that did not answer stand in `silent`."""
        whole: Answer = {"rows": [], "ok": True}
        failures: list[Failure] = []
        for entry in answer.get("answers", ()):
            node, inner = entry.get("node"), entry.get("answer") or {}
            if not inner.get("ok", True):
                failures.append(refusal(inner))
                if self.at == "all":
                    show_error(f"{node}: {failures[-1].message}", failures[-1].fix)
                    self.status = failures[-1].code
                continue
            rows = [{"node": node, **row} if isinstance(row, dict) else row for row in inner.get("rows", ())]
            whole["rows"].extend(rows)
            for key, value in inner.items():
                if key in ("more", "total", "received") and isinstance(value, int):
                    whole[key] = whole.get(key, 0) + value
                else:
                    whole.setdefault(key, value)
        self.silent += [str(name) for name in answer.get("silent", ())]
        if not answer.get("answers"):
            if self.at == "all" and not self.silent:
                raise Failure(
                    "the directory knows no gateway yet", "vnetctl node add NAME --kind gateway", SILENT
                )
            names = ", ".join(self.silent) or str(self.at)
            raise Failure(f"{names} did not answer", "vnetctl show nodes", SILENT)
        if failures and len(failures) == len(answer["answers"]):
            raise failures[0]
        return whole

    def _connect(self) -> Client:
        if self.directory:
            return DirectoryOnly(self.directory.split(","), self.key_file, self.directory_key)
        if self.socket:
            return GatewayClient([Path(self.socket)])
        return GatewayClient(default_sockets())

    # -- printing

    def show_rows(
        self, columns: Sequence[Column], rows: Sequence[Row], below: Iterable[str | Text] = ()
    ) -> None:
        """Print rows as a table, as JSON or as TSV. Lines `below` are for people only."""
        from rich.text import Text

        from vnetctl.table import table, with_node

        if self.json:
            for row in rows:
                self.show_json(row)
        elif self.tsv:
            chosen = with_node(columns) if self.at == "all" else tuple(columns)
            for row in rows:
                click.echo("\t".join(column.raw(row) for column in chosen))
        else:
            chosen = with_node(columns) if self.at == "all" else tuple(columns)
            lines = table(chosen, rows, self.layout) if rows else [Text("none")]
            self.show_lines([*lines, *(line if isinstance(line, Text) else Text(line) for line in below)])
        self.show_silent()

    def show_silent(self) -> None:
        """Name those that did not answer, below everything else."""
        if self.silent:
            click.echo(f"did not answer: {', '.join(printable(name) for name in self.silent)}", err=True)
            self.silent = []
            self.status = SILENT

    def show_json(self, row: Any) -> None:
        import json

        click.echo(json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str))

    def show_lines(self, lines: Sequence[Text]) -> None:
        """Print lines; a list longer than the terminal goes to the pager."""
        if not self.is_terminal:
            for line in lines:
                click.echo(line.plain)
            return
        from rich.console import Console

        console = Console(highlight=False, markup=False, emoji=False, width=self.width, force_terminal=True)
        with console.capture() as capture:
            for line in lines:
                console.print(line, soft_wrap=True)
        if len(lines) >= shutil.get_terminal_size().lines and sys.stdout.isatty():
            os.environ.setdefault("LESS", "FRX")
            click.echo_via_pager(capture.get())
        else:
            click.echo(capture.get(), nl=False)


def default_sockets() -> list[Path]:
    """Return where a gateway of this machine is looked for: /run/vnet itself, else the only one below it.
    Of two sockets the one that may do everything first. Raises Failure where it would be a guess."""
    root = Path(RUNTIME_ROOT)
    homes = sorted({Path(found).parent for found in glob.glob(f"{RUNTIME_ROOT}/*/show.sock")})
    if (root / "show.sock").exists():
        homes = [root]
    if len(homes) > 1:
        names = ", ".join(home.name for home in homes)
        raise Failure(
            f"several gateways run here: {names}", f"vnetctl --socket {homes[0]}/gateway.sock …", WRONG_INPUT
        )
    home = homes[0] if homes else root
    return [home / "gateway.sock", home / "show.sock"]


def _set(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    session = ctx.find_root().obj
    if value in (None, False) or param.name is None or not isinstance(session, Session):
        return value
    name = param.name.removeprefix("option_")
    from_environment = ctx.get_parameter_source(param.name) == click.core.ParameterSource.ENVIRONMENT
    if not (from_environment and getattr(session, name)):  # what was typed stands
        setattr(session, name, value)
    return value


def output_options(command: F) -> F:
    """Add the options that every command takes."""
    for decorate in reversed(OPTIONS):
        command = decorate(command)
    return command


def _option(*names: str, name: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, f"option_{name}", expose_value=False, callback=_set, **settings)


OPTIONS: tuple[Callable[[Any], Any], ...] = (
    _option("--json", name="json", is_flag=True, help="One JSON object a line; units are in the keys."),
    _option("--tsv", name="tsv", is_flag=True, help="Tab-separated values without headings."),
    _option("--at", name="at", metavar="NODE|all", help="Ask this gateway (or all), through the directory."),
    _option(
        "--socket", name="socket", metavar="PATH", envvar="VNETCTL_SOCKET", help="A gateway's admin socket."
    ),
    _option("--utc", name="utc", is_flag=True, help="Times in UTC."),
)
DIRECTORY_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    _option(
        "--directory",
        name="directory",
        metavar="ENDPOINT[,…]",
        envvar="VNETCTL_DIRECTORY",
        help="Ask a directory instead of a gateway: tcp://HOST:PORT or ipc://PATH.",
    ),
    _option(
        "--key-file", name="key_file", envvar="VNETCTL_KEY_FILE", help="Your key, for a directory on TCP."
    ),
    _option(
        "--directory-key",
        name="directory_key",
        metavar="KEY[,…]",
        envvar="VNETCTL_DIRECTORY_KEY",
        help="Its public key; several: one of them.",
    ),
)

pass_session: Callable[[Callable[..., Any]], Callable[..., Any]] = click.make_pass_decorator(Session)
