# SPDX-License-Identifier: Apache-2.0
"""A process of the gateway, known by its pid file, whoever started it.

The pid file `RUNTIME_DIR/NAME.pid` holds "PID STARTTIME" (field 22 of /proc/PID/stat, so that a reused pid is
told apart) and is locked (flock) for as long as the process lives: the lock is inherited through exec, so it
ends with the process and with nothing else. Whoever finds the lock held finds a living process.

    process = start("control", runtime_dir, [sys.executable, "-m", "gateway.main", "control", path])
    process.wait_fd                                # readable (poll) once it has ended, child or not
    found = find("control", runtime_dir)           # after a restart of whoever started it
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

# The shell writes what only the new process itself knows before there is anything else of it, then becomes
# the program: between fork and pid file no moment is left at which the death of the starter loses the child.
# A hang-up ends no process of ours; what is to be done on one is said by the program once it runs.
_WRITE_PID_AND_EXEC = (
    "trap '' HUP; read -r pid b c d e f g h i j k l m n o p q r s t u start rest </proc/$$/stat;"
    ' echo "$pid $start" >"$0"; exec "$@"'
)


class AlreadyRunning(Exception):
    """Raised where a process of that name lives already; `pid` is 0 while it is just being started."""

    def __init__(self, name: str, pid: int) -> None:
        super().__init__(f"{name} runs already (pid {pid})")
        self.name = name
        self.pid = pid


@dataclass
class Process:
    """A living process, or one that was. Close it when it has ended."""

    name: str
    pid: int
    wait_fd: int  # pidfd
    popen: subprocess.Popen[bytes] | None = None  # None: not a child of ours
    returncode: int | None = None

    def has_ended(self) -> bool:
        if not _readable(self.wait_fd):
            return False
        if self.popen is not None:
            self.returncode = self.popen.wait()
        return True

    def send(self, signum: signal.Signals) -> None:
        """Send a signal; a process that has ended meanwhile is none of the caller's worries."""
        try:
            signal.pidfd_send_signal(self.wait_fd, signum)
        except ProcessLookupError:
            log.debug("process=%s had ended before %s", self.name, signum.name)

    def close(self) -> None:
        os.close(self.wait_fd)

    def how_it_ended(self) -> str:
        if self.returncode is None:
            return "ended"
        if self.returncode < 0:
            return f"was killed by {signal.Signals(-self.returncode).name}"
        return f"exited with status {self.returncode}"


def start(name: str, runtime_dir: Path, command: Sequence[str]) -> Process:
    """Start `command` in a session of its own, under the name's pid file. Raises AlreadyRunning."""
    path = pid_file(runtime_dir, name)
    fd = _lock(name, path)
    try:
        os.ftruncate(fd, 0)
        environment = {k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"}
        popen = subprocess.Popen(
            ["/bin/sh", "-c", _WRITE_PID_AND_EXEC, str(path), *command],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what is not log is for the same reader
            pass_fds=(fd,),
            start_new_session=True,  # the terminal's Ctrl-C is the parent's to hand on
            env=environment,
        )
    finally:
        os.close(fd)
    return Process(name, popen.pid, os.pidfd_open(popen.pid), popen)


def find(name: str, runtime_dir: Path) -> Process | None:
    """Find the living process of that name; None where there is none. Raises AlreadyRunning with pid 0 while
    it is being started."""
    path = pid_file(runtime_dir, name)
    try:
        os.close(_lock(name, path))
    except AlreadyRunning as error:
        if error.pid == 0:
            raise
        pid = error.pid
    else:
        return None
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Only now is the pid pinned: look whether it is still the one that the file means.
    if read_pid_file(path) != (pid, start_time(pid)):
        os.close(fd)
        raise AlreadyRunning(name, 0)
    return Process(name, pid, fd)


def claim(name: str, runtime_dir: Path) -> int:
    """Take the pid file for the calling process, unless its starter did. Returns the descriptor that holds
    it (-1: the starter's). Raises AlreadyRunning."""
    path = pid_file(runtime_dir, name)
    try:
        fd = _lock(name, path)
    except AlreadyRunning as error:
        if error.pid == os.getpid():
            _keep_from_children(path)
            return -1
        raise
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()} {start_time(os.getpid())}\n".encode())
    return fd


def pid_file(runtime_dir: Path, name: str) -> Path:
    return runtime_dir / f"{name}.pid"


def read_pid_file(path: Path) -> tuple[int, int]:
    """Return (pid, start time); (0, 0) for a file that says neither."""
    try:
        pid, start = path.read_text("ascii").split()
        return int(pid), int(start)
    except (OSError, ValueError):
        return 0, 0


def is_gone(name: str, runtime_dir: Path) -> bool:
    """Tell whether a process of that name was here, and lives no more. Takes no lock, so it is in nobody's
    way."""
    pid, start = read_pid_file(pid_file(runtime_dir, name))
    return bool(pid) and start_time(pid) != start


def start_time(pid: int) -> int:
    """Return when the process started, in ticks since boot; -1 if there is none, or one that has ended
    and was not waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return -1
    # The command's name stands in parentheses and may hold anything: count from the last one.
    fields = stat.rpartition(")")[2].split()
    return -1 if fields[0] in "ZX" else int(fields[19])


def _lock(name: str, path: Path) -> int:
    # Whoever may open it may lock it, and a locked one is a living process: nobody else may.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyRunning(name, read_pid_file(path)[0]) from None
    return fd


def _keep_from_children(path: Path) -> None:
    """The lock means this process: what it starts must not hold it longer."""
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(int(entry)), path.stat()):
                os.set_inheritable(int(entry), False)


def _readable(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))
