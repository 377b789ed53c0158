# SPDX-License-Identifier: Apache-2.0
"""Puts results into docs/benchmarks.md: tables between two marks, plots and the results themselves beside it.

Everything between the marks is made from docs/benchmarks/results.jsonl, a copy of what was run; a test makes
it again and compares, so no figure there can differ from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import gates, plot, result, scenario, sheet
from benchmarks.machine import ROOT
from benchmarks.result import Result

PAGE = ROOT / "docs" / "benchmarks.md"
DIRECTORY = ROOT / "docs" / "benchmarks"
RESULTS = DIRECTORY / "results.jsonl"
BEGIN = "<!-- figures: made by make bench-docs, not by hand -->"
END = "<!-- end of figures -->"


def figures(results: Sequence[Result]) -> str:
    """The generated part of the page: machine, gates, then each scenario with its table and plots."""
    if not results:
        raise ValueError("no results to write down: run make bench")
    scenarios = scenario.load()
    keys = {(one.scenario, one.flows, one.frame_bytes) for one in results}
    verdicts = gates.judge(gates.load(), results, [one for one in scenarios if one.key in keys])
    parts = [_machine(results), sheet.markdown(sheet.gate_sheet(verdicts))]
    drawn = plot.plots(results)
    for one in sheet.sheets(results, scenarios):
        parts.append(sheet.markdown(one))
        parts += [
            f"![{each.title}](benchmarks/{each.name}.svg)\n"
            for each in drawn
            if _belongs(each, one, scenarios)
        ]
    return "\n".join(parts)


def _belongs(one: plot.Plot, table: sheet.Sheet, scenarios: Sequence[scenario.Scenario]) -> bool:
    name = one.name.rpartition("-")[0]
    return any(each.name == name and table.title in (each.title, each.name) for each in scenarios)


def _machine(results: Sequence[Result]) -> str:
    machine = results[0].machine
    versions: dict[str, str] = {}
    for one in results:
        versions.update(one.versions)
    rows = [
        (
            "processor",
            f"{machine['cpu']}, {machine['cores']} processors, TSC {machine['tsc_hz'] / 1e9:.2f} GHz",
        ),
        ("kernel", f"Linux {machine['kernel']}"),
        ("hugepages", "yes" if any(one.hugepages for one in results) else "none"),
        *sorted((name, text) for name, text in versions.items() if name != "vnet-gateway"),
        ("commit", str(machine["commit"])),
        ("measured", str(machine["measured_at"]) + (", QUICK=1" if machine.get("quick") else "")),
    ]
    lines = ["### The machine", "", "| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)]
    return "\n".join(lines) + "\n"


def page(text: str, generated: str) -> str:
    """The page with its generated part replaced. Raises ValueError if the marks are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/benchmarks.md: the lines {BEGIN} and {END} are not both there")
    return f"{before}{BEGIN}\n\n{generated}\n{END}{after}"


def write(results: Sequence[Result]) -> list[Path]:
    """Write page, plots and results. Returns the files. Raises ImportError if matplotlib is not there."""
    drawn = [plot.draw(one, DIRECTORY) for one in plot.plots(results)]
    for old in set(DIRECTORY.glob("*.svg")) - set(drawn):
        old.unlink()
    result.write(results, RESULTS)
    PAGE.write_text(page(PAGE.read_text(), figures(results)))
    return [PAGE, RESULTS, *drawn]
