# SPDX-License-Identifier: Apache-2.0
"""Servers and clients of the directory over real sockets, turned in one thread: the only waiting is for
conditions."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from directory_client.client import DirectoryClient
from directory_client.endpoint import parse_endpoint
from directory_client.events import Snapshot
from directory_client.keys import KeyPair
from directory_client.subscriber import State
from directory_client.wire import rows
from directory_service.configuration import Configuration, Limits
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.server.server import Server
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


def active(house: House, client: DirectoryClient) -> Snapshot:
    client.subscribe()
    snapshot = house.event(client, Snapshot)
    assert client.subscriber.state is State.ACTIVE
    return snapshot
