# SPDX-License-Identifier: Apache-2.0
"""Frames of housekeeping's own: they wait in a ring that names them by index."""

from __future__ import annotations

import pytest
from frames import VXLAN, Dot1Q, arp_frame, assert_valid, ip
from world import A_IP, LOCAL, NEAR_MAC, OUR_MAC, A, World

from fastpath import records
from fastpath.records import RecordType
from model_packets import Tunnel


@pytest.fixture
def world(make_bench):
    return World(make_bench)


def test_frames_of_housekeeping_are_sent_but_not_counted_as_received(world):
    announcement = arp_frame((A, A_IP), A_IP)
    index = world.bench.ingress_index(world.at_b)
    world.bench.probe.send_inner(1, index, 0, announcement)
    world.bench.probe.send_inner(0, 2, 0, announcement)
    world.bench.probe.step(world.bench.now)
    sent = dict(world.bench.probe.sent())
    assert assert_valid(sent[1])[Dot1Q].vlan == 10
    assert sent[2] == announcement
    world.bench.assert_accounted(world.bench.probe.counters())


def packet_out(world, vni, kind, target, wire_id):
    target_id = world.bench.object_id(target)
    frame = arp_frame((A, A_IP), A_IP)
    world.bench.apply(
        records.packet_spans(
            RecordType.PACKET_OUT, frame, vni=vni, kind=kind, target_id=target_id, wire_id=wire_id
        )
    )


def test_frame_of_housekeeping_ends_if_its_attachment_is_anothers_by_then(world):
    """The ring names an index, which may be taken again before the frame is sent."""
    bench = world.bench
    index = bench.ingress_index(world.at_blue)
    packet_out(world, 200, 1, world.at_blue, 0)
    bench.apply(records.make(RecordType.ATTACHMENT_REMOVE, vni=200, object_id=bench.object_id(world.at_blue)))
    for _ in range(2):  # a grace period passes
        bench.probe.maintain(bench.now)
    assert bench.ingress_index(bench.add_attachment(world.red, 0, 100)) == index
    bench.probe.step(bench.now)
    assert bench.probe.sent() == []
    bench.assert_accounted(bench.probe.counters())


def test_frame_of_housekeeping_ends_if_its_tunnel_is_anothers_by_then(world):
    bench = world.bench
    bench.add_remote(world.red, 600, ip(LOCAL), ip("198.51.100.8"))
    first = bench.add_tunnel(tunnel_to("198.51.100.8"), 600)
    packet_out(world, 100, 2, first, 100)
    bench.apply(records.make(RecordType.TUNNEL_REMOVE, object_id=bench.object_id(first)))
    for _ in range(2):  # a grace period passes
        bench.probe.maintain(bench.now)
    bench.add_tunnel(tunnel_to("198.51.100.9"), 601)
    bench.probe.step(bench.now)
    assert bench.probe.sent() == []
    bench.assert_accounted(bench.probe.counters())


def test_frame_of_housekeeping_goes_into_the_tunnel_that_was_meant(world):
    packet_out(world, 100, 2, world.to_near, 100)
    world.bench.probe.step(world.bench.now)
    ((port, sent),) = world.bench.probe.sent()
    assert port == 2
    assert assert_valid(sent)[VXLAN].vni == 100


def tunnel_to(remote):
    return Tunnel(ip(LOCAL), ip(remote), 4789, 1500, 64, 0, False, (NEAR_MAC, OUR_MAC, 2, 0))
