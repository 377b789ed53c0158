# SPDX-License-Identifier: Apache-2.0
"""Results as SVG: cycles against flows, throughput against frame size, latency distributions.

The same results give the same bytes: ids are hashed with a fixed salt and no date is written. A logarithmic
axis wherever numbers span decades; the spread of each point as a bar. Needs matplotlib, the extra `bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.result import Result
from benchmarks.scenario import FrameBytes, mean_bytes
from benchmarks.sheet import grouped, subject_name

# Told apart without colour too: each subject has a mark of its own.
STYLES: Mapping[str, tuple[str, str]] = {
    "vnet-gateway": ("#0b6e99", "o"),
    "floor": ("#8a8a8a", "_"),
    "openvswitch": ("#d9480f", "s"),
    "kernel-vxlan": ("#5f3dc4", "^"),
    "vpp": ("#2b8a3e", "D"),
    "rte_hash": ("#d9480f", "s"),
}
SETTINGS: Any = {
    "svg.hashsalt": "vnet-gateway",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "figure.figsize": (7.2, 4.0),
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Plot:
    """A plot as data: what `draw` puts into a file of this name."""

    name: str  # of the file, without .svg
    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    logarithmic: str = ""  # "x", "y" or "xy"
    ticks: tuple[tuple[float, str], ...] = ()  # of x


@dataclass(frozen=True)
class Line:
    label: str
    subject: str
    points: tuple[tuple[float, float, float], ...]  # x, y, spread of y


def plots(results: Sequence[Result]) -> list[Plot]:
    """What the results have points for. A line needs two of them."""
    found = [*_against_flows(results), *_against_size(results), *_latencies(results)]
    return [one for one in found if one.lines]


def _lines(
    results: Sequence[Result],
    scenario: str,
    chosen: Callable[[Result], bool],
    point: Callable[[Result], tuple[float, float, float]],
) -> tuple[Line, ...]:
    lines = []
    own = [one for one in results if one.scenario == scenario and one.cycles_per_packet and chosen(one)]
    for subject in dict.fromkeys(one.subject for one in own):
        some = [one for one in own if one.subject == subject]
        if len(some) > 1:
            lines.append(Line(subject_name(some[0]), subject, tuple(sorted(point(one) for one in some))))
    return tuple(lines)


def _against_flows(results: Sequence[Result]) -> Iterator[Plot]:
    for scenario, title, y in (
        ("vxlan-encap", "VXLAN encapsulation, 64-byte frames, one core", "cycles per packet"),
        ("vxlan-decap", "VXLAN decapsulation, 64-byte frames, one core", "cycles per packet"),
        ("vxlan-encap-in-process", "VXLAN encapsulation, in-process source", "cycles per packet"),
        ("vxlan-decap-in-process", "VXLAN decapsulation, in-process source", "cycles per packet"),
        ("flow-table-hit", "Flow table, look-ups that hit", "cycles per look-up"),
        ("flow-table-hit-with-writer", "Flow table, hits with a writer beside", "cycles per look-up"),
    ):
        lines = _lines(
            results,
            scenario,
            lambda one: one.frame_bytes == 64,
            lambda one: (one.flows, one.cycles_per_packet or 0.0, one.spread or 0.0),
        )
        steep = max((y for line in lines for _, y, _ in line.points), default=0.0) > 1000
        flows = sorted({x for line in lines for x, _, _ in line.points})
        yield Plot(
            f"{scenario}-flows",
            title,
            "entries" if "table" in scenario else "flows",
            y,
            lines,
            "xy" if steep else "x",
            tuple((x, grouped(x)) for x in flows),
        )


def _against_size(results: Sequence[Result]) -> Iterator[Plot]:
    for scenario, title in (
        ("vxlan-encap", "VXLAN encapsulation, 1 000 flows, one core"),
        ("vxlan-decap", "VXLAN decapsulation, 1 000 flows, one core"),
    ):
        lines = _lines(
            results,
            scenario,
            lambda one: one.flows == 1000,
            lambda one: (mean_bytes(one.frame_bytes), _gigabits(one), _gigabits(one, spread=True)),
        )
        sizes: set[FrameBytes] = {
            one.frame_bytes for one in results if one.scenario == scenario and one.flows == 1000
        }
        ticks = tuple(sorted((mean_bytes(size), str(size)) for size in sizes))
        yield Plot(
            f"{scenario}-sizes",
            title,
            "frame size in bytes, FCS counted",
            "Gb/s of inner frames",
            lines,
            "x",
            ticks,
        )


def _gigabits(result: Result, spread: bool = False) -> float:
    gigabits = (result.mpps or 0.0) * mean_bytes(result.frame_bytes) * 8 / 1e3
    if spread:
        return gigabits * (result.spread or 0.0) / (result.cycles_per_packet or 1.0)
    return gigabits


def _latencies(results: Sequence[Result]) -> Iterator[Plot]:
    for scenario, title in (
        ("first-packet-delay", "First-packet delay, stamped in the hold, by new flows a second"),
        ("wake-up", "Wake-up of an idle gateway"),
        ("directory-decide", "Round trip of a question to the directory"),
    ):
        lines = []
        for one in results:
            if one.scenario == scenario and one.percentiles_us:
                points = sorted((value, float(percent), 0.0) for percent, value in one.percentiles_us.items())
                label = f"{subject_name(one)}, {grouped(one.flows)}"
                lines.append(Line(label, one.subject, tuple(points)))
        values = [x for line in lines for x, _, _ in line.points]
        yield Plot(
            f"{scenario}-distribution",
            title,
            "µs",
            "percent not above",
            tuple(lines),
            "x",
            decimal_ticks(values),
        )


def decimal_ticks(values: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """1, 2, 5, 10 … around the values, of which there are some above 0."""
    if not values:
        return ()
    low, high = min(values), max(values)
    every = [step * 10.0**decade for decade in range(-3, 9) for step in (1, 2, 5)]
    first = max(at for at, tick in enumerate(every) if at == 0 or tick <= low)
    last = min(at for at, tick in enumerate(every) if tick >= high)
    return tuple((tick, grouped(tick) if tick >= 1 else f"{tick:g}") for tick in every[first : last + 1])


def draw(plot: Plot, directory: Path) -> Path:
    """Write a plot as an SVG file. Raises ImportError with the remedy if matplotlib is not there."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError("matplotlib is not installed: pip install -e '.[bench]'") from None
    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, NullLocator

    path = directory / f"{plot.name}.svg"
    directory.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(SETTINGS):
        figure, axes = pyplot.subplots()
        for line in plot.lines:
            _draw_line(axes, line)
        if "x" in plot.logarithmic:
            axes.set_xscale("log")
        if "y" in plot.logarithmic:
            axes.set_yscale("log")
        elif plot.lines:
            axes.set_ylim(bottom=0)
        if plot.ticks:
            axes.xaxis.set_major_locator(FixedLocator([x for x, _ in plot.ticks]))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticklabels([text for _, text in plot.ticks])
        axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
        axes.legend()
        figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return path


def _draw_line(axes: Any, line: Line) -> None:
    colour, mark = STYLES.get(line.subject, ("#000000", "x"))
    x, y, spread = zip(*line.points, strict=True)
    if any(spread):
        bars = [one / 2 for one in spread]
        axes.errorbar(x, y, yerr=bars, color=colour, marker=mark, label=line.label, capsize=2)
    else:
        axes.plot(x, y, color=colour, marker=mark if len(x) < 30 else "", label=line.label)
