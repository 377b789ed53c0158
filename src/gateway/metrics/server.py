# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server for `GET /metrics`, driven by the caller's poller: no threads, nothing waits.

Requests are hostile: at most 8 KB, five seconds and 32 connections at a time; one answer, then the connection
is closed.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

REQUEST_BYTES_MAX = 8192
CONNECTIONS_MAX = 32
TIMEOUT_S = 5.0


@dataclass
class Connection:
    socket: socket.socket
    deadline_s: float
    request: bytes = b""
    answer: memoryview | None = None
    answered: bool = False  # waits for the other side to close: else a reset could take the answer away


class MetricsServer:
    """Listens on HOST:PORT. Poll `descriptors()`, call `ready` and, now and then, `tick`."""

    def __init__(
        self, listen: str, content_type: str, render: Callable[[], bytes], clock: Callable[[], float]
    ) -> None:
        host, _, port = listen.rpartition(":")
        self._render = render
        self._content_type = content_type
        self._clock = clock
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=16)
        self._listener.setblocking(False)
        self._connections: dict[int, Connection] = {}

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def descriptors(self) -> list[tuple[int, int]]:
        """Return (descriptor, poll events) of everything to poll."""
        full = len(self._connections) >= CONNECTIONS_MAX
        found = [] if full else [(self._listener.fileno(), select.POLLIN)]
        for descriptor, connection in self._connections.items():
            found.append((descriptor, select.POLLOUT if connection.answer else select.POLLIN))
        return found

    def owns(self, descriptor: int) -> bool:
        return descriptor == self._listener.fileno() or descriptor in self._connections

    def ready(self, descriptor: int) -> None:
        if descriptor == self._listener.fileno():
            self._accept()
            return
        connection = self._connections.get(descriptor)
        if connection is None:
            return
        try:
            if connection.answered:
                if not connection.socket.recv(REQUEST_BYTES_MAX):
                    self._close(connection)
                return
            if connection.answer is None:
                self._read(connection)
            if connection.answer:
                self._write(connection)
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("metrics: %s", error)
            self._close(connection)

    def tick(self) -> None:
        now = self._clock()
        for connection in [c for c in self._connections.values() if now > c.deadline_s]:
            self._close(connection)

    def close(self) -> None:
        for connection in list(self._connections.values()):
            self._close(connection)
        self._listener.close()

    def _accept(self) -> None:
        try:
            made, _ = self._listener.accept()
        except OSError as error:
            log.debug("metrics: %s", error)
            return
        made.setblocking(False)
        self._connections[made.fileno()] = Connection(made, self._clock() + TIMEOUT_S)

    def _read(self, connection: Connection) -> None:
        data = connection.socket.recv(REQUEST_BYTES_MAX)
        if not data:
            self._close(connection)
            return
        connection.request += data
        if b"\r\n\r\n" in connection.request or b"\n\n" in connection.request:
            connection.answer = memoryview(self._respond(connection.request))
        elif len(connection.request) >= REQUEST_BYTES_MAX:
            connection.answer = memoryview(response("431 Request Header Fields Too Large", b"too long\n"))

    def _respond(self, request: bytes) -> bytes:
        words = request.split(b"\r\n", 1)[0].split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return response("400 Bad Request", b"this is no HTTP request\n")
        if words[0] not in (b"GET", b"HEAD"):
            return response("405 Method Not Allowed", b"only GET\n")
        if words[1].split(b"?")[0] not in (b"/metrics", b"/"):
            return response("404 Not Found", b"see /metrics\n")
        body = self._render()
        return response("200 OK", body, self._content_type, head=words[0] == b"HEAD")

    def _write(self, connection: Connection) -> None:
        assert connection.answer is not None
        connection.answer = connection.answer[connection.socket.send(connection.answer) :]
        if not connection.answer:
            connection.answered = True
            connection.socket.shutdown(socket.SHUT_WR)

    def _close(self, connection: Connection) -> None:
        self._connections.pop(connection.socket.fileno(), None)
        connection.socket.close()


def response(status: str, body: bytes, content_type: str = "text/plain", *, head: bool = False) -> bytes:
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(lines).encode() + (b"" if head else body)
