# SPDX-License-Identifier: Apache-2.0
"""How long the directory takes: a histogram whose bucket i counts answers under 2^i microseconds."""

from __future__ import annotations

BUCKETS = 24


class Latency:
    """Counts since the process started; `percentile_us` speaks of what came since it was last asked for."""

    def __init__(self) -> None:
        self.bucket = [0] * BUCKETS
        self._before = [0] * BUCKETS

    def add(self, seconds: float) -> None:
        micros = max(0, int(seconds * 1e6))
        self.bucket[min(BUCKETS - 1, micros.bit_length())] += 1

    def recent_percentiles_us(self, *shares: float) -> list[int | None]:
        """Return for each share (0.5, 0.99) the upper bound of its bucket, None if nothing came."""
        recent = [now - before for now, before in zip(self.bucket, self._before, strict=True)]
        self._before = list(self.bucket)
        total = sum(recent)
        return [_percentile(recent, share * total) if total else None for share in shares]


def _percentile(counts: list[int], wanted: float) -> int:
    seen = 0
    for exponent, count in enumerate(counts):
        seen += count
        if seen >= wanted:
            return int(1 << exponent)
    return 1 << (BUCKETS - 1)
