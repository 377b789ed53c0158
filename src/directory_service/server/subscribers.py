# SPDX-License-Identifier: Apache-2.0
"""Which key's connection is which, so that those of a key that is gone can be cut.

What is asked is refused message by message, but pushes go out unasked for as long as a connection stands, and
ZeroMQ takes a subscription back only from the connection that it has just read from. So the connection
itself is ended: its client comes again, and is let in or not.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Set
from typing import Any

import zmq

Ends = tuple[Any, Any]  # both addresses of a TCP connection


class Subscribers:
    """Remembers the descriptor of each connection over TCP that has subscribed, with its two ends: a number
    may be given out again, the ends tell."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[str, Ends]] = {}

    def heard(self, frame: zmq.Frame, key: str) -> None:
        """Take note of a subscription that came from the connection of a key."""
        try:
            descriptor = int(frame.get("__fd"))
            with _open(descriptor) as connection:
                self._of[descriptor] = (key, _ends(connection))
        except (OSError, ValueError, zmq.ZMQError):
            return  # it is gone already

    def cut(self, keys: Set[str]) -> int:
        """End the connections of some keys; returns how many there were."""
        count = 0
        for descriptor, (key, ends) in list(self._of.items()):
            if key not in keys:
                continue
            del self._of[descriptor]
            try:
                with _open(descriptor) as connection:
                    if _ends(connection) == ends:
                        connection.shutdown(socket.SHUT_RDWR)
                        count += 1
            except OSError:
                continue
        return count


def _open(descriptor: int) -> socket.socket:
    """Return the socket of a descriptor under one of our own: it stays what it is while we look at it."""
    return socket.socket(fileno=os.dup(descriptor))


def _ends(connection: socket.socket) -> Ends:
    return connection.getsockname(), connection.getpeername()
