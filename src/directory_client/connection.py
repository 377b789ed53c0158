# SPDX-License-Identifier: Apache-2.0
"""The sockets to one directory server, and what is known of its health. Used by `client.py` only."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import zmq

from directory_client.approach import EVENTS, Approach, Probe, Stage, describe, event_of
from directory_client.endpoint import Endpoint, parse_endpoint
from directory_client.keys import ClientKeys
from directory_client.wire.greeting import Notice
from directory_client.wire.limits import ANSWER_BYTES_MAX
from directory_client.wire.messages import NODE_PREFIX, VERSION, DirectoryError

HIGH_WATER = 10_000  # messages; the client's own limits come first
RECONNECT_MS = 20
RECONNECT_MAX_MS = {True: 100, False: 1_000}  # local or not
DEAD_PEER_MS = 3_000
WATCH_S, WATCH_UP_S = 0.1, 1.0
AGAIN_S = 1.0
GIVEN_UP = (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)


class Connection:
    """Two DEALERs and a SUB. `IMMEDIATE`: nothing is queued for a server that is not there. `is_tool`: nobody
    minds that a name is looked up."""

    def __init__(
        self,
        context: zmq.Context[Any],
        server: str,
        keys: ClientKeys | None,
        index: int,
        is_tool: bool = False,
    ) -> None:
        self.endpoint: Endpoint = parse_endpoint(server)
        if not self.endpoint.local and keys is None:
            raise DirectoryError(
                f"{server} needs keys",
                "set key_file and directory_public_key in [identity], or use ipc://",
                2,
            )
        self.index = index
        self.name = ""
        self.up: bool | None = None
        self.failures = 0
        self.misses = 0  # unanswered in a row
        self.rtt_us: int | None = None
        self.heard_at: float | None = None
        self.revision = 0
        self.incarnation = 0
        self.realm = 0
        self.era = 0
        self.era_began = ""
        self.store = 0
        self.store_at = 0.0  # when it last said so
        self.up_at = 0.0  # since when it answers
        self.refused = ""  # why it is not listened to: "realm", "store" or empty
        self.refusal: Notice | None = None  # why it does not serve us
        self.notices: tuple[Notice, ...] = ()  # what it says besides
        self.version = VERSION  # of the protocol, in which it is spoken to
        self.features: frozenset[str] = frozenset()  # that it has, as far as it has said
        self.every_s = 1  # how often it wants to be greeted, in seconds
        self.held_since: float | None = None  # since when it grants us our name
        self.heartbeat_id = 0
        self.heartbeat_sent_at: float | None = None
        self.approach = Approach()
        self.public_key = keys.pair.public.decode() if keys is not None else ""
        self._server_publics: tuple[bytes, ...] = keys.server_publics if keys is not None else ()
        self._server_public = self._server_publics[0] if self._server_publics else b""
        self._tried: set[bytes] = set()  # since the server proved one of them
        self._probe = Probe(self.endpoint, is_tool)
        self._watched_at = 0.0
        self._again_at: dict[
            int, float
        ] = {}  # sockets that ZeroMQ has given up, and when they are tried again
        self.resolve = self._socket(context, zmq.DEALER, keys)
        self.write = self._socket(context, zmq.DEALER, keys)
        self.push = self._socket(context, zmq.SUB, keys)
        self._addresses = (self.endpoint.resolve, self.endpoint.write, self.endpoint.push)
        self._monitors = [self._monitor(context, socket) for socket in self.sockets()]
        for socket, address in zip(self.sockets(), self._addresses, strict=True):
            socket.connect(address)

    def _socket(self, context: zmq.Context[Any], kind: int, keys: ClientKeys | None) -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        socket.setsockopt(zmq.MAXMSGSIZE, ANSWER_BYTES_MAX)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS[self.endpoint.local])
        if kind == zmq.DEALER:
            socket.setsockopt(zmq.IMMEDIATE, 1)
        if not self.endpoint.local and keys is not None:
            socket.setsockopt(zmq.IPV6, 1)
            socket.setsockopt(zmq.HEARTBEAT_IVL, DEAD_PEER_MS // 3)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, DEAD_PEER_MS)
            socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server_public)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.pair.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, keys.pair.secret)
        return socket

    def _monitor(self, context: zmq.Context[Any], socket: zmq.Socket[Any]) -> zmq.Socket[Any]:
        address = f"inproc://approach-{id(self)}-{id(socket)}"
        socket.monitor(address, EVENTS)
        monitor: zmq.Socket[Any] = context.socket(zmq.PAIR)
        monitor.setsockopt(zmq.LINGER, 0)
        monitor.connect(address)
        return monitor

    def watch(self, now: float) -> None:
        """See how far we get, and try again where ZeroMQ has given up: after a refused key it never connects
        again by itself. Costs nothing while the server answers and WATCH_UP_S have not passed."""
        if now - self._watched_at < (WATCH_UP_S if self.up else WATCH_S):
            return
        self._watched_at = now
        for index, monitor in enumerate(self._monitors):
            for frames in receive_now(monitor):
                event = event_of(frames)
                given_up = event in GIVEN_UP
                if index == 0:  # what asks: the others follow
                    self.approach.heard(event)
                if given_up:
                    self._again_at.setdefault(index, now + AGAIN_S)
        for index, at in list(self._again_at.items()):
            if now >= at:
                del self._again_at[index]
                self._connect_anew(index)
        if self.approach.stage is Stage.SERVED:
            self._tried.clear()
        elif self.approach.is_other_key and len(self._server_publics) > 1:
            self._try_next_key()
        if self.up:
            self._probe.close()
        elif self.approach.wants_probe(now) and (number := self._probe.look(now)) is not None:
            self.approach.probed(number)

    @property
    def server_key(self) -> str:
        """The public key that the server has proved to have; empty while none is."""
        proved = self.approach.stage is Stage.SERVED
        return self._server_public.decode() if proved else ""

    def accept_server_keys(self, publics: Sequence[bytes]) -> None:
        """Accept these public keys of the server from now on. One that is proved and stays is kept; a
        connection on one that goes is ended."""
        self._server_publics = tuple(publics)
        self._tried.clear()
        if publics and self._server_public not in publics:
            self._use_key(publics[0])

    def _try_next_key(self) -> None:
        """The server has another key than the one tried: try the next one. Once all were tried that is what
        stands in the way, and they are tried all over again."""
        publics = self._server_publics
        self._tried.add(self._server_public)
        has_untried = not self._tried.issuperset(publics)
        self.approach.try_again(has_untried)
        before = publics.index(self._server_public) if self._server_public in publics else -1
        self._use_key(publics[(before + 1) % len(publics)])

    def _use_key(self, public: bytes) -> None:
        self._server_public = public
        for index, socket in enumerate(self.sockets()):
            socket.setsockopt(zmq.CURVE_SERVERKEY, public)
            self._connect_anew(index)

    def _connect_anew(self, index: int) -> None:
        """End a socket's connection and begin another; what it subscribed to stays."""
        socket, address = self.sockets()[index], self._addresses[index]
        with contextlib.suppress(zmq.ZMQError):
            socket.disconnect(address)
        socket.connect(address)

    @property
    def obstacle(self) -> tuple[str, str]:
        """What stands between us and the server, and what to type; empty while it answers."""
        return ("", "") if self.up else describe(self.approach, self.endpoint, self.public_key)

    def sockets(self) -> list[zmq.Socket[Any]]:
        """Give the three sockets."""
        return [self.resolve, self.write, self.push]

    def subscribe(self, node_id: int) -> None:
        """Subscribe to every topic of a node."""
        self.push.setsockopt(zmq.SUBSCRIBE, NODE_PREFIX.pack(node_id))

    def unsubscribe(self, node_id: int) -> None:
        """Give up the topics of a node."""
        self.push.setsockopt(zmq.UNSUBSCRIBE, NODE_PREFIX.pack(node_id))

    def close(self) -> None:
        """Close at once, but for what was given time (LINGER) to leave. libzmq's thread waits for room where
        nobody has read what a monitor said, and we would wait for it: it is let go first."""
        self._probe.close()
        for socket, monitor in zip(self.sockets(), self._monitors, strict=True):
            receive_now(monitor, 1 << 20)
            socket.disable_monitor()
            monitor.close(0)
            socket.close()


def send_now(socket: zmq.Socket[Any], frames: list[Any]) -> bool:
    """Send without blocking; False: no connection, or its queue is full."""
    try:
        socket.send_multipart(frames, zmq.NOBLOCK)
    except zmq.Again:
        return False
    return True


def receive_now(socket: zmq.Socket[Any], limit: int = 1_000) -> list[list[bytes]]:
    """Read what has come, at most `limit` messages (the rest wakes the poller again)."""
    messages: list[list[bytes]] = []
    try:
        while len(messages) < limit:
            messages.append(socket.recv_multipart(zmq.NOBLOCK))
    except zmq.Again:
        pass
    return messages
