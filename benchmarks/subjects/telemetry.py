# SPDX-License-Identifier: Apache-2.0
"""Counters of a DPDK program, read over its telemetry socket: they cost the polling thread nothing."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

REPLY_BYTES = 16384


def path_of(runtime: Path, prefix: str) -> Path:
    """Where a program listens that got RUNTIME_DIRECTORY=runtime and --file-prefix=prefix."""
    return runtime / "dpdk" / prefix / "dpdk_telemetry.v2"


class Telemetry:
    """A connection. Raises OSError while the program does not listen."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(10.0)
        try:
            self._socket.connect(str(path))
            self._socket.recv(REPLY_BYTES)  # the greeting
        except OSError:
            self._socket.close()
            raise

    def ask(self, command: str) -> Any:
        """Ask "/ethdev/list" or the like; return the part of the reply that answers. Raises OSError."""
        self._socket.send(command.encode())
        reply = self._socket.recv(REPLY_BYTES)
        if not reply:
            raise ConnectionError(f"the program went away while asked for {command}")
        return json.loads(reply)[command.partition(",")[0]]

    def statistics(self, port: int) -> tuple[dict[str, int], float]:
        """Counters of a port, and when they were read: in the middle of the question, monotonic seconds."""
        asked_s = time.monotonic()
        counters = self.ask(f"/ethdev/stats,{port}")
        return counters, (asked_s + time.monotonic()) / 2

    def close(self) -> None:
        self._socket.close()


def listens(path: Path) -> bool:
    """Whether a program answers there: the socket is made before it listens."""
    try:
        Telemetry(path).close()
    except OSError:
        return False
    return True
