# SPDX-License-Identifier: Apache-2.0
"""Control in a network namespace, with a data plane that is made up."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from fake_data_plane import FakeDataPlane

ROUTER, ROUTER_MAC = "192.0.2.254", "02:00:5e:10:00:01"
PAIR = ("192.0.2.1", "203.0.113.7")
HOP = (1, ROUTER_MAC, "02:00:5e:00:01:00", 0)


class World:
    """A namespace, a control in it, and a data plane that the test plays."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.namespace = f"operator-{os.getpid()}"
        self.file = directory / "gateway.toml"
        self.file.write_text(
            f"""
name = "gw1"
directory = "embedded"
runtime_dir = "{directory}"
state_dir = "{directory}"
[port.rack]
device = "net_null0"
role = "inside"
[port.uplink]
device = "net_null1"
role = "underlay"
addresses = ["192.0.2.1/24"]
[metrics]
listen = "127.0.0.1:9464"
"""
        )
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        self.ip("link", "set", "lo", "up")
        self.plane: FakeDataPlane | None = None
        self.control: subprocess.Popen[bytes] | None = None

    def ip(self, *args: str) -> str:
        command = ["ip", "-n", self.namespace, *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def configure(self, address: str) -> None:
        """Write another address of the uplink into the configuration."""
        self.file.write_text(re.sub(r"addresses = .*", f'addresses = ["{address}"]', self.file.read_text()))

    def start_control(self) -> None:
        code = "from gateway.main import main; main()"
        command = [
            "ip",
            "netns",
            "exec",
            self.namespace,
            sys.executable,
            "-c",
            code,
            "control",
            str(self.file),
        ]
        with (self.directory / "control.log").open("ab") as log:
            self.control = subprocess.Popen(command, stderr=log, stdout=log)
        self.until(lambda: self.answers(), "control answers")

    def kill_control(self) -> None:
        assert self.control is not None
        self.control.send_signal(signal.SIGKILL)
        self.control.wait()

    def start_plane(self, **options: Any) -> FakeDataPlane:
        self.plane = FakeDataPlane(self.directory / "dataplane.sock", **options)
        self.plane.neighbours[ROUTER] = ROUTER_MAC
        return self.plane

    def stop_plane(self) -> None:
        assert self.plane is not None
        self.plane.close()
        self.plane = None

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 15) -> None:
        deadline_s = time.monotonic() + timeout_s
        while True:
            if self.plane is not None:
                self.plane.pump()
            if condition():
                return
            if time.monotonic() > deadline_s:
                log = (self.directory / "control.log").read_text()[-3000:]
                pytest.fail(f"never happened: {what}\n{log}")
            time.sleep(0.005)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.directory / "gateway.sock"))
            return True
        return False

    def ask(self, verb: str, where: str = "gateway.sock", **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = msgpack.unpackb(
            self.send([msgpack.packb({"v": 1, "id": 1, "verb": verb, **request})], where)
        )
        return answer

    def send(self, frames: list[bytes], name: str = "gateway.sock") -> bytes:
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.set(zmq.LINGER, 0)
            dealer.connect(f"ipc://{self.directory / name}")
            dealer.send_multipart(frames)
            self.until(lambda: dealer.poll(0), "an answer at the admin socket")
            return bytes(dealer.recv())

    def rows(self, noun: str, **request: Any) -> list[dict[str, Any]]:
        answer = self.ask("show", noun=noun, **request)
        assert answer["ok"], answer
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    def vnetctl(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "vnetctl.main",
            "--socket",
            f"{self.directory}/gateway.sock",
            *args,
        ]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.until(lambda: running.poll() is not None, f"vnetctl {args} ends")
        out, err = running.communicate()
        return subprocess.CompletedProcess(command, running.returncode, out, err)

    def resolved(self, pair: tuple[str, str] = PAIR) -> list[Any]:
        assert self.plane is not None
        return list(self.plane.next_hops.get(pair, {}).get("hops", []))

    def close(self) -> None:
        if self.control is not None and self.control.poll() is None:
            self.kill_control()
        if self.plane is not None:
            self.plane.close()
        subprocess.run(["ip", "netns", "delete", self.namespace], check=False)


def with_tunnel(world: World) -> FakeDataPlane:
    """Given: a control, a data plane, a route to 203.0.113.7 by a router that answers, a resolved tunnel."""
    plane = world.start_plane()
    world.start_control()
    world.until(lambda: "uplink" in plane.queues, "the exception queue is handed over")
    world.ip("route", "add", "203.0.113.0/24", "via", ROUTER, "dev", "uplink")
    plane.add_tunnel(7, PAIR[1])
    world.until(lambda: world.resolved() == [HOP], "the tunnel is resolved")
    return plane
