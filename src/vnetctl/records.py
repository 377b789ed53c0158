# SPDX-License-Identifier: Apache-2.0
"""`vnetctl NOUN add|set|remove|move`: one record at a time, owned by the operator."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from typing import Any

import click
from rich.text import Text

from directory_client.kinds.noun import Noun, Option
from vnetctl.documents import fail_unless_in_force, read_change, show_done, warning_lines
from vnetctl.errors import REFUSED, WRONG_INPUT, Failure
from vnetctl.session import Session, output_options, pass_session


def group_of(noun: Noun) -> click.Group:
    """Return the commands of a noun."""
    group = click.Group(
        noun.kind,
        help=noun.help,
        short_help=noun.short_help,
        epilog=f"\b\nExample:\n  {noun.example}",
    )
    group.add_command(_command(noun, "add", f"Add {article(noun.kind)}.", _add))
    if noun.options:
        group.add_command(
            _command(noun, "set", f"Change what is named of {article(noun.kind)}; the rest stays.", _set)
        )
    group.add_command(_remove(noun))
    if noun.kind == "endpoint":
        group.add_command(_move(noun))
    return group


def option_of(option: Option) -> Callable[[Any], Any]:
    """Return what makes an option of a field."""
    if option.form == "many":
        help = f"{option.help} (repeat, or separate by commas)"
        return click.option(option.flag, option.key, multiple=True, help=help)
    if option.form == "switch":
        flags = f"{option.flag}/--no-{option.flag.removeprefix('--')}"
        return click.option(flags, option.key, default=None, help=option.help)
    kind = int if option.form == "number" else None
    return click.option(option.flag, option.key, type=kind, help=option.help)


def values_of(noun: Noun, options: dict[str, Any]) -> dict[str, Any]:
    """Return the values that were given, named and typed as in topology.toml."""
    values: dict[str, Any] = {}
    for option in noun.options:
        value = options.get(option.key)
        if value is None or value == ():
            continue
        if option.form == "many":
            items = [item.strip() for entry in value for item in entry.split(",") if item.strip()]
            values[option.key] = [_typed(option, item) for item in items]
        else:
            values[option.key] = _typed(option, value)
    return values


def _typed(option: Option, value: Any) -> Any:
    return int(value) if option.digits and str(value).isdigit() else value


def existing(session: Session, noun: Noun, name: str) -> dict[str, Any] | None:
    """Return the record of that name, None if there is none."""
    vnet, local = name.split("/", 1) if noun.of_vnet else (None, name)
    try:
        rows = session.ask("show", noun=noun.plural, name=name, args={"vnet": vnet}).get("rows", [])
    except Failure as failure:  # who was not asked, or refused for another reason, has not said that
        if failure.code == REFUSED and failure.message.startswith("there is no "):
            return None
        raise
    return next((row for row in rows if row.get("name") in (name, local)), None)


def article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def check_name(noun: Noun, name: str) -> None:
    if noun.of_vnet and "/" not in name:
        raise Failure(
            f"{noun.kind} {name}: of which V-net?", f"vnetctl {noun.kind} … VNET/{name}", WRONG_INPUT
        )


def _command(noun: Noun, verb: str, help: str, action: Callable[..., None]) -> click.Command:
    @pass_session
    def run(session: Session, name: str, **options: Any) -> None:
        check_name(noun, name)
        action(session, noun, name, values_of(noun, options))

    command: Any = output_options(run)
    for option in reversed(noun.options):
        command = option_of(option)(command)
    command = click.argument("name", metavar="VNET/NAME" if noun.of_vnet else "NAME")(command)
    return click.command(
        verb, help=help, epilog=f"\b\nExample:\n  {noun.example}" if verb == "add" else None
    )(command)


def _add(session: Session, noun: Noun, name: str, values: dict[str, Any]) -> None:
    if existing(session, noun, name) is not None:
        fix = f"vnetctl {noun.kind} set {name} …    or vnetctl {noun.kind} remove {name}"
        raise Failure(f"{noun.kind} {name} is there already", fix)
    _write(session, "set", noun, name, {**noun.added_with, **values}, f"{noun.kind} {name} added")


def _set(session: Session, noun: Noun, name: str, values: dict[str, Any]) -> None:
    if not values:
        raise Failure("nothing to set was named", f"vnetctl {noun.kind} set --help", WRONG_INPUT)
    if existing(session, noun, name) is None:
        raise Failure(
            f"there is no {noun.kind} {name}",
            f"vnetctl show {noun.plural}    or vnetctl {noun.kind} add {name} …",
        )
    _write(session, "set", noun, name, values, f"{noun.kind} {name} changed")


def _remove(noun: Noun) -> click.Command:
    @click.command(
        "remove", help=f"Remove {article(noun.kind)}. What a document owns is removed from the document."
    )
    @click.argument("name", metavar="VNET/NAME" if noun.of_vnet else "NAME")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @output_options
    @pass_session
    def remove(session: Session, name: str, yes: bool) -> None:
        check_name(noun, name)
        confirm(session, f"removing {noun.kind} {name} cuts its connections", yes)
        _write(session, "remove", noun, name, {}, f"{noun.kind} {name} removed")

    return remove


def _move(noun: Noun) -> click.Command:
    @click.command("move", epilog="\b\nExample:\n  vnetctl endpoint move red/db-1 --node ber1-gw1")
    @click.argument("name", metavar="VNET/NAME")
    @click.option("--node", help="The node it is at now.")
    @click.option(
        "--place", multiple=True, metavar="NODE/PORT:VLAN", help="Its places now, the preferred one first."
    )
    @output_options
    @pass_session
    def move(session: Session, name: str, node: str | None, place: tuple[str, ...]) -> None:
        """Say that an endpoint is elsewhere now. Its connections go on: the old node relays for a while."""
        check_name(noun, name)
        if bool(node) == bool(place):
            raise Failure("move it where?", f"vnetctl endpoint move {name} --node NODE", WRONG_INPUT)
        before = existing(session, noun, name)
        if before is None:
            raise Failure(f"there is no endpoint {name}", "vnetctl show endpoints")
        # One of the two stands in the record; the other goes.
        values: dict[str, Any] = {"node": node, "at": []} if node else {"node": "", "at": list(place)}
        _write(session, "set", noun, name, values, f"endpoint {name} moved to {node or ', '.join(place)}")

    return move


def confirm(session: Session, sentence: str, yes: bool) -> None:
    """Ask on a terminal; in a script --yes has to be there."""
    if yes:
        return
    if not (session.is_terminal and sys.stdin.isatty()):
        raise Failure(sentence, "add --yes")
    if not click.confirm(f"{sentence}. Go on?"):
        raise Failure("nothing was changed", "")


def _write(session: Session, verb: str, noun: Noun, name: str, values: dict[str, Any], done: str) -> None:
    request: dict[str, Any] = {"noun": noun.kind, "name": name}
    args: dict[str, Any] = {"user": getpass.getuser()}
    if verb == "set":
        args["values"] = values
    answer = session.ask(verb, **request, args=args)
    if session.json:
        warned = {"warnings": answer["warnings"]} if answer.get("warnings") else {}
        session.show_json({"kind": noun.kind, "name": name, "revision": answer.get("revision"), **warned})
    elif answer.get("before") is not None and answer.get("before") == answer.get("revision"):
        show_done(session, answer)
    else:
        session.show_lines(
            [Text(f"{done}   revision {answer.get('revision')}"), *warning_lines(read_change(answer))]
        )
    fail_unless_in_force(read_change(answer))
