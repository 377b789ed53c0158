# SPDX-License-Identifier: Apache-2.0
"""`vnetctl NOUN add|set|remove|move`: one record at a time, owned by the operator."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from rich.text import Text

from vnetctl.documents import show_done
from vnetctl.errors import REFUSED, WRONG_INPUT, Failure
from vnetctl.session import Session, output_options, pass_session

Options = tuple[Callable[[Any], Any], ...]


@dataclass(frozen=True)
class Noun:
    """A kind of record: its options become its values, named as in topology.toml."""

    kind: str
    of_vnet: bool
    help: str
    example: str
    options: Options


def many(*names: str, key: str, help: str) -> Callable[[Any], Any]:
    """An option that may be repeated, or hold several values with commas."""
    return click.option(*names, key, multiple=True, help=f"{help} (repeat, or separate by commas)")


def number(*names: str, key: str, help: str) -> Callable[[Any], Any]:
    return click.option(*names, key, type=int, help=help)


def text(*names: str, key: str, help: str) -> Callable[[Any], Any]:
    return click.option(*names, key, help=help)


NOUNS = (
    Noun(
        "vnet",
        False,
        "V-nets: isolated virtual networks.",
        "vnetctl vnet add green --vni 7003 --prefix 10.1.0.0/24",
        (
            number("--vni", key="vni", help="Its number on the wire, 1 to 16777215"),
            many("--prefix", key="prefixes", help="A prefix of its addresses"),
            text("--min-trust", key="min_trust", help="Least trust of a path: internet, carrier or own"),
            text("--gateway-mac", key="gateway_mac", help="MAC of its gateway"),
            many("--gateway-address", key="gateway_addresses", help="An address of its gateway"),
            many(
                "--relay", key="relays", help="A node that may relay for it; recorded only, not carried yet"
            ),
            number("--stale-max", key="stale_max_s", help="Seconds that flows outlive a silent directory"),
        ),
    ),
    Noun(
        "endpoint",
        True,
        "Endpoints: members of a V-net, named VNET/NAME.",
        "vnetctl endpoint add red/web-3 --address 10.0.0.13 --mac 02:00:5e:00:00:13 --node ams1-gw1",
        (
            many("--address", key="addresses", help="An address of its own"),
            many("--service", key="services", help="An address that it shares with others"),
            text("--mac", key="mac", help="Its MAC"),
            text("--node", key="node", help="The node it is at, where that has one attachment of the V-net"),
            many("--place", key="at", help="NODE/PORT:VLAN, the preferred one first"),
            many("--group", key="groups", help="A group it is in"),
            number("--preference", key="preference", help="Of a shared address: the highest is taken [100]"),
        ),
    ),
    Noun(
        "route",
        True,
        "Routes: prefixes behind a node or an endpoint, named VNET/PREFIX.",
        "vnetctl route add red/192.168.0.0/16 --via acme-fw",
        (
            text("--via", key="via", help="The node or endpoint it is behind"),
            text("--router-mac", key="router_mac", help="MAC of the peer's router"),
            number("--id", key="id", help="The peer's number on the wire"),
        ),
    ),
    Noun(
        "rule",
        True,
        "Rules: who may talk to whom in a V-net, named VNET/NAME.",
        "vnetctl rule add red/ssh-from-web --from group:web --to group:db --proto tcp --port 22",
        (
            text("--action", key="action", help="allow (if not said) or deny"),
            text("--from", key="from", help="An endpoint, group:NAME, a prefix, or any"),
            text("--to", key="to", help="Likewise"),
            text("--proto", key="proto", help="tcp, udp, icmp, a number, or any"),
            many("--port", key="ports", help="A destination port or range: 443, 8000-8080"),
            text("--direction", key="direction", help="both or forward"),
            number(
                "--priority",
                key="priority",
                help="The highest is judged first; of equal ones deny before allow [100]",
            ),
        ),
    ),
    Noun(
        "node",
        False,
        "Nodes: gateways of ours, foreign VTEPs, VPN peers.",
        "vnetctl node add ber1-leaf7 --kind vtep --site ber1 --locator 203.0.113.7",
        (
            text("--kind", key="kind", help="gateway (if not said), vtep or vpn"),
            text("--site", key="site", help="Where it is"),
            many("--locator", key="locators", help="An underlay address; a gateway says its own"),
        ),
    ),
    Noun(
        "site",
        False,
        "Sites: where nodes are.",
        "vnetctl site add ber1",
        (text("--kind", key="kind", help="datacenter, enterprise or third-party"),),
    ),
    Noun(
        "path",
        False,
        "Paths: how two sites reach each other.",
        "vnetctl path add ams1-ber1 --site ams1 --site ber1 --trust carrier --mtu 9000 --profile fabric",
        (
            many("--site", key="sites", help="Two of them"),
            text("--trust", key="trust", help="internet, carrier or own"),
            number("--mtu", key="mtu_bytes", help="Bytes of the largest packet"),
            click.option("--nat/--no-nat", "nat", default=None, help="Addresses change on the way"),
            text("--profile", key="profile", help="Tunnel parameters"),
        ),
    ),
    Noun(
        "profile",
        False,
        "Profiles: reusable tunnel parameters.",
        "vnetctl profile add fabric --protocol vxlan --udp-port 4789 --ttl 64",
        (
            text("--protocol", key="protocol", help="vxlan"),
            number("--udp-port", key="udp_port", help="Destination port [4789]"),
            number("--mtu", key="mtu_bytes", help="Bytes; default is the path's"),
            number("--ttl", key="ttl", help="Of the outer header [64]"),
            text("--dscp", key="dscp", help="copy, or 0 to 63"),
        ),
    ),
    Noun(
        "attachment",
        True,
        "Attachments: where a V-net touches a port, named VNET/NODE/PORT:VLAN.",
        "vnetctl attachment add red/ams1-gw1/rack:101",
        (number("--mtu", key="mtu_bytes", help="Bytes; default is the port's"),),
    ),
    Noun(
        "peering",
        True,
        "Peerings: V-nets whose members are meant to talk to each other, named VNET/OTHER; one way each. "
        "Recorded only: this data plane carries no traffic between V-nets yet.",
        "vnetctl peering add red/blue",
        (),
    ),
)
DEFAULTS = {"rule": {"action": "allow"}, "node": {"kind": "gateway"}}
LISTS = frozenset(
    {
        "prefixes",
        "gateway_addresses",
        "relays",
        "addresses",
        "services",
        "at",
        "groups",
        "ports",
        "locators",
        "sites",
    }
)


def register(root: click.Group) -> None:
    """Add a group of commands for every noun."""
    for noun in NOUNS:
        root.add_command(group_of(noun))


def group_of(noun: Noun) -> click.Group:
    group = click.Group(
        noun.kind,
        help=noun.help,
        short_help=noun.help.split(":")[0] + ": add, set, remove.",
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


def values_of(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the values that were given, named and typed as in topology.toml."""
    values: dict[str, Any] = {}
    for key, value in options.items():
        if value is None or value == ():
            continue
        if key in LISTS:
            items = [item.strip() for entry in value for item in entry.split(",") if item.strip()]
            values[key] = [int(item) if key == "ports" and item.isdigit() else item for item in items]
        elif key == "dscp" and str(value).isdigit():
            values[key] = int(value)
        else:
            values[key] = value
    return values


def existing(session: Session, noun: Noun, name: str) -> dict[str, Any] | None:
    """Return the record of that name, None if there is none."""
    vnet, local = name.split("/", 1) if noun.of_vnet else (None, name)
    try:
        rows = session.ask("show", noun=noun.kind + "s", name=name, args={"vnet": vnet}).get("rows", [])
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
        action(session, noun, name, values_of(noun.kind, options))

    command: Any = output_options(run)
    for option in reversed((*noun.options,)):
        command = option(command)
    command = click.argument("name", metavar="VNET/NAME" if noun.of_vnet else "NAME")(command)
    return click.command(
        verb, help=help, epilog=f"\b\nExample:\n  {noun.example}" if verb == "add" else None
    )(command)


def _add(session: Session, noun: Noun, name: str, values: dict[str, Any]) -> None:
    if existing(session, noun, name) is not None:
        fix = f"vnetctl {noun.kind} set {name} …    or vnetctl {noun.kind} remove {name}"
        raise Failure(f"{noun.kind} {name} is there already", fix)
    _write(session, "set", noun, name, {**DEFAULTS.get(noun.kind, {}), **values}, f"{noun.kind} {name} added")


def _set(session: Session, noun: Noun, name: str, values: dict[str, Any]) -> None:
    if not values:
        raise Failure("nothing to set was named", f"vnetctl {noun.kind} set --help", WRONG_INPUT)
    if existing(session, noun, name) is None:
        raise Failure(
            f"there is no {noun.kind} {name}",
            f"vnetctl show {noun.kind}s    or vnetctl {noun.kind} add {name} …",
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
        session.show_json({"kind": noun.kind, "name": name, "revision": answer.get("revision")})
    elif answer.get("before") is not None and answer.get("before") == answer.get("revision"):
        show_done(session, answer)
    else:
        session.show_lines([Text(f"{done}   revision {answer.get('revision')}")])
