# SPDX-License-Identifier: Apache-2.0
"""How many descriptors a server may have, and what it does when they run out.

libzmq ends the process (SIGABRT) when an ipc listener cannot accept for want of a descriptor, and uses a
whole core when a TCP listener cannot (zeromq/libzmq#1306). So a server raises its limit, counts, and takes
its listeners away while few are left: those who are connected are served, others find nobody listening
until there is room again. What others can reach over TCP is taken away first.

    admission = Admission([socket], raise_limit())
    admission.add(Listener("ipc:///run/x", close, open, is_local=True))
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

log = logging.getLogger(__name__)

REMOTE_SHARE = 0.60  # of all descriptors: beyond it nobody new is taken over TCP
LOCAL_SHARE = 0.75  # nor on this machine; the rest is what may come until that has had its effect
LOOK_CONNECTIONS = 64  # of each socket are let in between two counts
OPEN_AGAIN_S = 0.5


def raise_limit() -> int:
    """Raise the soft limit of descriptors to the hard one; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log.info("%d descriptors may be open (LimitNOFILE)", hard)
    return hard


def count_descriptors() -> int:
    """Count the descriptors that are open; the limit, if there is none left to count with."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@dataclass(frozen=True, slots=True)
class Listener:
    """A place where others connect. `close` and `open` may be called again and again; `open` may raise
    OSError."""

    name: str
    close: Callable[[], object]
    open: Callable[[], object]
    is_local: bool


class Admission:
    """Opens and closes the listeners of some sockets by how many descriptors are left.

    Poll `monitors`; call `look` when one is readable, and every OPEN_AGAIN_S while `is_full`. Accepting
    stops by itself while `look` is not called: libzmq's thread waits once 1000 connections of a socket have
    not been looked at, so that a thread that is busy elsewhere cannot be overrun either.
    """

    def __init__(
        self,
        sockets: Sequence[zmq.Socket[Any]],
        limit: int,
        count: Callable[[], int] = count_descriptors,
    ) -> None:
        self._sockets = sockets
        self._limit = limit
        self._count = count
        self._listeners: list[Listener] = []
        self._closed: set[Listener] = set()
        self._closed_at = 0.0
        self.closings = 0
        self.monitors = [_monitor(socket) for socket in sockets]

    def add(self, listener: Listener) -> None:
        """Take charge of a listener that is open."""
        self._listeners.append(listener)

    @property
    def is_full(self) -> bool:
        """Say whether somebody may wait to get in."""
        return bool(self._closed)

    def look(self, now: float) -> None:
        """Count, and close or open what is to be."""
        self._drain(LOOK_CONNECTIONS)
        used = self._count()
        for listener in self._listeners:
            share = LOCAL_SHARE if listener.is_local else REMOTE_SHARE
            if listener not in self._closed:
                if used > share * self._limit:
                    self._close(listener, used, now)
            elif used < 0.9 * share * self._limit and now - self._closed_at >= OPEN_AGAIN_S:
                self._open(listener, now)

    def end(self) -> None:
        """Stop watching. libzmq's thread may wait for us: it is let go first."""
        for socket, monitor in zip(self._sockets, self.monitors, strict=True):
            self._drain(1 << 20)
            socket.disable_monitor()
            monitor.close(0)
        self.monitors = []

    def _drain(self, limit: int) -> None:
        for monitor in self.monitors:
            for _ in range(limit):
                try:
                    monitor.recv_multipart(zmq.NOBLOCK)
                except zmq.ZMQError:
                    break

    def _close(self, listener: Listener, used: int, now: float) -> None:
        log.error(
            "%d of %d descriptors are open: nobody new is taken on %s. fix: raise LimitNOFILE; ss -xtnp",
            used,
            self._limit,
            listener.name,
        )
        listener.close()
        self._closed.add(listener)
        self._closed_at = now
        self.closings += 1

    def _open(self, listener: Listener, now: float) -> None:
        try:
            listener.open()
        except (OSError, zmq.ZMQError) as error:
            log.error("%s cannot be opened again yet: %s", listener.name, error)
            self._closed_at = now
            return
        self._closed.remove(listener)
        log.warning("%s is open again", listener.name)


def _monitor(socket: zmq.Socket[Any]) -> zmq.Socket[Any]:
    """Make a socket that is readable when `socket` has accepted a connection."""
    address = f"inproc://accepted-{id(socket)}"
    socket.monitor(address, zmq.EVENT_ACCEPTED)
    monitor: zmq.Socket[Any] = socket.context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.RCVHWM, 1)
    monitor.setsockopt(zmq.LINGER, 0)
    monitor.connect(address)
    return monitor
