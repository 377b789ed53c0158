# SPDX-License-Identifier: Apache-2.0
"""Node snapshots on their way, piece by piece: however large one is, others wait for a piece of it only.

Each piece is asked for; what an asker has not come back for within IDLE_S is forgotten. All pieces are of the
revision that the first one names. Pure: `work` makes one piece, whenever there is time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from directory_client.wire.messages import DirectoryError, encode, pack
from directory_service.protocol.outbox import Out, Peer, Reply

PIECE_OPERATIONS = 1_000  # some 5 ms to make, 200 kB
WAITING_MAX = 20_000
IDLE_S = 30.0


@dataclass(slots=True)
class _Sending:
    peer: Peer
    id: Any
    head: dict[str, Any]
    vnets: Iterator[tuple[int, list[dict[str, Any]]]]
    token: int
    until: float = 0.0


class Snapshots:
    """See the module."""

    def __init__(self) -> None:
        self._queue: deque[_Sending] = deque()
        self._kept: dict[int, _Sending] = {}  # their next piece has not been asked for yet; oldest first
        self._next_token = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._kept)

    @property
    def has_work(self) -> bool:
        """Whether somebody waits for a piece."""
        return bool(self._queue)

    def begin(
        self, peer: Peer, id: Any, head: dict[str, Any], vnets: Iterator[tuple[int, list[dict[str, Any]]]]
    ) -> None:
        """Send a snapshot: `head` with the first piece, and lists of operations of V-nets, as they are made.
        Raises DirectoryError if too many are on their way."""
        if len(self) >= WAITING_MAX:
            raise DirectoryError("too many snapshots are on their way", "it is asked again by itself")
        self._next_token += 1
        self._queue.append(_Sending(peer, id, head, vnets, self._next_token))

    def more(self, peer: Peer, id: Any, token: int) -> None:
        """Send the next piece. Raises DirectoryError if there is none of that number for this connection."""
        sending = self._kept.get(token)
        if sending is None or sending.peer.connection != peer.connection:
            raise DirectoryError("this snapshot is not on its way any more", "it is asked again by itself")
        del self._kept[token]
        sending.id = id
        self._queue.append(sending)

    def work(self, now: float) -> list[Out]:
        """Make one piece."""
        if not self._queue:
            return []
        sending = self._queue.popleft()
        piece: list[Any] = []
        count = 0
        is_last = True
        for vni, operations in sending.vnets:
            if piece and piece[-1][0] == vni:
                piece[-1][1].extend(operations)
            else:
                piece.append([vni, operations])
            count += len(operations)
            if count >= PIECE_OPERATIONS:
                is_last = False
                break
        head = {**sending.head, "id": sending.id, "ok": True}
        sending.head = {**sending.head, "seq": []}
        if not is_last:
            head["more"] = sending.token
            sending.until = now + IDLE_S
            self._kept[sending.token] = sending
        peer = sending.peer
        return [Reply(peer.channel, peer.connection, encode(head, pack(piece)))]

    def tick(self, now: float) -> None:
        """Forget what nobody has come back for."""
        for token, sending in list(self._kept.items()):
            if sending.until > now:
                return  # those after it are younger
            del self._kept[token]
