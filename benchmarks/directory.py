# SPDX-License-Identifier: Apache-2.0
"""The directory as a component: `directory_resolve.py` in a process of its own, its JSON lines as rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import Printed, run
from benchmarks.result import Result
from benchmarks.scenario import Scenario
from benchmarks.subject import Bed

PROGRAM = Path(__file__).with_name("directory_resolve.py")


@dataclass(frozen=True)
class Directory:
    """Decisions a second, and how long a question for a batch of them takes."""

    name: str = "directory"
    scenarios: tuple[str, ...] = ("directory-decide",)

    def missing(self) -> str | None:
        return None

    def versions(self) -> Mapping[str, str]:
        return {}

    def measure(
        self, scenarios: Sequence[Scenario], bed: Bed, progress: Callable[[str], None]
    ) -> Sequence[Result]:
        progress("asks")
        seconds = "0.7" if bed.quick else "3"
        everywhere = ",".join(map(str, sorted({bed.poll_cpu, *bed.other_cpus})))
        printed = run(["taskset", "-c", everywhere, sys.executable, str(PROGRAM), "--seconds", seconds])
        wanted = {one.flows for one in scenarios}
        return [rows(line) for line in printed if line["batch"] in wanted]


def rows(line: Printed) -> Result:
    """A line of directory_resolve.py: one batch size."""
    curve = line["percentiles_us"]
    return Result(
        "directory-decide",
        "vnet-gateway",
        line["batch"],
        per_second=line["decisions_per_second"],
        p50_us=curve["50"],
        p99_us=curve["99"],
        p999_us=curve["99.9"],
        percentiles_us=curve,
        repeats=line["requests"],
        note=f"{os.cpu_count()} processors, {line['endpoints']} endpoints, one client",
    )
