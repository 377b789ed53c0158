# SPDX-License-Identifier: Apache-2.0
"""Number what is pushed: a seq without gaps per (node, V-net), and the sum of a node's seqs in every message.
Pure."""

from __future__ import annotations

from typing import Any

from directory_client.wire.messages import NODE_PREFIX, encode, pack, topic_of
from directory_service.service import Push

HEARTBEAT_S = 1.0
FOLLOWED_MAX = 65_536
_NO_OPERATIONS = pack([])


class Publisher:
    """Numbers of one server process; `epoch` tells it from the one before."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.published = 0
        self._seq: dict[int, dict[int, int]] = {}  # node id → VNI → last seq
        self._sum: dict[int, int] = {}  # node id → sum of these
        self._followed: set[int] = set()  # node ids
        self._every_s: dict[int, int] = {}  # node id → how often it hears a heartbeat, where not every second
        self._beats = 0
        self._heartbeat_at = 0.0

    def sequences(self, node_id: int) -> list[tuple[int, int]]:
        """Return [VNI, seq] of every topic of a node."""
        return list(self._seq.get(node_id, {}).items())

    def publish(self, push: Push, version: dict[str, int], last: bool = True) -> list[Any]:
        """Give a push the next number of its topic; returns its frames. `last`: no other of its revision
        follows for this node."""
        seqs = self._seq.setdefault(push.node_id, {})
        seqs[push.vni] = seq = seqs.get(push.vni, 0) + 1
        self._sum[push.node_id] = total = self._sum.get(push.node_id, 0) + 1
        self.published += 1
        head = {"seq": seq, "sum": total, "epoch": self.epoch, "facts": push.facts, **version}
        head |= {"time_ms": push.time_ms, "last": last}
        return [topic_of(push.node_id, push.vni), *encode(head, push.packed)]

    def heartbeat(self, node_id: int, version: dict[str, int], time_ms: int) -> list[Any]:
        """Return the frames of a node's heartbeat."""
        total = self._sum.get(node_id, 0)
        head = {"seq": total, "epoch": self.epoch, **version, "time_ms": time_ms}
        return [topic_of(node_id), *encode(head, _NO_OPERATIONS)]

    def subscribed(self, topic: bytes) -> int:
        """Take note of a subscription; returns the node id that is to hear a heartbeat, 0 if it names none.

        It is never taken back: a heartbeat that nobody subscribes to costs next to nothing, and whose
        subscription ended cannot always be known.
        """
        node_id = node_of(topic)
        if node_id and (node_id in self._followed or len(self._followed) < FOLLOWED_MAX):
            self._followed.add(node_id)
        return node_id

    def pace(self, node_id: int, every_s: int) -> None:
        """Send a node's heartbeats every so many seconds from now on."""
        if every_s > 1:
            self._every_s[node_id] = every_s
        else:
            self._every_s.pop(node_id, None)

    def due_at(self) -> float:
        """Return when heartbeats are due next."""
        return self._heartbeat_at + HEARTBEAT_S

    def nodes_due(self, now: float) -> list[int]:
        """Return the nodes that are to hear a heartbeat now."""
        if now < self.due_at():
            return []
        self._heartbeat_at = now
        self._beats += 1
        every_s = self._every_s.get
        return sorted(one for one in self._followed if (self._beats + one) % every_s(one, 1) == 0)


def node_of(topic: bytes) -> int:
    """Return the node id that a topic begins with; 0: it is shorter."""
    return int(NODE_PREFIX.unpack_from(topic)[0]) if len(topic) >= NODE_PREFIX.size else 0
