# SPDX-License-Identifier: Apache-2.0
"""Wall clocks that step, back and ahead: no decision, no history and no grace depends on them."""

from itertools import permutations

import pytest
from directory_world import DOCUMENT, SINGLE, Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from directory_service.kinds.records import decode, is_record_key
from directory_service.model.snapshot import load_snapshot
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def stored(store: MemoryStore) -> dict[str, object]:
    return {item.key: decode(item) for item in store.range()[1] if is_record_key(item.key)}


def moved_in(store: MemoryStore, at_ms: int, wall_ms: int, steady_ms: int) -> dict[int, tuple]:
    clock = Clock()
    clock.ms = at_ms
    directory = Directory(store, Settings(), clock)
    directory.apply(DOCUMENT.replace('mac = "02:00:5e:00:00:12", node = "gw1"',
                                     'mac = "02:00:5e:00:00:12", node = "gw2"'), "t")  # fmt: skip
    return load_snapshot(store, None, wall_ms, steady_ms).vnets["red"].moves


@pytest.mark.parametrize("times", list(permutations([0, HOUR_MS, DAY_MS, -100 * DAY_MS])))
def test_what_is_loaded_is_what_the_store_holds_whatever_the_times_of_commits(times: tuple[int, ...]) -> None:
    store, clock = MemoryStore(), Clock()
    directory = Directory(store, Settings(), clock, lambda: 0)
    start = clock.ms
    directory.apply(DOCUMENT, "topology.toml")
    for number, time_ms in enumerate(times):
        clock.ms = start + time_ms
        directory.set_record("rule", "red/any2", {"action": ["allow", "deny"][number % 2],
                                                  "from": "any", "to": "any", "priority": 900})  # fmt: skip
    assert dict(load_snapshot(store).records) == stored(store)
    assert dict(directory.current.records) == stored(store)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-DAY_MS, DAY_MS), min_size=1, max_size=20))
def test_a_restart_decides_from_the_same_records_as_the_server_before(steps: list[int]) -> None:
    store, clock = MemoryStore(), Clock()
    directory = Directory(store, Settings(), clock, lambda: 0)
    directory.apply(DOCUMENT, "topology.toml")
    for number, step in enumerate(steps):
        clock.ms += step
        directory.set_record("endpoint", "red/extra", {**SINGLE, "preference": number % 200})
    again = Directory(store, Settings(), clock, lambda: 0)
    assert again.revision == directory.revision
    assert dict(again.current.records) == stored(store)


def test_a_move_of_a_clock_that_was_ahead_is_taken_to_be_of_now() -> None:
    store = MemoryStore()
    Directory(store, Settings(), Clock()).apply(DOCUMENT, "topology.toml")
    base = Clock().ms
    moves = moved_in(store, base + HOUR_MS, wall_ms=base, steady_ms=5_000)
    assert [entry for left in moves.values() for entry in left] == [("gw1", 5_000)]


def test_a_wall_clock_that_steps_back_does_not_prolong_the_grace_of_a_move() -> None:
    store, wall, steady = MemoryStore(), Clock(), Clock()
    directory = Directory(store, Settings(), wall, steady)
    directory.apply(DOCUMENT, "topology.toml")
    directory.apply(DOCUMENT.replace("02:00:5e:00:00:12\", node = \"gw1\"",
                                     "02:00:5e:00:00:12\", node = \"gw2\""), "topology.toml")  # fmt: skip
    left_at = {entry for left in directory.current.vnets["red"].moves.values() for entry in left}
    wall.ms -= HOUR_MS
    assert left_at == {("gw1", steady.ms)}


def test_a_clock_that_is_ahead_for_one_write_does_not_cost_the_history() -> None:
    store, clock = MemoryStore(), Clock()
    directory = Directory(store, Settings(history_days=90), clock, lambda: 0)
    directory.apply(DOCUMENT, "topology.toml")
    while store.revision() < 255:
        directory.set_record("endpoint", "red/extra", {**SINGLE, "preference": store.revision() % 200})
    clock.ms += 91 * DAY_MS
    directory.set_record("endpoint", "red/extra", {**SINGLE, "preference": 201})
    assert (store.revision(), store.oldest()) == (256, 0)
