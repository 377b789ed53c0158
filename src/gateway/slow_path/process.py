# SPDX-License-Identifier: Apache-2.0
"""`vnet-gateway slow-path`: carries what the resolver decides between the data plane and the directory.

One thread and one poller over the rings' doorbell and the directory's sockets. Each turn takes all that has
come, pushes before answers before misses, lets the resolver decide, and sends one message per batch. What
finds no room in the install ring waits here in its order, and no new misses are taken meanwhile.

Either side may vanish at any time: the directory client finds the next server, and the data plane's socket is
tried again every few milliseconds; a data plane that comes back is told everything.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections import deque
from typing import Any

import numpy as np
import zmq

from directory_client.client import DirectoryClient
from directory_client.events import Changed, Failed, Located, Resolved, ServerChanged, Snapshot
from directory_client.keys import client_keys
from directory_client.process.notify import notify
from directory_client.realm import RealmPin
from directory_client.wire.greeting import Load
from directory_client.wire.limits import FACTS_MAX
from fastpath.records import join
from fastpath.rings import DataPlaneUnreachable, RingClient
from gateway.configuration.configuration import Configuration
from gateway.processes.instance import instance
from gateway.processes.reloading import Reloading
from gateway.processes.report import DirectoryUse, WorkerStatistics
from gateway.processes.reporter import Reporter
from gateway.slow_path.announcement import described
from gateway.slow_path.latency import Latency
from gateway.slow_path.names import Names
from gateway.slow_path.resolver import Resolver
from gateway.slow_path.room import by_table, to_declare

log = logging.getLogger(__name__)

DRAIN_MAX = 8_192
BACKLOG_MAX = 16_384  # records that wait for room before no more misses are taken
RECONNECT_S = 0.02
BACKLOG_WAIT_S = 0.001
CONNECT_TIMEOUT_S = 1.0
SUBSCRIBE_S = 3.0  # the directory is asked without a data plane if none comes for so long
STATISTICS_S = 1.0
COLLECT_S, COLLECT_BUSY_S = 30.0, 600.0  # a quiet moment is waited for, but not for ever

Rows = np.ndarray[Any, Any]


class SlowPath:
    """One worker. `run` returns after `stop`."""

    def __init__(self, configuration: Configuration, worker: int) -> None:
        workers = configuration.threads.slow_path_workers
        self._configuration = configuration
        self._worker, self._workers = worker, workers
        self._name = f"slow-path-{worker}"
        self._context: zmq.Context[Any] = zmq.Context()
        self._reporter = Reporter(self._context, configuration.control_inbox, self._name)
        self._client = self._directory_client()
        wait_s = configuration.hold.wait_ms / 1000
        self._resolver = Resolver(worker, workers, wait_s)
        self._names = Names()
        self._ring: RingClient | None = None
        self._backlog: deque[Rows] = deque()
        self._backlog_rows = 0
        self._reconnect_s = 0.0
        self._report_s = 0.0
        self._latency = Latency()
        self._collected_s = time.monotonic()
        self._busy_s = 0.0
        self._cpu_s = time.process_time()
        self._why_apart = ""
        self._subscribe_s: float | None = None  # when at the latest; None: done
        self._poller = zmq.Poller()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_w.setblocking(False)
        self._stopping = False
        self._hung_up = False
        self._reloading = Reloading(self._name, configuration, self._take)

    def hang_up(self) -> None:
        """Read gateway.toml again soon. May be called from a signal handler."""
        self._hung_up = True
        with contextlib.suppress(BlockingIOError):
            self._wake_w.send(b"\0")

    def _take(self, configuration: Configuration) -> None:
        self._resolver.wait_s = configuration.hold.wait_ms / 1000
        if configuration.identity is not None:
            self._client.accept_server_keys(configuration.identity.directory_public_key)

    def stop(self) -> None:
        """End `run`. May be called from a signal handler."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):  # full: it is being woken already
            self._wake_w.send(b"\0")

    def run(self) -> None:
        """Serve until stopped."""
        self._poller.register(self._wake_r, zmq.POLLIN)
        for directory_socket in self._client.sockets:
            self._poller.register(directory_socket, zmq.POLLIN)
        self._subscribe_s = time.monotonic() + SUBSCRIBE_S
        notify("READY=1")
        gc.disable()  # it would stop here for milliseconds whenever there was most to do
        try:
            while not self._stopping:
                ready = self._wait()
                began_s = time.monotonic()
                if self._hung_up:
                    self._hung_up = False
                    self._wake_r.recv(64)
                    self._reloading.on_signal()
                self._turn(ready, began_s)
                self._busy_s += time.monotonic() - began_s
        finally:
            gc.enable()
            self._disconnect()
            self._client.close()
            self._reporter.close()
            self._context.term()

    # -- one turn ------------------------------------------------------------------------------

    def _wait(self) -> set[Any] | None:
        """Sleep until there is something to do. Returns what is readable; None: that is not known."""
        if self._ring is not None and not self._backlog and not self._ring.prepare_sleep():
            return None
        ready = {key for key, _ in self._poller.poll(self._timeout_ms())}
        if self._ring is not None:
            self._ring.woke()
        return ready

    def _timeout_ms(self) -> int:
        now_s = time.monotonic()
        due = [now_s + self._client.timeout_ms() / 1000, self._report_s]
        if (at := self._resolver.due_s()) is not None:
            due.append(at)
        if self._subscribe_s is not None:
            due.append(self._subscribe_s)
        if self._ring is None:
            due.append(self._reconnect_s)
        elif (at := self._resolver.announcements_due_s()) is not None:
            due.append(at)
        if self._backlog:
            due.append(now_s + BACKLOG_WAIT_S)
        # Rounded up: a poll that ends just too early would be followed by another of no length.
        return max(0, -int(-(min(due) - now_s) * 1000 // 1))

    def _turn(self, ready: set[Any] | None, now_s: float) -> None:
        for event in self._client.receive(ready):
            self._on_event(event, now_s)
        self._resolver.reached(self._client.followed)
        if self._ring is None and now_s >= self._reconnect_s:
            self._connect(now_s)
        if self._subscribe_s is not None and now_s >= self._subscribe_s:
            self._subscribe()
        try:
            if self._ring is not None:
                self._with_data_plane(self._ring, ready, now_s)
        except DataPlaneUnreachable as error:
            self._lost(error, now_s)
        self._resolver.tick(now_s)
        self._ask(now_s)
        if now_s >= self._report_s:
            self._report(now_s)

    def _with_data_plane(self, ring: RingClient, ready: set[Any] | None, now_s: float) -> None:
        if ready is not None and ring.connection_fileno() in ready:
            raise DataPlaneUnreachable(ring.path, "the data plane hung up", "it is started again by itself")
        if self._backlog_rows < BACKLOG_MAX:
            self._resolver.records(ring.drain(DRAIN_MAX), now_s)
        if (revision := self._resolver.take_in_force()) is not None:
            self._say_room()  # a heartbeat that reports a revision says what of it found no room
            self._client.applied(revision)
        self._resolver.announce(now_s)
        self._send(ring)

    def _send(self, ring: RingClient) -> None:
        records = self._resolver.take_records()
        if records:
            batch = join(records)
            self._backlog.append(batch)
            self._backlog_rows += len(batch)
        while self._backlog:
            sent = ring.send(self._backlog[0])
            self._backlog_rows -= sent
            if sent < len(self._backlog[0]):
                self._backlog[0] = self._backlog[0][sent:]
                return
            self._backlog.popleft()

    def _ask(self, now_s: float) -> None:
        for batch in self._resolver.take_questions(now_s):
            self._resolver.asked(self._client.send_resolve(batch.queries()), batch, now_s)
        for key in self._resolver.take_locators():
            wire_id, protocol = int.from_bytes(key[32:36], "little"), key[36]
            self._resolver.asked_locator(
                self._client.send_locator(key[:16], key[16:32], protocol, wire_id), key
            )

    def _say_room(self) -> list[tuple[int, str, str]]:
        """Have heartbeats say what finds no room here; returns it."""
        lacking = self._resolver.no_room()
        self._client.set_heartbeat(no_room=[list(row) for row in to_declare(lacking)[:FACTS_MAX]])
        return lacking

    # -- the directory -------------------------------------------------------------------------

    def _directory_client(self) -> DirectoryClient:
        configuration = self._configuration
        identity = configuration.identity
        client = DirectoryClient(
            configuration.directory_endpoints,
            node=configuration.name,
            role="slow-path",
            worker=self._worker,
            workers=self._workers,
            instance=instance(configuration.runtime_dir),
            keys=client_keys(identity.key_file, identity.directory_public_key) if identity else None,
            context=self._context,
            pin=RealmPin(configuration.realm_file, keeps=False),  # control does
        )
        client.set_heartbeat(
            locators=list(configuration.locators),
            ports=[port.name for port in configuration.ports.values() if port.is_inside],
        )
        return client

    def _on_event(self, event: object, now_s: float) -> None:
        match event:
            case Resolved():
                if (batch := self._resolver.answered(event, now_s)) is not None:
                    self._latency.add(now_s - batch.asked_s)
            case Changed():
                self._names.take(event.operations)
                self._resolver.changed(event)
                self._tell_arrivals(event)
            case Snapshot():
                self._names.begin(event.incarnation)
                for _, operations in event.vnets:
                    self._names.take(operations)
                self._resolver.snapshot(event)
                log.info("directory snapshot revision=%d vnets=%d", event.revision, len(event.vnets))
            case Located():
                self._resolver.located(event, now_s)
            case Failed():
                self._resolver.failed(event.id, now_s, refused=event.code == 2)
            case ServerChanged():
                self._on_server(event)

    def _on_server(self, event: ServerChanged) -> None:
        answering = event.active is not None
        if answering != self._resolver.answering:
            why = event.why or f"{event.endpoint} does not answer"
            text = f"{event.active} answers" if answering else why
            # Control, which has a client of its own, makes the event: one loss is one event.
            log.log(logging.INFO if answering else logging.WARNING, "directory: %s", text)
        self._resolver.state(answering)

    def _tell_arrivals(self, change: Changed) -> None:
        for operation in change.operations:
            if operation["op"] == "announce":
                self._reporter.tell("endpoint_arrived", f"{described(operation, change.vni)} is here now")
            elif operation["op"] == "announce_left":
                self._reporter.tell("endpoint_left", f"{described(operation, change.vni)} has left")

    # -- the data plane ------------------------------------------------------------------------

    def _connect(self, now_s: float) -> None:
        path = self._configuration.data_plane_socket
        ring: RingClient | None = None
        try:
            ring = RingClient(path, "slow-path", self._worker, self._workers, CONNECT_TIMEOUT_S)
            rows = self._vnets_there(ring)
        except DataPlaneUnreachable as error:
            if ring is not None:
                ring.close()
            self._reconnect_s = now_s + RECONNECT_S
            if error.problem != self._why_apart:  # once for each reason, not fifty times a second
                self._why_apart = error.problem
                log.info("data plane: %s", error)
            return
        self._ring = ring
        self._why_apart = ""
        self._poller.register(ring.fileno(), zmq.POLLIN)
        self._poller.register(ring.connection_fileno(), zmq.POLLIN)
        self._resolver.connected({row["vni"]: (row["incarnation"], row["in_force"]) for row in rows})
        self._subscribe()
        newest = max(rows, key=_newest_of, default=None)
        if newest is not None:
            self._client.knows(newest["incarnation"], _newest_of(newest))
        log.info("data plane: connected adopted=%s vnets=%d", ring.answer.get("adopted"), len(rows))
        self._reporter.tell("data_plane_found", f"{self._name} is connected to the data plane")

    def _subscribe(self) -> None:
        """Ask the directory for everything, once: it is told what is in force in the data plane, if that is
        there."""
        if self._subscribe_s is None:
            return
        self._subscribe_s = None
        self._client.subscribe(lambda vni: vni % self._workers == self._worker, self._resolver.in_force)

    def _vnets_there(self, ring: RingClient) -> list[dict[str, Any]]:
        """Ask which of our V-nets the data plane has, and what is in force there: what the directory has
        removed meanwhile is removed, and what it has forbidden is closed."""
        mine: list[dict[str, Any]] = []
        cursor: int | None = 0
        while cursor is not None:
            answer = ring.ask({"dump": "vnets", "cursor": cursor, "limit": 512})
            rows = answer.get("rows")
            if not isinstance(rows, list):
                raise DataPlaneUnreachable(ring.path, "an answer without rows", "connect anew")
            mine += [row for row in rows if row["vni"] % self._workers == self._worker]
            cursor = answer.get("cursor")
        return mine

    def _lost(self, error: DataPlaneUnreachable, now_s: float) -> None:
        log.warning("data plane: %s", error)
        self._reporter.tell("data_plane_lost", f"{self._name}: {error.problem}")
        self._disconnect()
        self._reconnect_s = now_s

    def _disconnect(self) -> None:
        if self._ring is None:
            return
        self._poller.unregister(self._ring.fileno())
        self._poller.unregister(self._ring.connection_fileno())
        self._ring.close()
        self._ring = None
        self._backlog.clear()
        self._backlog_rows = 0

    # -- statistics ----------------------------------------------------------------------------

    def _collect(self, now_s: float) -> None:
        """Look for garbage in cycles, of which there is hardly any, while nobody waits."""
        since_s = now_s - self._collected_s
        if since_s > COLLECT_BUSY_S or (since_s > COLLECT_S and not self._resolver.waiting()):
            gc.collect()
            self._collected_s = now_s

    def _report(self, now_s: float) -> None:
        self._report_s = now_s + STATISTICS_S
        self._collect(now_s)
        cpu_s = time.process_time()
        counters = self._resolver.counters
        self._client.set_heartbeat(load=Load(counters["misses"], self._resolver.waiting()))
        p50_us, p99_us = self._latency.recent_percentiles_us(0.5, 0.99)
        active = next((server for server in self._client.servers() if server.active), None)
        self._reporter.report(
            WorkerStatistics(
                pid=os.getpid(),
                cpu=round((cpu_s - self._cpu_s) / STATISTICS_S, 4),
                misses=counters["misses"],
                batches=counters["batches"],
                asked=counters["asked"],
                busy_s=round(self._busy_s, 6),
                waiting=self._resolver.waiting(),
                backlog=self._backlog_rows,
                counters={**counters, "messages_malformed": self._client.malformed},
                no_room=by_table(self._say_room()),
                names=self._names.next(),
                names_of=self._names.incarnation,
                directory_us_bucket=self._latency.bucket,
                directory=DirectoryUse(
                    name=active.name if active else "",
                    endpoint=active.endpoint if active else "",
                    revision=active.revision if active else 0,
                    incarnation=active.incarnation if active else 0,
                    answering=bool(self._resolver.answering),
                    p50_us=p50_us,
                    p99_us=p99_us,
                ),
            )
        )
        self._cpu_s = cpu_s


def _newest_of(row: dict[str, Any]) -> int:
    return int(max(row["revision"], row["in_force"]))


def run(configuration: Configuration, worker: int) -> None:
    """Run a worker in the calling (main) thread until SIGTERM or SIGINT."""
    slow_path = SlowPath(configuration, worker)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda _signum, _frame: slow_path.stop())
    signal.signal(signal.SIGHUP, lambda _signum, _frame: slow_path.hang_up())
    slow_path.run()
