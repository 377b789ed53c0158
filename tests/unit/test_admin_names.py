# SPDX-License-Identifier: Apache-2.0
"""Names of what the data plane knows by ids, and what is made events of."""

from __future__ import annotations

from typing import Any

from admin_world import World

from gateway.control.admin import Admin
from gateway.state.job import AskDirectory
from gateway.state.state import DirectoryServer


def asked_ids(world: World) -> list[int]:
    return [one for asked in world.directory_asked if asked.type == "names" for one in asked.fields["ids"]]


def test_a_name_is_asked_for_once_and_nothing_else_is(world: World) -> None:
    for _ in range(3):
        assert world.rows("tunnels")[0]["remote_node"] == "ber1"
        world.now_s += 100
    assert {asked.type for asked in world.directory_asked} == {"names"}
    known = [one for one in asked_ids(world) if one in world.names]
    assert sorted(known) == sorted(set(known))


def test_what_came_with_pushes_is_not_asked_for_and_is_shown_without_a_directory(world: World) -> None:
    world.state.names.tell([(1, "red"), (22, "ber1"), (33, "fabric"), (99, "old")], 0)
    world.rows("tunnels")
    assert not set(asked_ids(world)) & {1, 22, 33}
    world.state.servers = list
    world.state.names.objects.clear()
    assert world.rows("tunnels")[0]["remote_node"] == "ber1"


def test_names_of_another_store_are_not_used(world: World) -> None:
    server = DirectoryServer("dir1", "ipc:///d", "up", True, 42, 300, 0.1, 0, incarnation=2)
    world.state.servers = lambda: [server]
    world.state.names.tell([(22, "of-another")], 1)
    assert world.rows("tunnels")[0]["remote_node"] == "ber1"


def test_only_what_is_new_is_asked_for_and_what_is_gone_is_forgotten(world: World) -> None:
    world.rows("tunnels")
    world.state.take_table("vnets", "vni", [{"vni": 7001, "object_id": 44}, {"vni": 7002, "object_id": 45}])
    world.names |= {44: "crimson", 45: "blue"}
    world.directory_asked.clear()

    world.rows("tunnels")

    assert [one for one in asked_ids(world) if one in world.names] == [44, 45]
    assert world.state.names.vnets == {7001: "crimson", 7002: "blue"}  # the VNI was given out again
    assert 1 not in world.state.names.objects


def test_an_id_that_the_directory_does_not_know_is_asked_for_again_after_a_while(world: World) -> None:
    del world.names[22]
    for _ in range(3):
        world.rows("tunnels")
    assert asked_ids(world).count(22) == 1
    world.now_s += 10
    world.names[22] = "ber1"
    assert world.rows("tunnels")[0]["remote_node"] == "ber1"


def test_a_store_that_went_back_gives_ids_out_again_and_is_asked_anew(world: World) -> None:
    world.rows("tunnels")
    server = DirectoryServer("dir1", "ipc:///d", "up", True, 42, 300, 0.1, 0, incarnation=2)
    world.state.servers = lambda: [server]
    world.names[22] = "ham1"
    assert world.rows("tunnels")[0]["remote_node"] == "ham1"


def test_documents_are_asked_for_when_somebody_looks_at_the_events(world: World) -> None:
    jobs: list[Any] = []

    def new_documents() -> Any:
        jobs.append("looked")
        return None

    world.admin = Admin(world.state, world.ask_data_plane, world.ask_directory, None, new_documents)
    world.admin.tick()
    assert (jobs, world.admin.is_watched) == ([], False)
    world.ask("events", args={"after": 0, "wait_ms": 0})
    assert jobs == ["looked"]
    world.admin.handle(
        {"v": 1, "id": 8, "verb": "events", "args": {"after": 0, "wait_ms": 5000}},
        world.answers.append,
        may_change=False,
    )
    assert world.admin.is_watched


def test_events_wait_for_what_the_directory_says_of_documents(world: World) -> None:
    def read() -> Any:
        yield AskDirectory("history", {}, 2.0)
        world.state.events.add("document_applied", "document red: revision 43")
        return {}

    world.admin = Admin(world.state, world.ask_data_plane, world.ask_directory, None, read)
    assert [row["event"] for row in world.ask("events", args={})["rows"]] == ["document_applied"]


def test_ingresses_name_the_node_that_they_come_from_though_no_tunnel_leads_there(world: World) -> None:
    world.dumps["ingresses"] = [
        {"ingress": 5, "kind": "node", "vni": 7001, "object_id": 77},
        {"ingress": 6, "kind": "attachment", "vni": 7001, "object_id": 78},
    ]
    world.names[77] = "ham1"
    rows = world.rows("ingresses")
    assert [(row["vnet"], row["remote_node"]) for row in rows] == [("red", "ham1"), ("red", None)]


def test_one_client_or_counter_is_shown_by_its_name_and_none_of_another_name(world: World) -> None:
    world.dumps["clients"] = [{"client": "control", "pid": 7}, {"client": "slow-path-0", "pid": 8}]
    assert [row["pid"] for row in world.rows("clients", "control")] == [7]
    assert [row["value"] for row in world.rows("counters", "received")] == [10]
    for noun in ("clients", "counters"):
        answer = world.ask("show", noun=noun, name="nobody")
        assert (answer["ok"], answer["code"]) == (False, 2)
