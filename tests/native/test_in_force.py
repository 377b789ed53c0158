# SPDX-License-Identifier: Apache-2.0
"""What a data plane keeps of what is in force, and what it closes by itself, one fact a test."""

from __future__ import annotations

import pytest
from installing import (
    BLUE,
    RED,
    all_rows,
    attachment,
    change,
    flow,
    flow_key,
    ingress,
    location,
    nexthop,
    open_arena,
    peering,
    snapshot_begin,
    snapshot_end,
    tunnel,
    vnet,
    vnet_remove,
)

from fastpath.records import Action, RecordType, join, make

RACK, FAR, TUNNEL = 100, 300, 500


@pytest.fixture
def arena():
    """Red and blue, each with an attachment on rack and a member far away."""
    with open_arena() as arena:
        set_up = [vnet(RED), vnet(BLUE), tunnel(TUNNEL), nexthop()]
        for number, vni in enumerate((RED, BLUE)):
            set_up += [attachment(vni, RACK + number, vlan=10 * (number + 1)), ingress(vni, 9, "192.0.2.2")]
            set_up += [location(vni, FAR + number)]
        assert not arena.apply(join(set_up)).any()
        yield arena


def in_force(arena) -> dict[int, int]:
    return {row["vni"]: row["in_force"] for row in all_rows(arena.dump.vnets)}


def sync(revision: int, incarnation: int = 1, workers: int = 1):
    return make(RecordType.SYNC, number=1, revision=revision, incarnation=incarnation, workers=workers)


def test_what_is_confirmed_is_kept_of_each_v_net_and_never_less(arena):
    arena.apply(sync(7))
    assert in_force(arena) == {RED: 7, BLUE: 7}
    arena.apply(sync(5))
    assert in_force(arena) == {RED: 7, BLUE: 7}


def test_a_change_is_in_force_when_it_is_confirmed_and_not_when_it_is_applied(arena):
    arena.reader_register(0)
    arena.reader_online(0)  # it may have looked up what the change forbids
    arena.apply(join([change(RED, 9), sync(9)]))
    assert in_force(arena)[RED] == 0

    arena.reader_quiescent(0)
    arena.tick()

    assert in_force(arena)[RED] == 9
    arena.reader_offline(0)
    arena.reader_unregister(0)


def test_a_worker_confirms_its_own_v_nets_only(arena):
    arena.apply(sync(7, workers=2), worker=RED % 2)
    assert in_force(arena) == {RED: 7, BLUE: 0}


def test_a_worker_that_names_no_workers_confirms_no_revision(arena):
    arena.apply(sync(7, workers=0))
    assert in_force(arena) == {RED: 0, BLUE: 0}


def test_a_confirmation_of_another_store_says_nothing_of_this_one(arena):
    arena.apply(sync(7, incarnation=2))
    assert in_force(arena) == {RED: 0, BLUE: 0}


def test_a_new_v_net_has_nothing_older_than_itself(arena):
    arena.apply(join([vnet_remove(RED), vnet(RED, revision=12)]))
    assert in_force(arena)[RED] == 12


def test_a_snapshot_of_another_store_leaves_nothing_of_what_was_decided_before(arena):
    here, into = flow_key(arena.ingress_by_vlan(0, 10)), flow_key(arena.ingress_by_vlan(0, 20))
    apart = flow_key(arena.ingress_by_vlan(0, 20), destination="10.0.0.9")
    arena.apply(peering(BLUE, RED))
    arena.apply(sync(9))
    arena.apply(flow(RED, here, RACK, destination=FAR))
    arena.apply(flow(BLUE, into, RACK + 1, destination=FAR, destination_vni=RED))
    arena.apply(flow(BLUE, apart, RACK + 1, destination=FAR + 1))

    again = [attachment(RED, RACK, vlan=10), location(RED, FAR)]
    assert not arena.apply(join([snapshot_begin(RED, 2), *again, snapshot_end(RED, 3, 2)])).any()

    closed, left = Action.NONE, Action.ENCAPSULATE
    assert [Action(int(arena.lookup(key)[0]) >> 56) for key in (here, into, apart)] == [closed, closed, left]
    assert in_force(arena) == {RED: 3, BLUE: 9}


def test_a_snapshot_of_the_same_store_confirms_nothing_by_itself(arena):
    arena.apply(join([snapshot_begin(RED), attachment(RED, RACK, vlan=10), snapshot_end(RED, 8)]))
    assert in_force(arena)[RED] == 0
