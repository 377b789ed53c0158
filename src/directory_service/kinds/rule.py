# SPDX-License-Identifier: Apache-2.0
"""Rules: who may talk to whom in a V-net."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from directory_client.kinds import rule
from directory_client.toml.strict_toml import Table
from directory_client.vocabulary.names import check_name, suggest
from directory_service.kinds.kind import Kind, Surroundings, Values, World
from directory_service.kinds.reading import read_list, without
from directory_service.kinds.records import Record
from directory_service.kinds.route import check_prefix
from directory_service.kinds.sections import Tables
from directory_service.kinds.together import Fault, Together

PROTO_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "sctp": 132}
WITH_PORTS = frozenset((6, 17, 132))
DEFAULT_PRIORITY = 100
DEFAULT_ANSWER_PORTS = "32768-65535"  # what clients choose: Linux 32768-60999, others 49152-65535
Ranges = tuple[tuple[int, int], ...]  # of ports, both ends included
ALL_PORTS: Ranges = ((0, 65535),)

_PORT_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})")
_NEEDS = {"stateful": "stateful rules", "security": "encryption", "rate_mbps": "rate limits"}


@dataclass(frozen=True, slots=True)
class Rule:
    record: Record
    id: int
    name: str
    allow: bool
    source: str
    destination: str
    protocol: int
    ports: Ranges
    both_directions: bool
    answer_ports: Ranges  # where the way back may lead to; of a deny all ports
    priority: int
    needs: str  # what the data plane would have to have: "stateful rules" …; empty: nothing special

    @property
    def refuses(self) -> bool:
        """Whether what it matches is dropped."""
        return not self.allow or bool(self.needs)

    @property
    def plain(self) -> bool:
        """Whether it looks at addresses only."""
        return not self.protocol


def to_rule(record: Record) -> Rule:
    values = record.values
    needs = [words for key, words in _NEEDS.items() if key in values]
    return Rule(
        record,
        record.id,
        record.local_name,
        values["action"] == "allow",
        values["from"],
        values["to"],
        proto_number(values.get("proto", "any")),
        tuple(port_range(item) for item in values.get("ports", ())),
        values.get("direction", "both") == "both",
        _answer_ports(values),
        values.get("priority", DEFAULT_PRIORITY),
        ", ".join(needs) if values["action"] == "allow" else "",
    )


def _answer_ports(values: Mapping[str, Any]) -> Ranges:
    if values["action"] != "allow":
        return ALL_PORTS
    found = tuple(port_range(item) for item in values.get("answer_ports", (DEFAULT_ANSWER_PORTS,)))
    return ALL_PORTS if (1, 65535) in found else found


def read_rule(table: Table) -> Values:
    """Read [vnet.NAME.rule.NAME]."""
    proto = table.string("proto", "any", check=_check_proto)
    number = proto_number(proto)
    ports = [_read_port(table, "ports", item) for item in read_list(table, "ports")]
    if ports and number not in WITH_PORTS:
        raise table.problem("ports", f"{proto} has no ports", 'proto = "tcp", "udp" or "sctp"')
    action = table.string("action", choices=("allow", "deny"))
    direction = table.string("direction", "both", ("both", "forward"))
    answers = [_read_port(table, "answer_ports", item) for item in read_list(table, "answer_ports")]
    if answers:
        if number and number not in WITH_PORTS:
            raise table.problem("answer_ports", f"{proto} has no ports", "remove answer_ports")
        if action == "deny" or direction == "forward":
            what = "a deny" if action == "deny" else 'direction = "forward"'
            raise table.problem("answer_ports", f"{what} lets no answers through", "remove answer_ports")
    return without(
        {
            "action": action,
            "from": table.string("from", check=check_selector),
            "to": table.string("to", check=check_selector),
            "proto": proto,
            "ports": ports,
            "direction": direction,
            "answer_ports": answers or [DEFAULT_ANSWER_PORTS],
            "priority": table.integer("priority", DEFAULT_PRIORITY, 0, 65535),
            "stateful": table.boolean("stateful", False),
            "security": table.string("security", "any", ("any", "encrypted")),
            "rate_mbps": table.integer("rate_mbps", 0, 1, 2**32 - 1),
        },
        proto="any",
        ports=[],
        direction="both",
        answer_ports=[DEFAULT_ANSWER_PORTS],
        priority=DEFAULT_PRIORITY,
        stateful=False,
        security="any",
        rate_mbps=0,
    )


def proto_number(proto: str) -> int:
    """Return the IP protocol number of tcp, udp …, of a number, and 0 for any."""
    if proto == "any":
        return 0
    return PROTO_NUMBERS[proto] if proto in PROTO_NUMBERS else int(proto)


def proto_name(number: int) -> str:
    """Return tcp, udp …, else the number."""
    for name, known in PROTO_NUMBERS.items():
        if known == number:
            return name
    return str(number) if number else "any"


def port_range(item: int | str) -> tuple[int, int]:
    """Return (low, high) of 443 or "8000-8080"."""
    if isinstance(item, int):
        return item, item
    low, _, high = item.partition("-")
    return int(low), int(high)


def check_selector(text: str) -> None:
    """Raise ValueError unless text is any, group:NAME, a prefix or an endpoint's name."""
    if text == "any":
        return
    if text.startswith("group:"):
        check_name(text.removeprefix("group:"))
    elif "/" in text:
        check_prefix(text)
    else:
        check_name(text)


def _check_proto(text: str) -> None:
    if text == "any" or text in PROTO_NUMBERS:
        return
    if not (text.isascii() and text.isdigit() and str(int(text)) == text and 1 <= int(text) <= 255):
        raise ValueError(f"{text!r} is none of any, {', '.join(PROTO_NUMBERS)} and no number from 1 to 255")
    if int(text) in PROTO_NUMBERS.values():
        raise ValueError(f'{text} is written "{proto_name(int(text))}"')


def _read_port(table: Table, key: str, item: Any) -> int | str:
    if isinstance(item, int) and not isinstance(item, bool) and 1 <= item <= 65535:
        return item
    match = _PORT_RANGE.fullmatch(item) if isinstance(item, str) else None
    if match and 1 <= int(match[1]) < int(match[2]) <= 65535:
        return f"{int(match[1])}-{int(match[2])}"
    raise table.problem(key, f"{item!r} is no port", f'{key} = [443, "8000-8080"]')


def _check(together: Together) -> Iterator[Fault]:
    for _, kinds in together.vnets():
        endpoints = {record.local_name for record in kinds.get("endpoint", ())}
        for record in kinds.get("rule", ()):
            values = record.values
            for side in ("from", "to"):
                selector = values[side]
                if selector == "any" or selector.startswith("group:") or "/" in selector:
                    continue
                if selector not in endpoints:
                    problem = f"{selector} is no endpoint of {record.vnet}"
                    fix = f"{suggest(selector, endpoints)}; a group is group:NAME"
                    yield Fault(record.key, side, problem, fix)


def _doubts(record: Record, vnet: Mapping[str, Any]) -> Iterator[str]:
    values = record.values
    for field, words in (("stateful", "stateful rules are"), ("rate_mbps", "rate limits are")):
        if values.get(field):
            yield f"rule {record.name}: {words} not carried yet: what it matches is dropped"
    if values.get("security") == "encrypted":
        yield f"rule {record.name}: encryption is not carried yet: what it matches is dropped"
    yield from _doubt_answers(record)


def _doubt_answers(record: Record) -> Iterator[str]:
    """Warn of a way back that leads to ports at which somebody may listen."""
    values = record.values
    least = port_range(DEFAULT_ANSWER_PORTS)[0]
    low = min((port_range(port)[0] for port in values.get("answer_ports", ())), default=least)
    opens_all = values["from"] == values["to"] and "ports" not in values  # without answers too
    if low < least and not opens_all:
        ports = ", ".join(str(port) for port in values["answer_ports"])
        opener, opened = values["to"], values["from"]
        yield f"rule {record.name}: answer_ports {ports} also lets {opener} open these ports of {opened}"


def _doubts_among(record: Record, around: Surroundings) -> Iterator[str]:
    values = record.values
    for side in ("from", "to"):
        group = values[side].removeprefix("group:")
        if group == values[side]:
            continue
        known = around.groups(record.vnet)
        if group not in known:
            yield f"rule {record.name}: nobody is in group {group}; {suggest(group, known)}"


def describe_rule(values: Mapping[str, Any]) -> str:
    """Return "allow  group:web → group:db  tcp 5432"."""
    text = f"{values['action']}  {values['from']} → {values['to']}"
    if "proto" in values:
        text += f"  {values['proto']}"
        if "ports" in values:
            text += " " + ", ".join(str(port) for port in values["ports"])
    if "direction" in values:
        text += f"  {values['direction']}"
    if "answer_ports" in values:
        text += "  answers to " + ", ".join(str(port) for port in values["answer_ports"])
    if "priority" in values:
        text += f"  priority {values['priority']}"
    return text


def _more(world: World, record: Record) -> Values:
    values = record.values
    return {"priority": values.get("priority", DEFAULT_PRIORITY), "text": describe_rule(values)}


RULE = Kind(
    rule.RULE,
    read_rule,
    Tables(),
    to_typed=to_rule,
    check=_check,
    doubts=_doubts,
    doubts_among=_doubts_among,
    describe=describe_rule,
    more=_more,
)
