# SPDX-License-Identifier: Apache-2.0
"""For how long questions have waited to be read, when they come from another machine. Pure.

A client says when it sent a question, by a clock of its own. How far that clock is from ours nobody knows,
but it is always as far: of the questions of the last minute the one that seems youngest came at once, more or
less, and others have waited for as long as they seem older. That the other clock stood still or jumped says
nothing about us: a question cannot have waited for longer than we have been behind with reading.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_S = 30.0  # two of them; clocks drift apart by less than 10 ms meanwhile
CONNECTIONS_MAX = 65_536


@dataclass(slots=True)
class _Apart:
    lowest_s: float  # that our clock was ahead of theirs when a question was read, in this window
    before_s: float  # … in the one before
    since_s: float


class Delays:
    """By connection."""

    def __init__(self) -> None:
        self._of: dict[bytes, _Apart] = {}

    def waited_s(self, connection: bytes, sent_s: float, now: float, behind_s: float) -> float:
        """Return for how long a question has waited that was sent at `sent_s` of its client's clock, while we
        have been behind with reading for `behind_s`."""
        apart_s = now - sent_s
        known = self._of.get(connection)
        if known is None:
            if len(self._of) >= CONNECTIONS_MAX:
                self._of.clear()
            self._of[connection] = _Apart(apart_s, apart_s, now)
            return 0.0
        if now - known.since_s >= WINDOW_S:
            known.before_s, known.lowest_s, known.since_s = known.lowest_s, apart_s, now
        elif apart_s < known.lowest_s:
            known.lowest_s = apart_s
        return min(apart_s - min(known.lowest_s, known.before_s), behind_s)
