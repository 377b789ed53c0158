# SPDX-License-Identifier: Apache-2.0
"""How a client greets every server once a second, or as seldom as the servers ask for: heartbeats, and hellos
of a control. Used by `client.py` only."""

from __future__ import annotations

from typing import Any

import zmq

from directory_client.connection import Connection, send_now
from directory_client.heartbeats import Beat, Facts, identity_of
from directory_client.realm import RealmPin
from directory_client.requests import InFlight
from directory_client.servers import Servers
from directory_client.wire.answers import Answer
from directory_client.wire.greeting import (
    FEATURES,
    Goodbye,
    Greeted,
    Heartbeat,
    Hello,
    common_version,
    features_of,
)
from directory_client.wire.limits import NAME_MAX, NOTICES_MAX
from directory_client.wire.messages import VERSIONS, Frames, encode, read

GOODBYE_MS = 200
ERA_TEXT_MAX = 255


class Greeter:
    """`node` None: an operator's tool, which greets nobody. `instance`: the id of this gateway's life."""

    def __init__(
        self,
        servers: Servers,
        facts: Facts,
        node: str | None,
        instance: str,
        pin: RealmPin,
        ids: InFlight,
    ) -> None:
        self._servers = servers
        self._facts = facts
        self._node = node
        self._instance = instance
        self._pin = pin
        self._ids = ids
        self._heartbeat = Beat(node is not None)
        self._hello = Beat(False)

    def identity(self, now: float) -> dict[str, Any]:
        """Return what this client's messages say of who it is: its node, and which gateway of that name."""
        node = {"node": self._node or ""}
        if not self._instance:
            return node
        servers = self._servers.all
        is_fenced = any(one.refusal is not None and one.refusal.why == "fenced" for one in servers)
        return node | identity_of(self._instance, (one.held_since for one in servers), is_fenced, now)

    def due_at(self) -> list[float]:
        """Return when `tick` has something to do."""
        every_s = self._every_s()
        return [at for beat in (self._heartbeat, self._hello) if (at := beat.due_at(every_s)) is not None]

    def tick(self, now: float) -> None:
        """Greet, where it is time."""
        every_s = self._every_s()
        if (at := self._heartbeat.due_at(every_s)) is not None and now >= at:
            self._heartbeat.done(now, self._send_heartbeats(now))
        if (at := self._hello.due_at(every_s)) is not None and now >= at:
            self._hello.done(now, self._send_hellos(now))

    def _every_s(self) -> int:
        """Return how often to greet, in seconds: as often as any server that is there wants it."""
        return min((one.every_s for one in self._servers.all if one.up), default=1)

    def hurry(self, now: float) -> None:
        """Send a heartbeat soon: something that it says has changed."""
        self._heartbeat.hurry(now)

    def say_hello(self) -> None:
        """Say hello too, from now on."""
        self._hello.on = True

    def goodbye(self, now: float) -> None:
        """Say that this gateway stops."""
        for server in self._servers.all:
            server.resolve.setsockopt(zmq.LINGER, GOODBYE_MS)
            said = Goodbye(v=server.version, id=self._ids.next_id(), **self.identity(now))
            send_now(server.resolve, encode(said))

    def is_greeted(self, server: Connection, head: Answer) -> bool:
        """Tell whether this is the answer to the last heartbeat."""
        return head.id == server.heartbeat_id and server.heartbeat_sent_at is not None

    def greeted(self, server: Connection, head: Answer, frames: Frames, now: float) -> int | None:
        """Take the answer to a heartbeat; returns the id that the server has for this node, None if it does
        not say. Raises MalformedMessage."""
        server.rtt_us = int((now - (server.heartbeat_sent_at or now)) * 1e6)
        server.heartbeat_sent_at = None
        if head.ok is not True:
            server.failures += 1
            return None
        said = read(frames[0], Greeted, "heartbeat's answer")
        server.held_since = now if server.held_since is None else server.held_since
        server.notices = tuple(notice.cut() for notice in said.notices[:NOTICES_MAX])
        server.revision, server.incarnation = said.revision, said.incarnation
        server.name = said.name[:NAME_MAX]
        server.era_began = said.era_began[:ERA_TEXT_MAX]
        server.features = features_of(said.features)
        server.every_s = said.every_s
        server.version = common_version(said.speaks) or server.version
        return said.node_id

    def _send_heartbeats(self, now: float) -> bool:
        """Returns whether the server in use was reached."""
        is_reached = True
        said = Heartbeat(
            **{**self._facts.said(), **self.identity(now)}, speaks=VERSIONS, features=list(FEATURES)
        )
        for server in self._servers.all:
            said.id, said.v = self._ids.next_id(), server.version
            said.seen = self._pin.seen if self._pin.seen.revision and not server.refused else None
            if send_now(server.resolve, encode(said)):
                server.heartbeat_id, server.heartbeat_sent_at = said.id, now
            elif self._servers.is_active(server):
                is_reached = False
        return is_reached

    def _send_hellos(self, now: float) -> bool:
        """Returns whether the server in use was reached."""
        is_reached = True
        said = Hello(**self.identity(now))
        for server in self._servers.all:
            said.id, said.v = self._ids.next_id(), server.version
            is_sent = send_now(server.write, encode(said))
            is_reached = is_reached and (is_sent or not self._servers.is_active(server))
        return is_reached
