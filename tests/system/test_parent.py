# SPDX-License-Identifier: Apache-2.0
"""The parent against real processes that only wait, in the place of the gateway's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.processes import process

SCRIPT = """
import logging, sys
from pathlib import Path
from gateway.processes.parent import Child, Parent
from gateway.processes.process import AlreadyRunning
logging.basicConfig(level="INFO", stream=sys.stderr, format="%(message)s")
def append(event, text):
    with open(sys.argv[1] + "/events", "a") as f:
        print(event, text, file=f)
def command(name):
    def line(file):
        return f"print('{name}', file=open('{sys.argv[1]}/{file}', 'a'))"
    block, wait = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {15})", "signal.sigwait({15})"
    return [sys.executable, "-Sc", "; ".join([block, line("ready"), wait, line("stopped")])]
children = [Child("data-plane", command("data-plane"), 9), Child("control", command("control"), 1)]
try:
    sys.exit(Parent(Path(sys.argv[1]), children, append).run())
except AlreadyRunning as error:
    sys.exit(f"second: {error}")
"""


def until(condition: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"never happened: {what}"
        time.sleep(0.005)


def pid_of(run: Path, name: str) -> int:
    pid, start = process.read_pid_file(process.pid_file(run, name))
    return pid if pid and process.start_time(pid) == start else 0


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def start_parent(run: Path, **kwargs: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(run)], **kwargs)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for name in ("parent", "data-plane", "control"):
        if pid := pid_of(tmp_path, name):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL) if name != "parent" else os.kill(pid, signal.SIGKILL)


def both_run(run: Path) -> bool:
    return bool(pid_of(run, "data-plane") and pid_of(run, "control"))


def test_killed_child_is_started_again_and_the_other_is_left_alone(run: Path) -> None:
    start_parent(run)
    until(lambda: both_run(run), "both children run")
    control, data_plane = pid_of(run, "control"), pid_of(run, "data-plane")

    os.kill(control, signal.SIGKILL)

    until(lambda: pid_of(run, "control") not in (0, control), "control runs again")
    assert pid_of(run, "data-plane") == data_plane
    until(lambda: "process_restarted control" in (run / "events").read_text(), "the event")


def test_children_survive_the_parents_kill_and_the_next_parent_adopts_them(run: Path) -> None:
    first = start_parent(run)
    until(lambda: both_run(run), "both children run")
    before = pid_of(run, "control"), pid_of(run, "data-plane")

    first.kill()
    first.wait()
    second = start_parent(run)
    until(lambda: (run / "events").read_text().count("process_adopted") == 2, "both adopted")

    assert (pid_of(run, "control"), pid_of(run, "data-plane")) == before
    assert second.poll() is None


def test_adopted_child_that_dies_is_started_again(run: Path) -> None:
    first = start_parent(run)
    until(lambda: both_run(run), "both children run")
    first.kill()
    first.wait()
    start_parent(run)
    until(lambda: (run / "events").read_text().count("process_adopted") == 2, "both adopted")
    before = pid_of(run, "data-plane")

    os.kill(before, signal.SIGKILL)

    until(lambda: pid_of(run, "data-plane") not in (0, before), "the data plane runs again")


def test_child_that_died_while_there_was_no_parent_is_started_by_the_next(run: Path) -> None:
    first = start_parent(run)
    until(lambda: both_run(run), "both children run")
    first.kill()
    first.wait()
    control, data_plane = pid_of(run, "control"), pid_of(run, "data-plane")
    os.kill(control, signal.SIGKILL)
    until(lambda: not is_running(control), "control has ended")

    start_parent(run)

    until(lambda: both_run(run) and pid_of(run, "control") != control, "control runs again")
    assert pid_of(run, "data-plane") == data_plane


def test_second_parent_refuses(run: Path) -> None:
    first = start_parent(run)
    until(lambda: both_run(run), "both children run")

    second = start_parent(run, stderr=subprocess.PIPE)

    assert second.wait(20) == 1
    assert second.stderr is not None
    assert f"parent runs already (pid {first.pid})" in second.stderr.read().decode()


def test_sigterm_stops_all_and_the_data_plane_last(run: Path) -> None:
    parent = start_parent(run)
    until(lambda: both_run(run), "both children run")
    until(
        lambda: (run / "ready").exists() and len((run / "ready").read_text().split()) == 2, "both are ready"
    )
    pids = pid_of(run, "control"), pid_of(run, "data-plane")

    parent.terminate()

    assert parent.wait(20) == 0
    assert (run / "stopped").read_text().split() == ["control", "data-plane"]
    assert not any(is_running(pid) for pid in pids)


def test_a_hang_up_ends_nobody_also_one_that_has_just_begun(run: Path) -> None:
    parent = start_parent(run)
    until(lambda: both_run(run), "both children run")
    before = pid_of(run, "control"), pid_of(run, "data-plane")

    for _ in range(20):
        parent.send_signal(signal.SIGHUP)
        os.kill(before[0], signal.SIGHUP)
    until(
        lambda: (run / "ready").exists() and len((run / "ready").read_text().split()) == 2, "both are ready"
    )

    parent.terminate()
    assert parent.wait(20) == 0
    assert (run / "stopped").read_text().split() == ["control", "data-plane"]


def test_children_outlive_a_reader_of_their_log_that_went_away(run: Path) -> None:
    reader, writer = os.pipe()
    parent = start_parent(run, stderr=writer)
    os.close(writer)
    until(lambda: both_run(run), "both children run")
    before = pid_of(run, "data-plane")

    os.close(reader)
    os.kill(pid_of(run, "control"), signal.SIGKILL)  # makes the parent log

    until(lambda: (run / "events").read_text().count("process_restarted") == 1, "control runs again")
    assert parent.poll() is None
    assert pid_of(run, "data-plane") == before


def test_reused_pid_in_a_pid_file_is_not_taken_for_the_process(tmp_path: Path) -> None:
    process.pid_file(tmp_path, "control").write_text(f"{os.getpid()} 1\n")

    assert process.find("control", tmp_path) is None


def test_claim_of_a_name_that_lives_is_refused(tmp_path: Path) -> None:
    held = process.claim("control", tmp_path)
    other = process.start("data-plane", tmp_path, ["sleep", "1000"])
    try:
        assert process.claim("control", tmp_path) == -1  # ours already
        until(lambda: pid_of(tmp_path, "data-plane") == other.pid, "its pid file")
        with pytest.raises(process.AlreadyRunning, match=f"data-plane runs already \\(pid {other.pid}\\)"):
            process.claim("data-plane", tmp_path)
    finally:
        other.send(signal.SIGKILL)
        until(other.has_ended, "the end")
        other.close()
        os.close(held)
