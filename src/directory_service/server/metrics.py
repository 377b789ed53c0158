# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads: GET /metrics, served in the server's own poller, without threads.

One answer a connection; a client that is slow or sends much is cut off.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from directory_client.wire.messages import DirectoryError
from directory_service.protocol.dispatcher import Dispatcher

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 16
PATIENCE_S = 2.0
REQUEST_BYTES_MAX = 8_192


class DirectoryCollector(Collector):
    """The directory's counters and state under the names of the screens."""

    def __init__(self, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self._dispatcher = dispatcher
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """Yield every metric."""
        dispatcher = self._dispatcher
        requests = CounterMetricFamily("vnet_directory_requests", "Messages served, by type", labels=["type"])
        others: list[Metric] = []
        for name, value in sorted(dispatcher.counters.items()):
            kind = name.removeprefix("requests_")
            if kind != name:
                requests.add_metric([kind], value)
            else:
                others.append(
                    CounterMetricFamily(f"vnet_directory_{name}", name.replace("_", " "), value=value)
                )
        yield requests
        yield from others
        yield CounterMetricFamily(
            "vnet_directory_trims_failed",
            "Times that old history could not be forgotten",
            value=dispatcher.counters["trims_failed"],
        )
        published = dispatcher.publisher.published
        yield CounterMetricFamily("vnet_directory_published", "Changes pushed to gateways", value=published)
        revision = dispatcher.directory.revision
        yield GaugeMetricFamily(
            "vnet_directory_revision", "Revision that answers are given at", value=revision
        )
        yield GaugeMetricFamily(
            "vnet_directory_unreadable",
            "Records of a newer program that cannot be read",
            value=len(dispatcher.directory.unreadable),
        )
        alive = dispatcher.gateways.alive_count(self._clock())
        yield GaugeMetricFamily("vnet_directory_gateways", "Gateways heard lately", value=alive)


@dataclass(slots=True)
class _Visit:
    socket: socket.socket
    until: float
    request: bytes = b""
    answer: memoryview | None = field(default=None)


class MetricsPage:
    """A listening socket and its few connections, all non-blocking."""

    def __init__(self, host: str, port: int, collector: Collector) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((host, port))
            self._listener.listen(CONNECTIONS_MAX)
        except OSError as error:
            self._listener.close()
            raise DirectoryError(
                f"metrics cannot listen on {host}:{port}: {error.strerror}", "ss -ltnp"
            ) from error
        self._listener.setblocking(False)
        self._visits: list[_Visit] = []

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._listener.getsockname()[1])

    def descriptors(self) -> Sequence[int]:
        """Give the file descriptors to poll for reading."""
        return [self._listener.fileno(), *(visit.socket.fileno() for visit in self._visits)]

    def serve(self, now: float) -> None:
        """Accept, read, answer: what can be done without blocking."""
        while len(self._visits) < CONNECTIONS_MAX:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break  # nobody waits (any more)
            connection.setblocking(False)
            self._visits.append(_Visit(connection, now + PATIENCE_S))
        for visit in list(self._visits):
            if now > visit.until or self._attend(visit):
                visit.socket.close()
                self._visits.remove(visit)

    def close(self) -> None:
        """Close everything."""
        for visit in self._visits:
            visit.socket.close()
        self._visits.clear()
        self._listener.close()

    def _attend(self, visit: _Visit) -> bool:
        """Go on with one connection; True: it is finished."""
        try:
            if visit.answer is None:
                data = visit.socket.recv(REQUEST_BYTES_MAX)
                visit.request += data
                if not data or len(visit.request) > REQUEST_BYTES_MAX:
                    return True
                if b"\r\n\r\n" not in visit.request:
                    return False
                visit.answer = memoryview(self._answer(visit.request))
            visit.answer = visit.answer[visit.socket.send(visit.answer) :]
            return not visit.answer
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _answer(self, request: bytes) -> bytes:
        words = request.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or words[0] != b"GET":
            return _page(b"405 Method Not Allowed", b"only GET\n")
        if words[1].split(b"?")[0] != b"/metrics":
            return _page(b"404 Not Found", b"/metrics\n")
        return _page(b"200 OK", generate_latest(self._registry))


def _page(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 " + status + b"\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
    return head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
