# SPDX-License-Identifier: Apache-2.0
"""What the directory has gateways' controls asked: flows for a dry run, and what operators forward."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
from dispatcher_bench import Bench, head_of, replies

from directory_client.wire.messages import encode
from directory_service.protocol.authentication import Identity

NOBODYS = {"cached": 0, "concerned": False}


def hello(bench: Bench, node: str, connection: bytes) -> None:
    assert bench.ask("write", "hello", node=node, role="control", connection=connection)["ok"] is True


def test_a_dry_run_decides_the_flows_again_that_gateways_have_cached():
    bench = Bench()
    bench.directory.concerned = ["gw1", "gw2"]
    hello(bench, "gw1", b"k1")
    (ask,) = replies(bench.send("write", "apply", text="x", dry_run=True))
    assert ask.connection == b"k1"
    question = msgpack.unpackb(ask.frames[0])
    assert question["request"]["noun"] == "flows"
    assert question["request"]["args"]["vnet"] == "red"
    answer = {"ok": True, "rows": [{"vni": 7001, "packets": 3}, "no row"], "more": 10}
    frames = encode({"type": "answer", "id": question["id"], "answer": answer})
    outs = bench.raw("write", frames, connection=b"k1")
    result = head_of(outs)
    assert result["flows"] == {"cached": 1, "gateways": ["gw1"], "silent": ["gw2"], "unseen": 10}
    assert bench.directory.applied[-1]["flows"] == [{"vni": 7001, "packets": 3, "node": "gw1"}]
    assert bench.directory.revision == 41


def test_a_dry_run_of_a_rollback_asks_gateways_for_their_flows_too():
    bench = Bench()
    hello(bench, "gw1", b"k1")
    (ask,) = replies(bench.send("write", "rollback", revision=3, dry_run=True))
    question = msgpack.unpackb(ask.frames[0])
    assert question["request"]["noun"] == "flows"
    answer = {"ok": True, "rows": [{"vni": 7001}], "more": 0}
    frames = encode({"type": "answer", "id": question["id"], "answer": answer})
    flows = head_of(bench.raw("write", frames, connection=b"k1"))["flows"]
    assert (flows["cached"], flows["gateways"], flows["silent"]) == (1, ["gw1"], [])
    assert bench.directory.revision == 41


def test_a_gateway_that_cannot_say_its_flows_counts_as_silent():
    bench = Bench()
    hello(bench, "gw1", b"k1")
    (ask,) = replies(bench.send("write", "apply", text="x", dry_run=True))
    refusal = {"ok": False, "error": "the data plane does not answer"}
    frames = encode({"type": "answer", "id": msgpack.unpackb(ask.frames[0])["id"], "answer": refusal})
    flows = head_of(bench.raw("write", frames, connection=b"k1"))["flows"]
    assert (flows["gateways"], flows["silent"]) == ([], ["gw1"])


def test_a_new_v_net_has_no_flows_to_ask_for():
    bench = Bench()
    hello(bench, "gw1", b"k1")
    bench.directory.diff = [
        {"sign": "+", "kind": "vnet", "name": "red", "text": ""},
        {"sign": "+", "kind": "rule", "name": "red/any", "text": ""},
    ]
    assert bench.ask("write", "apply", text="x", dry_run=True)["flows"] == NOBODYS


def test_a_new_gateway_has_no_flows_to_ask_for():
    bench = Bench()
    bench.directory.diff = [{"sign": "+", "kind": "node", "name": "gw1", "text": ""}]
    assert bench.ask("write", "apply", text="x", dry_run=True)["flows"] == NOBODYS


def test_forward_names_who_is_silent():
    bench = Bench()
    hello(bench, "gw1", b"k1")
    hello(bench, "gw2", b"k2")
    asks = replies(bench.send("write", "forward", node="all", request={"verb": "show"}, wait_ms=1000))
    assert {ask.connection for ask in asks} == {b"k1", b"k2"}
    number = {ask.connection: msgpack.unpackb(ask.frames[0])["id"] for ask in asks}
    stranger = encode({"type": "answer", "id": number[b"k2"], "answer": {"rows": ["forged"]}})
    assert bench.raw("write", stranger, connection=b"k1") == []
    bench.raw(
        "write", encode({"type": "answer", "id": number[b"k1"], "answer": {"rows": [1]}}), connection=b"k1"
    )
    assert replies(bench.outs) == []
    result = head_of(bench.tick(1.0))
    assert result["answers"] == [{"node": "gw1", "answer": {"rows": [1]}}]
    assert result["silent"] == ["gw2"]
    late = encode({"type": "answer", "id": number[b"k2"], "answer": {}})
    assert bench.raw("write", late, connection=b"k2") == []


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("last", ["answer", "time"])
def test_an_answer_that_is_nested_too_deep_is_refused_and_fails_nobody_else(last):
    bench = Bench()
    hello(bench, "gw1", b"k1")
    hello(bench, "gw2", b"k2")
    fields = {"node": "all", "request": {"verb": "show"}, "wait_ms": 1000}
    asks = replies(bench.send("write", "forward", connection=b"op", **fields))
    number = {ask.connection: msgpack.unpackb(ask.frames[0])["id"] for ask in asks}
    deep = {"type": "answer", "id": number[b"k1"], "answer": {"rows": nested(1022)}}
    (refused,) = replies(bench.raw("write", encode(deep), connection=b"k1"))
    assert (refused.connection, msgpack.unpackb(refused.frames[0])["code"]) == (b"k1", 2)
    assert bench.dispatcher.counters["malformed"] == 1
    if last == "time":
        silent = ["gw1", "gw2"]
    else:
        fine = {"type": "answer", "id": number[b"k2"], "answer": {"rows": []}}
        assert bench.raw("write", encode(fine), connection=b"k2") == []
        silent = ["gw1"]
    (reply,) = replies(bench.tick(1.0))
    assert reply.connection == b"op"
    assert msgpack.unpackb(reply.frames[0])["silent"] == silent
    assert bench.ask("write", "export", document="doc")["ok"] is True


def test_a_control_that_says_hello_no_more_is_silent_at_once():
    bench = Bench()
    hello(bench, "gw1", b"k1")
    bench.now += 4.0
    result = bench.ask("write", "forward", node="gw1", request={"verb": "show"})
    assert (result["answers"], result["silent"]) == ([], ["gw1"])
    assert bench.ask("write", "forward", node="nobody", request={"verb": "show"})["ok"] is False


def flows(vnet: object, **args: object) -> dict[str, object]:
    return {"verb": "show", "noun": "flows", "args": {"vnet": vnet, **args}}


@pytest.mark.parametrize(
    ("node", "request_", "allowed"),
    [
        ("gw2", {"verb": "show"}, True),  # its own
        ("gw2", {"verb": "show", "noun": "flows"}, True),
        ("gw2", {"verb": "set"}, False),
        ("gw2", {"verb": "show", "at": "gw1"}, False),  # gw2's control would ask in its own name
        ("gw1", flows("red"), True),  # red is hosted by it
        ("all", flows("red"), True),
        ("gw1", {"verb": "explain", "args": {"vnet": "red"}}, True),
        ("gw1", {**flows("red"), "at": "all"}, False),
        ("gw1", flows("blue"), False),
        ("all", flows("blue"), False),
        ("gw1", flows("red", vni=7009), False),  # a gateway goes by the number
        ("gw1", flows(["red"]), False),
        ("gw1", {"verb": "explain", "args": {"vnet": "blue"}}, False),
        ("gw1", {"verb": "explain", "args": ["red"]}, False),
        ("gw1", {"verb": "show", "noun": "flows"}, False),
        ("gw1", {"verb": "show", "noun": "endpoints", "args": {"vnet": "red"}}, False),  # list shows them
        ("gw1", {"verb": "show"}, False),
        ("all", {"verb": "show", "noun": "endpoints"}, False),
        ("gw1", {"verb": "events"}, False),
        ("gw1", {"verb": "set", "args": {"vnet": "red"}}, False),
    ],
)
def test_a_gateways_key_sees_of_others_what_concerns_its_v_nets(node, request_, allowed):
    bench = Bench()
    hello(bench, "gw1", b"k1")
    hello(bench, "gw2", b"k2")
    by = Identity("gw2", "gateway")
    outs = replies(bench.send("write", "forward", node=node, request=request_, by=by, connection=b"k9"))
    if allowed:
        assert {out.connection for out in outs} <= {b"k1", b"k2"}  # it is asked
    else:
        assert [(out.connection, msgpack.unpackb(out.frames[0])["ok"]) for out in outs] == [(b"k9", False)]
    operator = Identity("anna", "operator")
    outs = replies(bench.send("write", "forward", node=node, request=request_, by=operator))
    assert {out.connection for out in outs} <= {b"k1", b"k2"}


def test_a_foreign_node_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    there = SimpleNamespace(fabric=SimpleNamespace(nodes={"leaf": SimpleNamespace(kind="vtep")}))
    monkeypatch.setattr(type(bench.directory), "current", there)
    monkeypatch.setattr(bench.directory, "node_id", lambda _: 7)
    answer = bench.ask("write", "forward", node="leaf", request={"verb": "show"})
    assert (answer["ok"], answer["error"]) == (False, "leaf is a vtep: it answers no questions")
