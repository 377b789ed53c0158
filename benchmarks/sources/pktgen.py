# SPDX-License-Identifier: Apache-2.0
"""Pktgen-DPDK as a source: started for one port, driven over its Lua socket.

The socket takes Lua and answers nothing: what `print` says goes to Pktgen's screen. So each question is Lua
that writes its answer into a file and renames it, and the answer is there when the file is.

It comes up only once somebody has connected to its virtio port: start the subject before `connect`."""

from __future__ import annotations

import socket
from itertools import count
from pathlib import Path

from benchmarks.sources import eal
from benchmarks.subject import Bed
from benchmarks.subjects.child import Child

PROGRAM = "pktgen"
MEGABYTES = 2048  # it makes pools for every way of sending, used or not
PORT = 0
ANSWER_S = 20.0


class Pktgen:
    """One Pktgen with one port that repeats the frames of a file."""

    def __init__(self, bed: Bed, directory: Path, file: Path, device: str) -> None:
        self._bed, self._directory, self._file, self._device = bed, directory, file, device
        self._socket: socket.socket | None = None
        self._child: Child | None = None
        self._numbers = count()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._tcp_port: int = free.getsockname()[1]

    def command(self) -> list[str]:
        """Its command line: EAL's part, then its own."""
        cpu = self._bed.other_cpus[-1]
        return [
            PROGRAM,
            *eal.lcores(self._bed.other_cpus, [cpu]),
            *["--no-huge", "--no-shconf", "-m", str(MEGABYTES)],
            "--file-prefix=source",
            *["--no-pci", "--vdev", self._device],
            "--",
            *["-g", f"127.0.0.1:{self._tcp_port}"],
            *["-m", f"1.{PORT}"],
            *["-s", f"{PORT}:{self._file}"],
        ]

    def connect(self, child: Child) -> None:
        """Wait until it listens."""
        self._child = child
        child.until(self._connected, "Pktgen listens for Lua", ANSWER_S)

    def start(self, rate_percent: float = 100.0) -> None:
        """Send the file over and over, at a share of the rate that the port claims."""
        self._run(
            f'pktgen.screen("off"); pktgen.set("{PORT}", "rate", {rate_percent}); pktgen.start("{PORT}")'
        )

    def stop(self) -> None:
        self._run(f'pktgen.stop("{PORT}")')

    def measure_latency(self, on: bool) -> None:
        """Stamp packets; what comes back to this port unchanged counts in the latencies of `statistics`."""
        self._run(f'pktgen.latency("{PORT}", "{"enable" if on else "disable"}")')

    def statistics(self) -> dict[str, float]:
        """Rates, totals and latencies by Pktgen's own names: rate.pkts_tx, port.opackets and the like."""
        return parse(self._ask(_STATISTICS))

    def close(self) -> None:
        if self._socket:
            self._socket.close()

    def _connected(self) -> bool:
        try:
            self._socket = socket.create_connection(("127.0.0.1", self._tcp_port), ANSWER_S)
        except ConnectionRefusedError:
            return False
        return True

    def _run(self, lua: str) -> None:
        self._ask(lua)

    def _ask(self, lua: str) -> str:
        """Run one line of Lua whose `out` collects the answer's lines; wait for the answer."""
        if self._socket is None or self._child is None:
            raise RuntimeError("Pktgen was asked before it was connected to")
        path = self._directory / f"pktgen-{next(self._numbers)}"
        self._socket.sendall(question(lua, path).encode())
        self._child.until(path.exists, f"Pktgen answers: {lua[:60]}", ANSWER_S)
        return path.read_text()


_STATISTICS = (
    'local function put(p, t) for k, v in pairs(t) do if type(v) == "table" then put(p .. k .. ".", v) '
    'elseif type(v) == "number" then out[#out + 1] = p .. k .. " " .. v end end end; '
    f'put("rate.", pktgen.portStats("{PORT}", "rate")[{PORT}]); '
    f'put("port.", pktgen.portStats("{PORT}", "port")[{PORT}]); '
    f'put("", pktgen.pktStats("{PORT}")[{PORT}])'
)


def question(lua: str, path: Path) -> str:
    """A line for the socket: the answer, or "error " and why, is in the file once that is there."""
    return (
        f"do local out = {{}}; local ok, why = pcall(function() {lua} end); "
        f'local f = io.open("{path}.new", "w"); '
        'f:write(ok and table.concat(out, "\\n") or "error " .. tostring(why)); f:close(); '
        f'os.rename("{path}.new", "{path}") end\n'
    )


def parse(text: str) -> dict[str, float]:
    """Read lines of a name and a number. Raises RuntimeError with Lua's error."""
    if text.startswith("error "):
        raise RuntimeError(f"Pktgen's Lua: {text[6:]}")
    pairs = (line.split() for line in text.splitlines() if line)
    return {name: float(number) for name, number in pairs}
