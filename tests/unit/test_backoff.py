# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from gateway.processes.backoff import Backoff


def test_delay_doubles_up_to_five_seconds() -> None:
    backoff, delays = Backoff().started(0.0), []
    for _ in range(8):
        at_s, backoff = backoff.ended(1.0)
        delays.append(round(at_s - 1.0, 3))
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_healthy_life_resets_the_delay() -> None:
    backoff = Backoff(delay_s=5.0).started(100.0)
    assert backoff.ended(110.0)[0] == 110.1
