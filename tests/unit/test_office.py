# SPDX-License-Identifier: Apache-2.0
"""The server's side of writer and reader: what does not fit into a socket goes on when there is room."""

from __future__ import annotations

import socket

import zmq

from directory_client.endpoint import parse_endpoint
from directory_service.configuration import Configuration
from directory_service.heard import News
from directory_service.server.frames import Link
from directory_service.server.office import Office

PATIENCE_MS = 20_000


def test_a_large_job_wakes_the_server_whenever_there_is_room_for_more() -> None:
    office = Office(
        Configuration("d", parse_endpoint("ipc:///run/x"), None), lambda serial: News(serial, {}, None)
    )
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    link, reader = Link(ours), Link(theirs)
    office.writer.link = link
    link.send(bytes(1 << 22))
    poller = zmq.Poller()
    came: list[bytes] = []
    with theirs:
        while not came:
            if link.has_to_send:  # nothing else wakes it
                for descriptor, events in office.descriptors().items():
                    poller.register(descriptor, events)
                came = reader.receive()
                ready = dict(poller.poll(PATIENCE_MS))
                assert ready, "it was not told that there is room"
                office.serve(0.0, ready)
            else:
                came = reader.receive()
        assert came == [bytes(1 << 22)]
        link.close()
