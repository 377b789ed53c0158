# SPDX-License-Identifier: Apache-2.0
"""One figure of one subject at one scenario: a JSON object a line.

The key (scenario, subject, flows, frame_bytes) is unique in a file. Floor and peer rows carry the name of
the scenario they are measured for. A row without figures says in `missing` why the subject could not run, in
`failed` what went wrong when it did, or in `note` why it is not measurable here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.scenario import FrameBytes

FILE = Path(__file__).with_name("results") / "latest.jsonl"
ALWAYS = ("scenario", "subject", "flows", "frame_bytes", "cycles_per_packet", "mpps", "spread")


@dataclass(frozen=True)
class Result:
    """Medians over `repeats`. `spread` is the width of their middle half, in the unit of the leading figure:
    the first that is there of cycles_per_packet, per_second, seconds, p50_us, cpu_percent.

    `cycles_per_packet` are TSC cycles of the poll threads, source and sink included: take the floor's off to
    see the subject's own part. For tables they are cycles for each operation. `per_second` counts what the
    scenario names (flows set up, decisions, updates); `per_cpu_second` for each second of processor
    time of all its processes. `cpu_percent` is of one core, `cpu_shares` too, by thread or process."""

    scenario: str
    subject: str
    flows: int
    frame_bytes: FrameBytes = 64
    cycles_per_packet: float | None = None
    mpps: float | None = None
    spread: float | None = None
    per_second: float | None = None
    per_cpu_second: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    floor_cycles: float | None = None  # of cycles_per_packet, where source and sink are the subject's own
    cpu_percent: float | None = None
    cpu_shares: Mapping[str, float] | None = None
    bytes_per_flow: float | None = None
    lost_percent: float | None = None  # of the packets offered
    hit_percent: float | None = None  # of the look-ups
    updates_per_second: float | None = None  # of the writer beside
    seconds: float | None = None  # until it is done, where the scenario is one thing that is done
    wall_p999_us: float | None = None  # by the clock, where p999_us and seconds are processor time
    wall_seconds: float | None = None
    rss_bytes: int | None = None  # of the largest process
    stages: Mapping[str, float] | None = None  # cycles per packet of each, where the subject counts them
    percentiles_us: Mapping[str, float] | None = None  # "50", "99", "99.9" …: the whole curve of a latency
    source: str = ""
    poll_threads: int = 1
    repeats: int = 0
    hugepages: bool = False
    missing: str | None = None  # why the subject could not run, with the remedy
    failed: str | None = None  # what went wrong; the run fails
    note: str | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int, FrameBytes]:
        return self.scenario, self.subject, self.flows, self.frame_bytes

    def to_json(self) -> str:
        """One line. Figures that do not apply are left out, the first seven keys are always there."""
        every = asdict(self)
        row = {key: every[key] for key in every if key in ALWAYS or every[key] not in (None, {}, "")}
        return json.dumps(row, allow_nan=False)


def from_json(line: str) -> Result:
    """Read what `to_json` wrote. Raises ValueError for keys that are missing or unknown."""
    row = json.loads(line)
    known = {one.name for one in fields(Result)}
    wrong = (row.keys() - known) | (set(ALWAYS) - row.keys())
    if wrong:
        raise ValueError(f"no result of this version (keys {', '.join(sorted(wrong))}); run make bench again")
    return Result(**row)


def read(path: Path = FILE) -> tuple[Result, ...]:
    """The results of a file. Raises FileNotFoundError, ValueError."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no results yet; run make bench or make bench QUICK=1")
    return tuple(from_json(line) for line in path.read_text().splitlines() if line)


def write(results: Iterable[Result], path: Path = FILE) -> None:
    """Replace the file at once: a reader sees the old results or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = path.with_suffix(".new")
    rows.write_text("".join(one.to_json() + "\n" for one in results))
    rows.replace(path)
