# SPDX-License-Identifier: Apache-2.0
"""A numbered UDP stream between two hosts that knows what was lost, and where the gaps were.

    python -m demo.stream receive PORT                    until SIGTERM; prints one JSON object
    python -m demo.stream send ADDRESS PORT RATE          packets/s until SIGTERM; prints how many it sent
    python -m demo.stream name PORT NAME                  answers every datagram with NAME
    python -m demo.stream ask ADDRESS PORT                prints the names that answer within a second

Both ends read CLOCK_MONOTONIC, which all namespaces share, so delays are one-way.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import struct
import sys
import threading
import time
from types import FrameType

HEAD = struct.Struct("!QQ")  # number, CLOCK_MONOTONIC ns at sending
PAYLOAD_BYTES = 256


class Ended(Exception):
    """SIGTERM came."""


def end(_signal: int, _frame: FrameType | None) -> None:
    raise Ended


def receive(port: int) -> dict[str, float]:
    """Collect until SIGTERM. Gaps are times between arrivals, in milliseconds."""
    numbers: list[int] = []
    delays_us: list[float] = []
    longest_gap_ms = 0.0
    before_ns = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbox:
        inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        inbox.bind(("", port))
        print("ready", flush=True)
        try:
            while True:
                number, sent_ns = HEAD.unpack_from(inbox.recv(2048))
                now_ns = time.monotonic_ns()
                if before_ns:
                    longest_gap_ms = max(longest_gap_ms, (now_ns - before_ns) / 1e6)
                before_ns = now_ns
                numbers.append(number)
                delays_us.append((now_ns - sent_ns) / 1e3)
        except Ended:
            pass
    delays_us.sort()
    return {
        "received": len(set(numbers)),
        "duplicates": len(numbers) - len(set(numbers)),
        "out_of_order": sum(b < a for a, b in itertools.pairwise(numbers)),
        "longest_gap_ms": longest_gap_ms,
        "delay_p50_us": delays_us[len(delays_us) // 2] if delays_us else 0.0,
        "delay_p99_us": delays_us[len(delays_us) * 99 // 100] if delays_us else 0.0,
    }


def send(address: str, port: int, rate: float) -> int:
    """Send `rate` packets a second until SIGTERM; returns how many."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    number = 0
    padding = bytes(PAYLOAD_BYTES - HEAD.size)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outbox:
        outbox.connect((address, port))
        started_ns = time.monotonic_ns()
        while not ended.is_set():
            due_ns = started_ns + int(number * 1e9 / rate)
            pause_s = (due_ns - time.monotonic_ns()) / 1e9
            if pause_s > 0:
                time.sleep(pause_s)
            # The kernel may tell of an unreachable neighbour; the packet counts as sent and lost.
            with contextlib.suppress(OSError):
                outbox.send(HEAD.pack(number, time.monotonic_ns()) + padding)
            number += 1
    return number


def answer(port: int, name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbox:
        inbox.bind(("", port))
        print("ready", flush=True)
        while True:
            _, sender = inbox.recvfrom(2048)
            inbox.sendto(name.encode(), sender)


def ask(address: str, port: int) -> list[str]:
    """Names of all that answer within a second."""
    names = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outbox:
        outbox.settimeout(1)
        outbox.connect((address, port))
        try:
            outbox.send(b"who are you?")
            while True:
                names.append(outbox.recv(2048).decode())
                outbox.settimeout(0.2)
        except OSError:
            return names


def main(arguments: list[str]) -> None:
    signal.signal(signal.SIGTERM, end)
    match arguments:
        case ["receive", port]:
            print(json.dumps(receive(int(port))), flush=True)
        case ["send", address, port, rate]:
            print(json.dumps({"sent": send(address, int(port), float(rate))}), flush=True)
        case ["name", port, name]:
            answer(int(port), name)
        case ["ask", address, port]:
            print(json.dumps(ask(address, int(port))), flush=True)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
