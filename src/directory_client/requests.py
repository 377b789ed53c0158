# SPDX-License-Identifier: Apache-2.0
"""What a client waits for: requests in flight with their deadlines. Used by `client.py` only; no sockets."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any

from directory_client.subscriber import SnapshotAnswer

RETRY_S = 0.01  # while there is no connection to send over


@dataclass(slots=True)
class Request:
    """One question. `repeatable`: may be sent again, also to another server; others are sent once."""

    id: int
    kind: str  # "resolve", "answer", "snapshot"
    channel: str  # "resolve" or "write"
    head: dict[str, Any]
    parts: list[Any]
    repeatable: bool
    first_at: float
    deadline: float
    server: int = 0
    sent_at: float | None = None
    attempts: int = 0
    number: int = 0  # of the subscriber, for a snapshot
    whole: bool = False
    begun: SnapshotAnswer | None = None  # the pieces of a snapshot that have come
    due_at: float = field(default=0.0)


class InFlight:
    """Requests by id, and by when they are due next."""

    def __init__(self) -> None:
        self._requests: dict[int, Request] = {}
        self._due: list[tuple[float, int]] = []
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._requests)

    def next_id(self) -> int:
        """Give an id that was not used before."""
        self._next_id += 1
        return self._next_id

    def add(self, request: Request) -> None:
        """Keep a request until it is taken."""
        self._requests[request.id] = request

    def wake(self, request: Request, at: float) -> None:
        """Say when the request is due next (never later than its deadline)."""
        request.due_at = min(at, request.deadline)
        heapq.heappush(self._due, (request.due_at, request.id))

    def take(self, id: Any) -> Request | None:
        """Remove and give the request with this id."""
        return self._requests.pop(id, None) if isinstance(id, int) else None

    def forget(self, kind: str) -> None:
        """Remove the requests of a kind: what answers them is of no use any more."""
        for id in [request.id for request in self._requests.values() if request.kind == kind]:
            del self._requests[id]

    def look(self, id: Any) -> Request | None:
        """Give the request with this id."""
        return self._requests.get(id) if isinstance(id, int) else None

    def due(self, now: float) -> list[Request]:
        """Give the requests that are due."""
        found = []
        while self._due and self._due[0][0] <= now:
            at, id = heapq.heappop(self._due)
            request = self._requests.get(id)
            if request is not None and request.due_at == at:
                found.append(request)
        return found

    def next_due_at(self) -> float | None:
        """Give the time at which `due` has something."""
        while self._due:
            at, id = self._due[0]
            request = self._requests.get(id)
            if request is not None and request.due_at == at:
                return at
            heapq.heappop(self._due)
        return None

    def of_server(self, server: int) -> list[Request]:
        """Give the requests that wait for one server."""
        return [request for request in self._requests.values() if request.server == server]
