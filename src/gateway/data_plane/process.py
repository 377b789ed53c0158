# SPDX-License-Identifier: Apache-2.0
"""The data-plane process: `vnet-gateway data-plane gateway.toml`.

What is slow is done first: DPDK's environment and the packet memory (0.2 s). Then it waits for the lock of
the tables, `RUNTIME_DIR/tables.lock`. The first one has it at once; any other is a warm spare, and takes
tables and ports over in some 50 ms when the first one ends, however it ends. Both are the same program:
whoever keeps two of them alive has always one that forwards and one that waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from directory_client.process.notify import notify
from fastpath.dataplane import DataPlane, DataPlaneError, HoldSettings, PortSettings, Settings, start_eal
from gateway.configuration.configuration import Configuration
from gateway.configuration.device import parse_device
from gateway.configuration.reader import ConfigurationError, load
from gateway.data_plane.arena_place import choose_arena_path
from gateway.data_plane.kernel_stack import quiet_port
from gateway.data_plane.server import DataPlaneServer
from gateway.processes.process import start_time
from gateway.processes.reloading import Reloading

log = logging.getLogger(__name__)

OWN_MAC_DRIVERS = ("net_tap", "net_null", "net_ring", "net_pcap", "net_memif")
FIRST_PACKET_LOOK_S, FIRST_PACKET_LOOK_MAX_S = 0.05, 5.0


@dataclass
class Start:
    """Where the time went, in milliseconds; what the counters dump shows as "start"."""

    process_ms: float = 0.0  # from its start until this module ran: interpreter and imports
    eal_ms: float = 0.0
    buffers_ms: float = 0.0
    waited_ms: float = 0.0  # for the lock: as a spare
    tables_ms: float = 0.0  # opened, adopted
    ports_ms: float = 0.0
    threads_ms: float = 0.0
    resumed_ms: float = 0.0  # from the lock until the poll threads ran
    first_packet_ms: float | None = None  # from the lock until the first packet came
    spare: bool = False
    hugepages: bool = False
    tables_mb: float = 0.0
    tables_huge_mb: float = 0.0  # of these on huge pages
    lookup: str = ""  # which compilation of the flow look-up this processor runs
    lock_ns: int = field(default=0, repr=False)

    def facts(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "lock_ns"}


def run(configuration: Configuration, process: str = "data-plane") -> None:
    """Be the data plane until SIGTERM or SIGINT. `process` names the pid file. Raises SystemExit(1) after
    saying what is wrong."""
    try:
        _run(configuration, process)
    except DataPlaneError as error:
        _fail(str(error), error.fix)
    except ValueError as error:
        _fail(f"{configuration.path}: {error}", "change it there")


def _run(configuration: Configuration, process: str) -> None:
    start = Start(process_ms=_age_ms())
    settings = make_settings(configuration)
    stop = _Stop()
    cpus = _control_cpus(configuration)
    os.sched_setaffinity(0, cpus)
    prefix = f"vnet-{configuration.name}-{os.getpid()}"
    eal = start_eal(prefix, settings, control_cpus=cpus, hugepages=configuration.memory.hugepages)
    start.eal_ms, start.hugepages = eal["ns"] / 1e6, eal["hugepages"]
    plane = DataPlane(settings)
    start.buffers_ms = plane.start_report()["mempool_ns"] / 1e6
    reloading = Reloading(process, configuration, partial(_take, plane))
    lock = _lock_tables(configuration, stop, start, reloading)
    if stop.asked:
        return
    if start.spare:
        _follow_configuration(configuration)
    start.lock_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    # Only whoever has the lock, and its packet memory already, can tell where the tables are or have room.
    arena = choose_arena_path(
        configuration.name, sum(size for _, size in settings.arena_cost()), configuration.memory.hugepages
    )
    _say_cost(settings, arena, eal, plane)
    forget_other_ports(arena, settings.ports)
    for port in settings.ports:
        quiet_port(port.name, port.device)
    plane.start(arena)
    start.resumed_ms = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - start.lock_ns) / 1e6
    report = plane.start_report()
    start.tables_ms, start.ports_ms, start.threads_ms = (
        report[key] / 1e6 for key in ("arena_ns", "ports_ns", "threads_ns")
    )
    try:
        server = DataPlaneServer(
            configuration.data_plane_socket, plane, configuration.name, lambda: {"start": start.facts()}
        )
    except OSError as error:
        plane.stop()
        _fail(
            f"{configuration.data_plane_socket}: {error.strerror}",
            "is the path short, and the directory writable?",
        )
    _say_started(start, plane, report)
    notify("READY=1")
    try:
        _serve(server, plane, start, stop, reloading)
    finally:
        notify("STOPPING=1")
        server.close()
        plane.stop()
        os.close(lock)
        log.info("stopped; the tables stay in %s", arena)


def _take(plane: DataPlane, configuration: Configuration) -> None:
    if configuration.threads.idle != "interrupt":
        plane.set_idle(configuration.threads.idle, configuration.threads.max_sleep_us)
    plane.set_hold(HoldSettings(**vars(configuration.hold)))


def _serve(
    server: DataPlaneServer, plane: DataPlane, start: Start, stop: _Stop, reloading: Reloading
) -> None:
    server.watch(stop.fd)
    look_s = FIRST_PACKET_LOOK_S
    while not stop.asked:
        server.serve(None if start.first_packet_ms is not None else look_s)
        if stop.take_hang_up():
            reloading.on_signal()
        look_s = min(look_s * 1.1, FIRST_PACKET_LOOK_MAX_S)
        if start.first_packet_ms is None:
            first_ns = plane.start_report()["first_packet_ns"]
            if first_ns:
                start.first_packet_ms = (first_ns - start.lock_ns) / 1e6
                log.info("first packet %.1f ms after the tables were free", start.first_packet_ms)


def make_settings(configuration: Configuration) -> Settings:
    """Return what the data plane is made of. Raises ValueError naming the key."""
    threads, hold = configuration.threads, configuration.hold
    for port in configuration.ports.values():
        if parse_device(port.device).driver == "bond":
            raise ValueError(
                f"port {port.name}: bonds are not carried, since nobody would speak LACP while it sleeps"
            )
    ports = [
        PortSettings(
            port.name,
            port.device,
            port.role,
            port.mtu_bytes,
            own_mac(configuration.name, port.name, port.device),
        )
        for port in configuration.ports.values()
    ]
    capacity = {name: value for name, value in vars(configuration.capacity).items() if name != "sessions"}
    settings = {
        "capacity": capacity,
        "poll_cpus": threads.poll_cpus,
        "workers": threads.slow_path_workers,
        "idle": threads.idle,
        "max_sleep_us": threads.max_sleep_us,
        "packet_buffers": configuration.memory.packet_buffers,
        "hold": HoldSettings(**vars(hold)),
    }
    return Settings(ports, **settings)


def forget_other_ports(arena: Path, ports: Sequence[PortSettings]) -> None:
    """Remove tables that were made for other ports: attachments and next hops in them name ports by number.

    The ports that they were made for stand in a file beside them."""
    made_for = Path("/dev/shm") / f"{arena.name}.ports"
    now = "".join(f"{port.name} {port.role}\n" for port in ports)
    try:
        before = made_for.read_text()
    except FileNotFoundError:
        before = ""
    if before == now:
        return
    if before and arena.exists():
        log.warning("the ports have changed: the tables in %s are made anew", arena)
        arena.unlink()
    fd = os.open(made_for, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(now)


class _Stop:
    """Set by SIGTERM and SIGINT, and by SIGHUP for reading the file again; `fd` becomes readable."""

    def __init__(self) -> None:
        self.asked = False
        self._hung_up = False
        self._waiting = False
        mine, self._theirs = socket.socketpair()
        mine.setblocking(False)
        self._theirs.setblocking(False)
        self._mine = mine
        self.fd = mine.fileno()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGHUP, self._hang_up)
        signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)

    def _ask(self, number: int, _frame: object) -> None:
        self.asked = True
        if self._waiting:
            raise _StopWaiting

    def _hang_up(self, number: int, _frame: object) -> None:
        self._hung_up = True
        if self._waiting:
            raise _StopWaiting

    def take_hang_up(self) -> bool:
        """Return whether there was a SIGHUP since the last time."""
        hung_up, self._hung_up = self._hung_up, False
        if hung_up:
            with contextlib.suppress(BlockingIOError):
                self._mine.recv(64)
        return hung_up

    def wait_for(self, lock: int, on_hang_up: Callable[[], None]) -> bool:
        """Wait for the lock; False if asked to stop before it came."""
        while not self.asked:
            if self.take_hang_up():
                on_hang_up()
            try:
                self._waiting = True
                if not self.asked and not self._hung_up:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    self._waiting = False
                    break
            except _StopWaiting:
                continue
            finally:
                self._waiting = False
        return not self.asked


class _StopWaiting(Exception):
    """Ends a wait from a signal handler."""


def _lock_tables(configuration: Configuration, stop: _Stop, start: Start, reloading: Reloading) -> int:
    def follow() -> None:
        _follow_configuration(configuration)
        reloading.say()  # nothing has changed

    path = configuration.runtime_dir / "tables.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock
    except BlockingIOError:
        start.spare = True
    log.info("ready as a spare after %.0f ms: waits for the tables", _age_ms())
    notify("READY=1")
    before_s = time.monotonic()
    stop.wait_for(lock, follow)
    start.waited_ms = (time.monotonic() - before_s) * 1e3
    return lock


def _follow_configuration(configuration: Configuration) -> None:
    """A spare may have waited for days: begin anew if the file says something else now."""
    try:
        if load(configuration.path) == configuration:
            return
    except (ConfigurationError, OSError) as error:
        log.warning("%s cannot be read any more, what it said before holds: %s", configuration.path, error)
        return
    log.warning("%s has changed while this spare waited: it starts anew", configuration.path)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is ignored stays so in the new program
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def own_mac(node: str, port: str, device: str) -> str | None:
    """Return the MAC of a port whose device has none that lasts: always the same one for its name."""
    if parse_device(device).driver not in OWN_MAC_DRIVERS:
        return None
    digest = hashlib.sha256(f"{node}/{port}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def _control_cpus(configuration: Configuration) -> set[int]:
    allowed = os.sched_getaffinity(0)
    wanted = set(configuration.threads.control_cpus) or allowed - set(configuration.threads.poll_cpus)
    return (wanted & allowed) or allowed


def _age_ms() -> float:
    """How long this process has lived; the kernel says it in hundredths of a second."""
    started_s = start_time(os.getpid()) / os.sysconf("SC_CLK_TCK")
    return (time.clock_gettime(time.CLOCK_BOOTTIME) - started_s) * 1e3


def _say_cost(settings: Settings, arena: Path, eal: dict[str, Any], plane: DataPlane) -> None:
    cost = settings.arena_cost()
    tables = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in cost if size >= 50_000)
    log.info("tables in %s: %.1f MB (%s)", arena, sum(size for _, size in cost) / 1e6, tables)
    buffers = plane.start_report()["mbufs"]
    pages = "hugepages" if eal["hugepages"] else "no hugepages"
    log.info("packets: %d buffers, %d MB (%s)", buffers, eal["memory_mb"], pages)


def _say_started(start: Start, plane: DataPlane, report: dict[str, Any]) -> None:
    found = plane.adoption()
    kept = ", ".join(f"{found[key]} {key}" for key in ("vnets", "ingresses", "tunnels", "locations", "flows"))
    dropped = {
        key.removeprefix("dropped_"): n for key, n in found.items() if key.startswith("dropped_") and n
    }
    log.info(
        "tables %s: %s; dropped %s", found["how"], kept if found["adopted"] else "empty", dropped or "nothing"
    )
    pages = plane.table_pages()
    start.tables_mb, start.tables_huge_mb = pages["len_bytes"] / 1e6, pages["huge_bytes"] / 1e6
    start.lookup = plane.lookup_variant()
    log.info(
        "tables on huge pages: %.1f of %.1f MB; look-ups: %s",
        start.tables_huge_mb,
        start.tables_mb,
        start.lookup,
    )
    for row in plane.ports():
        log.info(
            "port=%s device=%s mac=%s queues=%d up=%s",
            *(row[k] for k in ("name", "device", "mac", "rx_queues", "up")),
        )
    if report["unpinned"]:
        log.warning("%d poll threads could not be pinned to their CPU and float", report["unpinned"])
    log.info(
        "forwards %.1f ms after the tables were free (tables %.1f, ports %.1f, threads %.1f); before: "
        "process %.0f, dpdk %.0f, buffers %.0f, waited %.0f ms",
        *(start.resumed_ms, start.tables_ms, start.ports_ms, start.threads_ms),
        *(start.process_ms, start.eal_ms, start.buffers_ms, start.waited_ms),
    )


def _fail(problem: str, fix: str) -> NoReturn:
    log.error("%s; fix: %s", problem, fix or "-")
    print(f"error: {problem}\nfix:   {fix}", file=sys.stderr)
    raise SystemExit(1)
