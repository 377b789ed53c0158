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

import zmq

from directory_client.allegiance import Allegiance
from directory_client.asking import Asking
from directory_client.connection import Connection, receive_now, send_now
from directory_client.decoding import read_answer, read_resolved
from directory_client.events import Answered, Asked, Event, Failed, Located, Progressed
from directory_client.following import Following
from directory_client.greeter import Greeter
from directory_client.health import ServerHealth, health_of
from directory_client.heartbeats import Facts
from directory_client.keys import ClientKeys, check_public_key
from directory_client.realm import RealmPin
from directory_client.requests import InFlight
from directory_client.servers import Servers
from directory_client.subscriber import Subscriber
from directory_client.wire.answers import Answer
from directory_client.wire.limits import ANSWER_BYTES_MAX, TEXT_BYTES_MAX
from directory_client.wire.messages import (
    DirectoryError,
    DirectorySilent,
    Frames,
    MalformedMessage,
    encode,
    read,
    unpack,
)
from directory_client.wire.questions import (
    InForce,
    LocatorAnswer,
    LocatorRequest,
    ResolveRequest,
)
from directory_client.wire.requests import REQUESTS, Ask, ControlAnswer

READS = frozenset(
    {"list", "names", "export", "history", "explain"}
)  # of the write socket; may be asked twice


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
        self._node = node
        self._capabilities = list(capabilities)
        self._clock = clock
        self._own_context = context is None
        self._context = context or zmq.Context()
        self._malformed = 0
        self._kept: list[Event] = []
        is_tool = node is None
        connections = [Connection(self._context, name, keys, i, is_tool) for i, name in enumerate(servers)]
        pin = pin or RealmPin()
        self._facts = Facts(
            node=node, role=role, worker=worker, workers=workers, node_capabilities=list(capabilities)
        )
        self._servers = Servers(
            connections, Allegiance(pin), self._tell, self._moved, lambda: self._following.is_known
        )
        ids = InFlight()
        self._greeter = Greeter(self._servers, self._facts, node, instance, pin, ids)
        self._asking = Asking(self._servers, ids, self._tell, clock, timeout_s, give_up_s, is_tool)
        self._following = Following(self._servers, self._asking, self._greeter, self._facts, self._tell)
        self._asking.is_overtaken = self._following.is_overtaken

    @property
    def sockets(self) -> list[zmq.Socket[Any]]:
        """The sockets to poll for reading; never change."""
        return [socket for server in self._servers.all for socket in server.sockets()]

    @property
    def malformed(self) -> int:
        """How many messages were no messages of this protocol."""
        return self._malformed + self._asking.malformed

    @property
    def overtaken(self) -> int:
        """How many answers facts that were pushed meanwhile made old; they were asked for again."""
        return self._asking.overtaken

    @property
    def foreign(self) -> int:
        """How many messages came from servers that are not listened to."""
        return self._servers.foreign

    def timeout_ms(self) -> int:
        """How long the caller may sleep in its poller before `receive` has to run (0..1000)."""
        if self._kept:
            return 0
        now = self._clock()
        due = [now + 1.0, *self._greeter.due_at()]
        due += [at for at in (self._asking.due_at(), self._following.due_at()) if at is not None]
        return max(0, min(1000, int((min(due) - now) * 1000) + 1))

    def receive(self, ready: Container[Any] | None = None) -> list[Event]:
        """Read everything that has come, run what is due, return what happened; never blocks, never raises
        for bad bytes. `ready`: what a poller has just found readable, if the caller knows: the others are not
        looked at, which costs 3 µs each."""
        for server in self._servers.all:
            answers = ready is None or server.resolve in ready
            # Pushes first: an answer that is newer than a change must not overtake it in this process.
            for frames in receive_now(server.push) if answers or server.push in (ready or ()) else ():
                self._guarded(self._hear_push, server, frames)
            for frames in receive_now(server.resolve) if answers else ():
                self._guarded(self._hear, server, frames)
            for frames in receive_now(server.write) if ready is None or server.write in ready else ():
                self._guarded(self._hear, server, frames)
        self._run_clock(self._clock())
        events, self._kept = self._kept, []
        return events

    def send_resolve(self, rows: Any, *, explain: bool = False) -> int:
        """Ask for decisions on QUERY rows; a Resolved or Failed with this id follows. Repeated and failed
        over by itself."""
        head = ResolveRequest(node_capabilities=self._capabilities, explain=explain, **self._identity())
        part = rows.tobytes() if hasattr(rows, "tobytes") else bytes(rows)

        def resolved(id: int, answer: Answer, frames: Frames) -> Event:
            return read_resolved(id, answer, frames[1:])

        return self._asking.ask_event("resolve", head, resolved, [part])

    def send_locator(self, local: bytes, remote: bytes, protocol: int, wire_id: int) -> int:
        """Ask who an unknown outer source is; Located or Failed follows."""
        head = LocatorRequest(
            local=local,
            remote=remote,
            protocol=protocol,
            wire_id=wire_id,
            **self._identity(),
        )

        def located(id: int, answer: Answer, frames: Frames) -> Event:
            said = read(frames[0], LocatorAnswer, "locator")
            return Located(id, said.revision or 0, said.op if said.known else None, said.negative_s)

        return self._asking.ask_event("resolve", head, located)

    def send(self, type: str, *, timeout_s: float = 10.0, **fields: Any) -> int:
        """Send any other message (apply, list, explain, …); Answered or Failed with this id follows. What
        changes something is never sent twice, what only shows may be."""
        said = {name: value for name, value in fields.items() if value is not None}

        def answered(id: int, answer: Answer, frames: Frames) -> Event:
            return Answered(id, unpack(frames[0], "the head", ANSWER_BYTES_MAX))

        head = REQUESTS[type](**said)
        size = sum(map(len, encode(head)))
        if size > TEXT_BYTES_MAX:  # a server would end the connection without a word
            raise DirectoryError(
                f"the request has {size} bytes, more than TEXT_BYTES_MAX, {TEXT_BYTES_MAX}",
                "cut it into several; a document of each V-net, for one",
                2,
            )
        return self._asking.ask_event("write", head, answered, [], timeout_s, type in READS)

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
        kept, self._kept = self._kept, []
        id = self.send(type, timeout_s=timeout_s, **fields)
        poller = zmq.Poller()
        for socket in self.sockets:
            poller.register(socket, zmq.POLLIN)
        answer: Answered | Failed | None = None
        while answer is None:
            poller.poll(self.timeout_ms())
            for event in self.receive():
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
        in_force: Callable[[], InForce] | None = None,
    ) -> None:
        """Follow the pushes for this node: a Snapshot comes, then Changed in order; after a gap, a restart
        or silence a Snapshot again. `accept(vni)` chooses V-nets (None: all). `in_force()` says, whenever a
        snapshot is asked for, what is in force here: what was forbidden since comes with it."""
        if self._node is None:
            raise ValueError("only a node can subscribe")
        self._following.follow(accept, in_force, self._clock())

    def knows(self, incarnation: int, revision: int) -> None:
        """Say what this gateway was told before this process began: a directory whose store is older takes
        nothing away."""
        if self.subscriber is not None:
            self.subscriber.knows(incarnation, revision)

    def applied(self, revision: int) -> None:
        """Say that everything up to this revision is installed here: the next heartbeat (at once) reports
        it, so that `apply` can tell the operator when every gateway has the change."""
        self._facts.applied(revision)
        self._note_revision(self._clock())

    def set_heartbeat(self, **facts: Any) -> None:
        """Set what heartbeats say (wire/greeting.py): locators=["192.0.2.1"], ports=["rack"], load=Load(…). A
        changed fact is sent at once, but for the load, which goes with the next."""
        if self._facts.set(facts):
            self._greeter.hurry(self._clock())

    def serve(self) -> None:
        """Say hello as this node's control on every server, once a second: Asked events follow."""
        self._greeter.say_hello()

    def goodbye(self) -> None:
        """Say that this gateway stops, so that another may have its name without waiting. Its other processes
        have ended, or take it back by their next heartbeat."""
        self._greeter.goodbye(self._clock())

    def answer(self, asked: Asked, answer: dict[str, Any]) -> None:
        """Answer an Asked event; does nothing if that server is gone. What cannot be packed is answered with
        an error."""
        try:
            frames = encode(ControlAnswer(id=asked.id, answer=answer))
        except (ValueError, TypeError, OverflowError) as error:
            refusal = {"ok": False, "error": f"the answer cannot be sent: {error}", "fix": "", "code": 1}
            frames = encode(ControlAnswer(id=asked.id, answer=refusal))
        send_now(self._servers.all[asked.server].write, frames)

    def servers(self) -> list[ServerHealth]:
        """Give the health of every server, in the configured order."""
        now = self._clock()
        return [health_of(server, self._servers.is_active(server), now) for server in self._servers.all]

    @property
    def followed(self) -> int:
        """The revision up to which all that concerns this node was given; 0 while that is not known."""
        return self._following.revision

    @property
    def subscriber(self) -> Subscriber | None:
        """The state machine behind `subscribe` (its state, node_id and resyncs are worth showing)."""
        return self._following.subscriber

    def accept_server_keys(self, publics: Sequence[str]) -> None:
        """Accept these public keys of directories on TCP from now on, in Z85. Raises DirectoryError."""
        checked = [check_public_key(key, "directory_public_key") for key in publics]
        for server in self._servers.all:
            if not server.endpoint.local:
                server.accept_server_keys(checked)

    def close(self) -> None:
        """Close the sockets at once; what was not sent is dropped, but for a goodbye, which has a moment."""
        for server in self._servers.all:
            server.close()
        if self._own_context:
            self._context.term()

    # ---- asking ------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return self._greeter.identity(self._clock())

    # ---- hearing -----------------------------------------------------------------------------

    def _guarded(
        self, hear: Callable[[Connection, Frames], None], server: Connection, frames: Frames
    ) -> None:
        try:
            hear(server, frames)
        except MalformedMessage:
            self._malformed += 1

    def _hear_push(self, server: Connection, frames: Frames) -> None:
        if self._servers.is_active(server):
            self._following.pushed(frames, self._clock())

    def _hear(self, server: Connection, frames: Frames) -> None:
        """Take a message of the resolve or write socket. Raises MalformedMessage."""
        head = read_answer(frames)
        now = self._clock()
        if not self._servers.listen(server, head, now):
            return
        if head.type == "ask":
            asked = read(frames[0], Ask, "ask")
            self._tell(Asked(server.index, asked.id, asked.request))
        elif self._greeter.is_greeted(server, head):
            node_id = self._greeter.greeted(server, head, frames, now)
            if node_id is not None and self._servers.is_active(server):
                self._following.node_is(node_id, now)
        else:
            self._asking.heard(server, head, frames, now)

    def _run_clock(self, now: float) -> None:
        for server in self._servers.all:
            server.watch(now)
        self._asking.tick(now)
        self._servers.tick(now, is_greeting=self._node is not None)
        self._following.tick(now)
        self._note_revision(now)
        self._greeter.tick(now)

    def _note_revision(self, now: float) -> None:
        """Say with the next heartbeat what is reached."""
        follows = self.subscriber
        if follows is not None and self._facts.reach(follows.revision, follows.incarnation):
            self._greeter.hurry(now)

    def _moved(self, before: Connection, now: float) -> None:
        """Go on with the server that is used now."""
        self._following.leave(before)
        self._asking.moved(before, now)
        self._following.start(now)

    def _tell(self, event: Event) -> None:
        self._kept.append(event)
