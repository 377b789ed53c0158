# SPDX-License-Identifier: Apache-2.0
"""Gates, goals and recorded ratios: what fails a check, and what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gates, recorded, scenario
from benchmarks.gates import Gate, Verdict
from benchmarks.recorded import Ratio
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


def test_a_ratio_of_rates_is_turned_so_that_smaller_is_better() -> None:
    (one,) = recorded.ratios([row("vnet-gateway", None, per_second=200.0), row("b", None, per_second=50.0)])
    assert one.ratio == 0.25


def test_noise_of_a_ratio_comes_from_both() -> None:
    (one,) = recorded.ratios([row("vnet-gateway", 100.0, spread=3.0), row("b", 200.0, spread=8.0)])
    assert one.noise == pytest.approx(0.5 * 0.05)


def test_ratios_of_different_figures_are_none() -> None:
    assert recorded.ratios([row("vnet-gateway", 100.0), row("b", None, per_second=1.0)]) == []


@pytest.mark.parametrize(
    ("cycles", "regressed"),
    [(100.0, False), (114.0, False), (116.0, True), (50.0, False)],
)
def test_a_regression_is_beyond_the_noise_of_both_and_the_tolerance(cycles: float, regressed: bool) -> None:
    kept = [Ratio("vxlan-encap", 1000, 64, "b", 1.0, 0.03)]
    now = [row("vnet-gateway", cycles, spread=2.0), row("b", 100.0, spread=0.0)]
    (comparison,) = recorded.compare(kept, now)
    assert comparison.regressed is regressed


def test_what_cannot_be_compared_says_why() -> None:
    kept = [Ratio("vxlan-encap", 1000, 64, "openvswitch", 0.3, 0.01)]
    missing = row("openvswitch", None, missing="not installed")
    (comparison,) = recorded.compare(kept, [row("vnet-gateway", 78.0), FLOOR, missing])
    assert not comparison.regressed
    assert comparison.why == "openvswitch: not installed"


def test_what_was_not_measured_is_not_compared() -> None:
    assert recorded.compare([Ratio("idle", 1, 64, "b", 0.3, 0.01)], [row("vnet-gateway", 78.0)]) == []


def test_recorded_ratios_are_written_and_read(tmp_path: Path) -> None:
    rows = [row("vnet-gateway", 78.0, machine={"cores": 2}), FLOOR, OVS]
    count = recorded.write(rows, tmp_path / "recorded.json")
    assert count == 2
    assert list(recorded.read(tmp_path / "recorded.json")) == recorded.ratios(rows)
    assert recorded.read(tmp_path / "none.json") == ()
