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
from directory_client.wire.messages import (
    DirectoryError,
    MalformedMessage,
    encode,
    field,
    names,
    pack,
    rows_of,
    unpack,
)
from directory_service.configuration import Configuration
from directory_service.protocol.gateways import SPEAKERS_MAX, Gateways, Lack, Speaker
from directory_service.protocol.gathering import Waiting
from directory_service.protocol.holders import Claim, Fenced
from directory_service.protocol.outbox import Out, Peer, Reply
from directory_service.protocol.publisher import Publisher
from directory_service.protocol.snapshots import Snapshots
from directory_service.rates import Rates
from directory_service.refused import Refused
from directory_service.service import Directory
from directory_service.store.contract import Seen

log = logging.getLogger(__name__)

RETRY_MS = 20
FACTS_MAX = 64
NAME_MAX = 63
INSTANCE_MAX = 64
HELD_S_MAX = 1e10
LOAD = ("misses", "waiting")  # what a heartbeat's load may say, as numbers; all else is dropped
CLOCK_TRUST_S = 60.0
_EMPTY_LIST = pack([])
_U64 = 1 << 64

Handler = Callable[[Peer, dict[str, Any], Sequence[Any], float, float], list[Out]]


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
        self._name = configuration.name
        self._rates = Rates(configuration.limits.resolves_per_second_per_vnet)
        self._directory = directory
        self._gateways = gateways
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
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node = self._node(peer, head, now)
        if max(waited_s, _sent_ago_s(peer, head, now)) > self._late_s:
            self._counters["busy"] += 1
            return [_busy(peer, head)]
        if len(parts) != 1:
            raise MalformedMessage(
                f"resolve: one part of QUERY rows is expected, not {len(parts)}", id=head.get("id")
            )
        queries = rows_of(parts[0], rows.QUERY, "queries")
        capabilities = names(head, "node_capabilities", [])
        explain = bool(field(head, "explain", bool, False))
        self._counters["queries"] += len(queries)
        granted = self._granted(queries, now)
        asked = queries if granted is None else queries[granted]
        answer = self._directory.resolve(node, capabilities, asked, explain)
        decisions = answer.decisions
        provenance = answer.provenance
        if granted is not None:
            decisions = _undecided(len(queries))
            decisions[granted] = answer.decisions
            if provenance:
                found = iter(provenance)
                provenance = [next(found) if one else {} for one in granted]
        return [
            Reply(
                peer.channel,
                peer.connection,
                encode(
                    {
                        "id": head.get("id"),
                        "ok": True,
                        **self._directory.version(answer.revision),
                        "epoch": self._publisher.epoch,
                        "facts": answer.facts,
                    },
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
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node = self._node(peer, head, now)
        vnis = field(head, "vnis", list, None)
        if vnis is not None and not all(isinstance(vni, int) for vni in vnis):
            raise MalformedMessage("snapshot: vnis is not a list of numbers", id=head.get("id"))
        if (token := field(head, "more", int, None)) is not None:
            self._snapshots.more(peer, head.get("id"), token)
            return []
        known = _in_force(head, parts, self._directory.version()["incarnation"])
        found = self._directory.snapshot(node, vnis, known) if self._node_id(node) else None
        node_id = found.node_id if found is not None else 0
        answer = {
            **self._state(head),
            "node_id": node_id,
            "seq": self._publisher.sequences(node_id),
            "closes": known is not None,
        }
        self._snapshots.begin(
            peer, node, head.get("id"), answer, found.slices if found is not None else iter(())
        )
        return []

    def _locator(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node = self._node(peer, head, now)
        local, remote = field(head, "local", bytes), field(head, "remote", bytes)
        protocol, wire_id = field(head, "protocol", int), field(head, "wire_id", int)
        if len(local) != 16 or len(remote) != 16 or not 0 <= protocol < 256 or not 0 <= wire_id < 1 << 32:
            raise MalformedMessage("locator: addresses have 16 bytes, wire_id 32 bits", id=head.get("id"))
        operation = self._directory.locator(node, local, remote, protocol, wire_id)
        answer = self._state(head)
        if operation is None:
            answer |= {"known": False, "negative_s": self._negative_s}
        else:
            answer |= {"known": True, "op": operation}
        return [Reply(peer.channel, peer.connection, encode(answer))]

    def _heartbeat(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node = self._node(peer, head, now, takes=True)
        role = field(head, "role", str, "slow-path")
        worker = field(head, "worker", int, 0)
        workers = field(head, "workers", int, 1)
        revision = field(head, "revision", int, 0)
        said = field(head, "load", dict, {})
        load = {name: said[name] for name in LOAD if isinstance(said.get(name), (int, float))}
        if not 0 <= worker < 1 << 16 or not 0 <= revision < _U64 or len(role) > 32 or len(node) > NAME_MAX:
            raise MalformedMessage(
                "heartbeat: node, worker, revision or role is impossible", id=head.get("id")
            )
        seen = _seen(head)
        incarnation = field(head, "incarnation", int, 0)
        if seen is not None and self._directory.hear(seen):
            self._counters["eras_begun"] += 1
        if not 0 < workers <= SPEAKERS_MAX:
            raise MalformedMessage(
                f"heartbeat: workers is {workers}, between 1 and {SPEAKERS_MAX} is possible",
                id=head.get("id"),
            )
        locators, ports = names(head, "locators", None), names(head, "ports", None)
        if max(len(locators or ()), len(ports or ())) > FACTS_MAX:
            raise MalformedMessage(f"heartbeat: more than {FACTS_MAX} locators or ports", id=head.get("id"))
        # Noted for a node that is not declared too: the document that declares it is waited for there.
        speaker = Speaker(now, revision, load, locators, ports, workers, incarnation, _lacks(head))
        self._gateways.heartbeat(node, role, worker, speaker, now)
        node_id = self._node_id(node)
        notices = self._announce(node, now) if node_id else [_undeclared(node)]
        if second := self._gateways.holders.second(node, now):
            fix = f"stop it, or give it a name and a key of its own: only one can be {node}"
            notices.append({"why": "second", "text": second, "fix": fix})
        answer = {
            **self._state(head),
            "node_id": node_id,
            "name": self._name,
            "era_began": self._directory.era_began,
            "store": self._directory.store_id,
            "notices": notices,
        }
        if node_id:
            answer["conflicts"] = conflicts = self._directory.conflicts(node)
            self._gateways.conflict(node, conflicts)
            notices += [_conflict(one) for one in conflicts]
        reply = Reply(peer.channel, peer.connection, encode(answer))
        return [reply, *self._waiting.reported(now)]

    def _goodbye(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node = self._node(peer, head, now)
        self._gateways.holders.goodbye(node, claim_of(peer, head), now)
        return [Reply(peer.channel, peer.connection, encode(self._state(head)))]

    def _announce(self, node: str, now: float) -> list[dict[str, str]]:
        """Take up what a node says of itself; returns what it is to be told about that."""
        said = self._gateways.said(node, now)
        if said is None:
            return []
        try:
            era = self._directory.world.incarnation
            self._directory.announce(node, *said, lambda: self._gateways.reports(era, now))
        except Refused as error:  # it lives all the same
            if not self._counters["announcements_refused"]:
                log.warning("what node %s says of itself is refused: %s", node, error.problem)
            self._counters["announcements_refused"] += 1
            fix = error.fix or f"vnetctl show node {node}"
            text = f"what this gateway says of itself is refused: {error.problem}"
            return [{"why": "announcement", "text": text, "fix": fix}]
        return []

    def _node(self, peer: Peer, head: dict[str, Any], now: float, takes: bool = False) -> str:
        """Return the node as which a message speaks; `takes`: the name becomes its sender's if it is free.
        Raises DirectoryError for another's key, Fenced for a second gateway of that name."""
        node: str = field(head, "node", str)
        if not peer.identity.may_be_node(node):
            self._counters["impostors"] += 1
            raise NotItsKey(
                f"the directory knows this key as {peer.identity.name}: it may not speak as node {node:.80}",
                f'name = "{peer.identity.name}" in gateway.toml, or another key',
            )
        self._hold(node, claim_of(peer, head), now, takes)
        return node

    def _hold(self, node: str, claim: Claim, now: float, takes: bool) -> None:
        holders = self._gateways.holders
        try:
            if not takes:
                holders.check(node, claim, now)
            elif moved := holders.take(node, claim, now):
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

    def _state(self, head: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": head.get("id"),
            "ok": True,
            **self._directory.version(),
            "epoch": self._publisher.epoch,
            "facts": self._directory.facts,
        }


def _seen(head: dict[str, Any]) -> Seen | None:
    """Return the newest version that a gateway has seen; None: it does not say."""
    said = field(head, "seen", list, None)
    if said is None:
        return None
    if len(said) != 4 or not all(isinstance(one, int) and 0 <= one < _U64 >> 1 for one in said):
        raise MalformedMessage("heartbeat: seen is not [era, incarnation, revision, seal]", id=head.get("id"))
    return Seen(*said)


def _in_force(head: dict[str, Any], parts: Sequence[Any], incarnation: int) -> dict[int, int] | None:
    """Return the revision at which each V-net is in force at a gateway, by VNI; None: it does not say. What
    is of another incarnation the gateway closes by itself."""
    if not parts:
        return None
    rows = unpack(parts[0], "what is in force")
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == 3 and all(isinstance(one, int) for one in row) for row in rows
    ):
        raise MalformedMessage(
            "snapshot: what is in force is not a list of [VNI, incarnation, revision]", id=head.get("id")
        )
    return {vni: revision for vni, of, revision in rows if of == incarnation}


def _lacks(head: dict[str, Any]) -> tuple[Lack, ...]:
    """Return what a gateway says finds no room there."""
    said = field(head, "no_room", list, [])
    kinds = (int, str, str)
    for row in said:
        if not isinstance(row, list) or [type(one) for one in row] != list(kinds):
            raise MalformedMessage("heartbeat: no_room is no list of [vni, name, table]", id=head.get("id"))
    if len(said) > FACTS_MAX or any(len(one) > NAME_MAX for row in said for one in row[1:]):
        raise MalformedMessage(
            f"heartbeat: more than {FACTS_MAX} rows, or long names, in no_room", id=head.get("id")
        )
    return tuple(Lack(*row) for row in said)


class NotItsKey(DirectoryError):
    """A gateway speaks as a node that is not its key's."""

    why = "key"


def claim_of(peer: Peer, head: dict[str, Any]) -> Claim:
    """Read which gateway of a name a message comes from. Raises MalformedMessage."""
    instance = field(head, "instance", str, "")
    held_s = field(head, "held_s", (int, float), 0)
    if len(instance) > INSTANCE_MAX or not 0 <= held_s < HELD_S_MAX:
        raise MalformedMessage("instance or held_s is impossible", id=head.get("id"))
    return Claim(instance, peer.address, float(held_s), bool(field(head, "fenced", bool, False)))


def _undeclared(node: str) -> dict[str, str]:
    return {
        "why": "undeclared",
        "text": f"node {node} is not declared: nothing is sent to it",
        "fix": f"vnetctl node add {node} --site SITE",
    }


def _conflict(conflict: dict[str, Any]) -> dict[str, str]:
    fix = str(conflict.get("fix") or "vnetctl show nodes")
    return {"why": f"locator {conflict['locator']}", "text": str(conflict["problem"]), "fix": fix}


def _counts(vnis: Any) -> list[tuple[int, int]]:
    """Return how many rows each V-net has."""
    if len(vnis) and (vnis == vnis[0]).all():  # as a rule; sorting takes ten times as long
        return [(int(vnis[0]), len(vnis))]
    found, counts = np.unique(vnis, return_counts=True)
    return list(zip(found.tolist(), counts.tolist(), strict=True))


def _sent_ago_s(peer: Peer, head: dict[str, Any], now: float) -> float:
    """Return how long ago a local client sent this; 0 if it does not say, or its clock cannot be ours."""
    sent_us = head.get("sent_us")
    if peer.identity.role != "local" or not isinstance(sent_us, int):
        return 0.0
    ago_s = now - sent_us / 1e6
    return ago_s if 0 < ago_s < CLOCK_TRUST_S else 0.0


def _busy(peer: Peer, head: dict[str, Any]) -> Reply:
    answer = {
        "id": head.get("id"),
        "ok": False,
        "busy": True,
        "retry_ms": RETRY_MS,
        "error": "the directory is busy",
        "fix": "vnetctl show directories",
        "code": 1,
    }
    return Reply(peer.channel, peer.connection, encode(answer))


def _undecided(count: int) -> rows.Rows:
    decisions = np.zeros(count, rows.DECISION)
    decisions["action"] = Action.NONE
    decisions["reason"] = reason_number("miss_rate")
    for name in ("source_location", "destination_location", "scope"):
        decisions[name] = -1
    return decisions
