# SPDX-License-Identifier: Apache-2.0
"""Read what a directory sends into events; everything is checked, rows are views of the frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from directory_client.events import Resolved
from directory_client.subscriber import Push, SnapshotAnswer
from directory_client.wire.answers import Answer
from directory_client.wire.messages import (
    TOPIC,
    MalformedMessage,
    check_version,
    read,
    unpack,
)
from directory_client.wire.pushes import PushHead
from directory_client.wire.questions import SnapshotHead


def read_answer(frames: Sequence[Any]) -> Answer:
    """Read the head of whatever comes on the resolve and write sockets. Raises MalformedMessage.

    That our version is not spoken there is said in the same words in every version."""
    if not frames:
        raise MalformedMessage("a message without a head")
    head = read(frames[0], Answer, "answer")
    if head.ok is not False or head.why != "version":
        check_version(head.v, head.id)
    return head


def read_resolved(id: int, head: Answer, parts: Sequence[Any]) -> Resolved:
    """Read the answer to a resolve. Raises MalformedMessage."""
    from directory_client.wire import rows  # with numpy, which a tool that asks for no decisions never loads

    if len(parts) != 5:
        raise MalformedMessage(f"a resolve's answer with {len(parts)} parts, 5 are specified")
    if head.incarnation is None or head.revision is None:
        raise MalformedMessage("a resolve's answer without incarnation and revision")
    provenance = unpack(parts[4], "provenance")
    if not isinstance(provenance, list):
        raise MalformedMessage("provenance is not a list")
    return Resolved(
        id,
        head.incarnation,
        head.revision,
        rows.rows_of(parts[0], rows.DECISION, "decisions"),
        rows.rows_of(parts[1], rows.LOCATION, "locations"),
        rows.rows_of(parts[2], rows.TUNNEL, "tunnels"),
        rows.rows_of(parts[3], rows.SCOPE, "scopes"),
        provenance,
    )


def read_push(frames: Sequence[Any]) -> Push:
    """Read a message of the push socket. Raises MalformedMessage."""
    if len(frames) != 3 or len(frames[0]) != TOPIC.size:
        raise MalformedMessage("a push is [topic, head, operations]")
    node_id, vni = TOPIC.unpack(frames[0])
    head = read(frames[1], PushHead, "push")
    check_version(head.v)
    return Push(
        node_id,
        vni,
        head.seq,
        head.epoch,
        head.incarnation,
        head.revision,
        head.time_ms,
        _operations(unpack(frames[2], "operations")),
        head.facts or 0,
        head.sum or 0,
        head.last,
    )


def read_snapshot(head: SnapshotHead, parts: Sequence[Any]) -> SnapshotAnswer:
    """Read the answer to a snapshot: part 1 is the list of [VNI, operations]. Raises MalformedMessage."""
    if len(parts) != 1:
        raise MalformedMessage("a snapshot's answer has one part, the V-nets")
    if head.epoch is None or head.incarnation is None or head.revision is None:
        raise MalformedMessage("a snapshot's answer without epoch, incarnation and revision")
    return SnapshotAnswer(
        head.node_id,
        head.epoch,
        head.incarnation,
        head.revision,
        dict(head.seq),
        [(vni, _operations(operations)) for vni, operations in _vnets(parts[0])],
        head.facts or 0,
        head.closes,
    )


def is_overtaken(head: Answer, epoch: int, facts: int) -> bool:
    """Tell whether an answer was given before facts that pushes have told since. Servers that count none
    are believed, and so is another server than the one that pushes."""
    return head.epoch == epoch and head.facts is not None and head.facts < facts


def _vnets(part: Any) -> list[tuple[int, Any]]:
    value = unpack(part, "V-nets")
    if not isinstance(value, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], int) for pair in value
    ):
        raise MalformedMessage("V-nets is not a list of pairs")
    return [(vni, operations) for vni, operations in value]


def _operations(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(
        isinstance(item, dict) and isinstance(item.get("op"), str) for item in value
    ):
        raise MalformedMessage('operations are not a list of maps with "op"')
    return value
