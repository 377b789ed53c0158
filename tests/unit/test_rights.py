# SPDX-License-Identifier: Apache-2.0
"""The table of rights, against both sockets and a directory that has something worth protecting."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from directory_world import DOCUMENT
from dispatcher_bench import GATEWAY, OPERATOR, Bench

from directory_client.endpoint import parse_endpoint
from directory_client.kinds.nouns import NOUNS
from directory_client.wire.greeting import Load
from directory_client.wire.limits import DEPTH_MAX
from directory_client.wire.messages import encode, is_too_deep
from directory_service.configuration import Configuration
from directory_service.protocol.authentication import LOCAL, Identity
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.protocol.outbox import Peer, Reply
from directory_service.protocol.rights import RIGHTS, Scope
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory

VERBS = {channel: frozenset(served.handlers) for channel, served in Bench().dispatcher._channels.items()}


def test_every_verb_of_both_sockets_has_a_right_for_each_role():
    assert VERBS["resolve"] | VERBS["write"] == RIGHTS.keys()
    for row in RIGHTS.values():
        assert row.keys() == {GATEWAY.role, OPERATOR.role, LOCAL.role}


@pytest.mark.parametrize(("channel", "verb"), [(c, v) for c, verbs in VERBS.items() for v in sorted(verbs)])
def test_a_rate_holds_for_each_key(channel, verb):
    right = RIGHTS[verb]["gateway"]
    if right.per_second is None:
        return
    bench = Bench()
    said = [bench.send(channel, verb, by=GATEWAY) for _ in range(right.per_second + 1)]
    texts = [msgpack.unpackb(out.frames[0]).get("error", "") for outs in said for out in outs]
    assert [f"more than {right.per_second} times" in text for text in texts].index(True) == len(texts) - 1
    other = bench.send(channel, verb, by=Identity("gw2", "gateway"))
    assert "times a second" not in msgpack.unpackb(other[-1].frames[0]).get("error", "")
    bench.now += 1.0
    again = bench.send(channel, verb, by=GATEWAY)
    assert "times a second" not in msgpack.unpackb(again[-1].frames[0]).get("error", "")


def test_a_role_or_verb_that_is_not_in_the_table_may_nothing():
    assert Bench().ask("write", "list", kind="nodes", by=Identity("x", "gateway"))["ok"] is True
    assert all(right.scope is not Scope.NOTHING for row in RIGHTS.values() for right in [row["local"]])


class Two:
    """A directory with red at gw1 and something of gw9's."""

    def __init__(self) -> None:
        self.directory = Directory(MemoryStore(), Settings(), lambda: 1_700_000_000_000)
        self.directory.apply(DOCUMENT, "red.toml")
        self.directory.set_record("node", "gw9", {"kind": "gateway"})
        configuration = Configuration("dir1", parse_endpoint("ipc:///run/x"), None)
        self.dispatcher = Dispatcher(configuration, self.directory, 5, 0.0)
        self.vnets = {row["name"] for row in self.directory.list_records("vnets")}

    def ask(self, type: str, by: Identity, **fields: Any) -> dict[str, Any]:
        frames = encode({"id": 1, "type": type, **fields})
        outs = self.dispatcher.handle(Peer("write", b"c", by), frames, 1.0)
        return next(msgpack.unpackb(out.frames[0]) for out in outs if isinstance(out, Reply))


STRANGER = Identity("gw9", "gateway")  # hosts nothing


@pytest.mark.parametrize(
    "kind",
    [
        "documents",
        "document",
        *(word for noun in NOUNS if not noun.for_all for word in (noun.plural, noun.kind)),
    ],
)
def test_a_gateway_s_key_lists_only_what_concerns_v_nets_that_it_hosts(kind):
    two = Two()
    everything = two.ask("list", OPERATOR, kind=kind)["rows"]
    assert two.ask("list", STRANGER, kind=kind)["rows"] == []
    hosted = two.directory.hosted("gw2")
    assert (hosted, two.vnets) == ({"red"}, {"red", "blue"})
    seen = two.ask("list", Identity("gw2", "gateway"), kind=kind)["rows"]
    if not kind.startswith("document"):
        name = "name" if kind in ("vnets", "vnet") else "vnet"
        assert seen == [row for row in everything if row.get(name) in hosted]
    assert all(row in everything for row in seen)


def test_a_gateway_s_key_reads_no_other_document_history_or_decision():
    two = Two()
    (document,) = {row["document"] for row in two.ask("history", OPERATOR)["rows"]} - {""}
    vnet = min(two.vnets)
    assert two.ask("export", OPERATOR, document=document)["ok"] is True
    assert two.ask("history", STRANGER)["rows"] == []
    refused = [
        two.ask("export", STRANGER, document=document),
        two.ask("history", STRANGER, document=document),
        two.ask("list", STRANGER, kind="endpoints", vnet=vnet),
        two.ask("list", STRANGER, kind="vnets", name=vnet),
        two.ask("list", STRANGER, kind="vnet", name=vnet),
        two.ask("explain", STRANGER, vnet=vnet, source="10.0.0.1", destination="10.0.0.2"),
    ]
    assert all("is not hosted by gw9" in answer["error"] for answer in refused)
    partly = two.ask("export", Identity("gw2", "gateway"), document=document)  # blue is in it too
    assert "is not hosted by gw2" in partly["error"]
    assert two.ask("export", Identity("gw1", "gateway"), document=document)["ok"] is True
    assert two.ask("history", Identity("gw2", "gateway"))["rows"][0]["document"] == document
    for word in ("nodes", "node", "site"):
        rows = two.ask("list", OPERATOR, kind=word)["rows"]
        assert two.ask("list", STRANGER, kind=word)["rows"] == rows != []


def test_a_heartbeat_s_load_keeps_known_numbers_only():
    bench = Bench()
    load = {"misses": 3, "x": [[] for _ in range(1000)]}
    assert bench.ask("resolve", "heartbeat", node="gw1", load=load)["ok"] is True
    (speaker,) = bench.dispatcher.gateways._gateways["gw1"].speakers.values()
    assert speaker.load == Load(misses=3)
    refused = bench.ask("resolve", "heartbeat", node="gw1", load={"misses": "many"})
    assert "heartbeat: load.misses: expected" in refused["error"]


def test_nesting_is_found_without_recursion():
    value: Any = {}
    for _ in range(100_000):
        value = [value]
    assert is_too_deep(value)
    assert not is_too_deep({"a": [{"b": [1, 2]}]})
    request: Any = "end"
    for _ in range(DEPTH_MAX + 1):
        request = {"x": request}
    answer = Bench().ask("write", "forward", node="gw1", request={"verb": "show", "args": request})
    assert (answer["ok"], answer["code"]) == (False, 2)


def test_names_are_told_for_nodes_and_profiles_and_for_v_nets_that_a_gateway_hosts():
    two = Two()
    snapshot = two.directory.current
    red, blue = (snapshot.vnets[name].vnet.id for name in ("red", "blue"))
    node = snapshot.fabric.nodes["gw9"].id
    ids = [red, blue, node, 999_999]
    assert two.ask("names", OPERATOR, ids=ids)["names"] == ["red", "blue", "gw9", ""]
    assert two.ask("names", Identity("gw2", "gateway"), ids=ids)["names"] == ["red", "", "gw9", ""]
    assert two.ask("names", STRANGER, ids=ids)["names"] == ["", "", "gw9", ""]
    for wrong in ("x", ["x"], list(range(5_000))):
        assert two.ask("names", STRANGER, ids=wrong)["code"] == 2
    two.directory.set_record("node", "gw10", {"kind": "gateway"})
    new = two.directory.current.fabric.nodes["gw10"].id
    assert two.ask("names", STRANGER, ids=[new, node])["names"] == ["gw10", "gw9"]
