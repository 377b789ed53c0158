# SPDX-License-Identifier: Apache-2.0
"""Client and server over real sockets, in one thread that turns both: the only waiting is for conditions."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from directory_client import rows
from directory_client.client import DirectoryClient
from directory_client.endpoint import parse_endpoint
from directory_client.events import Answered, Asked, Changed, Failed, Resolved, ServerChanged, Snapshot
from directory_client.keys import ClientKeys, KeyPair
from directory_client.messages import DirectoryError, encode, topic_of
from directory_client.subscriber import State
from directory_service.configuration import Client, Configuration, Limits
from directory_service.dispatcher import Dispatcher
from directory_service.server import Server
from fake_directory import FakeDirectory


class House:
    """Servers and clients of one test, turned together."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.directory = FakeDirectory()
        self.servers: list[Server] = []
        self.clients: list[DirectoryClient] = []
        self.events: dict[DirectoryClient, list[Any]] = {}
        self.epochs = 0

    def serve(
        self,
        listen: str,
        directory: FakeDirectory | None = None,
        keys: KeyPair | None = None,
        clients=(),
        late_ms: int = 5_000,
        local: str | None = None,
    ) -> Server:
        self.epochs += 1
        limits = Limits(message_bytes=65_536, late_ms=late_ms)
        configuration = Configuration(
            "dir1",
            parse_endpoint(listen),
            None,
            local=parse_endpoint(local) if local else None,
            limits=limits,
            clients=tuple(clients),
        )
        dispatcher = Dispatcher(
            configuration, directory or self.directory, self.epochs, time.monotonic(), poll_store_s=0.01
        )
        server = Server(configuration, dispatcher, keys)
        self.servers.append(server)
        return server

    def stop(self, server: Server) -> None:
        self.servers.remove(server)
        server.close()

    def client(self, *servers: str, **options: Any) -> DirectoryClient:
        client = DirectoryClient(servers, **options)
        self.clients.append(client)
        self.events[client] = []
        return client

    def turn(self) -> None:
        for server in self.servers:
            server.turn(1)
        for client in self.clients:
            self.events[client] += client.receive()

    def until(self, condition: Callable[[], Any], seconds: float = 10.0) -> Any:
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, self.events
            self.turn()
        return found

    def event(self, client: DirectoryClient, kind: type, id: int | None = None) -> Any:
        """Wait for an event, and take it and what came before it out of the list."""

        def found() -> Any:
            for event in self.events[client]:
                if isinstance(event, kind) and (id is None or event.id == id):
                    return event
            return None

        event = self.until(found)
        self.events[client] = self.events[client][self.events[client].index(event) + 1 :]
        return event

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for server in self.servers:
            server.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def ipc(house: House, name: str = "run") -> str:
    return f"ipc://{house.path}/{name}"


def queries(*ports: int) -> np.ndarray[Any, Any]:
    table = np.zeros(len(ports), rows.QUERY)
    table["vni"] = 7001
    table["source_port"] = ports
    return table


def free_tcp() -> str:
    """Find three consecutive free ports."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
                third.bind(("127.0.0.1", port + 2))
            except OSError:
                continue
            return f"tcp://127.0.0.1:{port}"
    raise AssertionError("no three free ports")


# ---- ipc -------------------------------------------------------------------------------------


def test_a_batch_is_resolved_in_order(house):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    resolved = house.event(client, Resolved, client.send_resolve(queries(*range(900))))
    assert resolved.decisions["rule_id"].tolist() == list(range(900))
    assert len(resolved.locations) == 1


def test_sockets_are_for_the_group_only(house):
    house.serve(ipc(house))
    assert (house.path / "run").stat().st_mode & 0o777 == 0o750
    for name in ("resolve", "write", "push"):
        assert (house.path / "run" / f"directory-{name}.sock").stat().st_mode & 0o777 == 0o660


def test_a_second_server_does_not_take_the_sockets_away(house):
    house.serve(ipc(house))
    with pytest.raises(DirectoryError, match="another directory serves"):
        house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1")
    assert house.event(client, Resolved, client.send_resolve(queries(1)))


def test_a_question_asked_before_the_server_is_there_is_answered_once_it_is(house):
    client = house.client(ipc(house), node="gw1", give_up_s=5.0)
    id = client.send_resolve(queries(1))
    house.turn()
    house.serve(ipc(house))
    assert house.event(client, Resolved, id)


def test_a_question_that_waited_for_its_server_is_not_late(house):
    client = house.client(ipc(house), node="gw1", give_up_s=5.0)
    id = client.send_resolve(queries(1))
    asked_at = time.monotonic()
    house.until(lambda: time.monotonic() - asked_at > 0.15)
    server = house.serve(ipc(house), late_ms=100)
    assert house.event(client, Resolved, id)
    assert server._counters["busy"] == 0


def test_a_question_that_nobody_answers_fails_with_code_3(house):
    client = house.client(ipc(house), node="gw1", give_up_s=0.2)
    failed = house.event(client, Failed, client.send_resolve(queries(1)))
    assert failed.code == 3
    assert ipc(house) in failed.error


def test_a_refusal_carries_sentence_and_remedy(house):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="nobody")
    failed = house.event(client, Failed, client.send_resolve(queries(1)))
    assert (failed.error, failed.fix, failed.code) == ("there is no node nobody", "vnetctl show nodes", 1)


def active(house: House, client: DirectoryClient) -> Snapshot:
    client.subscribe()
    snapshot = house.event(client, Snapshot)
    assert client.subscriber.state is State.ACTIVE
    return snapshot


def test_pushes_follow_the_snapshot_in_order_without_loss(house):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    client.subscribe()
    for _ in range(50):  # changes go on while the client comes up
        house.directory.change((1001, 7001), (1002, 7001))
        house.turn()
    snapshot = house.event(client, Snapshot)
    last = house.directory.change((1001, 7002))
    for _ in range(500):
        last = house.directory.change((1001, 7001))
    house.until(lambda: client.subscriber.revision >= last)
    seen = [event.revision for event in house.events[client] if isinstance(event, Changed)]
    assert seen[-1] == last
    assert seen == sorted(seen)
    assert seen[0] == snapshot.revision + 1
    assert len(seen) == last - snapshot.revision  # every one of them
    assert client.subscriber.resyncs == {}


def test_a_restarted_server_is_followed_again_without_being_told(house):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path", timeout_s=0.1)
    active(house, client)
    house.stop(server)
    house.directory.change((1001, 7001))
    house.directory.pushes.clear()  # what happened meanwhile is never pushed
    house.directory.vnets[7001] = [{"op": "vnet", "vni": 7001, "n": 42}]
    house.serve(ipc(house))
    snapshot = house.event(client, Snapshot)
    assert snapshot.vnets == [(7001, [{"op": "vnet", "vni": 7001, "n": 42}])]
    house.until(lambda: client.subscriber.state is State.ACTIVE)
    revision = house.directory.change((1001, 7001))
    assert house.event(client, Changed).revision == revision


def test_a_forged_gap_makes_the_client_ask_again(house):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    active(house, client)
    server._dispatcher.publisher._seq.setdefault(1001, {})[7001] = 10  # ten pushes are lost
    house.directory.change((1001, 7001))
    assert house.event(client, Snapshot)
    assert client.subscriber.resyncs == {"gap": 1}


def test_what_was_applied_is_reported_at_once(house):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    gateways = server._dispatcher.gateways
    client.applied(active(house, client).revision)
    house.until(lambda: gateways.revision("gw1", time.monotonic()))
    revision = house.directory.change((1001, 7001))
    changed = house.event(client, Changed)
    assert gateways.revision("gw1", time.monotonic()) < revision
    client.applied(changed.revision)
    started = time.monotonic()
    house.until(lambda: gateways.revision("gw1", time.monotonic()) == revision)
    assert time.monotonic() - started < 0.9  # not with the next regular heartbeat


def test_locators_are_said_by_heartbeats(house):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    client.set_heartbeat(locators=["192.0.2.1"], ports=["rack"], load={"misses": 3})
    house.until(lambda: ("gw1", ["192.0.2.1"], ["rack"]) in house.directory.announced)


def test_a_control_is_asked_and_its_answer_forwarded(house):
    house.serve(ipc(house))
    control = house.client(ipc(house), node="gw1", role="control")
    control.serve()
    tool = house.client(ipc(house))
    house.until(lambda: "gw1" in house.servers[0]._dispatcher.gateways.with_control(time.monotonic()))
    id = tool.send("forward", node="all", request={"verb": "show", "noun": "ports"})
    asked = house.event(control, Asked)
    assert asked.request == {"verb": "show", "noun": "ports"}
    control.answer(asked, {"ok": True, "rows": [{"port": "rack"}]})
    head = house.event(tool, Answered, id).head
    assert head["answers"] == [{"node": "gw1", "answer": {"ok": True, "rows": [{"port": "rack"}]}}]
    assert head["silent"] == ["gw2"]


def test_a_client_goes_on_with_the_next_server(house):
    first = house.serve(ipc(house, "one"))
    house.serve(ipc(house, "two"))
    client = house.client(ipc(house, "one"), ipc(house, "two"), node="gw1", role="slow-path", timeout_s=0.05)
    active(house, client)
    house.stop(first)
    resolved = house.event(client, Resolved, client.send_resolve(queries(1, 2)))
    assert resolved.decisions["rule_id"].tolist() == [1, 2]
    house.until(lambda: client.subscriber.state is State.ACTIVE)
    assert [server.active for server in client.servers()] == [False, True]
    assert client.servers()[1].state == "up"
    revision = house.directory.change((1001, 7001))
    house.until(lambda: client.subscriber.revision == revision)


def test_a_server_that_never_answers_is_passed_over(house):
    mute = zmq.Context()
    try:
        sockets = [mute.socket(kind) for kind in (zmq.ROUTER, zmq.ROUTER, zmq.XPUB)]
        (house.path / "mute").mkdir()
        endpoint = parse_endpoint(ipc(house, "mute"))
        for each, address in zip(sockets, (endpoint.resolve, endpoint.write, endpoint.push), strict=True):
            each.bind(address)
        house.serve(ipc(house, "two"))
        client = house.client(
            ipc(house, "mute"), ipc(house, "two"), node="gw1", timeout_s=0.05, give_up_s=5.0
        )
        assert house.event(client, Resolved, client.send_resolve(queries(1)))
        assert house.until(lambda: [server.active for server in client.servers()] == [False, True])
    finally:
        mute.destroy(0)


def test_a_busy_answer_is_asked_again(house):
    context = zmq.Context()
    try:
        (house.path / "run").mkdir()
        endpoint = parse_endpoint(ipc(house))
        router = context.socket(zmq.ROUTER)
        router.bind(endpoint.resolve)
        client = house.client(ipc(house), give_up_s=5.0)
        id = client.send_resolve(queries(1))
        answered = 0

        def serve() -> bool:
            nonlocal answered
            if router.poll(1):
                connection, head, _ = router.recv_multipart()
                answered += 1
                busy = {"id": msgpack.unpackb(head)["id"], "ok": False, "busy": True, "retry_ms": 5}
                good = {"id": busy["id"], "ok": True, "incarnation": 1, "revision": 2}
                parts = [b"", b"", b"", b"", msgpack.packb([])] if answered == 3 else []
                router.send_multipart([connection, *encode(good if parts else busy, *parts)])
            return any(isinstance(e, Resolved) and e.id == id for e in house.events[client])

        house.until(serve)
        assert answered == 3
    finally:
        context.destroy(0)


# ---- hostile bytes ---------------------------------------------------------------------------

GARBAGE = [
    [b""],
    [b"\xff" * 100],
    [b"", b"", b""],
    [msgpack.packb({"v": 1, "id": 1, "type": "resolve", "node": "gw1"}), b"\x01"],
    [b"\x91" * 10_000],
    [msgpack.packb({"v": 3, "id": 1, "type": "resolve"})],
]


@pytest.mark.parametrize("name", ["resolve", "write"])
def test_garbage_is_answered_with_an_error_and_others_are_served_on(house, name):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1")
    context = zmq.Context()
    try:
        dealer = context.socket(zmq.DEALER)
        dealer.connect(getattr(parse_endpoint(ipc(house)), name))
        for frames in GARBAGE:
            dealer.send_multipart(frames)
        answers = []
        while len(answers) < len(GARBAGE):
            house.turn()
            while dealer.poll(0):
                answers.append(msgpack.unpackb(dealer.recv_multipart()[0]))
        assert all(answer["ok"] is False and answer["error"] for answer in answers)
        assert server._counters["malformed"] == len(GARBAGE)
        assert house.event(client, Resolved, client.send_resolve(queries(1)))
    finally:
        context.destroy(0)


@pytest.mark.parametrize("name", ["resolve", "write", "push"])
@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\0\0\0\0\0\0\0\1\x7f\3\0", b"\0" * 4096, bytes(range(256)) * 64]
)
def test_bytes_that_are_not_even_zeromq_disturb_nobody(house, name, data):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    active(house, client)
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(house.path / "run" / f"directory-{name}.sock"))
        raw.setblocking(False)
        raw.send(data)
        assert house.event(client, Resolved, client.send_resolve(queries(1)))
        house.directory.change((1001, 7001))
        assert house.event(client, Changed)


def test_garbage_on_the_push_socket_disturbs_nobody(house):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path")
    active(house, client)
    context = zmq.Context()
    try:
        peer = context.socket(zmq.XSUB)
        peer.connect(parse_endpoint(ipc(house)).push)
        for message in (b"\x05nonsense", b"\x01" + b"x" * 200, b"\x00" + topic_of(1001, 7001), b"\x01", b""):
            peer.send(message)
        house.until(lambda: server._counters["malformed"] >= 2)
        house.directory.change((1001, 7001))
        assert house.event(client, Changed)
    finally:
        context.destroy(0)


def test_a_message_beyond_the_limit_ends_only_its_own_connection(house):
    house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1")
    context = zmq.Context()
    try:
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(parse_endpoint(ipc(house)).resolve)
        monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        dealer.send(b"x" * 70_000)
        house.until(lambda: monitor.poll(0))
        assert house.event(client, Resolved, client.send_resolve(queries(1)))
    finally:
        context.destroy(0)


def test_a_client_survives_a_server_that_talks_nonsense(house):
    context = zmq.Context()
    try:
        (house.path / "run").mkdir()
        endpoint = parse_endpoint(ipc(house))
        router, pub = context.socket(zmq.ROUTER), context.socket(zmq.XPUB)
        router.bind(endpoint.resolve)
        pub.bind(endpoint.push)
        client = house.client(ipc(house), node="gw1", give_up_s=0.5)
        client.subscribe()
        client.send_resolve(queries(1))

        def serve() -> bool:
            if router.poll(1):
                connection, head, *_ = router.recv_multipart()
                id = msgpack.unpackb(head)["id"]
                router.send_multipart([connection, b"\xc1"])
                router.send_multipart([connection, *encode({"id": id, "ok": True, "revision": "x"}, b"abc")])
            if pub.poll(0):
                pub.recv()
            return client.malformed >= 3 and any(isinstance(e, Failed) for e in house.events[client])

        house.until(serve)
        assert not any(isinstance(e, Resolved | Snapshot) for e in house.events[client])
    finally:
        context.destroy(0)


# ---- CURVE -----------------------------------------------------------------------------------


def pair() -> KeyPair:
    return KeyPair(*zmq.curve_keypair())


@pytest.fixture
def tcp(house: House) -> tuple[str, KeyPair, dict[str, KeyPair]]:
    server = pair()
    keys = {"gw1": pair(), "anna": pair()}
    clients = [Client("gw1", keys["gw1"].public, "gateway"), Client("anna", keys["anna"].public, "operator")]
    listen = free_tcp()
    house.serve(listen, keys=server, clients=clients)
    return listen, server, keys


def test_known_keys_are_served_over_tcp(house, tcp):
    listen, server, keys = tcp
    gateway = house.client(listen, node="gw1", role="slow-path", keys=ClientKeys(keys["gw1"], server.public))
    assert house.event(gateway, Resolved, gateway.send_resolve(queries(1)))
    active(house, gateway)
    revision = house.directory.change((1001, 7001))
    assert house.event(gateway, Changed).revision == revision
    anna = house.client(listen, keys=ClientKeys(keys["anna"], server.public))
    head = house.event(anna, Answered, anna.send("apply", text="x", name="a.toml", wait_ms=0)).head
    assert head["ok"] is True
    assert house.directory.applied[-1]["user"] == "anna"


def test_a_gateway_writes_nothing_and_is_no_other_node_over_tcp(house, tcp):
    listen, server, keys = tcp
    gateway = house.client(listen, node="gw1", keys=ClientKeys(keys["gw1"], server.public))
    failed = house.event(gateway, Failed, gateway.send("apply", text="x", name="a.toml"))
    assert "may not change the directory" in failed.error
    impostor = house.client(listen, node="gw2", keys=ClientKeys(keys["gw1"], server.public))
    failed = house.event(impostor, Failed, impostor.send_resolve(queries(1)))
    assert "may not speak as node gw2" in failed.error
    assert house.directory.applied == []


def test_a_gateway_hears_no_other_nodes_topics(house, tcp):
    listen, server, keys = tcp
    context = zmq.Context()
    try:
        spy = context.socket(zmq.SUB)
        spy.curve_serverkey, spy.curve_publickey, spy.curve_secretkey = (
            server.public,
            keys["gw1"].public,
            keys["gw1"].secret,
        )
        for topic in (b"", topic_of(1002, 7001), (1002).to_bytes(8, "big")):
            spy.subscribe(topic)
        spy.connect(parse_endpoint(listen).push)
        house.until(lambda: house.servers[0]._counters["subscriptions_refused"] == 3)
        spy.subscribe((1001).to_bytes(8, "big"))
        house.until(lambda: spy.poll(0))  # its own heartbeat
        house.directory.change((1002, 7001), (1001, 7001))
        seen: list[bytes] = []

        def listened() -> bool:
            while spy.poll(0):
                seen.append(spy.recv_multipart()[0])
            return topic_of(1001, 7001) in seen

        house.until(listened)
        assert {topic[:8] for topic in seen} == {(1001).to_bytes(8, "big")}
    finally:
        context.destroy(0)


def test_an_unknown_key_is_refused(house, tcp):
    listen, server, _ = tcp
    stranger = house.client(listen, node="gw1", keys=ClientKeys(pair(), server.public), give_up_s=0.5)
    id = stranger.send_resolve(queries(1))
    house.until(lambda: house.servers[0]._counters["connections_refused"] > 0)
    assert house.event(stranger, Failed, id).code == 3


def test_a_connection_without_curve_is_refused(house, tcp):
    listen, server, keys = tcp
    context = zmq.Context()
    try:
        plain = context.socket(zmq.DEALER)
        plain.setsockopt(zmq.LINGER, 0)
        monitor = plain.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED)
        plain.connect(parse_endpoint(listen).resolve)
        plain.send_multipart([*encode({"type": "resolve", "id": 1, "node": "gw1"}), queries(1).tobytes()])
        house.until(lambda: monitor.poll(0))
        assert not plain.poll(0)
        good = house.client(listen, node="gw1", keys=ClientKeys(keys["gw1"], server.public))
        assert house.event(good, Resolved, good.send_resolve(queries(1)))
    finally:
        context.destroy(0)


def test_beside_tcp_whoever_is_on_this_machine_needs_no_key_and_all_others_still_do(house):
    server, gateway = pair(), pair()
    listen = free_tcp()
    clients = [Client("gw1", gateway.public, "gateway")]
    house.serve(listen, keys=server, clients=clients, local=ipc(house))
    here = house.client(ipc(house), node="gw2")
    assert house.event(here, Resolved, here.send_resolve(queries(1)))
    there = house.client(listen, node="gw1", keys=ClientKeys(gateway, server.public))
    assert house.event(there, Resolved, there.send_resolve(queries(2)))
    assert house.event(there, Failed, there.send("apply", text="")).code == 1
    stranger = house.client(listen, node="gw2", keys=ClientKeys(pair(), server.public), give_up_s=0.5)
    assert house.event(stranger, Failed, stranger.send_resolve(queries(3))).code == 3
    context = zmq.Context()
    try:
        plain = context.socket(zmq.DEALER)
        plain.setsockopt(zmq.LINGER, 0)
        monitor = plain.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED)
        plain.connect(parse_endpoint(listen).resolve)
        plain.send_multipart([*encode({"type": "resolve", "id": 1, "node": "gw1"}), queries(1).tobytes()])
        house.until(lambda: monitor.poll(0))
        assert not plain.poll(0)
    finally:
        context.destroy(0)


def test_tcp_without_keys_is_one_sentence(house):
    with pytest.raises(DirectoryError, match="needs keys") as raised:
        DirectoryClient(["tcp://127.0.0.1:7460"])
    assert raised.value.code == 2


def test_a_port_that_is_taken_is_one_sentence(house, tcp):
    with pytest.raises(DirectoryError, match="cannot listen on"):
        house.serve(tcp[0], keys=pair())


def test_servers_that_come_and_go_are_reported(house):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1")
    up = house.event(client, ServerChanged)
    assert (up.up, up.active) == (True, ipc(house))
    house.stop(server)
    down = house.event(client, ServerChanged)
    assert (down.up, down.active) == (False, None)


def test_a_worker_reports_changes_that_are_other_workers_without_being_told(house):
    server = house.serve(ipc(house))
    client = house.client(ipc(house), node="gw1", role="slow-path", worker=1, workers=2)
    client.subscribe(lambda vni: vni % 2 == 1)
    client.applied(house.event(client, Snapshot).revision)
    gateways = server._dispatcher.gateways
    others = house.directory.change((1001, 7002))
    house.until(lambda: gateways.revision("gw1", time.monotonic()) == others)
    assert not any(isinstance(event, Changed) for event in house.events[client])
    mine = house.directory.change((1001, 7001))
    house.directory.change((1001, 7002))
    house.event(client, Changed)
    for _ in range(20):
        house.turn()
    assert gateways.revision("gw1", time.monotonic()) < mine  # until it says that it has applied it


@pytest.mark.parametrize(("type", "times"), [("list", 2), ("set", 1)])
def test_only_what_changes_nothing_is_asked_again(house, type, times):
    context = zmq.Context()
    try:
        (house.path / "run").mkdir()
        router = context.socket(zmq.ROUTER)
        router.bind(parse_endpoint(ipc(house)).write)
        client = house.client(ipc(house))
        id = client.send(type, kind="rule", name="red/x", values={}, timeout_s=3.0)
        heard = 0

        def listen() -> bool:
            nonlocal heard
            if router.poll(1):
                connection, head = router.recv_multipart()
                heard += 1
                if heard == 2:  # the first one is lost with the connection
                    router.send_multipart(
                        [connection, *encode({"id": msgpack.unpackb(head)["id"], "ok": True})]
                    )
            return any(getattr(event, "id", None) == id for event in house.events[client])

        house.until(listen)
        assert heard == times
        assert isinstance(house.event(client, Answered | Failed, id), Answered if times == 2 else Failed)
    finally:
        context.destroy(0)
