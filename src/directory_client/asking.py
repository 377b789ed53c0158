# SPDX-License-Identifier: Apache-2.0
"""What a client asks: questions are sent to the server in use, sent again, and given up in the end. Used by
`client.py` only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from directory_client.approach import FINAL
from directory_client.connection import Connection, send_now
from directory_client.events import Event, Failed, Progressed
from directory_client.requests import RETRY_S, InFlight, Question, never
from directory_client.servers import Servers
from directory_client.wire.answers import Answer
from directory_client.wire.messages import (
    DirectoryError,
    DirectorySilent,
    Frames,
    MalformedMessage,
    Request,
    encode,
)
from directory_client.wire.questions import ResolveRequest

UNREACHABLE_S = 0.1  # no connection for so long: another server is tried
BACK_OFF_MAX = 4
PROGRESS_S = 10.0  # after a server has said that it is at it
READ_S = 2.0  # an answer may be long
HOPELESS_S = 2.0  # what nobody takes for so long is not asked any more, if it will not get better by itself
BUSY_MS = 20  # where a server does not say


class Asking:
    """A question is sent again after `timeout_s`, and given up after `give_up_s` where whoever asks does not
    say. `is_tool`: nobody waits for better times. An answer of the resolve socket that `is_overtaken` is
    asked for again."""

    def __init__(
        self,
        servers: Servers,
        in_flight: InFlight,
        tell: Callable[[Event], None],
        clock: Callable[[], float],
        timeout_s: float,
        give_up_s: float,
        is_tool: bool,
    ) -> None:
        self.malformed = 0  # answers
        self.overtaken = 0  # answers that facts pushed meanwhile made old; asked again
        self._servers = servers
        self._tell = tell
        self._clock = clock
        self._timeout_s = timeout_s
        self._give_up_s = give_up_s
        self.is_overtaken: Callable[[Answer], bool] = never
        self._is_tool = is_tool
        self._in_flight = in_flight
        self._troubled_at: float | None = None  # since when the server in use does not take what we send

    def next_id(self) -> int:
        """Give an id that was not used before."""
        return self._in_flight.next_id()

    def due_at(self) -> float | None:
        """Return when `tick` has something to do."""
        return self._in_flight.next_due_at()

    def ask_event(
        self,
        channel: str,
        head: Request,
        event_of: Callable[[int, Answer, Frames], Event],
        parts: Sequence[Any] = (),
        give_up_s: float | None = None,
        repeatable: bool = True,
    ) -> int:
        """Ask, and tell what `event_of` makes of the answer (it may raise DirectoryError), or Failed. Returns
        the id that they have."""
        now = self._clock()
        id = head.id = self.next_id()

        def answered(answer: Answer, frames: Frames, now: float) -> None:
            self._tell(event_of(id, answer, frames))

        def failed(error: DirectoryError, now: float) -> None:
            self._tell(Failed(id, error.error, error.fix, error.code))

        until = now + (give_up_s or self._give_up_s)
        question = Question(id, channel, head, [*parts], repeatable, now, until, answered, failed)
        if channel == "resolve":
            question.is_overtaken = self.is_overtaken
        self.ask(question, now)
        return id

    def ask(self, question: Question, now: float) -> None:
        """Send a question; it is answered, or fails. Raises ValueError, TypeError or OverflowError for one
        that cannot be packed."""
        self._in_flight.add(question)
        try:
            self._transmit(question, now)
        except BaseException:
            self._in_flight.take(question.id)
            raise

    def forget(self, id: int) -> None:
        """Take back a question, if it is still on its way: its answer is of no use any more."""
        self._in_flight.take(id)

    def heard(self, server: Connection, head: Answer, frames: Frames, now: float) -> None:
        """Take an answer, or what a server says instead of one."""
        question = self._in_flight.look(head.id)
        if question is None:
            return
        if question.sent_at is not None:
            server.rtt_us = int((now - question.sent_at) * 1e6)
        has_time = now < question.deadline
        if has_time and question.is_overtaken(head):
            self.overtaken += 1
            self._again(question, now)
        elif has_time and head.why == "version" and question.head.v != server.version:
            self._again(question, now)  # it was not read: a version was found meanwhile that both speak
        elif head.progress is not None:
            question.deadline = max(question.deadline, now + PROGRESS_S)
            self._in_flight.wake(question, now + PROGRESS_S)
            self._tell(Progressed(question.id, head.progress.seconds, head.progress.before))
        elif has_time and head.busy and question.repeatable:
            server.failures += 1
            self._again(question, now + (BUSY_MS if head.retry_ms is None else head.retry_ms) / 1000)
        else:
            self._in_flight.take(question.id)
            self._answered(question, head, frames, now)

    def moved(self, before: Connection, now: float) -> None:
        """Take it that another server is used: what waits for the one before may be asked there."""
        self._troubled_at = None
        for question in self._in_flight.of_server(before.index):
            if question.repeatable or question.sent_at is None:
                self._again(question, now)

    def tick(self, now: float) -> None:
        """Send again what is due, and give up what has waited for long enough."""
        for question in self._in_flight.due(now):
            server = self._servers.all[question.server]
            if now >= question.deadline or self._is_hopeless(question, now):
                self._in_flight.take(question.id)
                silence = self._silence(question)
                self._servers.missed(server, now)
                question.failed(silence, now)
                continue
            if question.sent_at is not None:
                self._servers.missed(server, now)
            if self._in_flight.look(question.id) is question and question.due_at <= now:
                self._transmit(question, now)
        if self._troubled_at is not None and now - self._troubled_at > UNREACHABLE_S:
            self._troubled_at = None
            self._servers.lost(self._servers.active, now)

    def _transmit(self, question: Question, now: float) -> None:
        server = self._servers.active
        question.server = server.index
        question.head.v = server.version
        if isinstance(question.head, ResolveRequest):
            question.head.sent_us = int(now * 1e6)  # of this attempt: a server that was away is not late
        socket = server.resolve if question.channel == "resolve" else server.write
        if not send_now(socket, encode(question.head, *question.parts)):
            question.sent_at = None
            self._troubled_at = now if self._troubled_at is None else self._troubled_at
            self._in_flight.wake(question, now + RETRY_S)
            return
        self._troubled_at = None
        question.sent_at = now
        question.attempts += 1
        patience_s = READ_S if question.channel == "write" else self._timeout_s
        wait_s = patience_s * 2 ** min(question.attempts - 1, BACK_OFF_MAX)
        self._in_flight.wake(question, now + wait_s if question.repeatable else question.deadline)

    def _again(self, question: Question, at: float) -> None:
        question.sent_at = None
        self._in_flight.wake(question, at)

    def _answered(self, question: Question, head: Answer, frames: Frames, now: float) -> None:
        try:
            if head.ok is not True:
                code = head.code if head.code in (1, 2) else 1
                raise DirectoryError(head.error or "refused", head.fix, code)
            question.answered(head, frames, now)
        except DirectoryError as error:
            self.malformed += isinstance(error, MalformedMessage)
            question.failed(error, now)

    def _is_hopeless(self, question: Question, now: float) -> bool:
        """Say whether a tool waits in vain: what stands in the way of each server does not go by itself."""
        return (
            self._is_tool
            and question.sent_at is None
            and now - question.first_at >= HOPELESS_S
            and all(server.approach.stage in FINAL and not server.up for server in self._servers.all)
        )

    def _silence(self, question: Question) -> DirectorySilent:
        """Say why a question was not answered, as far as that is known."""
        servers = self._servers.all
        if question.sent_at is not None and not question.repeatable:
            return DirectorySilent(f"{servers[question.server].endpoint.name} did not answer in time")
        obstacles = [(server.endpoint.name, *server.obstacle) for server in servers]
        if told := [f"{name}: {text}" for name, text, _ in obstacles if text]:
            return DirectorySilent("; ".join(told), next(fix for _, _, fix in obstacles if fix))
        return DirectorySilent(f"no directory answers at {', '.join(one.endpoint.name for one in servers)}")
