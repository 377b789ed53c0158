# SPDX-License-Identifier: Apache-2.0
"""How a client follows the pushes for its node: what `subscriber.py` wants done is done here. Used by
`client.py` only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from directory_client.asking import Asking
from directory_client.connection import Connection
from directory_client.decoding import is_overtaken, read_push, read_snapshot
from directory_client.events import Changed, Event, ServerChanged, Snapshot
from directory_client.greeter import Greeter
from directory_client.heartbeats import Facts
from directory_client.requests import Question
from directory_client.servers import Servers
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
from directory_client.wire.messages import DirectoryError, Frames, pack, read
from directory_client.wire.questions import InForce, SnapshotHead, SnapshotRequest

SNAPSHOT_S = 30.0  # for each of its pieces; the subscriber asks anew before


class Piece:
    """A piece of a snapshot that is asked for: `more` is the token with which the one before ended, `begun`
    what has come so far."""

    def __init__(self, following: Following, asked: AskSnapshot, more: int | None = None) -> None:
        self.asked = asked
        self.more = more
        self.begun: SnapshotAnswer | None = None
        self._following = following

    def answered(self, head: Answer, frames: Frames, now: float) -> None:
        """Take it. Raises MalformedMessage."""
        self._following.piece_came(self, read(frames[0], SnapshotHead, "snapshot"), frames, now)

    def failed(self, error: DirectoryError, now: float) -> None:
        """Take it that it does not come."""
        if self._following.subscriber is not None:
            self._following.subscriber.failed(self.asked.number, now)


class Following:
    """`tell` is given snapshots and changes."""

    def __init__(
        self,
        servers: Servers,
        asking: Asking,
        greeter: Greeter,
        facts: Facts,
        tell: Callable[[Event], None],
    ) -> None:
        self.subscriber: Subscriber | None = None
        self._in_force: Callable[[], InForce] | None = None
        self._servers = servers
        self._facts = facts
        self._tell = tell
        self._asking = asking
        self._piece_id = 0  # of the question for the piece that we wait for
        self._greeter = greeter

    def follow(
        self, accept: Callable[[int], bool] | None, in_force: Callable[[], InForce] | None, now: float
    ) -> None:
        """Begin (`DirectoryClient.subscribe`)."""
        self._in_force = in_force
        self.subscriber = Subscriber(accept)
        self._do(self.subscriber.start(now), now)

    @property
    def revision(self) -> int:
        """The revision up to which all that concerns this node was told; 0 while that is not known."""
        following = self.subscriber
        return following.revision if following is not None and following.state is State.ACTIVE else 0

    @property
    def is_known(self) -> bool:
        """Whether the directory in use knows this node, as far as it is asked."""
        return self.subscriber is None or not self.subscriber.undeclared

    def due_at(self) -> float | None:
        """Return when `tick` has something to do."""
        return self.subscriber.due_at() if self.subscriber is not None else None

    def tick(self, now: float) -> None:
        """Let time pass."""
        if self.subscriber is not None:
            self._do(self.subscriber.tick(now), now)

    def pushed(self, frames: Frames, now: float) -> None:
        """Take a message of the push socket of the server in use. Raises MalformedMessage."""
        if self.subscriber is not None:
            self._do(self.subscriber.push(read_push(frames), now), now)

    def node_is(self, node_id: int, now: float) -> None:
        """Take the id that the server in use has for this node."""
        if self.subscriber is not None:
            self.subscriber.every_s = self._servers.active.every_s
            self._do(self.subscriber.node_is(node_id, now), now)

    def leave(self, server: Connection) -> None:
        """Give up the node's topics at a server that is not used any more."""
        if self.subscriber is not None and self.subscriber.node_id:
            server.unsubscribe(self.subscriber.node_id)
            self.subscriber.node_id = 0

    def start(self, now: float) -> None:
        """Begin anew with the server that is used now."""
        if self.subscriber is not None:
            self.subscriber.every_s = self._servers.active.every_s
            self._do(self.subscriber.start(now), now)

    def is_overtaken(self, head: Answer) -> bool:
        """Tell whether an answer does not know facts that were pushed before it came."""
        return self.subscriber is not None and is_overtaken(
            head, self.subscriber.epoch, self.subscriber.facts
        )

    def piece_came(self, piece: Piece, head: SnapshotHead, frames: Frames, now: float) -> None:
        """Take a piece of a snapshot, and ask for the next one. Raises MalformedMessage."""
        if self.subscriber is None:
            return
        answer = read_snapshot(head, frames[1:])
        if piece.begun is not None:
            answer = piece.begun.joined(answer)
        if head.more is not None:
            self.subscriber.piece_came(piece.asked.number, now)
            following = Piece(self, piece.asked, head.more)
            following.begun = answer
            self._ask(following, now)
            return
        before = self._servers.name()
        self._do(self.subscriber.snapshot(piece.asked.number, answer, now), now)
        if self._servers.name() != before:
            self._tell(ServerChanged(self._servers.active.endpoint.name, True, self._servers.name()))

    def _ask(self, piece: Piece, now: float) -> None:
        is_first = piece.asked.whole and piece.more is None
        parts = [pack(self._in_force())] if is_first and self._in_force is not None else []
        self._asking.forget(self._piece_id)  # what was asked for until now is of no use any more
        self._piece_id = id = self._asking.next_id()
        vnis: list[int] | None = None if piece.asked.whole else []
        head = SnapshotRequest(id=id, vnis=vnis, more=piece.more, **self._greeter.identity(now))
        until = now + SNAPSHOT_S
        question = Question(id, "resolve", head, parts, False, now, until, piece.answered, piece.failed)
        self._asking.ask(question, now)

    def _do(self, actions: Sequence[Action], now: float) -> None:
        for action in actions:
            match action:
                case Subscribe(node_id):
                    self._servers.active.subscribe(node_id)
                case Unsubscribe(node_id):
                    self._servers.active.unsubscribe(node_id)
                case AskSnapshot():
                    self._ask(Piece(self, action), now)
                case Snapshot():
                    self._facts.delivered(action.revision, anew=True)
                    self._tell(action)
                case Changed():
                    self._facts.delivered(action.revision)
                    self._tell(action)
