# SPDX-License-Identifier: Apache-2.0
"""The resolve socket's messages: what gateways ask. Pure; see docs/protocol.md, section 2.1."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from directory_client.vocabulary.numbers import Action
from directory_client.vocabulary.reasons import reason_number
from directory_client.wire import rows
from directory_client.wire.answers import Answer
from directory_client.wire.greeting import (
    FEATURES,
    Claim,
    Conflict,
    Goodbye,
    Greeted,
    Heartbeat,
    Notice,
    features_of,
)
from directory_client.wire.messages import (
    VERSIONS,
    DirectoryError,
    MalformedMessage,
    Request,
    encode,
    pack,
    read_part,
)
from directory_client.wire.questions import (
    InForce,
    LocatorAnswer,
    LocatorRequest,
    ResolveRequest,
    SnapshotHead,
    SnapshotRequest,
)
from directory_service.configuration import Configuration
from directory_service.model.sightings import FLAPS_S, Flap
from directory_service.protocol import holders
from directory_service.protocol.behind import Behind
from directory_service.protocol.delays import Delays
from directory_service.protocol.gateways import Gateways, Lack, Speaker
from directory_service.protocol.gathering import Waiting
from directory_service.protocol.holders import Fenced
from directory_service.protocol.outbox import Out, Peer, Reply
from directory_service.protocol.publisher import Publisher
from directory_service.protocol.snapshots import Slices, Snapshots
from directory_service.rates import Rates
from directory_service.refused import Refused
from directory_service.service import Directory
from directory_service.store.contract import Seen

log = logging.getLogger(__name__)

RETRY_MS = 20
CLOCK_TRUST_S = 60.0
FLAPS_SHOWN = 5
_EMPTY_LIST = pack([])

# The head is read already as what its type says: a Request of wire/requests.py.
Handler = Callable[[Peer, Any, Sequence[Any], float, float], list[Out]]


class Reading:
    """Serves resolve, snapshot, locator, heartbeat and goodbye."""

    def __init__(
        self,
        configuration: Configuration,
        directory: Directory,
        gateways: Gateways,
        publisher: Publisher,
        waiting: Waiting,
        counters: Counter[str],
        snapshots: Snapshots,
    ) -> None:
        self._snapshots = snapshots
        self._delays = Delays()
        self._name = configuration.name
        self._rates = Rates(configuration.limits.resolves_per_second_per_vnet)
        self._directory = directory
        self._gateways = gateways
        self._behind = Behind(directory, gateways)
        self._publisher = publisher
        self._waiting = waiting
        self._counters = counters
        self.handlers: dict[str, Handler] = {
            "resolve": self._resolve,
            "snapshot": self._snapshot,
            "locator": self._locator,
            "heartbeat": self._heartbeat,
            "goodbye": self._goodbye,
        }
        self.take(configuration)

    def take(self, configuration: Configuration) -> None:
        """Take what may change while it runs."""
        self._late_s = configuration.limits.late_ms / 1000
        self._negative_s = configuration.settings.negative_lifetime_s
        self._rates.allow(configuration.limits.resolves_per_second_per_vnet)

    def _resolve(
        self, peer: Peer, head: ResolveRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node = self._node(peer, head, now)
        if max(waited_s, self._sent_ago_s(peer, head, now)) > self._late_s:
            self._counters["busy"] += 1
            return [_busy(peer, head)]
        if len(parts) != 1:
            raise MalformedMessage(
                f"resolve: one part of QUERY rows is expected, not {len(parts)}", id=head.id
            )
        queries = rows.rows_of(parts[0], rows.QUERY, "queries")
        self._counters["queries"] += len(queries)
        granted = self._granted(queries, now)
        asked = queries if granted is None else queries[granted]
        answer = self._directory.resolve(node, head.node_capabilities, asked, head.explain)
        decisions = answer.decisions
        provenance = answer.provenance
        if granted is not None:
            decisions = _undecided(len(queries))
            decisions[granted] = answer.decisions
            if provenance:
                found = iter(provenance)
                provenance = [next(found) if one else {} for one in granted]
        version: dict[str, Any] = {**self._directory.version(answer.revision)}
        return [
            Reply(
                peer.channel,
                peer.connection,
                encode(
                    Answer(
                        id=head.id,
                        ok=True,
                        **version,
                        epoch=self._publisher.epoch,
                        facts=answer.facts,
                    ),
                    decisions.tobytes(),
                    answer.locations.tobytes(),
                    answer.tunnels.tobytes(),
                    answer.scopes.tobytes(),
                    pack(provenance) if provenance else _EMPTY_LIST,
                ),
            )
        ]

    def _granted(self, queries: rows.Rows, now: float) -> Any:
        """Return which rows are within their V-net's rate; None: all."""
        granted = None
        for vni, count in _counts(queries["vni"]):
            given = self._rates.take(vni, count, now)
            if given == count:
                continue
            if granted is None:
                granted = np.ones(len(queries), dtype=bool)
            granted[np.flatnonzero(queries["vni"] == vni)[given:]] = False
            self._counters["rate_limited"] += count - given
        return granted

    def _snapshot(
        self, peer: Peer, head: SnapshotRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node = self._node(peer, head, now)
        if head.more is not None:
            self._snapshots.more(peer, head.id, head.more)
            return []
        said = _in_force(head, parts)

        def make() -> tuple[SnapshotHead, Slices]:
            known = None
            if said is not None:  # what is of another incarnation the gateway closes by itself
                now_of = self._directory.version()["incarnation"]
                known = {vni: revision for vni, of, revision in said if of == now_of}
            found = self._directory.snapshot(node, head.vnis, known) if self._node_id(node) else None
            node_id = found.node_id if found is not None else 0
            answer = SnapshotHead(
                **self._state(head),
                node_id=node_id,
                seq=self._publisher.sequences(node_id),
                closes=known is not None,
            )
            return answer, found.slices if found is not None else iter(())

        if head.vnis == []:  # who asks for its id only does not wait behind those who ask for more
            return [Reply(peer.channel, peer.connection, encode(make()[0], _EMPTY_LIST))]
        return self._snapshots.begin(peer, node, head.id, make)

    def _locator(
        self, peer: Peer, head: LocatorRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node = self._node(peer, head, now)
        operation = self._directory.locator(node, head.local, head.remote, head.protocol, head.wire_id)
        known = operation is not None
        negative_s = None if known else self._negative_s
        answer = LocatorAnswer(**self._state(head), known=known, op=operation, negative_s=negative_s)
        return [Reply(peer.channel, peer.connection, encode(answer))]

    def _sent_ago_s(self, peer: Peer, head: ResolveRequest, now: float) -> float:
        """Return for how long this has waited, as far as can be known; 0 if it does not say when it was sent.
        A local client's clock is ours, unless it is so far off that it cannot be."""
        if head.sent_us is None:
            return 0.0
        if peer.identity.role != "local":
            return self._delays.waited_s(peer.connection, head.sent_us / 1e6, now, peer.behind_s)
        ago_s = now - head.sent_us / 1e6
        return ago_s if 0 < ago_s < CLOCK_TRUST_S else 0.0

    def _heartbeat(
        self, peer: Peer, head: Heartbeat, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node = self._node(peer, head, now, takes=True)
        if head.seen is not None and self._directory.hear(Seen(*head.seen)):
            self._counters["eras_begun"] += 1
        # Noted for a node that is not declared too: the document that declares it is waited for there.
        self._gateways.heartbeat(node, head.role, head.worker, _speaker(head, now), now)
        every_s = self._gateways.tell_pace(node)
        node_id = self._node_id(node)
        if node_id:
            self._publisher.pace(node_id, every_s)
        notices = self._announce(node, now) if node_id else [_undeclared(node)]
        if second := self._gateways.holders.second(node, now):
            fix = f"stop it, or give it a name and a key of its own: only one can be {node}"
            notices.append(Notice("second", second, fix))
        conflicts: list[dict[str, Any]] = []
        if node_id:
            conflicts = self._directory.conflicts(node)
            self._gateways.conflict(node, conflicts)
            notices += [_conflict(one) for one in conflicts]
            notices += self._behind.notices(node, now)
            notices += [_flap(one) for one in self._directory.flaps(node)[:FLAPS_SHOWN]]
        answer = Greeted(
            **self._state(head),
            node_id=node_id,
            name=self._name,
            era_began=self._directory.era_began,
            store=self._directory.store_id,
            notices=notices,
            conflicts=[Conflict(**one) for one in conflicts],
            speaks=VERSIONS,
            features=list(FEATURES),
            every_s=every_s,
        )
        reply = Reply(peer.channel, peer.connection, encode(answer))
        return [reply, *self._waiting.reported(now, node)]

    def _goodbye(
        self, peer: Peer, head: Goodbye, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node = self._node(peer, head, now)
        self._gateways.goodbye(node, claim_of(peer, head), now)
        return [Reply(peer.channel, peer.connection, encode(Answer(**self._state(head))))]

    def _announce(self, node: str, now: float) -> list[Notice]:
        """Take up what a node says of itself; returns what it is to be told about that."""
        said = self._gateways.said(node, now)
        if said is None:
            return []
        try:
            era = self._directory.world.incarnation
            silent_s = self._gateways.silent_s(node)
            self._directory.announce(node, *said, lambda: self._gateways.reports(era, now), silent_s)
        except Refused as error:  # it lives all the same
            if not self._counters["announcements_refused"]:
                log.warning("what node %s says of itself is refused: %s", node, error.problem)
            self._counters["announcements_refused"] += 1
            fix = error.fix or f"vnetctl show node {node}"
            text = f"what this gateway says of itself is refused: {error.problem}"
            return [Notice("announcement", text, fix)]
        return []

    def _node(self, peer: Peer, head: Claim, now: float, takes: bool = False) -> str:
        """Return the node as which a message speaks; `takes`: the name becomes its sender's if it is free.
        Raises DirectoryError for another's key, Fenced for a second gateway of that name."""
        node = head.node
        if not peer.identity.may_be_node(node):
            self._counters["impostors"] += 1
            raise NotItsKey(peer.identity.name, node)
        self._hold(node, claim_of(peer, head), now, takes)
        return node

    def _hold(self, node: str, claim: holders.Claim, now: float, takes: bool) -> None:
        held = self._gateways.holders
        try:
            if not takes:
                held.check(node, claim, now)
            elif moved := held.take(node, claim, now, self._gateways.silent_s(node)):
                log.warning("%s", moved)
                self._counters["names_moved"] += 1
                self._gateways.forget(node)
        except Fenced as error:
            self._counters["fenced"] += 1
            if error.is_news:
                log.warning("%s", error.error)
            raise

    def _node_id(self, node: str) -> int:
        try:
            return self._directory.node_id(node)
        except Refused:
            return 0

    def _state(self, head: Request) -> dict[str, Any]:
        """Return what every answer says of the directory."""
        return {
            "id": head.id,
            "ok": True,
            **self._directory.version(),
            "epoch": self._publisher.epoch,
            "facts": self._directory.facts,
        }


def _speaker(head: Heartbeat, now: float) -> Speaker:
    return Speaker(
        now,
        head.revision,
        head.load,
        head.locators,
        head.ports,
        head.workers,
        head.incarnation,
        tuple(Lack(*row) for row in head.no_room or ()),
        features_of(head.features),
    )


def _in_force(head: SnapshotRequest, parts: Sequence[Any]) -> InForce | None:
    """Return the revision at which each V-net is in force at a gateway; None: it does not say."""
    if not parts:
        return None
    said: InForce = read_part(parts[0], InForce, "snapshot: what is in force", head.id)
    return said


class NotItsKey(DirectoryError):
    """A gateway speaks as a node that is not its key's."""

    why = "key"

    def __init__(self, known_as: str, node: str) -> None:
        super().__init__(
            f"the directory knows this key as {known_as}: it may not speak as node {node:.80}",
            f'name = "{known_as}" in gateway.toml, or another key',
        )


def claim_of(peer: Peer, head: Claim) -> holders.Claim:
    """Return which gateway of a name a message comes from."""
    return holders.Claim(head.instance, peer.address, head.held_s, head.fenced)


def _undeclared(node: str) -> Notice:
    text = f"node {node} is not declared: nothing is sent to it"
    return Notice("undeclared", text, f"vnetctl node add {node} --site SITE")


def _conflict(conflict: dict[str, Any]) -> Notice:
    fix = str(conflict.get("fix") or "vnetctl show nodes")
    return Notice(f"locator {conflict['locator']}", str(conflict["problem"]), fix)


def _flap(flap: Flap) -> Notice:
    name = f"{flap.vnet}/{flap.endpoint}"
    text = f"endpoint {name} moved {flap.moves} times within {FLAPS_S / 60:.0f} minutes, between {flap.other}"
    fix = f"vnetctl show endpoint {name}; let it send from one place, or declare two endpoints"
    return Notice(f"places {name}", f"{text} and {flap.place}: it is sent to one of them", fix)


def _counts(vnis: Any) -> list[tuple[int, int]]:
    """Return how many rows each V-net has."""
    if len(vnis) and (vnis == vnis[0]).all():  # as a rule; sorting takes ten times as long
        return [(int(vnis[0]), len(vnis))]
    found, counts = np.unique(vnis, return_counts=True)
    return list(zip(found.tolist(), counts.tolist(), strict=True))


def _busy(peer: Peer, head: ResolveRequest) -> Reply:
    answer = Answer(
        id=head.id,
        ok=False,
        busy=True,
        retry_ms=RETRY_MS,
        error="the directory is busy",
        fix="vnetctl show directories",
        code=1,
    )
    return Reply(peer.channel, peer.connection, encode(answer))


def _undecided(count: int) -> rows.Rows:
    decisions = np.zeros(count, rows.DECISION)
    decisions["action"] = Action.NONE
    decisions["reason"] = reason_number("miss_rate")
    for name in ("source_location", "destination_location", "scope"):
        decisions[name] = -1
    return decisions
