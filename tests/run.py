# SPDX-License-Identifier: Apache-2.0
"""Run all tests and end with one honest summary; what `make test` calls.

Every stage runs, also when one before it failed. A stage that cannot run counts as failed.
Arguments select stages by name: `python tests/run.py asan pytest`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Outcome:
    """What a stage counted. `note` says why something could not run."""

    passed: int
    failed: int
    skipped: int = 0
    note: str = ""


def run(command: list[str], env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command, show its output as it comes, return its exit status and output."""
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | (env or {})
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        lines = []
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
        return process.wait(), "".join(lines)


def c_tests(name: str, options: list[str], env: dict[str, str], suites: list[str]) -> Outcome:
    """Build the C libraries and tests into build/NAME and run the tests."""
    build = f"build/{name}"
    if not (ROOT / build / "build.ninja").exists():
        status, _ = run(["meson", "setup", build, "-Dnative_only=true", *options], env)
        if status:
            return Outcome(0, 1, note=f"meson setup {build} failed")
    status, _ = run(["ninja", "-C", build], env)
    if status:
        return Outcome(0, 1, note=f"building {build} failed")
    test = ["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs", *suites]
    status, output = run(test, env)
    counts = {key: int(n) for key, n in re.findall(r"^(Ok|Fail|Skipped|Timeout):\s+(\d+)", output, re.M)}
    failed = counts.get("Fail", 0) + counts.get("Timeout", 0)
    return Outcome(counts.get("Ok", 0), failed or int(status != 0), counts.get("Skipped", 0))


def stage_c() -> Outcome:
    return c_tests("c", ["-Dbuildtype=debugoptimized"], {}, [])


def stage_asan() -> Outcome:
    options = ["-Dbuildtype=debugoptimized", "-Db_sanitize=address,undefined", "-Db_lundef=false"]
    env = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
    return c_tests("asan", options, env, [])


def stage_tsan() -> Outcome:
    options = ["-Dbuildtype=debugoptimized", "-Db_sanitize=thread", "-Db_lundef=false"]
    env = {"CC": "clang", "TSAN_OPTIONS": "halt_on_error=1"}
    return c_tests("tsan", options, env, ["--suite", "tsan"])


def stage_pytest() -> Outcome:
    status, output = run([str(BIN / "python"), "-m", "pytest", "-q", "--durations=10"])
    last = output.strip().splitlines()[-1] if output.strip() else ""
    found = re.findall(r"(\d+) (passed|failed|error|skipped)", last)
    counts = {word: int(number) for number, word in found}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    return Outcome(counts.get("passed", 0), failed or int(status != 0), counts.get("skipped", 0))


def stage_lint() -> Outcome:
    ruff, _ = run([str(BIN / "ruff"), "check", "src", "tests", "demo"])
    mypy, _ = run([str(BIN / "mypy"), "src"])
    c = [str(path) for folder in ("native", "benchmarks") for path in (ROOT / folder).rglob("*.[ch]")]
    style, _ = run(["clang-format", "--dry-run", "-Werror", *sorted(c)])
    failed = sum(status != 0 for status in (ruff, mypy, style))
    return Outcome(3 - failed, failed)


STAGES: dict[str, Callable[[], Outcome]] = {
    "lint": stage_lint,
    "c": stage_c,
    "asan": stage_asan,
    "tsan": stage_tsan,
    "pytest": stage_pytest,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        print(f"error: no stage named {unknown[0]}\nfix:   one of {' '.join(STAGES)}", file=sys.stderr)
        return 2
    rows = []
    for name in names or STAGES:
        print(f"\n=== {name}", flush=True)
        started = time.monotonic()
        rows.append((name, STAGES[name](), time.monotonic() - started))
    print("\nstage     passed  failed  skipped   seconds")
    for name, got, seconds in rows:
        print(f"{name:8} {got.passed:7} {got.failed:7} {got.skipped:8} {seconds:9.1f}  {got.note}")
    passed = sum(got.passed for _, got, _ in rows)
    failed = sum(got.failed for _, got, _ in rows)
    skipped = sum(got.skipped for _, got, _ in rows)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
