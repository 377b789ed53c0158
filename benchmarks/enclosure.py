# SPDX-License-Identifier: Apache-2.0
"""Runs a command of which nothing stays behind, however it ends: `python -m benchmarks.enclosure COMMAND …`

The command is process 1 of a PID namespace and has a network and mounts of its own. When it ends, by SIGKILL
too, or when we do, the kernel kills every process that came of it, and what only they held goes with them:
network namespaces, interfaces, tables in shared memory and on hugepages. There is no list of what to clean
up, which could lack something. Needs root; without, no benchmark makes any of these."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG = 1
INSIDE = "VNET_BENCH_ENCLOSED"
KEPT_NAMES = ("/dev/shm", "/run/netns", "/run/dpdk")  # where names outlive whoever made them


def enter() -> None:
    """Start this program anew, enclosed, and end with its exit status; return if it is, or cannot be."""
    if os.environ.pop(INSIDE, None) or os.geteuid() != 0:
        return
    command = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks.enclosure", *command])


def run(command: list[str]) -> int:
    """Run a command enclosed and return its exit status. Not for a process with threads."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.environ[INSIDE] = "1"
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET):
        why = os.strerror(ctypes.get_errno())
        print(f"not enclosed ({why}): if it is killed, namespaces and files may stay behind", file=sys.stderr)
        os.execvp(command[0], command)
    child = os.fork()
    if child == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _inside(command)

    def passed_on(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGTERM, passed_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the child as well
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def _inside(command: list[str]) -> NoReturn:
    try:
        for words in mounts(Path("/proc/self/mounts").read_text()):
            Path(words[-1]).mkdir(parents=True, exist_ok=True)
            subprocess.run(words, check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        os.execvp(command[0], command)
    except (OSError, subprocess.CalledProcessError) as why:
        print(f"enclosure: {why}", file=sys.stderr)
    os._exit(1)


def mounts(text: str) -> list[list[str]]:
    """Return the commands that give a new mount namespace its own /proc, shared memory and hugepages.
    `text` is /proc/self/mounts."""
    commands = [
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "proc", "proc", "/proc"],
        *(["mount", "-t", "tmpfs", "tmpfs", name] for name in KEPT_NAMES),
    ]
    for line in text.splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "hugetlbfs":
            size = next((one for one in options.split(",") if one.startswith("pagesize=")), "pagesize=2M")
            commands.append(["mount", "-t", "hugetlbfs", "-o", size, "hugetlbfs", place])
    return commands


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
