# SPDX-License-Identifier: Apache-2.0
"""A run of the benchmarks from the command line to its results: what is measured in process, at one flow.

No figure is judged here: the machine may be busy with other tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import result

ROOT = Path(__file__).resolve().parents[2]
IN_PROCESS = "vxlan-encap-in-process,parse,flow-table-evict"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_a_quick_run_ends_with_results_for_each_scenario_and_subject(tmp_path: Path) -> None:
    output = tmp_path / "latest.jsonl"

    done = bench("run", "--quick", "--scenario", IN_PROCESS, "--flows", "1,1000", "--output", str(output))

    assert done.returncode == 0, done.stdout + done.stderr
    rows = {one.key: one for one in result.read(output)}
    assert set(rows) == {
        ("vxlan-encap-in-process", subject, flows, 64)
        for subject in ("vnet-gateway", "floor")
        for flows in (1, 1000)
    } | {("parse", "vnet-gateway", 1000, 64)}
    ours = rows["vxlan-encap-in-process", "vnet-gateway", 1000, 64]
    floor = rows["vxlan-encap-in-process", "floor", 1000, 64]
    assert ours.cycles_per_packet is not None
    assert floor.cycles_per_packet is not None
    assert ours.cycles_per_packet > floor.cycles_per_packet > 0
    assert ours.hit_percent == 100.0
    assert ours.machine["tsc_hz"] > 0
    assert "VXLAN encapsulation, in process" in done.stdout


def test_a_scenario_that_is_not_there_is_refused_with_those_that_are() -> None:
    done = bench("run", "--scenario", "warp-speed")

    assert done.returncode == 1
    assert "vxlan-encap" in done.stderr
