# SPDX-License-Identifier: Apache-2.0
"""What a client waits for: questions in flight with their deadlines. Used by `client.py` only; no sockets."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from directory_client.wire.answers import Answer
from directory_client.wire.messages import DirectoryError, Frames, Request

RETRY_S = 0.01  # while there is no connection to send over


def never(head: Answer) -> bool:
    """Tell of no answer that it was overtaken."""
    return False


@dataclass(slots=True)
class Question:
    """One question. `repeatable`: may be sent again, also to another server; others are sent once. It ends
    with one call of `answered`, which may raise DirectoryError, or of `failed`. An answer that `is_overtaken`
    is asked for again."""

    id: int
    channel: str  # "resolve" or "write"
    head: Request
    parts: list[Any]
    repeatable: bool
    first_at: float
    deadline: float
    answered: Callable[[Answer, Frames, float], None]
    failed: Callable[[DirectoryError, float], None]
    is_overtaken: Callable[[Answer], bool] = never
    server: int = 0
    sent_at: float | None = None
    attempts: int = 0
    due_at: float = 0.0


class InFlight:
    """Questions by id, and by when they are due next."""

    def __init__(self) -> None:
        self._questions: dict[int, Question] = {}
        self._due: list[tuple[float, int]] = []
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._questions)

    def next_id(self) -> int:
        """Give an id that was not used before."""
        self._next_id += 1
        return self._next_id

    def add(self, question: Question) -> None:
        """Keep a question until it is taken."""
        self._questions[question.id] = question

    def wake(self, question: Question, at: float) -> None:
        """Say when the question is due next (never later than its deadline)."""
        question.due_at = min(at, question.deadline)
        heapq.heappush(self._due, (question.due_at, question.id))

    def take(self, id: Any) -> Question | None:
        """Remove and give the question with this id."""
        return self._questions.pop(id, None) if isinstance(id, int) else None

    def look(self, id: Any) -> Question | None:
        """Give the question with this id."""
        return self._questions.get(id) if isinstance(id, int) else None

    def due(self, now: float) -> list[Question]:
        """Give the questions that are due."""
        found = []
        while self._due and self._due[0][0] <= now:
            at, id = heapq.heappop(self._due)
            question = self._questions.get(id)
            if question is not None and question.due_at == at:
                found.append(question)
        return found

    def next_due_at(self) -> float | None:
        """Give the time at which `due` has something."""
        while self._due:
            at, id = self._due[0]
            question = self._questions.get(id)
            if question is not None and question.due_at == at:
                return at
            heapq.heappop(self._due)
        return None

    def of_server(self, server: int) -> list[Question]:
        """Give the questions that wait for one server."""
        return [question for question in self._questions.values() if question.server == server]
