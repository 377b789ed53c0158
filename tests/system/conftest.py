# SPDX-License-Identifier: Apache-2.0
"""Control in a network namespace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from control_world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world of control_world, which needs what is compiled."""
    from control_world import World

    made = World(tmp_path)
    try:
        yield made
    finally:
        made.close()
