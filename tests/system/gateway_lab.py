# SPDX-License-Identifier: Apache-2.0
"""A whole gateway on this machine: two TAPs with a member each, a directory, and a stream between them."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from directory_client.client import DirectoryClient
from directory_client.wire.messages import DirectoryError
from fastpath.rings import DataPlaneUnreachable, RingClient
from gateway.processes import process

ETH_P_ALL = 3
PACKET_OUTGOING = 4
PROCESSES = ("parent", "slow-path-0", "slow-path-1", "control", "directory", "data-plane-1", "data-plane")
MEMBERS = {"a": ("10.0.0.1", "02:00:00:00:00:0a"), "b": ("10.0.0.2", "02:00:00:00:00:0b")}
MOVER = ("10.0.0.3", "02:00:00:00:00:0c")  # has no adapter of its own: it is where a document says
DOCUMENT = """
document = "lab"
[site.s1]
[node.lab]
kind = "gateway"
site = "s1"
[vnet.red]
vni      = 7001
prefixes = ["10.0.0.0/24"]
[[vnet.red.attachment]]
nodes = ["lab"]
port  = "pa"
[[vnet.red.attachment]]
nodes = ["lab"]
port  = "pb"
[vnet.red.endpoint]
a = { addresses = ["10.0.0.1"], mac = "02:00:00:00:00:0a", at = ["lab/pa"] }
b = { addresses = ["10.0.0.2"], mac = "02:00:00:00:00:0b", at = ["lab/pb"] }
"""
RULE = '[vnet.red.rule.any]\naction = "allow"\nfrom = "any"\nto = "any"\n'


def until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """Wait for something that is true, and return it."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"never happened: {what}"
        time.sleep(0.005)
    return found


class Lab:
    """Start it, apply DOCUMENT + RULE, send. Needs root (TAP). `served`: the endpoint of a directory that
    somebody else runs, for one of its own."""

    def __init__(self, directory: Path, options: str = "", served: str = "") -> None:
        self.directory = directory
        self.run_dir = directory / "run"
        self.taps = {side: f"vg{os.getpid() % 100_000}{side}" for side in MEMBERS}
        self.file = directory / "gateway.toml"
        where = f'["{served}"]' if served else '"embedded"'
        self.file.write_text(
            f'name = "lab"\ndirectory = {where}\nlocators = ["192.0.2.1"]\n'
            f'runtime_dir = "{self.run_dir}"\nstate_dir = "{directory}/state"\n'
            f'port.pa = {{ device = "net_tap0,iface={self.taps["a"]}", role = "inside" }}\n'
            f'port.pb = {{ device = "net_tap1,iface={self.taps["b"]}", role = "inside" }}\n'
            '[memory]\nhugepages = "never"\npacket_buffers = 4096\n'
            "[capacity]\nflows = 4096\nlocations = 1024\n" + options
        )
        for tap in self.taps.values():  # persistent, as a host's adapter is: it outlives the data plane
            _ip("tuntap", "add", "dev", tap, "mode", "tap", "multi_queue")
        self.log = (directory / "log").open("ab")
        self.parent = self.start()
        self.operator = DirectoryClient([served or f"ipc://{self.run_dir}"])

    def start(self) -> subprocess.Popen[bytes]:
        """Start the parent."""
        command = [sys.executable, "-m", "gateway.main", "run", str(self.file)]
        self.parent = subprocess.Popen(command, stderr=self.log)
        return self.parent

    def apply(self, text: str = DOCUMENT + RULE) -> None:
        def applied() -> bool:
            try:
                return bool(self.operator.call("apply", text=text, name="lab.toml", user="lab")["ok"])
            except DirectoryError as error:
                if error.code != 3:
                    raise
                return False

        until(applied, "the document is applied")

    def pid(self, name: str) -> int:
        """Return the pid of a living process, 0 if it does not live."""
        pid, start = process.read_pid_file(process.pid_file(self.run_dir, name))
        return pid if pid and process.start_time(pid) == start else 0

    def forwarding(self) -> tuple[str, int]:
        """Return name and pid of the data plane that serves: the one of the two that answers."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.connect(str(self.run_dir / "dataplane.sock"))
            pid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return next((n, pid) for n in ("data-plane", "data-plane-1") if self.pid(n) == pid)

    def kill(self, name: str, signum: signal.Signals = signal.SIGKILL) -> int:
        """Signal a process; returns its pid."""
        pid = until(lambda: self.pid(name), f"{name} lives")
        os.kill(pid, signum)
        return int(pid)

    def counters(self) -> dict[str, Any]:
        """Ask the data plane for its counters; empty while nobody answers."""
        try:
            with RingClient(self.run_dir / "dataplane.sock", "observer") as client:
                return dict(client.ask({"dump": "counters"})["counters"])
        except DataPlaneUnreachable:
            return {}

    def flows(self) -> list[dict[str, Any]]:
        with RingClient(self.run_dir / "dataplane.sock", "observer") as client:
            return list(client.ask({"dump": "flows", "cursor": 0, "limit": 512})["rows"])

    def socket_at(self, side: str) -> socket.socket:
        """Open a raw socket on a member's TAP, as the member's adapter."""
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        raw.bind((self.taps[side], ETH_P_ALL))
        raw.setblocking(False)
        return raw

    def has_taps(self) -> bool:
        return all(_is_up(Path(f"/sys/class/net/{name}/flags")) for name in self.taps.values())

    def close(self) -> None:
        self.operator.close()
        if self.parent.poll() is None:
            self.parent.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.parent.wait(30)
        for name in PROCESSES:
            if pid := self.pid(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.log.close()
        for tap in self.taps.values():
            _ip("link", "delete", tap)
        for left in Path("/dev/shm").glob("vnet-lab*"):
            left.unlink()


@contextlib.contextmanager
def running(directory: Path, settings: str = "") -> Iterator[Lab]:
    """A gateway with its topology applied and its TAPs up."""
    lab = Lab(directory, settings)
    try:
        lab.apply()
        until(lab.has_taps, "the TAPs are up")
        yield lab
    finally:
        lab.close()


class Stream:
    """Numbered UDP packets from a to another member (b, who listens), `rate` a second, as long as it is
    open."""

    def __init__(self, lab: Lab, rate: int = 500, to: str = "b", port: int = 5000) -> None:
        self._out, self._in = lab.socket_at("a"), lab.socket_at("b")
        self._lab, self._interval_s = lab, 1 / rate
        self._ending = threading.Event()
        self._frame = udp_frame("a", to, port)
        self.sent = 0
        self.sent_at: list[float] = []  # by number: just before
        self.received: dict[int, float] = {}  # number -> when
        self.repeated = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def flowing(self) -> None:
        """Wait until what is sent now arrives."""
        start = self.sent
        until(lambda: any(number > start for number in list(self.received)), "packets arrive")

    def pass_by(self, count: int) -> None:
        """Wait until so many more have been sent."""
        goal = self.sent + count
        until(lambda: self.sent >= goal, f"{count} more packets")

    def lost(self, first: int = 0) -> list[int]:
        """End the stream and return which of those from `first` on never arrived."""
        self.close()
        return [number for number in range(first, self.sent) if number not in self.received]

    def longest_gap_s(self, first: int = 0) -> float:
        """Return the longest time between two arrivals."""
        times = sorted(at for number, at in self.received.items() if number >= first)
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)

    def close(self) -> None:
        if not self._ending.is_set():
            self._ending.set()
            self._thread.join()
            self._out.close()
            self._in.close()

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._ending.is_set():
            self.sent_at.append(time.monotonic())
            with contextlib.suppress(OSError):  # the TAP is away while a data plane restarts
                self._out.send(self._frame + struct.pack("!Q", self.sent))
            self.sent += 1
            next_s += self._interval_s
            self._receive(next_s)
        self._receive(time.monotonic() + 0.5)

    def _receive(self, until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            if not select.select([self._in], [], [], left_s)[0]:
                return
            try:
                data, address = self._in.recvfrom(2048)
            except OSError:  # says once that the TAP's other end has gone
                continue
            is_ours = data[12:14] == b"\x08\x00" and data[30:38] == self._frame[30:38]
            if address[2] != PACKET_OUTGOING and is_ours and len(data) >= 50:
                number = struct.unpack("!Q", data[42:50])[0]
                self.repeated += number in self.received
                self.received[number] = time.monotonic()


@contextlib.contextmanager
def streaming(lab: Lab) -> Iterator[Stream]:
    stream = Stream(lab)
    try:
        stream.flowing()
        yield stream
    finally:
        stream.close()


def udp_frame(source: str, destination: str, port: int = 5000) -> bytes:
    """Return Ethernet, IPv4 and UDP headers for 8 bytes of payload."""
    (address_a, mac_a), (address_b, mac_b) = MEMBERS[source], {**MEMBERS, "c": MOVER}[destination]
    ethernet = _mac(mac_b) + _mac(mac_a) + b"\x08\x00"
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        36,
        0,
        0,
        64,
        17,
        0,
        socket.inet_aton(address_a),
        socket.inet_aton(address_b),
    )
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return ethernet + head + struct.pack("!HHHH", 4000, port, 16, 0)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _is_up(flags: Path) -> bool:
    try:
        return bool(int(flags.read_text(), 16) & 1)
    except OSError:
        return False
