# SPDX-License-Identifier: Apache-2.0
"""Where jobs wait until they are done: one at a time here, or elsewhere, while others are served.

Whoever asked is answered once the server has taken up the revision at which the job was done: nobody learns
of a change before gateways can be told of it. Pure; the server carries jobs away and brings back what came of
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from directory_client.wire.answers import Answer, Progress
from directory_client.wire.messages import DirectoryError, encode
from directory_service.protocol.jobs import Done, Job, refuse
from directory_service.protocol.outbox import Out, Peer, Reply

JOBS_MAX = 256
JOBS_MAX_OF_ONE = 32  # of one key, or of all who came over ipc
PROGRESS_S = 1.0
DOCUMENTS_MAX = 8  # that wait at once: so many times document_bytes

Finish = Callable[[Done, float], list[Out]]


@dataclass(slots=True)
class _Waiting:
    finish: Finish
    peer: Peer
    asked: tuple[bytes, int | None, str]
    name: str
    text_bytes: int
    since: float
    told_at: float


class Desk:
    """See the module. `do` does a job here and now; with None, jobs are what `carry` is called with, and
    `done` is to be called for each."""

    def __init__(self, do: Callable[[Job], Done] | None, text_bytes_max: int) -> None:
        self._do = do
        self._text_bytes_max = text_bytes_max * DOCUMENTS_MAX
        self._text_bytes = 0
        self._next = 0
        self._waiting: dict[int, _Waiting] = {}
        self._asked: set[tuple[bytes, int | None, str]] = set()
        self._of_one: Counter[str] = Counter()
        self._held: list[tuple[_Waiting, Done]] = []  # done at revisions that are being taken up
        self.carry: Callable[[int, Job], None] = lambda number, job: None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._held)

    def is_asked(self, peer: Peer, id: int | None, verb: str) -> bool:
        """Tell whether this very request waits already."""
        return id is not None and (peer.connection, id, verb) in self._asked

    def submit(self, peer: Peer, job: Job, finish: Finish, now: float) -> list[Out]:
        """Have a job done; `finish` says what to send then. Asked again while it waits, it is done once.
        Raises DirectoryError where too much waits already."""
        if self._do is not None:
            return finish(self._do(job), now)
        asked = (peer.connection, job.head.id, job.verb)
        if job.told is None and self.is_asked(peer, job.head.id, job.verb):
            return []
        text_bytes = len(getattr(job.head, "text", ""))
        name = job.identity.name
        if (
            len(self) >= JOBS_MAX
            or self._of_one[name] >= JOBS_MAX_OF_ONE
            or (self._text_bytes and self._text_bytes + text_bytes > self._text_bytes_max)
        ):
            raise DirectoryError("too many requests wait for the directory", "try again in a few seconds")
        self._next += 1
        self._waiting[self._next] = _Waiting(finish, peer, asked, name, text_bytes, now, now)
        self._asked.add(asked)
        self._of_one[name] += 1
        self._text_bytes += text_bytes
        self.carry(self._next, job)
        return []

    def done(self, number: int, done: Done, revision: int, now: float) -> list[Out]:
        """Take what came of a job; `revision` is the server's."""
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return []
        if done.revision > revision:
            self._held.append((waiting, done))
            return []
        return self._finish(waiting, done, now)

    def taken_up(self, revision: int, now: float) -> list[Out]:
        """Answer what was done at revisions that the server has now."""
        if not self._held:
            return []
        ready = [pair for pair in self._held if pair[1].revision <= revision]
        self._held = [pair for pair in self._held if pair[1].revision > revision]
        return [out for waiting, done in ready for out in self._finish(waiting, done, now)]

    def progress(self, now: float) -> list[Out]:
        """Tell those who wait for longer that they are not forgotten: seconds since they asked, and how many
        requests come before theirs."""
        outs: list[Out] = []
        for before, waiting in enumerate(self._waiting.values()):
            if now - waiting.told_at < PROGRESS_S or waiting.asked[1] is None:
                continue
            waiting.told_at = now
            told = Progress(int(now - waiting.since), before)
            frames = encode(Answer(id=waiting.asked[1], progress=told))
            outs.append(Reply(waiting.peer.channel, waiting.peer.connection, frames))
        return outs

    def _finish(self, waiting: _Waiting, done: Done, now: float) -> list[Out]:
        self._asked.discard(waiting.asked)
        self._text_bytes -= waiting.text_bytes
        self._of_one[waiting.name] -= 1
        if not self._of_one[waiting.name]:
            del self._of_one[waiting.name]
        try:
            return waiting.finish(done, now)
        except Exception as error:  # that one answer fails is nobody's business but theirs
            _, refusal = refuse(error, waiting.asked[2])
            refusal.id = waiting.asked[1]
            return [Reply(waiting.peer.channel, waiting.peer.connection, encode(refusal))]
