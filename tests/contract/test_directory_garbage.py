# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes come to the directory, over real sockets: others are served on."""

from __future__ import annotations

import socket

import msgpack
import pytest
import zmq

from directory_client.endpoint import parse_endpoint
from directory_client.events import Changed, Failed, Resolved, Snapshot
from directory_client.wire.messages import encode, topic_of
from directory_house import active, ipc, queries

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
