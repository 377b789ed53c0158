# SPDX-License-Identifier: Apache-2.0
"""What the data plane's clients share: none of them takes another one's part."""

from __future__ import annotations

import errno

import pytest
from installing import BLUE, RED, attachment, ingress, open_arena, tunnel, vnet

from fastpath.records import LocationKind, RecordFlag, RecordType, join, make, packet_spans

WORKERS = 2
RED_WORKER = RED % WORKERS
FRAMES_PER_S = 4096


@pytest.fixture
def arena():
    with open_arena() as arena:
        arena.share(WORKERS)
        yield arena


def test_frames_that_one_worker_sends_without_end_leave_the_others_theirs(arena):
    for vni in (RED, BLUE):
        assert not arena.apply(join([vnet(vni), attachment(vni, vni, vlan=vni % 100)]), vni % WORKERS).any()

    def refused(vni, count):
        frame = packet_spans(
            RecordType.PACKET_OUT, bytes(64), vni=vni, kind=LocationKind.LOCAL, target_id=vni
        )
        results = arena.apply(join([frame] * count), vni % WORKERS)
        assert set(results.tolist()) <= {0, -errno.EDQUOT}
        return int((results != 0).sum())

    assert refused(RED, FRAMES_PER_S + 100) == 100
    assert refused(BLUE, FRAMES_PER_S) == 0
    arena.advance(1)
    assert refused(RED, FRAMES_PER_S) == 0


def tells(vni, number):
    """Records that take one entry each in a table: its name, and the record number `number`."""
    remote = f"10.{number // 65_536}.{number // 256 % 256}.{number % 256}"
    return {
        "vnets": vnet(vni + WORKERS * number),
        "attachments": attachment(vni, vni * 10_000 + number, vlan=vni % 2 * 2000 + number % 1000 + 1),
        "nodes": ingress(vni, 100 + number, remote),
        "locators": ingress(vni, 9, remote),
        "tunnels": tunnel(vni * 10_000 + number, remote),
        "sets": tunnel_set(vni * 10_000 + number),
    }


def tunnel_set(number):
    row = make(
        RecordType.TUNNEL_GROUP_SET,
        object_id=number,
        count=1,
        mode=1,
        flags=RecordFlag.FIRST | RecordFlag.LAST,
    )
    row["tunnel"][0, 0], row["weight"][0, 0] = 500, 1
    return row


@pytest.mark.parametrize("table", ["vnets", "attachments", "nodes", "locators", "tunnels", "sets"])
@pytest.mark.parametrize("workers", [1, WORKERS])
def test_one_worker_leaves_the_others_room_in_every_table(table, workers):
    with open_arena(vnets=16) as arena:
        arena.share(workers)
        for vni in (RED, BLUE):
            assert not arena.apply(join([vnet(vni), tunnel(500)]), vni % workers).any()
        results = [int(arena.apply(tells(RED, n)[table], RED % workers, tries=9)[0]) for n in range(1, 200)]
        taken = results.count(0)
        assert 8 <= taken < 199
        refused = arena.apply(tells(BLUE, 1)[table], BLUE % workers, tries=9)
        if workers == 1:  # nothing is kept for others
            assert set(results) == {0, -errno.ENOSPC}
            assert refused[0] == -errno.ENOSPC
        else:
            assert set(results) == {0, -errno.EDQUOT}
            assert not refused.any()


def test_what_a_worker_gives_back_it_may_take_again(arena):
    assert not arena.apply(vnet(RED), RED_WORKER).any()
    for _ in range(3):
        numbers = [n for n in range(1, 100) if arena.apply(tunnel(1000 + n), RED_WORKER, tries=9)[0] == 0]
        assert len(numbers) == 14  # of 16: with three free it may have 16, with two 8
        for n in numbers:
            assert arena.apply(make(RecordType.TUNNEL_REMOVE, object_id=1000 + n), RED_WORKER)[0] == 0


def test_what_was_adopted_is_counted_with_the_worker_that_has_the_vnet(tmp_path):
    config = {"path": str(tmp_path / "arena"), "vnets": 16}
    with open_arena(**config) as arena:
        for n in range(14):
            assert not arena.apply(vnet(RED + WORKERS * n)).any()
    with open_arena(**config) as arena:
        arena.share(WORKERS)
        assert arena.apply(vnet(RED + WORKERS * 14), RED_WORKER)[0] == -errno.EDQUOT
        assert not arena.apply(vnet(BLUE), BLUE % WORKERS).any()
