# SPDX-License-Identifier: Apache-2.0
"""Percentiles of the hold's histogram, buckets in C and the rest in Python, against exact ones of the same
delays."""

from __future__ import annotations

import numpy as np
import pytest

from fastpath import probe
from gateway.metrics.collector import DELAY_BOUNDS_NS
from gateway.state.delay import Delay, delay_of

RATIOS = (0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0)
WIDTH = 1 / 16  # of a bucket, as a part of where it begins


def histogram(delays_ns: np.ndarray) -> Delay:
    return delay_of({"delay": probe.delay_of(delays_ns.tolist())})


def samples(name: str, random: np.random.Generator) -> np.ndarray:
    drawn = {
        "under load": random.lognormal(np.log(700_000), 0.8, 20_000),
        "each decade alike": 10 ** random.uniform(3.1, 10.7, 20_000),
        "two humps": np.concatenate([random.normal(2e5, 1e4, 9_900), random.normal(2e7, 1e6, 100)]),
        "few": random.exponential(3e6, 7) + 2_000,
        "all the same": np.full(1_000, 1_234_567.0),
    }[name]
    return np.maximum(drawn, 1_024).astype(np.int64)


@pytest.mark.parametrize("name", ["under load", "each decade alike", "two humps", "few", "all the same"])
@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_within_a_sixteenth_of_the_exact_ones(name: str, seed: int) -> None:
    delays_ns = samples(name, np.random.default_rng(seed))
    made = histogram(delays_ns)
    for ratio in RATIOS:
        exact_us = np.quantile(delays_ns, ratio, method="inverted_cdf") / 1000
        assert made.percentile_us(ratio) == pytest.approx(exact_us, rel=WIDTH), ratio


def test_below_a_microsecond_they_are_within_64_ns() -> None:
    delays_ns = np.random.default_rng(1).integers(0, 1_024, 5_000)
    made = histogram(delays_ns)
    for ratio in RATIOS:
        exact_us = np.quantile(delays_ns, ratio, method="inverted_cdf") / 1000
        assert made.percentile_us(ratio) == pytest.approx(exact_us, abs=0.064), ratio


def test_every_delay_counts_once_and_the_sum_is_exact() -> None:
    delays_ns = samples("each decade alike", np.random.default_rng(2))
    made = histogram(delays_ns)
    assert made.packets == len(delays_ns)
    assert made.sum_ns == delays_ns.sum()
    for (_, end_ns, _), (begin_ns, _, _) in zip(made.buckets, made.buckets[1:], strict=False):
        assert end_ns <= begin_ns


def test_what_was_added_since_is_what_was_added() -> None:
    random = np.random.default_rng(3)
    first, then = samples("under load", random), samples("two humps", random)
    assert histogram(np.concatenate([first, then])).since(histogram(first)) == histogram(then)


def test_bounds_of_the_metric_are_bounds_of_the_hold() -> None:
    for ns in DELAY_BOUNDS_NS:
        assert probe.delay_of([ns])["buckets"][0][0] == ns
    delays_ns = samples("each decade alike", np.random.default_rng(4))
    made = histogram(delays_ns)
    for ns in DELAY_BOUNDS_NS:
        assert made.packets_below(ns) == (delays_ns < ns).sum()


def test_no_delay_has_no_percentile() -> None:
    assert Delay().percentile_us(0.5) is None
    assert delay_of({}) == Delay()
