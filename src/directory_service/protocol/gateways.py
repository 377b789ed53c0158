# SPDX-License-Identifier: Apache-2.0
"""What gateways have said of themselves: alive, up to which revision, and how to ask their control. Pure.

These are facts of now, not records: they are not stored. (For locators and ports see presences.py.)
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from directory_client.wire.greeting import Load
from directory_client.wire.limits import EVERY_S_MAX, WORKERS_MAX
from directory_service.documents.resting import Reports
from directory_service.protocol.holders import Claim, Holders

NODES_MAX = 65_536
SPEAKERS_MAX = WORKERS_MAX + 1  # control speaks too
SETTLE_S = 3.0
HELLO_S = 3.5  # hello comes every second, or as seldom as was told
GREETED_PER_S = 250  # gateways; more of them are to greet less often
PACES = 3  # greetings that may be missing
FORGET_S = 3_600.0


class Lack(NamedTuple):
    """A V-net that finds no room, or not all of it does, in a table of a gateway ([capacity]). VNI 0: of any
    V-net, as with tunnels, which they share."""

    vni: int
    vnet: str
    table: str


@dataclass(slots=True)
class Speaker:
    """One process of a gateway that sends heartbeats."""

    heard_at: float
    revision: int
    load: Load | None
    locators: list[str] | None  # None: it does not say
    ports: list[str] | None
    workers: int = 1  # how many of its role the gateway has
    incarnation: int = 0  # of which era the revision is; 0: it does not say
    no_room: tuple[Lack, ...] = ()
    features: frozenset[str] = frozenset()


@dataclass(slots=True)
class Gateway:
    """What is known of one node."""

    first_at: float
    heard_at: float
    speakers: dict[tuple[str, int], Speaker] = field(default_factory=dict)
    control: bytes | None = None
    hello_at: float = 0.0
    every_s: int = 1  # how often it was told to greet
    before_s: int = 1  # the same before that: until it greets again, it may not have heard
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    _workers: list[Speaker | None] | None = None  # found, and nobody has said anything since

    @property
    def pace_s(self) -> int:
        """The time between two greetings of one that may have heard how often it is to greet, or not yet."""
        return max(self.every_s, self.before_s)

    def said(self, role: str, worker: int, speaker: Speaker) -> None:
        """Take note of what a process says."""
        if len(self.speakers) < SPEAKERS_MAX or (role, worker) in self.speakers:
            self.speakers[(role, worker)] = speaker
            self._workers = None

    def workers(self) -> list[Speaker | None]:
        """Return the slow-path workers by number, as many as the one heard last says; None: not heard."""
        if self._workers is None:
            self._workers = self._find_workers()
        return self._workers

    def _find_workers(self) -> list[Speaker | None]:
        spoken = [speaker for (role, _), speaker in self.speakers.items() if role == "slow-path"]
        if not spoken:
            return []
        count = max(spoken, key=lambda speaker: speaker.heard_at).workers
        return [self.speakers.get(("slow-path", number)) for number in range(count)]


class Gateways:
    """All nodes that have spoken. `node_s`: silent for longer is stale, unless it was told to greet seldom.
    `first` is called with the name of one that speaks for the first time. `era` returns the incarnation that
    revisions are of now: those of any other era mean nothing."""

    def __init__(
        self,
        node_s: float,
        started_at: float = float("-inf"),
        first: Callable[[str], None] = lambda node: None,
        era: Callable[[], int] = lambda: 0,
    ) -> None:
        self._first = first
        self._era = era
        self._node_s = node_s
        self.holders = Holders(node_s)
        self._started_at = started_at
        self._gateways: dict[str, Gateway] = {}

    def wait_for_silent(self, node_s: float) -> None:
        """Take another `node_s`; names that are held stay so for as long as they were granted."""
        self._node_s = node_s
        self.holders.wait_for_silent(node_s)

    def heartbeat(self, node: str, role: str, worker: int, speaker: Speaker, now: float) -> None:
        """Take note of a heartbeat."""
        gateway = self._of(node, now)
        gateway.heard_at = now
        gateway.said(role, worker, speaker)

    def tell_pace(self, node: str) -> int:
        """Return how often a gateway that was just heard is to greet, in seconds: those of a fleet stay few
        together, but none is silent for long enough to be taken for stale. One process of a release that
        cannot be told keeps all of its gateway at once a second."""
        gateway = self._gateways[node]
        wanted = min(len(self._gateways) // GREETED_PER_S, int(self._node_s / 3), EVERY_S_MAX)
        can = wanted > 1 and all("pace" in one.features for one in gateway.speakers.values())
        gateway.before_s, gateway.every_s = gateway.every_s, wanted if can else 1
        return gateway.every_s

    def silent_s(self, node: str) -> float:
        """Return after what time a node is silent: `node_s`, and three of the greetings that it was told."""
        gateway = self._gateways.get(node)
        return self._node_s if gateway is None else self._silent_s(gateway)

    def _silent_s(self, gateway: Gateway) -> float:
        return max(self._node_s, PACES * gateway.pace_s)

    def forget(self, node: str) -> None:
        """Forget what a node's processes said: its name went to another gateway."""
        self._gateways.pop(node, None)

    def said(self, node: str, now: float) -> tuple[list[str], list[str]] | None:
        """Return the locators and ports that a node's living processes say it has, together.

        None: not known yet. That there are no locators at all is believed only once every process had time to
        speak, lest a restarted directory forgets the last known ones.
        """
        gateway = self._gateways.get(node)
        if gateway is None:
            return None
        silent_s = self._silent_s(gateway)
        alive = [speaker for speaker in gateway.speakers.values() if now - speaker.heard_at < silent_s]
        locators = list(dict.fromkeys(each for speaker in alive for each in speaker.locators or ()))
        ports = list(dict.fromkeys(each for speaker in alive for each in speaker.ports or ()))
        speak = any(speaker.locators is not None for speaker in alive)
        if not speak or (not locators and now - gateway.first_at < max(SETTLE_S, self._node_s / 2.5)):
            return None
        return locators, ports

    def goodbye(self, node: str, claim: Claim, now: float) -> None:
        """Take it that one process of a gateway stops: the name is free unless another goes on."""
        gateway = self._gateways.get(node)
        self.holders.goodbye(node, claim, now, gateway.pace_s if gateway else 1)

    def conflict(self, node: str, conflicts: list[dict[str, Any]]) -> None:
        """Take note of the locators that a node says it has in vain (Directory.conflicts)."""
        if (gateway := self._gateways.get(node)) is not None:
            gateway.conflicts = conflicts

    def hello(self, node: str, connection: bytes, now: float) -> None:
        """Take note of the connection over which a node's control can be asked."""
        gateway = self._of(node, now)
        gateway.heard_at = now
        gateway.control, gateway.hello_at = connection, now

    def control(self, node: str, now: float) -> bytes | None:
        """Return the connection of a node's control; None: it has not said hello lately."""
        gateway = self._gateways.get(node)
        return gateway.control if gateway and now - gateway.hello_at < HELLO_S * gateway.pace_s else None

    def with_control(self, now: float) -> list[str]:
        """Return the names of the nodes that can be asked, sorted."""
        return sorted(node for node in self._gateways if self.control(node, now) is not None)

    def is_alive(self, node: str, now: float) -> bool:
        """Say whether a node was heard lately."""
        gateway = self._gateways.get(node)
        return gateway is not None and now - gateway.heard_at < self._silent_s(gateway)

    def revision(self, node: str, now: float) -> int | None:
        """Return the revision that is in force at a node: what all of its slow-path workers have reported in
        this era.

        None: no worker lives; -1: one has never reported. What a dead worker reported last stays in force.
        """
        gateway = self._gateways.get(node)
        if gateway is None:
            return None
        workers = gateway.workers()
        silent_s = self._silent_s(gateway)
        if not any(speaker and now - speaker.heard_at < silent_s for speaker in workers):
            return None
        return min(map(self._reported, workers), default=-1)

    def lacking(self, node: str, revision: int) -> list[str]:
        """Return the names of a node's slow-path workers that have not reported a revision in this era."""
        gateway = self._gateways.get(node)
        workers = gateway.workers() if gateway else []
        return [
            f"slow-path-{number}"
            for number, speaker in enumerate(workers)
            if self._reported(speaker) < revision
        ]

    def _reported(self, worker: Speaker | None) -> int:
        """Return the revision that a worker has reported in this era; -1: none."""
        return worker.revision if worker is not None and worker.incarnation == self._era() else -1

    def no_room(self, node: str, vnis: Container[int]) -> list[Lack]:
        """Return what of these V-nets, or of all, finds no room at a node, as its workers said last."""
        gateway = self._gateways.get(node)
        workers = gateway.workers() if gateway else []
        return sorted(
            {
                lack
                for one in workers
                if one is not None
                for lack in one.no_room
                if lack.vni in vnis or not lack.vni
            }
        )

    def reports(self, incarnation: int, now: float) -> Reports:
        """Return what gateways have reported in an era, also those that are silent now: what is in force at a
        node stays in force."""
        revisions: dict[str, int] = {}
        for node, gateway in self._gateways.items():
            workers = gateway.workers()
            said = [one.revision for one in workers if one is not None and one.incarnation == incarnation]
            if said and len(said) == len(workers):
                revisions[node] = min(said)
        silent_s = {node: now - gateway.heard_at for node, gateway in self._gateways.items()}
        return Reports(incarnation, revisions, silent_s, max(0.0, now - self._started_at))

    def may_come(self, node: str, now: float) -> bool:
        """Say whether a node may be alive though it was not heard: this directory has just started."""
        return node not in self._gateways and now - self._started_at < self._node_s

    def describe(self, node: str, now: float) -> dict[str, Any]:
        """Return what `list nodes` adds to a gateway's row."""
        gateway = self._gateways.get(node)
        if gateway is None:
            return {
                "state": "unknown",
                "silent_s": None,
                "applied_revision": None,
                "conflicts": [],
                "second": "",
                "features": [],
            }
        silent_s, is_alive = now - gateway.heard_at, self.is_alive(node, now)
        return {
            "state": "up" if is_alive else "stale",
            "silent_s": round(silent_s, 3),
            "applied_revision": None if (found := self.revision(node, now)) == -1 else found,
            "conflicts": gateway.conflicts if is_alive else [],
            "second": self.holders.second(node, now),
            "features": self.features(node),
        }

    def features(self, node: str) -> list[str]:
        """Return the features that all of a node's processes have, sorted: while they are replaced by those
        of another release, what both can."""
        gateway = self._gateways.get(node)
        said = [one.features for one in gateway.speakers.values()] if gateway else []
        return sorted(frozenset.intersection(*said)) if said else []

    def alive_count(self, now: float) -> int:
        """Count the nodes that are alive."""
        return sum(self.is_alive(node, now) for node in self._gateways)

    def _of(self, node: str, now: float) -> Gateway:
        if node not in self._gateways and len(self._gateways) >= NODES_MAX:
            fresh = {n: g for n, g in self._gateways.items() if now - g.heard_at < FORGET_S}
            self._gateways = fresh if len(fresh) < NODES_MAX else {}
        if (gateway := self._gateways.get(node)) is None:
            gateway = self._gateways[node] = Gateway(now, now)
            self._first(node)
        return gateway
