# SPDX-License-Identifier: Apache-2.0
"""How far a client gets towards a server, and what stands in the way: for sentences, and for trying again.

ZeroMQ itself only queues and tries. Its monitor tells what came of a connection: refused keys, other keys,
other programs. That nobody answers or nobody listens it does not tell apart: a connection of our own is tried
beside it (`Probe`), which says why there is none.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any

import zmq

from directory_client.endpoint import Endpoint

PROBE_EVERY_S = 2.0
PROBE_PATIENCE_S = 2.0  # one lost SYN is sent again after 1 s
NAME_UNKNOWN = -1  # instead of an errno
CONNECTING_S = 0.3  # for so long a connection may take before it is asked why
ENDS_MAX = 2  # handshakes that the other side ended in a row
EVENTS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


class Stage(Enum):
    """What is known of the way to a server."""

    UNKNOWN = "unknown"
    REACHED = "reached"  # somebody took the connection
    SERVED = "served"  # … and knows our key
    KEY_REFUSED = "key refused"
    OTHER_KEY = "other key"  # the server's is not the one that we were given
    NO_DIRECTORY = "no directory"  # another program
    NO_LISTENER = "no listener"
    NO_HOST = "no host"
    NO_NAME = "no name"  # of a host that is known here
    NOT_ALLOWED = "not allowed"  # the permissions of an ipc socket


# What does not pass by itself soon; where nobody listens a directory may just be starting, and a host that
# took a connection is given the time of an answer.
FINAL = frozenset(
    {
        Stage.KEY_REFUSED,
        Stage.OTHER_KEY,
        Stage.NO_DIRECTORY,
        Stage.NOT_ALLOWED,
        Stage.NO_HOST,
        Stage.NO_NAME,
    }
)


_UNREACHED = frozenset({Stage.UNKNOWN, Stage.NO_LISTENER, Stage.NO_HOST, Stage.NO_NAME, Stage.NOT_ALLOWED})


@dataclass(slots=True)
class Approach:
    """One server's. `heard` takes what the monitor says, `probed` what a connection of our own found."""

    stage: Stage = Stage.UNKNOWN
    ended: int = 0  # handshakes in a row that the other side ended
    since: float | None = None  # of having no connection

    def heard(self, event: int) -> None:
        """Take an event of the monitor."""
        if event == zmq.EVENT_CONNECTED:
            self.since = None
            if self.stage in _UNREACHED:
                self.stage = Stage.REACHED
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.stage, self.ended = Stage.SERVED, 0
        elif event == zmq.EVENT_DISCONNECTED and self.stage in (Stage.SERVED, Stage.REACHED):
            self.stage = Stage.UNKNOWN
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.stage, self.ended = Stage.KEY_REFUSED, 0
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self.stage, self.ended = Stage.NO_DIRECTORY, 0
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self.ended += 1
            if self.ended >= ENDS_MAX:
                self.stage = Stage.OTHER_KEY

    @property
    def is_other_key(self) -> bool:
        """Whether the server has another key than the one that is tried."""
        return self.ended >= ENDS_MAX

    def try_again(self, has_untried: bool) -> None:
        """Begin anew with another key; `has_untried`: what is known now says nothing of all keys."""
        self.ended = 0
        if has_untried and self.stage is Stage.OTHER_KEY:
            self.stage = Stage.UNKNOWN

    def wants_probe(self, now: float) -> bool:
        """Say whether there is no connection, for longer than one takes."""
        if self.stage in (Stage.SERVED, Stage.REACHED):
            self.since = None
            return False
        self.since = now if self.since is None else self.since
        return now - self.since >= CONNECTING_S

    def probed(self, number: int) -> None:
        """Take the errno of a connection of our own; 0: it was taken."""
        if number == NAME_UNKNOWN:
            self.stage = Stage.NO_NAME
        elif number in (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTSOCK):
            self.stage = Stage.NO_LISTENER
        elif number in (errno.EACCES, errno.EPERM):
            self.stage = Stage.NOT_ALLOWED
        elif number:
            self.stage = Stage.NO_HOST


class Probe:
    """A connection that nobody waits for: what becomes of it is looked at now and then. `looks_up`: a name is
    looked up first, and waited for, which only a tool may do; else nothing is found out of one."""

    def __init__(self, endpoint: Endpoint, looks_up: bool = False) -> None:
        self._endpoint = endpoint
        self._looks_up = looks_up
        self._address = _address_of(endpoint)
        self._socket: socket.socket | None = None
        self._deadline = 0.0
        self._next_at = 0.0

    def look(self, now: float) -> int | None:
        """Begin or go on; returns an errno (0: connected) or NAME_UNKNOWN where it has come to an end, else
        None."""
        if self._socket is None:
            if now < self._next_at:
                return None
            self._next_at = now + PROBE_EVERY_S
            if self._address is None and self._looks_up:
                self._address = _look_up(self._endpoint)
                if self._address is None:
                    return NAME_UNKNOWN
            if self._address is None:
                return None
            family, place = self._address
            self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self._deadline = now + PROBE_PATIENCE_S
            number = self._socket.connect_ex(place)
            return None if number == errno.EINPROGRESS else self._end(number)
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLOUT)
        if poller.poll(0):
            return self._end(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        return self._end(errno.ETIMEDOUT) if now >= self._deadline else None

    def close(self) -> None:
        """Give up what is under way."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _end(self, number: int) -> int:
        self.close()
        return number


def describe(approach: Approach, endpoint: Endpoint, public_key: str) -> tuple[str, str]:
    """Return what stands in the way and what to type; empty where nothing is known."""
    place = endpoint.name.removeprefix("tcp://")
    host = place.rpartition(":")[0]
    match approach.stage:
        case Stage.KEY_REFUSED:
            return (
                f"it does not know our key {public_key}",
                "add [[client]] with this public_key to its directory.toml, then vnetctl reload there",
            )
        case Stage.OTHER_KEY:
            return (
                "it ends each connection: its key is no directory_public_key that we were given",
                "vnet-directory keygen KEY_FILE on its machine prints the right one",
            )
        case Stage.NO_DIRECTORY:
            return f"what listens at {place} is no directory with a key", "look at the port in its listen"
        case Stage.NO_LISTENER if endpoint.local:
            return (
                f"nobody listens in {endpoint.directory}",
                f"start the directory; ls -l {endpoint.directory}",
            )
        case Stage.NO_LISTENER:
            return (
                f"its host answers, but nobody listens at {place}",
                "systemctl status vnet-directory on its machine, and listen in its directory.toml",
            )
        case Stage.NO_HOST:
            return f"host {host} does not answer", f"ping {host}; ip route get {host}; and firewalls between"
        case Stage.NO_NAME:
            return f"no address is known for the name {host}", f"getent hosts {host}"
        case Stage.NOT_ALLOWED:
            return (
                f"this user may not use the sockets in {endpoint.directory}",
                f"sudo, or the group of ls -l {endpoint.directory}",
            )
        case Stage.SERVED | Stage.REACHED:
            return "it takes connections, but does not answer", "look at its log and load on its machine"
        case _:
            return "", ""


def event_of(frames: list[bytes]) -> int:
    """Return which event a monitor's message tells; 0 for what is none."""
    return int(struct.unpack_from("=H", frames[0])[0]) if frames and len(frames[0]) >= 6 else 0


def _address_of(endpoint: Endpoint) -> tuple[int, Any] | None:
    """Return where to connect to; None where a name would have to be looked up, which takes its time."""
    if endpoint.local:
        return socket.AF_UNIX, os.fspath(endpoint.resolve.removeprefix("ipc://"))
    host, port = _host_of(endpoint)
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family, (host, port)
    return (socket.AF_INET, ("127.0.0.1", port)) if host == "localhost" else None


def _look_up(endpoint: Endpoint) -> tuple[int, Any] | None:
    """Return where to connect to for a name; None: nobody knows it. Takes as long as the resolver does."""
    try:
        found = socket.getaddrinfo(*_host_of(endpoint), type=socket.SOCK_STREAM)
    except OSError:
        return None
    family, _, _, _, place = found[0]
    return family, place


def _host_of(endpoint: Endpoint) -> tuple[str, int]:
    host, _, port = endpoint.resolve.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)
