# SPDX-License-Identifier: Apache-2.0
"""Every process of a whole gateway is killed and stopped under traffic: decisions may die, forwarding not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from gateway_lab import DOCUMENT, RULE, Lab, Stream, running, streaming, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: TAP ports"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture
def stream(lab: Lab) -> Iterator[Stream]:
    with streaming(lab) as made:
        yield made


@pytest.mark.parametrize("name", ["control", "slow-path-0", "directory", "data-plane-1"])
def test_kill_of_a_process_loses_no_cached_packet(lab: Lab, stream: Stream, name: str) -> None:
    victim = name if name != "data-plane-1" else _spare(lab)
    before = until(lambda: lab.pid(victim), f"{victim} lives")
    first = stream.sent

    lab.kill(victim)
    until(lambda: lab.pid(victim) not in (0, before), f"{victim} lives again")
    stream.pass_by(250)

    assert stream.lost(first) == []
    assert stream.repeated == 0


@pytest.mark.parametrize("name", ["parent", "control", "slow-path-0", "directory"])
def test_stopped_process_loses_no_cached_packet(lab: Lab, stream: Stream, name: str) -> None:
    first = stream.sent

    pid = lab.kill(name, signal.SIGSTOP)
    stream.pass_by(750)
    os.kill(pid, signal.SIGCONT)
    stream.pass_by(250)

    assert stream.lost(first) == []


def test_kill_of_the_parent_ends_nothing_and_the_next_one_adopts(lab: Lab, stream: Stream) -> None:
    names = ("control", "slow-path-0", "directory", "data-plane", "data-plane-1")
    before = {name: until(lambda name=name: lab.pid(name), name) for name in names}  # type: ignore[misc]
    first = stream.sent

    lab.kill("parent")
    lab.parent.wait()
    stream.pass_by(100)
    lab.start()
    until(lambda: lab.pid("parent"), "a parent")
    stream.pass_by(250)

    assert {name: lab.pid(name) for name in names} == before
    assert stream.lost(first) == []


def test_killed_data_plane_resumes_within_a_second_and_asks_for_no_flow(lab: Lab, stream: Stream) -> None:
    until(lambda: lab.pid(_spare(lab)), "a spare")
    name, pid = lab.forwarding()
    first = stream.sent

    os.kill(pid, signal.SIGKILL)
    until(lambda: lab.counters() and lab.forwarding()[1] != pid, "another data plane serves")
    stream.flowing()
    counters = lab.counters()
    until(lambda: lab.pid(name) not in (0, pid), "the next spare")
    stream.close()

    assert stream.longest_gap_s(first) < 1.0
    assert counters["hits"] > 0
    assert counters["miss_records"] == 0


def test_revocation_closes_at_once_also_after_all_that(lab: Lab, stream: Stream) -> None:
    lab.apply(DOCUMENT)
    until(lambda: not any(row["action"] == "deliver" for row in lab.flows()), "no flow delivers")
    revoked = stream.sent
    stream.pass_by(100)
    assert not [number for number in stream.received if number > revoked + 1]

    lab.apply(DOCUMENT + RULE)
    stream.flowing()


def test_first_packet_waits_and_is_not_lost(lab: Lab) -> None:
    lab.apply(DOCUMENT)
    until(lambda: not any(row["action"] == "deliver" for row in lab.flows()), "no flow delivers")
    lab.apply(DOCUMENT + RULE)
    until(lambda: not any(row["action"] == "drop" for row in lab.flows()), "no refusal is cached")
    stream = Stream(lab, rate=50)
    stream.pass_by(20)
    assert stream.lost() == []


def test_second_parent_is_refused(lab: Lab) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "gateway.main", "run", str(lab.file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert f"error: parent runs already (pid {lab.pid('parent')})" in second.stderr


def test_sigterm_to_the_parent_stops_everything(lab: Lab) -> None:
    names = ("control", "slow-path-0", "directory", "data-plane", "data-plane-1", "parent")
    until(lambda: all(lab.pid(name) for name in names), "all live")
    os.kill(lab.pid("parent"), signal.SIGTERM)
    assert lab.parent.wait(30) == 0
    assert not any(lab.pid(name) for name in names)


def _spare(lab: Lab) -> str:
    name, _ = lab.forwarding()
    return "data-plane-1" if name == "data-plane" else "data-plane"
