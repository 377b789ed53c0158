# SPDX-License-Identifier: Apache-2.0
"""Where the directory listens: resolve, write and push, on this machine and on TCP, and the lock that keeps a
second one away. Fewer listen while few descriptors are left. Nothing is read or sent here."""

from __future__ import annotations

import fcntl
import os
from functools import partial
from typing import Any

import zmq

from directory_client.endpoint import Endpoint
from directory_client.keys import KeyPair
from directory_client.process.descriptors import REMOTE_SHARE, Admission, Listener, raise_limit
from directory_client.wire.messages import DirectoryError
from directory_service.configuration import Configuration
from directory_service.protocol.authentication import ZAP_ADDRESS, ZAP_DOMAIN, ZAP_LOCAL_DOMAIN

HIGH_WATER = 1_000  # messages kept for one connection, each way
DEAD_PEER_MS = 3_000
HANDSHAKE_MS = 5_000
OWN_DESCRIPTORS = 64
GATEWAY_CONNECTIONS = 6  # three sockets of control and of one slow-path worker; each worker more has 3


class Listeners:
    """Binds everything. Raises DirectoryError where that cannot be. `zap` asks who may come in over TCP."""

    def __init__(self, configuration: Configuration, keys: KeyPair | None) -> None:
        listen = configuration.listen
        self.local: Endpoint | None = listen if listen.local else configuration.local
        self._remote: Endpoint | None = None if listen.local else listen
        self._keys = keys
        self._lock: int | None = None
        self._limit = 0  # of descriptors
        self._context: zmq.Context[Any] = zmq.Context()
        self._sockets: list[zmq.Socket[Any]] = []
        try:
            self._lock_directory()
            self.zap = self._context.socket(zmq.ROUTER)
            self._sockets.append(self.zap)
            self.zap.setsockopt(zmq.LINGER, 0)
            self.zap.bind(ZAP_ADDRESS)
            limits = configuration.limits
            self.resolve = self._open(zmq.ROUTER, "resolve", limits.message_bytes)
            self.write = self._open(zmq.ROUTER, "write", limits.document_bytes)
            self.push = self._open(zmq.XPUB, "push", limits.message_bytes)
            self.admission = self._watch_connections(configuration)
        except BaseException:
            self._close_sockets()
            raise

    def check(self, configuration: Configuration) -> None:
        """Raise DirectoryError if there are too few descriptors for those who are declared."""
        wanted = descriptors_wanted(configuration)
        if self._limit < wanted:
            raise DirectoryError(
                f"{self._limit} descriptors may be open, {len(configuration.clients)} clients need {wanted}",
                f"LimitNOFILE={wanted} in the unit, or ulimit -n {wanted}",
            )

    def close(self) -> None:
        """Close the sockets and give the lock back."""
        self.admission.end()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for socket in self._sockets:
            socket.close(0)
        self._context.term()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _lock_directory(self) -> None:
        """Make the directory of ipc sockets and lock it: a second server would take the sockets away
        silently."""
        if self.local is None:
            return
        directory = self.local.directory
        try:
            if not os.path.isdir(directory):
                os.makedirs(directory, exist_ok=True)
                os.chmod(directory, 0o750)
            self._lock = os.open(f"{directory}/directory.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DirectoryError(
                f"another directory serves {self.local.name}", "stop it, or choose another directory", 1
            ) from error
        except OSError as error:
            raise DirectoryError(
                f"{directory} cannot be used: {error.strerror}", f"ls -ld {directory}", 1
            ) from error

    def _open(self, kind: int, channel: str, message_bytes: int) -> zmq.Socket[Any]:
        """Make a socket that listens on this machine and on TCP, as configured. ZeroMQ gives each listener
        the options that stand when it is bound: the local one first, then all that concerns TCP."""
        socket: zmq.Socket[Any] = self._context.socket(kind)
        self._sockets.append(socket)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        socket.setsockopt(zmq.MAXMSGSIZE, message_bytes)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an answer that is lost is counted
        else:
            socket.setsockopt(zmq.XPUB_MANUAL, 1)  # a subscription counts only once we grant it
            socket.setsockopt(zmq.XPUB_NODROP, 1)  # what finds no room is counted
        if self.local is not None:
            _bind_local(socket, getattr(self.local, channel))
        if self._remote is not None:
            self._require_curve(socket)
            _bind(socket, getattr(self._remote, channel))
        return socket

    def _watch_connections(self, configuration: Configuration) -> Admission:
        """Take listeners away while few descriptors are left. Raises DirectoryError if there are too few for
        those who are declared."""
        self._limit = raise_limit()
        self.check(configuration)
        channels = {"resolve": self.resolve, "write": self.write, "push": self.push}
        admission = Admission(list(channels.values()), self._limit)
        for endpoint, is_local in ((self._remote, False), (self.local, True)):
            if endpoint is None:
                continue
            for channel, socket in channels.items():
                address = getattr(endpoint, channel)
                opens = self._reopen_local if is_local else self._reopen_remote
                opens = partial(opens, socket, address)
                admission.add(Listener(address, partial(socket.unbind, address), opens, is_local))
        return admission

    def _reopen_local(self, socket: zmq.Socket[Any], address: str) -> None:
        if self._remote is not None:
            # What was set for TCP must not hold here. A domain cannot be taken away again: the one for this
            # machine lets in whom the socket's permissions let in.
            socket.setsockopt(zmq.CURVE_SERVER, 0)
            socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_LOCAL_DOMAIN)
            socket.setsockopt(zmq.HEARTBEAT_IVL, 0)
        _bind_local(socket, address)

    def _reopen_remote(self, socket: zmq.Socket[Any], address: str) -> None:
        self._require_curve(socket)
        socket.bind(address)

    def _require_curve(self, socket: zmq.Socket[Any]) -> None:
        if self._keys is None:
            raise DirectoryError("TCP needs a key", 'key_file = "/etc/vnet/directory.key"', 2)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.HEARTBEAT_IVL, DEAD_PEER_MS // 3)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, DEAD_PEER_MS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody enters unasked, were the handler not there
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret)


def descriptors_wanted(configuration: Configuration) -> int:
    """Return how many descriptors the declared clients and the directory itself need."""
    clients = sum(GATEWAY_CONNECTIONS if one.role == "gateway" else 3 for one in configuration.clients)
    return int((OWN_DESCRIPTORS + clients) / REMOTE_SHARE)


def _bind_local(socket: zmq.Socket[Any], address: str) -> None:
    before = os.umask(0o117)  # 0660, from the first moment
    try:
        _bind(socket, address)
    finally:
        os.umask(before)


def _bind(socket: zmq.Socket[Any], address: str) -> None:
    try:
        socket.bind(address)
    except (zmq.ZMQError, OSError) as error:
        raise DirectoryError(f"cannot listen on {address}: {error.strerror}", "ss -ltnp", 1) from error
