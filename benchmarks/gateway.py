# SPDX-License-Identifier: Apache-2.0
"""The whole product on a bench: directory, parent, control, slow path and data plane, from files made here.

It lives in a network namespace of its own. The poll thread has a processor for itself, all other threads and
processes share the others. Far ends of tunnels are there by name only: their neighbour entries are
permanent, and what is sent to them leaves by a sink.

    with Gateway(directory, bed, ports, options) as gateway:
        gateway.apply(document)
        gateway.until(lambda: gateway.counters()["flows"] == 1000, "1000 flows are cached")
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.sources import traffic
from benchmarks.subject import Bed
from directory_client.client import DirectoryClient
from directory_client.wire.messages import DirectoryError
from fastpath.rings import DataPlaneUnreachable, RingClient
from gateway.processes.process import pid_file, read_pid_file, start_time

NODE = f"bench-{os.getpid()}"  # names the tables in /dev/shm: two runs do not meet
UNDERLAY, CAPTURE = "underlay", "capture"  # ports, and the names of their exception interfaces
PROCESSES = ("parent", "control", "slow-path-0", "data-plane")
STOP_S = 10.0
VETH_MTU_BYTES = 2000  # the largest frame in VXLAN fits
_NUMBERS = count()


class GatewayFailed(Exception):
    """The product did not do what the benchmark needs; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Limits:
    """Limits that an operator sets for a tenant that may miss so much; the defaults guard against floods."""

    packets: int = 8_192
    packets_per_vnet: int = 8_192
    packets_per_ingress: int = 8_192
    packets_per_flow: int = 16
    misses_per_ingress_s: int = 10_000_000

    def text(self) -> str:
        return "".join(f"{name} = {value}\n" for name, value in vars(self).items())

    def words(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in vars(self).items())


class Gateway:
    """One gateway. `ports`: name → (device, role); an underlay port is called "underlay". Needs root."""

    def __init__(
        self,
        bed: Bed,
        directory: Path,
        ports: Mapping[str, tuple[str, str]],
        *,
        flows: int = 4_096,
        limits: Limits | None = None,
        packet_buffers: int = 0,
        veths: Mapping[str, str] | None = None,
        idle: str = "spin",
        neighbours: Mapping[str, str] | None = None,
    ) -> None:
        self.bed = bed
        self.run_dir = directory / "run"
        self.namespace = f"vnet-bench-{os.getpid()}-{next(_NUMBERS)}"
        self._directory = directory
        self._neighbours = neighbours or {}  # on the underlay: address → MAC
        self._veths = veths or {}  # interface here → its peer, an interface in the gateway's namespace
        self._processes: list[subprocess.Popen[bytes]] = []
        self._observer: RingClient | None = None
        self._operator: DirectoryClient | None = None
        self._exceptions = [name for name, (_, role) in ports.items() if role != "inside"]
        self._file = directory / "gateway.toml"
        self.run_dir.mkdir(parents=True)
        limits = limits or Limits()
        self._file.write_text(
            f'name = "{NODE}"\ndirectory = ["ipc://{self.run_dir}"]\nlocators = ["{traffic.LOCAL_ADDRESS}"]\n'
            f'runtime_dir = "{self.run_dir}"\nstate_dir = "{directory}/state"\n'
            + "".join(_port(name, *port) for name, port in ports.items())
            + f'[threads]\npoll_cpus = [{bed.poll_cpu}]\nspare_data_plane = false\nidle = "{idle}"\n'
            + f"control_cpus = {list(bed.other_cpus)}\n"
            + f'[memory]\nhugepages = "{"auto" if bed.hugepages else "never"}"\n'
            + f"packet_buffers = {max(16_384, packet_buffers + 16_384)}\n"
            + f"[capacity]\nflows = {max(4_096, 3 * flows)}\nlocations = 32768\n"
            + f"[hold]\n{limits.text()}"
        )
        (directory / "directory.toml").write_text(
            f'name = "{NODE}"\nlisten = "ipc://{self.run_dir}"\n[store]\nkind = "memory"\n'
            "[answers]\nlifetime_s = 86400\n"
            "[limits]\nresolves_per_second_per_vnet = 100_000_000\nlate_ms = 500\n"
        )

    # -- life

    def __enter__(self) -> Gateway:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        for outside, inside in self._veths.items():
            run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", self.namespace)
            up = ("mtu", str(VETH_MTU_BYTES), "up", "addrgenmode", "none")
            run("ip", "link", "set", outside, *up)
            run("ip", "-n", self.namespace, "link", "set", inside, *up)
        self._spawn("-m", "directory_service.main", "run", str(self._directory / "directory.toml"))
        self._spawn("-m", "gateway.main", "run", str(self._file))
        self._operator = DirectoryClient([f"ipc://{self.run_dir}"])
        self.until(self._answers, "the data plane answers", 60.0)
        if self._neighbours:
            self.until(self._set_neighbours, "the exception interface is there")

    def _spawn(self, *words: str) -> None:
        cpus = ",".join(str(cpu) for cpu in self.bed.other_cpus)
        root = Path(__file__).resolve().parents[1]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)])}
        bound = ["setpriv", "--pdeathsig", "TERM"]  # should we be killed
        command = [
            "ip",
            "netns",
            "exec",
            self.namespace,
            *bound,
            "taskset",
            "-c",
            cpus,
            sys.executable,
            *words,
        ]
        with (self._directory / "log").open("ab") as log:
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))

    def _set_neighbours(self) -> bool:
        for device in self._exceptions:
            done = subprocess.run(
                ["ip", "-n", self.namespace, "-br", "link", "show", "up", "dev", device],
                capture_output=True,
                check=False,
            )
            if done.returncode or not done.stdout:
                return False
            lines = (
                f"neigh replace {address} lladdr {mac} dev {device} nud permanent\n"
                for address, mac in self._neighbours.items()
            )
            run("ip", "-n", self.namespace, "-batch", "-", text="".join(lines))
        return True

    def close(self) -> None:
        """End all processes and remove the namespace."""
        for client in (self._observer, self._operator):
            if client is not None:
                client.close()
        self._observer = self._operator = None
        self.signal("data-plane", signal.SIGCONT)
        for process in reversed(self._processes):  # the parent first: it ends its own
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        for name in PROCESSES:
            self.signal(name, signal.SIGKILL)
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()
        for outside in self._veths:
            subprocess.run(["ip", "link", "del", outside], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, capture_output=True)
        for left in Path("/dev/shm").glob(f"vnet-{NODE}*"):
            left.unlink()

    # -- what an operator does

    def apply(self, document: str) -> None:
        """Apply a topology, whenever the directory is there to take it."""

        def applied() -> bool:
            assert self._operator is not None
            try:
                answer = self._operator.call(
                    "apply", text=document, name="bench.toml", user="bench", wait_ms=0, timeout_s=60.0
                )
            except DirectoryError as error:
                if error.code != 3:
                    raise GatewayFailed(self._said(f"the topology is refused: {error}")) from error
                return False
            return bool(answer["ok"])

        self.until(applied, "the topology is applied", 90.0)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Signal one of the processes, if it lives."""
        if pid := self.pid(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
        """Wait for something that is true and return it. Raises GatewayFailed."""
        deadline_s = time.monotonic() + timeout_s
        while not (found := condition()):
            if time.monotonic() > deadline_s:
                raise GatewayFailed(self._said(f"never happened: {what}"))
            for process in self._processes:
                if process.poll() is not None:
                    raise GatewayFailed(self._said(f"a process ended with status {process.returncode}"))
            time.sleep(0.002)
        return found

    # -- what it says of itself

    def ask(self, **question: Any) -> dict[str, Any]:
        """Ask the data plane. Raises DataPlaneUnreachable."""
        if self._observer is None:
            self._observer = RingClient(self.run_dir / "dataplane.sock", "observer", timeout_s=20.0)
        try:
            return dict(self._observer.ask(question))
        except DataPlaneUnreachable:
            self._observer.close()
            self._observer = None
            raise

    def counters(self) -> dict[str, int]:
        """Return the data plane's counters and, as "dropped", the sum of all drops."""
        return self.snapshot()["counters"]  # type: ignore[no-any-return]

    def snapshot(self) -> dict[str, Any]:
        """Return the whole counters dump; "dropped" among the counters is the sum of all drops."""
        answer = self.ask(dump="counters")
        answer["counters"]["dropped"] = sum(row["packets"] for row in answer["drops"])
        return answer

    def tunnels_up(self) -> int:
        return sum(row["state"] == "up" for row in self.ask(dump="tunnels", limit=512)["rows"])

    def pid(self, name: str) -> int:
        """Return the pid of one of PROCESSES or of "directory"; 0 while it does not live."""
        if name == "directory":
            return self._processes[0].pid if self._processes and self._processes[0].poll() is None else 0
        pid, started = read_pid_file(pid_file(self.run_dir, name))
        return pid if pid and start_time(pid) == started else 0

    def cpu_seconds(self) -> dict[str, float]:
        """Return the processor time that each process has used; the data plane without its threads "poll"
        and "housekeeping", which stand for themselves."""
        used = {name: _cpu_s(pid) for name in (*PROCESSES, "directory") if (pid := self.pid(name))}
        plane = used.pop("data-plane", {})
        found = {name: sum(threads.values()) for name, threads in used.items()}
        for name, cpu_s in plane.items():
            kind = "poll" if name.startswith("poll-") else name
            kind = kind if kind in ("poll", "housekeeping") else "data-plane"
            found[kind] = found.get(kind, 0.0) + cpu_s
        return found

    def _answers(self) -> bool:
        try:
            return bool(self.counters())
        except DataPlaneUnreachable:
            return False

    def _said(self, problem: str) -> str:
        lines = (self._directory / "log").read_text(errors="replace").splitlines()[-15:]
        return "\n".join([problem, *lines])


def run(*command: str, text: str | None = None) -> None:
    """Run a command that has to succeed, `text` its input. Raises GatewayFailed with what it said."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GatewayFailed(f"{' '.join(command)}: {done.stderr.strip()}")


def _port(name: str, device: str, role: str) -> str:
    more = "" if role == "inside" else ", mtu_bytes = 1700"
    address = f"{traffic.LOCAL_ADDRESS}/{traffic.UNDERLAY_BITS}"
    more += f', addresses = ["{address}"]' if name == UNDERLAY else ""
    return f'port.{name} = {{ device = "{device}", role = "{role}"{more} }}\n'


def _cpu_s(pid: int) -> dict[str, float]:
    """Return the processor time of a process's threads by their names."""
    found: dict[str, float] = {}
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            name = path.with_name("comm").read_text().strip()
            found[name] = found.get(name, 0.0) + int(path.read_text().split()[0]) / 1e9
    return found
