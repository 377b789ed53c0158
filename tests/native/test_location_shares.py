# SPDX-License-Identifier: Apache-2.0
"""The table of locations is shared between V-nets: none can take the last of it from the others."""

from __future__ import annotations

from random import Random

import pytest
from installing import all_rows, ingress, location, location_remove, open_arena, tunnel, vnet

from fastpath.records import STRUCT_OF, RecordType, Refusal, join

CAPACITY = 64
SHARE_OF_FREE = 4
VNIS = range(7001, 7008)


@pytest.fixture
def arena():
    with open_arena(locations=CAPACITY) as arena:
        assert not arena.apply(
            join([tunnel(500), *(vnet(vni) for vni in VNIS), *(ingress(vni, 9, "192.0.2.2") for vni in VNIS)])
        ).any()
        arena.taken()
        yield arena


@pytest.mark.parametrize("seed", range(10))
def test_a_v_net_has_at_most_four_locations_for_each_that_is_free(arena, seed: int) -> None:
    random = Random(seed)
    has: dict[int, list[int]] = {vni: [] for vni in VNIS}
    for object_id in range(1000, 1600):
        vni = random.choice([*VNIS, 7001, 7001, 7002])
        if random.random() < 0.3 and has[vni]:
            gone = has[vni].pop(random.randrange(len(has[vni])))
            assert not arena.apply(location_remove(vni, gone)).any()
            continue
        free = CAPACITY - sum(map(len, has.values()))
        fits = len(has[vni]) < SHARE_OF_FREE * free
        assert (not arena.apply(location(vni, object_id)).any()) == fits
        if fits:
            has[vni].append(object_id)
    there = {(row["vni"], row["object_id"]) for row in all_rows(arena.dump.locations)}
    assert there == {(vni, one) for vni, found in has.items() for one in found}


def test_who_wants_everything_leaves_room_for_all_others(arena) -> None:
    for object_id in range(1000, 1200):
        arena.apply(location(7001, object_id))
    assert len(all_rows(arena.dump.locations)) == 52  # four fifths
    for object_id in (300, 301):
        for vni in VNIS[1:]:
            assert not arena.apply(location(vni, object_id)).any()


def test_what_is_beyond_the_share_is_refused_for_the_quota_and_set_again_is_not(arena) -> None:
    for object_id in range(1000, 1060):
        arena.apply(location(7001, object_id))
    assert not arena.apply(location(7001, 1000, revision=9)).any()  # it is there
    arena.taken()
    assert arena.apply(location(7001, 1100)).any()
    ((_, row),) = arena.taken()["emitted"]
    refused = row.reshape(1).view(STRUCT_OF[RecordType.REFUSED])[0]
    assert (refused["why"], refused["object"]) == (Refusal.QUOTA, 1100)
