# SPDX-License-Identifier: Apache-2.0
"""Questions to a running ovs-vswitchd over its control socket, and its answers as numbers.

What ovs-appctl does, without a process for each question, so that counters are read at a known time."""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Counters:
    """Of the datapath: flows cached now; packets that hit, missed, and were lost by failed set-ups; and by
    port name what was sent and what could not be."""

    flows: int
    hit: int
    missed: int
    lost: int
    received: dict[str, int]
    sent: dict[str, int]
    unsent: dict[str, int]


class Control:
    """A connection to `--unixctl`. Raises OSError while nobody listens."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(60.0)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def ask(self, method: str, *parameters: str) -> str:
        """Return the answer's text. Raises RuntimeError with the error that it is."""
        request = {"id": 0, "method": method, "params": list(parameters)}
        self._socket.sendall(json.dumps(request).encode())
        text = ""
        while True:
            received = self._socket.recv(1 << 16)
            if not received:
                raise ConnectionError(f"ovs-vswitchd went away while asked for {method}")
            text += received.decode()
            try:
                answer = json.loads(text)
            except json.JSONDecodeError:
                continue  # not whole yet
            if answer.get("error") is not None:
                raise RuntimeError(f"ovs-vswitchd: {method} {' '.join(parameters)}: {answer['error']}")
            return str(answer["result"])

    def counters(self) -> tuple[Counters, float]:
        """Counters, and when they were read: in the middle of the question, monotonic seconds."""
        asked_s = time.monotonic()
        text = self.ask("dpctl/show", "-s", "netdev@ovs-netdev")
        return parse_counters(text), (asked_s + time.monotonic()) / 2

    def close(self) -> None:
        self._socket.close()


def listens(path: Path) -> bool:
    """Whether somebody answers there: the socket is made before it listens."""
    try:
        Control(path).close()
    except OSError:
        return False
    return True


def parse_counters(text: str) -> Counters:
    """Read what `dpctl/show -s` prints of one datapath. Raises ValueError if it is something else."""
    lookups = re.search(r"lookups: hit:(\d+) missed:(\d+) lost:(\d+)", text)
    flows = re.search(r"^\s+flows: (\d+)", text, re.MULTILINE)
    if not lookups or not flows:
        raise ValueError(f"no counters of a datapath in: {text[:200]!r}")
    received: dict[str, int] = {}
    sent: dict[str, int] = {}
    unsent: dict[str, int] = {}
    for part in re.split(r"^\s+port \d+: ", text, flags=re.MULTILINE)[1:]:
        name = part.split(maxsplit=1)[0]
        for direction, packets, dropped in (("RX", received, {}), ("TX", sent, unsent)):
            line = re.search(rf"{direction} packets:(\d+) errors:(\S+) dropped:(\S+)", part)
            if line:
                packets[name] = int(line[1])
                dropped[name] = sum(int(number) for number in line.groups()[1:] if number.isdigit())
    hit, missed, lost = map(int, lookups.groups())
    return Counters(int(flows[1]), hit, missed, lost, received, sent, unsent)
