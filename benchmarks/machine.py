# SPDX-License-Identifier: Apache-2.0
"""The machine and the versions that a result holds for."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ("native", "src", "benchmarks")  # what a change of makes results old
NOT_MEASURED = (".json", ".md", ".svg")


def output_of(command: Sequence[str]) -> str:
    """What a command prints; nothing if it is not there or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def cpu_model(cpuinfo: str) -> str:
    """The model with its family and number, which says what a virtual machine's name hides."""

    def field(name: str) -> str:
        found = re.search(rf"^{name}\s*: (.+)$", cpuinfo, re.MULTILINE)
        return found[1].strip() if found else "?"

    return f"{field('model name')} (family {field('cpu family')}, model {field('model')})"


def tsc_hz(cpuinfo: str) -> int:
    """Ticks of the time stamp counter in a second: the kernel calibrates its delay loop by it, two to a tick.

    Raises ValueError where /proc/cpuinfo does not tell (no x86)."""
    found = re.search(r"^bogomips\s*: ([\d.]+)$", cpuinfo, re.MULTILINE)
    if not found:
        raise ValueError("/proc/cpuinfo has no bogomips line: frequency of the TSC unknown; use x86")
    return round(float(found[1]) * 5e5)


def hugepages_free() -> int:
    """Free hugepages of the default size."""
    found = re.search(r"^HugePages_Free:\s+(\d+)$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def processors() -> tuple[int, ...]:
    """Those this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


def commit() -> str:
    """The commit, with a + if files have changed since."""
    sha = output_of(["git", "rev-parse", "--short=12", "HEAD"])
    if not sha:
        return "no git"
    return sha + ("+" if output_of(["git", "status", "--porcelain", "--untracked-files=no"]) else "")


def source_id() -> str:
    """A hash over the sources that figures depend on: results of other sources are old."""
    digest = hashlib.sha256()
    for top in MEASURED:
        for path in sorted((ROOT / top).rglob("*")):
            inside = path.relative_to(ROOT)
            if "results" in inside.parts or "__pycache__" in inside.parts or path.suffix in NOT_MEASURED:
                continue
            if path.is_file() and path.suffix not in (".pyc", ".so"):
                digest.update(f"{inside}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def describe() -> dict[str, Any]:
    """What a reader has to know of the machine to judge a figure."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    return {
        "cpu": cpu_model(cpuinfo),
        "cores": len(processors()),
        "tsc_hz": tsc_hz(cpuinfo),
        "kernel": platform.release(),
        "virtual": output_of(["systemd-detect-virt"]) or "unknown",
        "hugepages_free": hugepages_free(),
        "commit": commit(),
        "source_id": source_id(),
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def versions() -> dict[str, str]:
    """Ours and those of what we are built with."""
    compiler = output_of(["cc", "--version"]).splitlines()
    return {
        "vnet-gateway": commit(),
        "dpdk": output_of(["pkg-config", "--modversion", "libdpdk"]) or "not installed",
        "compiler": compiler[0] if compiler else "not installed",
        "python": platform.python_version(),
    }
