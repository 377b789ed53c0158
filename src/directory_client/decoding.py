# SPDX-License-Identifier: Apache-2.0
"""Read what a directory sends into events; everything is checked, rows are views of the frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from directory_client.events import Resolved
from directory_client.subscriber import Push, SnapshotAnswer
from directory_client.wire import rows
from directory_client.wire.messages import TOPIC, MalformedMessage, decode, field, rows_of, unpack

_U64 = 1 << 64


def read_resolved(id: int, head: dict[str, Any], parts: Sequence[Any]) -> Resolved:
    """Read the answer to a resolve. Raises MalformedMessage."""
    if len(parts) != 5:
        raise MalformedMessage(f"a resolve's answer with {len(parts)} parts, 5 are specified")
    provenance = unpack(parts[4], "provenance")
    if not isinstance(provenance, list):
        raise MalformedMessage("provenance is not a list")
    return Resolved(
        id,
        _number(head, "incarnation"),
        _number(head, "revision"),
        rows_of(parts[0], rows.DECISION, "decisions"),
        rows_of(parts[1], rows.LOCATION, "locations"),
        rows_of(parts[2], rows.TUNNEL, "tunnels"),
        rows_of(parts[3], rows.SCOPE, "scopes"),
        provenance,
    )


def read_push(frames: Sequence[Any]) -> Push:
    """Read a message of the push socket. Raises MalformedMessage."""
    if len(frames) != 3 or len(frames[0]) != TOPIC.size:
        raise MalformedMessage("a push is [topic, head, operations]")
    node_id, vni = TOPIC.unpack(frames[0])
    head, parts = decode(frames[1:])
    operations = _operations(unpack(parts[0], "operations"))
    return Push(
        node_id,
        vni,
        _number(head, "seq"),
        _number(head, "epoch"),
        _number(head, "incarnation"),
        _number(head, "revision"),
        _number(head, "time_ms"),
        operations,
        _facts(head),
        _number(head, "sum") if "sum" in head else 0,
        head.get("last") is not False,
    )


def read_snapshot(head: dict[str, Any], parts: Sequence[Any]) -> SnapshotAnswer:
    """Read the answer to a snapshot: part 1 is the list of [VNI, operations]. Raises MalformedMessage."""
    if len(parts) != 1:
        raise MalformedMessage("a snapshot's answer has one part, the V-nets")
    seq: dict[int, int] = {}
    for vni, number in _pairs(field(head, "seq", list), "seq"):
        if not isinstance(number, int):
            raise MalformedMessage("seq is not a list of [VNI, number]")
        seq[vni] = number
    vnets = [(vni, _operations(ops)) for vni, ops in _pairs(unpack(parts[0], "V-nets"), "V-nets")]
    return SnapshotAnswer(
        _number(head, "node_id"),
        _number(head, "epoch"),
        _number(head, "incarnation"),
        _number(head, "revision"),
        seq,
        vnets,
        _facts(head),
        head.get("closes") is True,
    )


def is_overtaken(head: dict[str, Any], epoch: int, facts: int) -> bool:
    """Tell whether an answer was given before facts that pushes have told since. Servers that count none
    are believed, and so is another server than the one that pushes."""
    return head.get("epoch") == epoch and isinstance(head.get("facts"), int) and head["facts"] < facts


def _facts(head: dict[str, Any]) -> int:
    return _number(head, "facts") if "facts" in head else 0


def _number(head: dict[str, Any], name: str) -> int:
    value = field(head, name, int)
    if not 0 <= value < _U64:
        raise MalformedMessage(f"{name} is not between 0 and 2^64")
    return int(value)


def _pairs(value: Any, what: str) -> list[tuple[int, Any]]:
    if not isinstance(value, list):
        raise MalformedMessage(f"{what} is not a list")
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], int)):
            raise MalformedMessage(f"{what} is not a list of pairs")
    return [(pair[0], pair[1]) for pair in value]


def _operations(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(
        isinstance(item, dict) and isinstance(item.get("op"), str) for item in value
    ):
        raise MalformedMessage('operations are not a list of maps with "op"')
    return value
