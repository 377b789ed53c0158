# SPDX-License-Identifier: Apache-2.0
"""Control's questions to the data plane, never waiting for an answer (docs/protocol.md, section 1, as
observer).

Questions queue up; one is on its way at a time. A data plane that is gone, or silent for longer than
`TIMEOUT_S`, fails what is queued at once and is tried again ten times a second. One thread.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

from gateway.state.job import Answer, Refused

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
RETRY_S = 0.1
MESSAGE_BYTES_MAX = 1 << 20
QUEUE_MAX = 1024

Done = Callable[[Answer | Refused], None]


class DataPlaneLink:
    """The observer's connection. `on_found` is called with the greeting when it is up, `on_lost` when it is
    not any more."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        on_found: Callable[[Answer], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.path = path
        self.greeting: Answer | None = None
        self.why = "was not found yet"
        self.lost_at: float | None = None
        self._clock = clock
        self._on_found = on_found
        self._on_lost = on_lost
        self._socket: socket.socket | None = None
        self._queue: deque[tuple[dict[str, Any], Done]] = deque()
        self._asked: Done | None = None
        self._deadline_s = 0.0
        self._retry_s = 0.0

    @property
    def up(self) -> bool:
        return self.greeting is not None

    def fileno(self) -> int | None:
        """Return the descriptor to poll for reading, None while there is no connection."""
        return self._socket.fileno() if self._socket is not None else None

    def ask(self, question: dict[str, Any], done: Done) -> None:
        """Ask; `done` is called with the answer, or with Refused at once if nobody is there."""
        if not self.up or len(self._queue) >= QUEUE_MAX:
            done(self.refusal())
            return
        self._queue.append((question, done))
        self._send_next()

    def refusal(self) -> Refused:
        return Refused(
            f"the data plane {self.why}", "systemctl status vnet-gateway    or see the log of vnet-gateway", 3
        )

    def tick(self) -> None:
        """Connect, or give up waiting; often enough (ten times a second)."""
        now = self._clock()
        if self._socket is None:
            if now >= self._retry_s:
                self._retry_s = now + RETRY_S
                self._connect(now)
        elif self._asked is not None and now > self._deadline_s:
            self.lose(f"does not answer at {self.path}")

    def readable(self) -> None:
        """Take what came. Anything odd ends the connection."""
        while self._socket is not None:
            try:
                raw = self._socket.recv(MESSAGE_BYTES_MAX)
            except BlockingIOError:
                return
            except ConnectionResetError:
                self.lose("has ended")
                return
            except OSError as error:
                self.lose(f"broke the connection ({error.strerror})")
                return
            if not raw:
                self.lose("has ended")
                return
            try:
                answer = msgpack.unpackb(raw, strict_map_key=False)
            except (ValueError, msgpack.UnpackException):
                answer = None
            if not isinstance(answer, dict) or self._asked is None:
                self.lose("sent something that is no answer")
                return
            done, self._asked = self._asked, None
            done(answer)
            self._send_next()

    def lose(self, why: str) -> None:
        """End the connection; everything that waits for an answer is refused."""
        was_up = self.up
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.greeting = None
        self.why = why
        waiting = [done for _, done in self._queue]
        if self._asked is not None and was_up:
            waiting.insert(0, self._asked)
        self._queue.clear()
        self._asked = None
        self._retry_s = self._clock() + RETRY_S
        if was_up:
            self.lost_at = self._clock()
            self._on_lost(why)
        for done in waiting:
            done(self.refusal())

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self, now: float) -> None:
        made = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            made.connect(str(self.path))
            made.send(msgpack.packb({"v": 1, "hello": "observer", "worker": 0, "workers": 1}))
        except OSError as error:
            made.close()
            self.why = f"does not answer at {self.path}"
            log.debug("%s: %s", self.path, error)
            return
        self._socket = made
        self._asked = self._greeted
        self._deadline_s = now + TIMEOUT_S

    def _greeted(self, answer: Answer | Refused) -> None:
        if isinstance(answer, Refused):
            return
        if not answer.get("ok"):
            self.lose(f"refuses control: {answer.get('error', 'no reason given')}")
            return
        self.greeting = answer
        self._on_found(answer)

    def _send_next(self) -> None:
        if self._asked is not None or not self._queue or self._socket is None:
            return
        question, done = self._queue.popleft()
        self._asked = done
        self._deadline_s = self._clock() + TIMEOUT_S
        try:
            self._socket.send(msgpack.packb({"v": 1, **question}))
        except OSError as error:
            self.lose(f"broke the connection ({error.strerror})")
