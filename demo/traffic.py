# SPDX-License-Identifier: Apache-2.0
"""Traffic between the demo's hosts: ping, iperf3, numbered streams, forged packets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from demo.lab import PREFIX, ROOT, Host

STREAM_PORT = 7000
NAME_PORT = 7007
RATE = 500.0  # packets a second of a stream: far below what a TAP drops by itself


def start(member: Host, *arguments: str) -> subprocess.Popen[str]:
    """Start a program in a host's namespace."""
    command = ["ip", "netns", "exec", f"{PREFIX}{member.name}", *arguments]
    return subprocess.Popen(
        command,
        text=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )


def run(member: Host, *arguments: str, timeout_s: float = 60) -> tuple[int, str]:
    with start(member, *arguments) as process:
        output, _ = process.communicate(timeout=timeout_s)
    return process.returncode, output


def start_python(member: Host, module: str, *arguments: str) -> subprocess.Popen[str]:
    process = start(member, sys.executable, "-m", module, *arguments)
    return process


def await_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    if line != "ready\n":
        raise RuntimeError(f"{process.args} did not start: {line}{process.stdout.read()}")


@dataclass(frozen=True)
class Ping:
    sent: int
    received: int
    first_ms: float
    median_ms: float


def ping(source: Host, target: Host, count: int = 3, interval_s: float = 0.2) -> Ping:
    _, output = run(source, "ping", "-n", "-c", str(count), "-i", str(interval_s), "-W", "2", target.address)
    times = [float(found) for found in re.findall(r"time=([\d.]+) ms", output)]
    ordered = sorted(times)
    median = ordered[len(ordered) // 2] if ordered else 0.0
    return Ping(count, len(times), times[0] if times else 0.0, median)


def iperf(source: Host, target: Host, seconds: int = 1) -> tuple[float, int]:
    """TCP throughput in Gb/s and retransmissions, with the hosts' default offloads."""
    with start(target, "iperf3", "-s", "-1", "--forceflush") as server:
        assert server.stdout is not None
        for line in server.stdout:
            if "listening" in line:
                break
        _, output = run(source, "iperf3", "-c", target.address, "-t", str(seconds), "-J")
        server.kill()
    result = json.loads(output)
    if "end" not in result or "sum_received" not in result["end"]:
        raise RuntimeError(f"iperf3 {source.name} to {target.name}: {result.get('error', output)}")
    total = result["end"]
    return total["sum_received"]["bits_per_second"] / 1e9, total["sum_sent"].get("retransmits", 0)


@dataclass
class StreamResult:
    """What came of one stream. lost = sent - received."""

    source: str
    target: str
    sent: int = 0
    received: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    longest_gap_ms: float = 0.0
    delay_p50_us: float = 0.0
    delay_p99_us: float = 0.0

    @property
    def lost(self) -> int:
        return self.sent - self.received


@contextmanager
def streams(pairs: list[tuple[Host, Host]], rate: float = RATE) -> Iterator[list[StreamResult]]:
    """Run numbered streams while the block runs; the results are filled in at its end."""
    results = [StreamResult(source.name, target.name) for source, target in pairs]
    receivers, senders = [], []
    try:
        for number, (_, target) in enumerate(pairs):
            receivers.append(start_python(target, "demo.stream", "receive", str(STREAM_PORT + number)))
        for receiver in receivers:
            await_ready(receiver)
        for number, (source, target) in enumerate(pairs):
            port = str(STREAM_PORT + number)
            senders.append(start_python(source, "demo.stream", "send", target.address, port, str(rate)))
        time.sleep(0.7)  # a stretch of undisturbed traffic before
        yield results
        time.sleep(0.7)  # and after
    finally:
        for process in senders:
            process.terminate()
        outputs = [process.communicate()[0] for process in senders]
        time.sleep(0.3)  # what is under way arrives
        for process in receivers:
            process.terminate()
        for result, sent, receiver in zip(results, outputs, receivers, strict=False):
            result.sent = json.loads(sent)["sent"]
            for key, value in json.loads(receiver.communicate()[0]).items():
                setattr(result, key, value)


@contextmanager
def name_services(members: tuple[Host, ...]) -> Iterator[None]:
    """Every host answers with its own name: who is reached is told by the reached, not by us."""
    services = [
        start_python(member, "demo.stream", "name", str(NAME_PORT), member.name) for member in members
    ]
    try:
        for service in services:
            await_ready(service)
        yield
    finally:
        for service in services:
            service.kill()
            service.wait()


def who_answers(source: Host, address: str) -> list[str]:
    _, output = run(source, sys.executable, "-m", "demo.stream", "ask", address, str(NAME_PORT))
    return json.loads(output)


def forged_source(sender: Host, forged: str, target: Host, count: int = 5) -> int:
    """Send UDP packets with somebody else's source address; returns how many arrived at the target."""
    words = ("source", sender.mac, forged, target.address, str(count))
    return _count_arrivals(target, lambda: run(sender, sys.executable, "-m", "demo.forge", *words))


def forged_tunnel(stranger: Host, vni: int, gateway: str, target: Host, count: int = 5) -> int:
    """Send VXLAN packets from an address that is no VTEP; returns how many came out at the target."""
    words = ("tunnel", str(vni), gateway, target.mac, target.address, str(count))
    return _count_arrivals(target, lambda: run(stranger, sys.executable, "-m", "demo.forge", *words))


def _count_arrivals(target: Host, act: Callable[[], tuple[int, str]]) -> int:
    """Count UDP packets to port 7999 that arrive at the target while act() runs and half a second after."""
    capture = start(target, "tcpdump", "-n", "-l", "-p", "-i", "eth0", "udp", "dst", "port", "7999")
    assert capture.stdout is not None
    for line in capture.stdout:
        if "listening on" in line:
            break
    status, output = act()
    time.sleep(0.5)
    capture.terminate()
    heard = capture.communicate()[0]
    if status:
        raise RuntimeError(f"could not send: {output}")
    return sum("> " in line and "7999" in line for line in heard.splitlines())
