# SPDX-License-Identifier: Apache-2.0
"""The client of the directory: used by the slow path, control and vnetctl.

No threads, no callbacks: the caller polls the sockets together with its own and then calls `receive`, which
reads what is there, runs the clock (time-outs, retries, heartbeats, fail-over) and returns events.

    client = DirectoryClient(["ipc:///run/vnet"], node="gw1", role="slow-path")
    for socket in client.sockets:                        # the same ones for the client's whole life
        poller.register(socket, zmq.POLLIN)
    client.subscribe(lambda vni: vni % workers == worker)
    while True:
        poller.poll(client.timeout_ms())
        for event in client.receive():                   # events.Resolved, Changed, Snapshot, Failed, …
            …
        id = client.send_resolve(rows)                   # rows: numpy array of rows.QUERY

Simple programs: `answer = client.call("list", kind="vnets")`, which raises DirectoryError or DirectorySilent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np
import zmq

from directory_client.approach import FINAL
from directory_client.connection import Connection, receive_now, send_now
from directory_client.decoding import is_overtaken, read_push, read_resolved, read_snapshot
from directory_client.events import (
    Answered,
    Asked,
    Changed,
    Event,
    Failed,
    Progressed,
    ServerChanged,
    Snapshot,
)
from directory_client.health import ServerHealth, health_of
from directory_client.heartbeats import Beat, Facts, Notice, identity_of, notices_of
from directory_client.keys import ClientKeys
from directory_client.realm import RealmPin, Version
from directory_client.requests import RETRY_S, InFlight, Request
from directory_client.subscriber import (
    Action,
    AskSnapshot,
    SnapshotAnswer,
    State,
    Subscribe,
    Subscriber,
    Unsubscribe,
)
from directory_client.wire.answers import Answer
from directory_client.wire.messages import (
    DirectoryError,
    DirectorySilent,
    MalformedMessage,
    check,
    decode,
    encode,
    pack,
)
from directory_client.wire.questions import SnapshotHead

SILENT_S = 3.0
UNREACHABLE_S = 0.1  # no connection for so long: another server is tried
MISSES_MAX = 2
BACK_OFF_MAX = 4
SNAPSHOT_S = 30.0  # the subscriber asks anew before; what it asked for until then is forgotten
GOODBYE_MS = 200
REFUSALS = frozenset({"fenced", "key"})  # why a server serves us nothing at all, whatever we ask
READS = frozenset(
    {"list", "names", "export", "history", "explain"}
)  # of the write socket; may be asked twice
PROGRESS_S = 10.0  # after a server has said that it is at it
READ_S = 2.0  # an answer may be long
RETURN_S = 10.0  # for so long a server that is preferred must have answered before it is used again
HOPELESS_S = 2.0  # what nobody takes for so long is not asked any more, if it will not get better by itself
OTHER_STORE_S = 30.0  # for so long the store in use must be silent before another one of its era is taken

InForce = tuple[int, int, int]  # VNI, incarnation, revision


class DirectoryClient:
    """A connection to a list of directory servers, the first of which that answers is used.

    `node`: speak as this node (heartbeats are sent once a second to every server); None: an operator's tool.
    `instance`: the id of this gateway's life, the same in all its processes; a second gateway of the
    same name has another. `keys`: needed for tcp:// servers. `context`: an own one is made (and ended by
    `close`) when None.
    Not thread-safe: one thread owns it.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        node: str | None = None,
        role: str = "operator",
        capabilities: Sequence[str] = ("vxlan",),
        worker: int = 0,
        workers: int = 1,
        instance: str = "",
        keys: ClientKeys | None = None,
        context: zmq.Context[Any] | None = None,
        pin: RealmPin | None = None,
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = 0.25,
        give_up_s: float = 1.0,
    ) -> None:
        if not servers:
            raise DirectoryError("no directory server is named", 'set directory = ["tcp://HOST:PORT"]', 2)
        self.malformed = 0
        self.overtaken = 0  # answers that facts pushed meanwhile made old; asked again
        self.foreign = 0  # messages of servers that are not listened to
        self._pin = pin or RealmPin()
        self._store = 0  # the store that the server in use keeps, 0: not known yet
        self._store_era = 0
        self._store_at = 0.0
        self._node = node
        self._instance = instance
        self._capabilities = list(capabilities)
        self._facts = Facts(
            node=node, role=role, worker=worker, workers=workers, node_capabilities=list(capabilities)
        )
        self._heartbeat = Beat(node is not None)
        self._hello = Beat(False)
        self._clock = clock
        self._timeout_s = timeout_s
        self._give_up_s = give_up_s
        self._own_context = context is None
        self._context = context or zmq.Context()
        self._servers = [Connection(self._context, name, keys, i) for i, name in enumerate(servers)]
        self._active = 0
        self._troubled_at: float | None = None  # since when the active server does not take what we send
        self._in_flight = InFlight()
        self._subscriber: Subscriber | None = None
        self._in_force: Callable[[], list[InForce]] | None = None
        self._kept: list[Event] = []

    @property
    def sockets(self) -> list[zmq.Socket[Any]]:
        """The sockets to poll for reading; never change."""
        return [socket for server in self._servers for socket in server.sockets()]

    def timeout_ms(self) -> int:
        """How long the caller may sleep in its poller before `receive` has to run (0..1000)."""
        if self._kept:
            return 0
        now = self._clock()
        due = [now + 1.0]
        if (at := self._in_flight.next_due_at()) is not None:
            due.append(at)
        if self._subscriber is not None and (at := self._subscriber.due_at()) is not None:
            due.append(at)
        due += [at for beat in (self._heartbeat, self._hello) if (at := beat.due_at()) is not None]
        return max(0, min(1000, int((min(due) - now) * 1000) + 1))

    def receive(self, ready: Container[Any] | None = None) -> list[Event]:
        """Read everything that has come, run what is due, return what happened; never blocks, never raises
        for bad bytes. `ready`: what a poller has just found readable, if the caller knows: the others are not
        looked at, which costs 3 µs each."""
        events, self._kept = self._kept, []
        return events + self._run(ready)

    def send_resolve(self, rows: Any, *, explain: bool = False) -> int:
        """Ask for decisions on QUERY rows; a Resolved or Failed with this id follows. Repeated and failed
        over by itself."""
        head: dict[str, Any] = {
            "type": "resolve",
            "node": self._node,
            "node_capabilities": self._capabilities,
            **self._identity(),
        }
        if explain:
            head["explain"] = True
        return self._ask(
            "resolve", "resolve", head, [rows.tobytes() if isinstance(rows, np.ndarray) else bytes(rows)]
        )

    def send_locator(self, local: bytes, remote: bytes, protocol: int, wire_id: int) -> int:
        """Ask who an unknown outer source is; Answered (operation in head["op"], or head["known"] False) or
        Failed follows."""
        head = {
            "type": "locator",
            "node": self._node,
            "local": local,
            "remote": remote,
            "protocol": protocol,
            "wire_id": wire_id,
            **self._identity(),
        }
        return self._ask("answer", "resolve", head, [])

    def send(self, type: str, *, timeout_s: float = 10.0, **fields: Any) -> int:
        """Send any other message (apply, list, explain, …); Answered or Failed with this id follows. What
        changes something is never sent twice, what only shows may be."""
        return self._ask("answer", "write", {"type": type, **fields}, [], timeout_s, repeatable=type in READS)

    def call(
        self,
        type: str,
        *,
        timeout_s: float = 10.0,
        progress: Callable[[int, int], None] = lambda seconds, before: None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Send and wait; returns the answer's head. `progress` is called where that takes long, with seconds
        and the number of requests before this one. Raises DirectoryError, or DirectorySilent when nobody
        answers. Events that come meanwhile are kept for the next `receive`."""
        id = self.send(type, timeout_s=timeout_s, **fields)
        poller = zmq.Poller()
        for socket in self.sockets:
            poller.register(socket, zmq.POLLIN)
        kept, self._kept = self._kept, []
        answer: Answered | Failed | None = None
        while answer is None:
            poller.poll(self.timeout_ms())
            for event in self._run():
                if isinstance(event, Answered | Failed) and event.id == id:
                    answer = event
                elif isinstance(event, Progressed) and event.id == id:
                    progress(event.seconds, event.before)
                else:
                    kept.append(event)
        self._kept = kept
        if isinstance(answer, Answered):
            return answer.head
        if answer.code == 3:
            raise DirectorySilent(answer.error, answer.fix)
        raise DirectoryError(answer.error, answer.fix, answer.code)

    def subscribe(
        self,
        accept: Callable[[int], bool] | None = None,
        in_force: Callable[[], list[InForce]] | None = None,
    ) -> None:
        """Follow the pushes for this node: a Snapshot comes, then Changed in order; after a gap, a restart
        or silence a Snapshot again. `accept(vni)` chooses V-nets (None: all). `in_force()` says, whenever a
        snapshot is asked for, what is in force here: what was forbidden since comes with it."""
        if self._node is None:
            raise ValueError("only a node can subscribe")
        self._in_force = in_force
        self._subscriber = Subscriber(accept)
        self._kept += self._do(self._subscriber.start(self._clock()))

    def knows(self, incarnation: int, revision: int) -> None:
        """Say what this gateway was told before this process began: a directory whose store is older takes
        nothing away."""
        if self._subscriber is not None:
            self._subscriber.knows(incarnation, revision)

    def applied(self, revision: int) -> None:
        """Say that everything up to this revision is installed here: the next heartbeat (at once) reports
        it, so that `apply` can tell the operator when every gateway has the change."""
        self._facts.applied(revision)
        self._note_revision()

    def set_heartbeat(self, **facts: Any) -> None:
        """Set what heartbeats say: locators=["192.0.2.1"], ports=["rack"], load={…}. A changed fact is sent
        at once, but for the load, which goes with the next."""
        if self._facts.set(facts):
            self._heartbeat.hurry(self._clock())

    def serve(self) -> None:
        """Say hello as this node's control on every server, once a second: Asked events follow."""
        self._hello.on = True

    def goodbye(self) -> None:
        """Say that this gateway stops, so that another may have its name without waiting. Its other processes
        have ended, or take it back by their next heartbeat."""
        for server in self._servers:
            server.resolve.setsockopt(zmq.LINGER, GOODBYE_MS)
            said = {"type": "goodbye", "id": self._in_flight.next_id(), "node": self._node}
            send_now(server.resolve, encode({**said, **self._identity()}))

    def answer(self, asked: Asked, answer: dict[str, Any]) -> None:
        """Answer an Asked event; does nothing if that server is gone. What cannot be packed is answered with
        an error."""
        head = {"type": "answer", "id": asked.id}
        try:
            frames = encode({**head, "answer": answer})
        except (ValueError, TypeError, OverflowError) as error:
            refusal = {"ok": False, "error": f"the answer cannot be sent: {error}", "fix": "", "code": 1}
            frames = encode({**head, "answer": refusal})
        send_now(self._servers[asked.server].write, frames)

    def servers(self) -> list[ServerHealth]:
        """Give the health of every server, in the configured order."""
        now = self._clock()
        return [health_of(server, server.index == self._active, now) for server in self._servers]

    @property
    def followed(self) -> int:
        """The revision up to which all that concerns this node was given; 0 while that is not known."""
        following = self._subscriber
        return following.revision if following is not None and following.state is State.ACTIVE else 0

    @property
    def subscriber(self) -> Subscriber | None:
        """The state machine behind `subscribe` (its state, node_id and resyncs are worth showing)."""
        return self._subscriber

    def close(self) -> None:
        """Close the sockets at once; what was not sent is dropped, but for a goodbye, which has a moment."""
        for server in self._servers:
            server.close()
        if self._own_context:
            self._context.term()

    # ---- sending -----------------------------------------------------------------------------

    def _ask(
        self,
        kind: str,
        channel: str,
        head: dict[str, Any],
        parts: list[Any],
        give_up_s: float | None = None,
        repeatable: bool = True,
        snapshot: AskSnapshot | None = None,
    ) -> int:
        now = self._clock()
        id = self._in_flight.next_id()
        deadline = now + (give_up_s or self._give_up_s)
        request = Request(id, kind, channel, {**head, "id": id}, parts, repeatable, now, deadline)
        if snapshot is not None:
            request.number, request.whole = snapshot.number, snapshot.whole
        self._in_flight.add(request)
        self._transmit(request, now)
        return id

    def _ask_more(self, request: Request, begun: SnapshotAnswer, token: int) -> None:
        """Ask for the next piece of a snapshot."""
        asked = AskSnapshot(request.number, request.whole)
        head = {"type": "snapshot", "node": self._node, "more": token, **self._identity()}
        id = self._ask("snapshot", "resolve", head, [], SNAPSHOT_S, repeatable=False, snapshot=asked)
        if (more := self._in_flight.look(id)) is not None:
            more.begun = begun

    def _transmit(self, request: Request, now: float) -> None:
        server = self._servers[self._active]
        request.server = server.index
        if request.kind == "resolve" and server.endpoint.local:
            request.head["sent_us"] = int(now * 1e6)  # of this attempt: a server that was away is not late
        socket = server.resolve if request.channel == "resolve" else server.write
        if not send_now(socket, encode(request.head, *request.parts)):
            request.sent_at = None
            self._troubled_at = now if self._troubled_at is None else self._troubled_at
            self._in_flight.wake(request, now + RETRY_S)
            return
        self._troubled_at = None
        request.sent_at = now
        request.attempts += 1
        patience_s = READ_S if request.channel == "write" else self._timeout_s
        wait_s = patience_s * 2 ** min(request.attempts - 1, BACK_OFF_MAX)
        self._in_flight.wake(request, now + wait_s if request.repeatable else request.deadline)

    def _note_revision(self) -> None:
        follows = self._subscriber
        if follows is not None and self._facts.reach(follows.revision, follows.incarnation):
            self._heartbeat.hurry(self._clock())

    def _identity(self) -> dict[str, Any]:
        """Return what this client's messages say of which gateway of its name it is."""
        if not self._instance:
            return {}
        refusals = [server.refusal for server in self._servers if server.refusal is not None]
        is_fenced = any(refusal.why == "fenced" for refusal in refusals)
        held = (server.held_since for server in self._servers)
        return identity_of(self._instance, held, is_fenced, self._clock())

    def _send_heartbeats(self, now: float) -> None:
        connected = True
        said = {"type": "heartbeat", **self._facts.said(), **self._identity()}
        for server in self._servers:
            id = self._in_flight.next_id()
            sent = {**said, "id": id}
            if not server.refused and self._pin.seen.revision:
                sent["seen"] = list(self._pin.seen)
            if send_now(server.resolve, encode(sent)):
                server.heartbeat_id, server.heartbeat_sent_at = id, now
            elif server.index == self._active:
                connected = False
        self._heartbeat.done(now, connected)

    def _send_hellos(self, now: float) -> None:
        connected = True
        for server in self._servers:
            hello = {"type": "hello", "id": self._in_flight.next_id(), "node": self._node, "role": "control"}
            hello |= self._identity()
            sent = send_now(server.write, encode(hello))
            connected = connected and (sent or server.index != self._active)
        self._hello.done(now, connected)

    # ---- receiving ---------------------------------------------------------------------------

    def _run(self, ready: Container[Any] | None = None) -> list[Event]:
        events: list[Event] = []
        for server in self._servers:
            answers = ready is None or server.resolve in ready
            # Pushes first: an answer that is newer than a change must not overtake it in this process.
            for frames in receive_now(server.push) if answers or server.push in (ready or ()) else ():
                events += self._guarded(self._on_push, server, frames)
            for frames in receive_now(server.resolve) if answers else ():
                events += self._guarded(self._on_message, server, frames)
            for frames in receive_now(server.write) if ready is None or server.write in ready else ():
                events += self._guarded(self._on_message, server, frames)
        return events + self._run_clock(self._clock())

    def _guarded(
        self,
        handle: Callable[[Connection, list[bytes]], list[Event]],
        server: Connection,
        frames: list[bytes],
    ) -> list[Event]:
        try:
            return handle(server, frames)
        except MalformedMessage:
            self.malformed += 1
            return []

    def _on_push(self, server: Connection, frames: list[bytes]) -> list[Event]:
        if self._subscriber is None or server.index != self._active:
            return []
        return self._do(self._subscriber.push(read_push(frames), self._clock()))

    def _on_message(self, server: Connection, frames: list[bytes]) -> list[Event]:
        head, parts = decode(frames)
        now = self._clock()
        if (refused := self._judge(server, head, now)) is not None:
            self.foreign += 1
            server.refused = refused
            server.heartbeat_sent_at = None
            return self._lost(server, now) if server.up else []
        server.refused = ""
        refuses = head.get("ok") is False and head.get("why") in REFUSALS
        events = self._refused(server, head, now) if refuses else self._heard(server, now)
        if head.get("type") == "ask":
            request, id = head.get("request"), head.get("id")
            if not isinstance(request, dict) or id is None:
                raise MalformedMessage("ask without a request")
            return [*events, Asked(server.index, id, request)]
        if head.get("id") == server.heartbeat_id and server.heartbeat_sent_at is not None:
            return events + self._on_heartbeat(server, head, now)
        waiting = self._in_flight.look(head.get("id"))
        if waiting is None:
            return events
        if waiting.sent_at is not None:
            server.rtt_us = int((now - waiting.sent_at) * 1e6)
        if self._is_overtaken(waiting, head) and now < waiting.deadline:
            self.overtaken += 1
            self._in_flight.wake(waiting, now)
            waiting.sent_at = None
            return events
        if isinstance(told := head.get("progress"), dict):
            waiting.deadline = max(waiting.deadline, now + PROGRESS_S)
            self._in_flight.wake(waiting, now + PROGRESS_S)
            return [*events, Progressed(waiting.id, _count(told, "seconds"), _count(told, "before"))]
        if head.get("busy") is True and waiting.repeatable and now < waiting.deadline:
            server.failures += 1
            retry_ms = head.get("retry_ms")
            self._in_flight.wake(waiting, now + (retry_ms if isinstance(retry_ms, int) else 20) / 1000)
            waiting.sent_at = None
            return events
        self._in_flight.take(waiting.id)
        return events + self._on_answer(waiting, head, parts, now)

    def _is_overtaken(self, request: Request, head: dict[str, Any]) -> bool:
        """Tell whether an answer does not know facts that were pushed before it came."""
        if self._subscriber is None or request.channel != "resolve" or request.kind == "snapshot":
            return False
        return is_overtaken(check(head, Answer), self._subscriber.epoch, self._subscriber.facts)

    def _on_answer(self, request: Request, head: dict[str, Any], parts: Any, now: float) -> list[Event]:
        try:
            if head.get("ok") is not True:
                code = head.get("code")
                raise DirectoryError(
                    str(head.get("error", "refused")), str(head.get("fix", "")), code if code in (1, 2) else 1
                )
            if request.kind == "resolve":
                return [read_resolved(request.id, check(head, Answer), parts)]
            if request.kind == "snapshot" and self._subscriber is not None:
                told = check(head, SnapshotHead)
                answer = read_snapshot(told, parts)
                if request.begun is not None:
                    answer = request.begun.joined(answer)
                if told.more is not None:
                    self._subscriber.piece_came(request.number, now)
                    self._ask_more(request, answer, told.more)
                    return []
                was_answering = self._active_name()
                events = self._do(self._subscriber.snapshot(request.number, answer, now))
                if self._active_name() != was_answering:
                    active = self._servers[self._active].endpoint.name
                    events.append(ServerChanged(active, True, self._active_name()))
                return events
            return [Answered(request.id, head)]
        except DirectoryError as error:
            if isinstance(error, MalformedMessage):
                self.malformed += 1
            return self._fail(request, error, now)

    def _on_heartbeat(self, server: Connection, head: dict[str, Any], now: float) -> list[Event]:
        server.rtt_us = int((now - (server.heartbeat_sent_at or now)) * 1e6)
        server.heartbeat_sent_at = None
        if head.get("ok") is not True:
            server.failures += 1
            return []
        server.notices = notices_of(head)
        server.held_since = now if server.held_since is None else server.held_since
        numbers = [head.get(name) for name in ("revision", "incarnation", "node_id")]
        if not all(isinstance(number, int) for number in numbers):
            raise MalformedMessage("a heartbeat's answer without revision, incarnation and node_id")
        server.revision, server.incarnation, node_id = (int(number or 0) for number in numbers)
        server.name = str(head.get("name", ""))[:63]
        server.era_began = str(head.get("era_began", ""))[:255]
        if self._subscriber is None or server.index != self._active:
            return []
        return self._do(self._subscriber.node_is(node_id, now))

    # ---- time --------------------------------------------------------------------------------

    def _run_clock(self, now: float) -> list[Event]:
        events: list[Event] = []
        for server in self._servers:
            server.watch(now)
        for request in self._in_flight.due(now):
            if now >= request.deadline or self._is_hopeless(request, now):
                self._in_flight.take(request.id)
                events += self._give_up(request, now)
                continue
            if request.sent_at is not None:
                events += self._missed(self._servers[request.server], now)
            if self._in_flight.look(request.id) is request and request.due_at <= now:
                self._transmit(request, now)
        if self._troubled_at is not None and now - self._troubled_at > UNREACHABLE_S:
            self._troubled_at = None
            events += self._lost(self._servers[self._active], now)
        for server in self._servers:
            if (
                server.up
                and server.heard_at is not None
                and now - server.heard_at > SILENT_S
                and self._node is not None
            ):
                events += self._lost(server, now)
        events += self._return(now)
        if self._subscriber is not None:
            events += self._do(self._subscriber.tick(now))
            self._note_revision()
        if (at := self._heartbeat.due_at()) is not None and now >= at:
            self._send_heartbeats(now)
        if (at := self._hello.due_at()) is not None and now >= at:
            self._send_hellos(now)
        return events

    def _is_hopeless(self, request: Request, now: float) -> bool:
        """Say whether a tool waits in vain: what stands in the way of each server does not go by itself."""
        return (
            self._node is None
            and request.sent_at is None
            and now - request.first_at >= HOPELESS_S
            and all(server.approach.stage in FINAL and not server.up for server in self._servers)
        )

    def _give_up(self, request: Request, now: float) -> list[Event]:
        asked = ", ".join(server.endpoint.name for server in self._servers)
        silent = DirectorySilent(f"no directory answers at {asked}")
        obstacles = [(server.endpoint.name, *server.obstacle) for server in self._servers]
        if told := [f"{name}: {text}" for name, text, _ in obstacles if text]:
            silent = DirectorySilent("; ".join(told), next(fix for _, _, fix in obstacles if fix))
        if request.sent_at is not None and not request.repeatable:
            silent = DirectorySilent(f"{self._servers[request.server].endpoint.name} did not answer in time")
        return self._missed(self._servers[request.server], now) + self._fail(request, silent, now)

    def _fail(self, request: Request, error: DirectoryError, now: float) -> list[Event]:
        if request.kind == "snapshot":
            if self._subscriber is not None:
                self._subscriber.failed(request.number, now)
            return []
        return [Failed(request.id, error.error, error.fix, error.code)]

    # ---- servers -----------------------------------------------------------------------------

    def _judge(self, server: Connection, head: dict[str, Any], now: float) -> str | None:
        """Say why a server is not listened to, None if it is: it serves another realm, or keeps another store
        of this realm than the server in use, of which one must be a copy."""
        realm, store, era = head.get("realm"), head.get("store"), head.get("era")
        if not isinstance(realm, int):
            return server.refused or None
        server.realm = realm
        server.era = era if isinstance(era, int) else 0
        if not self._pin.accepts(realm):
            return "realm"
        if isinstance(store, int):
            # A new era begins on purpose or because a store went back: who began it is right.
            own = not self._store or store == self._store or server.era > self._store_era
            if not own and now - self._store_at < OTHER_STORE_S:
                return "store"
            self._store, self._store_era, self._store_at = store, server.era, now
        elif server.refused:
            return server.refused
        self._pin.pin(realm)
        numbers = [head.get(name) for name in Version._fields]
        if all(isinstance(number, int) for number in numbers):
            self._pin.see(Version(*numbers), now)  # type: ignore[arg-type]
        return None

    def _return(self, now: float) -> list[Event]:
        """Go back to the first server of the list that has been well for a while."""
        for server in self._servers[: self._active]:
            if server.up and now - server.up_at >= RETURN_S:
                events = self._use(server.index, now)
                return [*events, ServerChanged(server.endpoint.name, True, self._active_name())]
        return []

    def _heard(self, server: Connection, now: float) -> list[Event]:
        server.heard_at = now
        server.misses = 0
        if server.up:
            return []
        server.refusal = None
        server.up = True
        server.up_at = now
        events: list[Event] = []
        if not self._servers[self._active].up and server.index != self._active:
            events += self._use(server.index, now)
        return [*events, ServerChanged(server.endpoint.name, True, self._active_name())]

    def _refused(self, server: Connection, head: dict[str, Any], now: float) -> list[Event]:
        """Take it that a server lives and does not serve us: that is no answer, and another may do."""
        server.heard_at = now
        server.misses = 0
        before = server.refusal
        server.refusal = Notice(*(str(head.get(name, ""))[:400] for name in ("why", "error", "fix")))
        server.held_since = None
        if server.up is False and before is not None:
            return []
        server.up = True if server.up is None else server.up  # so that it is told of
        return self._lost(server, now)

    def _missed(self, server: Connection, now: float) -> list[Event]:
        server.failures += 1
        server.misses += 1
        return self._lost(server, now) if server.misses >= MISSES_MAX else []

    def _lost(self, server: Connection, now: float) -> list[Event]:
        was_up, server.up = server.up, False
        events: list[Event] = []
        if server.index == self._active and len(self._servers) > 1:
            order = [(server.index + step) % len(self._servers) for step in range(1, len(self._servers))]
            best = next((index for index in order if self._servers[index].up), order[0])
            events += self._use(best, now)
        if was_up is not False:
            why = server.refusal.text if server.refusal else server.obstacle[0]
            events.append(ServerChanged(server.endpoint.name, False, self._active_name(), why))
        return events

    def _use(self, index: int, now: float) -> list[Event]:
        before, self._active = self._servers[self._active], index
        self._troubled_at = None
        if self._subscriber is not None and self._subscriber.node_id:
            before.unsubscribe(self._subscriber.node_id)
            self._subscriber.node_id = 0
        for request in self._in_flight.of_server(before.index):
            if request.repeatable or request.sent_at is None:
                request.sent_at = None
                self._in_flight.wake(request, now)
        return self._do(self._subscriber.start(now)) if self._subscriber is not None else []

    def _active_name(self) -> str | None:
        """Name who answers; a directory that has no place for this node does not."""
        if self._subscriber is not None and self._subscriber.undeclared:
            return None
        active = self._servers[self._active]
        return active.endpoint.name if active.up else None

    def _do(self, actions: list[Action]) -> list[Event]:
        events: list[Event] = []
        server = self._servers[self._active]
        for action in actions:
            match action:
                case Subscribe(node_id):
                    server.subscribe(node_id)
                case Unsubscribe(node_id):
                    server.unsubscribe(node_id)
                case AskSnapshot():
                    vnis: list[int] | None = None if action.whole else []
                    head = {"type": "snapshot", "node": self._node, "vnis": vnis, **self._identity()}
                    parts = [pack(self._in_force())] if action.whole and self._in_force else []
                    self._in_flight.forget("snapshot")
                    self._ask("snapshot", "resolve", head, parts, SNAPSHOT_S, False, action)
                case Snapshot():
                    self._facts.delivered(action.revision, anew=True)
                    events.append(action)
                case Changed():
                    self._facts.delivered(action.revision)
                    events.append(action)
        return events


def _count(told: dict[str, Any], name: str) -> int:
    value = told.get(name)
    return value if isinstance(value, int) and value >= 0 else 0
