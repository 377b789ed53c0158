# SPDX-License-Identifier: Apache-2.0
"""Answering an admin request takes several questions to others; nothing in control may wait for one of them.

A job is a generator: it yields what it wants to know, is resumed with the answer, and returns its own. What
drives it (`admin.Admin`) has many under way at once. Refused is thrown into it when nobody answers. Jobs
are easy to test: answer them by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from directory_client.wire.messages import DirectoryError
from directory_client.wire.operator_requests import Message

Answer = dict[str, Any]
DUMP_ROWS = 512
DUMP_ROWS_MAX = 4_000_000


class Refused(DirectoryError):
    """No answer, or a refusal: what is wrong, what to type, vnetctl's exit status (1 refused or failed, 2 the
    input is wrong, 3 nobody answered)."""


@dataclass(frozen=True)
class Progress:
    """No answer yet: who was asked is at it for so long, and does so many requests before."""

    seconds: int
    before: int


@dataclass(frozen=True)
class AskDataPlane:
    question: dict[str, Any]


@dataclass(frozen=True)
class Wait:
    """Be resumed (with an empty answer) after some time."""

    seconds: float


@dataclass(frozen=True)
class AskDirectory:
    type: str
    fields: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 10.0


def ask_directory(message: Message) -> AskDirectory:
    """Turn what an operator's request means to the directory into a question."""
    return AskDirectory(message.type, message.fields, message.timeout_s)


Done = Callable[["Answer | Refused | Progress"], None]
Ask = AskDataPlane | AskDirectory | Wait
Job = Generator[Ask, Answer, Answer]
Steps = Generator[Ask, Answer, Any]


def dump(what: str, **arguments: Any) -> Generator[Ask, Answer, list[dict[str, Any]]]:
    """Read a whole table of the data plane, batch by batch."""
    rows: list[dict[str, Any]] = []
    cursor: Any = 0
    while cursor is not None and len(rows) < DUMP_ROWS_MAX:
        answer = yield AskDataPlane({"dump": what, "cursor": cursor, "limit": DUMP_ROWS, **arguments})
        rows.extend(row for row in answer.get("rows", ()) if isinstance(row, dict))
        cursor = answer.get("cursor")
    return rows
