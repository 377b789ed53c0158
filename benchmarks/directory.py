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
SCALE = "benchmarks.directory_scale"
STARTED_BY = {  # scenarios that another one's run measures too
    "directory-million-snapshot": "directory-million",
    "directory-fleet-locator": "directory-fleet-start",
    "directory-fleet-killed": "directory-fleet-start",
    "directory-fleet-restart": "directory-fleet-idle",
    "vnetctl-show": "vnetctl-start",
}
SCALE_S = 1200.0


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


@dataclass(frozen=True)
class DirectoryScale:
    """Many endpoints, many gateways, and the start of vnetctl: `directory_scale.py`, once for each number of
    flows. One that fails leaves the others standing."""

    name: str = "directory-scale"
    scenarios: tuple[str, ...] = (
        "directory-apply",
        "directory-change",
        "directory-million",
        "directory-fleet-start",
        "directory-fleet-idle",
        "vnetctl-start",
        *STARTED_BY,
    )

    def missing(self) -> str | None:
        return None

    def measure(
        self, scenarios: Sequence[Scenario], bed: Bed, progress: Callable[[str], None]
    ) -> Sequence[Result]:
        everywhere = ",".join(map(str, sorted({bed.poll_cpu, *bed.other_cpus})))
        wanted = {(one.name, one.flows) for one in scenarios}
        starts = dict.fromkeys((STARTED_BY.get(name, name), flows) for name, flows in sorted(wanted))
        found: list[Result] = []
        for name, flows in starts:
            progress(f"{name}, {flows}")
            command = ["taskset", "-c", everywhere, sys.executable, "-m", SCALE, name, str(flows)]
            try:
                printed = run([*command, *(["--quick"] if bed.quick else [])], SCALE_S)
                found += [Result(**line) for line in printed]
            except RuntimeError as why:
                of_it = [one for one in scenarios if STARTED_BY.get(one.name, one.name) == name]
                found += [
                    Result(one.name, subject, flows, failed=str(why))
                    for one in of_it
                    if one.flows == flows
                    for subject in one.subjects
                ]
        return [one for one in found if (one.scenario, one.flows) in wanted]
