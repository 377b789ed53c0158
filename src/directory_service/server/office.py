# SPDX-License-Identifier: Apache-2.0
"""The processes that do jobs, seen from the server: a writer, for changes and their dry runs, and a reader,
for lists, exports, history and reasons.

Each has a snapshot of its own and follows the store. The server hands them jobs and takes what came of them;
it never waits for one. One that ends is started again; what it had to do is answered with a sentence.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Container

import zmq

from directory_client.process.log import log_settings
from directory_client.wire.answers import Answer
from directory_service.configuration import Configuration
from directory_service.heard import News
from directory_service.protocol.jobs import WRITES, Done, Job
from directory_service.server.frames import Link

log = logging.getLogger(__name__)

START_AGAIN_S = (0.1, 1.0, 5.0)  # after the first end, the second, all others within a minute
CALM_S = 60.0
_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)
END_S = 1.0


class Worker:
    """One process and what it has to do. Started with its first job."""

    def __init__(self, name: str, configuration: Configuration, news: Callable[[int], News]) -> None:
        self.name = name
        self.link: Link | None = None
        self._configuration = configuration
        self._news = news
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs: dict[int, Job] = {}
        self._serial = 0
        self._ends: list[float] = []
        self.start_at: float | None = None

    @property
    def process_id(self) -> int | None:
        """Of the process, None where there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process; it loads the store meanwhile."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "directory_service.server.office_process", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        ours.setblocking(False)
        self.link = Link(ours)
        self.start_at = None
        self._serial = 0
        self.link.send((self.name, self._configuration, *log_settings()))
        waiting, self._jobs = self._jobs, {}
        for number, job in waiting.items():
            self.carry(number, job)

    def carry(self, number: int, job: Job) -> None:
        """Take a job."""
        self._jobs[number] = job
        if self.link is not None:
            news = self._news(self._serial)
            self._serial = news.serial
            self.link.send(("job", number, job, news if news.is_any else None))
        elif self.start_at is None:
            self.start()

    def take(self, configuration: Configuration) -> None:
        """Work with what directory.toml says now."""
        self._configuration = configuration
        if self.link is not None:
            self.link.send(("settings", configuration.settings))

    def look(self) -> None:
        """Say that the store has something new."""
        if self.link is not None:
            self.link.send(("look",))

    def receive(self, now: float) -> list[tuple[int, Done]]:
        """Return what has been done."""
        if self.link is None:
            return []
        done = [(number, one) for number, one in self.link.receive() if self._jobs.pop(number, None)]
        return done + self._ended(now) if self.link.is_closed else done

    def _ended(self, now: float) -> list[tuple[int, Done]]:
        assert self.link is not None
        assert self._process is not None
        self.link.close()
        self.link = None
        self._process.kill()
        status = self._process.wait()
        self._process = None
        self._ends = [*(at for at in self._ends if now - at < CALM_S), now]
        self.start_at = now + START_AGAIN_S[min(len(self._ends), len(START_AGAIN_S)) - 1]
        log.error("the directory's %s ended with status %d; it is started again", self.name, status)
        lost, self._jobs = self._jobs, {}
        return [
            (number, Done(0, refusal=_lost(self.name, job), counted="jobs_lost"))
            for number, job in lost.items()
        ]

    def end(self) -> None:
        """End the process: at once if it has nothing to do."""
        if self.link is not None:
            self.link.close()
            self.link = None
        if self._process is not None:
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


class Office:
    """Writer and reader. `news` says what gateways said since a serial."""

    def __init__(self, configuration: Configuration, news: Callable[[int], News]) -> None:
        self.writer = Worker("writer", configuration, news)
        self.reader = Worker("reader", configuration, news)
        self._workers = (self.writer, self.reader)

    def start(self) -> None:
        """Start both now, not with the first job."""
        for worker in self._workers:
            if worker.link is None:
                worker.start()

    def carry(self, number: int, job: Job) -> None:
        """Take a job."""
        (self.writer if job.verb in WRITES else self.reader).carry(number, job)

    def take(self, configuration: Configuration) -> None:
        """Have both work with what directory.toml says now."""
        for worker in self._workers:
            worker.take(configuration)

    def look(self) -> None:
        """Say that the store has something new."""
        for worker in self._workers:
            worker.look()

    def descriptors(self) -> dict[int, int]:
        """Give the descriptors to poll with ZeroMQ's poller, and for what: its POLLOUT is another number than
        select's."""
        links = [worker.link for worker in self._workers if worker.link is not None]
        return {link.fileno(): _POLLIN | (_POLLOUT if link.has_to_send else 0) for link in links}

    def due_at(self) -> float | None:
        """Return when `serve` has something to do without a descriptor being ready."""
        return min((worker.start_at for worker in self._workers if worker.start_at is not None), default=None)

    def serve(self, now: float, ready: Container[int]) -> list[tuple[int, Done]]:
        """Move what can be moved, of the descriptors that are ready; return what has been done."""
        done = []
        for worker in self._workers:
            if worker.link is not None:
                if worker.link.is_closed or worker.link.fileno() in ready:
                    worker.link.flush()
                    done += worker.receive(now)
            elif worker.start_at is not None and now >= worker.start_at:
                worker.start()
        return done

    def close(self) -> None:
        """End both."""
        for worker in self._workers:
            worker.end()


def _lost(name: str, job: Job) -> Answer:
    changes = job.verb in WRITES and not getattr(job.head, "dry_run", False)
    known = ": whether the change was made is not known" if changes else ""
    fix = "vnetctl history tells; try again, and look at the directory's log" if changes else "try again"
    error = f"the directory's {name} ended while it worked on this{known}"
    return Answer(ok=False, error=error, fix=fix, code=1)
