# SPDX-License-Identifier: Apache-2.0
"""Commands to a running VPP over its CLI socket, and what it prints as numbers.

What vppctl does, without a process for each command, so that counters are read at a known time. The socket
speaks Telnet until the client names its terminal "vppctl": from then on there are no prompts and no echo, and
a NUL byte ends each answer."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

IAC, SB, SE, TERMINAL_TYPE, IS = 255, 250, 240, 24, 0
NO_TERMINAL = bytes((IAC, SB, TERMINAL_TYPE, IS)) + b"vppctl" + bytes((IAC, SE))
LOSSES = ("drops", "tx-error", "rx-miss", "rx-error", "rx-no-buf")


@dataclass(frozen=True)
class Counters:
    """Of the interfaces by name, in the order in which they were made: packets received and sent; and what
    was lost anywhere."""

    received: dict[str, int]
    sent: dict[str, int]
    lost: int


class Control:
    """A connection. Raises OSError while nobody listens."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(60.0)
        try:
            self._socket.connect(str(path))
            # It asks last for the terminal's size; an answer to the first question before that is overlooked.
            self._until(bytes((IAC, SE)), 2)
            self._socket.sendall(NO_TERMINAL)
        except OSError:
            self._socket.close()
            raise

    def ask(self, command: str) -> str:
        """Return what a command prints, errors included."""
        self._socket.sendall(command.encode() + b"\n")
        return self._until(b"\0").decode(errors="replace").replace("\r", "").rstrip("\0")

    def order(self, *commands: str) -> None:
        """Run commands that have nothing to say. Raises RuntimeError with what one says all the same."""
        for command in commands:
            said = self.ask(command).strip()
            if said:
                raise RuntimeError(f"VPP: {command}: {said}")

    def counters(self) -> tuple[Counters, float]:
        """Counters, and when they were read: in the middle of the question, monotonic seconds."""
        asked_s = time.monotonic()
        text = self.ask("show interface")
        return parse_counters(text), (asked_s + time.monotonic()) / 2

    def close(self) -> None:
        self._socket.close()

    def _until(self, end: bytes, times: int = 1) -> bytes:
        text = b""
        while text.count(end) < times:
            received = self._socket.recv(1 << 16)
            if not received:
                raise ConnectionError("VPP went away while it was asked")
            text += received
        return text


def listens(path: Path) -> bool:
    """Whether somebody answers there: the socket is made before it listens."""
    try:
        Control(path).close()
    except OSError:
        return False
    return True


def parse_counters(text: str) -> Counters:
    """Read what `show interface` prints: a line for each interface, further counters on lines below it.

    Raises ValueError if it is something else."""
    if not text.lstrip().startswith("Name"):
        raise ValueError(f"no counters of interfaces in: {text[:200]!r}")
    indices: dict[str, int] = {}
    received: dict[str, int] = {}
    sent: dict[str, int] = {}
    lost = 0
    name = ""
    for line in text.splitlines()[1:]:
        head = re.match(r"(\S+)\s+(\d+)\s+(?:up|down)\s", line)
        if head:
            name = head[1]
            indices[name] = int(head[2])
            received[name] = sent[name] = 0
        counter = re.search(r"\s([a-z][a-z0-9 -]*?)\s+(\d+)$", line)
        if not counter or not name:
            continue
        what, value = counter[1], int(counter[2])
        if what == "rx packets":
            received[name] = value
        elif what == "tx packets":
            sent[name] = value
        elif what in LOSSES:
            lost += value
    order = sorted(indices, key=lambda one: indices[one])
    return Counters({one: received[one] for one in order}, {one: sent[one] for one in order}, lost)


def parse_clocks(text: str, nodes: Sequence[str]) -> float:
    """Clocks a packet of nodes that every packet passes, from `show runtime` of all threads; a node is
    counted where it was passed. Raises ValueError for one that no packet passed."""
    clocks = 0.0
    for node in nodes:
        # Name, state (polling, "any wait"), calls, vectors, suspends, clocks a vector, vectors a call
        found = re.findall(
            rf'^{re.escape(node)}\s+"?[a-z ]+"?\s+(\d+)\s+(\d+)\s+\d+\s+(\S+)\s+\S+\s*$', text, re.MULTILINE
        )
        passed = [float(each) for _, vectors, each in found if int(vectors)]
        if not passed:
            raise ValueError(f"no packet passed {node} in: {text[:200]!r}")
        clocks += passed[0]
    return clocks
