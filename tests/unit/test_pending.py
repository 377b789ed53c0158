# SPDX-License-Identifier: Apache-2.0
"""The compiled parts of the resolver against dictionaries and numpy columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from resolver_world import identities

from directory_client.vocabulary.numbers import Granularity
from directory_client.wire import rows as wire
from fastpath.pending import Pending
from fastpath.records import MISS, Action, KeyClass, KeyFlag, RecordType, make
from fastpath.revisions import Revisions
from gateway.slow_path.decisions import REASONS, installs

KEYS, TOKENS = st.integers(0, 40), st.integers(0, 3)
REAL = sorted(REASONS.values())


def misses(pairs: list[tuple[int, int]]) -> np.ndarray:
    """MISS rows of (key, token); a key is another V-net, address or port."""
    rows = np.zeros(len(pairs), MISS)
    for row, (key, token) in zip(rows, pairs, strict=True):
        row["head"]["vni"] = 100 + key % 3
        row["key"]["destination"][15] = key // 3
        row["key"]["destination_port"] = key // 30
        row["token"] = token
    return rows


class PendingAgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pending = Pending()
        self.model: dict[bytes, list[int]] = {}  # identity → tokens, the first is in the batch

    @rule(pairs=st.lists(st.tuples(KEYS, TOKENS), max_size=30))
    def misses_come(self, pairs: list[tuple[int, int]]) -> None:
        rows = misses(pairs)
        wanted = []
        for number, (key, (_, token)) in enumerate(zip(identities(rows), pairs, strict=True)):
            if key not in self.model:
                self.model[key] = [token]
                wanted.append(number)
            elif token and token not in self.model[key]:
                self.model[key].append(token)
        assert self.pending.admit(rows).tolist() == wanted

    @rule(keys=st.sets(KEYS))
    def answers_come(self, keys: set[int]) -> None:
        rows = misses([(key, 0) for key in sorted(keys)])
        joined = any(self.model.get(key, [])[1:] for key in identities(rows))
        assert self.pending.joined(rows) == joined
        numbers, tokens = self.pending.settle(rows)
        wanted = [
            (number, token)
            for number, key in enumerate(identities(rows))
            for token in self.model.pop(key, [])[1:]
        ]
        assert sorted(zip(numbers.tolist(), tokens.tolist(), strict=True)) == sorted(wanted)

    @rule()
    def data_plane_is_another(self) -> None:
        self.pending.clear()
        self.model.clear()

    @invariant()
    def as_many_wait(self) -> None:
        assert len(self.pending) == len(self.model)
        assert self.pending.joined_tokens == sum(len(tokens) - 1 for tokens in self.model.values())


def test_thousands_wait_and_leave_in_another_order() -> None:
    rows = np.zeros(20_000, MISS)
    rows["key"]["source"][:, 12:] = np.arange(20_000, dtype=">u4").view(np.uint8).reshape(-1, 4)
    rows["token"] = 1
    again, random = rows.copy(), np.random.default_rng(1)
    again["token"] = 2
    pending = Pending()
    for _ in range(3):
        assert len(pending.admit(rows)) == 20_000
        assert len(pending.admit(again)) == 0
        order = random.permutation(20_000)
        for part in np.split(order, 10):
            numbers, tokens = pending.settle(rows[part])
            assert numbers.tolist() == list(range(len(part)))
            assert set(tokens.tolist()) == {2}
            assert len(pending.admit(rows[part[:100]])) == 100  # asked anew beside the others
            pending.settle(rows[part[:100]])
        assert len(pending) == 0


TestPending = PendingAgainstDict.TestCase
TestPending.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_a_hundred_thousand_keys_are_kept_apart() -> None:
    pending, rows = Pending(), np.zeros(100_000, MISS)
    rows["key"]["source"] = (
        np.arange(100_000).astype(">u8").view(np.uint8).reshape(-1, 8)[:, [0] * 8 + list(range(8))]
    )
    rows["token"] = 1

    assert len(pending.admit(rows)) == len(pending) == 100_000
    assert len(pending.admit(rows)) == 0
    pending.settle(rows[::2].copy())
    assert pending.admit(rows).tolist() == list(range(0, 100_000, 2))


OBJECTS = st.tuples(st.integers(1, 30), st.integers(100, 101), st.integers(0, 1))


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("newer"), st.lists(st.tuples(OBJECTS, st.integers(0, 5)), max_size=20)),
            st.tuples(st.just("set"), st.tuples(OBJECTS, st.integers(0, 5))),
            st.tuples(st.just("pop"), OBJECTS),
        ),
        max_size=30,
    )
)
def test_revisions_are_as_a_dict(steps: list[Any]) -> None:
    revisions, model = Revisions(wire.LOCATION), {}
    for what, value in steps:
        if what == "set":
            model[value[0]] = value[1]
            revisions.set(value[1], *value[0])
        elif what == "pop":
            model.pop(value, None)
            revisions.pop(*value)
        else:
            table = np.zeros(len(value), wire.LOCATION)
            for row, (key, revision) in zip(table, value, strict=True):
                row["object_id"], row["vni"], row["way"] = key
                row["revision"] = revision
            numbers = list(range(0, len(value), 2))
            later = [n for n in numbers if model.get(value[n][0], -1) > value[n][1]]
            assert revisions.later(table, np.array(numbers, np.intp)).tolist() == later
            wanted = []
            for number, (key, revision) in enumerate(value):
                if model.get(key, -1) < revision:
                    model[key] = revision
                    wanted.append(number)
            assert revisions.newer(table).tolist() == wanted
        assert len(revisions) == len(model)
    assert all(revisions.get(*key) == revision for key, revision in model.items())


def installs_by_columns(rows: Any, decisions: Any, locations: Any, incarnation: int) -> tuple[Any, int]:
    """What `installs` says, a column at a time."""
    action, reason = decisions["action"].copy(), decisions["reason"].copy()
    source, destination = decisions["source_location"], decisions["destination_location"]
    keys = rows["key"]
    narrow = (decisions["granularity"] == Granularity.CONNECTION) & (
        (keys["flags"] & KeyFlag.CONNECTION) == 0
    )
    action[narrow & np.isin(keys["key_class"], (KeyClass.ROUTED, KeyClass.BRIDGED))] = Action.NARROW
    known = len(locations)
    needs = np.isin(action, (Action.ENCAPSULATE, Action.DELIVER, Action.RELAY))
    carried = needs | np.isin(action, (Action.DROP, Action.ANSWER, Action.NARROW))
    bad = ~carried | (source >= known) | (destination >= known) | (needs & (destination < 0))
    bad |= (action == Action.DROP) & ~np.isin(reason, REAL)
    action[bad], reason[bad] = Action.DROP, REASONS["not_supported"]
    carries = (action != Action.DROP) & (action != Action.NARROW)
    has_source, has_destination = carries & (source >= 0), carries & (destination >= 0)
    places = locations if known else np.zeros(1, wire.LOCATION)
    from_place = places[np.where(has_source, source, 0)]
    to_place = places[np.where(has_destination, destination, 0)]
    vni = rows["head"]["vni"]
    records = make(
        RecordType.FLOW_INSTALL,
        len(rows),
        vni=vni,
        revision=decisions["revision"],
        key=keys,
        reason=np.where(action == Action.DROP, reason, 0),
        action=action,
        ways=np.where(has_source, from_place["way"], 0) << 4 | np.where(has_destination, to_place["way"], 0),
        ingress_object=rows["ingress_object"],
        source_object=np.where(has_source, from_place["object_id"], 0),
        destination_object=np.where(has_destination, to_place["object_id"], 0),
        destination_vni=np.where(has_destination & (to_place["vni"] != vni), to_place["vni"], 0),
        lifetime_ms=np.maximum(1, decisions["lifetime_ms"]),
        refresh_ms=decisions["refresh_ms"],
        token=rows["token"],
        incarnation=incarnation,
    )
    return records, int(bad.sum())


@pytest.mark.parametrize("places", [0, 3])
def test_installs_are_as_column_by_column(places: int) -> None:
    random = np.random.default_rng(places)
    count = 4_000
    rows = make(
        RecordType.MISS,
        count,
        vni=random.integers(100, 102, count),
        token=random.integers(0, 5, count),
        ingress_object=random.integers(1, 9, count),
    )
    rows["key"]["source"] = random.integers(0, 256, (count, 16))
    rows["key"]["key_class"] = random.integers(1, 5, count)
    rows["key"]["flags"] = random.integers(0, 2, count) * KeyFlag.CONNECTION
    decisions = np.zeros(count, wire.DECISION)
    for name, high in (
        ("action", 12),
        ("granularity", 3),
        ("reason", 80),
        ("lifetime_ms", 3),
        ("refresh_ms", 9),
    ):
        decisions[name] = random.integers(0, high, count)
    decisions["revision"] = random.integers(1, 1 << 40, count)
    for name in ("source_location", "destination_location"):
        decisions[name] = random.integers(-2, 4, count)
    locations = np.zeros(places, wire.LOCATION)
    locations["object_id"] = np.arange(1, places + 1)
    locations["vni"] = 100 + np.arange(places) % 2
    locations["way"] = np.arange(places) % 16

    found, bad = installs(rows, decisions, locations, 7)

    wanted, wanted_bad = installs_by_columns(rows, decisions, locations, 7)
    assert found.tobytes() == wanted.tobytes()
    assert bad == wanted_bad > 0
