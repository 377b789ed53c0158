# SPDX-License-Identifier: Apache-2.0
"""`vnetctl show flows`: what is in the flow cache. Packets and bytes are estimates (one packet in 64 is
sampled). Rates take a second look after a second."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from directory_client.vocabulary.numbers import Action, KeyClass
from directory_client.vocabulary.reasons import find_reason
from gateway.state.job import DUMP_ROWS, Answer, AskDataPlane, Job, Refused, Steps, Wait
from gateway.state.state import Names, State, read_names

Row = dict[str, Any]

LIMIT_DEFAULT, LIMIT_MAX = 100, 100_000
RATES_S = 1.0
RATED_MAX = 100_000  # flows that a rate is worked out for: those with the most packets
PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 132: "sctp"}  # as the directory's rules name them
SORTS: dict[str, Callable[[Row], Any]] = {
    "rate": lambda row: -(row["packets_per_s"] or 0),
    "packets": lambda row: -(row["packets"] or 0),
    "bytes": lambda row: -(row["bytes"] or 0),
    "idle": lambda row: row["idle_s"] or 0,
    "revision": lambda row: -(row["revision"] or 0),
    "source": lambda row: _address_key(row["source"]),
    "destination": lambda row: _address_key(row["destination"]),
}


def show_flows(state: State, name: str | None, args: dict[str, Any]) -> Job:
    """Return flows, filtered by `vnet`, `vni`, `source`, `destination` (addresses, prefixes or MACs),
    `action`, `protocol`; sorted by `sort`; at most `limit`; `more` says how many were left out. `rates`:
    look twice and give packets_per_s."""
    if name is not None:
        raise Refused("flows have no names", "vnetctl show flows --source ADDRESS", 2)
    sort = args.get("sort") or "rate"
    if sort not in SORTS:
        raise Refused(f"cannot sort by {sort!r}", f"--sort {' | '.join(SORTS)}", 2)
    limit = args.get("limit", LIMIT_DEFAULT)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit <= LIMIT_MAX:
        raise Refused(f"limit {limit!r} is not between 1 and {LIMIT_MAX}", "--limit 100", 2)
    names = yield from read_names(state)
    vni = _vni(names, args)
    accept = _filter(args)
    before: dict[Any, int] = {}
    if args.get("rates") is True:
        earlier = yield from _scan(state, names, vni, accept, "packets", RATED_MAX)
        before = {flow_key(row): row["packets"] or 0 for row in earlier.rows}
        since_s = state.clock()
        yield Wait(RATES_S)
    scan = yield from _scan(
        state, names, vni, accept, sort if sort != "rate" else "packets", limit if not before else RATED_MAX
    )
    rows = scan.rows
    if before:
        span_s = max(state.clock() - since_s, 0.1)
        for row in rows:
            row["packets_per_s"] = max(0, (row["packets"] or 0) - before.get(flow_key(row), 0)) / span_s
        rows = sorted(rows, key=SORTS[sort])[:limit]
    return {
        "rows": rows,
        "more": scan.matched - len(rows),
        "total": scan.matched,
        "rates_s": RATES_S if before else None,
    }


@dataclass(frozen=True)
class Scan:
    """The first rows of a whole walk through the table, sorted, and how many matched in all."""

    rows: list[Row]
    matched: int


def _scan(
    state: State, names: Names, vni: int | None, accept: Callable[[Row], bool], sort: str, limit: int
) -> Steps:
    found: list[Row] = []
    matched = 0
    cursor: Any = 0
    while cursor is not None:
        question = {"dump": "flows", "cursor": cursor, "limit": DUMP_ROWS, "vni": vni}
        answer: Answer = yield AskDataPlane(question)
        for raw in answer.get("rows", ()):
            row = flow_row(state, raw, names)
            if accept(row):
                matched += 1
                found.append(row)
        if len(found) > limit + max(limit // 4, 4096):
            found = heapq.nsmallest(limit, found, key=SORTS[sort])
        cursor = answer.get("cursor")
    return Scan(heapq.nsmallest(limit, found, key=SORTS[sort]), matched)


def flow_key(row: Row) -> tuple[Any, ...]:
    columns = (
        "vni",
        "source",
        "source_port",
        "destination",
        "destination_port",
        "protocol",
        "class",
        "level",
        "ingress",
    )
    return tuple(row[column] for column in columns)


def flow_row(state: State, raw: Row, names: Names) -> Row:
    """Return a row of the data plane as a row of the screen: names beside numbers, rates."""
    protocol = raw.get("protocol")
    packets, nbytes = raw.get("packets"), raw.get("bytes")
    drop = raw.get("action") == "drop"
    return {
        "node": state.node,
        "vnet": names.vnet(raw.get("vni")),
        "vni": raw.get("vni"),
        "source": raw.get("source"),
        "source_port": raw.get("source_port") or None,
        "destination": raw.get("destination"),
        "destination_port": raw.get("destination_port") or None,
        "protocol": PROTOCOL_NAMES.get(protocol, protocol) if isinstance(protocol, int) else protocol,
        "class": raw.get("class"),
        "level": raw.get("level"),
        "action": raw.get("action"),
        "reason": raw.get("reason") if drop else None,
        "tunnel": raw.get("tunnel") or None,
        "revision": raw.get("revision"),
        "stale": bool(raw.get("stale")),
        "idle_s": raw.get("age_s"),
        "expires_in_s": raw.get("expires_in_s"),
        "packets": packets,
        "bytes": nbytes,
        "packets_per_s": None,
        "ingress": raw.get("ingress"),
        "source_object": raw.get("source_object"),
        "destination_object": raw.get("destination_object"),
    }


def _vni(names: Names, args: dict[str, Any]) -> int | None:
    vni, vnet = args.get("vni"), args.get("vnet")
    if vni is not None:
        if not isinstance(vni, int):
            raise Refused(f"vni {vni!r} is no number", "vnetctl show vnets", 2)
        return vni
    if vnet is None:
        return None
    for number, known in names.vnets.items():
        if known == vnet:
            return number
    if isinstance(vnet, str) and vnet.isdigit():
        return int(vnet)
    raise Refused(f"there is no V-net {vnet}", "vnetctl show vnets", 2)


def _check_word(column: str, wanted: str) -> None:
    """Raise Refused for a word that no flow could have."""
    if column == "reason":
        if find_reason(wanted) is None:
            raise Refused(f"{wanted!r:.60} is no drop reason", "vnetctl show drops", 2)
        return
    known = {
        "action": tuple(action.name.lower() for action in Action if action),
        "class": tuple(key_class.name.lower() for key_class in KeyClass if key_class),
        "protocol": tuple(PROTOCOL_NAMES.values()),
    }[column]
    if wanted in known or (column == "protocol" and wanted.isdecimal() and int(wanted) < 256):
        return
    raise Refused(f"{wanted!r:.60} is no {column} of a flow", f"one of: {' '.join(known)}", 2)


def _filter(args: dict[str, Any]) -> Callable[[Row], bool]:
    tests: list[Callable[[Row], bool]] = []
    for column in ("source", "destination"):
        wanted = args.get(column)
        if wanted is not None:
            tests.append(_address_test(column, str(wanted)))
    for column in ("action", "protocol", "reason", "class"):
        wanted = args.get(column)
        if wanted is not None:
            _check_word(column, str(wanted))
            tests.append(lambda row, column=column, wanted=str(wanted): str(row[column]) == wanted)  # type: ignore[misc]
    return lambda row: all(test(row) for test in tests)


def _address_test(column: str, wanted: str) -> Callable[[Row], bool]:
    if wanted.count(":") == 5 and len(wanted) == 17:
        return lambda row: str(row[column]).lower() == wanted.lower()
    try:
        network = ip_network(wanted, strict=False)
    except ValueError:
        raise Refused(
            f"{column} {wanted!r} is no address, prefix or MAC", f"--{column} 10.0.0.12", 2
        ) from None
    return lambda row: _inside(row[column], network)


def _inside(text: Any, network: IPv4Network | IPv6Network) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return address.version == network.version and address in network


def _address_key(text: Any) -> tuple[int, int, str]:
    try:
        address = ip_address(text)
    except ValueError:
        return (9, 0, str(text))
    return (address.version, int(address), "")
