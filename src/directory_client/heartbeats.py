# SPDX-License-Identifier: Apache-2.0
"""What a client says of itself once a second, and at once when it changes. Used by `client.py` only; no
sockets."""

from __future__ import annotations

from typing import Any

HEARTBEAT_S = 1.0
CHANGED_S = 0.02  # a changed fact waits so long for others that change with it
CONNECT_S = 0.05  # how soon one is tried again that found no connection


class Beat:
    """A clock that is due once a second, sooner when wanted. `on` False: never."""

    def __init__(self, on: bool) -> None:
        self.on = on
        self._at = 0.0

    def due_at(self) -> float | None:
        """Return when it is due."""
        return self._at if self.on else None

    def done(self, now: float, connected: bool) -> None:
        """Take note that it was done; without a connection it is tried again soon."""
        self._at = now + (HEARTBEAT_S if connected else CONNECT_S)

    def hurry(self, now: float) -> None:
        """Make it due soon."""
        self._at = min(self._at, now + CHANGED_S)


class Facts:
    """What heartbeats say, and which revision is installed here."""

    def __init__(self, **facts: Any) -> None:
        self._facts = facts
        self._delivered = 0  # newest revision that the caller was given
        self._applied = 0  # newest that it says it has applied

    def said(self) -> dict[str, Any]:
        """Return the fields of a heartbeat."""
        return self._facts

    def set(self, facts: dict[str, Any]) -> bool:
        """Set facts; returns whether one of them is new. The load never is."""
        new = any(self._facts.get(name) != value for name, value in facts.items() if name != "load")
        self._facts.update(facts)
        return new

    def delivered(self, revision: int, anew: bool = False) -> None:
        """Take note that the caller was given a change, or (`anew`) a snapshot."""
        if anew:
            self._delivered, self._applied = revision, 0
        self._delivered = max(self._delivered, revision)

    def applied(self, revision: int) -> None:
        """Take note of what the caller has applied."""
        self._applied = max(self._applied, revision)

    def reach(self, seen: int) -> bool:
        """Say which revision is reached, given the newest one seen; returns whether that is new.

        What others' V-nets have reached counts once everything that is ours is applied.
        """
        return self.set({"revision": seen if self._applied >= self._delivered else self._applied})
