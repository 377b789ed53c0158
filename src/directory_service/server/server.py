# SPDX-License-Identifier: Apache-2.0
"""The directory's sockets: one thread, one poller, no asyncio (which is several times slower on ZeroMQ).

resolve and write are ROUTERs, push is an XPUB whose subscriptions are granted one by one; on TCP every
connection is authenticated by CURVE, with the ZAP handler in this same poller. What to do with a message is
decided by `dispatcher.py`; here it is only read, timed and sent. A peer that does not read loses its answers
(counted), never others' time.
"""

from __future__ import annotations

import contextlib
import logging
import socket as sockets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import zmq

from directory_client.keys import KeyPair
from directory_client.process.descriptors import OPEN_AGAIN_S
from directory_client.wire.limits import TOPIC_BYTES_MAX
from directory_service.configuration import Configuration
from directory_service.protocol.authentication import LOCAL, Authenticator, Identity, Refusals
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.protocol.jobs import WRITES, Job
from directory_service.protocol.outbox import Audit, Out, Peer, Publish, Reply
from directory_service.server.backlog import Backlog
from directory_service.server.listeners import Listeners
from directory_service.server.office import Office
from directory_service.server.peers import address_of, is_of_this_machine, key_is_gone, user_of
from directory_service.server.subscribers import Subscribers

log = logging.getLogger(__name__)

RESOLVE_BATCH = 256  # messages read from one socket before the others have their turn
WRITE_BATCH = 16
QUIET_MS = 2  # after so long without a message, what will be asked about is learned
_LAST = int(zmq.NOBLOCK)  # whole numbers: Flag members are added up in Python, ten times as slowly
_MORE = _LAST | int(zmq.SNDMORE)
_POLLIN = int(zmq.POLLIN)


class AuditFile(Protocol):
    """Where audit records go."""

    def write(self, record: dict[str, Any]) -> None:
        """Append a record."""


class MetricsPage(Protocol):
    """Something else to serve in the same poller."""

    def descriptors(self) -> Sequence[int]:
        """Give the file descriptors to poll for reading."""

    def serve(self, now: float) -> None:
        """Do what can be done without blocking."""

    def close(self) -> None:
        """Close everything."""


class Server:
    """Binds, serves until `stop`, closes. Raises DirectoryError where it cannot bind. `before_change` is
    given what hands a change on, and calls it once that may be made."""

    def __init__(
        self,
        configuration: Configuration,
        dispatcher: Dispatcher,
        keys: KeyPair | None = None,
        audit: AuditFile | None = None,
        metrics: MetricsPage | None = None,
        office: Office | None = None,
    ) -> None:
        self._office = office
        self.before_change: Callable[[Callable[[], object]], object] = lambda carry: carry()
        if office is not None:
            dispatcher.desk.carry = self._carry
        self._configuration = configuration
        self._dispatcher = dispatcher
        self._counters = dispatcher.counters
        self._audit = audit
        self._metrics = metrics
        self._authenticator = Authenticator(configuration.clients, self._key_refused)
        self._refusals = Refusals()
        self._stopped = False
        self._to_call: list[Callable[[], object]] = []
        self._subscribers = Subscribers()
        self._wake_reader, self._wake_writer = sockets.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        try:
            self._listeners = Listeners(configuration, keys)
        except BaseException:
            self._close_own()
            raise
        self._zap, self._push = self._listeners.zap, self._listeners.push
        self._resolve, self._write = self._listeners.resolve, self._listeners.write
        self._poller = zmq.Poller()
        listeners = (self._zap, self._push, self._resolve, self._write)
        for socket in (*listeners, *self._listeners.admission.monitors):
            self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._wake_reader.fileno(), zmq.POLLIN)
        self._backlog = Backlog(time.monotonic())
        self._watched: dict[int, int] = {}
        self._quiet = False  # nobody asked lately, and something is to be learned

    @property
    def wake_descriptor(self) -> int:
        """A descriptor for signal.set_wakeup_fd: a byte written there wakes the poller."""
        return self._wake_writer.fileno()

    def stop(self) -> None:
        """Make `run` return soon; may be called from a signal handler."""
        self._stopped = True
        self.wake()

    def _carry(self, number: int, job: Job) -> None:
        """Hand a job to the office: one that may change something, once its trace is written."""
        if self._office is None:
            return
        carry = partial(self._office.carry, number, job)
        if job.verb in WRITES:
            self.before_change(carry)
        else:
            carry()

    def call_soon(self, function: Callable[[], object]) -> None:
        """Have `run` call this between two messages; may be called from a signal handler, or a thread."""
        self._to_call.append(function)
        self.wake()

    def check(self, configuration: Configuration) -> None:
        """Raise DirectoryError if there are too few descriptors for those who are declared."""
        self._listeners.check(configuration)

    def take(self, configuration: Configuration) -> None:
        """Let in the clients that a file names now. Who is not among them any more, or is somebody else, is
        refused from now on, and hears no pushes."""
        gone = self._authenticator.replace(configuration.clients)
        if gone:
            self._counters["connections_cut"] += self._subscribers.cut(gone)
        if self._office is not None:
            self._office.take(configuration)

    def show_metrics(self, metrics: MetricsPage | None) -> None:
        """Serve another page for Prometheus, or none."""
        if self._metrics is not None:
            self._metrics.close()
        self._metrics = metrics
        self._watched_anew()

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopped:
            self.turn(1000)

    def turn(self, at_most_ms: int) -> None:
        """Wait for something to do, but not longer than this, and do it."""
        self._watch()
        admission = self._listeners.admission
        if admission.is_full:
            at_most_ms = min(at_most_ms, int(OPEN_AGAIN_S * 1000))
        due_at = self._dispatcher.due_at()
        if self._office is not None and (starts_at := self._office.due_at()) is not None:
            due_at = min(due_at, starts_at)
        due_ms = int((due_at - time.monotonic()) * 1000) + 1
        has_to_learn = self._dispatcher.has_to_learn
        if has_to_learn:
            at_most_ms = min(at_most_ms, 0 if self._quiet else QUIET_MS)
        if self._dispatcher.has_work:
            at_most_ms = 0
        at_most_ms = max(0, min(at_most_ms, due_ms))
        ready = dict(self._poller.poll(at_most_ms))
        self._quiet = has_to_learn and not ready
        begun = time.monotonic()
        self._backlog.polled(at_most_ms / 1000, begun)
        if self._quiet:
            self._dispatcher.learn_ahead()
        if self._wake_reader.fileno() in ready:
            self._drain_wakeups()
            self._taken_up()
            while self._to_call:
                self._to_call.pop(0)()
        if admission.is_full or any(monitor in ready for monitor in admission.monitors):
            admission.look(time.monotonic())
            self._counters["listeners_closed"] = admission.closings
        if self._zap in ready:
            self._serve_zap()
        if self._push in ready:
            self._serve_subscriptions()
        if self._resolve in ready:
            self._serve(self._resolve, "resolve", RESOLVE_BATCH)
        else:
            self._backlog.all_read(begun)
        if self._write in ready:
            self._serve(self._write, "write", WRITE_BATCH)
        now = time.monotonic()
        if self._office is not None:
            for number, done in self._office.serve(now, ready):
                self._carry_out(self._dispatcher.done(number, done, now))
        if now >= self._dispatcher.due_at():
            self._carry_out(self._dispatcher.tick(now))
        self._work(now, time.monotonic() - begun)
        if self._metrics is not None:
            descriptors = self._metrics.descriptors()
            if len(descriptors) > 1 or not ready.keys().isdisjoint(descriptors):
                self._metrics.serve(now)

    def _work(self, now: float, others_s: float) -> None:
        """Make pieces of what takes longer for as long as the others have just taken, one at least: else a
        fleet that asks all the time would keep back what it asks for."""
        until = now + others_s
        while self._dispatcher.has_work:
            self._carry_out(self._dispatcher.work(now))
            now = time.monotonic()
            if now >= until:
                return

    def wake(self) -> None:
        """Have `turn` look what was taken up; may be called from a thread."""
        with contextlib.suppress(OSError):  # full: it is being woken already; or closed
            self._wake_writer.send(b"\0")

    def close(self) -> None:
        """Close the sockets and give the lock back."""
        self._listeners.close()
        self._close_own()

    def _close_own(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _watch(self) -> None:
        wanted = dict.fromkeys(self._metrics.descriptors(), _POLLIN) if self._metrics is not None else {}
        if self._office is not None:
            wanted |= self._office.descriptors()
        if wanted == self._watched:
            return
        for descriptor in self._watched.keys() - wanted.keys():
            self._poller.unregister(descriptor)
        for descriptor, events in wanted.items():
            if self._watched.get(descriptor) != events:
                self._poller.register(descriptor, events)
        self._watched = wanted

    def _taken_up(self) -> None:
        """Tell what a thread has taken up from the store. Who asked for it is answered first: it is numbered,
        and telling a hundred gateways takes milliseconds."""
        before = self._dispatcher.directory.revision
        outs = self._dispatcher.taken_up(time.monotonic())
        self._carry_out(sorted(outs, key=lambda out: not isinstance(out, Reply)))
        if self._office is not None and self._dispatcher.directory.revision != before:
            self._office.look()

    def _watched_anew(self) -> None:
        for descriptor in self._watched:
            self._poller.unregister(descriptor)
        self._watched = {}

    def _drain_wakeups(self) -> None:
        try:
            while self._wake_reader.recv(64):
                pass
        except BlockingIOError:
            pass

    # ---- serving -----------------------------------------------------------------------------

    def _serve_zap(self) -> None:
        for frames in _received(self._zap, WRITE_BATCH):
            answer = self._authenticator.answer([frame.bytes for frame in frames])
            if answer is not None:
                self._send(self._zap, answer)
        self._counters["connections_accepted"] = self._authenticator.accepted
        self._counters["connections_refused"] = self._authenticator.refused

    def _key_refused(self, address: str, key: str) -> None:
        """Leave a trace of a key that is not among the clients, in the log and in the audit file."""
        more = self._refusals.take(key, time.monotonic())
        if more is None:
            return
        untold = f" (and {more} times that were not told)" if more else ""
        log.warning("a connection from %s is refused: no [[client]] has its key %s%s", address, key, untold)
        record = {
            "time_ms": time.time_ns() // 1_000_000,
            "stage": "done",
            "directory": self._configuration.name,
            "type": "connect",
            "address": address,
            "key": key,
            "untold": more,
            "ok": False,
            "error": "unknown key",
        }
        self._carry_out([Audit(record)])

    def _serve(self, socket: zmq.Socket[Any], channel: str, limit: int) -> None:
        # All that has come is read first, so that what then waits for its turn is seen to wait.
        messages = _received(socket, limit)
        read_at = time.monotonic()
        behind_s = self._backlog.behind_s(read_at) if socket is self._resolve else 0.0
        if len(messages) < limit and socket is self._resolve:
            self._backlog.all_read(read_at)
        for frames in messages:
            connection, *rest = frames
            identity = self._identify(connection)
            now = time.monotonic()
            if identity is None:
                self._counters["unidentified"] += 1
                if user_of(connection):  # its key was known when it connected
                    self._send(socket, [connection.bytes, *key_is_gone(rest)])
                continue
            parts = [rest[0].bytes, *(frame.buffer for frame in rest[1:])] if rest else []
            peer = Peer(channel, connection.bytes, identity, address_of(connection), behind_s)
            self._carry_out(self._dispatcher.handle(peer, parts, now, now - read_at))

    def _serve_subscriptions(self) -> None:
        # One at a time: what is granted goes to the connection of the message read last.
        for _ in range(RESOLVE_BATCH):
            frames = _received(self._push, 1)
            if not frames:
                return
            message = frames[0][0].bytes
            identity = self._identify(frames[0][0])
            if message[:1] not in (b"\0", b"\1") or len(message) > TOPIC_BYTES_MAX:
                self._counters["malformed"] += 1
                continue
            wanted, topic = message[:1] == b"\1", message[1:]
            outs: list[Out] = []
            if wanted:
                if identity is None:
                    self._counters["unidentified"] += 1
                    continue
                granted, outs = self._dispatcher.subscription(identity, topic)
                if not granted:
                    continue
                if key := user_of(frames[0][0]):
                    self._subscribers.heard(frames[0][0], key)
            try:
                self._push.setsockopt(zmq.SUBSCRIBE if wanted else zmq.UNSUBSCRIBE, topic)
            except zmq.ZMQError:
                continue  # the connection is gone already
            self._carry_out(outs)

    def _identify(self, frame: zmq.Frame) -> Identity | None:
        if user := user_of(frame):
            return self._authenticator.identify(user)
        # No key: only ipc lets somebody in without one.
        return LOCAL if self._listeners.local is not None and is_of_this_machine(frame) else None

    def _publish(self, frames: list[Any]) -> None:
        """Push to all who hear the topic. One who has not read the last thousand messages gets nothing, which
        is counted, and finds out by the numbers; the others hear it all the same."""
        try:
            self._push.send(frames[0], _MORE)
        except zmq.Again:  # nothing has been sent: somebody has no room
            self._counters["pushes_lost"] += 1
            self._push.setsockopt(zmq.XPUB_NODROP, 0)
            self._send(self._push, frames)
            self._push.setsockopt(zmq.XPUB_NODROP, 1)
            return
        self._send(self._push, frames[1:])

    def _carry_out(self, outs: Sequence[Out]) -> None:
        for out in outs:
            if isinstance(out, Publish):
                self._publish(out.frames)
            elif isinstance(out, Audit):
                if self._audit is not None:
                    self._audit.write(out.record)
            else:
                socket = self._resolve if out.channel == "resolve" else self._write
                self._send(socket, [out.connection, *out.frames])

    def _send(self, socket: zmq.Socket[Any], frames: list[Any]) -> None:
        try:
            for frame in frames[:-1]:
                socket.send(frame, _MORE)
            socket.send(frames[-1], _LAST)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self._counters["answers_lost"] += 1


def _received(socket: zmq.Socket[Any], limit: int) -> list[list[zmq.Frame]]:
    messages: list[list[zmq.Frame]] = []
    try:
        while len(messages) < limit:
            messages.append(socket.recv_multipart(zmq.NOBLOCK, copy=False))
    except zmq.Again:
        pass
    return messages
