# SPDX-License-Identifier: Apache-2.0
"""Follow a directory's pushes without losing one: pure, messages and time in, actions out (Clone pattern).

    INITIAL   who am I? a snapshot of no V-nets tells the node's id; 0: not declared yet, asked again
       ↓      Subscribe to every topic of that id
    SYNCING   the publisher confirms a subscription with a heartbeat; then ask for the snapshot;
       ↓      pushes are kept; after the snapshot come those that are newer than it
    ACTIVE    each topic's seq must follow without gaps; every message carries the sum of the node's, so that
              what was lost is noticed before anything newer is taken, whatever V-net that is of; the node's
              heartbeat has nothing else, so that a lost last message is noticed too

A gap, another epoch (the publisher restarted), another incarnation (another store) or silence goes back to
SYNCING. Everything is counted in `resyncs`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from directory_client.events import Changed, Snapshot

CONFIRM_S = 0.3  # without a confirmation the snapshot is asked anyway; a gap would be noticed
ASK_AGAIN_S, ASK_AGAIN_MAX_S = 1.0, 8.0  # twice as long after each time in vain
UNKNOWN_S = 0.2
SILENT_S = 3.0
KEPT_MAX = 10_000


class State(enum.Enum):
    """Where the subscriber stands."""

    INITIAL = "initial"
    SYNCING = "syncing"
    ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to all topics of this node id."""

    node_id: int


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Give up the topics of this node id."""

    node_id: int


@dataclass(frozen=True, slots=True)
class AskSnapshot:
    """Ask for a snapshot; `whole` False: only for the node's id. Its answer comes back with this number."""

    number: int
    whole: bool


Action = Subscribe | Unsubscribe | AskSnapshot | Snapshot | Changed


@dataclass(frozen=True, slots=True)
class Push:
    """A message of the push socket. VNI 0: a heartbeat, whose seq is the sum over the node's topics."""

    node_id: int
    vni: int
    seq: int
    epoch: int
    incarnation: int
    revision: int
    time_ms: int
    operations: list[dict[str, Any]]
    facts: int = 0
    sum: int = 0  # of the seqs of the node's topics, with this one; 0: it does not say
    last: bool = True  # nothing of this revision follows for another V-net of the node


@dataclass(frozen=True, slots=True)
class SnapshotAnswer:
    """An answer to AskSnapshot: seq by VNI for every topic of the node."""

    node_id: int
    epoch: int
    incarnation: int
    revision: int
    seq: dict[int, int]
    vnets: list[tuple[int, list[dict[str, Any]]]]
    facts: int = 0
    closes: bool = False

    def joined(self, piece: SnapshotAnswer) -> SnapshotAnswer:
        """Return this answer with the V-nets of a later piece of it. A V-net may have begun in this one."""
        for vni, operations in piece.vnets:
            if self.vnets and self.vnets[-1][0] == vni:
                self.vnets[-1][1].extend(operations)
            else:
                self.vnets.append((vni, operations))
        return self


class Subscriber:
    """The state machine. Every input returns the actions to take, in order."""

    def __init__(self, accept: Callable[[int], bool] | None = None) -> None:
        self.state = State.INITIAL
        self.node_id = 0
        self.incarnation = 0
        self.revision = 0
        self.resyncs: dict[str, int] = {}
        self.duplicates = 0
        self.facts = 0  # of the newest message that was taken up
        self.undeclared = False  # a directory that is new to us, or older than us, knows no such node
        self._accept = accept or (lambda _vni: True)
        self.epoch = 0
        self._seq: dict[int, int] = {}
        self._sum = 0
        self._kept: list[Push] = []
        self._asked = 0  # number of the snapshot that we wait for, 0: none
        self._numbers = 0
        self._patience_s = ASK_AGAIN_S
        self._publisher = 0  # epoch of whoever was heard last
        self._heard_at = 0.0
        self._told = True  # the caller may hold what a node of this name was told
        self._due_at: float | None = None
        self.every_s = 1  # how often the publisher sends a heartbeat, at least

    def start(self, now: float) -> list[Action]:
        """Begin, or begin anew with another server: nothing of the old publisher's numbers holds."""
        actions: list[Action] = [Unsubscribe(self.node_id)] if self.node_id else []
        self.node_id = 0
        self.state = State.INITIAL
        self._kept.clear()
        self._patience_s = ASK_AGAIN_S
        return actions + self._ask(now, whole=False)

    def due_at(self) -> float | None:
        """When `tick` has something to do (None: only after another input)."""
        if self.state is State.ACTIVE:
            return self._heard_at + SILENT_S * self.every_s
        return self._due_at

    def tick(self, now: float) -> list[Action]:
        """Let time pass."""
        due = self.due_at()
        if due is None or now < due:
            return []
        if self.state is State.ACTIVE:
            return self._resync("silence", now)
        if self._asked:  # in vain: many may be asking
            self._patience_s = min(2 * self._patience_s, ASK_AGAIN_MAX_S)
        return self._ask(now, whole=self.state is State.SYNCING)

    def push(self, push: Push, now: float) -> list[Action]:
        """Take a message of the push socket."""
        if push.node_id != self.node_id or self.state is State.INITIAL:
            return []
        self._heard_at = now
        is_another, self._publisher = push.epoch != self._publisher, push.epoch
        if self.state is State.SYNCING:
            if push.vni:
                if len(self._kept) >= KEPT_MAX:  # too many to keep: the next gap asks again
                    self._kept.clear()
                self._kept.append(push)
            # What the one before was asked nobody answers any more.
            return self._ask(now, whole=True) if is_another or not self._asked else []
        return self._follow(push, now)

    def snapshot(self, number: int, answer: SnapshotAnswer, now: float) -> list[Action]:
        """Take a snapshot; one that was not asked last is ignored."""
        if number != self._asked:
            return []
        self._asked = 0
        self._publisher = answer.epoch
        if not answer.node_id:
            return self._unknown(answer, now)
        if answer.node_id != self.node_id:
            actions: list[Action] = [Unsubscribe(self.node_id)] if self.node_id else []
            self.node_id = answer.node_id
            self.state = State.SYNCING
            self._kept.clear()
            self._due_at = now + CONFIRM_S
            return [*actions, Subscribe(answer.node_id)]
        if self.state is not State.SYNCING:
            return []
        if self._is_older(answer):
            return self._wait("older", now)
        return self._adopt(answer, now)

    def piece_came(self, number: int, now: float) -> None:
        """Take note that a piece of a snapshot has come: there is no need to ask again yet."""
        if number == self._asked:
            self._due_at = now + self._patience_s

    def knows(self, incarnation: int, revision: int) -> None:
        """Take note of what this gateway has been told before this process began: nothing older is taken."""
        if not self.incarnation:
            self.incarnation, self.revision = incarnation, revision

    def failed(self, number: int, now: float) -> None:
        """Take it that a snapshot was not answered: it is asked again after a while."""
        if number == self._asked:
            self._asked = 0
            self._due_at = now + UNKNOWN_S

    def node_is(self, node_id: int, now: float) -> list[Action]:
        """Compare with the id that a heartbeat's answer gives: a node that was declared, or removed and
        declared again."""
        if self.state is State.INITIAL and self.node_id == 0 and node_id and not self._asked:
            return self._ask(now, whole=False)
        if self.state is State.ACTIVE and node_id != self.node_id:
            return self._resync("node", now)
        return []

    def _unknown(self, answer: SnapshotAnswer, now: float) -> list[Action]:
        """The directory knows no node of this name. It was removed if that is news of the era that we know;
        a store that is new to us, or older than what we know, takes nothing away."""
        known_before = self.node_id != 0
        self.undeclared = answer.incarnation != self.incarnation or self._is_older(answer)
        if self.undeclared:
            actions = self._wait("undeclared", now)
        else:
            actions = [Snapshot(answer.incarnation, answer.revision, 0, [])] if self._told else []
            self._told = False
            self.revision = answer.revision
            self._due_at = now + UNKNOWN_S
        self.state = State.INITIAL
        if known_before:
            actions.insert(0, Unsubscribe(self.node_id))
            self.node_id = 0
        return actions

    def _is_older(self, answer: SnapshotAnswer) -> bool:
        return answer.incarnation == self.incarnation and answer.revision < self.revision

    def _wait(self, why: str, now: float) -> list[Action]:
        """Take a snapshot for no answer, and ask again after a while."""
        self.resyncs[why] = self.resyncs.get(why, 0) + 1
        self._due_at = now + UNKNOWN_S
        return []

    def _adopt(self, answer: SnapshotAnswer, now: float) -> list[Action]:
        self.state = State.ACTIVE
        self._due_at = None
        self._patience_s = ASK_AGAIN_S
        self._heard_at = now
        self.epoch, self.incarnation, self.revision = answer.epoch, answer.incarnation, answer.revision
        self.facts = answer.facts
        self._told = True
        self.undeclared = False
        self._seq = dict(answer.seq)
        self._sum = sum(self._seq.values())
        vnets = [(vni, operations) for vni, operations in answer.vnets if self._accept(vni)]
        actions: list[Action] = [
            Snapshot(answer.incarnation, answer.revision, answer.node_id, vnets, answer.closes)
        ]
        kept, self._kept = self._kept, []
        for push in kept:
            if push.epoch != answer.epoch:
                continue  # of a publisher before this one; were it a later one, the next message would tell
            actions += self._follow(push, now)
            if self.state is not State.ACTIVE:
                break
        return actions

    def _follow(self, push: Push, now: float) -> list[Action]:
        if push.epoch != self.epoch:
            return self._resync("epoch", now, push)
        if push.incarnation != self.incarnation:
            return self._resync("incarnation", now, push)
        if not push.vni:
            if push.seq > self._sum:
                return self._resync("gap", now)
            if push.seq == self._sum:  # nothing is missing: what was not pushed to us did not concern us
                self.revision = max(self.revision, push.revision)
            return []
        expected = self._seq.get(push.vni, 0) + 1
        if push.seq < expected:
            self.duplicates += 1
            return []
        if push.seq > expected or (push.sum and push.sum != self._sum + 1):
            return self._resync("gap", now, push)
        self._seq[push.vni] = push.seq
        self._sum += 1
        if push.operations and push.operations[0]["op"] == "resync":  # too much for a push
            return self._resync("large", now)
        self.revision = max(self.revision, push.revision - (not push.last))
        self.facts = max(self.facts, push.facts)
        if not self._accept(push.vni):
            return []
        return [Changed(push.vni, push.incarnation, push.revision, push.time_ms, push.operations, push.last)]

    def _resync(self, why: str, now: float, push: Push | None = None) -> list[Action]:
        self.resyncs[why] = self.resyncs.get(why, 0) + 1
        self.state = State.SYNCING
        self._kept = [push] if push is not None and push.vni else []
        return self._ask(now, whole=True)

    def _ask(self, now: float, whole: bool) -> list[Action]:
        self._numbers += 1
        self._asked = self._numbers
        self._due_at = now + self._patience_s
        return [AskSnapshot(self._asked, whole)]
