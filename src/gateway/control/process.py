# SPDX-License-Identifier: Apache-2.0
"""The process that people and Linux talk to: admin sockets, exception ports, next hops, events, metrics.

One thread, one poller; nothing here waits for anybody. It finds all others by their sockets and may be
killed at any time: what it knows it reads again from the data plane, the kernel and the directory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import zmq

from directory_client.process.descriptors import Admission, Listener, raise_limit
from directory_client.process.notify import notify
from directory_client.wire.limits import INBOX_BYTES_MAX
from gateway.configuration.configuration import Configuration
from gateway.control import inbox
from gateway.control.admin import Admin, AdminSocket
from gateway.control.data_plane_link import DataPlaneLink
from gateway.control.directory_link import DirectoryLink
from gateway.control.next_hops import NextHops
from gateway.control.reloading import reload
from gateway.metrics.collector import CONTENT_TYPE, Collector
from gateway.metrics.server import MetricsServer
from gateway.processes.process import is_gone
from gateway.processes.reloading import Reloading
from gateway.state.events import Events, adoption_text
from gateway.state.job import (
    DUMP_ROWS,
    Answer,
    AskDataPlane,
    Job,
    Refused,
    Steps,
    dump,
)
from gateway.state.state import State, read_names, read_table
from gateway.state.statistics import sample_of

log = logging.getLogger(__name__)

TICK_MS = 200
SAMPLE_S = 1.0
TABLES_S = 5.0
LOCATORS_S = 1.0
METRICS_AGAIN_S = 10.0
FRESH_UPTIME_S = 30.0


def run(configuration: Configuration) -> None:
    """Run control until SIGTERM or SIGINT."""
    control = Control(configuration)
    signal.signal(signal.SIGTERM, lambda *_: control.stop())
    signal.signal(signal.SIGINT, lambda *_: control.stop())
    signal.signal(signal.SIGHUP, lambda *_: control.hang_up())
    try:
        control.run()
    finally:
        control.close()


class Control:
    """All of control's parts and the loop that drives them."""

    def __init__(self, configuration: Configuration, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._context: zmq.Context[Any] = zmq.Context()
        self.state = State(configuration, package_version(), Events(configuration.name), clock)
        self._link = DataPlaneLink(configuration.data_plane_socket, clock, self._found, self._lost)
        self._directory = DirectoryLink(self.state, self._context, self._handle)
        self._hung_up = False
        self._reloading = Reloading("control", configuration, self._take)
        self._admin = Admin(
            self.state, self._link.ask, self._directory.ask, self._reload, self._directory.new_documents
        )
        self._next_hops: NextHops | None = None
        self._inbox = self._open_inbox()
        self._metrics = self._open_metrics(configuration.metrics.listen)
        # The admin socket comes last: whoever reaches it finds all others open.
        self._sockets = [
            AdminSocket(self._context, *where, self._admin, may_change=may_change)
            for where, may_change in (
                ((configuration.admin.show_socket, configuration.admin.show_group), False),
                ((configuration.admin.socket, configuration.admin.group), True),
            )
        ]
        self._admission = Admission([one.socket for one in self._sockets], raise_limit())
        for one in self._sockets:
            self._admission.add(Listener(one.name, one.shut, one.open, is_local=True))
        self._polled: dict[int, int] = {}
        self._poller = zmq.Poller()
        self._poller.register(self._wake_read, zmq.POLLIN)
        admin = (*(one.socket for one in self._sockets), *self._admission.monitors)
        for always in (*admin, self._inbox, *self._directory.sockets):
            self._poller.register(always, zmq.POLLIN)
        self._sample_s = self._tables_s = self._locators_s = self._metrics_s = 0.0
        self._sampling = self._reading_tables = False
        self._adoption_told: int | None = None

    def stop(self) -> None:
        """End the loop soon. May be called from a signal handler."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):  # full: it is being woken already
            os.write(self._wake_write, b"!")

    def hang_up(self) -> None:
        """Read gateway.toml again soon. May be called from a signal handler."""
        self._hung_up = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def close(self) -> None:
        if self._next_hops is not None:
            self._next_hops.close()
        if self._metrics is not None:
            self._metrics.close()
        self._link.close()
        self._admission.end()
        for admin_socket in self._sockets:
            admin_socket.close()
        self._inbox.close()
        self._directory.close()
        self._context.term()

    def run(self) -> None:
        """Drive everything until `stop`."""
        self._open_next_hops()
        log.info("control of %s listens at %s", self.state.node, self.state.configuration.admin.socket)
        notify("READY=1")
        while not self._stopping:
            self.turn()

    def turn(self) -> None:
        """Wait for something, at most a tick, and do what is due."""
        wanted: dict[int, int] = {d: zmq.POLLIN for d in (self._link.fileno(),) if d is not None}
        if self._next_hops is not None:
            wanted |= dict.fromkeys(self._next_hops.descriptors(), zmq.POLLIN)
        for descriptor, events in self._metrics.descriptors() if self._metrics else ():
            wanted[descriptor] = zmq.POLLOUT if events & select.POLLOUT else zmq.POLLIN
        self._poll_for(wanted)
        busy = self._next_hops is not None and self._next_hops.pending()
        ready = dict(self._poller.poll(0 if busy else min(TICK_MS, self._directory.timeout_ms())))
        if self._admission.is_full or any(monitor in ready for monitor in self._admission.monitors):
            self._admission.look(self._clock())
        for admin_socket in self._sockets:
            if admin_socket.socket in ready:
                admin_socket.readable()
        if self._inbox in ready:
            self._read_inbox()
        if self._link.fileno() in ready:
            self._link.readable()
        for descriptor in ready:
            if isinstance(descriptor, int) and self._metrics is not None and self._metrics.owns(descriptor):
                self._metrics.ready(descriptor)
        if self._hung_up:
            self._hung_up = False
            os.read(self._wake_read, 64)
            self._reloading.on_signal()
        self._tick()

    def _handle(self, request: dict[str, Any], answer: Callable[[Answer], None]) -> None:
        self._admin.handle(request, answer, may_change=False)

    # -- reading the file again

    def _reload(self) -> Job:
        return reload(self._reloading, self.state.configuration, self._clock)

    def _take(self, wanted: Configuration) -> None:
        """Take what control may take while it runs. Raises DirectoryError; nothing has changed then."""
        now = self.state.configuration
        if wanted.metrics != now.metrics:
            try:
                before, self._metrics = self._metrics, self._make_metrics(wanted.metrics.listen)
            except OSError as error:
                text = f"metrics cannot listen at {wanted.metrics.listen}: {error.strerror}"
                raise Refused(text, "ss -ltnp") from None
            self.state.metrics_problem = ""
            if before is not None:
                self._poll_for({})
                before.close()
        identity = now.identity
        if wanted.identity is not None and identity is not None:
            identity = replace(identity, directory_public_key=wanted.identity.directory_public_key)
            self._directory.accept_server_keys(identity.directory_public_key)
        groups = (wanted.admin.show_group, wanted.admin.group)
        for admin_socket, group in zip(self._sockets, groups, strict=True):
            admin_socket.give_to(group)
        self.state.configuration = replace(
            now,
            site=wanted.site,
            identity=identity,
            metrics=wanted.metrics,
            hold=wanted.hold,
            log=wanted.log,
            admin=replace(now.admin, show_group=groups[0], group=groups[1]),
        )

    def _poll_for(self, wanted: dict[int, int]) -> None:
        """Poll for these descriptors beside the sockets that are always polled for."""
        if wanted == self._polled:
            return
        for descriptor in self._polled.keys() - wanted.keys():
            self._poller.unregister(descriptor)
        for descriptor, events in wanted.items():
            self._poller.register(descriptor, events)
        self._polled = wanted

    # -- the parts' beginnings

    def _open_inbox(self) -> zmq.Socket[Any]:
        opened: zmq.Socket[Any] = self._context.socket(zmq.PULL)
        opened.set(zmq.LINGER, 0)
        opened.set(zmq.MAXMSGSIZE, INBOX_BYTES_MAX)
        opened.set(zmq.RCVHWM, 1024)
        before = os.umask(0o177)
        try:
            opened.bind(self.state.configuration.control_inbox)
        finally:
            os.umask(before)
        return opened

    def _make_metrics(self, listen: str) -> MetricsServer | None:
        if not listen:
            return None
        return MetricsServer(listen, CONTENT_TYPE, Collector(self.state).render, self._clock)

    def _open_metrics(self, listen: str) -> MetricsServer | None:
        try:
            opened = self._make_metrics(listen)
        except OSError as error:
            problem = f"cannot listen at {listen}: {error.strerror}"
            if problem != self.state.metrics_problem:
                log.warning("metrics: %s", problem)
            self.state.metrics_problem = problem
            return None
        self.state.metrics_problem = ""
        return opened

    def _open_next_hops(self) -> None:
        """Begin to follow the kernel; without the right to it control still answers."""
        if not any(port.is_underlay for port in self.state.configuration.ports.values()):
            return
        try:
            self._next_hops = NextHops(self.state)
        except OSError as error:
            log.error("netlink: %s; no next hops without it", error)

    # -- the data plane

    def _found(self, greeting: Answer) -> None:
        self.state.greeting = greeting
        self.state.statistics.clear()
        ports, threads = len(greeting.get("ports") or ()), greeting.get("threads")
        self.state.events.add(
            "data_plane_found",
            f"the data plane answers: {ports} ports, {threads} poll thread{'s' if threads != 1 else ''}",
        )
        log.info("the data plane answers")
        self._sample_s = self._tables_s = 0.0
        self._sampling = self._reading_tables = False
        if self._next_hops is not None:
            self._next_hops.connect()

    def _lost(self, why: str) -> None:
        self.state.greeting = None
        self.state.data_plane_why = why
        self.state.data_plane_lost_at = time.time()
        self.state.events.add("data_plane_lost", f"the data plane {why}")
        log.warning("the data plane %s", why)
        if self._next_hops is not None:
            self._next_hops.disconnect()

    def _sample(self) -> Job:
        counters = yield AskDataPlane({"dump": "counters"})
        ports = yield AskDataPlane({"dump": "ports", "cursor": 0, "limit": DUMP_ROWS})
        threads = yield AskDataPlane({"dump": "threads", "cursor": 0, "limit": DUMP_ROWS})
        sample = sample_of(self._clock(), counters, ports.get("rows", ()), threads.get("rows", ()))
        self.state.statistics.add(sample)
        self.state.adoption = counters.get("adoption") or {}
        self._tell_adoption(sample.counters.get("uptime_s"))
        return {}

    def _tell_adoption(self, uptime_s: float | None) -> None:
        greeting = self.state.greeting or {}
        incarnation = greeting.get("incarnation")
        if self._adoption_told == incarnation:
            return
        self._adoption_told = incarnation
        if greeting.get("adopted") and uptime_s is not None and uptime_s < FRESH_UPTIME_S:
            self.state.events.add("tables_adopted", adoption_text(self.state.adoption))

    def _read_tables(self) -> Steps:
        started = self._clock()
        yield from read_table(self.state, "tunnels", "tunnel")
        yield from read_table(self.state, "vnets", "vni")
        yield from read_names(self.state)
        # Large tables are read more rarely: a twentieth of the time at most.
        self._tables_s = self._clock() + max(TABLES_S, 20 * (self._clock() - started))
        return {}

    # -- time

    def _read_inbox(self) -> None:
        for _ in range(256):
            try:
                frames = self._inbox.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            inbox.take(self.state, frames)

    def _tick(self) -> None:
        now = self._clock()
        self._directory.hear()
        self._link.tick()
        if self._next_hops is not None:
            self._next_hops.advance(self._read_pairs)
        if self._link.up and now >= self._sample_s and not self._sampling:
            self._sample_s, self._sampling = now + SAMPLE_S, True
            self._admin.run(self._sample(), lambda _: self._ended("_sampling"))
        if self._link.up and now >= self._tables_s and not self._reading_tables:
            self._tables_s, self._reading_tables = now + TABLES_S, True
            self._admin.run(self._read_tables(), lambda _: self._ended("_reading_tables"))
        if not self._directory.has_seen_a_revision or self._admin.is_watched:
            self._admin.run_if(self._directory.new_documents())
        if now >= self._locators_s:
            self._locators_s = now + LOCATORS_S
            self._say_locators()
            self._directory.tell_notices()
            self._look_for_parent()
        if self.state.metrics_problem and now >= self._metrics_s:
            self._metrics_s = now + METRICS_AGAIN_S
            self._metrics = self._open_metrics(self.state.configuration.metrics.listen)
        self._admin.tick()
        if self._metrics is not None:
            self._metrics.tick()

    def _look_for_parent(self) -> None:
        """Notice that the parent is gone: nothing else says so, until something ends and stays away."""
        was_gone = self.state.parent_is_gone
        self.state.parent_is_gone = is_gone("parent", self.state.configuration.runtime_dir)
        if self.state.parent_is_gone and not was_gone:
            self.state.events.add("process_ended", "parent: what ends now is not started again")
            log.warning("the parent is gone: what ends now is not started again")

    def _ended(self, flag: str) -> None:
        setattr(self, flag, False)

    def _read_pairs(self, done: Callable[[list[tuple[str, str]] | None], None]) -> None:
        """Read which tunnels there are, for the next hops."""

        def steps() -> Job:
            rows = yield from dump("tunnels")
            return {"pairs": [(row["local_locator"], row["remote_locator"]) for row in rows]}

        self._admin.run(steps(), lambda answer: done(answer["pairs"] if isinstance(answer, dict) else None))

    def _say_locators(self) -> None:
        """Tell the directory which locators and ports this node has, and notice locators that Linux lacks."""
        configuration = self.state.configuration
        locators = list(configuration.locators) or [
            str(address.ip)
            for port in configuration.ports.values()
            if port.is_underlay
            for address in port.addresses
        ]
        ports = [port.name for port in configuration.ports.values() if port.is_inside]
        self._directory.say(locators, ports)
        if self._next_hops is None:
            return
        there: set[IPv4Address | IPv6Address] = self._next_hops.addresses()
        self.state.missing_locators = tuple(text for text in locators if ip_address(text) not in there)


def package_version() -> str:
    try:
        return version("vnet-gateway")
    except PackageNotFoundError:
        return "unknown"
