# SPDX-License-Identifier: Apache-2.0
"""Components in C: programs of ours that measure in process and print a JSON object a line.

`pipeline` walks packets through the stages of a poll thread; its floor is the same loop without them.
`flow_table` looks up, inserts and evicts in our table and in rte_hash, in turn. `writer_pause` makes the
rounds of the data plane's writer with much to do in them. All are built by meson beside the product, from
the .c files of their names in this directory."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.result import Result
from benchmarks.scenario import Scenario
from benchmarks.subject import Bed

TIMEOUT_S = 300.0
STAGES_OF = "vxlan-encap-in-process"  # whose stages are scenarios of their own
BUILDS = ("build/cp311/benchmarks", "build/*/benchmarks", "build/benchmarks")

Printed = Mapping[str, Any]


def program(name: str, root: Path = ROOT) -> Path | None:
    """Where meson put it; None if it is not built."""
    for pattern in BUILDS:
        for path in sorted(root.glob(f"{pattern}/{name}")):
            return path
    return None


def run(command: Sequence[str], timeout_s: float = TIMEOUT_S) -> list[Printed]:
    """Run a program to its end and read its JSON lines. Raises RuntimeError with what it said last."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as slow:
        raise RuntimeError(f"{' '.join(command)}: no end after {timeout_s:.0f} s") from slow
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["without a word"]
        raise RuntimeError(f"{' '.join(command)}: ended with status {done.returncode}: {said[-1]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@dataclass(frozen=True)
class Program:
    """One of them as a component: run once for each number of flows, its lines turned into rows."""

    name: str
    scenarios: tuple[str, ...]
    rows: Callable[[Printed], Iterator[Result]]
    pinned: bool  # to the processor of the poll thread; not if it has a thread beside
    named: tuple[str, ...] = ()  # scenarios that it is told the names of, in front of the number of flows

    def missing(self) -> str | None:
        return (
            None if program(self.name) else f"build/cp311/benchmarks/{self.name} is not built; run make build"
        )

    def measure(
        self, scenarios: Sequence[Scenario], bed: Bed, progress: Callable[[str], None]
    ) -> Sequence[Result]:
        path = program(self.name)
        if path is None:
            raise FileNotFoundError(self.missing())
        wanted = {one.key for one in scenarios}
        results: list[Result] = []
        for flows in sorted({one.flows for one in scenarios}):
            progress(f"{flows} flows")
            cpus = [bed.poll_cpu] if self.pinned else [bed.poll_cpu, *bed.other_cpus]
            place = ["taskset", "-c", ",".join(map(str, cpus))]
            names = sorted({one.name for one in scenarios if one.flows == flows}.intersection(self.named))
            try:
                printed = run([*place, str(path), *names, str(flows)])
            except RuntimeError as why:
                failed = [one for one in scenarios if one.flows == flows]
                results += [
                    Result(one.name, name, flows, failed=str(why)) for one in failed for name in one.subjects
                ]
                continue
            found = [result for line in printed for result in self.rows(line)]
            results += [one for one in found if (one.scenario, one.flows, one.frame_bytes) in wanted]
        return results


def pipeline_rows(line: Printed) -> Iterator[Result]:
    """A line of `pipeline`: cycles of the stages together (own part) and of the floor."""
    scenario, flows = line["scenario"], int(line["flows"])
    frame_bytes = int(line["inner_bytes"]) + 4
    stages = line.get("stages")
    for subject, cycles, more in (
        (
            "vnet-gateway",
            line["cycles"] + line["floor_cycles"],
            {
                "spread": line["spread"],
                "hit_percent": 100.0 * line["hit_ratio"],
                "stages": stages,
                "repeats": line.get("slices", 0),
            },
        ),
        (
            "floor",
            line["floor_cycles"],
            {"spread": line.get("floor_spread"), "repeats": line.get("slices", 0)},
        ),
    ):
        yield Result(
            scenario,
            subject,
            flows,
            frame_bytes,
            cycles_per_packet=round(cycles, 2),
            mpps=round(line["tsc_hz"] / cycles / 1e6, 3),
            **more,
        )
    if stages and scenario == STAGES_OF:
        for name, stage in (("parse", "parse"), ("encapsulate", "act")):
            yield Result(name, "vnet-gateway", flows, frame_bytes, cycles_per_packet=stages[stage])


def flow_table_rows(line: Printed) -> Iterator[Result]:
    """A line of `flow_table`: cycles of one operation of one table."""
    looks = "-hit" in line["scenario"] or "-miss" in line["scenario"]
    yield Result(
        line["scenario"],
        line["subject"],
        int(line["flows"]),
        cycles_per_packet=line["cycles_per_packet"],
        spread=line["spread"],
        per_second=None if looks else line["per_second"],
        bytes_per_flow=line["bytes_per_flow"],
        hit_percent=100.0 * line["hit_ratio"] if looks else None,
        updates_per_second=line["writer_updates_per_s"] or None,
        repeats=line["turns"],
        hugepages=line["page_bytes"] > 4096,
    )


def writer_pause_rows(line: Printed) -> Iterator[Result]:
    """A line of `writer_pause`: rounds of the writer, or times from a record to its effect."""
    yield Result(
        line["scenario"],
        "vnet-gateway",
        int(line["flows"]),
        p50_us=line["p50_us"],
        p99_us=line["p99_us"],
        p999_us=line["p999_us"],
        seconds=line["seconds"],
        wall_p999_us=line.get("wall_p999_us"),
        wall_seconds=line.get("wall_seconds"),
        repeats=line["turns"],
    )


SHAPES = (
    "vxlan-encap-in-process",
    "vxlan-encap-tagged-in-process",
    "vxlan-encap-hops-in-process",
    "vxlan-encap-four-hops-in-process",
    "vxlan-encap-set-in-process",
    "vxlan-encap-tagged-hops-in-process",
    "vxlan-encap-tunnels-in-process",
    "vxlan-decap-in-process",
    "vxlan-decap-tagged-in-process",
    "vxlan-decap-tunnels-in-process",
)
PIPELINE = Program(
    "pipeline",
    (*SHAPES, "parse", "encapsulate"),
    pipeline_rows,
    pinned=True,
    named=SHAPES,
)
FLOW_TABLE = Program(
    "flow_table",
    (
        "flow-table-hit",
        "flow-table-hit-alone",
        "flow-table-hit-with-writer",
        "flow-table-hit-small-pages",
        "flow-table-miss",
        "flow-table-miss-with-writer",
        "flow-table-insert",
        "flow-table-evict",
    ),
    flow_table_rows,
    pinned=False,
)
WRITER_PAUSE = Program(
    "writer_pause",
    ("writer-pause", "writer-effect"),
    writer_pause_rows,
    pinned=False,
)
