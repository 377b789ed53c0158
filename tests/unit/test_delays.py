# SPDX-License-Identifier: Apache-2.0
"""How long a question from another machine has waited is found without knowing its clock."""

from __future__ import annotations

import pytest

from directory_service.protocol.delays import WINDOW_S, Delays
from directory_service.server.backlog import HANDED_OVER_S, PAUSE_S, Backlog

FAR = 1e6  # behind, as far as the server knows


@pytest.mark.parametrize("offset_s", [0.0, -3.0, 5e8, -5e8])  # of the other clock
def test_what_waited_is_seen_whatever_the_other_clock_says(offset_s: float) -> None:
    delays = Delays()
    waits = [0.002, 0.0, 3.0, 1.0, 0.04, 0.001]
    found = []
    for second, wait_s in enumerate(waits):
        sent_s = 1000.0 + second
        found.append(delays.waited_s(b"c", sent_s + offset_s, sent_s + wait_s, FAR))
    assert found == pytest.approx([0.0, 0.0, 3.0, 1.0, 0.04, 0.001], abs=1e-6)


def test_a_clock_that_jumps_is_believed_no_further_than_the_server_was_behind() -> None:
    delays = Delays()
    delays.waited_s(b"c", 500.0, 1000.0, 0.001)
    assert delays.waited_s(b"c", 440.0, 1001.0, 0.001) == 0.001  # it stood still for a minute
    assert delays.waited_s(b"c", 9000.0, 1002.0, 0.001) <= 0.001
    assert delays.waited_s(b"c", 9001.0, 1003.0, 0.001) <= 0.001


def test_clocks_that_drift_apart_are_compared_anew_after_a_while() -> None:
    delays = Delays()
    drift, found = 1e-4, 0.0
    for second in range(2000):
        found = delays.waited_s(b"c", second * (1 - drift), float(second), FAR)
    assert found <= 2 * WINDOW_S * drift + 1e-9


def test_connections_are_apart() -> None:
    delays = Delays()
    delays.waited_s(b"a", 0.0, 10.0, FAR)
    delays.waited_s(b"b", 9.0, 10.0, FAR)
    assert delays.waited_s(b"a", 1.0, 11.5, FAR) == pytest.approx(0.5)
    assert delays.waited_s(b"b", 10.0, 11.5, FAR) == pytest.approx(0.5)


def test_a_server_that_reads_all_is_not_behind() -> None:
    backlog = Backlog(0.0)
    for step in range(1, 100):
        now = step / 100
        backlog.polled(0.01, now)
        assert backlog.behind_s(now) <= 0.011
        backlog.all_read(now)


def test_after_a_pause_what_came_meanwhile_may_have_waited_as_long() -> None:
    backlog = Backlog(0.0)
    backlog.polled(1.0, 1.0)
    backlog.all_read(1.0)
    backlog.polled(1.0, 4.0)  # stopped for two seconds
    backlog.all_read(4.0)  # nothing was handed over yet
    assert backlog.behind_s(4.01) == pytest.approx(3.01)
    after = 4.0 + HANDED_OVER_S + PAUSE_S
    backlog.polled(after - 4.0, after)
    backlog.all_read(after)
    assert backlog.behind_s(after) == 0.0


def test_a_server_that_cannot_read_all_is_behind_since_it_last_could() -> None:
    backlog = Backlog(0.0)
    for step in range(1, 200):  # full batches only
        backlog.polled(0.0, step / 100)
    assert backlog.behind_s(2.0) == pytest.approx(2.0)
