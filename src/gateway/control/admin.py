# SPDX-License-Identifier: Apache-2.0
"""The admin sockets: who may ask, what is asked, and the answers (docs/protocol.md, section 3).

`gateway.sock` takes everything, `show.sock` only what changes nothing. Everything received is hostile: what
is no request gets an answer that says so and is counted. Nothing here waits: requests are jobs, many at a
time, and a client that does not read its answers loses them. Control's thread only.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import zmq

from directory_client.vocabulary.verbs import SHOWING
from directory_client.wire.admin import VERSION, AdminRequest
from directory_client.wire.limits import ADMIN_BYTES_MAX, DEPTH_MAX, WAIT_MS_MAX
from directory_client.wire.messages import DirectoryError, MalformedMessage, check, is_too_deep
from directory_client.wire.operator_requests import READS, WRITES, message_of
from gateway.show import explain
from gateway.show import nouns as show
from gateway.state.job import (
    Answer,
    Ask,
    AskDataPlane,
    AskDirectory,
    Done,
    Job,
    Progress,
    Refused,
    Wait,
    ask_directory,
)
from gateway.state.state import State

log = logging.getLogger(__name__)

FIX = "see docs/protocol.md, section 3"
JOBS_MAX = 256
VERBS = SHOWING | READS | WRITES | {"reload"}

Reply = Callable[[Answer], None]


@dataclass(frozen=True)
class Waiting:
    """Somebody who wants to hear of events after `after`, until `deadline_s`."""

    after: int
    deadline_s: float
    reply: Done


@dataclass
class Turn:
    """One question of a job: `answer` is there if it came while it was being asked."""

    asking: bool = True
    answer: Answer | Refused | None = None


class Admin:
    """Runs requests. `ask_data_plane` and `ask_directory` take a question and call back with the answer.
    `reload` begins a job that has all read their files again, `new_documents` one that makes events of what
    only the directory knows (None: nothing has changed)."""

    def __init__(
        self,
        state: State,
        ask_data_plane: Callable[[dict[str, Any], Done], None],
        ask_directory: Callable[[AskDirectory, Done], None],
        reload: Callable[[], Job] | None = None,
        new_documents: Callable[[], Job | None] = lambda: None,
    ) -> None:
        self._state = state
        self._ask_data_plane = ask_data_plane
        self._ask_directory = ask_directory
        self._reload = reload
        self._new_documents = new_documents
        self._waiting: list[Waiting] = []
        self._timers: list[tuple[float, Done]] = []
        self.running = 0

    def handle(self, request: Any, reply: Reply, *, may_change: bool) -> None:
        """Run a decoded request; `reply` is called with the answer, now or later, and before that with
        "progress" each second or so where it takes long."""
        head: Answer = {"v": VERSION, "id": None, "node": self._state.node}

        def finish(answer: Answer | Refused | Progress) -> None:
            if isinstance(answer, Progress):
                reply({**head, "progress": {"seconds": answer.seconds, "before": answer.before}})
            elif isinstance(answer, Refused):
                reply({**head, "ok": False, "error": answer.error, "fix": answer.fix, "code": answer.code})
            else:
                reply({**head, "ok": True, **answer})

        try:
            asked = read_request(request)
            head["id"] = asked.id
            if asked.verb not in SHOWING and not may_change:
                raise Refused(
                    f"{asked.verb} changes something; this socket only shows",
                    f"vnetctl --socket {self._state.configuration.admin.socket} …",
                )
            if asked.verb == "events":
                self._events(asked, finish)
                return
            if self.running >= JOBS_MAX:
                raise Refused(f"{JOBS_MAX} requests are under way at once", "try again in a moment")
            job = self._job(asked, request)
        except DirectoryError as error:
            self._state.malformed_requests += error.code == 2
            finish(Refused(error.error, error.fix, error.code))
            return
        self.running += 1
        self._advance(job, None, finish)

    def run(self, job: Job, done: Done) -> None:
        """Run a job of control's own."""

        def finish(answer: Answer | Refused | Progress) -> None:
            if not isinstance(answer, Progress):
                done(answer)

        self.running += 1
        self._advance(job, None, finish)

    def run_if(self, job: Job | None) -> None:
        """Run a job of control's own, if there is one, whose answer nobody waits for."""
        if job is not None:
            self.run(job, lambda _: None)

    @property
    def is_watched(self) -> bool:
        """Say whether somebody waits for events."""
        return bool(self._waiting)

    def tick(self) -> None:
        """Resume jobs that waited, and answer those who wait for events: when there are some, or when they
        have waited long enough."""
        now = self._state.clock()
        due = [done for at, done in self._timers if now >= at]
        self._timers = [timer for timer in self._timers if now < timer[0]]
        for done in due:
            done({})
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if now >= one.deadline_s or self._state.events.last_seq > one.after:
                one.reply({"rows": self._event_rows(one.after)})
            else:
                self._waiting.append(one)

    def _job(self, asked: AdminRequest, request: dict[str, Any]) -> Job:
        """Return the job for a request. It is passed on as it came: others may know more of its fields."""
        if asked.at is not None and asked.at != self._state.node:
            return forward(asked.at, request)
        if asked.verb == "show":
            return show.show(self._state, request)
        if asked.verb == "reload":
            if self._reload is None:
                raise Refused("nothing is read again here", "restart control")
            return self._reload()
        if asked.verb == "explain":
            return explain.explain(self._state, request)
        return self._pass_on(request)

    def _pass_on(self, request: dict[str, Any]) -> Job:
        asked = ask_directory(message_of(request))  # raises before it becomes a generator

        def steps() -> Job:
            answer = yield asked
            return {key: value for key, value in answer.items() if key not in ("v", "id", "ok")}

        return steps()

    def _advance(self, job: Job, answer: Answer | Refused | None, finish: Done) -> None:
        """Resume a job with an answer, hand its next question on. Answers that come at once are taken in a
        loop, not by recursion."""
        while True:
            try:
                if isinstance(answer, Refused):
                    asked = job.throw(answer)
                else:
                    asked = next(job) if answer is None else job.send(answer)
            except StopIteration as stop:
                self.running -= 1
                finish(stop.value)
                return
            except DirectoryError as error:
                self._state.malformed_requests += error.code == 2
                self.running -= 1
                finish(Refused(error.error, error.fix, error.code))
                return
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ArithmeticError) as error:
                # Rows that another process sent are not what the protocol says: one answer fails, not
                # control.
                log.exception("a request failed")
                self.running -= 1
                finish(
                    Refused(
                        f"an answer was not understood ({type(error).__name__}: {error})", "see control's log"
                    )
                )
                return
            turn = Turn()
            try:
                self._ask(asked, partial(self._answered, turn, job, finish), finish)
            except (ValueError, TypeError, OverflowError, RecursionError) as error:  # it cannot be packed
                log.error("a question cannot be asked: %s", error)
                turn.answer = Refused(f"it cannot be passed on ({error})", "see control's log", 2)
            turn.asking = False
            if turn.answer is None:
                return
            answer = turn.answer

    def _answered(self, turn: Turn, job: Job, finish: Done, result: Answer | Refused | Progress) -> None:
        assert not isinstance(result, Progress)
        if turn.asking:
            turn.answer = result
        else:
            self._advance(job, result, finish)

    def _ask(self, asked: Ask, done: Done, finish: Done) -> None:
        def checked(answer: Answer | Refused | Progress) -> None:
            if isinstance(answer, Progress):
                finish(answer)
                return
            if not isinstance(answer, Refused) and answer.get("ok") is False:
                code = answer.get("code", 1)
                answer = Refused(
                    str(answer.get("error", "refused")),
                    str(answer.get("fix") or ""),
                    code if isinstance(code, int) else 1,
                )
            done(answer)

        if isinstance(asked, Wait):
            self._timers.append((self._state.clock() + asked.seconds, done))
        elif isinstance(asked, AskDataPlane):
            self._ask_data_plane(asked.question, checked)
        else:
            self._ask_directory(asked, checked)

    def _events(self, asked: AdminRequest, reply: Done) -> None:
        args = asked.args or {}
        after, wait_ms = args.get("after", 0), args.get("wait_ms", 0)
        if (
            not isinstance(after, int)
            or not isinstance(wait_ms, (int, float))
            or not 0 <= wait_ms <= WAIT_MS_MAX
        ):
            raise Refused(
                f"after or wait_ms is no number from 0 to {WAIT_MS_MAX}", "vnetctl events --help", 2
            )
        after = 0 if after > self._state.events.last_seq else after  # control started anew since
        job = self._new_documents()
        if job is None:
            self._answer_events(after, wait_ms, reply)
        else:
            self.run(job, lambda _: self._answer_events(after, wait_ms, reply))

    def _answer_events(self, after: int, wait_ms: float, reply: Done) -> None:
        rows = self._event_rows(after)
        if rows or not wait_ms:
            reply({"rows": rows})
        elif len(self._waiting) >= JOBS_MAX:
            reply(Refused(f"{JOBS_MAX} already wait for events", "try again in a moment"))
        else:
            self._waiting.append(Waiting(after, self._state.clock() + wait_ms / 1000, reply))

    def _event_rows(self, after: int) -> list[dict[str, Any]]:
        return [event.row() for event in self._state.events.after(after)]


def forward(at: str, request: dict[str, Any]) -> Job:
    """Have the directory ask another gateway, or all of them."""
    inner = {key: value for key, value in request.items() if key not in ("at", "id")}
    answer = yield AskDirectory("forward", {"node": at, "request": inner}, 15.0)
    return {"answers": answer.get("answers", []), "silent": answer.get("silent", [])}


def pack(answer: Answer) -> bytes:
    """Pack an answer; one that cannot be packed (what others sent is in it, nested too deep, say) becomes an
    error."""
    try:
        return bytes(msgpack.packb(answer, default=str))
    except (ValueError, TypeError, OverflowError) as error:
        log.error("an answer cannot be sent: %s", error)
        refusal = {"ok": False, "error": f"the answer cannot be sent: {error}", "fix": "see control's log"}
        return bytes(msgpack.packb({"v": VERSION, "id": answer.get("id"), **refusal, "code": 1}))


def read_request(request: Any) -> AdminRequest:
    """Return a hostile request as what it has to be. Raises DirectoryError."""
    if not isinstance(request, dict):
        raise Refused("a request is a map", FIX, 2)
    if is_too_deep(request):
        raise Refused(f"a request is nested {DEPTH_MAX} deep at most", FIX, 2)
    if request.get("v") != VERSION:
        raise Refused(
            f"version {request.get('v')!r:.40} is not spoken here, {VERSION} is",
            "install the same release",
            2,
        )
    try:
        read = check(request, AdminRequest, "request")
    except MalformedMessage as error:
        raise Refused(error.error, FIX, 2) from None
    if read.verb not in VERBS:
        raise Refused(f"{read.verb!r:.40} is no verb", f"one of: {' '.join(sorted(VERBS))}", 2)
    return read


class AdminSocket:
    """One ROUTER on ipc://. Poll `socket` and call `readable`."""

    def __init__(
        self, context: zmq.Context[Any], path: Path, group: str, admin: Admin, *, may_change: bool
    ) -> None:
        self._admin = admin
        self._may_change = may_change
        self._path = path
        self.socket: zmq.Socket[Any] = context.socket(zmq.ROUTER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.MAXMSGSIZE, ADMIN_BYTES_MAX)
        self.socket.set(zmq.SNDHWM, 16)  # answers that a client does not fetch
        self.socket.set(zmq.RCVHWM, 64)
        self.socket.set(zmq.HANDSHAKE_IVL, 5000)
        self._group = group
        path.parent.mkdir(parents=True, exist_ok=True)
        self.open()

    @property
    def name(self) -> str:
        """Where it listens."""
        return f"ipc://{self._path}"

    def open(self) -> None:
        """Listen. Raises zmq.ZMQError."""
        before = os.umask(0o177)  # never open to others, not even between bind and chmod
        try:
            self.socket.bind(self.name)
        finally:
            os.umask(before)
        restrict(self._path, self._group)

    def shut(self) -> None:
        """Listen no longer; who is connected stays so."""
        self.socket.unbind(self.name)

    def give_to(self, group: str) -> None:
        """Let another group use it."""
        self._group = group
        restrict(self._path, group)

    def readable(self, limit: int = 64) -> None:
        """Take what was asked, at most `limit` requests, so that others have their turn."""
        for _ in range(limit):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(frames)

    def _take(self, frames: list[bytes]) -> None:
        # REQ puts an empty frame in front; it goes back as it came.
        envelope = frames[:2] if len(frames) > 2 and not frames[1] else frames[:1]
        body = frames[len(envelope) :]

        def reply(answer: Answer) -> None:
            packed = pack(answer)
            with contextlib.suppress(zmq.Again):
                self.socket.send_multipart([*envelope, packed], zmq.NOBLOCK)

        try:
            request = msgpack.unpackb(body[0], max_ext_len=0) if len(body) == 1 else None
        except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException):
            request = None
        self._admin.handle(request, reply, may_change=self._may_change)

    def close(self) -> None:
        self.socket.close()


def restrict(path: Path, group: str) -> None:
    """Let a group use a socket (0660) if it exists, else only the owner (0600)."""
    if group:
        try:
            gid = grp.getgrnam(group).gr_gid
        except KeyError:
            log.warning("%s: there is no group %s: only its owner may use it", path, group)
        else:
            try:
                os.chown(path, -1, gid)
            except PermissionError:
                log.warning("%s: may not give it to group %s: only its owner may use it", path, group)
            else:
                os.chmod(path, 0o660)
                return
    os.chmod(path, 0o600)
