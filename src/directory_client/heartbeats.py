# SPDX-License-Identifier: Apache-2.0
"""What a client says of itself once a second, or as seldom as it is told, and at once when it changes. Used
by `client.py` only; no sockets."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import Any

HEARTBEAT_S = 1.0
CHANGED_S = 0.02  # a changed fact waits so long for others that change with it
CONNECT_S = 0.05  # how soon one is tried again that found no connection
TOGETHER_S = 0.05  # a fleet's rare beats fall on multiples of this, by the wall clock


class Beat:
    """A clock that is due every so many seconds, sooner when wanted. `on` False: never.

    Those of more than a second differ a little, lest a fleet that came back together speaks together for
    ever; and a few fall together, so that a server is woken twenty times a second by a fleet and not for each
    of it. `wall` says when these are. Clocks that differ cost wake-ups only."""

    def __init__(self, on: bool, wall: Callable[[], float] = time.time) -> None:
        self.on = on
        self._wall = wall
        self._ahead_s = 0.0  # of the wall clock, when it was done last
        self._at = 0.0  # when it is due if it is due every second
        self._is_hurried = True
        self._spread = random.uniform(0.9, 1.0)

    def due_at(self, every_s: float = HEARTBEAT_S) -> float | None:
        """Return when it is due."""
        if not self.on:
            return None
        if every_s <= HEARTBEAT_S or self._is_hurried:
            return self._at
        due = self._at + every_s * self._spread - HEARTBEAT_S
        return due - (due + self._ahead_s) % TOGETHER_S

    def done(self, now: float, connected: bool) -> None:
        """Take note that it was done; without a connection it is tried again soon."""
        self._at = now + (HEARTBEAT_S if connected else CONNECT_S)
        self._is_hurried = not connected
        self._ahead_s = self._wall() - now

    def hurry(self, now: float) -> None:
        """Make it due soon."""
        self._at = min(self._at, now + CHANGED_S)
        self._is_hurried = True


def identity_of(
    instance: str, held_since: Iterable[float | None], is_fenced: bool, now: float
) -> dict[str, Any]:
    """Return what a message says of which gateway of its name this is: for how long it has held the name (by
    the server that granted it first), or that another has it."""
    if not instance:
        return {}
    held = [at for at in held_since if at is not None]
    if held:
        return {"instance": instance, "held_s": round(max(0.0, now - min(held)), 1)}
    return {"instance": instance, "fenced": True} if is_fenced else {"instance": instance}


class Facts:
    """What heartbeats say, and which revision is installed here."""

    def __init__(self, **facts: Any) -> None:
        self._facts = facts
        self._delivered = 0  # newest revision that the caller was given
        self._applied = 0  # newest that it says it has applied
        self._was_told = False  # the caller was given a snapshot

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
            self._was_told = True
        self._delivered = max(self._delivered, revision)

    def applied(self, revision: int) -> None:
        """Take note of what the caller has applied."""
        self._applied = max(self._applied, revision)

    def reach(self, seen: int, incarnation: int = 0) -> bool:
        """Say which revision is reached, given the newest one seen of an era; returns whether that is new.

        What others' V-nets have reached counts once everything that is ours is applied. Before the first
        snapshot nothing is known to be: what a process before this one was told, it may have applied in part.
        """
        reached = seen if self._was_told and self._applied >= self._delivered else self._applied
        return self.set({"revision": reached, "incarnation": incarnation})
