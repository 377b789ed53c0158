# SPDX-License-Identifier: Apache-2.0
"""The dispatcher on the real directory with a store in memory and a clock that the test moves."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from directory_client.decoding import read_push, read_resolved, read_snapshot
from directory_client.endpoint import parse_endpoint
from directory_client.subscriber import Push
from directory_client.vocabulary.numbers import Action, IngressKind, KeyClass
from directory_client.wire import rows
from directory_client.wire.answers import Answer
from directory_client.wire.messages import check, encode
from directory_client.wire.questions import SnapshotHead
from directory_service.configuration import Configuration
from directory_service.facts.memory import MemoryFacts
from directory_service.protocol.audit import AuditFile
from directory_service.protocol.authentication import LOCAL
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.protocol.outbox import Out, Peer, Publish, Reply
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory

DOCUMENT = """
document = "two"
[site.s1]
[site.s2]
[path.s1-s2]
sites = ["s1", "s2"]
trust = "own"
profile = "fabric"
[profile.fabric]
protocol = "vxlan"
[node.gw1]
kind = "gateway"
site = "s1"
[node.gw2]
kind = "gateway"
site = "s2"
[vnet.red]
vni = 7001
prefixes = ["10.0.0.0/24"]
[[vnet.red.attachment]]
nodes = ["gw1", "gw2"]
port = "rack"
vlan = 101
[vnet.red.endpoint]
web-1 = { addresses = ["10.0.0.11"], mac = "02:00:5e:00:00:11", node = "gw1" }
db-1 = { addresses = ["10.0.0.21"], mac = "02:00:5e:00:00:21", node = "gw2" }
[vnet.red.rule.any]
action = "allow"
from = "any"
to = "any"
"""


class Bench:
    def __init__(self, audit: AuditFile | None = None) -> None:
        self.audit = audit
        self.wall_ms = 1_700_000_000_000
        self.now = 50.0
        self.directory = Directory(MemoryStore(), Settings(), lambda: self.wall_ms)
        configuration = Configuration("dir1", parse_endpoint("ipc:///run/x"), None)
        self.dispatcher = Dispatcher(configuration, self.directory, 5, 0.0, lambda: self.wall_ms, audit=audit)
        self.pushed: list[Push] = []

    def move_clock(self, seconds: float) -> None:
        self.now += seconds
        self.wall_ms += int(seconds * 1000)

    def send(
        self, channel: str, type: str, *parts: bytes, connection: bytes = b"c", **fields: Any
    ) -> list[Reply]:
        if type == "heartbeat":
            fields["incarnation"] = self.dispatcher.directory.world.incarnation
        frames = encode({"id": 1, "type": type, **fields}, *parts)
        outs = self.dispatcher.handle(Peer(channel, connection, LOCAL), frames, self.now)
        return self.take(outs + self.dispatcher.work(self.now))

    def take(self, outs: list[Out]) -> list[Reply]:
        self.pushed += [read_push(out.frames) for out in outs if isinstance(out, Publish)]
        return [out for out in outs if isinstance(out, Reply)]

    def ask(self, channel: str, type: str, *parts: bytes, **fields: Any) -> tuple[dict[str, Any], list[Any]]:
        (reply,) = self.send(channel, type, *parts, **fields)
        head = msgpack.unpackb(reply.frames[0])
        assert head["ok"] is True, head
        return head, reply.frames[1:]

    def say(self, node: str, locator: str, revision: int = 0) -> None:
        self.send("resolve", "heartbeat", node=node, locators=[locator], ports=["rack"], revision=revision)

    def resolve(self, source: int, destination: int) -> Any:
        _, (body,) = self.ask("resolve", "snapshot", node="gw1", vnis=None)
        operations = dict(msgpack.unpackb(body))[7001]
        attachment = next(op["object_id"] for op in operations if op["op"] == "attachment")
        table = np.zeros(1, rows.QUERY)
        table["vni"], table["key_class"] = 7001, KeyClass.BRIDGED
        table["ingress_kind"], table["ingress_object"] = IngressKind.ATTACHMENT, attachment
        table["source"][0, 12:] = [10, 0, 0, source]
        table["destination"][0, 12:] = [10, 0, 0, destination]
        head, parts = self.ask("resolve", "resolve", table.tobytes(), node="gw1", node_capabilities=["vxlan"])
        return read_resolved(1, check(head, Answer), parts)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.ask("write", "apply", text=DOCUMENT, name="two.toml", user="anna", wait_ms=0)
    return bench


def test_locators_come_from_heartbeats_and_a_change_of_them_is_pushed_without_a_revision(bench):
    bench.say("gw1", "192.0.2.1")
    bench.say("gw2", "192.0.2.2")
    answer = bench.resolve(11, 21)
    assert answer.decisions["action"].tolist() == [Action.ENCAPSULATE]
    assert bytes(answer.tunnels["remote"][0])[12:] == bytes([192, 0, 2, 2])
    bench.pushed.clear()
    revision = bench.directory.revision
    bench.say("gw2", "192.0.2.2")
    assert bench.pushed == []  # the same again is no change
    assert bench.directory.revision == revision
    bench.say("gw2", "192.0.2.99")
    heard = [push for push in bench.pushed if push.node_id == bench.directory.node_id("gw1")]
    assert [push.vni for push in heard] == [7001]
    assert (heard[0].revision, bench.directory.revision) == (revision, revision)
    remotes = [bytes(op["remote"])[12:] for op in heard[0].operations if op["op"] == "tunnel"]
    assert bytes([192, 0, 2, 99]) in remotes
    answer = bench.resolve(11, 21)
    assert bytes(answer.tunnels["remote"][0])[12:] == bytes([192, 0, 2, 99])


def test_a_restarted_directory_knows_the_last_locators_at_once():
    store, facts = MemoryStore(), MemoryFacts()
    first, second = Bench(), Bench()
    for bench in (first, second):
        bench.directory = Directory(store, Settings(), lambda: 1_700_000_000_000, facts=facts)
        configuration = Configuration("dir1", parse_endpoint("ipc:///run/x"), None)
        bench.dispatcher = Dispatcher(configuration, bench.directory, 5, 0.0)
        if bench is first:
            bench.ask("write", "apply", text=DOCUMENT, name="two.toml", wait_ms=0)
            bench.say("gw1", "192.0.2.1")
            bench.say("gw2", "192.0.2.2")
    answer = second.resolve(11, 21)
    assert bytes(answer.tunnels["remote"][0])[12:] == bytes([192, 0, 2, 2])


def test_a_move_is_pushed_to_both_nodes_with_seq_one_after_the_other(bench):
    bench.say("gw1", "192.0.2.1")
    bench.say("gw2", "192.0.2.2")
    head, _ = bench.ask("resolve", "snapshot", node="gw1", vnis=None)
    before = dict(head["seq"])[7001]
    bench.pushed.clear()
    moved = DOCUMENT.replace('11", node = "gw1"', '11", node = "gw2"')
    assert moved != DOCUMENT
    answer, _ = bench.ask("write", "apply", text=moved, name="two.toml", wait_ms=0)
    assert (answer["added"], answer["changed"], answer["removed"]) == (0, 1, 0)
    assert {push.node_id for push in bench.pushed} == {bench.directory.node_id(n) for n in ("gw1", "gw2")}
    mine = [push for push in bench.pushed if push.node_id == bench.directory.node_id("gw1")]
    assert [push.seq for push in mine] == [before + 1]
    names = [op["op"] for op in mine[0].operations]
    assert names.index("location") < names.index("scope")  # what is referred to first, scopes last


def test_apply_waits_for_the_gateways_that_it_concerns(bench):
    bench.say("gw1", "192.0.2.1")
    bench.say("gw2", "192.0.2.2")
    text = DOCUMENT.replace("10.0.0.21", "10.0.0.22")
    assert bench.send("write", "apply", text=text, name="two.toml") == []
    revision = bench.directory.revision
    bench.move_clock(0.01)
    assert len(bench.send("resolve", "heartbeat", node="gw1", revision=revision)) == 1
    replies = bench.send("resolve", "heartbeat", node="gw2", revision=revision)
    answer = msgpack.unpackb(replies[-1].frames[0])
    assert {(row["node"], row["state"]) for row in answer["gateways"]} == {
        ("gw1", "applied"),
        ("gw2", "applied"),
    }


def test_a_dry_run_says_which_cached_flows_would_be_dropped(bench):
    bench.say("gw1", "192.0.2.1")
    bench.say("gw2", "192.0.2.2")
    bench.send("write", "hello", node="gw1", connection=b"k1")
    bench.send("write", "hello", node="gw2", connection=b"k2")
    closed = DOCUMENT[: DOCUMENT.index("[vnet.red.rule.any]")]
    revision = bench.directory.revision
    asks = bench.send("write", "apply", text=closed, name="two.toml", dry_run=True)
    assert {ask.connection for ask in asks} == {b"k1", b"k2"}
    flow = {
        **{
            "vni": 7001,
            "source": "10.0.0.11",
            "destination": "10.0.0.21",
            "class": "bridged",
            "level": "pair",
        },
        **{"source_port": 0, "destination_port": 0, "protocol": 0, "action": "encapsulate", "reason": None},
        **{"packets": 3, "bytes": 300, "tunnel": 1, "revision": revision},
    }
    replies: list[Reply] = []
    for ask in asks:
        id = msgpack.unpackb(ask.frames[0])["id"]
        found = [flow, {"vni": "nonsense"}] if ask.connection == b"k1" else []
        frames = encode({"type": "answer", "id": id, "answer": {"ok": True, "rows": found, "more": 0}})
        replies += bench.take(
            bench.dispatcher.handle(Peer("write", ask.connection, LOCAL), frames, bench.now)
        )
    answer = msgpack.unpackb(replies[-1].frames[0])
    assert answer["ok"] is True, answer
    assert answer["flows"]["gateways"] == ["gw1", "gw2"]
    assert "no_rule" in str(answer["flows"])
    assert bench.directory.revision == revision


def test_nodes_are_listed_with_their_liveness(bench):
    bench.say("gw1", "192.0.2.1", revision=1)
    answer, _ = bench.ask("write", "list", kind="nodes")
    states = {row["name"]: row["state"] for row in answer["rows"]}
    assert states == {"gw1": "up", "gw2": "unknown"}
    bench.move_clock(11)
    answer, _ = bench.ask("write", "list", kind="nodes", name="gw1")
    assert answer["rows"][0]["state"] == "stale"


def test_a_bad_document_is_refused_with_its_line(bench):
    (reply,) = (
        out
        for out in bench.send(
            "write", "apply", text=DOCUMENT.replace("vni = 7001", "vni = true"), name="two.toml"
        )
        if isinstance(out, Reply)
    )
    head = msgpack.unpackb(reply.frames[0])
    assert (head["ok"], head["code"]) == (False, 2)
    assert head["error"].startswith("two.toml line ")


def test_a_snapshot_of_an_undeclared_node_is_empty(bench):
    head, parts = bench.ask("resolve", "snapshot", node="gw9", vnis=None)
    assert read_snapshot(check(head, SnapshotHead), parts).node_id == 0
