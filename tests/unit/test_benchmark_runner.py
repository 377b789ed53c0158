# SPDX-License-Identifier: Apache-2.0
"""The runner with subjects that only pretend: turns, steadiness, failures, what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from benchmarks import catalogue, programs, runner, scenario
from benchmarks.result import Result
from benchmarks.runner import Plan, Runner
from benchmarks.scenario import Scenario
from benchmarks.subject import Bed, CannotMeasure, Running, Sample, Setup, WrongOutput, next_look_s

BED = Bed(poll_cpu=1, other_cpus=(0,), hugepages=False, directory=Path("/nonexistent"))
PLAN = Plan(repeats=3, sample_s=0.5, warm_s=0.0, settle_s=0.25, settle_looks=4, setup_repeats=3)
TSC_HZ = 2.6e9
STEADY = Scenario("vxlan-encap", ("a", "b"), measure="steady", direction="encap", source="pcap", flows=10)
SETUP = Scenario("vxlan-setup", ("a", "b"), measure="setup", direction="encap", source="pcap", flows=10)


@dataclass
class Pretender:
    """A subject that forwards at a rate of its own and writes down what is asked of it."""

    name: str
    log: list[str]
    packets_per_second: int = 1000
    flow_counts: list[int] = field(default_factory=lambda: [5, 10, 10])
    lost: int = 0
    absent: str | None = None
    refuses: str | None = None
    wrong: str | None = None
    source: str | None = None

    def missing(self) -> str | None:
        return self.absent

    def versions(self) -> Mapping[str, str]:
        return {self.name: "1.0"}

    @contextmanager
    def start(self, scenario: Scenario, bed: Bed) -> Iterator[Running]:
        if self.refuses:
            raise CannotMeasure(self.refuses)
        self.log.append(f"{self.name} start")
        yield self
        self.log.append(f"{self.name} stop")

    def resume(self) -> None:
        self.log.append(f"{self.name} resume")

    def pause(self) -> None:
        self.log.append(f"{self.name} pause")

    def sample(self, seconds: float) -> Sample:
        return Sample(int(self.packets_per_second * seconds), seconds, self.lost)

    def flows(self) -> int:
        return self.flow_counts.pop(0) if len(self.flow_counts) > 1 else self.flow_counts[0]

    def setup(self, seconds: float) -> Setup:
        return Setup(flows=10, seconds=0.001, cpu_seconds=0.002, packets=90, lost=10)

    def forget(self) -> None:
        self.log.append(f"{self.name} forget")

    def source_says(self) -> str | None:
        return self.source

    def verify(self) -> None:
        if self.wrong:
            raise WrongOutput(self.wrong)


def nothing(text: str) -> None:
    pass


def steady(*subjects: Pretender) -> dict[str, Result]:
    return {one.subject: one for one in runner.steady(STEADY, subjects, BED, PLAN, TSC_HZ, nothing)}


def test_subjects_take_turns_and_never_run_together() -> None:
    log: list[str] = []
    steady(Pretender("a", log), Pretender("b", log))
    turns = [line for line in log if "resume" in line]
    assert turns[:2] == ["a resume", "b resume"]  # to settle
    assert turns[2:8] == ["a resume", "b resume"] * 3
    awake: set[str] = set()
    for line in log:
        name, _, what = line.partition(" ")
        awake = awake | {name} if what == "resume" else awake - {name}
        assert len(awake) <= 1
    assert log[-2:] == ["b stop", "a stop"]


def test_figures_are_medians_of_the_samples() -> None:
    row = steady(Pretender("a", [], packets_per_second=26_000_000))["a"]
    assert row.cycles_per_packet == pytest.approx(100)
    assert row.mpps == pytest.approx(26)
    assert row.repeats == 3


def test_steady_once_flows_are_stable_and_nothing_is_lost() -> None:
    assert runner.settled(Pretender("a", [], flow_counts=[1, 10, 10]), PLAN) is None
    growing = runner.settled(Pretender("a", [], flow_counts=list(range(1, 9))), PLAN)
    assert growing == "not steady after 1 s: 4 flows, 0.0 % lost"
    losing = runner.settled(Pretender("a", [], lost=250), PLAN)
    assert losing == "not steady after 1 s: 10 flows, 50.0 % lost"


def test_what_never_settles_is_measured_and_says_so() -> None:
    row = steady(Pretender("a", [], lost=500))["a"]
    assert row.cycles_per_packet
    assert row.note
    assert row.note.startswith("not steady")
    assert row.lost_percent == pytest.approx(50)


def test_wrong_output_takes_the_figures_of_its_subject_only() -> None:
    rows = steady(Pretender("a", [], wrong="VNI 7, not 100"), Pretender("b", []))
    assert rows["a"].failed == "wrong output: VNI 7, not 100"
    assert rows["a"].cycles_per_packet is None
    assert rows["b"].cycles_per_packet


def test_nothing_passed_is_no_rate() -> None:
    row = steady(Pretender("a", [], packets_per_second=0))["a"]
    assert row.cycles_per_packet is None
    assert row.note


def test_a_source_of_its_own_is_measured_and_said() -> None:
    samples = [Sample(1000, 0.5, floor_cycles=cycles) for cycles in (19.0, 21.0, 20.0)]
    some = runner.steady_figures(samples, TSC_HZ, 1)
    assert some["floor_cycles"] == 20.0
    assert "its own part is without" in (runner.own_source(some) or "")
    assert runner.own_source(runner.steady_figures([Sample(1000, 0.5)], TSC_HZ, 1)) is None


def test_what_a_source_says_of_itself_stands_in_the_row() -> None:
    rows = steady(Pretender("a", [], source="it sends"), Pretender("b", []))
    assert (rows["a"].note, rows["b"].note) == ("it sends", None)


def test_a_subject_that_cannot_is_noted_and_not_resumed() -> None:
    log: list[str] = []
    rows = steady(Pretender("a", log, refuses="no decapsulation here"), Pretender("b", []))
    assert rows["a"].note == "no decapsulation here"
    assert log == []


def test_setup_starts_afresh_each_time_in_turn() -> None:
    log: list[str] = []
    rows = runner.setup(SETUP, [Pretender("a", log), Pretender("b", log)], BED, PLAN, nothing)
    assert [line for line in log if "start" in line] == ["a start", "b start"] * 3
    assert rows[0].per_second == pytest.approx(10_000)
    assert rows[0].per_cpu_second == pytest.approx(5_000)
    assert rows[0].lost_percent == pytest.approx(10)
    assert rows[0].note is None


def test_setup_again_leaves_the_first_time_out_and_forgets_before_each_other() -> None:
    log: list[str] = []
    again = replace(SETUP, measure="setup-again")
    rows = runner.setup(again, [Pretender("a", log)], BED, PLAN, nothing)
    life = [line for line in log if line.split()[1] in ("start", "forget")]
    assert life == ["a start", *["a forget"] * runner.AGAIN] * 3
    assert rows[0].repeats == 3 * runner.AGAIN


def test_setup_that_ran_out_of_time_says_how_far_it_came() -> None:
    row = runner.setup_figures([Setup(5, 1.0, 1.0), Setup(10, 1.0, 1.0)], 10)
    assert row["note"] == "only 5 of 10 flows were cached when time was up"


def test_setup_that_lost_packets_says_by_which_reasons() -> None:
    one = Setup(10, 1.0, 1.0, packets=40, lost=100, lost_by={"hold_full": 100})
    other = Setup(10, 1.0, 1.0, packets=40, lost=20, lost_by={"hold_full": 17, "miss_rate": 3})
    row = runner.setup_figures([one, other, Setup(10, 1.0, 1.0)], 10)
    assert row["lost_percent"] == 60.0
    assert row["note"] == "lost: hold_full 97.5 %, miss_rate 2.5 %"
    assert runner.setup_figures([Setup(10, 1.0, 1.0, packets=9)], 10)["note"] is None


def all_of(subjects: Sequence[Pretender], *scenarios: Scenario, **more: object) -> list[Result]:
    components = more.pop("components", ())
    one = Runner(subjects, components, BED, PLAN, {"tsc_hz": TSC_HZ}, {"vnet-gateway": "0"})  # type: ignore[arg-type]
    return [row for rows in one.run(scenarios, lambda scenario, text: None) for row in rows]


def test_a_missing_subject_has_a_row_with_the_remedy() -> None:
    absent = Pretender("b", [], absent="not installed; apt install b")
    ours, theirs = all_of([Pretender("a", []), absent], STEADY)
    assert ours.cycles_per_packet
    assert ours.versions == {"vnet-gateway": "0", "a": "1.0"}
    assert theirs.missing == "not installed; apt install b"
    assert theirs.cycles_per_packet is None


def test_two_poll_threads_are_not_measurable_on_two_processors() -> None:
    two = Scenario("vxlan-encap", ("a",), measure="steady", source="pcap", poll_threads=2)
    (row,) = all_of([Pretender("a", [])], two)
    assert row.note
    assert row.note.startswith("not measurable here")
    assert row.cycles_per_packet is None


@dataclass(frozen=True)
class Clockwork:
    """A component."""

    name: str = "clockwork"
    scenarios: tuple[str, ...] = ("parse", "encapsulate")
    refuses: str = ""

    def missing(self) -> str | None:
        return None

    def measure(
        self, scenarios: Sequence[Scenario], bed: Bed, progress: Callable[[str], None]
    ) -> Sequence[Result]:
        if self.refuses:
            raise CannotMeasure(self.refuses)
        return [Result("parse", "a", 1, cycles_per_packet=9.0)]


PARSE, ENCAPSULATE = Scenario("parse", ("a",)), Scenario("encapsulate", ("a",))


def test_a_component_is_asked_once_and_every_scenario_has_its_rows() -> None:
    first, second = all_of([], PARSE, ENCAPSULATE, components=[Clockwork()])
    assert (first.scenario, first.cycles_per_packet) == ("parse", 9.0)
    assert (second.scenario, second.note) == ("encapsulate", "clockwork has no such figure")


def test_a_component_that_cannot_says_why_in_its_rows() -> None:
    rows = all_of([], PARSE, ENCAPSULATE, components=[Clockwork(refuses="no second processor")])
    assert [one.note for one in rows] == ["no second processor"] * 2


# ---- what programs print


def test_a_line_of_pipeline_becomes_ours_floor_and_stages() -> None:
    line = {
        "scenario": "vxlan-encap-in-process",
        "flows": 1000,
        "cycles": 45.0,
        "spread": 0.5,
        "floor_cycles": 50.0,
        "hit_ratio": 1.0,
        "tsc_hz": 2_600_000_000,
        "inner_bytes": 60,
        "stages": {"parse": 15.0, "lookup": 10.0, "act": 20.0},
    }
    rows = {(one.scenario, one.subject): one.cycles_per_packet for one in programs.pipeline_rows(line)}
    assert rows == {
        ("vxlan-encap-in-process", "vnet-gateway"): 95.0,
        ("vxlan-encap-in-process", "floor"): 50.0,
        ("parse", "vnet-gateway"): 15.0,
        ("encapsulate", "vnet-gateway"): 20.0,
    }
    line["scenario"] = "vxlan-encap-tagged-in-process"
    assert {one.scenario for one in programs.pipeline_rows(line)} == {"vxlan-encap-tagged-in-process"}


def test_a_line_of_flow_table_says_whose_and_with_a_writer_or_without() -> None:
    line = {
        "scenario": "flow-table-hit",
        "subject": "rte_hash",
        "flows": 1000,
        "writer_updates_per_s": 0,
        "cycles_per_packet": 30.0,
        "spread": 2.0,
        "per_second": 86_666_667,
        "hit_ratio": 1.0,
        "bytes_per_flow": 80.0,
        "turns": 11,
        "page_bytes": 2 << 20,
    }
    (row,) = programs.flow_table_rows(line)
    assert (row.scenario, row.subject, row.spread) == ("flow-table-hit", "rte_hash", 2.0)
    assert (row.hit_percent, row.per_second, row.updates_per_second, row.hugepages) == (
        100.0,
        None,
        None,
        True,
    )
    insert = {"scenario": "flow-table-insert", "subject": "vnet-gateway", "page_bytes": 4096}
    (row,) = programs.flow_table_rows(line | insert | {"writer_updates_per_s": 200_000})
    assert (row.subject, row.per_second, row.updates_per_second) == ("vnet-gateway", 86_666_667, 200_000)
    assert (row.hit_percent, row.hugepages) == (None, False)


def test_a_program_that_ends_badly_says_what_it_said_last() -> None:
    with pytest.raises(RuntimeError, match="status 3: no memory"):
        programs.run(["sh", "-c", "echo start >&2; echo no memory >&2; exit 3"])


# ---- the catalogue


def test_every_scenario_of_make_bench_has_somebody_who_measures_it() -> None:
    programs_of = {name for one in catalogue.components() for name in one.scenarios}
    subjects = {one.name for one in catalogue.subjects()}
    for one in scenario.load():
        if one.measure == "program":
            assert one.name in programs_of, one.name
        else:
            assert set(one.subjects) <= subjects, one.name


def test_looks_are_rare_at_first_and_dense_at_the_end() -> None:
    assert next_look_s(0.0, 0, 1000) == pytest.approx(0.001)
    assert next_look_s(0.003, 0, 1000) == pytest.approx(0.006)  # not after 1.5 s
    assert next_look_s(0.02, 200, 1000) == pytest.approx(0.04)  # 80 ms are left
    assert next_look_s(1.0, 10, 1000) == pytest.approx(0.1)
    assert next_look_s(0.099, 999, 1000) == pytest.approx(0.00198)
    assert next_look_s(0.02, 9_999, 10_000) == pytest.approx(0.001)
