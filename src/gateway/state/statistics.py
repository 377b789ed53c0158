# SPDX-License-Identifier: Apache-2.0
"""Counters as they were, second by second, and the rates that follow from them. No input or output.

Rates are over the last ten seconds. Drops are kept longer, in steps of ten seconds for an hour.
A data plane that started anew counts from zero: what was before is forgotten then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.state.delay import Delay, delay_of

RATE_S = 10.0
DROPS_STEP_S = 10.0
DROPS_KEPT_S = 3600.0

Row = dict[str, Any]
Drops = dict[tuple[str, int], int]


@dataclass(frozen=True)
class Sample:
    """What the data plane counted, at one time (seconds on a monotonic clock)."""

    time_s: float
    counters: Mapping[str, float]
    drops: Drops = field(default_factory=dict)
    delay: Delay = field(default_factory=Delay)
    ports: Mapping[str, Row] = field(default_factory=dict)
    threads: Mapping[str, Row] = field(default_factory=dict)


def sample_of(time_s: float, counters: Any, ports: Sequence[Row], threads: Sequence[Row]) -> Sample:
    """Make a sample of the answers to the dumps `counters`, `ports` and `threads`."""
    drops: Drops = {}
    for row in counters.get("drops", ()):
        key = (str(row["reason"]), int(row.get("vni") or 0))
        drops[key] = drops.get(key, 0) + int(row["packets"])
    plain = counters.get("counters", {})
    return Sample(
        time_s,
        {name: value for name, value in plain.items() if isinstance(value, (int, float))},
        drops,
        delay_of(counters),
        {str(row["name"]): row for row in ports},
        {str(row["thread"]): row for row in threads},
    )


class Statistics:
    """The samples of the last ten seconds, and drops of the last hour."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()
        self._drops: deque[tuple[float, Drops]] = deque()

    def add(self, sample: Sample) -> None:
        """Take the newest sample."""
        if self._samples and sample.counters.get("received", 0) < self._samples[-1].counters.get(
            "received", 0
        ):
            self.clear()
        self._samples.append(sample)
        while len(self._samples) > 2 and self._samples[1].time_s <= sample.time_s - RATE_S:
            self._samples.popleft()
        if not self._drops or sample.time_s - self._drops[-1][0] >= DROPS_STEP_S:
            self._drops.append((sample.time_s, sample.drops))
            while sample.time_s - self._drops[0][0] > DROPS_KEPT_S:
                self._drops.popleft()

    def clear(self) -> None:
        self._samples.clear()
        self._drops.clear()

    @property
    def last(self) -> Sample | None:
        return self._samples[-1] if self._samples else None

    @property
    def first(self) -> Sample | None:
        return self._samples[0] if self._samples else None

    @property
    def span_s(self) -> float:
        """What the rates are over; 0 while there are none."""
        return self._samples[-1].time_s - self._samples[0].time_s if len(self._samples) > 1 else 0.0

    def per_s(self, counter: str) -> float | None:
        """Return a counter's rate, None if there is none yet."""
        if not self.span_s:
            return None
        return self._difference(self._samples[-1].counters, self._samples[0].counters, counter) / self.span_s

    def row_per_s(self, table: str, name: str, counter: str) -> float | None:
        """Return a rate of a port or thread (`table` is "ports" or "threads")."""
        difference = self.row_difference(table, name, counter)
        return None if difference is None else difference / self.span_s

    def row_difference(self, table: str, name: str, counter: str) -> int | None:
        if not self.span_s:
            return None
        now = getattr(self._samples[-1], table).get(name)
        then = getattr(self._samples[0], table).get(name)
        if now is None or then is None or not isinstance(now.get(counter), int):
            return None
        return self._difference(now, then, counter)

    def stage_difference(self, thread: str) -> dict[str, int]:
        """Return the cycles that each stage of a poll thread took within the span."""
        if not self.span_s:
            return {}
        now = self._samples[-1].threads.get(thread, {}).get("stage_cycles") or {}
        then = self._samples[0].threads.get(thread, {}).get("stage_cycles") or {}
        return {stage: max(0, value - then.get(stage, 0)) for stage, value in now.items()}

    def drops_since(self, seconds: float | None) -> tuple[Drops, float | None]:
        """Return the drops of the last `seconds` (None: since the data plane started) and how many seconds
        that really are."""
        if self.last is None:
            return {}, None
        if seconds is None:
            return dict(self.last.drops), None
        wanted = self.last.time_s - seconds
        before: tuple[float, Drops] | None = None
        for entry in (*self._drops, *((s.time_s, s.drops) for s in self._samples)):
            if entry[0] <= wanted + 0.5 and (before is None or entry[0] > before[0]):
                before = entry
        if before is None:
            oldest = min(self._drops[0][0], self._samples[0].time_s)
            before = next(
                e for e in (*self._drops, *((s.time_s, s.drops) for s in self._samples)) if e[0] == oldest
            )
        differences = {key: n - before[1].get(key, 0) for key, n in self.last.drops.items()}
        return {key: n for key, n in differences.items() if n > 0}, self.last.time_s - before[0]

    def delay_percentiles_us(self, *ratios: float) -> list[float | None]:
        """Return percentiles of the first-packet delay: of the last ten seconds if there were any first
        packets, else since the data plane started."""
        if self.last is None:
            return [None] * len(ratios)
        recent = self.last.delay.since(self._samples[0].delay)
        chosen = recent if recent.packets else self.last.delay
        return [chosen.percentile_us(ratio) for ratio in ratios]

    @staticmethod
    def _difference(now: Mapping[str, Any], then: Mapping[str, Any], counter: str) -> int:
        return max(0, (now.get(counter) or 0) - (then.get(counter) or 0))


def percentiles_us(buckets: Sequence[int], *ratios: float) -> list[float | None]:
    """Return percentiles of a histogram whose bucket i counts what took less than 2^i microseconds (and not
    less than 2^(i-1)), interpolated within the bucket; None if it is empty."""
    total = sum(buckets)
    results: list[float | None] = []
    for ratio in ratios:
        wanted, below = ratio * total, 0
        result: float | None = None
        for index, count in enumerate(buckets):
            if count and below + count >= wanted:
                low = 0.0 if index == 0 else float(1 << (index - 1))
                result = low + (float(1 << index) - low) * (wanted - below) / count
                break
            below += count
        results.append(result)
    return results
