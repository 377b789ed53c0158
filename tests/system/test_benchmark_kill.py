# SPDX-License-Identifier: Apache-2.0
"""Nothing is left of a run of the benchmarks, however it ends: no process, no namespace, no tables; and its
directory goes with the next run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import run_directory

ROOT = Path(__file__).resolve().parents[2]
START_S, END_S = 60.0, 20.0
TABLES = Path("/dev/shm/vnet-bench-1")  # process 1 of its namespace names them


def until(condition: Callable[[], object], what: str, seconds: float) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


class Run:
    """A run that measures an idle gateway; what came of it, by a mark in the environment."""

    def __init__(self, directory: Path) -> None:
        self._mark = f"BENCH_RUN={uuid.uuid4()}".encode()
        name, _, value = self._mark.decode().partition("=")
        words = ["run", "--scenario", "idle", "--output", str(directory / "latest.jsonl")]
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks", *words],
                cwd=ROOT,
                env={**os.environ, name: value, "TMPDIR": str(directory)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def pids(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if self._mark in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def polls(self) -> bool:
        """Whether a data plane of its forwards."""
        return any(names & {"poll-0"} for names in map(_threads, self.pids()))

    def inner(self) -> int:
        """The process that measures: the first in its namespace."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])


def _threads(pid: int) -> set[str]:
    with contextlib.suppress(OSError):
        return {path.read_text().strip() for path in Path(f"/proc/{pid}/task").glob("*/comm")}
    return set()


def _networks(pids: list[int]) -> set[int]:
    return {Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in pids}


def _held(namespaces: set[int]) -> list[str]:
    """Who of all processes and names still holds one of these network namespaces."""
    found = []
    for path in [*Path("/proc").glob("[0-9]*/ns/net"), *Path("/run/netns").glob("*")]:
        with contextlib.suppress(OSError):
            if path.stat().st_ino in namespaces:
                found.append(str(path))
    return found


@pytest.fixture
def run() -> Iterator[Run]:
    directory = Path(tempfile.mkdtemp(prefix="kill-"))  # paths of sockets have to be short
    run = Run(directory)
    try:
        until(lambda: run.polls() or run.process.poll() is not None, "a data plane forwards", START_S)
        assert run.process.poll() is None, (directory / "log").read_text()
        yield run
    finally:
        shutil.rmtree(directory)
        for pid in run.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.process.wait()


KILLS: dict[str, Callable[[Run], None]] = {
    "killed": lambda run: os.kill(run.process.pid, signal.SIGKILL),
    "the process that measures killed": lambda run: os.kill(run.inner(), signal.SIGKILL),
    "Ctrl-C": lambda run: os.killpg(run.process.pid, signal.SIGINT),
    "terminated": lambda run: os.kill(run.process.pid, signal.SIGTERM),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
@pytest.mark.parametrize("how", KILLS)
def test_nothing_is_left_of_a_run(run: Run, how: str) -> None:
    pids = run.pids()
    networks = _networks(pids) - _networks([os.getpid()])
    assert len(pids) >= 6  # both of ours, directory, parent, control, slow path, data plane
    assert len(networks) == 2  # the run's and the gateway's

    KILLS[how](run)

    assert run.process.wait(END_S) != 0
    until(lambda: not run.pids(), f"{run.pids()} ended", END_S)
    until(lambda: not _held(networks), f"{_held(networks)} gone", END_S)
    assert not TABLES.exists()
    assert not list(Path("/run/dpdk").glob("vnet-bench-1-*"))


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_status_of_what_is_enclosed_is_ours(code: int) -> None:
    command = [sys.executable, "-m", "benchmarks.enclosure", "sh", "-c", f"exit {code}"]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=30).returncode == code


def test_a_directory_that_a_killed_run_left_goes_with_the_next_run(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\nfrom benchmarks.run_directory import run_directory\n"
        "with run_directory(pathlib.Path(sys.argv[1])) as made:\n"
        "    (made / 'file').touch()\n    print(made, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        with run_directory.run_directory(tmp_path) as ours:
            assert left.is_dir()  # it lives
        other.kill()
        other.wait()

    assert left.is_dir()
    with run_directory.run_directory(tmp_path) as ours:
        assert not left.exists()
        assert ours.is_dir()
    assert not ours.exists()
