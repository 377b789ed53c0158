# SPDX-License-Identifier: Apache-2.0
"""Results laid out: sheets, plots, and the page whose figures are those of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import document, plot, result, scenario, sheet
from benchmarks.gates import Gate, Verdict
from benchmarks.recorded import Comparison, Ratio
from benchmarks.result import Result

MACHINE = {"cpu": "Z80", "cores": 2, "tsc_hz": 2.5e9, "kernel": "6.1", "commit": "abc", "measured_at": "now"}


def steady(
    subject: str, cycles: float | None, flows: int = 1000, size: object = 64, **more: object
) -> Result:
    mpps = 2500.0 / cycles if cycles else None
    return Result("vxlan-encap", subject, flows, size, cycles, mpps, machine=MACHINE, **more)  # type: ignore[arg-type]


RESULTS = [
    steady("vnet-gateway", 78.0, spread=2.0),
    steady("floor", 28.0),
    steady("openvswitch", 228.0),
    steady("vpp", None, missing="no binary; install VPP"),
    steady("vnet-gateway", 98.0, flows=10_000),
    steady("floor", 28.0, flows=10_000),
    steady("vnet-gateway", 200.0, size="IMIX"),
    Result(
        "first-packet-delay", "vnet-gateway", 10_000, p50_us=800.0, percentiles_us={"50": 800.0, "99": 5000.0}
    ),
]


def test_a_sheet_shows_own_parts_and_how_much_better_ours_is() -> None:
    first = sheet.sheets(RESULTS, scenario.load())[0]
    assert first.title == "VXLAN encapsulation"
    assert first.columns == (
        "flows",
        "frame",
        "subject",
        "cycles/packet",
        "own part",
        "Mpps",
        "ours is better",
    )
    assert first.rows[0] == ("1 000", "64", "vnet-gateway", "78.0 ± 1.00", "50.0", "32.1", "")
    assert first.rows[1] == ("", "", "floor (testpmd io)", "28.0", "", "89.3", "")
    assert first.rows[2] == ("", "", "Open vSwitch", "228", "200", "11.0", "4.00 ×")


def test_own_part_beside_a_source_of_its_own_is_without_that() -> None:
    own = steady("vpp", 220.0, floor_cycles=20.0)
    first = sheet.sheets([*RESULTS[:2], own], scenario.load())[0]
    assert first.rows[2] == ("", "", "VPP", "220", "200", "11.4", "4.00 ×")
    without_floor = sheet.sheets([RESULTS[0], own], scenario.load())[0]
    assert without_floor.rows[1][:5] == ("", "", "VPP", "220", "200")
    assert not any("×" in cell for cell in without_floor.rows[1])


def test_what_is_missing_stands_below_the_sheet_once() -> None:
    first = sheet.sheets(RESULTS, scenario.load())[0]
    assert first.notes == ("VPP is missing: no binary; install VPP",)


def test_a_note_that_holds_at_some_points_says_at_which() -> None:
    rows = [steady("floor", 28.0), steady("floor", None, flows=10_000, failed="ended with status 1")]
    (only,) = sheet.sheets(rows, scenario.load())
    assert only.notes == ("floor (testpmd io) at 10 000 flows, 64 bytes FAILED: ended with status 1",)


def test_figures_have_the_digits_that_mean_something() -> None:
    shown = [sheet.rounded(value) for value in (1_234_567.8, 123.4, 12.34, 1.234)]
    assert shown == ["1 234 568", "123", "12.3", "1.23"]
    assert [sheet.microseconds(value) for value in (68.0, 13_353.0)] == ["68.0 µs", "13.4 ms"]


def test_every_sheet_prints_in_a_narrow_terminal() -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for one in [*sheet.sheets(RESULTS, scenario.load()), sheet.Sheet("Empty", "", (), ())]:
        console.print(sheet.terminal(one))
    assert "Open vSwitch" in console.export_text()


def test_a_gate_that_fails_is_said_so_and_a_goal_is_short() -> None:
    failing = Verdict(
        Gate("own-part", "vxlan-encap", 1000, peer="b", at_most=0.3), None, "b is missing: install b"
    )
    short = Verdict(Gate("own-cycles", "vxlan-encap", 1000, at_most=45.0, goal=True), 50.0)
    one = sheet.gate_sheet([failing, short])
    assert [row[1:] for row in one.rows] == [
        ("gate", "≤ 0.3", "-", "FAILS"),
        ("goal", "≤ 45", "50.0", "short"),
    ]
    assert one.notes == ("vxlan-encap, 1 000 flows: own part beside b's: b is missing: install b",)


def test_a_comparison_shows_the_runs_recorded_their_range_and_what_it_comes_to() -> None:
    was = tuple(Ratio("vxlan-encap", 1000, 64, "openvswitch", one, 0.0) for one in (0.2, 0.25, 0.24))
    now = [Ratio("vxlan-encap", 1000, 64, "openvswitch", one, 0.01) for one in (0.31, 0.22, 0.14)]
    unknown = Comparison(was[:1], None, "openvswitch: not installed")
    one = sheet.comparison_sheet([*(Comparison(was, each) for each in now), unknown])
    assert [row[1:] for row in one.rows] == [
        ("3", "0.240", "0.200 to 0.250", "0.310", "0.300", "REGRESSED"),
        ("3", "0.240", "0.200 to 0.250", "0.220", "0.300", "same"),
        ("3", "0.240", "0.200 to 0.250", "0.140", "0.300", "better"),
    ]
    assert one.notes == (
        "vxlan-encap, 1 000 flows, 64 bytes, beside openvswitch: openvswitch: not installed",
    )


def test_markdown_has_a_row_for_each_row() -> None:
    text = sheet.markdown(sheet.sheets(RESULTS, scenario.load())[0])
    assert "| 1 000 | 64 | vnet-gateway | 78.0 ± 1.00 | 50.0 | 32.1 |   |" in text
    assert "- VPP is missing: no binary; install VPP" in text


# ---- plots


def test_plots_have_a_line_for_each_subject_with_two_points() -> None:
    found = {one.name: one for one in plot.plots(RESULTS)}
    assert set(found) == {"vxlan-encap-flows", "vxlan-encap-sizes", "first-packet-delay-distribution"}
    cycles = {line.subject: line.points for line in found["vxlan-encap-flows"].lines}
    assert cycles == {
        "vnet-gateway": ((1000, 78.0, 2.0), (10_000, 98.0, 0.0)),
        "floor": ((1000, 28.0, 0.0), (10_000, 28.0, 0.0)),
    }


def test_throughput_is_in_gigabits_of_inner_frames() -> None:
    sizes = next(one for one in plot.plots(RESULTS) if one.name == "vxlan-encap-sizes")
    (x, gigabits, _), _ = sizes.lines[0].points
    assert x == 64
    assert gigabits == pytest.approx(2500 / 78 * 64 * 8 / 1000)


def test_ticks_of_a_latency_are_round_numbers_around_it() -> None:
    assert plot.decimal_ticks([37.0, 1200.0]) == tuple(
        (float(tick), f"{tick:,}".replace(",", " ")) for tick in (20, 50, 100, 200, 500, 1000, 2000)
    )


def test_the_same_results_draw_the_same_bytes(tmp_path: Path) -> None:
    for one in plot.plots(RESULTS):
        first = plot.draw(one, tmp_path / "1").read_bytes()
        assert plot.draw(one, tmp_path / "2").read_bytes() == first


# ---- the page


def test_only_what_is_between_the_marks_is_replaced() -> None:
    text = f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n"
    assert document.page(text, "new") == f"before\n{document.BEGIN}\n\nnew\n{document.END}\nafter\n"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="not both there"):
        document.page("text", "new")


def test_the_generated_part_names_the_machine_and_shows_each_plot_once() -> None:
    text = document.figures(RESULTS)
    assert "Z80" in text
    for one in plot.plots(RESULTS):
        assert text.count(f"(benchmarks/{one.name}.svg)") == 1


def test_the_figures_of_the_page_are_those_of_the_run_it_shows() -> None:
    text = document.PAGE.read_text()
    assert document.page(text, document.figures(result.read(document.RESULTS))) == text


def test_the_plots_beside_the_page_are_those_of_the_run_it_shows() -> None:
    drawn = {f"{one.name}.svg" for one in plot.plots(result.read(document.RESULTS))}
    assert {path.name for path in document.DIRECTORY.glob("*.svg")} == drawn
