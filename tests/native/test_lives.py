# SPDX-License-Identifier: Apache-2.0
"""How long flows live: no longer than `stale_max` after they were decided where no directory answers,
whatever their life and the clock say; and what lives briefly is asked about in time."""

from __future__ import annotations

import pytest
from installing import (
    RED,
    attachment,
    flow,
    flow_key,
    ingress,
    location,
    nexthop,
    open_arena,
    tunnel,
    vnet,
)

from fastpath.records import MISS, Action, RecordType, join, make

S_NS = 10**9
BEGIN_S = 10_000
SILENCE = make(RecordType.DIRECTORY_STATE, answering=0, worker=0, workers=1)


def furnish(arena, stale_max_s=3600):
    """A V-net with one attachment and one member elsewhere. Returns a key."""
    world = [
        vnet(RED, stale_max_s=stale_max_s),
        attachment(RED, 100, vlan=10),
        ingress(RED, 9, "192.0.2.2"),
        tunnel(500),
        nexthop(),
        location(RED, 300),
    ]
    assert not arena.apply(join(world)).any()
    return flow_key(arena.ingress_by_vlan(0, 10))


def forwards(arena, key):
    return int(arena.lookup(key)[0]) >> 56 == Action.ENCAPSULATE


def seconds_forwarded(arena, key, step_s=5, at_most_s=20_000):
    passed_s = 0
    while forwards(arena, key) and passed_s < at_most_s:
        arena.advance(step_s)
        passed_s += step_s
    return passed_s


@pytest.mark.parametrize("age_s", [0, 30, 90])
def test_in_silence_no_flow_lives_beyond_stale_max_however_long_its_life(age_s):
    with open_arena(now_ns=BEGIN_S * S_NS) as arena:
        key = furnish(arena, stale_max_s=60)
        arena.apply(flow(RED, key, 100, destination=300, lifetime_ms=300_000))
        arena.advance(age_s)
        assert forwards(arena, key)  # a directory that answers may have said so

        arena.apply(SILENCE)

        lap_s = 15
        assert max(60 - age_s, 0) <= seconds_forwarded(arena, key) <= max(60 - age_s, lap_s) + 5


def test_what_was_forwarded_in_silence_is_forwarded_up_to_stale_max_all_the_same():
    with open_arena(now_ns=BEGIN_S * S_NS) as arena:
        key = furnish(arena, stale_max_s=600)
        arena.apply(flow(RED, key, 100, destination=300, lifetime_ms=300_000))
        arena.apply(SILENCE)
        assert 595 <= seconds_forwarded(arena, key) <= 605


@pytest.mark.parametrize("back_s", [10, 1000, 2990, 4000])
def test_a_boot_clock_that_goes_back_prolongs_nothing(tmp_path, back_s):
    path = str(tmp_path / "arena")
    with open_arena(path=path, now_ns=BEGIN_S * S_NS) as arena:
        key = furnish(arena)
        arena.apply(flow(RED, key, 100, destination=300, lifetime_ms=300_000))
        arena.apply(SILENCE)
        for _ in range(300):
            arena.advance(10)
        assert forwards(arena, key)

    with open_arena(path=path, now_ns=(BEGIN_S + 3000 - back_s) * S_NS) as arena:
        assert arena.adoption["vnets"] == 1
        arena.apply(SILENCE)
        assert seconds_forwarded(arena, key) <= 600  # what was left of stale_max


def test_an_arena_is_adopted_with_its_flows_where_the_clock_went_on(tmp_path):
    path = str(tmp_path / "arena")
    with open_arena(path=path, now_ns=BEGIN_S * S_NS) as arena:
        key = furnish(arena)
        arena.apply(flow(RED, key, 100, destination=300, lifetime_ms=300_000))
        arena.advance(100)

    with open_arena(path=path, now_ns=(BEGIN_S + 100) * S_NS) as arena:
        assert forwards(arena, key)


@pytest.mark.parametrize("life_s", [8, 20, 40, 80])
def test_a_flow_in_use_is_asked_about_before_its_life_is_over(life_s):
    with open_arena(flows=1_000_000, now_ns=BEGIN_S * S_NS) as arena:
        furnish(arena)
        inside = arena.ingress_by_vlan(0, 10)
        keys = [flow_key(inside, destination=f"10.0.{i // 200}.{i % 200 + 1}") for i in range(100)]
        for key in keys:
            arena.apply(
                flow(RED, key, 100, destination=300, lifetime_ms=life_s * 1000, refresh_ms=life_s * 750)
            )
        asked = set()
        for _ in range(life_s * 2):
            for key in keys:
                arena.lookup(key)
            arena.advance(0.5)
            asked |= {
                row.reshape(1).view(MISS)["key"][0].tobytes()
                for _, row in arena.taken()["emitted"]
                if row["head"]["type"] == RecordType.REFRESH
            }
            arena.apply(make(RecordType.DIRECTORY_STATE, answering=1, worker=0, workers=1))
        assert len(asked) == len(keys)
