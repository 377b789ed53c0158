# SPDX-License-Identifier: Apache-2.0
"""Flows, drops and reasons, as control shows them."""

from __future__ import annotations

from typing import Any

from admin_world import World, flow

from gateway.control.admin import Admin
from gateway.state.job import AskDirectory
from gateway.state.statistics import sample_of


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
