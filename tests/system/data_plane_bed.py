# SPDX-License-Identifier: Apache-2.0
"""Data-plane processes for tests, with clients in the place of the slow path and of control."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest

from fastpath.rings import DataPlaneUnreachable, RingClient

WAIT_S = 60.0  # for what takes less than one second on a machine with nothing else to do


def until(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """Wait until the condition is true; return its value."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, f"never happened: {what}"
        time.sleep(0.002)
    return value


class Bed:
    """A runtime directory with a gateway.toml, and the data planes that were started on it."""

    def __init__(self, directory: Path, ports: dict[str, tuple[str, ...]], more: str = "") -> None:
        self.directory = directory
        self.socket_path = directory / "dataplane.sock"
        self.name = f"test-{os.getpid()}-{abs(hash(str(directory))) % 10**6}"
        lines = [
            f'name = "{self.name}"',
            f'runtime_dir = "{directory}"',
            f'state_dir = "{directory}"',
            'locators = ["192.0.2.1"]',
            'directory = "embedded"',
        ]
        for name, (device, role, *settings) in ports.items():
            lines += [f"[port.{name}]", f'device = "{device}"', f'role = "{role}"', *settings]
        self.file = directory / "gateway.toml"
        self.file.write_text("\n".join(lines) + "\n" + more)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, instance: int = 0, **popen: Any) -> subprocess.Popen[bytes]:
        """Start a data plane; its log goes to INSTANCE.log."""
        command = [
            sys.executable,
            "-m",
            "gateway.main",
            "data-plane",
            "--instance",
            str(instance),
            str(self.file),
        ]
        command = popen.pop("command", command)
        with open(self.directory / f"{len(self.processes)}.log", "wb") as log:
            self.processes.append(subprocess.Popen(command, stderr=log, stdout=log, **popen))
        return self.processes[-1]

    def log(self, number: int = 0) -> str:
        return (self.directory / f"{number}.log").read_text(errors="replace")

    def wait_for_spare(self, number: int) -> None:
        until(lambda: "ready as a spare" in self.log(number), "the spare is ready")

    def client(self, hello: str = "observer", worker: int = 0, timeout_s: float = WAIT_S) -> RingClient:
        """Return a client as soon as somebody serves it."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                return RingClient(self.socket_path, hello=hello, worker=worker, workers=1)
            except DataPlaneUnreachable:
                dead = [p for p in self.processes if p.poll() not in (None, 0, -signal.SIGKILL)]
                logs = "\n".join(self.log(i) for i in range(len(self.processes)))
                assert not dead, logs
                assert time.monotonic() < deadline_s, logs
                time.sleep(0.002)

    def ask(self, **question: Any) -> dict[str, Any]:
        with contextlib.closing(self.client()) as observer:
            return observer.ask(question)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(WAIT_S)
            process.kill()
            process.wait()
        for path in (f"/dev/shm/vnet-{self.name}", f"/dev/shm/vnet-{self.name}.ports"):
            Path(path).unlink(missing_ok=True)


NULL_PORTS = {"rack": ("net_null0,no-rx=1", "inside"), "uplink": ("net_null1,no-rx=1", "underlay")}


@pytest.fixture
def make_bed(tmp_path: Path) -> Iterator[Callable[..., Bed]]:
    """Return a function that makes a bed in a directory with a short path."""
    made: list[Bed] = []

    def make(ports: dict[str, tuple[str, ...]] | None = None, more: str = "") -> Bed:
        made.append(Bed(tmp_path, ports or NULL_PORTS, more))
        return made[-1]

    yield make
    for bed in made:
        bed.stop()


class Wire:
    """Frames into and out of a Linux interface."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind((interface, 0))
        self._socket.setblocking(False)

    def send(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):  # no carrier: nobody holds the other end
            self._socket.send(frame)

    def receive(self, wanted: Callable[[bytes], bool], timeout_s: float = WAIT_S) -> bytes | None:
        """Return the first frame that came in from the other end and is wanted; None if none came."""
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left_s)[0]:
                break
            frame, address = self._socket.recvfrom(65536)
            if address[2] != socket.PACKET_OUTGOING and wanted(frame):
                return frame
        return None

    def close(self) -> None:
        self._socket.close()


def hello(path: Path, message: bytes, descriptors: Sequence[int] = ()) -> dict[str, Any] | None:
    """Send one raw message on a connection of its own; return the answer, None if it was hung up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(WAIT_S)
        connection.connect(str(path))
        try:
            socket.send_fds(connection, [message], list(descriptors))
            raw = connection.recv(1 << 20)
        except OSError:
            return None
    return msgpack.unpackb(raw) if raw else None
