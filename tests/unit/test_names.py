# SPDX-License-Identifier: Apache-2.0
"""Names go along with pushes to the slow path, and from there to control."""

from __future__ import annotations

from directory_client.wire.limits import NAMES_TOLD_MAX
from gateway.processes.report import VERSION, Report, WorkerStatistics, pack_report
from gateway.slow_path.names import Names
from whole_directory import WholeDirectory as Directory

VNET = {"op": "vnet", "object_id": 1, "name": "red"}
TUNNEL = {
    "op": "tunnel",
    "object_id": 9,
    "node_id": 22,
    "node": "ber1",
    "profile_id": 33,
    "profile": "fabric",
}


def test_what_is_new_is_told_first_and_all_of_it_in_turns() -> None:
    names = Names()
    names.begin(7)
    names.take([VNET, TUNNEL, {"op": "location", "object_id": 5}])
    assert dict(names.next()) == {1: "red", 22: "ber1", 33: "fabric"}
    many = [{"op": "vnet", "object_id": 1000 + one, "name": f"v{one}"} for one in range(NAMES_TOLD_MAX)]
    names.take(many)
    assert set(dict(names.next())) == {1000 + one for one in range(NAMES_TOLD_MAX)}
    assert dict(names.next()).items() >= {1: "red", 22: "ber1", 33: "fabric"}.items(), (
        "control may be a new one"
    )
    names.begin(8)
    assert names.next() == [], "ids are given out again"


def test_what_is_no_name_is_left_out() -> None:
    names = Names()
    names.take([{**VNET, "name": 7}, {**VNET, "name": "x" * 64}, {**VNET, "object_id": "1"}, {"op": "vnet"}])
    assert names.next() == []


def test_as_many_names_as_are_told_at_once_fit_into_a_message() -> None:
    names = [((1 << 63) + one, "n" * 63) for one in range(NAMES_TOLD_MAX)]
    counters = {"c" * 40 + str(one): 1 << 62 for one in range(256)}
    report = Report(
        v=VERSION, sender="slow-path-0", statistics=WorkerStatistics(names=names, counters=counters)
    )
    assert len(pack_report(report)) < 65_536


def test_a_tunnel_says_the_names_of_its_node_and_profile(directory: Directory) -> None:
    ops = directory.snapshot("gw1").vnets[7001]
    nodes = {op["node_id"]: op["node"] for op in ops if op["op"] == "tunnel"}
    assert nodes == {directory.node_id("gw2"): "gw2", directory.node_id("leaf"): "leaf"}
