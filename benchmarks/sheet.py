# SPDX-License-Identifier: Apache-2.0
"""Results laid out for people: the same sheets in the terminal and, as Markdown, in docs/benchmarks.md.

A sheet has the columns that its rows have figures for. Subjects that could not run stand below it, once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from benchmarks import figures
from benchmarks.gates import OURS, Verdict
from benchmarks.recorded import Comparison
from benchmarks.result import Result
from benchmarks.scenario import Scenario

NAMES = {
    "vnet-gateway": "vnet-gateway",
    "floor": "floor (testpmd io)",
    "openvswitch": "Open vSwitch",
    "kernel-vxlan": "Linux kernel",
    "vpp": "VPP",
    "rte_hash": "rte_hash",
}


@dataclass(frozen=True)
class Sheet:
    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    words: int = 1  # columns from the left that hold words; the others hold figures


def grouped(number: float) -> str:
    """Thousands with a space between: 1 000 000."""
    return f"{number:,.0f}".replace(",", " ")


def rounded(number: float) -> str:
    """With as many digits as mean something: three."""
    if number >= 1000:
        return grouped(number)
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def microseconds(value: float) -> str:
    return f"{rounded(value)} µs" if value < 1000 else f"{rounded(value / 1000)} ms"


def seconds(value: float) -> str:
    return f"{rounded(value)} s" if value >= 1 else microseconds(value * 1e6)


def subject_name(row: Result) -> str:
    if row.subject == "floor" and row.source == "in-process":
        return "floor (no stages)"
    return NAMES.get(row.subject, row.subject)


def sheets(results: Sequence[Result], scenarios: Sequence[Scenario]) -> list[Sheet]:
    """A sheet for each scenario name, in the order of the scenarios."""
    about = {one.name: one for one in reversed(scenarios)}
    names = dict.fromkeys(one.scenario for one in results)
    order = {name: at for at, name in enumerate(dict.fromkeys(one.name for one in scenarios))}
    return [
        _sheet([one for one in results if one.scenario == name], results, about.get(name), name)
        for name in sorted(names, key=lambda name: order.get(name, len(order)))
    ]


def _sheet(own: Sequence[Result], results: Sequence[Result], scenario: Scenario | None, name: str) -> Sheet:
    rows = figures.by_key(results)
    operation = scenario.operation if scenario else "packet"
    with_figures = sorted(
        (one for one in own if figures.leading(one) or one.lost_percent),
        key=lambda one: (one.flows, _size(one)),
    )
    columns: list[tuple[str, Callable[[Result], str]]] = [
        (scenario.counts if scenario else "flows", lambda one: grouped(one.flows)),
        ("frame", lambda one: str(one.frame_bytes)),
        ("subject", subject_name),
        (f"cycles/{operation}", lambda one: _with_spread(one, "cycles_per_packet")),
        ("own part", lambda one: _optional(figures.own_cycles(rows, one), one.subject != "floor")),
        ("Mpps", lambda one: _optional(one.mpps)),
        (_rate_of(scenario), lambda one: _with_spread(one, "per_second")),
        ("a CPU second", lambda one: _optional(one.per_cpu_second)),
        ("time", lambda one: seconds(one.seconds) if one.seconds is not None else ""),
        ("p50", lambda one: _time(one.p50_us)),
        ("p99", lambda one: _time(one.p99_us)),
        ("p99.9", lambda one: _time(one.p999_us)),
        ("CPU", lambda one: f"{one.cpu_percent:.2f} %" if one.cpu_percent is not None else ""),
        ("memory", lambda one: f"{grouped(one.rss_bytes / 1e6)} MB" if one.rss_bytes is not None else ""),
        ("hits", lambda one: f"{one.hit_percent:.3f} %" if one.hit_percent is not None else ""),
        ("bytes/flow", lambda one: _optional(one.bytes_per_flow)),
        ("updates/s", lambda one: _optional(one.updates_per_second)),
        ("lost", lambda one: f"{one.lost_percent:.2f} %" if one.lost_percent else ""),
        ("ours is better", lambda one: _beside(one, rows)),
    ]
    several = len({one.frame_bytes for one in with_figures}) > 1 or (
        scenario is not None and scenario.direction != ""
    )
    kept = [
        (title, text)
        for title, text in columns
        if (title != "frame" or several) and any(text(one) for one in with_figures)
    ]
    table: list[tuple[str, ...]] = []
    before: tuple[object, ...] = ()
    for one in with_figures:
        place = (one.flows, one.frame_bytes)
        cells = [text(one) for _, text in kept]
        if place == before:
            cells = [
                "" if title in (columns[0][0], "frame") else cell
                for (title, _), cell in zip(kept, cells, strict=True)
            ]
        before = place
        table.append(tuple(cells))
    title = scenario.title if scenario and scenario.title else name
    return Sheet(
        title=title,
        about=scenario.about if scenario else "",
        columns=tuple(title for title, _ in kept),
        rows=tuple(table),
        notes=tuple(_notes(own, scenario)),
        words=0,
    )


def _size(result: Result) -> int:
    return 10_000 if result.frame_bytes == "IMIX" else int(result.frame_bytes)


def _rate_of(scenario: Scenario | None) -> str:
    return f"{scenario.rate}/s" if scenario and scenario.rate else "per second"


def _optional(value: float | None, shown: bool = True) -> str:
    return rounded(value) if value is not None and shown else ""


def _time(value: float | None) -> str:
    return microseconds(value) if value is not None else ""


def _with_spread(result: Result, name: str) -> str:
    value = getattr(result, name)
    if value is None:
        return ""
    figure = figures.leading(result)
    if result.spread and figure and figure[0] == name:
        return f"{rounded(value)} ± {rounded(result.spread / 2)}"
    return rounded(value)


def _beside(result: Result, rows: figures.Rows) -> str:
    """How many times as much a peer takes (own parts where there is a floor); of rates, as ours does."""
    ours = rows.get((result.scenario, OURS, result.flows, result.frame_bytes))
    if ours is None or result.subject in (OURS, "floor"):
        return ""
    own, theirs = figures.own_cycles(rows, ours), figures.own_cycles(rows, result)
    if own and theirs and own > 0:
        return f"{theirs / own:.2f} ×"
    if result.floor_cycles is not None:
        return ""  # whole figures have unlike sources
    mine, other = figures.leading(ours), figures.leading(result)
    if mine is None or other is None or mine[0] != other[0] or not mine[1] or not other[1]:
        return ""
    smaller = mine[0] in figures.SMALLER_IS_BETTER
    return f"{(other[1] / mine[1]) if smaller else (mine[1] / other[1]):.2f} ×"


def _notes(own: Iterable[Result], scenario: Scenario | None) -> list[str]:
    """What rows have to say, each once, with where it holds if it does not hold everywhere."""
    rows = list(own)
    said: dict[tuple[str, str], list[Result]] = {}
    for one in rows:
        for word, text in (("is missing", one.missing), ("FAILED", one.failed), ("", one.note)):
            if text:
                said.setdefault((subject_name(one), f"{word}: {text}" if word else f": {text}"), []).append(
                    one
                )
    notes = []
    for (name, text), some in said.items():
        where = ""
        if len(some) < len([one for one in rows if subject_name(one) == name]):
            counts = scenario.counts if scenario else "flows"
            sized = scenario is not None and scenario.direction
            where = " at " + ", ".join(
                f"{grouped(one.flows)} {counts}" + (f", {one.frame_bytes} bytes" if sized else "")
                for one in some
            )
        notes.append(f"{name}{where}{text if text.startswith(':') else ' ' + text}")
    shares = {subject_name(one): one.cpu_shares for one in rows if one.cpu_shares}
    for name, parts in shares.items():
        notes.append(
            f"{name}, share of a processor: "
            + ", ".join(f"{who} {rounded(part)} %" for who, part in parts.items())
        )
    return notes


def gate_sheet(verdicts: Sequence[Verdict]) -> Sheet:
    """Gates and goals, each with what was measured."""
    table = []
    for one in verdicts:
        if not one.asked:
            continue
        value = "-" if one.value is None else f"{one.value:.3f}" if one.value < 1 else rounded(one.value)
        verdict = "reached" if one.reached else "short" if one.gate.goal else "FAILS"
        table.append((one.gate.says(), "goal" if one.gate.goal else "gate", one.gate.limit, value, verdict))
    notes = [f"{one.gate.says()}: {one.why}" for one in verdicts if one.asked and one.why]
    left = [one for one in verdicts if not one.asked]
    if left:
        notes.append(f"{len(left)} not a part of this run; make bench measures them all")
    return Sheet(
        "Gates and goals",
        "A gate that is not reached fails the check. Goals are absolute, so reported only: machines differ.",
        ("what", "kind", "asked", "measured", ""),
        tuple(table),
        tuple(notes),
        words=2,
    )


def comparison_sheet(comparisons: Sequence[Comparison]) -> Sheet:
    """Recorded ratios beside today's."""
    table, notes = [], []
    for one in comparisons:
        was, now = one.recorded[0], one.now
        name = f"{was.scenario}, {grouped(was.flows)} flows, {was.frame_bytes} bytes, beside {was.beside}"
        if now is None:
            notes.append(f"{name}: {one.why}")
            continue
        verdict = "REGRESSED" if one.regressed else "better" if one.better else "same"
        several = f"{one.lowest:.3f} to {one.highest:.3f}" if len(one.recorded) > 1 else ""
        table.append(
            (
                name,
                str(len(one.recorded)),
                f"{one.median:.3f}",
                several,
                f"{now.ratio:.3f}",
                f"{one.allowed:.3f}",
                verdict,
            )
        )
    return Sheet(
        "Ratios beside the recorded ones",
        "Smaller is better. Recorded on this kind of machine: how many runs, their median and range.",
        ("what", "runs", "recorded", "range", "now", "allowed", ""),
        tuple(table),
        tuple(notes),
    )


def terminal(sheet: Sheet) -> Table:
    """For rich to print."""
    table = Table(
        title=sheet.title,
        title_justify="left",
        title_style="bold italic",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for at, column in enumerate(sheet.columns):
        word = at < sheet.words or column in ("subject", "")
        table.add_column(column, justify="left" if word else "right", no_wrap=not word)
    for row in sheet.rows:
        bold = OURS in row
        red = any(cell in ("FAILS", "REGRESSED") for cell in row)
        table.add_row(*row, style="bold red" if red else "bold" if bold else None)
    return table


def markdown(sheet: Sheet, level: int = 3) -> str:
    """The same for the docs."""
    lines = [f"{'#' * level} {sheet.title}", ""]
    if sheet.about:
        lines += [sheet.about, ""]
    if sheet.rows:
        lines.append("| " + " | ".join(column or " " for column in sheet.columns) + " |")
        marks = [
            "---" if at < sheet.words or column in ("subject", "") else "---:"
            for at, column in enumerate(sheet.columns)
        ]
        lines.append("|" + "|".join(marks) + "|")
        lines += ["| " + " | ".join(cell or " " for cell in row) + " |" for row in sheet.rows]
        lines.append("")
    for note in sheet.notes:
        lines += [f"- {note}"]
    return "\n".join(lines).rstrip() + "\n"
