# SPDX-License-Identifier: Apache-2.0
"""decide for thousands of rows at once: the same answers, byte for byte, some thirty times as fast.

Of a decision most depends on one end alone. That is learned once for each address (sides.py), what the rules
say once for each pair of those that are alike to them (verdicts.py); what is left for a row are comparisons,
made for all rows together (outcomes.py). Whatever is unusual (ARP, service addresses, ports, moves that are
still being relayed, paths that are refused) decide itself is asked. It is the truth: tests compare the two
after random changes of random worlds.
"""

from typing import Any, NamedTuple

import numpy as np

from directory_client.vocabulary.numbers import Granularity, IngressKind, KeyClass, KeyFlag
from directory_client.wire.limits import LIFETIME_MS_MIN
from directory_client.wire.rows import DECISION, SCOPE, Rows
from directory_service.bulk.ahead import ADDRESSES_MAX, Ahead
from directory_service.bulk.outcomes import ACTIONS, ASK, NARROW, Columns, Outcomes, find_outcomes
from directory_service.bulk.sides import Sides
from directory_service.bulk.verdicts import Verdicts
from directory_service.decide.answer import Answer, decide_rows, decision_row, pack_scope, queries_of
from directory_service.decide.decide import REFRESH_RATIO, decide
from directory_service.decide.question import Asker
from directory_service.kinds.peering import PEERING
from directory_service.model.member import FAMILY_IPV4, FAMILY_IPV6, FAMILY_MAC
from directory_service.model.snapshot import Snapshot
from directory_service.settings import Settings

ROWS_MIN = 20  # fewer are decided one by one: some eighty calls of numpy take as long

_CLASSES = (KeyClass.ROUTED, KeyClass.BRIDGED, KeyClass.MAC)
_IPV6, _CONNECTION, _DESTINATION = int(KeyFlag.IPV6), int(KeyFlag.CONNECTION), int(KeyFlag.DESTINATION)
_ANY_BITS = {FAMILY_IPV4: 96, FAMILY_IPV6: 0, FAMILY_MAC: 0}


class _Context(NamedTuple):
    """What rows of one V-net, class, flags and ingress have in common; see outcomes.Columns."""

    tag: int
    at_origin: bool
    routed: bool
    looks: bool
    connection: bool
    spoofs: bool
    lonely: bool
    any_bits: int


class Bulk:
    """See the module. One thread calls; what was learned belongs to the newest snapshot asked about."""

    def __init__(self) -> None:
        self._sides = Sides()
        self._verdicts = Verdicts()
        self._ahead = Ahead(self._sides)
        self._generation: object = None

    def follow(self, snapshot: Snapshot) -> None:
        """Go over to a snapshot. Called for each one in turn, no more is forgotten than a change touched."""
        self._sides.follow(snapshot)

    def expect(self, node: str) -> None:
        """Take note of a node that will ask."""
        self._ahead.expect(node)

    def has_to_learn(self, snapshot: Snapshot) -> bool:
        """Tell whether `learn_ahead` has something to do."""
        return self._ahead.waits(snapshot)

    def learn_ahead(self, snapshot: Snapshot) -> None:
        """Use a quiet moment: learn some of what will be asked about."""
        self._make_ready(snapshot, ADDRESSES_MAX)
        self._ahead.learn(snapshot)

    def decide_rows(
        self, snapshot: Snapshot, rows: Rows, asker: Asker, now_ms: int, settings: Settings
    ) -> Answer:
        """Decide every row as answer.decide_rows does; `reasoned` stays empty."""
        if len(rows) < ROWS_MIN or "vxlan" not in asker.capabilities:
            return decide_rows(snapshot, rows, asker, now_ms, settings)._replace(reasoned=[])
        self._make_ready(snapshot, len(rows))
        rows = np.ascontiguousarray(rows)
        outcomes, connection = self._outcomes(snapshot, rows, asker)
        outcome, revision = outcomes.outcome, snapshot.revision
        decisions = np.zeros(len(rows), DECISION)
        decisions["action"] = ACTIONS[outcome]
        narrow = connection | (outcome == NARROW)
        decisions["granularity"] = np.where(narrow, Granularity.CONNECTION, Granularity.PAIR)
        decisions["reason"] = outcomes.reason
        decisions["scope"] = -1
        decisions["lifetime_ms"], decisions["refresh_ms"] = _lifetimes(outcomes, settings)
        decisions["revision"] = revision
        decisions["rule_id"] = outcomes.rule_id
        ends = np.stack((outcomes.source_location, outcomes.location), axis=1)  # of each row
        asked = np.flatnonzero(outcome == ASK)
        if not len(asked):
            named, locations, tunnels = self._sides.locations.rows(ends.reshape(-1), revision)
            decisions["source_location"], decisions["destination_location"] = named[::2], named[1::2]
            found = _number(decisions, outcomes.scoped, _packed(outcomes.scopes))
            return Answer(decisions, locations, tunnels, found, [])

        scopes = dict(zip(outcomes.scoped.tolist(), _packed(outcomes.scopes), strict=True))
        for at, query in zip(asked.tolist(), queries_of(rows[asked]), strict=True):
            decision = decide(snapshot, query, asker, now_ms, settings)
            decisions[at] = decision_row(decision)
            if decision.source_location is not None:
                ends[at, 0] = self._sides.locations.number(decision.source_location)
            if decision.destination_location is not None:
                ends[at, 1] = self._sides.locations.number(decision.destination_location)
            if decision.scope is not None:
                scopes[at] = pack_scope(decision.scope, query.vni)
        named, locations, tunnels = self._sides.locations.rows(ends.reshape(-1), revision)
        decisions["source_location"], decisions["destination_location"] = named[::2], named[1::2]
        refused = sorted(scopes)
        found = _number(decisions, refused, [scopes[at] for at in refused])
        return Answer(decisions, locations, tunnels, found, [])

    def _make_ready(self, snapshot: Snapshot, rows: int) -> None:
        self._sides.follow(snapshot)
        self._sides.make_room(2 * rows)
        if self._generation is not self._sides.generation:
            self._generation = self._sides.generation
            self._verdicts.clear()
        self._verdicts.make_room(rows)

    def _outcomes(self, snapshot: Snapshot, rows: Rows, asker: Asker) -> tuple[Outcomes, Any]:
        """Say how rows end, and which have ports."""
        words = np.ascontiguousarray(rows.view("<u8").reshape(len(rows), -1).T)
        head, ingress = words[0], words[6]
        if (head == head[0]).all() and (ingress == ingress[0]).all():
            context = self._context(snapshot, asker, int(head[0]), int(ingress[0]))
            if context is None:
                return _all_asked(len(rows)), bool(head[0] >> np.uint64(40) & np.uint64(_CONNECTION))
            tag = np.full(len(rows), context.tag, np.uint64)
            return find_outcomes(
                _columns(words, tag, *context[1:]), self._sides, self._verdicts
            ), context.connection
        return self._mixed_outcomes(snapshot, words, asker)

    def _mixed_outcomes(self, snapshot: Snapshot, words: Any, asker: Asker) -> tuple[Outcomes, Any]:
        pairs = list(zip(words[0].tolist(), words[6].tolist(), strict=True))
        numbers = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
        contexts = [self._context(snapshot, asker, *pair) for pair in numbers]
        which = np.array([numbers[pair] for pair in pairs])
        connection = (words[0] >> np.uint64(40) & np.uint64(_CONNECTION)) != 0
        usable = np.array([context is not None for context in contexts])[which]
        count = words.shape[1]
        if not usable.any():
            return _all_asked(count), connection
        table = [context or _Context(0, False, False, False, False, False, False, 0) for context in contexts]
        values = [np.array(column) for column in zip(*table, strict=True)]
        at = np.flatnonzero(usable)
        if len(at) < count:
            words, which = np.ascontiguousarray(words[:, at]), which[at]
        columns = _columns(words, values[0][which].astype(np.uint64), *(value[which] for value in values[1:]))
        outcomes = find_outcomes(columns, self._sides, self._verdicts)
        return (outcomes if len(at) == count else _among(outcomes, at, count)), connection

    def _context(self, snapshot: Snapshot, asker: Asker, head: int, ingress: int) -> _Context | None:
        """Say what rows that begin so have in common; None: decide has to be asked about each."""
        key_class, flags, kind = head >> 32 & 255, head >> 40 & 255, head >> 56
        state, here = snapshot.by_vni.get(head & 0xFFFFFFFF), asker.node
        if state is None or state.vnet is None or key_class not in _CLASSES or flags & _DESTINATION:
            return None
        family = FAMILY_MAC if key_class == KeyClass.MAC else FAMILY_IPV6 if flags & _IPV6 else FAMILY_IPV4
        spoofs = looks = True
        if kind == IngressKind.ATTACHMENT:
            attachment = state.attachments_by_id.get(ingress)
            if attachment is None or attachment.place.node != here.name:
                return None
        elif kind == IngressKind.NODE:
            node = snapshot.fabric.nodes_by_id.get(ingress)
            if node is None or node.id == here.id or not state.attachments_by_node.get(here.name):
                return None
            if snapshot.fabric.link(here, node, state.vnet.min_trust).tunnel is None:
                return None
            looks = node.foreign
            spoofs = not state.moves and node.name not in state.vnet.relays
        else:
            return None
        return _Context(
            self._sides.tag(here, state, family),
            kind == IngressKind.ATTACHMENT,
            key_class == KeyClass.ROUTED,
            looks,
            bool(flags & _CONNECTION),
            spoofs,
            not state.tables[PEERING.name],
            _ANY_BITS[family],
        )


def _columns(words: Any, tag: Any, *context: Any) -> Columns:
    return Columns(words[0], words[5], (words[1], words[2]), (words[3], words[4]), words[6], tag, *context)


def _all_asked(count: int) -> Outcomes:
    """Leave all rows to decide."""
    none = np.zeros(count, np.uint8)
    nothing = np.zeros(0, np.int64)
    return Outcomes(
        none, none, none, np.full(count, -1), np.full(count, -1), none, nothing, nothing, np.zeros(0, SCOPE)
    )


def _among(outcomes: Outcomes, at: Any, count: int) -> Outcomes:
    """Put outcomes to where their rows stand among others, which are left to decide."""

    def wide(values: Any, other: int = 0) -> Any:
        out = np.full(count, other, values.dtype)
        out[at] = values
        return out

    return Outcomes(
        wide(outcomes.outcome),
        wide(outcomes.reason),
        wide(outcomes.rule_id),
        wide(outcomes.source_location, -1),
        wide(outcomes.location, -1),
        wide(outcomes.spread),
        at[outcomes.refused],
        at[outcomes.scoped],
        outcomes.scopes,
    )


def _lifetimes(outcomes: Outcomes, settings: Settings) -> tuple[Any, Any]:
    """Return how long decisions hold and after what time to ask again, in ms (decide._with_jitter)."""
    lesser = 1.0 - settings.jitter_ratio * (outcomes.spread / np.float64(0xFFFFFFFF))
    lifetime_ms = _at_least((settings.lifetime_s * 1000 * lesser).astype(np.uint32))
    refresh_ms = (lifetime_ms * REFRESH_RATIO).astype(np.uint32)
    refused = outcomes.refused
    if len(refused):
        refused_ms = settings.negative_lifetime_s * 1000 * lesser[refused]
        lifetime_ms[refused] = _at_least(refused_ms.astype(np.uint32))
        refresh_ms[refused] = 0
    return lifetime_ms, refresh_ms


def _at_least(lifetime_ms: Any) -> Any:
    return np.maximum(lifetime_ms, np.uint32(LIFETIME_MS_MIN))


def _packed(scopes: Rows) -> list[bytes]:
    return scopes.view(f"V{SCOPE.itemsize}").tolist() if len(scopes) else []


def _number(decisions: Rows, rows: Any, scopes: list[bytes]) -> Rows:
    """Give the rows their scopes, of equal ones one; returns the SCOPE rows in the order in which they are
    named."""
    if not scopes:
        return np.zeros(0, SCOPE)
    numbers = {scope: number for number, scope in enumerate(dict.fromkeys(scopes))}
    decisions["scope"][rows] = [numbers[scope] for scope in scopes]
    return np.frombuffer(b"".join(numbers), SCOPE)
