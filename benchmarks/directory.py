# SPDX-License-Identifier: Apache-2.0
"""The directory as a component: `directory_resolve.py` in a process of its own, its JSON lines as rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.programs import Printed, run
from benchmarks.result import Result
from benchmarks.scenario import Scenario
from benchmarks.subject import Bed

PROGRAM = Path(__file__).with_name("directory_resolve.py")


@dataclass(frozen=True)
class Directory:
    """Decisions a second, how long a question for a batch of them takes, and a change until it is with a
    gateway."""

    name: str = "directory"
    scenarios: tuple[str, ...] = ("directory-decide", "directory-update")

    def missing(self) -> str | None:
        return None

    def measure(
        self, scenarios: Sequence[Scenario], bed: Bed, progress: Callable[[str], None]
    ) -> Sequence[Result]:
        progress("asks")
        everywhere = ",".join(map(str, sorted({bed.poll_cpu, *bed.other_cpus})))
        options = ["--quick"] if bed.quick else ["--transport", "ipc"]
        printed = run(["taskset", "-c", everywhere, sys.executable, str(PROGRAM), *options])
        wanted = {(one.name, one.flows) for one in scenarios}
        usual = [
            line for line in printed if line.get("traffic") == "allowed" or line.get("store") == "sqlite"
        ]
        return [rows(line) for line in usual if (line["scenario"], line["flows"]) in wanted]


def rows(line: Printed) -> Result:
    """A line of directory_resolve.py."""
    known = {one.name for one in fields(Result)}
    figures = {key: value for key, value in line.items() if key in known}
    return Result(**figures, note=f"{os.cpu_count()} processors, {line['endpoints']} endpoints, one client")
