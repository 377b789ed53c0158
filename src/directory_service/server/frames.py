# SPDX-License-Identifier: Apache-2.0
"""Objects over a socket pair between a process and its own child: a length, and a pickle. Never blocks the
side that says so."""

from __future__ import annotations

import pickle
import socket
import struct
from collections import deque
from typing import Any

_LENGTH = struct.Struct(">Q")
_READ_BYTES = 1 << 20


class Link:
    """One end. `send` queues, `flush` and `receive` move what can be moved at once (where the socket does not
    block), or wait (where it does)."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        self.is_closed = False

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    @property
    def has_to_send(self) -> bool:
        """Whether to poll for writing too."""
        return bool(self._out)

    def send(self, value: Any) -> None:
        """Queue an object, and send what can be sent."""
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._out += (memoryview(_LENGTH.pack(len(data))), memoryview(data))
        self.flush()

    def flush(self) -> None:
        """Send what can be sent."""
        while self._out and not self.is_closed:
            try:
                sent = self._socket.send(self._out[0])
            except BlockingIOError:
                return
            except OSError:  # the other end is gone
                self.is_closed = True
                return
            rest = self._out[0][sent:]
            if rest:
                self._out[0] = rest
            else:
                self._out.popleft()

    def receive(self) -> list[Any]:
        """Return the objects that have come whole. At the end of the stream `is_closed` is set."""
        try:
            data = self._socket.recv(_READ_BYTES)
            self.is_closed = self.is_closed or not data
            self._in += data
        except BlockingIOError:
            pass
        except OSError:
            self.is_closed = True
        found = []
        while len(self._in) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._in)[0]
            if len(self._in) < end:
                break
            found.append(pickle.loads(memoryview(self._in)[_LENGTH.size : end]))  # of our own child or parent
            del self._in[:end]
        return found

    def close(self) -> None:
        """Close this end."""
        self.is_closed = True
        self._socket.close()
