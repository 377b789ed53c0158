# SPDX-License-Identifier: Apache-2.0
"""Node snapshots in pieces: together they are the view of one moment, whoever asks and whatever changes."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from directory_world import Clock

from directory_client.decoding import read_snapshot
from directory_client.endpoint import parse_endpoint
from directory_client.wire.messages import check, encode
from directory_client.wire.questions import SnapshotHead
from directory_service.configuration import Configuration
from directory_service.protocol.authentication import LOCAL
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.protocol.outbox import Peer, Reply
from directory_service.protocol.snapshots import IDLE_S, PIECE_OPERATIONS, WAITING_MAX_OF_NODE
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from directory_service.views import pushes
from directory_service.views.difference import Difference
from directory_service.views.pushes import OPERATIONS_MAX, RESYNC
from directory_service.views.view import build_view, hosts
from whole_directory import WholeDirectory

ENDPOINTS = 3_500


def document(endpoints: int) -> str:
    lines = ['document = "d"', "[site.s]", "[node.gw1]", 'kind = "gateway"', 'locators = ["192.0.2.1"]']
    lines += ["[node.gw2]", 'kind = "gateway"', 'locators = ["192.0.2.2"]']
    for vni, count in ((1, endpoints), (2, 3), (3, 5)):
        lines += [f"[vnet.v{vni}]", f"vni = {vni}", f"[[vnet.v{vni}.attachment]]"]
        lines += ['nodes = ["gw1", "gw2"]', 'port = "rack"', f"vlan = {vni}"]
        for at in range(count):
            octets = f"{at >> 8}.{at & 255}"
            mac = f"02:00:00:{vni:02x}:{at >> 8:02x}:{at & 255:02x}"
            lines += [f"[vnet.v{vni}.endpoint.e{at}]", f'addresses = ["10.{vni}.{octets}"]', f'mac = "{mac}"']
            lines.append(f'node = "gw{at % 2 + 1}"')
    return "\n".join(lines)


class Bench:
    def __init__(self) -> None:
        self.directory = WholeDirectory(MemoryStore(), Settings(), Clock())
        self.directory.apply(document(ENDPOINTS), "d.toml")
        self.directory.poll()
        configuration = Configuration("dir1", parse_endpoint("ipc:///run/x"), None)
        self.dispatcher = Dispatcher(configuration, self.directory, 5, 0.0)
        self.now = 1.0

    def ask(self, connection: bytes = b"c", **fields: Any) -> list[Reply]:
        frames = encode({"id": 1, "type": "snapshot", **{"node": "gw1", **fields}})
        outs = self.dispatcher.handle(Peer("resolve", connection, LOCAL), frames, self.now)
        outs += self.dispatcher.work(self.now)
        return [out for out in outs if isinstance(out, Reply)]


def head_of(reply: Reply) -> dict[str, Any]:
    head: dict[str, Any] = msgpack.unpackb(reply.frames[0])
    return head


def test_pieces_together_are_the_view_of_the_moment_at_which_it_was_asked_for() -> None:
    bench = Bench()
    snapshot = bench.directory.current
    node = snapshot.fabric.nodes["gw1"]
    wanted = {vni: build_view(snapshot, state, node, Settings()) for vni, state in snapshot.by_vni.items()}
    (reply,) = bench.ask(vnis=None)
    answer = read_snapshot(check(head_of(reply), SnapshotHead), reply.frames[1:])
    sizes = [sum(len(operations) for _, operations in answer.vnets)]
    while "more" in head_of(reply):
        bench.directory.set_record("site", f"s{len(sizes)}", {})
        bench.directory.remove_record("site", f"s{len(sizes)}")
        (reply,) = bench.ask(more=head_of(reply)["more"])
        piece = read_snapshot(check(head_of(reply), SnapshotHead), reply.frames[1:])
        sizes.append(sum(len(operations) for _, operations in piece.vnets))
        answer = answer.joined(piece)
    assert len(sizes) == 4
    assert max(sizes) < 2 * PIECE_OPERATIONS
    assert answer.revision == snapshot.revision
    assert [vni for vni, _ in answer.vnets] == list(wanted)
    assert dict(answer.vnets) == wanted


def test_a_piece_is_for_who_asked_and_for_so_long() -> None:
    bench = Bench()
    (reply,) = bench.ask(vnis=None)
    token = head_of(reply)["more"]
    (refused,) = bench.ask(b"another", more=token)
    assert head_of(refused)["ok"] is False
    (reply,) = bench.ask(more=token)
    assert head_of(reply)["ok"] is True
    bench.now += IDLE_S + 1
    bench.dispatcher.tick(bench.now)
    (refused,) = bench.ask(more=token)
    assert "not on its way any more" in head_of(refused)["error"]


@pytest.mark.parametrize("more", [0, -1, 1 << 70, True, "1"])
def test_a_number_that_names_no_snapshot_is_refused(more: Any) -> None:
    bench = Bench()
    try:
        (refused,) = bench.ask(more=more)
    except OverflowError:  # msgpack cannot say it
        return
    assert head_of(refused)["ok"] is False


def test_what_is_too_large_for_a_push_is_asked_for() -> None:
    bench = Bench()
    assert ENDPOINTS > OPERATIONS_MAX
    bench.directory.apply(document(1), "d.toml")
    assert {tuple(push.ops[0].items()) for push in bench.directory.poll() if push.vni == 1} == {
        tuple(RESYNC.items())
    }
    bench.directory.apply(document(2), "d.toml")
    assert all(push.ops != [RESYNC] for push in bench.directory.poll())


def test_many_that_are_reached_by_another_link_are_asked_for_and_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    text = document(2 * OPERATIONS_MAX + 2).replace('locators = ["192.0.2.2"]', "")
    bench.directory.apply(text, "d.toml")
    bench.directory.poll()
    compared: list[tuple[str, str]] = []

    class Noted(Difference):
        def __init__(self, before: Any, after: Any, name: str, *more: Any) -> None:
            super().__init__(before, after, name, *more)
            self.name = name

        def of(self, node_name: str) -> Any:
            compared.append((self.name, node_name))
            return super().of(node_name)

    monkeypatch.setattr(pushes, "Difference", Noted)
    bench.directory.announce("gw2", ["192.0.2.9"], [])
    told = {(push.node_id, push.vni): push.ops for push in bench.directory.poll()}
    gw1, gw2 = bench.directory.node_id("gw1"), bench.directory.node_id("gw2")
    assert told[gw1, 1] == told[gw2, 1] == [RESYNC]
    assert not {("v1", "gw1"), ("v1", "gw2")} & set(compared)
    assert any(one["op"] == "tunnel" for one in told[gw1, 2])  # few are told


def test_a_node_that_never_comes_back_costs_others_nothing() -> None:
    bench = Bench()
    askers = [b"c%d" % number for number in range(WAITING_MAX_OF_NODE + 10)]
    tokens = [head_of(bench.ask(asker, vnis=None)[0])["more"] for asker in askers]
    (other,) = bench.ask(b"other", node="gw2", vnis=None)
    assert head_of(other)["ok"] is True
    assert head_of(bench.ask(askers[0], more=tokens[0])[0])["ok"] is False  # the oldest have made room
    assert head_of(bench.ask(askers[-1], more=tokens[-1])[0])["ok"] is True
    bench.now += IDLE_S + 1
    bench.dispatcher.tick(bench.now)
    assert len(bench.dispatcher._snapshots) == 0
    assert not bench.dispatcher._snapshots._of_node
    assert not bench.dispatcher._snapshots._newest


def test_who_asks_anew_is_served_once() -> None:
    bench = Bench()
    frames = [encode({"id": id, "type": "snapshot", "node": "gw1", "vnis": None}) for id in range(5)]
    peer = Peer("resolve", b"c", LOCAL)
    told = [out for one in frames for out in bench.dispatcher.handle(peer, one, bench.now)]
    assert [head_of(out)["id"] for out in told if isinstance(out, Reply)] == [0, 1, 2, 3]
    assert not any(head_of(out)["ok"] for out in told if isinstance(out, Reply))
    (first,) = bench.dispatcher.work(bench.now)
    assert isinstance(first, Reply)
    assert head_of(first)["id"] == 4
    assert not bench.dispatcher.has_work
    (again,) = bench.ask(id=6, vnis=None)  # the pieces that were to come are of no use
    assert head_of(again)["ok"] is True
    (refused,) = bench.ask(more=head_of(first)["more"])
    assert head_of(refused)["ok"] is False


def test_who_asks_again_loses_no_turn() -> None:
    bench = Bench()

    def ask(node: str, id: int) -> None:
        frames = encode({"id": id, "type": "snapshot", "node": node, "vnis": None})
        bench.dispatcher.handle(Peer("resolve", node.encode(), LOCAL), frames, bench.now)

    ask("gw1", 1)
    ask("gw2", 2)
    for id in range(3, 9):  # more often than there is time for
        ask("gw1", id)
    served = [bench.dispatcher.work(bench.now)[0] for _ in range(2)]
    assert [(one.connection, head_of(one)["id"]) for one in served] == [(b"gw1", 8), (b"gw2", 2)]


def test_a_snapshot_is_of_the_moment_at_which_it_is_made() -> None:
    bench = Bench()
    frames = encode({"id": 1, "type": "snapshot", "node": "gw1", "vnis": None})
    bench.dispatcher.handle(Peer("resolve", b"c", LOCAL), frames, bench.now)
    bench.directory.set_record("site", "later", {})
    (reply,) = bench.dispatcher.work(bench.now)
    assert isinstance(reply, Reply)
    assert head_of(reply)["revision"] == bench.directory.revision == 2


def test_a_snapshot_that_cannot_be_made_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def fails(*_: Any) -> None:
        raise ValueError("for a test")

    monkeypatch.setattr(bench.directory, "snapshot", fails)
    (refused,) = bench.ask(vnis=None)
    assert (head_of(refused)["id"], head_of(refused)["ok"]) == (1, False)
    assert not bench.dispatcher.has_work
    assert len(bench.dispatcher._snapshots) == 0


def test_who_asks_for_its_id_does_not_wait_for_snapshots() -> None:
    bench = Bench()
    for node, vnis in (("gw1", None), ("gw2", [])):
        frames = encode({"id": 1, "type": "snapshot", "node": node, "vnis": vnis})
        outs = bench.dispatcher.handle(Peer("resolve", node.encode(), LOCAL), frames, bench.now)
    (alone,) = outs
    assert read_snapshot(
        check(head_of(alone), SnapshotHead), alone.frames[1:]
    ).node_id == bench.directory.node_id("gw2")


def test_nodes_take_turns() -> None:
    bench = Bench()
    for node, count in (("gw1", 20), ("gw2", 2)):
        for number in range(count):
            frames = encode({"id": 1, "type": "snapshot", "node": node, "vnis": None})
            peer = Peer("resolve", b"%s of %d" % (node.encode(), number), LOCAL)
            bench.dispatcher.handle(peer, frames, bench.now)
    outs = [bench.dispatcher.work(bench.now)[0] for _ in range(6)]
    order = [out.connection[:3] for out in outs if isinstance(out, Reply)]
    assert order == [b"gw1", b"gw2", b"gw1", b"gw2", b"gw1", b"gw1"]


def test_which_vnets_a_node_hosts_follows_every_change() -> None:
    """Snapshots share what they found of it where attachments stay as they are."""
    bench = WholeDirectory(MemoryStore(), Settings(), Clock())
    text = document(2)
    without = text.replace('nodes = ["gw1", "gw2"]', 'nodes = ["gw1"]')
    for one in (
        text,
        document(3),
        text.partition("[vnet.v3]")[0],
        without.replace('node = "gw2"', 'node = "gw1"'),
        text,
    ):
        bench.apply(one, "d.toml")
        now = bench.current
        for node in ("gw1", "gw2", "gw3"):
            assert set(now.hosted_by(node)) == {
                name for name, state in now.vnets.items() if hosts(state, node)
            }
