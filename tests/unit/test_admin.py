# SPDX-License-Identifier: Apache-2.0
"""Admin requests against a data plane and a directory that are answered by hand."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import msgpack
import pytest

from directory_client.wire.greeting import Notice
from gateway.configuration.configuration import Admin as AdminSection
from gateway.configuration.configuration import Configuration, Port
from gateway.control.admin import Admin, pack
from gateway.processes.report import NoRoom, WorkerStatistics
from gateway.show.attention import attention
from gateway.state.events import Events
from gateway.state.job import AskDirectory, Refused
from gateway.state.state import DirectoryServer, State, Worker
from gateway.state.statistics import sample_of
from gateway.underlay.nexthop import Pair, Resolution

TUNNELS = [
    {
        "tunnel": 1,
        "node_id": 22,
        "profile_id": 33,
        "local_locator": "192.0.2.1",
        "remote_locator": "203.0.113.7",
        "protocol": "vxlan",
        "mtu_bytes": 1500,
        "inner_mtu_bytes": 1450,
        "state": "up",
        "next_hops": [{"port": "uplink"}],
        "references": 3,
    },
    {
        "tunnel": 2,
        "node_id": 99,
        "profile_id": 33,
        "local_locator": "192.0.2.1",
        "remote_locator": "203.0.113.9",
        "protocol": "vxlan",
        "mtu_bytes": 1500,
        "inner_mtu_bytes": 1450,
        "state": "unresolved",
        "next_hops": [],
        "references": 1,
    },
]


def flow(source: str, destination: str, packets: int, **more: Any) -> dict[str, Any]:
    return {
        "vni": 7001,
        "source": source,
        "destination": destination,
        "source_port": None,
        "destination_port": None,
        "protocol": None,
        "class": "bridged",
        "level": "pair",
        "action": "encapsulate",
        "reason": None,
        "tunnel": 1,
        "revision": 42,
        "stale": False,
        "age_s": 1,
        "expires_in_s": 9,
        "packets": packets,
        "bytes": packets * 100,
        "ingress": 1,
        "source_object": 1,
        "destination_object": 2,
        **more,
    }


class World:
    """A data plane and a directory; both answer from tables, page by page."""

    def __init__(self, tmp_path: Path) -> None:
        self.now_s = 100.0
        port = Port("uplink", "net_tap0", "underlay", exception="uplink")
        section = AdminSection(tmp_path / "gateway.sock", tmp_path / "show.sock")
        configuration = Configuration(
            tmp_path / "gateway.toml", "gw1", tmp_path, tmp_path, {"uplink": port}, section, site="ams1"
        )
        self.state = State(configuration, "0.1", Events("gw1", clock=lambda: 1e9), lambda: self.now_s)
        self.state.greeting = {"ok": True}
        self.state.servers = lambda: [DirectoryServer("dir1", "ipc:///d", "up", True, 42, 300, 0.1, 0)]
        self.dumps: dict[str, list[dict[str, Any]]] = {
            "tunnels": TUNNELS,
            "vnets": [{"vni": 7001, "object_id": 1}],
            "flows": [],
            "ports": [],
        }
        self.counters: dict[str, Any] = {
            "counters": {"received": 10, "uptime_s": 5},
            "drops": [],
            "delay": {"sum_ns": 0, "buckets": []},
        }
        self.names = {1: "red", 22: "ber1", 33: "fabric"}
        self.directory_asked: list[AskDirectory] = []
        self.directory_answer: dict[str, Any] | Refused | None = None
        self.data_plane_gone = False
        self.late: list[Any] = []
        self.hold_answers = False
        self.admin = Admin(self.state, self.ask_data_plane, self.ask_directory)
        self.answers: list[dict[str, Any]] = []

    def ask_data_plane(self, question: dict[str, Any], done: Any) -> None:
        answer: Any
        if self.data_plane_gone:
            answer = Refused("the data plane has ended", "start it", 3)
        elif question["dump"] == "counters":
            answer = self.counters
        else:
            rows, cursor = self.dumps[question["dump"]], question.get("cursor") or 0
            vni = question.get("vni")
            page = [row for row in rows[cursor : cursor + 2] if vni is None or row.get("vni") == vni]
            answer = {"rows": page, "cursor": cursor + 2 if cursor + 2 < len(rows) else None}
        if self.hold_answers:
            self.late.append(lambda: done(answer))
        else:
            done(answer)

    def ask_directory(self, asked: AskDirectory, done: Any) -> None:
        self.directory_asked.append(asked)
        if asked.type == "names":
            done({"ok": True, "names": [self.names.get(one, "") for one in asked.fields["ids"]]})
        elif asked.type == "list":
            rows = [{"name": "red/web-1", "object_id": 5}] if asked.fields["kind"] == "endpoints" else []
            done({"ok": True, "rows": rows, "revision": 42})
        else:
            done(self.directory_answer if self.directory_answer is not None else {"ok": True})

    def ask(self, verb: str, may_change: bool = True, **request: Any) -> dict[str, Any]:
        before = len(self.answers)
        self.admin.handle(
            {"v": 1, "id": 7, "verb": verb, **request}, self.answers.append, may_change=may_change
        )
        assert len(self.answers) == before + 1, "no answer came"
        return self.answers[-1]

    def rows(self, noun: str, name: str | None = None, **args: Any) -> list[dict[str, Any]]:
        answer = self.ask("show", noun=noun, name=name, args=args)
        assert answer["ok"], answer
        return answer["rows"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(
    "request_",
    [
        None,
        7,
        [],
        {},
        {"v": 2, "verb": "show"},
        {"v": 1, "verb": "shout"},
        {"v": 1, "verb": ["show"]},
        {"v": 1, "verb": "show", "id": {"a": 1}},
        {"v": 1, "verb": "show", "noun": 5},
        {"v": 1, "verb": "show", "noun": "nonsense"},
        {"v": 1, "verb": "show", "noun": "flows", "args": "all"},
        {"v": 1, "verb": "show", "noun": "flows", "args": {"limit": "many"}},
        {"v": 1, "verb": "show", "noun": "flows", "args": {"limit": True}},
        {"v": 1, "verb": "show", "noun": "flows", "args": {"source": "nowhere"}},
        {"v": 1, "verb": "show", "noun": "flows", "args": {"sort": "luck"}},
        {"v": 1, "verb": "show", "noun": "flows", "args": {"vnet": "green"}},
        {"v": 1, "verb": "show", "noun": "tunnels", "name": {"a": 1}},
        {"v": 1, "verb": "show", "noun": "drops", "args": {"last_s": -1}},
        {"v": 1, "verb": "events", "args": {"after": "x"}},
        {"v": 1, "verb": "events", "args": {"wait_ms": 1e9}},
        {"v": 1, "verb": "set", "noun": "moon", "name": "a"},
        {"v": 1, "verb": "set", "noun": "site", "name": 5},
        {"v": 1, "verb": "apply", "args": {"text": 5}},
        {"v": 1, "verb": "apply", "args": {"text": "x", "take_over": [1]}},
        {"v": 1, "verb": "rollback", "args": {"revision": "x"}},
        {"v": 1, "verb": "explain", "args": {"vnet": "red"}},
        {"v": 1, "verb": "show", "at": 5},
    ],
)
def test_what_is_no_request_gets_an_error_with_a_fix_and_is_counted(world: World, request_: Any) -> None:
    world.admin.handle(request_, world.answers.append, may_change=True)
    (answer,) = world.answers
    assert (answer["ok"], answer["code"]) == (False, 2)
    assert answer["error"]
    assert answer["fix"]
    assert world.state.malformed_requests == 1
    assert world.admin.running == 0
    assert world.rows("tunnels")  # and others are served on


@pytest.mark.parametrize("verb", ["apply", "rollback", "set", "remove", "export", "history"])
def test_the_show_socket_changes_nothing(world: World, verb: str) -> None:
    answer = world.ask(verb, may_change=False, noun="site", name="a", args={"text": "x", "revision": 1})
    assert (answer["ok"], answer["code"]) == (False, 1)
    assert "only shows" in answer["error"]
    assert world.directory_asked == []


def test_tunnels_carry_the_directorys_names_and_why_they_are_unresolved(world: World) -> None:
    pair = Pair(ip_address("192.0.2.1"), ip_address("203.0.113.9"))
    world.state.resolutions[pair] = Resolution(why="no route to 203.0.113.9", fix="ip route get 203.0.113.9")
    world.state.unresolved_at[pair] = 5.0
    up, unresolved = world.rows("tunnels")
    assert (up["remote_node"], up["profile"], up["inner_mtu_bytes"]) == ("ber1", "fabric", 1450)
    assert (unresolved["remote_node"], unresolved["why"]) == ("node 99", "no route to 203.0.113.9")
    assert unresolved["since"] == 5.0
    assert [row["tunnel"] for row in world.rows("tunnels", "2")] == [2]
    assert world.ask("show", noun="tunnels", name="3")["error"] == "there is no tunnel 3 at gw1"


def test_why_a_directory_does_not_serve_this_gateway_needs_attention(world: World) -> None:
    refused = DirectoryServer(
        "dir1", "ipc:///d", "refused", False, 0, None, 0.1, 3, "gw1 is there already", "stop it"
    )
    told = Notice("undeclared", "node gw1 is not declared", "vnetctl node add gw1 --site SITE")
    other = DirectoryServer("dir2", "ipc:///e", "up", True, 42, 300, 0.1, 0, notices=(told,))
    world.state.servers = lambda: [refused, other]
    lines = attention(world.state)
    assert {(one["about"], one["text"], one["command"]) for one in lines} >= {
        ("directory dir1", "gw1 is there already", "stop it"),
        ("node gw1", told.text, told.fix),
    }


def test_a_locator_that_is_missing_says_where_it_belongs(world: World) -> None:
    uplink = Port("uplink", "net_tap0", "underlay", (ip_interface("192.0.2.1/24"),), exception="up0")
    world.state.configuration = replace(world.state.configuration, ports={"uplink": uplink})
    world.state.missing_locators = ("192.0.2.1", "203.0.113.99", "2001:db8::1")
    commands = [one["command"] for one in attention(world.state) if one["about"].startswith("locator")]
    assert commands == [
        "ip address add 192.0.2.1/24 dev up0",
        "ip address add 203.0.113.99/32 dev lo",
        "ip address add 2001:db8::1/128 dev lo",
    ]


def test_what_finds_no_room_needs_attention(world: World) -> None:
    first = {"vnets": NoRoom(2, ["blue", "green"])}
    second = {"vnets": NoRoom(7, ["n1", "n2", "n3", "n4", "n5"]), "locations": NoRoom(1, ["red"])}
    for number, lacking in enumerate((first, second)):
        world.state.workers[f"slow-path-{number}"] = Worker(
            world.now_s, WorkerStatistics(no_room=lacking), 0, None
        )
    lines = [one for one in attention(world.state) if one["about"] == "capacity"]
    assert [one["text"] for one in lines] == [
        "V-nets blue, green, n1, n2, n3 and 4 more are not carried: the table of V-nets is full"
        " (vnets = 256)",
        "V-net red gets no more destinations: its share of the table of locations is used up"
        " (locations = 65536)",
    ]
    assert lines[0]["command"] == "raise vnets in [capacity] of gateway.toml, then restart it"


def test_an_unresolved_tunnel_needs_attention(world: World) -> None:
    world.state.servers = lambda: [DirectoryServer("dir1", "ipc:///d", "down", False, 0, None, 9.0, 3)]
    world.state.missing_locators = ("192.0.2.1",)
    world.state.workers["slow-path-0"] = Worker(world.now_s - 60, WorkerStatistics(), 0, None)
    world.state.exception_problems["uplink"] = ("it is taken", "ip link delete uplink")
    (row,) = world.rows("overview")
    about = [line["about"] for line in row["attention"]]
    assert about == [
        "port uplink",
        "locator 192.0.2.1",
        "tunnel 2 → 203.0.113.9",
        "directory",
        "directory dir1",
        "slow-path-0",
    ]
    assert all(line["command"] for line in row["attention"])


def test_without_a_data_plane_the_overview_still_comes_and_says_so(world: World) -> None:
    world.data_plane_gone, world.state.greeting = True, None
    world.state.data_plane_why = "has ended"
    (row,) = world.rows("overview")
    assert row["data_plane"] == "gone"
    assert row["attention"][0] == {
        "about": "data plane",
        "text": "has ended",
        "command": "systemctl status vnet-gateway",
    }
    answer = world.ask("show", noun="flows")
    assert (answer["ok"], answer["code"], answer["error"]) == (False, 3, "the data plane has ended")
    assert world.rows("endpoints") == [{"name": "red/web-1", "object_id": 5}]


def test_flows_are_filtered_sorted_limited_and_counted_over_all_pages(world: World) -> None:
    world.dumps["flows"] = [flow(f"10.0.0.{n}", "10.0.0.99", packets=n) for n in range(1, 10)]
    answer = world.ask("show", noun="flows", args={"vnet": "red", "sort": "packets", "limit": 3})
    assert [row["packets"] for row in answer["rows"]] == [9, 8, 7]
    assert (answer["more"], answer["total"]) == (6, 9)
    assert [row["source"] for row in world.rows("flows", source="10.0.0.4/31", sort="source")] == [
        "10.0.0.4",
        "10.0.0.5",
    ]
    assert world.rows("flows", destination="10.0.0.1") == []
    assert world.rows("flows", action="drop") == []


def test_rates_of_flows_come_from_a_second_look(world: World) -> None:
    world.dumps["flows"] = [flow("10.0.0.1", "10.0.0.2", 100), flow("10.0.0.3", "10.0.0.4", 900)]
    request = {"v": 1, "id": 1, "verb": "show", "noun": "flows", "args": {"rates": True}}
    world.admin.handle(request, world.answers.append, may_change=False)
    assert world.answers == []
    world.now_s += 2
    world.dumps["flows"] = [flow("10.0.0.1", "10.0.0.2", 500), flow("10.0.0.3", "10.0.0.4", 900)]
    world.admin.tick()
    (answer,) = world.answers
    assert [(row["source"], row["packets_per_s"]) for row in answer["rows"]] == [
        ("10.0.0.1", 200.0),
        ("10.0.0.3", 0.0),
    ]


def test_drops_say_why_where_and_what_to_type_with_a_real_connection(world: World) -> None:
    world.counters = {
        "counters": {"received": 1000, "uptime_s": 60},
        "drops": [
            {"reason": "no_rule", "vni": 7001, "packets": 30},
            {"reason": "no_rule", "vni": 7002, "packets": 10},
            {"reason": "arp_malformed", "vni": 0, "packets": 10},
        ],
    }
    world.dumps["flows"] = [flow("10.0.0.12", "10.0.0.21", 5, action="drop", reason="no_rule")]
    first, second = world.rows("drops")
    assert (first["reason"], first["packets"], first["share_ratio"]) == ("no_rule", 40, 0.8)
    assert first["vnets"] == ["red", "vni 7002"]
    assert first["sentence"] == "no rule of the V-net allows the connection"
    assert first["command"] == "vnetctl explain red 10.0.0.12 10.0.0.21"
    assert (second["reason"], second["vnets"], second["command"]) == ("arp_malformed", [], "")


def test_drops_of_the_last_minutes_are_differences(world: World) -> None:
    for second, packets in ((0, 5), (100, 25)):
        counters = {
            "counters": {"received": second},
            "drops": [{"reason": "no_rule", "vni": 0, "packets": packets}],
        }
        world.state.statistics.add(sample_of(float(second), counters, [], []))
    answer = world.ask("show", noun="drops", args={"last_s": 90})
    assert [(row["reason"], row["packets"]) for row in answer["rows"]] == [("no_rule", 20)]
    assert answer["seconds"] == 100


def test_explain_adds_the_flows_that_carry_the_connection(world: World) -> None:
    world.directory_answer = {
        "ok": True,
        "v": 1,
        "id": 9,
        "vnet": "red",
        "vni": 7001,
        "source": "10.0.0.1",
        "destination": "10.0.0.2",
        "action": "encapsulate",
        "node": "gw1",
    }
    connection = {"level": "connection", "protocol": 6, "source_port": 4000}
    world.dumps["flows"] = [
        flow("10.0.0.1", "10.0.0.2", 0, action="narrow"),
        flow("10.0.0.1", "10.0.0.2", 7, destination_port=443, **connection),
        flow("10.0.0.1", "10.0.0.2", 8, destination_port=22, **connection),
        flow("10.0.0.2", "10.0.0.1", 9),
        flow("10.0.0.1", "10.0.0.2", 0, action="answer", **{"class": "neighbor"}),
    ]
    args = {"vnet": "red", "source": "web-1", "destination": "db-1", "protocol": "tcp", "port": 443}
    (row,) = world.ask("explain", args=args)["rows"]
    assert [(cached["packets"], cached["destination_port"]) for cached in row["cached"]] == [(7, 443)]
    assert row["action"] == "encapsulate"
    assert world.directory_asked[0].fields.get("node") is None, "the source's gateway decides"


def test_what_another_gateway_decides_is_explained_with_that_gateways_cache(world: World) -> None:
    args = {"vnet": "red", "source": "db-1", "destination": "web-1"}
    there = {"node": "gw2", "action": "deliver", "cached": [{"action": "deliver"}]}
    asked: list[AskDirectory] = []

    def answer(question: AskDirectory, done: Any) -> None:
        asked.append(question)
        if question.type == "explain":
            done({"ok": True, "node": "gw2", "action": "deliver"})
        elif silent:
            done({"ok": True, "answers": [], "silent": ["gw2"]})
        else:
            done({"ok": True, "answers": [{"node": "gw2", "answer": {"ok": True, "rows": [there]}}]})

    silent = False
    admin = Admin(world.state, world.ask_data_plane, answer)
    request = {"v": 1, "id": 7, "verb": "explain", "args": args}
    admin.handle(request, world.answers.append, may_change=True)
    assert world.answers[-1]["rows"] == [there]
    assert asked[-1].fields["node"] == "gw2"
    assert asked[-1].fields["request"]["args"] == {**args, "node": "gw2"}
    silent = True
    admin.handle(request, world.answers.append, may_change=True)
    (row,) = world.answers[-1]["rows"]
    assert (row["node"], row["action"], row["cached"]) == ("gw2", "deliver", None)


def test_a_request_for_another_node_goes_through_the_directory(world: World) -> None:
    world.directory_answer = {
        "ok": True,
        "answers": [{"node": "b", "answer": {"ok": True, "rows": []}}],
        "silent": [],
    }
    answer = world.ask("show", noun="flows", at="b", args={"limit": 3})
    assert answer["answers"][0]["node"] == "b"
    (asked,) = world.directory_asked
    assert (asked.type, asked.fields["node"]) == ("forward", "b")
    assert asked.fields["request"] == {"v": 1, "verb": "show", "noun": "flows", "args": {"limit": 3}}
    assert world.ask("show", noun="tunnels", at="gw1")["ok"]


def test_a_refusal_of_the_directory_is_passed_on_as_it_is(world: World) -> None:
    world.directory_answer = {"ok": False, "error": "it is owned", "fix": "take it over", "code": 1}
    answer = world.ask("apply", args={"text": 'document = "x"'})
    assert (answer["ok"], answer["error"], answer["fix"], answer["code"]) == (
        False,
        "it is owned",
        "take it over",
        1,
    )


def test_events_are_answered_at_once_or_when_they_come_or_when_time_is_up(world: World) -> None:
    world.state.events.add("tunnel_resolved", "one")
    assert [row["text"] for row in world.ask("events")["rows"]] == ["one"]
    request = {"v": 1, "id": 1, "verb": "events", "args": {"after": 1, "wait_ms": 1000}}
    world.answers.clear()
    world.admin.handle(request, world.answers.append, may_change=False)
    world.admin.handle(request, world.answers.append, may_change=False)
    world.admin.tick()
    assert world.answers == []
    world.state.events.add("tunnel_unresolved", "two")
    world.admin.tick()
    assert [[row["text"] for row in answer["rows"]] for answer in world.answers] == [["two"], ["two"]]
    world.answers.clear()
    world.admin.handle(
        {**request, "args": {"after": 2, "wait_ms": 1000}}, world.answers.append, may_change=False
    )
    world.now_s += 1.1
    world.admin.tick()
    assert world.answers[0]["rows"] == []


def test_many_requests_are_under_way_at_once_and_too_many_are_refused(world: World) -> None:
    world.hold_answers = True
    request = {"v": 1, "id": 1, "verb": "show", "noun": "ports"}
    for _ in range(300):
        world.admin.handle(request, world.answers.append, may_change=False)
    assert {answer["ok"] for answer in world.answers} == {False}
    assert len(world.answers) == 300 - 256
    world.answers.clear()
    for answer in world.late:
        answer()
    assert len(world.answers) == 256
    assert world.admin.running == 0


def test_rows_that_another_process_made_up_fail_one_request_only(world: World) -> None:
    world.counters = {"drops": [{"odd": 1}]}
    answer = world.ask("show", noun="drops")
    assert (answer["ok"], answer["code"]) == (False, 1)
    assert "was not understood" in answer["error"]
    assert world.rows("tunnels")


def test_answer_that_cannot_be_packed_becomes_an_error() -> None:
    deep: Any = 1
    for _ in range(2000):
        deep = [deep]
    answer = msgpack.unpackb(pack({"v": 1, "id": 7, "ok": True, "rows": deep}))
    assert (answer["id"], answer["ok"], answer["code"]) == (7, False, 1)
    assert "cannot be sent" in answer["error"]


def test_a_request_nested_too_deep_is_refused_and_ends_nothing(world: World) -> None:
    nested: Any = []
    for _ in range(1022):
        nested = [nested]
    answer = world.ask("show", noun="flows", at="other", args={"x": nested}, may_change=False)
    assert (answer["ok"], answer["code"]) == (False, 2)
    assert world.ask("show", noun="tunnels")["ok"] is True


def test_a_question_that_cannot_be_packed_is_one_answer_and_no_end(world: World) -> None:
    def too_deep(asked: AskDirectory, done: Any) -> None:
        raise ValueError("recursion limit exceeded")

    world.admin._ask_directory = too_deep
    answer = world.ask("show", noun="flows", at="other", args={})
    assert (answer["ok"], world.admin.running) == (False, 0)
    assert "recursion limit exceeded" in answer["error"]


# ---- what the directory is asked for ---------------------------------------------------------------


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
