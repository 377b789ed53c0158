# SPDX-License-Identifier: Apache-2.0
"""Ratios of earlier runs, kept in `recorded.json`, and whether today's are worse.

Ratios, since machines differ: ours to the peer's or the floor's in the same run, turned so that smaller is
better. With a floor both are taken without it. Ratios differ from one kind of processor to the next as well,
so a run is compared only with runs on its own kind, with or without hugepages as it is.

A ratio regressed if it is above the highest recorded one by more than a margin: the largest of how far the
recorded ones lie apart, the noise of repeats within the runs, and TOLERANCE. With each of seven runs that
differ in nothing held against others, so many ratios were called regressed: 5.3 % with one run recorded,
1.0 % with three, 0.4 % with four, 0.1 % with five. So a record wants three runs or more."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
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
RUNS_KEPT = 5  # of each ratio on each kind of machine

Key = tuple[str, int, FrameBytes, str]


@dataclass(frozen=True)
class Ratio:
    """Ours to another subject's in one run. `noise` is that of its repeats, in the ratio's own unit."""

    scenario: str
    flows: int
    frame_bytes: FrameBytes
    beside: str
    ratio: float
    noise: float

    @property
    def key(self) -> Key:
        return self.scenario, self.flows, self.frame_bytes, self.beside


@dataclass(frozen=True)
class Run:
    """A run as it is recorded."""

    machine: Mapping[str, Any]
    ratios: tuple[Ratio, ...]

    @property
    def kind(self) -> str:
        return kind_of(self.machine)


def kind_of(machine: Mapping[str, Any]) -> str:
    """What a machine has in common with those whose ratios are like its own."""
    pages = "hugepages" if machine.get("hugepages_free") else "no hugepages"
    return f"{machine.get('cpu', 'unknown processor')}, {pages}"


def machine_of(results: Sequence[Result]) -> Mapping[str, Any]:
    return next((one.machine for one in results if one.machine), {})


@dataclass(frozen=True)
class Comparison:
    """A ratio as recorded, once a run, and today's; `now` is None if it could not be had: `why` says why."""

    recorded: tuple[Ratio, ...]
    now: Ratio | None
    why: str = ""

    @property
    def median(self) -> float:
        return statistics.median(one.ratio for one in self.recorded)

    @property
    def lowest(self) -> float:
        return min(one.ratio for one in self.recorded)

    @property
    def highest(self) -> float:
        return max(one.ratio for one in self.recorded)

    @property
    def margin(self) -> float:
        noise = statistics.median(one.noise for one in self.recorded) + (self.now.noise if self.now else 0.0)
        return max(self.highest - self.lowest, noise, TOLERANCE * self.median)

    @property
    def allowed(self) -> float:
        return self.highest + self.margin

    @property
    def regressed(self) -> bool:
        return self.now is not None and self.now.ratio > self.allowed

    @property
    def better(self) -> bool:
        return self.now is not None and self.now.ratio < self.lowest - self.margin


def ratios(results: Sequence[Result]) -> list[Ratio]:
    """All ratios that the results give, in their order."""
    rows = figures.by_key(results)
    return [one for ours in results if ours.subject == OURS for one in _of(ours, rows)]


def _of(ours: Result, rows: figures.Rows) -> Iterator[Ratio]:
    figure = figures.leading(ours)
    if figure is None:
        return
    name, value = figure
    for other in rows.values():
        theirs = figures.leading(other)
        if other.key[0] != ours.scenario or other.key[2:] != ours.key[2:] or other.subject == OURS:
            continue
        if theirs is None or theirs[0] != name or not value or not theirs[1]:
            continue
        ratio, noise = _ratio(ours, value, other, theirs[1], rows, name in figures.SMALLER_IS_BETTER)
        if ratio is not None:
            yield Ratio(
                ours.scenario, ours.flows, ours.frame_bytes, other.subject, round(ratio, 4), round(noise, 4)
            )


def _ratio(
    ours: Result, value: float, other: Result, theirs: float, rows: figures.Rows, smaller_is_better: bool
) -> tuple[float | None, float]:
    a, b = ours.spread or 0.0, other.spread or 0.0
    part, whole = figures.own_cycles(rows, ours), figures.own_cycles(rows, other)
    if other.subject != "floor" and part is not None and whole is not None:
        floor = rows.get((ours.scenario, "floor", ours.flows, ours.frame_bytes))
        f = floor.spread or 0.0 if floor else 0.0
        if part <= 0 or whole <= 0:
            return None, 0.0
        ratio = part / whole
        return ratio, ratio * math.hypot(math.hypot(a, f) / part, math.hypot(b, f) / whole)
    if other.floor_cycles is not None:
        return None, 0.0  # whole figures with unlike sources
    ratio = value / theirs if smaller_is_better else theirs / value
    return ratio, ratio * math.hypot(a / value, b / theirs)


def compare(runs: Sequence[Run], results: Sequence[Result]) -> list[Comparison]:
    """Set each ratio of the runs on the results' kind of machine beside that of the results. What the run was
    not to measure is left out."""
    kind = kind_of(machine_of(results))
    recorded: dict[Key, list[Ratio]] = {}
    for one in (ratio for run in runs if run.kind == kind for ratio in run.ratios):
        recorded.setdefault(one.key, []).append(one)
    now = {one.key: one for one in ratios(results)}
    rows = figures.by_key(results)
    comparisons = []
    for key, several in recorded.items():
        if key in now:
            comparisons.append(Comparison(tuple(several), now[key]))
            continue
        scenario, flows, frame_bytes, beside = key
        for subject in (OURS, beside):
            row = rows.get((scenario, subject, flows, frame_bytes))
            if row is not None and figures.leading(row) is None:
                why = row.missing or row.failed or row.note or "without figures"
                comparisons.append(Comparison(tuple(several), None, f"{subject}: {why}"))
                break
    return comparisons


def read(path: Path = FILE) -> tuple[Run, ...]:
    """Recorded runs, oldest first; none if nothing was recorded yet."""
    if not path.exists():
        return ()
    return tuple(
        Run(run["machine"], tuple(Ratio(**one) for one in run["ratios"]))
        for run in json.loads(path.read_text())["runs"]
    )


def record(results: Sequence[Result], path: Path = FILE, anew: bool = False) -> Run:
    """Add a run to those recorded, in the place of itself if it is there, and return it. `anew` forgets the
    others on its kind of machine."""
    run = Run(machine_of(results), tuple(ratios(results)))
    when = run.machine.get("measured_at")
    others = [
        one
        for one in read(path)
        if one.kind != run.kind or not (anew or one.machine.get("measured_at") == when)
    ]
    _write(_newest([*others, run]), path)
    return run


def _newest(runs: Sequence[Run]) -> list[Run]:
    """The runs without what RUNS_KEPT later ones of the same kind of machine have too."""
    later: Counter[tuple[str, Key]] = Counter()
    kept: list[Run] = []
    for run in reversed(runs):
        new = tuple(one for one in run.ratios if later[run.kind, one.key] < RUNS_KEPT)
        later.update((run.kind, one.key) for one in new)
        if new:
            kept.insert(0, Run(run.machine, new))
    return kept


def _write(runs: Sequence[Run], path: Path) -> None:
    """One ratio a line, so that a difference can be read."""
    parts = []
    for run in runs:
        machine = json.dumps({"machine": dict(run.machine)}, indent=1)[:-2]
        lines = ",\n".join("  " + json.dumps(asdict(one)) for one in run.ratios)
        parts.append(f'{machine},\n "ratios": [\n{lines}\n ]\n}}')
    path.write_text('{"runs": [\n' + ",\n".join(parts) + "\n]}\n")
