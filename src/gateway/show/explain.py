# SPDX-License-Identifier: Apache-2.0
"""`vnetctl explain`: the directory's decision with its provenance, and what this gateway has cached of it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from directory_client.wire.operator_requests import message_of
from gateway.show.flows import PROTOCOL_NAMES, flow_row
from gateway.state.job import DUMP_ROWS, AskDataPlane, AskDirectory, Job, Refused, Steps, ask_directory
from gateway.state.state import State, read_names

PAGES_MAX = 4096  # of the flow table: two million flows


def explain(state: State, request: dict[str, Any]) -> Job:
    """Return the directory's answer with `cached` added: the flows, of the gateway that decides, that carry
    the connection. That is the source's gateway, unless another is named."""
    args = request.get("args") or {}
    answer = yield ask_directory(message_of(request))
    decides = answer.get("node")
    if args.get("node") is None and isinstance(decides, str) and decides != state.node:
        there = yield from _ask_there(decides, {**request, "args": {**args, "node": decides}})
        if there is not None:
            return {"rows": there}
    protocol, port, revision = args.get("protocol") or "", args.get("port"), args.get("revision")
    explained = {key: value for key, value in answer.items() if key not in ("v", "id", "ok")}
    cached: list[dict[str, Any]] | None = None
    if revision is None and decides == state.node and state.greeting is not None:
        try:
            cached = yield from _cached(state, explained, protocol, port)
        except Refused:
            cached = None
    return {"rows": [{"node": state.node, **explained, "cached": cached}]}


def _ask_there(node: str, request: dict[str, Any]) -> Steps:
    """Have another gateway explain; None if it cannot be asked: then the directory's answer has to do."""
    inner = {key: value for key, value in request.items() if key not in ("at", "id")}
    try:
        answer = yield AskDirectory("forward", {"node": node, "request": inner}, 5.0)
    except Refused:
        return None
    for one in answer.get("answers", ()):
        told = one.get("answer") or {}
        if told.get("ok") and isinstance(told.get("rows"), list):
            return told["rows"]
    return None


def _cached(state: State, explained: dict[str, Any], protocol: str, port: int | None) -> Steps:
    source, destination = _address(explained.get("source")), _address(explained.get("destination"))
    if source is None or destination is None:
        return []
    names = yield from read_names(state)
    vni = explained.get("vni") or next(
        (n for n, name in names.vnets.items() if name == explained.get("vnet")), None
    )
    found: list[dict[str, Any]] = []
    cursor: Any = 0
    for _ in range(PAGES_MAX):
        answer = yield AskDataPlane({"dump": "flows", "cursor": cursor, "limit": DUMP_ROWS, "vni": vni})
        for raw in answer.get("rows", ()):
            if (
                raw.get("class") != "neighbor"  # an ARP question is no part of a connection
                and raw.get("source") == source
                and raw.get("destination") == destination
                and _carries(raw, protocol, port)
            ):
                found.append(flow_row(state, raw, names))
        cursor = answer.get("cursor")
        if cursor is None:
            break
    # The pair's entry may only say "narrow": then the connection's entries say what happens.
    acting = [row for row in found if row["action"] != "narrow"]
    return acting or found


def _carries(raw: dict[str, Any], protocol: str, port: int | None) -> bool:
    if raw.get("level") != "connection":
        return True
    number = raw.get("protocol")
    name = PROTOCOL_NAMES.get(number, str(number)) if isinstance(number, int) else str(number)
    return (not protocol or name == protocol) and (port is None or raw.get("destination_port") == port)


def _address(value: Any) -> str | None:
    """Take the address out of what the directory says of an end: text or a map with `address`."""
    if isinstance(value, dict):
        value = value.get("address")
    try:
        return str(ip_address(value))
    except ValueError:
        return None
