# SPDX-License-Identifier: Apache-2.0
"""For how long a message may have waited to be read, at most: since the server had last read all there was.
Pure.

After a pause (the process was stopped, or was at something else) what came meanwhile is handed over by
ZeroMQ's thread bit by bit: for a moment it is not believed that there is no more.
"""

from __future__ import annotations

PAUSE_S = 0.05
HANDED_OVER_S = 0.25


class Backlog:
    """Of one socket."""

    def __init__(self, now: float) -> None:
        self._all_read_at = now
        self._turned_at = now
        self._believed_at = now

    def polled(self, expected_s: float, now: float) -> None:
        """The poller is back, where after the last time at most `expected_s` were to pass."""
        if now - self._turned_at - expected_s > PAUSE_S:
            self._believed_at = now + HANDED_OVER_S
        self._turned_at = now

    def all_read(self, now: float) -> None:
        """There is nothing to read any more, as far as can be seen."""
        if now >= self._believed_at:
            self._all_read_at = now

    def behind_s(self, now: float) -> float:
        """Return for how long what is read now may have waited, at most."""
        return now - self._all_read_at
