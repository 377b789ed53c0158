# SPDX-License-Identifier: Apache-2.0
"""Frames that clients send, whole or in pieces."""

from __future__ import annotations

import pytest
from installing import (
    RACK,
    RED,
    TUNNEL,
    applied,
    refusals,
)

from fastpath.records import (
    LocationKind,
    RecordType,
    packet_spans,
)


def test_frame_in_spans_is_sent_whole(arena):
    frame = bytes(range(256)) * 5

    assert not arena.apply(
        packet_spans(RecordType.PACKET_OUT, frame, vni=RED, kind=LocationKind.LOCAL, target_id=RACK)
    ).any()

    assert arena.taken()["sent"] == [(LocationKind.LOCAL, arena.ingress_by_vlan(0, 10), 0, frame)]


def test_frames_of_two_clients_do_not_mix(arena):
    spans = [
        packet_spans(
            RecordType.PACKET_OUT,
            bytes([n]) * 200,
            vni=RED,
            kind=LocationKind.TUNNEL,
            target_id=TUNNEL,
            wire_id=RED,
        )
        for n in (1, 2)
    ]
    for i in range(3):
        for worker in (0, 1):
            assert applied(arena, spans[worker][i : i + 1], worker)

    assert [frame for *_, frame in arena.taken()["sent"]] == [b"\1" * 200, b"\2" * 200]


@pytest.mark.parametrize("order", [[1], [0, 2], [0, 0, 2], [0, 1, 1]])
def test_spans_out_of_order_send_nothing(arena, order):
    spans = packet_spans(RecordType.PACKET_OUT, b"x" * 200, vni=RED, kind=LocationKind.LOCAL, target_id=RACK)

    arena.apply(spans[order])

    assert arena.taken()["sent"] == []
    assert arena.refused()["MALFORMED"] >= 1


def test_frame_into_another_vnets_attachment_is_refused(arena):
    arena.apply(
        packet_spans(RecordType.PACKET_OUT, b"x" * 60, vni=RED, kind=LocationKind.LOCAL, target_id=RACK + 1)
    )

    assert refusals(arena) == ["OTHER_VNET"]
    assert arena.taken()["sent"] == []
