# SPDX-License-Identifier: Apache-2.0
"""Gates, goals and recorded ratios: what fails a check, and what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import __main__ as bench
from benchmarks import gates, recorded, scenario
from benchmarks.gates import Gate, Verdict
from benchmarks.recorded import Ratio, Run
from benchmarks.result import Result
from benchmarks.scenario import Scenario

ASKED = (Scenario("vxlan-encap", ("vnet-gateway",), flows=1000),)
GATE = Gate("own-part", "vxlan-encap", 1000, peer="openvswitch", at_most=0.35)


def row(subject: str, cycles: float | None, flows: int = 1000, **more: object) -> Result:
    return Result("vxlan-encap", subject, flows, 64, cycles, **more)  # type: ignore[arg-type]


def only(gate: Gate, *results: Result) -> Verdict:
    asked = [replace(ASKED[0], flows=flows) for flows in sorted({one.flows for one in results})] or ASKED
    (verdict,) = gates.judge([gate], results, asked)
    return verdict


def test_own_part_is_without_the_floor() -> None:
    verdict = only(GATE, row("vnet-gateway", 78), row("floor", 28), row("openvswitch", 228))
    assert verdict.value == pytest.approx(0.25)
    assert verdict.reached
    assert not verdict.fails


def test_own_part_of_a_peer_with_a_source_of_its_own_is_without_that() -> None:
    gate = replace(GATE, peer="vpp")
    verdict = only(gate, row("vnet-gateway", 78), row("floor", 28), row("vpp", 220, floor_cycles=20.0))
    assert verdict.value == pytest.approx(50 / 200)


def test_times_are_no_gate_beside_a_peer_with_a_source_of_its_own() -> None:
    gate = Gate("times", "vxlan-encap", 1000, peer="vpp", at_least=1.0)
    verdict = only(gate, row("vnet-gateway", 78), row("vpp", 220, floor_cycles=20.0))
    assert "only own parts can be compared" in verdict.why


def test_own_part_beside_another_scenarios_is_without_either_floor() -> None:
    gate = Gate("own-beside", "tagged", 1000, beside="vxlan-encap", at_most=1.1)
    rows = [row("vnet-gateway", 60), row("floor", 20)]
    rows += [
        replace(row("vnet-gateway", 66), scenario="tagged"),
        replace(row("floor", 24), scenario="tagged"),
    ]
    asked = [ASKED[0], replace(ASKED[0], name="tagged")]
    (verdict,) = gates.judge([gate], rows, asked)
    assert verdict.value == pytest.approx(42 / 40)
    assert verdict.reached
    (alone,) = gates.judge([gate], rows[2:], asked[1:])  # the other one was not to be measured
    assert not alone.asked
    (lost,) = gates.judge([gate], rows[2:], asked)
    assert lost.fails


def test_a_gate_that_is_short_fails() -> None:
    verdict = only(GATE, row("vnet-gateway", 128), row("floor", 28), row("openvswitch", 228))
    assert verdict.fails


def test_a_missing_peer_fails_the_gate_aloud_with_the_remedy() -> None:
    missing = row("openvswitch", None, missing="not installed; apt install openvswitch-switch-dpdk")
    verdict = only(GATE, row("vnet-gateway", 78), row("floor", 28), missing)
    assert verdict.fails
    assert verdict.why == "openvswitch is missing: not installed; apt install openvswitch-switch-dpdk"


def test_a_peer_without_a_row_fails_the_gate() -> None:
    verdict = only(GATE, row("vnet-gateway", 78), row("floor", 28))
    assert verdict.fails
    assert "no result of openvswitch" in verdict.why


def test_a_failed_row_fails_the_gate() -> None:
    wrong = row("vnet-gateway", None, failed="wrong output: no VNI")
    verdict = only(GATE, wrong, row("floor", 28), row("openvswitch", 228))
    assert verdict.fails
    assert "no VNI" in verdict.why


def test_ours_fails_the_gate_if_it_never_became_steady_the_peer_does_not() -> None:
    note = "not steady after 6 s: 12 flows, 50.0 % lost"
    assert only(GATE, row("vnet-gateway", 78, note=note), row("floor", 28), row("openvswitch", 228)).fails
    assert not only(GATE, row("vnet-gateway", 78), row("floor", 28), row("openvswitch", 228, note=note)).fails


def test_a_peer_at_the_floor_is_no_peer_to_compare_with() -> None:
    verdict = only(GATE, row("vnet-gateway", 78), row("floor", 28), row("openvswitch", 28))
    assert verdict.fails
    assert "not above the floor" in verdict.why


def test_what_the_run_was_not_to_measure_is_not_judged() -> None:
    (verdict,) = gates.judge([GATE], [], [Scenario("idle", ("vnet-gateway",))])
    assert not verdict.asked
    assert not verdict.fails


def test_times_turns_cycles_round_but_not_rates() -> None:
    slower = Gate("times", "vxlan-encap", 1000, peer="b", at_least=2.0)
    assert only(slower, row("vnet-gateway", 30), row("b", 90)).value == pytest.approx(3)
    ours, theirs = row("vnet-gateway", None, per_second=90.0), row("b", None, per_second=30.0)
    assert only(slower, ours, theirs).value == pytest.approx(3)


def test_times_without_a_peers_figure_says_why() -> None:
    gate = Gate("times", "vxlan-encap", 1000, peer="b", at_least=2.0)
    verdict = only(gate, row("vnet-gateway", 30), row("b", None, note="does no VXLAN here"))
    assert verdict.fails
    assert "does no VXLAN here" in verdict.why


def test_growth_compares_two_numbers_of_flows_and_excludes_its_limit() -> None:
    gate = Gate("growth", "vxlan-encap", 1_000_000, from_flows=10_000, below=2.0)
    assert only(gate, row("vnet-gateway", 50, 10_000), row("vnet-gateway", 99, 1_000_000)).reached
    assert only(gate, row("vnet-gateway", 50, 10_000), row("vnet-gateway", 100, 1_000_000)).fails


def test_a_goal_is_short_without_failing() -> None:
    goal = Gate("own-cycles", "vxlan-encap", 1000, at_most=45.0, goal=True)
    verdict = only(goal, row("vnet-gateway", 128), row("floor", 28))
    assert verdict.value == pytest.approx(100)
    assert not verdict.reached
    assert not verdict.fails


def test_a_figure_is_taken_as_it_stands() -> None:
    gate = Gate("figure", "vxlan-encap", 1000, figure="bytes_per_flow", at_most=160.0)
    assert only(gate, row("vnet-gateway", 20, bytes_per_flow=127.0)).reached
    assert only(gate, row("vnet-gateway", 20)).fails


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "own-part"\nat_most = 1.0', "needs a peer"),
        ('kind = "own-beside"\nat_most = 1.0', "needs a scenario beside"),
        ('kind = "growth"\nbelow = 2.0', "needs from_flows"),
        ('kind = "own-cycles"', "at_most, at_least, below"),
        ('kind = "wish"\nat_most = 1.0', "no such kind"),
        ('kind = "own-cycles"\nat_most = 1.0\nlimit = 2', "no such key 'limit'"),
    ],
)
def test_a_wrong_gate_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gates.read(f'[[gate]]\nscenario = "s"\nflows = 1\n{text}\n')


def test_every_gate_is_about_something_that_is_measured() -> None:
    keys = {one.key: one.subjects for one in scenario.load()}
    for gate in gates.load():
        subjects = keys[gate.scenario, gate.flows, gate.frame_bytes]
        needed = {"vnet-gateway", gate.peer or "vnet-gateway"}
        needed |= {"floor"} if gate.kind.startswith("own") else set()
        assert needed <= set(subjects), gate
        assert not gate.from_flows or (gate.scenario, gate.from_flows, gate.frame_bytes) in keys


def test_gates_on_absolute_cycles_are_goals() -> None:
    assert [gate for gate in gates.load() if gate.kind == "own-cycles" and not gate.goal] == []


# ---- recorded ratios

FLOOR, OVS = row("floor", 28.0, spread=0.0), row("openvswitch", 228.0, spread=0.0)


def test_ratios_are_of_own_parts_and_to_the_floor() -> None:
    found = recorded.ratios([row("vnet-gateway", 78.0), FLOOR, OVS])
    assert {one.beside: one.ratio for one in found} == {
        "floor": pytest.approx(78 / 28, abs=1e-4),
        "openvswitch": 0.25,
    }


def test_a_ratio_to_a_peer_with_a_source_of_its_own_is_without_that() -> None:
    own = row("vpp", 220.0, floor_cycles=20.0)
    found = {one.beside: one.ratio for one in recorded.ratios([row("vnet-gateway", 78.0), FLOOR, own])}
    assert found["vpp"] == pytest.approx(50 / 200)
    assert recorded.ratios([row("vnet-gateway", 78.0), own]) == []


def test_a_ratio_is_of_whole_figures_where_a_source_process_is_waited_for() -> None:
    rows = [row(name, cycles, source="pktgen") for name, cycles in (("vnet-gateway", 78.0), ("b", 156.0))]
    found = {one.beside: one.ratio for one in recorded.ratios([*rows, replace(FLOOR, source="pktgen")])}
    assert found["b"] == pytest.approx(0.5)


def test_a_ratio_of_rates_is_turned_so_that_smaller_is_better() -> None:
    (one,) = recorded.ratios([row("vnet-gateway", None, per_second=200.0), row("b", None, per_second=50.0)])
    assert one.ratio == 0.25


def test_noise_of_a_ratio_comes_from_both() -> None:
    (one,) = recorded.ratios([row("vnet-gateway", 100.0, spread=3.0), row("b", 200.0, spread=8.0)])
    assert one.noise == pytest.approx(0.5 * 0.05)


def test_ratios_of_different_figures_are_none() -> None:
    assert recorded.ratios([row("vnet-gateway", 100.0), row("b", None, per_second=1.0)]) == []


HERE = {"cpu": "Z80 (family 1, model 1)", "hugepages_free": 512, "measured_at": "today"}


def ours(cycles: float, spread: float = 0.0) -> list[Result]:
    """Results whose ratio to b is a hundredth of the cycles."""
    return [row("vnet-gateway", cycles, spread=spread, machine=HERE), row("b", 100.0, spread=0.0)]


def runs(*ratios: float, noise: float = 0.0, **machine: object) -> list[Run]:
    return [Run({**HERE, **machine}, (Ratio("vxlan-encap", 1000, 64, "b", one, noise),)) for one in ratios]


@pytest.mark.parametrize(
    ("recorded_ratios", "allowed"),
    [
        ((1.0,), 1.1),  # a tenth more
        ((1.0, 1.02, 1.04), 1.04 + 0.102),  # a tenth of the median above the highest
        ((0.9, 1.0, 1.2), 1.5),  # as far above the highest as they lie apart
    ],
)
def test_allowed_is_the_highest_recorded_and_how_far_they_lie_apart(
    recorded_ratios: tuple[float, ...], allowed: float
) -> None:
    for percent, regressed in ((0.5, True), (-0.5, False)):
        (comparison,) = recorded.compare(runs(*recorded_ratios), ours(100 * allowed + percent))
        assert comparison.allowed == pytest.approx(allowed)
        assert comparison.regressed is regressed


def test_noise_of_repeats_counts_where_it_is_more_than_the_runs_show() -> None:
    (comparison,) = recorded.compare(runs(1.0, 1.0, 1.0, noise=0.15), ours(120.0, spread=10.0))
    assert comparison.allowed == pytest.approx(1.0 + 0.15 + 0.1)
    assert not comparison.regressed


@pytest.mark.parametrize(("cycles", "better"), [(89.0, False), (75.0, True)])
def test_better_is_as_far_below_the_lowest(cycles: float, better: bool) -> None:
    (comparison,) = recorded.compare(runs(0.9, 0.95, 1.0), ours(cycles))
    assert comparison.better is better


@pytest.mark.parametrize("other", [{"cpu": "Z80 (family 1, model 2)"}, {"hugepages_free": 0}])
def test_ratios_of_another_kind_of_machine_are_not_compared_with(other: dict[str, object]) -> None:
    assert recorded.compare(runs(0.1, **other), ours(100.0)) == []
    (comparison,) = recorded.compare([*runs(0.1, **other), *runs(1.0, hugepages_free=7)], ours(100.0))
    assert comparison.median == 1.0


def test_a_check_without_figures_of_this_kind_of_machine_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recorded, "read", lambda: tuple(runs(0.1, cpu="another")))
    monkeypatch.setattr(gates, "load", tuple)
    status = bench.check(ours(100.0), Console(width=300))
    said = capsys.readouterr().out
    assert status == 0
    assert "no figures recorded for this kind of machine (Z80 (family 1, model 1), hugepages)" in said
    assert "make bench-record" in said


def test_what_cannot_be_compared_says_why() -> None:
    kept = [Run({}, (Ratio("vxlan-encap", 1000, 64, "openvswitch", 0.3, 0.01),))]
    missing = row("openvswitch", None, missing="not installed")
    kept = [replace(kept[0], machine={"cpu": "unknown processor"})]
    (comparison,) = recorded.compare(kept, [row("vnet-gateway", 78.0), FLOOR, missing])
    assert not comparison.regressed
    assert comparison.why == "openvswitch: not installed"


def test_what_was_not_measured_is_not_compared() -> None:
    kept = [Run(HERE, (Ratio("idle", 1, 64, "b", 0.3, 0.01),))]
    assert recorded.compare(kept, ours(78.0)) == []


def recording(path: Path, when: str, cycles: float, anew: bool = False, **machine: object) -> Run:
    measured = {**HERE, "measured_at": when, **machine}
    rows = [row("vnet-gateway", cycles, machine=measured), row("b", 100.0)]
    return recorded.record(rows, path, anew)


def test_runs_are_recorded_beside_those_before_and_read_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    assert recorded.read(path) == ()
    kept = [recording(path, "1", 10.0), recording(path, "2", 20.0), recording(path, "3", 30.0, cpu="another")]
    assert list(recorded.read(path)) == kept
    assert [one.ratios[0].ratio for one in kept] == [0.1, 0.2, 0.3]


def test_the_same_run_is_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    recording(path, "1", 10.0)
    again = recording(path, "1", 20.0)
    assert recorded.read(path) == (again,)


def test_anew_forgets_the_runs_on_this_kind_of_machine_only(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    recording(path, "1", 10.0)
    other = recording(path, "2", 20.0, cpu="another")
    new = recording(path, "3", 30.0, anew=True)
    assert recorded.read(path) == (other, new)


def test_of_each_ratio_the_last_runs_are_kept_and_what_only_an_older_run_has(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    measured = {**HERE, "measured_at": "0"}
    whole = [row("vnet-gateway", 1.0, machine=measured), row("b", 100.0), row("c", 100.0)]
    recorded.record(whole, path)
    for at in range(recorded.RUNS_KEPT):
        recording(path, str(at + 1), 10.0)
    first, *others = recorded.read(path)
    assert [one.beside for one in first.ratios] == ["c"]
    assert len(others) == recorded.RUNS_KEPT
    assert all(one.ratios[0].beside == "b" for one in others)


def test_what_is_recorded_in_the_repository_can_be_read() -> None:
    kinds = [run.kind for run in recorded.read()]
    assert "AMD EPYC (family 25, model 17), hugepages" in kinds
