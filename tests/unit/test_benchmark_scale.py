# SPDX-License-Identifier: Apache-2.0
"""The scenarios of many endpoints and many gateways: their documents, and what is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import gates, scenario
from benchmarks.directory import STARTED_BY, DirectoryScale
from benchmarks.directory_scale import SCENARIOS, Views, first_answer_s, meanwhile
from benchmarks.fleet import base_topology, topology
from benchmarks.scale_store import fill
from directory_client.events import Changed, Snapshot
from directory_service.model.snapshot import load_snapshot
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from directory_service.store.sqlite import SqliteStore
from whole_directory import WholeDirectory


def test_each_scenario_is_measured_by_a_program_and_named_by_the_component() -> None:
    named = set(DirectoryScale().scenarios)

    assert {STARTED_BY.get(name, name) for name in named} == set(SCENARIOS)
    assert named <= {one.name for one in scenario.load()}
    assert {one.name for one in scenario.load() if one.name in named and one.quick} == named


def test_each_scenario_has_a_gate_at_a_number_of_flows_that_is_measured() -> None:
    measured = {(one.name, one.flows) for one in scenario.load()}
    judged = {(gate.scenario, gate.flows) for gate in gates.load() if gate.kind == "figure"}

    assert {name for name, _ in judged} >= set(DirectoryScale().scenarios)
    assert judged <= measured


@pytest.mark.parametrize(("vnets", "all_host_first"), [(1, False), (5, False), (5, True)])
def test_documents_are_accepted(vnets: int, all_host_first: bool) -> None:
    directory = WholeDirectory(MemoryStore(), Settings(), lambda: 0)
    directory.apply(base_topology(6), "base.toml")

    directory.apply(topology(vnets, 300, 6, 2, all_host_first), "big.toml")

    states = [state for name, state in directory.current.vnets.items() if name != "probe"]
    assert [len(state.members) for state in states] == [300] * vnets
    hosts = [len(state.attachments_by_node) for state in states]
    assert hosts == [6 if all_host_first else 2, *[2] * (vnets - 1)]


def test_a_store_that_is_filled_holds_what_applying_would_have_made(tmp_path: Path) -> None:
    directory = WholeDirectory(MemoryStore(), Settings(), lambda: 0)
    directory.apply(base_topology(2, declared=True), "base.toml")
    directory.apply(topology(3, 20, 2, 2, name="big0"), "big.toml")

    fill(tmp_path / "directory.db", base_topology(2, declared=True), 3, 20)

    store = SqliteStore(tmp_path / "directory.db")
    records = load_snapshot(store).records
    store.close()
    assert dict(records) == dict(directory.current.records)


def test_a_question_that_was_under_way_counts_as_one_meanwhile() -> None:
    times = [(0.0, 0.5), (1.0, 3.0), (4.5, 0.1), (6.0, 0.1)]  # asked at, took

    found = meanwhile(times, 2.0, 5.0)

    assert (found["p50_us"], found["p99_us"]) == (100_000.0, 3_000_000.0)
    assert first_answer_s(times, 2.0) == pytest.approx(2.0)
    assert meanwhile(times, 0.6, 0.9) == {}


def test_a_fleet_is_there_when_each_gateway_has_all_locations_and_tunnels() -> None:
    views = Views(2)
    location, tunnel = {"op": "location"}, {"op": "tunnel", "remote": b"x" * 16}

    views.heard(0, Snapshot(1, 1, 1, [(7, [location, location, tunnel])]))
    views.heard(1, Snapshot(1, 1, 2, [(7, [location])]))
    assert not views.have_all(7, 2)
    assert not views.reach(1)

    views.heard(1, Changed(7, 1, 2, 0, [location, tunnel]))
    assert views.have_all(7, 2)
    assert views.reach(1)
    assert views.reach_all(b"x" * 16, but=0)

    views.begin_anew()
    assert not views.have_all(7, 1)
