# SPDX-License-Identifier: Apache-2.0
"""Admin requests against a data plane and a directory that are answered by hand."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from admin_world import World

from gateway.control.admin import pack
from gateway.state.job import AskDirectory


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
