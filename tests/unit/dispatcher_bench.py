# SPDX-License-Identifier: Apache-2.0
"""A dispatcher on a fake directory and clock, and readers of what it sends."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

from directory_client.endpoint import parse_endpoint
from directory_client.wire import rows
from directory_client.wire.messages import encode
from directory_service.configuration import Configuration, Limits
from directory_service.protocol.audit import AuditFile
from directory_service.protocol.authentication import LOCAL, Identity
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.protocol.outbox import Out, Peer, Reply
from fake_directory import FakeDirectory

GATEWAY = Identity("gw1", "gateway")
OPERATOR = Identity("anna", "operator")


class Bench:
    """A dispatcher on a fake directory and clock."""

    def __init__(self, audit: AuditFile | None = None, **limits: int) -> None:
        self.directory = FakeDirectory()
        configuration = Configuration("dir1", parse_endpoint("ipc:///run/x"), None, limits=Limits(**limits))
        self.configuration = configuration
        self.dispatcher = Dispatcher(
            configuration, self.directory, 5, 0.0, lambda: 1_700_000_000_000, audit=audit
        )
        self.now = 100.0
        self.outs: list[Out] = []
        self._id = 0

    def send(
        self,
        channel: str,
        type: str,
        *parts: bytes,
        by: Identity = LOCAL,
        connection: bytes = b"c1",
        waited_s: float = 0.0,
        **fields: Any,
    ) -> list[Out]:
        self._id += 1
        if type == "heartbeat":  # of this era, if nothing else is said
            fields = {"incarnation": self.directory.world.incarnation, **fields}
        frames = encode({"id": self._id, "type": type, **fields}, *parts)
        return self.raw(channel, frames, by, connection, waited_s)

    def raw(
        self,
        channel: str,
        frames: list[Any],
        by: Identity = LOCAL,
        connection: bytes = b"c1",
        waited_s: float = 0.0,
    ):
        self.outs = self.dispatcher.handle(Peer(channel, connection, by), frames, self.now, waited_s)
        self.outs += self.dispatcher.work(self.now)
        return self.outs

    def ask(self, channel: str, type: str, *parts: bytes, **fields: Any) -> dict[str, Any]:
        """Send and return the one reply's head."""
        return head_of(self.send(channel, type, *parts, **fields))

    def tick(self, seconds: float = 0.0) -> list[Out]:
        self.now += seconds
        return self.dispatcher.tick(self.now)


def replies(outs: list[Out]) -> list[Reply]:
    return [out for out in outs if isinstance(out, Reply)]


def head_of(outs: list[Out]) -> dict[str, Any]:
    found = replies(outs)
    assert len(found) == 1, outs
    return msgpack.unpackb(found[0].frames[0])


def queries(*ports: int, vni: int = 7001) -> bytes:
    table = np.zeros(len(ports), rows.QUERY)
    table["vni"] = vni
    table["source_port"] = ports
    return table.tobytes()
