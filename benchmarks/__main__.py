# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks`: what make bench, bench-check, bench-record and bench-docs call."""

from __future__ import annotations

import fnmatch
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
from rich.console import Console

from benchmarks import (
    catalogue,
    document,
    enclosure,
    gates,
    machine,
    recorded,
    result,
    runner,
    scenario,
    sheet,
)
from benchmarks.progress import Progress
from benchmarks.result import Result
from benchmarks.run_directory import run_directory
from benchmarks.scenario import Scenario
from benchmarks.subject import Bed


@dataclass(frozen=True)
class Choice:
    """Which scenarios to measure; empty means all."""

    quick: bool = False
    names: tuple[str, ...] = ()  # patterns such as vxlan-*
    flows: tuple[int, ...] = ()
    frames: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()

    def of(self, scenarios: Sequence[Scenario]) -> list[Scenario]:
        chosen = []
        for one in scenarios:
            named = not self.names or any(fnmatch.fnmatch(one.name, name) for name in self.names)
            sized = not self.frames or str(one.frame_bytes) in self.frames
            if (
                named
                and sized
                and (one.quick or not self.quick)
                and (not self.flows or one.flows in self.flows)
            ):
                subjects = tuple(name for name in one.subjects if not self.subjects or name in self.subjects)
                if subjects:
                    chosen.append(replace(one, subjects=subjects))
        return chosen

    def why_none(self, scenarios: Sequence[Scenario]) -> str:
        """Say which part of the choice leaves nothing, and what there is to choose from."""
        named = Choice(names=self.names).of(scenarios)
        if not named:
            known = _each(one.name for one in scenarios)
            return f"no such scenario: SCENARIO= takes names or patterns of {known}"
        if not Choice(names=self.names, subjects=self.subjects).of(scenarios):
            known = _each(subject for one in named for subject in one.subjects)
            return f"no such subject: SUBJECTS= takes, of these scenarios, {known}"
        named = Choice(names=self.names, quick=self.quick).of(scenarios)
        if not named:
            return "none of these scenarios is in a quick run: leave QUICK=1 out"
        return (
            f"nothing is of this size{' in a quick run' if self.quick else ''}: of these scenarios "
            f"FLOWS= takes {_each(str(one.flows) for one in named)}, "
            f"FRAMES= {_each(str(one.frame_bytes) for one in named)}"
        )


def _each(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def words(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(word for word in value.replace(",", " ").split() if word)


def numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(word.replace("_", "")) for word in words(context, parameter, value))
    except ValueError:
        raise click.BadParameter(f"{value!r}: give numbers such as 1000,10000") from None


def bed_of(directory: Path, ports: tuple[str, ...], quick: bool) -> Bed:
    """The last processor for the poll thread (interrupts prefer the first), the rest for everything else."""
    processors = machine.processors()
    if len(processors) < 2:
        raise click.ClickException(
            "one processor only: a poll thread needs one for itself, and so does everything else; use two"
        )
    return Bed(processors[-1], processors[:-1], machine.hugepages_free() > 0, directory, ports, quick)


def measure(
    choice: Choice, ports: tuple[str, ...], console: Console, output: Path = result.FILE
) -> list[Result]:
    """Measure what is chosen, show tables as they come, write the results. Returns all rows."""
    every = scenario.load()
    chosen = choice.of(every)
    if not chosen:
        raise click.ClickException(choice.why_none(every))
    began = time.monotonic()
    built()
    signal.signal(signal.SIGTERM, _terminated)  # leave every context: nothing is left running
    with run_directory() as directory:
        bed = bed_of(directory, ports, choice.quick)
        described = machine.describe() | {"quick": choice.quick}
        plan = runner.QUICK if choice.quick else runner.Plan()
        console.print(
            f"{described['cpu']}, {described['cores']} processors, TSC {described['tsc_hz'] / 1e9:.2f} GHz, "
            f"Linux {described['kernel']}, {'hugepages' if bed.hugepages else 'no hugepages'}, "
            f"commit {described['commit']}; poll thread on processor {bed.poll_cpu}"
        )
        os.sched_setaffinity(0, bed.other_cpus)
        one_run = runner.Runner(
            catalogue.subjects(), catalogue.components(), bed, plan, described, machine.versions()
        )
        results: list[Result] = []
        with Progress(len(chosen), console) as progress:
            for rows in one_run.run(chosen, progress.says):
                results += rows
                progress.done(rows)
    result.write(results, output)
    for one in sheet.sheets(results, every):
        show(one, console)
    console.print(f"\n{len(results)} results in {time.monotonic() - began:.0f} s: {shown(output)}")
    return results


def screen() -> Console:
    """The terminal; where output is kept, lines as wide as the widest table."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def built() -> None:
    """Let an editable install rebuild what has changed now, not in every process that is measured."""
    done = subprocess.run(
        [sys.executable, "-c", "import fastpath"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException(f"the product does not build: run make build\n{done.stderr.strip()}")


def _terminated(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def show(one: sheet.Sheet, console: Console) -> None:
    console.print()
    console.print(sheet.terminal(one) if one.rows else f"[bold italic]{one.title}")
    for note in one.notes:
        console.print(f"  {note}", style="red" if "FAILED" in note else "yellow", highlight=False)


def shown(path: Path) -> str:
    return str(path.relative_to(machine.ROOT)) if path.is_relative_to(machine.ROOT) else str(path)


def finish(results: Sequence[Result], console: Console) -> int:
    """The exit status of a run: 1 if something failed while it ran. A missing peer does not fail a run."""
    for name in sorted({one.subject for one in results if one.missing}):
        why = next(one.missing for one in results if one.subject == name and one.missing)
        console.print(f"not measured: {name}: {why}", style="yellow", highlight=False)
    failed = [one for one in results if one.failed]
    for one in failed:
        console.print(
            f"failed: {one.subject} at {one.scenario}, {one.flows} flows: {one.failed}", style="bold red"
        )
    return 1 if failed else 0


def check(results: Sequence[Result], console: Console) -> int:
    """Judge the gates, compare with the recorded ratios. Returns the exit status."""
    asked = [
        one
        for one in scenario.load()
        if any(row.key[0] == one.name and row.key[2:] == one.key[1:] for row in results)
    ]
    verdicts = gates.judge(gates.load(), results, asked)
    comparisons = recorded.compare(recorded.read(), results)
    show(sheet.gate_sheet(verdicts), console)
    if comparisons:
        show(sheet.comparison_sheet(comparisons), console)
    else:
        kind = recorded.kind_of(recorded.machine_of(results))
        console.print(
            f"\nno figures recorded for this kind of machine ({kind}): make bench-record keeps those of the "
            "last run; until then gates alone are judged",
            style="yellow",
            highlight=False,
        )
    failing = [one for one in verdicts if one.fails]
    regressed = [one for one in comparisons if one.regressed]
    failed = [one for one in results if one.failed]
    gated = [one for one in verdicts if one.asked and not one.gate.goal]
    reached = sum(one.reached for one in gated)
    console.print(
        f"\n{reached} of {len(gated)} gates reached, {len(regressed)} of {len(comparisons)} recorded ratios "
        f"regressed, {len(failed)} measurements failed",
        style="bold red" if failing or regressed or failed else "bold green",
    )
    return 1 if failing or regressed or failed else 0


def current(console: Console, quick: bool) -> list[Result]:
    """The last results if they are of these sources; else measure anew, quickly."""
    try:
        results = list(result.read())
    except (FileNotFoundError, ValueError) as why:
        console.print(str(why), style="yellow")
        results = []
    if results and results[0].machine.get("source_id") == machine.source_id():
        measured = results[0].machine
        console.print(
            f"results of {measured['measured_at']}, commit {measured['commit']}: {shown(result.FILE)}"
        )
        return results
    console.print("no results of these sources: measuring the quick ones first")
    return measure(Choice(quick=quick), (), console)


@click.group(invoke_without_command=True, help=__doc__)
@click.pass_context
def main(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        context.invoke(run)


@main.command()
@click.option(
    "--quick", is_flag=True, help="64-byte frames only, fewer flows and repeats: under four minutes"
)
@click.option("--ports", default="", callback=words, help="two PCI addresses: source side, sink side")
@click.option("--scenario", "names", default="", callback=words, help="names or patterns, such as vxlan-*")
@click.option("--flows", default="", callback=numbers, help="only these numbers of flows")
@click.option("--frames", default="", callback=words, help="only these frame sizes: 64, IMIX")
@click.option("--subjects", default="", callback=words, help="only these subjects")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), default=result.FILE, show_default=True
)
def run(
    quick: bool = False,
    ports: tuple[str, ...] = (),
    names: tuple[str, ...] = (),
    flows: tuple[int, ...] = (),
    frames: tuple[str, ...] = (),
    subjects: tuple[str, ...] = (),
    output: Path = result.FILE,
) -> None:
    """Measure, show tables, write the results."""
    console = screen()
    results = measure(Choice(quick, names, flows, frames, subjects), ports, console, output)
    sys.exit(finish(results, console))


@main.command("check")
def check_() -> None:
    """Judge the gates and compare with the recorded ratios; measures quickly first if need be."""
    console = screen()
    results = current(console, quick=True)
    finish(results, console)
    sys.exit(check(results, console))


@main.command()
@click.option("--anew", is_flag=True, help="forget what was recorded on this kind of machine")
def record(anew: bool) -> None:
    """Add the ratios of the last run to those that bench-check compares with on this kind of machine."""
    run = recorded.record(result.read(), anew=anew)
    runs = sum(one.kind == run.kind for one in recorded.read())
    print(f"{len(run.ratios)} ratios recorded in {shown(recorded.FILE)}, {runs} runs on {run.kind}")


@main.command()
def docs() -> None:
    """Write the tables and plots of the last run into docs/benchmarks.md and docs/benchmarks/."""
    for path in document.write(result.read()):
        print(shown(path))


if __name__ == "__main__":
    enclosure.enter()
    main()
