# SPDX-License-Identifier: Apache-2.0
"""A directory that has applied directory_world.DOCUMENT and heard both its gateways, and control's admin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from directory_world import DOCUMENT, Clock

from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory

if TYPE_CHECKING:
    from admin_world import World


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


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world of admin_world."""
    from admin_world import World

    return World(tmp_path)
