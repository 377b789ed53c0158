# SPDX-License-Identifier: Apache-2.0
"""The names that come with operations, on their way to control, which shows them: what is new goes first, and
all of them again in turns, for control may have been started anew. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from directory_client.wire.limits import NAME_MAX, NAMES_TOLD_MAX

KEPT_MAX = 200_000
_NAMED = {"vnet": (("object_id", "name"),), "tunnel": (("node_id", "node"), ("profile_id", "profile"))}


class Names:
    """Of one worker. `incarnation`: in which object ids have these names."""

    def __init__(self) -> None:
        self.incarnation = 0
        self._known: dict[int, str] = {}
        self._turn: deque[int] = deque()

    def begin(self, incarnation: int) -> None:
        """Forget the names of another incarnation: it gives ids out again."""
        if incarnation != self.incarnation:
            self.incarnation = incarnation
            self._known.clear()
            self._turn.clear()

    def take(self, operations: Iterable[Mapping[str, Any]]) -> None:
        """Take note of the names in operations. What is none is left to who checks them."""
        for operation in operations:
            for key, word in _NAMED.get(operation["op"], ()):
                self._learn(operation.get(key), operation.get(word))

    def _learn(self, object_id: object, name: object) -> None:
        if not isinstance(object_id, int) or not isinstance(name, str):
            return
        if not object_id or not 0 < len(name) <= NAME_MAX or self._known.get(object_id) == name:
            return
        if object_id not in self._known:
            if len(self._known) >= KEPT_MAX:
                return
            self._turn.appendleft(object_id)
        self._known[object_id] = name

    def next(self) -> list[tuple[int, str]]:
        """Return those whose turn it is, by object id."""
        chosen = [self._turn.popleft() for _ in range(min(NAMES_TOLD_MAX, len(self._turn)))]
        self._turn.extend(chosen)
        return [(one, self._known[one]) for one in chosen]
