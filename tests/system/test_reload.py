# SPDX-License-Identifier: Apache-2.0
"""SIGHUP and `vnetctl reload` on a whole gateway: nothing ends, and what may change does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from gateway_lab import Lab, running, streaming, until

from gateway.processes.reloading import read_in_force

pytestmark = [
    pytest.mark.root,
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: TAP ports"),
]
PROCESSES = ("parent", "control", "slow-path-0", "data-plane", "data-plane-1", "directory")
READERS = PROCESSES[:-1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(tmp_path_factory.mktemp("lab")) as made:
        until(lambda: all(read_in_force(made.run_dir, name) for name in READERS), "all have started")
        yield made


def pids(lab: Lab) -> dict[str, int]:
    return {name: lab.pid(name) for name in PROCESSES}


def in_force(lab: Lab, key: str) -> dict[str, str]:
    found = {name: read_in_force(lab.run_dir, name) for name in READERS}
    return {name: said.values[key] for name, said in found.items() if said and key in said.values}


def reload(lab: Lab, *options: str) -> subprocess.CompletedProcess[str]:
    socket = str(lab.run_dir / "gateway.sock")
    command = [sys.executable, "-m", "vnetctl.main", "--socket", socket, "reload", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def who(found: subprocess.CompletedProcess[str], key: str, outcome: str) -> list[str]:
    """Return the processes that took a change, or wait with it."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in found.stdout.splitlines()]
    return [n for row in rows if (row["key"], row["outcome"]) == (key, outcome) for n in row["processes"]]


def write(lab: Lab, *changes: tuple[str, str]) -> None:
    text = lab.file.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    lab.file.write_text(text)


def test_a_hang_up_of_the_parent_is_taken_by_all_and_ends_nobody(lab: Lab) -> None:
    before = pids(lab)
    write(lab, ("[memory]", '[log]\nlevel = "debug"\n[memory]'))
    with streaming(lab) as stream:
        lab.kill("parent", signal.SIGHUP)
        until(lambda: set(in_force(lab, "log.level").values()) == {"debug"}, "all have read the file")
        stream.flowing()
        assert stream.lost() == []
    assert pids(lab) == before


@pytest.mark.parametrize("name", PROCESSES)
def test_a_hang_up_ends_no_process(lab: Lab, name: str) -> None:
    before = pids(lab)
    for _ in range(3):
        lab.kill(name, signal.SIGHUP)
    assert reload(lab).returncode == 0  # control, and through it all others, go on
    assert pids(lab) == before


def test_reload_shows_what_was_taken_and_what_waits_with_the_command(lab: Lab) -> None:
    serving = lab.forwarding()[0]
    write(lab, ("flows = 4096", "flows = 8192"), ("[memory]", "[hold]\nwait_ms = 700\n[memory]"))

    shown = reload(lab, "--json")

    assert shown.returncode == 0, shown.stderr
    assert {"slow-path-0", serving} <= set(who(shown, "hold.wait_ms", "taken"))
    assert who(shown, "capacity.flows", "waits for a restart") == [serving]  # the spare has begun anew
    assert f"kill {lab.pid(serving)}" in reload(lab).stdout


def test_what_waits_is_still_said_after_control_was_killed(lab: Lab) -> None:
    before = lab.kill("control")
    until(lambda: lab.pid("control") not in (0, before), "control lives again")
    until(lambda: reload(lab, "--json").returncode == 0, "it answers")
    assert who(reload(lab, "--json"), "capacity.flows", "waits for a restart") == [lab.forwarding()[0]]


def test_a_wrong_file_changes_nothing_and_is_refused_with_all_its_mistakes(lab: Lab) -> None:
    right = lab.file.read_text()
    before = {name: read_in_force(lab.run_dir, name) for name in READERS}
    try:
        write(lab, ("wait_ms = 700", 'wait_ms = 800\npackets = "x"'), ('level = "debug"', 'level = "loud"'))
        refused = reload(lab)
        assert refused.returncode == 2
        assert "hold.packets" in refused.stderr
        assert "log.level" in refused.stderr
        assert {name: read_in_force(lab.run_dir, name) for name in READERS} == before
    finally:
        lab.file.write_text(right)


def test_the_command_does_what_it_says(lab: Lab) -> None:
    serving, pid = lab.forwarding()
    lab.kill(serving, signal.SIGTERM)
    until(lambda: lab.pid(serving) not in (0, pid), "it is started again")
    until(lambda: all(value == "8192" for value in in_force(lab, "capacity.flows").values()), "all have it")
    until(lambda: reload(lab, "--json").stdout == "", "nothing waits")
