# SPDX-License-Identifier: Apache-2.0
"""What the data plane's clients share: none of them takes another one's part."""

from __future__ import annotations

import errno

import pytest
from installing import BLUE, RED, attachment, open_arena, vnet

from fastpath.records import LocationKind, RecordType, join, packet_spans

WORKERS = 2
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
