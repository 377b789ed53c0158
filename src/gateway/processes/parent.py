# SPDX-License-Identifier: Apache-2.0
"""`vnet-gateway run`: starts the gateway's processes, restarts those that end, and does nothing else.

Its death ends none of them: they are in sessions of their own and hold their own standard error. The next
parent finds the living by their pid files (process.py) and watches them by pidfd. SIGTERM or SIGINT stop all,
the data plane last. SIGHUP has all read their files again (reloading.py). One parent per runtime_dir:
`parent.pid` is locked.

    Parent(runtime_dir, [Child("data-plane", [...]), Child("control", [...], "data-plane"), ...]).run()
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from directory_client.process.notify import notify
from gateway.processes import process
from gateway.processes.backoff import Backoff
from gateway.processes.process import AlreadyRunning, Process

log = logging.getLogger(__name__)

STOP_S = 10.0  # how long a process may take to end after SIGTERM
STARTING_RETRY_S = 0.02
MAY_START_RETRY_S = 0.2


@dataclass
class Child:
    """What the parent keeps alive. `stop_rank`: lower ranks are stopped first, equal ones together.
    `may_start`: it is not started before this is true."""

    name: str
    command: Sequence[str]
    stop_rank: int = 0
    process: Process | None = None
    backoff: Backoff = field(default_factory=Backoff)
    start_at_s: float = 0.0
    was_started: bool = False
    may_start: Callable[[], bool] = lambda: True


class Parent:
    """Runs in the main thread (signals). `tell(event, text)` hears of every start, adoption and end. SIGHUP
    is handed on to all, and `on_hang_up` called."""

    def __init__(
        self,
        runtime_dir: Path,
        children: Sequence[Child],
        tell: Callable[[str, str], None] | None = None,
        on_hang_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._runtime_dir = runtime_dir
        self._children = list(children)
        self._tell_others = tell
        self._on_hang_up = on_hang_up
        self._hung_up = False
        self._poller = select.poll()
        self._stopping = False

    def run(self) -> int:
        """Keep all children alive until SIGTERM or SIGINT. Returns the exit status. Raises AlreadyRunning."""
        lock = process.claim("parent", self._runtime_dir)
        wake_r, wake_w = socket.socketpair()
        wake_r.setblocking(False)
        wake_w.setblocking(False)
        before = {s: signal.signal(s, self._stop) for s in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        before_wakeup = signal.set_wakeup_fd(wake_w.fileno(), warn_on_full_buffer=False)
        self._poller.register(wake_r, select.POLLIN)
        try:
            self._start_due()
            notify("READY=1")
            while not self._stopping:
                self._wait(self._next_start_s())
                _drain(wake_r)
                self._watch()
                self._start_due()
                if self._hung_up:
                    self._hung_up = False
                    self._hand_on_hang_up()
            notify("STOPPING=1")
            self._stop_all()
            return 0
        finally:
            signal.set_wakeup_fd(before_wakeup)
            for signum, handler in before.items():
                signal.signal(signum, handler)
            wake_r.close()
            wake_w.close()
            if lock >= 0:
                os.close(lock)

    def _stop(self, signum: int, _frame: object) -> None:
        self._stopping = True

    def _hang_up(self, signum: int, _frame: object) -> None:
        self._hung_up = True

    def _hand_on_hang_up(self) -> None:
        for child in self._children:
            if child.process is not None:
                child.process.send(signal.SIGHUP)
        self._on_hang_up()

    def _wait(self, until_s: float | None) -> None:
        timeout_ms = None if until_s is None else max(0.0, (until_s - time.monotonic()) * 1000)
        self._poller.poll(timeout_ms)

    def _next_start_s(self) -> float | None:
        return min((c.start_at_s for c in self._children if c.process is None), default=None)

    def _start_due(self) -> None:
        now_s = time.monotonic()
        for child in self._children:
            if child.process is None and child.start_at_s <= now_s and not self._stopping:
                self._find_or_start(child, now_s)

    def _find_or_start(self, child: Child, now_s: float) -> None:
        try:
            found = process.find(child.name, self._runtime_dir)
            if found is None and not child.may_start():
                child.start_at_s = now_s + MAY_START_RETRY_S
                return
            child.process = found or process.start(child.name, self._runtime_dir, child.command)
        except AlreadyRunning:  # between its fork and the first line of its pid file
            child.start_at_s = now_s + STARTING_RETRY_S
            return
        except OSError as error:
            self._tell(child, "process_ended", f"could not be started: {error}")
            child.start_at_s, child.backoff = child.backoff.ended(now_s)
            return
        child.backoff = child.backoff.started(now_s)
        self._poller.register(child.process.wait_fd, select.POLLIN)
        what = "adopted" if found else "restarted" if child.was_started else "started"
        child.was_started = True
        self._tell(child, f"process_{what}", f"{what} with pid {child.process.pid}")

    def _watch(self) -> None:
        now_s = time.monotonic()
        for child in self._children:
            if child.process is None or not child.process.has_ended():
                continue
            child.start_at_s, child.backoff = child.backoff.ended(now_s)
            wait_ms = round((child.start_at_s - now_s) * 1000)
            how = child.process.how_it_ended()
            self._forget(child)
            if not self._stopping:
                self._tell(child, "process_ended", f"{how}; starts again in {wait_ms} ms")

    def _forget(self, child: Child) -> None:
        if child.process is not None:
            self._poller.unregister(child.process.wait_fd)
            child.process.close()
            child.process = None

    def _stop_all(self) -> None:
        for rank in sorted({c.stop_rank for c in self._children}):
            self._stop_some([c for c in self._children if c.stop_rank == rank and c.process is not None])

    def _stop_some(self, children: list[Child]) -> None:
        for child in children:
            if child.process is not None:
                child.process.send(signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_S
        while any(c.process for c in children):
            self._wait(deadline_s)
            self._watch()
            if time.monotonic() >= deadline_s:
                for child in children:
                    if child.process is not None:
                        log.warning("process=%s did not end in %.0f s: killed", child.name, STOP_S)
                        child.process.send(signal.SIGKILL)
                deadline_s = time.monotonic() + STOP_S

    def _tell(self, child: Child, event: str, text: str) -> None:
        log.log(logging.WARNING if event == "process_ended" else logging.INFO, "%s %s", child.name, text)
        if self._tell_others is not None:
            self._tell_others(event, f"{child.name} {text}")


def _drain(sock: socket.socket) -> None:
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        return
