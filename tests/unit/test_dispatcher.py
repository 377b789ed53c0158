# SPDX-License-Identifier: Apache-2.0
"""The directory's protocol without sockets: messages and a clock in, answers out."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from dispatcher_bench import GATEWAY, OPERATOR, Bench, head_of, queries, replies

from directory_client.decoding import read_push, read_resolved, read_snapshot
from directory_client.vocabulary.reasons import reason_number
from directory_client.wire.answers import Answer
from directory_client.wire.messages import pack, read
from directory_client.wire.questions import SnapshotHead
from directory_service.protocol.authentication import LOCAL
from directory_service.protocol.outbox import Audit, Out, Publish, Reply
from directory_service.refused import Refused

# ---- resolve ---------------------------------------------------------------------------------


def test_decisions_come_in_the_order_of_the_queries():
    bench = Bench()
    outs = bench.send("resolve", "resolve", queries(3, 1, 2), node="gw1", node_capabilities=["vxlan"])
    head, *parts = replies(outs)[0].frames
    answer = read_resolved(1, read(head, Answer), parts)
    assert answer.decisions["rule_id"].tolist() == [3, 1, 2]
    assert (answer.incarnation, answer.revision, answer.provenance) == (9, 41, [])


def test_rows_over_the_v_nets_rate_come_back_undecided_and_others_do_not_suffer():
    bench = Bench(resolves_per_second_per_vnet=2)
    both = queries(1, 2, 3, vni=7001) + queries(4, vni=7002)
    outs = bench.send("resolve", "resolve", both, node="gw1", explain=True)
    head, *parts = replies(outs)[0].frames
    answer = read_resolved(1, read(head, Answer), parts)
    assert answer.decisions["action"].tolist() == [2, 2, 0, 2]
    assert answer.decisions["rule_id"].tolist() == [1, 2, 0, 4]
    assert answer.decisions["reason"][2] == reason_number("miss_rate")
    assert answer.decisions["destination_location"][2] == -1
    assert answer.provenance == [{"port": 1}, {"port": 2}, {}, {"port": 4}]
    assert bench.dispatcher.counters["rate_limited"] == 1
    bench.now += 1.0
    outs = bench.send("resolve", "resolve", queries(1, 2), node="gw1")
    assert read_resolved(1, *split(outs, Answer)).decisions["action"].tolist() == [2, 2]


def split(outs: list[Out], kind: Any = SnapshotHead) -> tuple[Any, list[Any]]:
    head, *parts = replies(outs)[0].frames
    return read(head, kind), parts


def test_a_request_that_waited_too_long_is_answered_busy():
    bench = Bench(late_ms=50)
    answer = bench.ask("resolve", "resolve", queries(1), node="gw1", waited_s=0.051)
    assert (answer["ok"], answer["busy"], answer["retry_ms"]) == (False, True, 20)
    sent_us = int((bench.now - 0.06) * 1e6)
    assert bench.ask("resolve", "resolve", queries(1), node="gw1", sent_us=sent_us)["busy"] is True
    # another machine's clock says nothing
    assert bench.ask("resolve", "resolve", queries(1), node="gw1", sent_us=sent_us, by=GATEWAY)["ok"] is True
    assert bench.dispatcher.counters["busy"] == 2


@pytest.mark.parametrize("type", ["resolve", "snapshot", "locator", "heartbeat"])
def test_a_gateways_key_speaks_as_its_node_only(type):
    bench = Bench()
    fields = {"local": bytes(16), "remote": bytes(16), "protocol": 1, "wire_id": 7001}
    parts = [queries(1)] if type == "resolve" else []
    assert bench.ask("resolve", type, *parts, node="gw1", by=GATEWAY, **fields)["ok"] is True
    answer = bench.ask("resolve", type, *parts, node="gw2", by=GATEWAY, **fields)
    assert answer["ok"] is False
    assert "may not speak as node gw2" in answer["error"]


def test_an_unknown_outer_source_is_negative_for_a_while():
    bench = Bench()
    known = bench.ask(
        "resolve", "locator", node="gw1", local=bytes(16), remote=bytes(16), protocol=1, wire_id=7001
    )
    assert known["known"] is True
    assert known["op"]["op"] == "ingress"
    unknown = bench.ask(
        "resolve", "locator", node="gw1", local=bytes(16), remote=bytes(16), protocol=1, wire_id=5
    )
    assert (unknown["known"], unknown["negative_s"]) == (False, 5.0)


# ---- snapshot and push -----------------------------------------------------------------------


def test_seq_counts_per_topic_and_the_snapshot_says_where_it_stands():
    bench = Bench()
    bench.directory.change((1001, 7001), (1001, 7002), (1002, 7001))
    bench.directory.change((1001, 7001))
    pushed = [read_push(out.frames) for out in bench.tick() if isinstance(out, Publish)]
    assert [(p.node_id, p.vni, p.seq) for p in pushed] == [
        (1001, 7001, 1),
        (1001, 7002, 1),
        (1002, 7001, 1),
        (1001, 7001, 2),
    ]
    assert [p.sum for p in pushed] == [1, 2, 1, 3]
    assert [p.last for p in pushed] == [False, True, True, True]  # of its node and revision
    assert {p.epoch for p in pushed} == {5}
    answer = read_snapshot(*split(bench.send("resolve", "snapshot", node="gw1", vnis=None)))
    assert answer.seq == {7001: 2, 7002: 1}
    assert (answer.epoch, answer.incarnation, answer.revision, answer.node_id) == (5, 9, 43, 1001)
    assert answer.vnets == [(7001, [{"op": "vnet", "vni": 7001}])]


def test_a_snapshot_is_asked_for_with_what_is_in_force_in_this_era():
    bench = Bench()
    known = pack([[7001, 9, 40], [7002, 8, 41]])
    answer = read_snapshot(*split(bench.send("resolve", "snapshot", known, node="gw1", vnis=None)))
    assert answer.closes
    assert bench.directory.known == {7001: 40}
    assert not read_snapshot(*split(bench.send("resolve", "snapshot", node="gw1", vnis=None))).closes
    assert bench.directory.known is None
    for bad in ({}, [[7001, 9]], [[7001, 9, "x"]], [7001]):
        answered = bench.ask("resolve", "snapshot", pack(bad), node="gw1", vnis=None)
        assert answered["code"] == 2


def test_what_is_pushed_stands_before_the_answer_that_knows_of_it():
    bench = Bench()
    outs = bench.send("write", "set", kind="rule", name="red/x", values={}, wait_ms=0)
    assert isinstance(outs[0], Publish)
    assert isinstance(outs[-1], Reply)


def test_a_node_that_is_not_declared_has_id_zero():
    bench = Bench()
    answer = read_snapshot(*split(bench.send("resolve", "snapshot", node="nobody", vnis=None)))
    assert (answer.node_id, answer.vnets) == (0, [])
    assert bench.ask("resolve", "heartbeat", node="nobody")["node_id"] == 0


def test_a_subscription_is_confirmed_by_a_heartbeat_and_heartbeats_follow_each_second():
    bench = Bench()
    bench.directory.change((1001, 7001))
    bench.tick()
    granted, outs = bench.dispatcher.subscription(LOCAL, (1001).to_bytes(8, "big"))
    assert granted
    first = read_push(outs[0].frames)
    assert (first.node_id, first.vni, first.seq, first.operations) == (1001, 0, 1, [])
    assert len(bench.tick(1.0)) == 1
    assert bench.tick(0.5) == []
    assert len(bench.tick(0.5)) == 1


def test_a_gateway_is_granted_only_its_own_topics():
    bench = Bench()
    own, other = (1001).to_bytes(8, "big"), (1002).to_bytes(8, "big")
    assert bench.dispatcher.subscription(GATEWAY, own)[0] is True
    assert bench.dispatcher.subscription(GATEWAY, own + (7001).to_bytes(4, "big"))[0] is True
    for topic in (other, b"", own[:7]):
        assert bench.dispatcher.subscription(GATEWAY, topic) == (False, [])
    assert bench.dispatcher.counters["subscriptions_refused"] == 3


# ---- heartbeats and liveness -----------------------------------------------------------------


def test_a_heartbeat_announces_locators_and_shows_the_node_alive_until_its_lease_ends():
    bench = Bench()
    answer = bench.ask(
        "resolve", "heartbeat", node="gw1", locators=["192.0.2.1"], ports=["rack"], revision=40
    )
    assert (answer["node_id"], answer["name"], answer["revision"]) == (1001, "dir1", 41)
    assert bench.directory.announced == [("gw1", ["192.0.2.1"], ["rack"])]
    rows = {row["name"]: row for row in bench.ask("write", "list", kind="nodes")["rows"]}
    assert (rows["gw1"]["state"], rows["gw1"]["applied_revision"]) == ("up", 40)
    assert rows["gw2"]["state"] == "unknown"
    bench.now += 10.1
    rows = {row["name"]: row for row in bench.ask("write", "list", kind="nodes")["rows"]}
    assert (rows["gw1"]["state"], rows["gw1"]["applied_revision"]) == ("stale", None)


def test_processes_of_a_gateway_say_its_locators_together():
    bench = Bench()
    bench.ask("resolve", "heartbeat", node="gw1", role="slow-path", locators=[], ports=["rack"])
    assert bench.directory.announced == []  # control may yet say some
    bench.ask("resolve", "heartbeat", node="gw1", role="control", locators=["192.0.2.1"], ports=["rack"])
    bench.ask("resolve", "heartbeat", node="gw1", role="slow-path", locators=[], ports=["rack"])
    bench.ask("resolve", "heartbeat", node="gw1", role="slow-path", worker=1)
    assert {str(said) for said in bench.directory.announced} == {"('gw1', ['192.0.2.1'], ['rack'])"}


def test_a_gateway_without_locators_is_believed_after_a_while():
    bench = Bench()
    bench.ask("resolve", "heartbeat", node="gw1", locators=[], ports=["rack"])
    bench.now += 4.0
    bench.ask("resolve", "heartbeat", node="gw1", locators=[], ports=["rack"])
    assert bench.directory.announced == [("gw1", [], ["rack"])]


# ---- write -----------------------------------------------------------------------------------


def test_apply_answers_when_every_living_gateway_has_reported_the_revision():
    bench = Bench()
    bench.directory.concerned = ["gw1", "gw2"]
    bench.ask("resolve", "heartbeat", node="gw1", worker=0, workers=2, revision=41)
    bench.ask("resolve", "heartbeat", node="gw1", worker=1, workers=2, revision=41)
    assert replies(bench.send("write", "apply", text="x", name="a.toml")) == []
    bench.now += 0.006
    assert (
        len(replies(bench.send("resolve", "heartbeat", node="gw1", worker=0, workers=2, revision=42))) == 1
    )  # the other worker lacks it
    outs = replies(bench.send("resolve", "heartbeat", node="gw1", worker=1, workers=2, revision=42))
    answer = msgpack.unpackb(outs[-1].frames[0])
    assert (answer["ok"], answer["revision"], answer["before"], answer["added"]) == (True, 42, 41, 1)
    assert answer["gateways"] == [
        {"node": "gw1", "state": "applied", "ms": 6.0},
        {"node": "gw2", "state": "silent", "ms": None},
    ]


def test_the_document_that_declares_a_gateway_waits_for_it():
    bench = Bench()
    bench.directory.concerned = ["gw9"]
    assert bench.ask("resolve", "heartbeat", node="gw9", revision=41)["node_id"] == 0
    assert replies(bench.send("write", "apply", text="x", name="a.toml")) == []
    bench.now += 0.3
    outs = replies(bench.send("resolve", "heartbeat", node="gw9", revision=42))
    answer = msgpack.unpackb(outs[-1].frames[0])
    assert answer["gateways"] == [{"node": "gw9", "state": "applied", "ms": 300.0}]
    assert bench.directory.announced == []  # it is not declared: nothing is stored of it


def late_rows(bench):
    assert replies(bench.send("write", "apply", text="x", wait_ms=500)) == []
    bench.ask("resolve", "heartbeat", node="gw1", worker=0, workers=2, revision=42)
    return head_of(bench.tick(0.5))["gateways"]


def test_a_dead_worker_is_not_taken_to_have_applied_a_change():
    bench = Bench()
    bench.ask("resolve", "heartbeat", node="gw1", worker=1, workers=2, revision=41)
    bench.tick(11)  # it is silent for longer than node_s
    bench.ask("resolve", "heartbeat", node="gw1", worker=0, workers=2, revision=41)
    assert late_rows(bench) == [{"node": "gw1", "state": "late", "ms": None, "workers": ["slow-path-1"]}]


def test_a_worker_that_never_spoke_is_waited_for():
    bench = Bench()
    bench.ask("resolve", "heartbeat", node="gw1", worker=0, workers=2, revision=41)
    assert late_rows(bench) == [{"node": "gw1", "state": "late", "ms": None, "workers": ["slow-path-1"]}]


def test_a_directory_that_has_just_started_waits_for_gateways_that_it_has_not_heard():
    bench = Bench()
    bench.now = 1.0  # after its start
    assert replies(bench.send("write", "apply", text="x", wait_ms=500)) == []
    bench.now += 0.3
    outs = replies(bench.send("resolve", "heartbeat", node="gw1", revision=42))
    assert msgpack.unpackb(outs[-1].frames[0])["gateways"] == [
        {"node": "gw1", "state": "applied", "ms": 300.0}
    ]
    bench.directory.concerned = ["gw2"]
    assert replies(bench.send("write", "apply", text="x", wait_ms=500)) == []
    assert head_of(bench.tick(0.5))["gateways"] == [{"node": "gw2", "state": "silent", "ms": None}]


def test_a_revision_of_another_era_does_not_say_that_a_change_is_in_force():
    """A store that went back counts on from an older revision; a gateway that has not taken its snapshot yet
    stands above it, in the era before."""
    bench = Bench()
    before = bench.directory.world.incarnation - 1
    bench.ask("resolve", "heartbeat", node="gw1", revision=80, incarnation=before)
    rows = bench.ask("write", "list", kind="nodes")["rows"]
    assert [row["applied_revision"] for row in rows if row["name"] == "gw1"] == [None]
    assert replies(bench.send("write", "apply", text="x", wait_ms=500)) == []
    assert len(bench.send("resolve", "heartbeat", node="gw1", revision=81, incarnation=before)) == 1
    outs = replies(bench.send("resolve", "heartbeat", node="gw1", revision=42))
    assert msgpack.unpackb(outs[-1].frames[0])["gateways"][0]["state"] == "applied"


def test_who_stands_in_another_era_until_the_deadline_is_late():
    bench = Bench()
    before = bench.directory.world.incarnation - 1
    for worker, era in ((0, before + 1), (1, before)):  # worker 0 has its snapshot, worker 1 hangs
        said = {"worker": worker, "workers": 2, "revision": 80, "incarnation": era}
        bench.ask("resolve", "heartbeat", node="gw1", **said)
    assert replies(bench.send("write", "apply", text="x", wait_ms=500)) == []
    (row,) = head_of(bench.tick(0.5))["gateways"]
    assert (row["state"], row["workers"]) == ("late", ["slow-path-1"])


def test_a_gateway_that_has_no_room_for_a_v_net_has_not_applied_its_change():
    bench = Bench()
    bench.ask("resolve", "heartbeat", node="gw1", revision=41)
    assert replies(bench.send("write", "apply", text="x", wait_ms=500)) == []
    lacks = [[7001, "red", "vnets"], [7009, "other", "ingresses"]]
    outs = replies(bench.send("resolve", "heartbeat", node="gw1", revision=42, no_room=lacks))
    assert msgpack.unpackb(outs[-1].frames[0])["gateways"] == [
        {
            "node": "gw1",
            "state": "no_room",
            "ms": None,
            "why": "no room for red: raise vnets in [capacity] of its gateway.toml",
        }
    ]
    assert replies(bench.send("write", "apply", text="x", wait_ms=500)) == []
    outs = replies(bench.send("resolve", "heartbeat", node="gw1", revision=43, no_room=lacks[1:]))
    assert msgpack.unpackb(outs[-1].frames[0])["gateways"][0]["state"] == "applied"


def test_a_gateway_that_has_no_room_for_tunnels_has_not_applied_a_change():
    """Tunnels are no V-net's: any may be the one that needs the next."""
    bench = Bench()
    bench.ask("resolve", "heartbeat", node="gw1", revision=41)
    assert replies(bench.send("write", "apply", text="x", wait_ms=500)) == []
    outs = replies(bench.send("resolve", "heartbeat", node="gw1", revision=42, no_room=[[0, "", "tunnels"]]))
    (row,) = msgpack.unpackb(outs[-1].frames[0])["gateways"]
    assert row["state"] == "no_room"
    assert row["why"] == "no room for new tunnels: raise tunnels in [capacity] of its gateway.toml"


@pytest.mark.parametrize("said", [[7001], [[7001, "red"]], [["7001", "red", "vnets"]], [[1, "n" * 64, "t"]]])
def test_a_lack_of_room_that_says_nothing_usable_is_refused(said):
    answer = Bench().ask("resolve", "heartbeat", node="gw1", revision=41, no_room=said)
    assert (answer["ok"], answer["code"]) == (False, 2)
    assert "no_room" in answer["error"]


def test_apply_does_not_wait_for_ever():
    bench = Bench()
    bench.ask("resolve", "heartbeat", node="gw1", revision=41)
    assert replies(bench.send("write", "apply", text="x", wait_ms=500)) == []
    assert replies(bench.tick(0.49)) == []
    answer = head_of(bench.tick(0.01))
    assert answer["gateways"] == [{"node": "gw1", "state": "late", "ms": None}]


@pytest.mark.parametrize(
    ("type", "fields"),
    [
        ("apply", {"text": "x"}),
        ("apply", {"text": "x", "dry_run": True}),
        ("rollback", {"revision": 3}),
        ("set", {"kind": "rule", "name": "red/x", "values": {}}),
        ("remove", {"kind": "rule", "name": "red/x"}),
    ],
)
def test_a_gateways_key_changes_nothing(type, fields):
    bench = Bench()
    answer = bench.ask("write", type, by=GATEWAY, **fields)
    assert (answer["ok"], answer["code"]) == (False, 1)
    assert "may not change the directory" in answer["error"]
    assert bench.directory.applied == []
    assert bench.ask("write", "export", document="doc", by=GATEWAY)["ok"] is True


def test_writes_are_limited_by_key():
    bench = Bench(writes_per_second_per_key=2)
    anna = [
        bench.ask("write", "set", kind="rule", name="red/x", values={}, by=OPERATOR)["ok"] for _ in range(3)
    ]
    assert anna == [True, True, False]
    assert bench.ask("write", "set", kind="rule", name="red/x", values={})["ok"] is True  # another key


def test_the_audit_names_the_key_whatever_the_message_says():
    bench = Bench()
    outs = bench.send("write", "apply", text="x", name="a.toml", comment="close red", user="bob", by=OPERATOR)
    record = next(out.record for out in outs if isinstance(out, Audit))
    assert record["user"] == "anna (bob)"
    assert (record["who"], record["ok"], record["revision"], record["comment"]) == (
        "anna",
        True,
        42,
        "close red",
    )
    bench.directory.error = Refused("red/db-1 is owned by document other", "remove it there first")
    outs = bench.send("write", "apply", text="x", by=OPERATOR)
    record = next(out.record for out in outs if isinstance(out, Audit))
    assert (record["ok"], record["error"]) == (False, "red/db-1 is owned by document other")
    assert head_of(outs)["fix"] == "remove it there first"


# ---- what is wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["resolve", "write"])
@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"\xc1garbage"],
        [msgpack.packb([1])],
        [msgpack.packb({"v": 9, "id": 4, "type": "list"})],
        [msgpack.packb({"v": 1, "id": 4})],
        [msgpack.packb({"v": 1, "id": 4, "type": 7})],
        [msgpack.packb({"v": 1, "id": 4, "type": "shutdown"})],
        [msgpack.packb({"v": 1, "id": 4, "type": "resolve"})],
        [msgpack.packb({"v": 1, "id": 4, "type": "resolve", "node": "gw1"})],
        [msgpack.packb({"v": 1, "id": 4, "type": "resolve", "node": "gw1"}), b"short"],
        [msgpack.packb({"v": 1, "id": 4, "type": "resolve", "node": ["gw1"]}), b""],
        [msgpack.packb({"v": 1, "id": 4, "type": "snapshot", "node": "gw1", "vnis": ["red"]})],
        [msgpack.packb({"v": 1, "id": 4, "type": "locator", "node": "gw1", "local": b"1"})],
        [msgpack.packb({"v": 1, "id": 4, "type": "heartbeat", "node": "gw1", "revision": -1})],
        [msgpack.packb({"v": 1, "id": 4, "type": "apply", "text": 5})],
        [msgpack.packb({"v": 1, "id": 4, "type": "history", "limit": 10**12})],
        [msgpack.packb({"v": 1, "id": 4, "type": "set", "kind": "rule", "name": "x", "values": []})],
        [msgpack.packb({"v": 1, "id": 4, "type": "forward", "node": "gw1"})],
        [msgpack.packb({"v": 1, "type": "answer", "id": None, "answer": {}})],
    ],
)
def test_a_message_that_is_wrong_is_answered_and_counted(channel, frames):
    bench = Bench()
    answer = head_of(bench.raw(channel, frames))
    assert answer["ok"] is False
    assert answer["code"] == 2
    assert answer["error"]
    assert answer["fix"]
    assert bench.dispatcher.counters["malformed"] == 1


def test_a_failure_of_ours_is_answered_and_the_next_is_served(caplog):
    bench = Bench()
    bench.directory.error = RuntimeError("a mistake in decide")
    answer = bench.ask("resolve", "resolve", queries(1), node="gw1")
    assert answer["error"] == "the directory failed on this request"
    assert "a mistake in decide" in caplog.text
    bench.directory.error = None
    assert bench.ask("resolve", "resolve", queries(1), node="gw1")["ok"] is True
