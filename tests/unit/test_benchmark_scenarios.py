# SPDX-License-Identifier: Apache-2.0
"""Scenarios as data, results as JSON lines, statistics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import figures, machine, result, scenario
from benchmarks.__main__ import Choice
from benchmarks.result import Result

RECORD = '[[scenario]]\nname = "vxlan-encap"\nsubjects = ["a"]\n'


def test_a_record_stands_for_the_product_of_its_lists() -> None:
    found = scenario.read(RECORD + "flows = [1, 1000]\nframe_bytes = [64, 'IMIX']\n")
    assert [one.key[1:] for one in found] == [(1, 64), (1000, 64), (1, "IMIX"), (1000, "IMIX")]


def test_quick_flows_are_quick_at_64_bytes_only() -> None:
    found = scenario.read(RECORD + "flows = [1, 1000]\nframe_bytes = [64, 512]\nquick_flows = [1000]\n")
    assert [one.key[1:] for one in found if one.quick] == [(1000, 64)]


def test_a_repeated_name_takes_its_words_from_the_first() -> None:
    found = scenario.read(RECORD + "title = 'T'\nflows = [1]\n" + RECORD + "flows = [2]\n")
    assert [one.title for one in found] == ["T", "T"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("flows = [1, 1]", "twice"),
        ("flows = [0]", "at least 1"),
        ("frame_bytes = 20", "46 to 1518"),
        ("frame_bytes = 9000", "46 to 1518"),
        ("source = 'fire-hose'", "in-process"),
        ("measure = 'by-eye'", "steady"),
        ("direction = 'up'", "encap"),
        ("vlan = 4095", "1 to 4094"),
        ("tunnels = 257", "1 to 256"),
        ("hops = 5", "1 to 4"),
        ("miss_ratio = 2.0", "0 to 1"),
        ("frames = 3", "no such key 'frames'"),
    ],
)
def test_a_wrong_record_is_refused_with_scenario_and_remedy(more: str, said: str) -> None:
    with pytest.raises(ValueError, match="vxlan-encap") as refused:
        scenario.read(RECORD + more)
    assert said in str(refused.value)


def test_the_scenarios_of_make_bench_are_readable_and_have_titles() -> None:
    found = scenario.load()
    assert {"vxlan-encap", "vxlan-decap", "flow-table-hit", "miss-path", "idle"} <= {
        one.name for one in found
    }
    assert [one.name for one in found if not one.title] == []


def test_deployed_rows_stand_beside_the_same_peers_from_an_external_source() -> None:
    found = {one.name: one for one in scenario.load() if one.flows == 1_000 and one.frame_bytes == 64}
    plain = found["vxlan-encap"]
    for name, changes in (
        ("vxlan-encap-tagged", {"vlan": 100}),
        ("vxlan-decap-tagged", {"vlan": 100, "direction": "decap"}),
        ("vxlan-encap-tunnels", {"tunnels": 256}),
        ("vxlan-encap-hops", {"hops": 2}),
        ("vxlan-encap-four-hops", {"hops": 4}),
    ):
        same = ("measure", "source", "direction", "vlan", "tunnels", "hops")
        wanted = {key: getattr(plain, key) for key in same} | changes
        assert {key: getattr(found[name], key) for key in same} == wanted
        left_out = {"kernel-vxlan", "openvswitch"} if "hops" in changes else {"kernel-vxlan"}
        assert set(found[name].subjects) == set(plain.subjects) - left_out


def test_quick_scenarios_have_64_byte_frames_only() -> None:
    assert {one.frame_bytes for one in scenario.load() if one.quick} == {64}


def test_imix_is_seven_four_one_evenly_mixed() -> None:
    sizes = scenario.frame_sizes("IMIX")
    assert sorted(sizes) == [64] * 7 + [594] * 4 + [1518]
    assert scenario.mean_bytes("IMIX") == pytest.approx((7 * 64 + 4 * 594 + 1518) / 12)
    assert all(64 in sizes[at : at + 4] for at in range(9))


def test_a_single_size_is_itself_and_in_memory_four_less() -> None:
    assert scenario.frame_sizes(64) == (64,)
    assert scenario.memory_bytes(64) == 60


# ---- results


def test_a_result_survives_its_json_line() -> None:
    one = Result("vxlan-encap", "floor", 1000, 64, 28.1, 92.5, 0.3, source="pcap", machine={"cores": 2})
    assert result.from_json(one.to_json()) == one


def test_a_line_always_has_the_seven_keys_and_no_empty_others() -> None:
    row = json.loads(Result("vxlan-encap", "openvswitch", 1, missing="not installed").to_json())
    assert set(row) == {*result.ALWAYS, "missing", "poll_threads", "repeats", "hugepages"}
    assert row["cycles_per_packet"] is None


def test_a_figure_of_zero_is_kept() -> None:
    row = json.loads(Result("flow-table-hit", "vnet-gateway", 1, lost_percent=0.0, hugepages=False).to_json())
    assert row["lost_percent"] == 0.0
    assert row["hugepages"] is False


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        Result("idle", "vnet-gateway", 1, cpu_percent=float("nan")).to_json()


def test_a_line_with_an_unknown_key_is_refused() -> None:
    line = Result("idle", "vnet-gateway", 1).to_json().replace('"flows"', '"streams"')
    with pytest.raises(ValueError, match="flows, streams"):
        result.from_json(line)


def test_results_are_written_and_read_in_order(tmp_path: Path) -> None:
    rows = (
        Result("idle", "vnet-gateway", 1, cpu_percent=1.5),
        Result("wake-up", "vnet-gateway", 1, p50_us=60.0),
    )
    result.write(rows, tmp_path / "results" / "latest.jsonl")
    assert result.read(tmp_path / "results" / "latest.jsonl") == rows


def test_reading_without_results_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make bench"):
        result.read(tmp_path / "latest.jsonl")


# ---- statistics


def test_spread_is_the_width_of_the_middle_half() -> None:
    assert figures.spread([1, 2, 3, 4, 5]) == 2
    assert figures.spread([1, 2, 3, 4, 5000]) == 2
    assert figures.spread([7]) == 0


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = list(range(1, 101))
    assert [figures.percentile(values, p) for p in (0, 50, 99, 99.9, 100)] == [1, 50, 99, 100, 100]


def test_cycles_per_packet_count_every_poll_thread() -> None:
    assert figures.cycles_per_packet(2.6e9, 2.0, 52_000_000) == pytest.approx(100)
    assert figures.cycles_per_packet(2.6e9, 2.0, 52_000_000, poll_threads=2) == pytest.approx(200)


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        figures.median([])
    with pytest.raises(ValueError, match="no values"):
        figures.percentile([], 99)


def test_own_cycles_are_those_above_the_floor_of_the_same_point() -> None:
    ours, floor = Result("a", "vnet-gateway", 9, 64, 70.0), Result("a", "floor", 9, 64, 28.0)
    rows = figures.by_key([ours, floor, Result("a", "floor", 9, 512, 50.0)])
    assert figures.own_cycles(rows, ours) == 42.0
    assert figures.own_cycles(figures.by_key([ours]), ours) is None


def test_two_results_of_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match="two results"):
        figures.by_key([Result("a", "floor", 1), Result("a", "floor", 1)])


# ---- machine

CPUINFO = """processor\t: 0
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
bogomips\t: 5192.26
"""


def test_the_machine_is_read_from_cpuinfo() -> None:
    assert machine.cpu_model(CPUINFO) == "AMD EPYC (family 25, model 17)"
    assert machine.tsc_hz(CPUINFO) == 2_596_130_000


def test_a_machine_without_a_tsc_frequency_is_refused() -> None:
    with pytest.raises(ValueError, match="bogomips"):
        machine.tsc_hz("processor\t: 0\n")


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(names=("nope",)), "no such scenario: SCENARIO= takes names or patterns of vxlan-encap, "),
        (Choice(names=("vxlan-encap",), subjects=("ovs",)), "no such subject: SUBJECTS= takes, of these "),
        (Choice(quick=True, names=("vxlan-encap-pktgen",)), "leave QUICK=1 out"),
        (Choice(names=("vxlan-encap",), frames=("63",)), "takes 1, 1000, 10000, 100000, FRAMES= 64, 128"),
    ],
)
def test_a_choice_of_nothing_says_which_part_of_it_is_wrong(choice: Choice, said: str) -> None:
    every = scenario.load()
    assert not choice.of(every)
    assert said in choice.why_none(every)
