# SPDX-License-Identifier: Apache-2.0
"""Node snapshots on their way, piece by piece: however large one is, others wait for a piece of it only.

Each piece is asked for; what an asker has not come back for within IDLE_S is forgotten. All pieces are of the
revision that the first one names. Who asks anew gets the newest only, in the turn of the one before: a fleet
that comes all at once would else be served what nobody waits for any more, and never be through.

A snapshot is of the moment at which its first piece is made, not of when it was asked for: what happens while
it waits need not be told twice.

Pure: `work` makes one piece, whenever there is time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from directory_client.wire.messages import DirectoryError, encode, pack
from directory_client.wire.questions import SnapshotHead
from directory_service.protocol.jobs import refuse
from directory_service.protocol.outbox import Out, Peer, Reply

PIECE_OPERATIONS = 1_000  # some 5 ms to make, 200 kB
WAITING_MAX = 20_000
WAITING_MAX_OF_NODE = 64  # control and workers, and what they gave up when they started anew
IDLE_S = 30.0


Slices = Iterator[tuple[int, list[dict[str, Any]]]]
Make = Callable[[], tuple[SnapshotHead, Slices]]


@dataclass(slots=True, eq=False)
class _Sending:
    peer: Peer
    node: str
    id: int | None
    make: Make
    token: int
    made: tuple[SnapshotHead, Slices] | None = None  # once its first piece is made
    until: float = 0.0


class Snapshots:
    """See the module."""

    def __init__(self) -> None:
        self._queue: dict[str, deque[_Sending]] = {}  # node → its pieces; whose turn it is comes first
        self._kept: dict[int, _Sending] = {}  # their next piece has not been asked for yet; oldest first
        self._of_node: Counter[str] = Counter()
        self._newest: dict[tuple[bytes, str], _Sending] = {}  # by connection and node
        self._next_token = 0

    def __len__(self) -> int:
        return self._of_node.total()

    @property
    def has_work(self) -> bool:
        """Whether somebody waits for a piece."""
        return bool(self._queue)

    def begin(self, peer: Peer, node: str, id: int | None, make: Make) -> list[Out]:
        """Send a node's snapshot: the head that `make` returns with the first piece, and lists of operations
        of V-nets, as they are made. Returns what to say of the one that this connection asked for before, if
        it is not through. Raises DirectoryError if too many are on their way."""
        before = self._newest.pop((peer.connection, node), None)
        if before is not None and self._kept.pop(before.token, None) is not None:
            self._forget(before)
            before = None
        if before is not None:
            return self._replace(before, _Sending(peer, node, id, make, before.token))
        if self._of_node[node] >= WAITING_MAX_OF_NODE:  # the oldest that it has not come back for goes
            oldest = next((token for token, one in self._kept.items() if one.node == node), None)
            if oldest is not None:
                self._forget(self._kept.pop(oldest))
        if self._of_node[node] >= WAITING_MAX_OF_NODE or len(self) >= WAITING_MAX:
            raise DirectoryError("too many snapshots are on their way", "it is asked again by itself")
        self._next_token += 1
        self._of_node[node] += 1
        sending = _Sending(peer, node, id, make, self._next_token)
        self._newest[peer.connection, node] = sending
        self._enqueue(sending)
        return []

    def more(self, peer: Peer, id: int | None, token: int) -> None:
        """Send the next piece. Raises DirectoryError if there is none of that number for this connection."""
        sending = self._kept.get(token)
        if sending is None or sending.peer.connection != peer.connection:
            raise DirectoryError("this snapshot is not on its way any more", "it is asked again by itself")
        del self._kept[token]
        sending.id = id
        self._enqueue(sending)

    def work(self, now: float) -> list[Out]:
        """Make one piece: nodes take turns, so that one that asks for many does not hold others up."""
        if not self._queue:
            return []
        node, waiting = next(iter(self._queue.items()))
        sending = waiting.popleft()
        del self._queue[node]
        if waiting:
            self._queue[node] = waiting
        peer = sending.peer
        if sending.made is None:
            try:
                sending.made = sending.make()
            except Exception as error:  # that one cannot be made is nobody's business but theirs
                self._forget(sending)
                _, refusal = refuse(error, "snapshot")
                refusal.id = sending.id
                return [Reply(peer.channel, peer.connection, encode(refusal))]
        head, vnets = sending.made
        piece: list[Any] = []
        count = 0
        is_last = True
        for vni, operations in vnets:
            if piece and piece[-1][0] == vni:
                piece[-1][1].extend(operations)
            else:
                piece.append([vni, operations])
            count += len(operations)
            if count >= PIECE_OPERATIONS:
                is_last = False
                break
        head.id = sending.id
        head.more = None if is_last else sending.token
        reply = Reply(peer.channel, peer.connection, encode(head, pack(piece)))
        head.seq = []
        if not is_last:
            sending.until = now + IDLE_S
            self._kept[sending.token] = sending
        else:
            self._forget(sending)
        return [reply]

    def tick(self, now: float) -> None:
        """Forget what nobody has come back for."""
        for token, sending in list(self._kept.items()):
            if sending.until > now:
                return  # those after it are younger
            self._forget(self._kept.pop(token))

    def _replace(self, before: _Sending, sending: _Sending) -> list[Out]:
        """Put what is asked for in the place of what waits: who asks again loses no turn. Returns what to say
        of the one that is given up."""
        waiting = self._queue[before.node]
        waiting[waiting.index(before)] = sending
        self._newest[sending.peer.connection, sending.node] = sending
        told = {"id": before.id, "ok": False, "error": "it was asked again since", "fix": "", "code": 1}
        return [Reply(before.peer.channel, before.peer.connection, encode(told))]

    def _enqueue(self, sending: _Sending) -> None:
        self._queue.setdefault(sending.node, deque()).append(sending)

    def _forget(self, sending: _Sending) -> None:
        asker = (sending.peer.connection, sending.node)
        if self._newest.get(asker) is sending:
            del self._newest[asker]
        self._of_node[sending.node] -= 1
        if not self._of_node[sending.node]:
            del self._of_node[sending.node]
