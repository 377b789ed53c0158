# SPDX-License-Identifier: Apache-2.0
"""Ratios of an earlier run, kept in `recorded.json`, and whether today's are worse.

Ratios, since machines differ: ours to the peer's or the floor's in the same run, turned so that smaller is
better. With a floor both are taken without it. A ratio regressed if it is above the recorded one by more than
the noise of both and TOLERANCE: what the same sources differ by from one build, boot or run to the next."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.gates import OURS
from benchmarks.result import Result
from benchmarks.scenario import FrameBytes

FILE = Path(__file__).with_name("recorded.json")
TOLERANCE = 0.1


@dataclass(frozen=True)
class Ratio:
    """Ours to another subject's. `noise` is in the ratio's own unit."""

    scenario: str
    flows: int
    frame_bytes: FrameBytes
    beside: str
    ratio: float
    noise: float

    @property
    def key(self) -> tuple[str, int, FrameBytes, str]:
        return self.scenario, self.flows, self.frame_bytes, self.beside


@dataclass(frozen=True)
class Comparison:
    """A recorded ratio and today's; `now` is None if today's could not be had, and `why` says why."""

    recorded: Ratio
    now: Ratio | None
    why: str = ""

    @property
    def allowed(self) -> float:
        noise = self.recorded.noise + (self.now.noise if self.now else 0.0)
        return self.recorded.ratio * (1.0 + TOLERANCE) + noise

    @property
    def regressed(self) -> bool:
        return self.now is not None and self.now.ratio > self.allowed


def ratios(results: Sequence[Result]) -> list[Ratio]:
    """All ratios that the results give, in their order."""
    rows = figures.by_key(results)
    return [one for ours in results if ours.subject == OURS for one in _of(ours, rows)]


def _of(ours: Result, rows: figures.Rows) -> Iterator[Ratio]:
    figure = figures.leading(ours)
    if figure is None:
        return
    name, value = figure
    floor = rows.get((ours.scenario, "floor", ours.flows, ours.frame_bytes))
    for other in rows.values():
        theirs = figures.leading(other)
        if other.key[0] != ours.scenario or other.key[2:] != ours.key[2:] or other.subject == OURS:
            continue
        if theirs is None or theirs[0] != name or not value or not theirs[1]:
            continue
        ratio, noise = _ratio(ours, value, other, theirs[1], floor, name in figures.SMALLER_IS_BETTER)
        if ratio is not None:
            yield Ratio(
                ours.scenario, ours.flows, ours.frame_bytes, other.subject, round(ratio, 4), round(noise, 4)
            )


def _ratio(
    ours: Result, value: float, other: Result, theirs: float, floor: Result | None, smaller_is_better: bool
) -> tuple[float | None, float]:
    a, b = ours.spread or 0.0, other.spread or 0.0
    if floor is not None and floor.cycles_per_packet is not None and other is not floor:
        f = floor.spread or 0.0
        part, whole = value - floor.cycles_per_packet, theirs - floor.cycles_per_packet
        if part <= 0 or whole <= 0:
            return None, 0.0
        ratio = part / whole
        return ratio, ratio * math.hypot(math.hypot(a, f) / part, math.hypot(b, f) / whole)
    ratio = value / theirs if smaller_is_better else theirs / value
    return ratio, ratio * math.hypot(a / value, b / theirs)


def compare(recorded: Sequence[Ratio], results: Sequence[Result]) -> list[Comparison]:
    """Set each recorded ratio beside that of the results. What the run was not to measure is left out."""
    now = {one.key: one for one in ratios(results)}
    rows = figures.by_key(results)
    comparisons = []
    for one in recorded:
        if one.key in now:
            comparisons.append(Comparison(one, now[one.key]))
            continue
        for subject in (OURS, one.beside):
            row = rows.get((one.scenario, subject, one.flows, one.frame_bytes))
            if row is not None and figures.leading(row) is None:
                why = row.missing or row.failed or row.note or "without figures"
                comparisons.append(Comparison(one, None, f"{subject}: {why}"))
                break
    return comparisons


def read(path: Path = FILE) -> tuple[Ratio, ...]:
    """Recorded ratios; none if nothing was recorded yet."""
    if not path.exists():
        return ()
    return tuple(Ratio(**one) for one in json.loads(path.read_text())["ratios"])


def write(results: Sequence[Result], path: Path = FILE) -> int:
    """Record the ratios of a run, with the machine it was on. Returns how many."""
    machine: Mapping[str, Any] = next((one.machine for one in results if one.machine), {})
    found = ratios(results)
    text = json.dumps({"machine": dict(machine)}, indent=1)[:-2]
    lines = ",\n".join("  " + json.dumps(asdict(one)) for one in found)
    path.write_text(f'{text},\n "ratios": [\n{lines}\n ]\n}}\n')
    return len(found)
