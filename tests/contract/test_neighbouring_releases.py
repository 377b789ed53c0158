# SPDX-License-Identifier: Apache-2.0
"""A release works with the one before and the one after: on either end a peer that says less or more than
this one, or speaks another version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
import pytest
from test_directory_service import DOCUMENT, Bench

from directory_client.client import DirectoryClient
from directory_client.decoding import read_answer
from directory_client.events import Changed, Failed, Resolved, ServerChanged, Snapshot
from directory_client.subscriber import State
from directory_client.wire import rows
from directory_client.wire.greeting import FEATURES, common_version, features_of
from directory_client.wire.messages import VERSIONS, encode
from directory_client.wire.requests import REQUESTS
from directory_house import House
from directory_service.protocol.authentication import LOCAL
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.protocol.outbox import Out, Peer, Publish, Reply

UNSAID = {"closes", "fencing", "pieces", "progress", "resync", "room"}  # features before any were said
UNHEARD_OF = {"unheard_of": {"deep": [1, {"er": b"x"}]}, "urgency": 7, "dialects": ["a", "b"]}

# What the release before this one sends, and what it needs of the answers.
OLDER: dict[str, tuple[dict[str, Any], set[str]]] = {
    "heartbeat": (
        {
            "node": "gw1",
            "role": "slow-path",
            "worker": 0,
            "workers": 1,
            "node_capabilities": ["vxlan"],
            "revision": 0,
            "incarnation": 0,
            "load": {"misses": 0, "waiting": 0},
            "instance": "a",
            "held_s": 0.0,
        },
        {"ok", "realm", "era", "incarnation", "revision", "seal", "store", "node_id", "name"},
    ),
    "resolve": (
        {"node": "gw1", "node_capabilities": ["vxlan"], "sent_us": 49_999_999},
        {"ok", "incarnation", "revision", "epoch", "facts"},
    ),
    "snapshot": (
        {"node": "gw1", "vnis": None},
        {"ok", "incarnation", "revision", "epoch", "facts", "node_id", "seq"},
    ),
    "locator": (
        {"node": "gw1", "local": bytes(16), "remote": bytes(16), "protocol": 1, "wire_id": 5},
        {"ok", "known", "negative_s"},
    ),
    "hello": ({"node": "gw1", "role": "control"}, {"ok"}),
    "list": ({"kind": "endpoints", "vnet": None, "name": None}, {"ok", "rows", "revision"}),
    "history": ({"document": None, "limit": 20}, {"ok", "rows"}),
    "export": ({"document": "two"}, {"ok", "text"}),
    "explain": (
        {
            "vnet": "red",
            "source": "web-1",
            "destination": "db-1",
            "protocol": None,
            "port": None,
            "node": None,
            "revision": None,
            "source_port": None,
        },
        {"ok", "action"},
    ),
    "apply": (
        {
            "text": DOCUMENT,
            "name": "two.toml",
            "dry_run": False,
            "take_over": [],
            "comment": "",
            "user": "",
            "expect_revision": None,
            "wait_ms": 0,
        },
        {"ok", "revision", "diff", "warnings", "gateways"},
    ),
    "set": ({"kind": "site", "name": "s9", "values": {}, "user": "", "wait_ms": 0}, {"ok", "revision"}),
    "names": ({"ids": [1, 2]}, {"ok", "names"}),
}


def channel_of(type: str) -> str:
    return "resolve" if type in ("heartbeat", "resolve", "snapshot", "locator", "goodbye") else "write"


def ask(bench: Bench, type: str, **fields: Any) -> dict[str, Any]:
    parts = [np.zeros(1, rows.QUERY).tobytes()] if type == "resolve" else []
    frames = encode({"id": 4, "type": type, **fields}, *parts)
    outs = bench.dispatcher.handle(Peer(channel_of(type), b"c", LOCAL), frames, bench.now)
    outs += bench.dispatcher.work(bench.now)
    (reply,) = [out for out in outs if isinstance(out, Reply)]
    answer: dict[str, Any] = msgpack.unpackb(reply.frames[0])
    return answer


def filled() -> Bench:
    bench = Bench()
    assert ask(bench, "apply", text=DOCUMENT, name="two.toml", wait_ms=0)["ok"] is True
    return bench


# ---- this server -----------------------------------------------------------------------------


@pytest.mark.parametrize("type", OLDER)
def test_a_client_of_the_release_before_is_served_and_told_all_that_it_needs(type):
    said, needs = OLDER[type]
    answer = ask(filled(), type, **said)
    assert answer["ok"] is True, answer
    assert needs <= answer.keys()
    assert (answer["v"], answer["id"]) == (1, 4)
    head = read_answer([msgpack.packb(answer)])
    assert (head.ok, head.id, head.revision) == (True, 4, answer.get("revision"))


@pytest.mark.parametrize("type", OLDER)
def test_what_a_newer_client_says_beside_is_passed_over(type):
    said, _ = OLDER[type]
    plain, more = ask(filled(), type, **said), ask(filled(), type, **said, **UNHEARD_OF)
    assert more.keys() == plain.keys()
    assert more["ok"] is True


def test_features_of_a_newer_client_are_kept_as_it_says_them():
    bench = filled()
    said = OLDER["heartbeat"][0] | {"speaks": [1, 2], "features": [*FEATURES, "teleport"]}
    answer = ask(bench, "heartbeat", **said)
    assert tuple(answer["speaks"]) == VERSIONS
    assert answer["features"] == list(FEATURES)
    assert bench.dispatcher.gateways.features("gw1") == sorted([*FEATURES, "teleport"])
    ask(bench, "heartbeat", **OLDER["heartbeat"][0] | {"role": "control"})  # of the release before
    assert bench.dispatcher.gateways.features("gw1") == sorted(UNSAID)


@pytest.mark.parametrize("version", [0, VERSIONS[1] + 1, 2**63])
def test_a_version_that_is_not_spoken_is_refused_in_words_that_every_version_has(version):
    answer = ask(filled(), "list", v=version, kind="sites")
    assert (answer["ok"], answer["why"], answer["id"]) == (False, "version", 4)
    assert tuple(answer["speaks"]) == VERSIONS
    assert f"version {version} of the protocol" in answer["error"]


@pytest.mark.parametrize("channel", ["resolve", "write"])
def test_a_type_that_is_not_known_is_refused_by_name(channel):
    bench = filled()
    frames = encode({"id": 4, "type": "teleport", "node": "gw1"})
    (reply,) = bench.take(bench.dispatcher.handle(Peer(channel, b"c", LOCAL), frames, bench.now))
    answer = msgpack.unpackb(reply.frames[0])
    assert (answer["ok"], answer["why"], answer["id"]) == (False, "unknown_type", 4)
    assert bench.dispatcher.counters["malformed"] == 1
    assert ask(bench, "list", kind="sites")["ok"] is True


def test_what_clients_send_is_known_to_the_server_by_the_same_list():
    served = {type for one in filled().dispatcher._channels.values() for type in one.handlers}
    assert served == REQUESTS.keys()


# ---- this client -----------------------------------------------------------------------------


class OtherRelease(Dispatcher):
    """A directory of another release: `more` is added to whatever it says, `less` is left out; `operations`
    stand before those of every push and snapshot."""

    more: dict[str, Any] = {}  # noqa: RUF012
    less: Sequence[str] = ()
    operations: Sequence[dict[str, Any]] = ()

    def handle(self, *arguments: Any, **named: Any) -> list[Out]:
        return [self.altered(out) for out in super().handle(*arguments, **named)]

    def work(self, now: float) -> list[Out]:
        return [self.altered(out) for out in super().work(now)]

    def tick(self, now: float) -> list[Out]:
        return [self.altered(out) for out in super().tick(now)]

    def subscription(self, *arguments: Any) -> tuple[bool, list[Out]]:
        granted, outs = super().subscription(*arguments)
        return granted, [self.altered(out) for out in outs]

    def altered(self, out: Out) -> Out:
        if isinstance(out, Publish):
            topic, head, operations = out.frames
            told = msgpack.unpackb(operations)
            if told:
                told = [*self.operations, *told]
            return Publish([topic, self.head(head), msgpack.packb(told)])
        if not isinstance(out, Reply):
            return out
        head, *parts = out.frames
        if len(parts) == 1:
            told = [[vni, [*self.operations, *ops]] for vni, ops in msgpack.unpackb(parts[0])]
            parts = [msgpack.packb(told)]
        return Reply(out.channel, out.connection, [self.head(head), *parts])

    def head(self, frame: Any) -> bytes:
        said = msgpack.unpackb(frame) | self.more
        packed: bytes = msgpack.packb({name: value for name, value in said.items() if name not in self.less})
        return packed


class Newer(OtherRelease):
    more = {**UNHEARD_OF, "features": [*FEATURES, "teleport"], "speaks": [1, 5]}  # noqa: RUF012
    operations = ({"op": "teleport", "vni": 7001, "to": [1, {}]},)


class Older(OtherRelease):
    less = ("features", "speaks", "last", "closes")


class OfAnotherVersion(OtherRelease):
    more = {"v": 3, "ok": False, "why": "version", "error": "version 1 is not spoken", "speaks": [2, 3]}  # noqa: RUF012


def ipc(house: House, name: str = "run") -> str:
    return f"ipc://{house.path}/{name}"


def follow(house: House, client: DirectoryClient) -> None:
    client.subscribe()
    house.until(lambda: client.subscriber is not None and client.subscriber.state is State.ACTIVE)


@pytest.mark.parametrize("release", [Newer, Older])
def test_a_server_of_another_release_is_followed_and_asked(house, monkeypatch, release):
    monkeypatch.setattr("directory_house.Dispatcher", release)
    house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", instance="a")
    follow(house, client)
    house.directory.change((1001, 7001))
    house.until(lambda: [one for one in house.events[client] if isinstance(one, Changed)])
    id = client.send_resolve(np.zeros(2, rows.QUERY))
    house.until(lambda: [one for one in house.events[client] if isinstance(one, Resolved) and one.id == id])
    events = house.events[client]
    assert any(isinstance(one, Snapshot) and one.vnets for one in events)
    assert not [one for one in events if isinstance(one, Failed)]
    assert (client.malformed, client.subscriber.resyncs) == (0, {})
    house.until(lambda: client.servers()[0].features)
    said = {*FEATURES, "teleport"} if release is Newer else UNSAID
    assert client.servers()[0].features == said


def test_a_server_of_another_version_is_named_and_another_one_is_used(house, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("directory_house.Dispatcher", OfAnotherVersion)
        house.serve(ipc(house, "other"))
    house.serve(ipc(house))
    client = house.client(ipc(house, "other"), ipc(house), node="gw1", instance="a")
    follow(house, client)
    house.until(lambda: [one.state for one in client.servers()] == ["refused", "up"])
    assert client.servers()[0].problem == "version 1 is not spoken"
    lost = [one for one in house.events[client] if isinstance(one, ServerChanged) and not one.up]
    assert lost[0].why == "version 1 is not spoken"


def test_a_server_that_reads_an_older_version_is_spoken_to_in_that(house):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", instance="a")
    client._servers.all[0].version = VERSIONS[1] + 1  # as a newer client begins
    follow(house, client)
    client._servers.all[0].version = VERSIONS[1] + 1
    id = client.send("set", kind="site", name="s1", values={})  # never sent twice, but this was not read
    house.until(lambda: any(getattr(one, "id", 0) == id for one in house.events[client]))
    assert not [one for one in house.events[client] if isinstance(one, Failed)]
    assert client.servers()[0].state in ("up", "late")
    assert client._servers.all[0].version == VERSIONS[1]
    assert len(house.directory.applied) == 1


@pytest.mark.parametrize(
    ("theirs", "ours", "common"),
    [
        (None, (1, 1), 1),
        ((1, 1), (1, 1), 1),
        ((1, 2), (2, 3), 2),
        ((2, 3), (1, 2), 2),
        ((1, 4), (2, 3), 3),
        ((3, 4), (1, 2), None),
        ((1, 2), (3, 4), None),
        (None, (2, 3), None),
    ],
)
def test_the_highest_version_that_both_read_is_spoken(theirs, ours, common):
    assert common_version(theirs, ours) == common


def test_who_says_no_features_has_those_from_before_they_were_said():
    assert features_of(None) == UNSAID
    assert features_of(["room", "teleport"]) == {"room", "teleport"}
