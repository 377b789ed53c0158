# SPDX-License-Identifier: Apache-2.0
"""Tests of compiled code. EAL starts once a process, with the first bench."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import Bench


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    """Return a function that makes a bench; all are closed, and must have lost no packet buffer."""
    made: list[Bench] = []

    def make(*args: object, **kwargs: object) -> Bench:
        made.append(Bench(*args, **kwargs))
        return made[-1]

    yield make
    for bench in made:
        bench.probe.close()
