# SPDX-License-Identifier: Apache-2.0
"""A thread that does what may wait for a disk, one thing after the other, while the server answers.

    afterwards.do(write)       # some time soon
    afterwards.then(carry)     # called by the server, between two messages, once all before it is done

What is written so is the audit file and the facts. A change is made only after its trace is written: the
server leaves it to `then`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from directory_service.protocol.audit import AuditFile

log = logging.getLogger(__name__)

RECORDS_MAX = 4_096  # that wait for the disk; more are lost, and counted
LATE_S = 1.0
END_S = 5.0


class Afterwards:
    """See the module. `call_soon` is the server's: it has a function called between two messages. `do` and
    `then` are called by the server's thread only."""

    def __init__(self) -> None:
        self.call_soon: Callable[[Callable[[], object]], object] = lambda call: call()
        self._work: deque[Callable[[], object]] = deque()
        self._there_is = threading.Semaphore(0)
        self._since: float | None = None  # what is being done began
        self._awaited = 0  # calls that `then` was asked for and that have not been made
        self._thread = threading.Thread(target=self._run, name="afterwards", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._work) + (self._since is not None)

    @property
    def late_s(self) -> float:
        """For how long the thing that is being done has taken already."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def do(self, work: Callable[[], object]) -> None:
        """Have something done, which may wait for a disk."""
        self._work.append(work)
        self._there_is.release()

    def then(self, call: Callable[[], object]) -> None:
        """Have the server call this once all that was to be done before is done: now, if nothing waits."""
        if not self and not self._awaited:
            call()
            return
        self._awaited += 1

        def called() -> None:
            self._awaited -= 1
            call()

        self.do(partial(self.call_soon, called))

    def end(self) -> bool:
        """Do what is left, and end. Returns whether it has ended: a disk may take nothing."""
        self.do(self._end)
        self._thread.join(END_S)
        return not self._thread.is_alive()

    @staticmethod
    def _end() -> None:
        raise SystemExit

    def _run(self) -> None:
        while True:
            self._there_is.acquire()
            self._since = time.monotonic()
            work = self._work.popleft()
            try:
                work()
            except SystemExit:
                return
            except Exception as error:  # the thread must not end: changes would wait for ever
                log.error("what was to be written is lost", exc_info=error)
            self._since = None


class LaterAudit(AuditFile):
    """An audit file that is written by somebody else. See AuditFile."""

    def __init__(self, path: Path, afterwards: Afterwards) -> None:
        super().__init__(path)
        self._afterwards = afterwards
        self._lost = 0

    @property
    def trouble(self) -> str:
        """Why records are not written, empty if they are."""
        if (late_s := self._afterwards.late_s) > LATE_S:
            return f"the disk has not taken a record for {late_s:.0f} s"
        return self.problem

    def write(self, record: dict[str, Any]) -> None:
        """Have a record appended; one for which there is no room is counted."""
        if len(self._afterwards) >= RECORDS_MAX:
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        self._afterwards.do(partial(self._write, record, lost))

    def move(self, path: Path) -> None:
        """Write to another file what comes from now on."""
        self._afterwards.do(partial(super().move, path))

    def _write(self, record: dict[str, Any], lost: int) -> None:
        self.missing += lost
        super().write(record)
