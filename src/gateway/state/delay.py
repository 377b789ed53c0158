# SPDX-License-Identifier: Apache-2.0
"""How long first packets waited, as the hold has stamped it: a histogram and its percentiles. Pure.

The data plane sends its buckets with their bounds (`native/include/fp_delay.h` is where they are chosen):
none is wider than a sixteenth of where it begins, or than 64 ns, so a percentile is wrong by no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Delay:
    """`buckets`: (from_ns, below_ns, packets), ascending, without those that are empty."""

    buckets: tuple[tuple[int, int, int], ...] = ()
    sum_ns: int = 0

    @property
    def packets(self) -> int:
        return sum(packets for _, _, packets in self.buckets)

    def since(self, then: Delay) -> Delay:
        """Return what was added since an earlier state of the same histogram."""
        before = {from_ns: packets for from_ns, _, packets in then.buckets}
        more = [(low, high, packets - before.get(low, 0)) for low, high, packets in self.buckets]
        return Delay(tuple(row for row in more if row[2] > 0), max(0, self.sum_ns - then.sum_ns))

    def percentile_us(self, ratio: float) -> float | None:
        """Return the delay that this part of the packets does not exceed, interpolated within its bucket;
        None if there is none."""
        wanted, below = ratio * self.packets, 0
        for from_ns, below_ns, packets in self.buckets:
            if below + packets >= wanted:
                return (from_ns + (below_ns - from_ns) * (wanted - below) / packets) / 1000
            below += packets
        return None

    def packets_below(self, ns: int) -> int:
        """Return how many took less; exact where a bucket ends."""
        return sum(packets for _, below_ns, packets in self.buckets if below_ns <= ns)


def delay_of(counters: Mapping[str, Any]) -> Delay:
    """Read the histogram of an answer to the dump `counters`; an empty one if there is none."""
    said = counters.get("delay") or {}
    rows = (tuple(int(number) for number in row) for row in said.get("buckets", ()))
    return Delay(tuple((low, high, packets) for low, high, packets in rows), int(said.get("sum_ns", 0)))
