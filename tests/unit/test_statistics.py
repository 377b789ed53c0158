# SPDX-License-Identifier: Apache-2.0
"""Rates, percentiles and drops from made-up samples."""

from __future__ import annotations

import pytest

from gateway.state.delay import Delay
from gateway.state.statistics import Sample, Statistics, percentiles_us, sample_of


def sample(time_s: float, received: int, drops: int = 0, **more: object) -> Sample:
    return Sample(time_s, {"received": received}, {("no_rule", 7001): drops}, **more)  # type: ignore[arg-type]


def test_there_is_no_rate_before_the_second_sample() -> None:
    statistics = Statistics()
    assert statistics.per_s("received") is None
    statistics.add(sample(0, 100))
    assert statistics.per_s("received") is None


def test_rates_are_over_the_last_ten_seconds() -> None:
    statistics = Statistics()
    for second in range(30):
        statistics.add(sample(second, 1000 * min(second, 20)))
    assert statistics.span_s == 10
    assert statistics.per_s("received") == pytest.approx(100)  # 19 to 29 s: 1000 in the first of ten


def test_a_data_plane_that_counts_from_zero_again_has_no_negative_rate() -> None:
    statistics = Statistics()
    statistics.add(sample(0, 5000))
    statistics.add(sample(1, 10))
    assert statistics.per_s("received") is None
    statistics.add(sample(2, 30))
    assert statistics.per_s("received") == 20


def test_drops_of_a_time_are_the_difference_to_then() -> None:
    statistics = Statistics()
    for second in range(0, 601):
        statistics.add(sample(second, second, drops=2 * second))
    assert statistics.drops_since(300) == ({("no_rule", 7001): 600}, 300)
    drops, seconds = statistics.drops_since(3600)
    assert (drops, seconds) == ({("no_rule", 7001): 1200}, 600)
    assert statistics.drops_since(None)[0] == {("no_rule", 7001): 1200}


def test_a_row_has_its_own_rate() -> None:
    statistics = Statistics()
    statistics.add(sample(0, 0, ports={"uplink": {"rx_bytes": 0}}))
    statistics.add(sample(2, 0, ports={"uplink": {"rx_bytes": 500}, "new": {"rx_bytes": 1}}))
    assert statistics.row_per_s("ports", "uplink", "rx_bytes") == 250
    assert statistics.row_per_s("ports", "new", "rx_bytes") is None


def test_percentiles_lie_within_their_bucket() -> None:
    assert percentiles_us([0, 0, 0], 0.5) == [None]
    assert percentiles_us([0] * 8 + [100], 0.0, 0.5, 1.0) == [128.0, 192.0, 256.0]
    p50, p99 = percentiles_us([0, 0, 98, 0, 0, 2], 0.5, 0.99)
    assert 2 <= (p50 or 0) <= 4
    assert 16 <= (p99 or 0) <= 32


def test_delays_of_the_last_seconds_count_if_there_were_any() -> None:
    statistics = Statistics()
    assert statistics.delay_percentiles_us(0.5, 1.0) == [None, None]
    for second in (0, 1):
        statistics.add(sample(second, second, delay=Delay(((7000, 8000, 1000),))))
    assert statistics.delay_percentiles_us(1.0) == [8.0]
    statistics.add(sample(2, 2, delay=Delay(((1900, 2000, 1), (7000, 8000, 1000)))))
    assert statistics.delay_percentiles_us(1.0) == [2.0]


def test_a_sample_sums_what_is_said_twice_and_leaves_out_what_is_no_number() -> None:
    answer = {
        "counters": {"received": 1, "note": "text"},
        "drops": [
            {"reason": "no_rule", "vni": 1, "packets": 2},
            {"reason": "no_rule", "vni": 1, "packets": 3},
        ],
        "delay": {"sum_ns": 90, "buckets": [[0, 64, 2]]},
    }
    made = sample_of(5.0, answer, [{"name": "uplink"}], [{"thread": "poll-0"}])
    assert made.counters == {"received": 1}
    assert made.drops == {("no_rule", 1): 5}
    assert made.delay == Delay(((0, 64, 2),), 90)
    assert (list(made.ports), list(made.threads)) == (["uplink"], ["poll-0"])
