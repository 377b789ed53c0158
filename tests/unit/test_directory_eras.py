# SPDX-License-Identifier: Apache-2.0
"""A directory finds out by itself that its store went back, and nobody can make it believe so."""

import copy

import pytest
from directory_world import CLOSED, DOCUMENT, SINGLE, Clock

from directory_service.settings import Settings
from directory_service.store.contract import Seen
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory


def seen_by(directory: Directory) -> Seen:
    version = directory.version()
    return Seen(version["era"], version["incarnation"], version["revision"], version["seal"])


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def directory(store: MemoryStore) -> Directory:
    made = Directory(store, Settings(), Clock())
    made.apply(DOCUMENT, "topology.toml")
    made.poll()
    return made


def test_a_restored_store_begins_an_era_once_a_gateway_shows_what_it_has_seen(
    directory: Directory, store: MemoryStore
) -> None:
    saved = copy.deepcopy(store)
    directory.apply(CLOSED, "topology.toml")
    newest = seen_by(directory)
    restored = Directory(saved, Settings(), Clock())
    before = restored.world
    assert restored.hear(newest)
    assert (restored.world.realm, restored.world.era) == (before.realm, 2)
    assert restored.world.incarnation != before.incarnation
    assert restored.current.incarnation == restored.world.incarnation
    assert f"revision {newest.revision}" in restored.era_began
    assert not restored.hear(newest)
    assert not restored.hear(seen_by(restored))


def test_a_copy_from_before_an_era_began_goes_beyond_it(directory: Directory, store: MemoryStore) -> None:
    saved = copy.deepcopy(store)
    store.begin_era("a test")
    directory.poll()
    restored = Directory(saved, Settings(), Clock())
    assert restored.hear(seen_by(directory))
    assert restored.world.era == 3


def test_who_shows_no_seal_of_this_realm_is_not_believed(directory: Directory) -> None:
    world, revision = directory.world, directory.revision
    good = seen_by(directory)
    other = Directory(MemoryStore(), Settings(), Clock())
    claims = [
        Seen(world.era, world.incarnation, revision + 1, good.seal),
        Seen(world.era, world.incarnation, 1 << 60, 0),
        Seen(world.era + 5, world.incarnation, revision, good.seal),
        Seen(world.era + 1, 1, revision + 1, other.version()["seal"]),
        Seen(world.era, other.world.incarnation, 10_000, other.version(10_000)["seal"]),
    ]
    assert not any(directory.hear(claim) for claim in claims)
    assert directory.world == world


def test_a_server_that_is_behind_reads_the_store_before_it_believes(
    directory: Directory, store: MemoryStore
) -> None:
    behind = Directory(store, Settings(), Clock())
    directory.set_record("endpoint", "red/extra", SINGLE)
    assert not behind.hear(seen_by(directory))
    assert behind.revision == directory.revision
    assert behind.world.era == 1


def test_an_era_that_another_server_began_is_taken_up(directory: Directory, store: MemoryStore) -> None:
    second = Directory(store, Settings(), Clock())
    world = store.begin_era("a test")
    second.poll()
    assert second.current.incarnation == world.incarnation
    directory.set_record("endpoint", "red/extra", SINGLE)
    assert second.poll()
    assert second.revision == directory.revision


def test_every_answer_and_push_carries_the_version(directory: Directory) -> None:
    version = directory.version()
    assert list(version) == ["realm", "era", "incarnation", "revision", "seal"]
    assert directory.version(7)["seal"] != version["seal"]
