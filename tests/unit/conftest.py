# SPDX-License-Identifier: Apache-2.0
"""A directory that has applied directory_world.DOCUMENT and heard both its gateways, and control's admin."""

import pytest
from admin_world import world
from directory_world import DOCUMENT, Clock

from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory

__all__ = ["clock", "directory", "store", "world"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def directory(store: MemoryStore, clock: Clock) -> Directory:
    made = Directory(store, Settings(), clock)
    made.apply(DOCUMENT, "topology.toml", user="anna", comment="first")
    made.announce("gw1", ["192.0.2.1"], ["rack"])
    made.announce("gw2", ["192.0.2.2"], ["rack"])
    made.poll()
    return made
