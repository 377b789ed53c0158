# SPDX-License-Identifier: Apache-2.0
"""When to start a process again: at once after a healthy life, else after a delay that doubles."""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST_S = 0.1
MOST_S = 5.0
HEALTHY_S = 10.0


@dataclass(frozen=True)
class Backoff:
    """`delay_s` is what the next restart waits. Times are CLOCK_MONOTONIC seconds."""

    delay_s: float = FIRST_S
    started_s: float = 0.0

    def started(self, now_s: float) -> Backoff:
        return replace(self, started_s=now_s)

    def ended(self, now_s: float) -> tuple[float, Backoff]:
        """Return (when to start again, the state after that)."""
        delay_s = FIRST_S if now_s - self.started_s >= HEALTHY_S else self.delay_s
        return now_s + delay_s, replace(self, delay_s=min(MOST_S, delay_s * 2))
