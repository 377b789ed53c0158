# SPDX-License-Identifier: Apache-2.0
"""The thread that takes up commits: what it makes is taken once, and while it works it says so."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from directory_service.server.taking_up import TakingUp
from directory_service.service import Step
from directory_service.store.contract import StoreError


class Following:
    """A directory and its store: every third step has news, every seventh fails."""

    def __init__(self) -> None:
        self.asked = 0
        self.works = False

    def follow(self, store: Any, base: Any, said: Any = None) -> Step:
        self.works = True
        self.asked += 1
        try:
            if self.asked % 7 == 0:
                raise StoreError("locked")
            return Step(base, [base] if self.asked % 3 == 0 else [], [])
        finally:
            self.works = False

    def close(self) -> None:
        pass


@pytest.fixture
def fast_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_whoever_is_not_busy_does_not_work_and_nothing_is_lost(fast_switches: None) -> None:
    following, woken = Following(), threading.Event()
    taking_up = TakingUp(following, lambda: following, woken.set)  # type: ignore[arg-type]
    sys.setswitchinterval(1e-6)
    steps = failed = asked = 0
    end = time.monotonic() + 60.0
    while asked < 3_000:
        assert time.monotonic() < end, "it does not come back"
        if not taking_up.busy:
            assert not following.works
            assert following.asked == asked
            taking_up.ask(asked)  # type: ignore[arg-type]
            asked += 1
        try:
            step = taking_up.step()
        except StoreError:
            failed += 1
        else:
            steps += step is not None
    while taking_up.busy:
        try:
            steps += taking_up.step() is not None
        except StoreError:
            failed += 1
    taking_up.end()
    assert failed == asked // 7
    assert steps == sum(number % 3 == 0 and number % 7 != 0 for number in range(1, asked + 1))
    assert woken.is_set()
