# SPDX-License-Identifier: Apache-2.0
"""A program under measurement: started on its processors, stopped and continued by signal, ended for sure."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

END_S = 10.0
LOG_LINES = 12


class Child:
    """A process of its own session, its output in a file. Leaving the context ends it, stopped or not."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        cpus: Sequence[int],
        *,
        environment: Mapping[str, str] | None = None,
        namespace: str | None = None,
        new_network: bool = False,
        terminal: bool = False,
    ) -> None:
        """`namespace` names a network namespace to run in; `new_network` makes one without a name, loopback
        up and IPv6 off: nothing but what is measured sends packets there. `terminal`: its input is one."""
        self._name = Path(command[0]).name
        self._log = log
        # Should we be killed, it is as well: a stopped one would stay for ever.
        prefix = ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", ",".join(map(str, cpus))]
        if namespace:
            prefix = ["ip", "netns", "exec", namespace, *prefix]
        if new_network:
            quiet = "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; ip link set lo up; "
            prefix = ["unshare", "--net", "sh", "-c", quiet + 'exec "$@"', "sh", *prefix]
        self._terminal: int | None = None
        standard_input = subprocess.PIPE
        if terminal:
            self._terminal, standard_input = pty.openpty()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*prefix, *command],
                stdin=standard_input,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        if terminal:
            os.close(standard_input)

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Raises RuntimeError if the process is gone."""
        self.alive()
        self.process.send_signal(number)

    def alive(self) -> None:
        """Raises RuntimeError with the end of its log if the process is gone."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self._name} ended with {self.process.returncode}:\n{self.log_end()}")

    def until(self, condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
        """Wait for a condition that may be asked of the process itself.

        Raises RuntimeError when the process is gone or time is up."""
        end_s = time.monotonic() + seconds
        while not self._holds(condition):
            self.alive()
            if time.monotonic() > end_s:
                raise RuntimeError(f"{self._name}: not so after {seconds:.0f} s: {what}\n{self.log_end()}")
            time.sleep(0.005)

    @staticmethod
    def _holds(condition: Callable[[], object]) -> bool:
        try:
            return bool(condition())
        except (ConnectionError, FileNotFoundError):
            return False  # not yet there, or gone: alive() tells

    def log_end(self) -> str:
        return "\n".join(self.log_text().splitlines()[-LOG_LINES:])

    def log_text(self) -> str:
        return self._log.read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """Processor time of all its threads, user and kernel."""
        return cpu_seconds(Path(f"/proc/{self.pid}/stat").read_text())

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.stdin:
            self.process.stdin.close()  # testpmd waits for a line of it, whatever the signal
        if self._terminal is not None:
            os.close(self._terminal)
        if self.process.poll() is None:
            self.process.terminate()
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def cpu_seconds(stat: str) -> float:
    """utime + stime of a line of /proc/PID/stat; the name in it may hold blanks and brackets."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(command: Sequence[str], *, text: str | None = None, seconds: float = 60.0) -> str:
    """Run a command to its end and return what it prints. Raises RuntimeError with its error output."""
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=seconds, check=False, errors="replace"
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:6])}: ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
