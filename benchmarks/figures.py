# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads and percentiles, and what follows from them. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.result import Result
from benchmarks.scenario import PROCESSES

LEADING = ("cycles_per_packet", "per_second", "seconds", "p50_us", "cpu_percent", "bytes_per_flow")
SMALLER_IS_BETTER = frozenset(LEADING) - {"per_second"}


def median(values: Sequence[float]) -> float:
    if not values:
        raise ValueError("the median of no values was asked for")
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """The width of the middle half: what a repeat may well differ by. 0 for a single value."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent of the values do not exceed."""
    if not values:
        raise ValueError(f"percentile {percent} of no values was asked for")
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100.0), 1) - 1]


def cycles_per_packet(tsc_hz: float, seconds: float, packets: int, poll_threads: int = 1) -> float:
    return tsc_hz * seconds * poll_threads / packets


def leading(result: Result) -> tuple[str, float] | None:
    """The figure that a row is about, by name; None for a row without."""
    for name in LEADING:
        value = getattr(result, name)
        if value is not None:
            return name, value
    return None


def noise(result: Result) -> float:
    """The spread as a share of the leading figure."""
    figure = leading(result)
    return (result.spread or 0.0) / figure[1] if figure and figure[1] else 0.0


Rows = Mapping[tuple[str, str, int, object], Result]


def by_key(results: Sequence[Result]) -> dict[tuple[str, str, int, object], Result]:
    """Results by (scenario, subject, flows, frame_bytes). Raises ValueError if two have the same key."""
    rows: dict[tuple[str, str, int, object], Result] = {}
    for one in results:
        if one.key in rows:
            raise ValueError(f"two results for {one.key}")
        rows[one.key] = one
    return rows


def floor_cycles(rows: Rows, result: Result) -> float | None:
    """What source and sink took of the subject's cycles, in the same run: what the floor took, unless it has
    its own. None without a floor, and where the source is a process that is waited for."""
    if result.floor_cycles is not None or result.source in PROCESSES:
        return result.floor_cycles
    floor = rows.get((result.scenario, "floor", result.flows, result.frame_bytes))
    return floor.cycles_per_packet if floor else None


def own_cycles(rows: Rows, result: Result) -> float | None:
    """The subject's own part: its cycles less those of source and sink alone."""
    floor = floor_cycles(rows, result)
    if floor is None or result.cycles_per_packet is None:
        return None
    return result.cycles_per_packet - floor
