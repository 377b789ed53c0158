# SPDX-License-Identifier: Apache-2.0
"""A revocation that comes only with a snapshot closes, whatever dies when: pushes are lost, the slow path or
the data plane is replaced, records are lost in the ring, answers come late.

The oracle is a list of what was forbidden at which revision, and what the data plane says that is in force.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from resolver_world import (
    INCARNATION,
    VNET_OPERATIONS,
    VNI,
    DataPlane,
    Directory,
    Pair,
    miss,
    records,
    scope_operation,
    snapshot,
)

from directory_client.events import Changed, Snapshot
from fastpath.records import Action, ChangeKind, RecordType, make
from gateway.slow_path.resolver import Resolver

EVERYONE = (1, 2, 3)
PAIRS = [(a, b) for a in EVERYONE for b in EVERYONE]


class Revocations:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.directory = Directory(EVERYONE, set(PAIRS))
        self.forbidden: list[tuple[int, Pair]] = []
        self.data_plane = DataPlane()
        self.decided: list[Any] = []  # answers on their way: (id, answer)
        self.ids = self.tokens = 0
        self.whole = False  # the slow path could not know what the data plane has
        self.start()
        self.all_is_well_for_a_while(PAIRS)

    # -- what happens ----------------------------------------------------------------------------

    def start(self) -> None:
        """A slow path begins anew: what it had not sent, or what was not read yet, is gone."""
        self.resolver = Resolver(0, 1, 1e9)
        self.resolver.state(True)
        self.ring: deque[np.ndarray] = deque()
        self.pushes: deque[Changed] = deque()
        self.decided.clear()
        self.follows = self.is_connected = False
        self.question: dict[int, int] | None = None

    def slow_path_is_replaced(self) -> None:
        self.start()
        self.data_plane_is_there()

    def slow_path_is_replaced_while_the_data_plane_is_away(self) -> None:
        self.start()
        self.whole = True
        self.perhaps(self.operator_forbids_or_allows, self.snapshot_is_asked_for, self.snapshot_arrives)
        self.data_plane_is_there()
        self.perhaps(self.snapshot_arrives, self.snapshot_is_asked_for, self.snapshot_arrives)

    def data_plane_is_replaced_before_it_has_read_all(self) -> None:
        self.operator_forbids_or_allows()
        self.perhaps(self.push_arrives, self.slow_path_sends, self.data_plane_reads)
        self.data_plane_is_there()

    def perhaps(self, *steps: Callable[[], None]) -> None:
        for step in steps:
            if self.random.random() < 0.8:
                step()

    def data_plane_is_there(self) -> None:
        """The first one, or one that takes over the tables of the last; what was in the ring is lost."""
        self.ring.clear()
        self.data_plane.replaced()
        self.resolver.connected(self.data_plane.known())
        self.is_connected = True

    def data_plane_is_there_with_nothing(self) -> None:
        self.resolver.take_in_force()  # was so, of the one before
        self.data_plane = DataPlane()
        self.data_plane_is_there()

    def operator_forbids_or_allows(self) -> None:
        pair = self.random.choice(PAIRS)
        change = self.directory.change(pair)
        if change.operations[0]["kind"] == ChangeKind.TIGHTEN:
            self.forbidden.append((change.revision, pair))
        if self.follows:
            self.pushes.append(change)

    def push_arrives(self) -> None:
        if self.follows and self.pushes:
            self.resolver.changed(self.pushes.popleft())

    def push_is_lost(self) -> None:
        """The client notices, and takes no push any more before a snapshot."""
        self.pushes.clear()
        self.follows = False

    def snapshot_is_asked_for(self) -> None:
        self.question = {vni: revision for vni, _, revision in self.resolver.in_force()}
        self.follows = False
        self.pushes.clear()

    def snapshot_arrives(self) -> None:
        if self.question is None:
            return
        known, self.question = self.question, None
        told = [
            {**scope_operation(*pair, ChangeKind.TIGHTEN), "revision": revision}
            for revision, pair in self.forbidden
            if VNI in known and revision > known[VNI]
        ]
        vnets = [(VNI, [*VNET_OPERATIONS, *told])]
        self.resolver.snapshot(Snapshot(INCARNATION, self.directory.revision, 77, vnets, closes=True))
        self.follows = True

    def packet_misses_and_is_decided(self, pair: Pair | None = None) -> None:
        pair = pair or self.random.choice(PAIRS)
        if not self.is_connected:
            return
        self.tokens += 1
        self.resolver.records(records(miss(pair, self.tokens)), 1.0)
        for batch in self.resolver.take_questions(1.0):
            self.ids += 1
            self.resolver.asked(self.ids, batch, 1.0)
            self.decided.append(self.directory.answer(self.ids, batch.queries()))

    def answer_arrives(self) -> None:
        if self.decided:
            self.resolver.answered(self.decided.pop(), 1.0)

    def all_is_well_for_a_while(self, pairs: list[Pair] | None = None) -> None:
        """Everybody is there, everything arrives, and packets flow."""
        if not self.is_connected:
            self.data_plane_is_there()
        if not self.follows:
            self.snapshot_is_asked_for()
            self.snapshot_arrives()
        self.settle()
        for pair in pairs or self.random.sample(PAIRS, 4):
            self.packet_misses_and_is_decided(pair)
            self.answer_arrives()
        self.settle()

    def settle(self) -> None:
        while self.pushes:
            self.push_arrives()
        for _ in range(3):
            self.slow_path_sends()
            self.data_plane_reads(len(self.ring))

    def slow_path_sends(self) -> None:
        if self.is_connected:
            self.ring += [row.reshape(1) for batch in self.resolver.take_records() for row in batch]

    def data_plane_reads(self, count: int | None = None) -> None:
        for _ in range(min(count or self.random.randrange(1, 8), len(self.ring))):
            row = self.ring.popleft()
            if is_closing(row[0]) and not row["scope"]["source_bits"][0]:
                assert self.whole  # else it is known what was forbidden, and nothing else is closed
            said = self.data_plane.apply([row])
            if said and self.is_connected:
                self.resolver.records(records(*said), 1.0)

    # -- what holds ------------------------------------------------------------------------------

    def nothing_is_open_that_is_said_to_be_closed(self) -> None:
        said = self.resolver.take_in_force()
        assert said is None or said <= self.data_plane.in_force
        for pair, action in self.data_plane.flows.items():
            if action != Action.DROP:
                since = self.data_plane.decided[pair]
                against = [
                    revision
                    for revision, one in self.forbidden
                    if one == pair and since < revision <= self.data_plane.in_force
                ]
                assert not against, (pair, since, against)

    def step(self) -> None:
        """Let one thing happen."""
        usual = (
            *(self.operator_forbids_or_allows, self.push_arrives, self.slow_path_sends),
            *(self.data_plane_reads, self.packet_misses_and_is_decided, self.answer_arrives),
        )
        rare = (
            *(self.slow_path_is_replaced, self.slow_path_is_replaced_while_the_data_plane_is_away),
            self.data_plane_is_replaced_before_it_has_read_all,
            *(self.data_plane_is_there, self.data_plane_is_there_with_nothing, self.push_is_lost),
            *(self.snapshot_is_asked_for, self.snapshot_arrives, self.snapshot_arrives),
            self.all_is_well_for_a_while,
        )
        self.random.choice(self.random.choice([usual, usual, rare]))()
        self.nothing_is_open_that_is_said_to_be_closed()

    def end(self) -> None:
        """Once it is quiet, all that was forbidden is in force."""
        if not self.is_connected:
            self.data_plane_is_there()
        if not self.follows:
            self.snapshot_is_asked_for()
            self.snapshot_arrives()
        self.settle()
        self.nothing_is_open_that_is_said_to_be_closed()
        assert self.data_plane.in_force == self.directory.revision


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_open_that_was_revoked_whatever_ends_or_gets_lost(seed: int) -> None:
    random = Random(seed)
    for _ in range(20):
        world = Revocations(random)
        for _ in range(60):
            world.step()
        world.end()


# ---- one by one


def deny(pair: Pair, revision: int) -> dict[str, Any]:
    return {**scope_operation(*pair, ChangeKind.TIGHTEN), "revision": revision}


def is_closing(row: Any) -> bool:
    return bool(row["head"]["type"] == RecordType.CHANGE and row["kind"] == ChangeKind.TIGHTEN)


def told(resolver: Resolver) -> list[tuple[int, int]]:
    """(type, revision) of the records that are sent, without what only asks again."""
    return [
        (int(row["head"]["type"]), int(row["head"]["revision"]))
        for batch in resolver.take_records()
        for row in batch
        if row["head"]["type"] != RecordType.CHANGE or is_closing(row)
    ]


def changes(resolver: Resolver) -> list[tuple[int, int]]:
    """(revision, source bits) of what is closed."""
    rows = [row for batch in resolver.take_records() for row in batch if is_closing(row)]
    return [(int(row["head"]["revision"]), int(row["scope"]["source_bits"])) for row in rows]


def restarted(in_force: int, incarnation: int = INCARNATION) -> Resolver:
    """A slow path that found a data plane with a V-net, and has asked for its snapshot."""
    resolver = Resolver(0, 1, 1.0)
    resolver.state(True)
    resolver.connected({VNI: (incarnation, in_force)})
    assert resolver.in_force() == [(VNI, incarnation, in_force)]
    return resolver


def test_what_a_snapshot_closes_goes_before_all_else_each_with_its_own_revision() -> None:
    resolver = restarted(4)
    operations = [*VNET_OPERATIONS, deny((1, 2), 5), deny((1, 3), 7)]
    resolver.snapshot(Snapshot(INCARNATION, 9, 77, [(VNI, operations)], closes=True))
    assert told(resolver) == [
        (RecordType.DIRECTORY_STATE, 0),
        (RecordType.CHANGE, 5),
        (RecordType.CHANGE, 7),
        (RecordType.SNAPSHOT_BEGIN, 0),
        (RecordType.VNET_SET, 9),
        (RecordType.SNAPSHOT_BEGIN, 9),
        (RecordType.ATTACHMENT_SET, 9),
        (RecordType.SNAPSHOT_END, 9),
        (RecordType.SNAPSHOT_END, 0),
        (RecordType.SYNC, 9),
    ]


def test_a_revision_of_a_snapshot_is_reported_when_its_closings_are_in_force() -> None:
    resolver = restarted(4)
    resolver.snapshot(Snapshot(INCARNATION, 9, 77, [(VNI, [*VNET_OPERATIONS, deny((1, 2), 5)])], closes=True))
    sync = resolver.take_records()[-1]
    assert (sync["incarnation"][0], sync["workers"][0]) == (INCARNATION, 1)
    assert resolver.take_in_force() is None
    resolver.records(records(make(RecordType.SYNCED, number=sync["number"])), 1.0)
    assert resolver.take_in_force() == 9
    assert resolver.in_force() == [(VNI, INCARNATION, 9)]


def test_a_data_plane_that_takes_anothers_place_hears_what_a_snapshot_closes_again() -> None:
    resolver = restarted(4)
    resolver.snapshot(Snapshot(INCARNATION, 9, 77, [(VNI, [*VNET_OPERATIONS, deny((1, 2), 5)])], closes=True))
    resolver.take_records()
    resolver.connected({VNI: (INCARNATION, 4)})
    assert changes(resolver) == [(5, 128)]


def test_a_directory_that_says_nothing_of_closings_has_all_of_a_v_net_closed() -> None:
    resolver = restarted(4)
    resolver.snapshot(snapshot(revision=9))
    assert changes(resolver) == [(9, 0)]


def test_a_v_net_that_stands_where_the_snapshot_does_is_left_alone() -> None:
    resolver = restarted(9)
    resolver.snapshot(snapshot(revision=9))
    assert changes(resolver) == []


def test_a_v_net_that_was_found_after_its_snapshot_was_asked_for_is_closed_whole() -> None:
    resolver = Resolver(0, 1, 1.0)
    resolver.state(True)
    assert resolver.in_force() == []
    resolver.connected({VNI: (INCARNATION, 4)})
    resolver.snapshot(Snapshot(INCARNATION, 9, 77, [(VNI, VNET_OPERATIONS)], closes=True))
    assert changes(resolver) == [(9, 0)]


def test_a_v_net_that_is_found_after_the_snapshot_is_closed_whole() -> None:
    resolver = Resolver(0, 1, 1.0)
    resolver.state(True)
    resolver.snapshot(Snapshot(INCARNATION, 9, 77, [(VNI, VNET_OPERATIONS)], closes=True))
    resolver.connected({VNI: (INCARNATION, 4)})
    assert changes(resolver) == [(9, 0)]


def test_a_v_net_of_another_incarnation_is_left_to_the_data_plane_and_begins_anew() -> None:
    resolver = restarted(40, INCARNATION + 1)
    resolver.snapshot(Snapshot(INCARNATION, 9, 77, [(VNI, VNET_OPERATIONS)], closes=True))
    assert changes(resolver) == []
    assert resolver.in_force() == [(VNI, INCARNATION, 9)]  # nothing older is left once that is applied


def test_a_scope_that_cannot_be_read_closes_all_of_its_v_net() -> None:
    resolver = restarted(4)
    bad = {**deny((1, 2), 5), "source_bits": 129}
    resolver.snapshot(Snapshot(INCARNATION, 9, 77, [(VNI, [*VNET_OPERATIONS, bad])], closes=True))
    assert changes(resolver) == [(9, 0)]
    assert resolver.counters["operations_malformed"] == 1


def test_a_change_of_which_more_follows_for_another_v_net_confirms_what_was_before() -> None:
    resolver = restarted(9)
    resolver.snapshot(snapshot(revision=9))
    sync = resolver.take_records()[-1]
    resolver.records(records(make(RecordType.SYNCED, number=sync["number"])), 1.0)
    scope = scope_operation(1, 2, ChangeKind.TIGHTEN)

    resolver.changed(Changed(VNI, INCARNATION, 12, 0, [scope], last=False))
    assert told(resolver)[-1] == (RecordType.SYNC, 11)
    resolver.reached(12)

    resolver.records(records(make(RecordType.SYNCED, number=2)), 1.0)
    assert told(resolver)[-1] == (RecordType.SYNC, 12)


def test_what_concerns_others_is_confirmed_too_and_only_once() -> None:
    resolver = restarted(9)
    resolver.reached(12)
    assert resolver.take_records()[1:] == []  # nothing is known yet
    resolver.snapshot(snapshot(revision=9))
    sync = resolver.take_records()[-1]
    resolver.records(records(make(RecordType.SYNCED, number=sync["number"])), 1.0)

    resolver.reached(12)
    assert told(resolver) == [(RecordType.SYNC, 12)]
    resolver.records(records(make(RecordType.SYNCED, number=2)), 1.0)
    resolver.reached(12)
    assert told(resolver) == []
    assert resolver.in_force() == [(VNI, INCARNATION, 12)]
