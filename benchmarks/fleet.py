# SPDX-License-Identifier: Apache-2.0
"""A directory of its own processes, gateways that are simulated, and somebody who asks all the time.

A simulated gateway is the client that a gateway's slow path has (heartbeats, subscription, snapshots),
without a data plane behind it; one process has them all. The directory is `vnet-directory run` with a store
on disk."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from benchmarks.machine import ROOT
from directory_client.client import DirectoryClient
from directory_client.events import Changed, Event, Snapshot

PROBER = Path(__file__).with_name("prober.py")
CHANGER = Path(__file__).with_name("changer.py")
CONFIGURATION = """name = "d"
listen = "ipc://{path}"
[store]
kind = "sqlite"
path = "{path}/directory.db"
[limits]
late_ms = 60_000
resolves_per_second_per_vnet = 1_000_000_000
writes_per_second_per_key = 1_000_000_000
message_bytes = 16_777_216
document_bytes = 1_073_741_824
"""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def environment() -> dict[str, str]:
    """The environment of a program that imports the product from its sources: an editable installation would
    look first whether something is to be built."""
    paths = [str(ROOT / "src"), *sys.path]
    build = os.environ.get("MESONPY_EDITABLE_SKIP") or str(ROOT / "build" / "cp311")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MESONPY_EDITABLE_SKIP": build}


class Server:
    """`vnet-directory run` in a directory: started, killed, started again on the same store."""

    def __init__(self, path: Path) -> None:
        self.endpoint = f"ipc://{path}"
        self._file = path / "d.toml"
        self._file.write_text(CONFIGURATION.format(path=path))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "directory_service.main", "run", str(self._file), "--make-once"]
        self._process = subprocess.Popen([*command, "--log-level", "warning"], env=environment())

    def kill(self) -> None:
        """End it, and its processes, without a chance to say anything."""
        if self._process is None:
            return
        processes = self.processes()
        self._process.kill()
        self._process.wait()
        self._process = None
        for pid in processes[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def processes(self) -> list[int]:
        """The server's process and those below it."""
        found = [] if self._process is None else [self._process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    found += [int(child) for child in task.read_text().split()]
                except OSError:
                    continue
        return found

    def cpu_s(self) -> float:
        """Processor time of all its processes so far."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS

    def rss_bytes(self) -> list[int]:
        """Resident memory of each of its processes, the largest first."""
        sizes = [
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES for pid in self.processes()
        ]
        return sorted(sizes, reverse=True)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class Fleet:
    """Simulated gateways of these names. `turn` lets them live until something holds; `heard` is called with
    each event."""

    def __init__(self, endpoint: str, names: Sequence[str]) -> None:
        descriptors = 64 + 32 * len(names)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(descriptors, hard), hard))
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 16 + 16 * len(names))
        self.heard: Callable[[int, Event], None] = lambda _number, _event: None
        self.clients = [
            DirectoryClient([endpoint], node=name, role="slow-path", context=self._context, give_up_s=60.0)
            for name in names
        ]
        self._epoll = select.epoll()
        self._owners: dict[int, tuple[int, zmq.Socket[Any]]] = {}
        for number, client in enumerate(self.clients):
            for socket in client.sockets:
                self._owners[socket.fileno()] = number, socket
                self._epoll.register(socket.fileno(), select.EPOLLIN)
        self._due = [0.0] * len(names)

    def join(self) -> None:
        """Say who they are and where, and follow the directory."""
        for number, client in enumerate(self.clients):
            client.set_heartbeat(locators=[locator(number)], ports=["rack"])
            client.subscribe()

    def turn(self, done: Callable[[], bool], limit_s: float) -> float:
        """Let them live until `done`; returns the seconds that it took. Raises TimeoutError."""
        started = time.monotonic()
        while not done():
            now = time.monotonic()
            if now - started > limit_s:
                raise TimeoutError(f"the fleet is not there after {limit_s:.0f} s")
            ready: dict[int, list[zmq.Socket[Any]]] = {}
            for descriptor, _ in self._epoll.poll(0.02):
                number, socket = self._owners[descriptor]
                ready.setdefault(number, []).append(socket)
            for number, due in enumerate(self._due):
                if due <= now:
                    ready.setdefault(number, [])
            for number, sockets in ready.items():
                self._receive(number, sockets)
        return time.monotonic() - started

    def rest(self, seconds: float) -> None:
        """Let them live for a while."""
        end = time.monotonic() + seconds
        self.turn(lambda: time.monotonic() >= end, seconds + 60.0)

    def _receive(self, number: int, sockets: Sequence[zmq.Socket[Any]]) -> None:
        client = self.clients[number]
        while True:
            for event in client.receive(sockets):
                if isinstance(event, Snapshot | Changed):
                    client.applied(event.revision)
                self.heard(number, event)
            # What a descriptor says is said once, and sending to a socket takes it too: look again before
            # waiting for it.
            sockets = [one for one in client.sockets if one.poll(0, zmq.POLLIN)]
            if not sockets:
                break
        self._due[number] = time.monotonic() + client.timeout_ms() / 1000

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self._epoll.close()
        self._context.term()


@contextmanager
def fleet(endpoint: str, names: Sequence[str]) -> Iterator[Fleet]:
    """Gateways that say who they are; closed on leaving."""
    made = Fleet(endpoint, names)
    try:
        made.join()
        yield made
    finally:
        made.close()


class Prober:
    """A process that resolves all the time, over a connection of its own, one question after another."""

    def __init__(self, endpoint: str, node: str, vni: int) -> None:
        self._asks = False
        self._process = subprocess.Popen(
            [sys.executable, str(PROBER), endpoint, node, str(vni)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )

    def wait(self) -> None:
        """Wait for its first answer."""
        if not self._asks and (self._process.stdout is None or self._process.stdout.readline() != b"asks\n"):
            raise RuntimeError("the prober got no answer")
        self._asks = True

    def stop(self) -> None:
        """End it if that has not been done."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def end(self) -> list[tuple[float, float]]:
        """End it; returns (when it was asked, on the monotonic clock; seconds until the answer)."""
        out, _ = self._process.communicate(timeout=60)
        return [(asked, took) for asked, took in json.loads(out)]


@contextmanager
def prober(endpoint: str, node: str, vni: int, answered: bool = True) -> Iterator[Prober]:
    """Somebody who asks, and has been answered unless the directory is still to be started."""
    made = Prober(endpoint, node, vni)
    try:
        if answered:
            made.wait()
        yield made
    finally:
        made.stop()


class Changer:
    """A process that adds endpoints, one whenever it is told to."""

    def __init__(self, endpoint: str, vnet: str, node: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(CHANGER), endpoint, vnet, node],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        self._line()

    def begin(self) -> None:
        """Have it add the next one."""
        if self._process.stdin is not None:
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def end(self) -> tuple[float, float]:
        """Wait until that is answered; returns when it was asked and when answered."""
        begin, end = json.loads(self._line())
        return begin, end

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError("the change was not answered")
        return line


@contextmanager
def changer(endpoint: str, vnet: str, node: str) -> Iterator[Changer]:
    """Somebody who changes a V-net; ended on leaving."""
    made = Changer(endpoint, vnet, node)
    try:
        yield made
    finally:
        made.stop()


def locator(number: int, elsewhere: bool = False) -> str:
    """The address of a simulated gateway, or another one that it goes to."""
    return f"{'198.19' if elsewhere else '198.18'}.{number >> 8}.{number & 255}"


def base_topology(gateways: int, declared: bool = False) -> str:
    """Gateways in one site, and a V-net at the first two for who asks all the time. `declared`: their
    locators too, so that they need not be there."""
    lines = ['document = "base"', "[site.s1]"]
    for n in range(gateways):
        lines.append(f'[node.gw{n}]\nkind = "gateway"\nsite = "s1"')
        lines += [f'locators = ["{locator(n)}"]'] if declared else []
    lines.append('[vnet.probe]\nvni = 9\n[vnet.probe.rule.any]\naction = "allow"\nfrom = "any"\nto = "any"')
    lines.append('[[vnet.probe.attachment]]\nnodes = ["gw0", "gw1"]\nport = "rack"\nvlan = 4094')
    lines.append("[vnet.probe.endpoint]")
    lines += [
        f'p{n} = {{ addresses = ["10.9.0.{n + 1}"], mac = "02:00:09:00:00:{n:02x}", node = "gw{n}" }}'
        for n in range(2)
    ]
    return "\n".join(lines) + "\n"


def topology(
    vnets: int,
    endpoints: int,
    gateways: int,
    hosts: int,
    all_host_first: bool = False,
    name: str = "big",
    first: int = 0,
) -> str:
    """`vnets` V-nets (from number `first`) of so many endpoints each, each hosted by `hosts` of the gateways
    in turn."""
    lines = [f'document = "{name}"']
    for vnet in range(first, first + vnets):
        of_all = all_host_first and vnet == 0
        here = [f"gw{(vnet * hosts + n) % gateways}" for n in range(gateways if of_all else hosts)]
        lines.append(f'[vnet.v{vnet}]\nvni = {10_000 + vnet}\nprefixes = ["10.0.0.0/8"]')
        lines.append(f'[vnet.v{vnet}.rule.any]\naction = "allow"\nfrom = "any"\nto = "any"')
        nodes = ", ".join(f'"{node}"' for node in here)
        lines.append(
            f'[[vnet.v{vnet}.attachment]]\nnodes = [{nodes}]\nport = "rack"\nvlan = {1 + vnet % 4000}'
        )
        lines.append(f"[vnet.v{vnet}.endpoint]")
        lines += [endpoint(n, here[n % len(here)]) for n in range(endpoints)]
    return "\n".join(lines) + "\n"


def endpoint(number: int, node: str) -> str:
    """A line of a document; other V-nets have the same addresses."""
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    mac = f"02:00:{number >> 24:02x}:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return f'e{number} = {{ addresses = ["{address}"], mac = "{mac}", node = "{node}" }}'
