# SPDX-License-Identifier: Apache-2.0
"""First fragments are remembered where a decision needs their ports, the newest ones, and by tenant."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random

import numpy as np
import pytest
from frames import IP, ip, udp_frame
from world import A_IP, C_IP, A, C, World

from fastpath import records
from fastpath.records import RecordType
from model import checksum
from model_packets import Action, Key, Vnet

LATER = 3  # offset, in units of eight bytes
RED, BLUE = None, 20  # VLANs on port 0
PORTS = (1000, 53)


@pytest.fixture
def world(make_bench):
    return World(make_bench, ring_slots=2048)


@cache
def whole(first, vlan, source):
    frame = udp_frame((A, source), (C, C_IP), ports=PORTS, payload=bytes(16), vlan=vlan)
    at = 14 if vlan is None else 18
    packet = IP(frame[at:])
    packet.flags, packet.frag = ("MF", 0) if first else (0, LATER)
    return frame[:at], bytes(packet)


def fragment(number, *, first, vlan=RED, source=A_IP):
    """The first fragment of datagram `number`, or its second one."""
    head, packet = whole(first, vlan, source)
    header = packet[:4] + number.to_bytes(2, "big") + packet[6:10] + bytes(2) + packet[12:20]
    header = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
    return head + header + packet[20:]


def narrowed(world, source=A_IP, destination=C_IP, ingress=None, to=None):
    """Pairs whose decision needs ports, and the decision of their one connection."""
    key = Key(ingress or world.at_a, "bridged", ip(source), ip(destination))
    world.bench.add_flow(key, Action("narrow"))
    world.bench.allow(replace(key, connection=(17, *PORTS)), to or world.c)


def wait(world, ms=100):
    """Let as much time pass."""
    world.bench.now += ms * 1_000_000
    world.bench.probe.step(world.bench.now)
    world.bench.assert_accounted(world.bench.probe.counters())


def unknown(world):
    return world.bench.probe.counters()["dropped"].get("fragment_unknown", 0)


def through(world, frames):
    """How many of these leave."""
    world.bench.probe.sent()
    world.bench.send(*[(0, frame) for frame in frames])
    counters = world.bench.probe.counters()
    world.bench.assert_accounted(counters)
    return len(world.bench.probe.sent())


@pytest.mark.parametrize("noise", [0, 125, 250, 500, 1000, 4000])
def test_first_fragments_that_are_refused_end_nobody_elses_datagrams(world, noise):
    narrowed(world)
    blue = Key(world.at_blue, "bridged", ip(A_IP), ip(C_IP))
    world.bench.add_flow(blue, Action("drop", reason="denied"))
    through(world, [fragment(10_000 + i, first=True, vlan=BLUE) for i in range(4 * noise)])
    assert through(world, [fragment(i, first=True) for i in range(100)]) == 100
    through(world, [fragment(i, first=True, vlan=BLUE) for i in range(noise)])
    assert through(world, [fragment(i, first=False) for i in range(100)]) == 100


def test_first_fragments_of_one_tenant_leave_the_others_theirs(world):
    narrowed(world)
    narrowed(world, ingress=world.at_blue, to=world.blue_c)
    assert through(world, [fragment(i, first=True) for i in range(100)]) == 100
    for start in range(0, 10_000, 1000):
        assert through(world, [fragment(start + i, first=True, vlan=BLUE) for i in range(1000)]) == 1000
    # Each set keeps half of its places for red: more than that in one set is rare.
    assert through(world, [fragment(i, first=False) for i in range(100)]) >= 98


def test_the_oldest_are_forgotten_within_a_second_too(world):
    narrowed(world)
    for start in range(0, 10_000, 1000):
        through(world, [fragment(start + i, first=True) for i in range(1000)])
    assert through(world, [fragment(9_900 + i, first=False) for i in range(100)]) >= 98
    assert through(world, [fragment(i, first=False) for i in range(100)]) == 0
    wait(world)
    assert world.bench.probe.counters()["dropped"]["fragment_unknown"] >= 100


def test_successive_ids_of_any_two_hosts_find_room(world):
    """A hash that spreads ids badly for some addresses shows as datagrams that are lost."""
    random = Random(1)
    for _ in range(60):
        world.bench.now += 10 * 10**9  # the ones before are past
        source = f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        narrowed(world, source=source)
        first = random.randrange(60_000)
        ids = range(first, first + 128)
        assert through(world, [fragment(i, first=True, source=source) for i in ids]) == 128
        assert through(world, [fragment(i, first=False, source=source) for i in ids]) == 128


def test_datagram_is_forgotten_after_its_time(world):
    narrowed(world)
    assert through(world, [fragment(1, first=True)]) == 1
    world.bench.now += 5 * 10**9
    assert through(world, [fragment(1, first=False)]) == 1
    world.bench.now += 10**9
    assert through(world, [fragment(1, first=False)]) == 0


def test_first_fragment_that_waits_for_a_decision_is_remembered_when_it_is_released(world):
    world.bench.send((0, fragment(1, first=True)), (0, fragment(1, first=False)))
    rows = records.select(np.frombuffer(world.bench.probe.records(0), records.RECORD), RecordType.MISS)
    pair = Key(world.at_a, "bridged", ip(A_IP), ip(C_IP))
    world.bench.allow(replace(pair, connection=(17, *PORTS)), world.c)
    world.bench.apply(world.bench.flow_rows(pair, Action("narrow"), token=int(rows["token"][0])))
    world.bench.probe.step(world.bench.now)
    assert len(world.bench.probe.sent()) == 2


def test_first_fragment_of_an_ingress_is_none_of_the_one_that_gets_its_index(world):
    bench = world.bench
    index = bench.ingress_index(world.at_blue)
    narrowed(world, ingress=world.at_blue, to=world.blue_c)
    assert through(world, [fragment(7, first=True, vlan=BLUE)]) == 1
    bench.apply(
        records.make(
            RecordType.ATTACHMENT_REMOVE, vni=200, revision=1, object_id=bench.object_id(world.at_blue)
        )
    )
    for vlan in range(200, 260):
        bench.probe.step(bench.now)
        bench.probe.maintain(bench.now)
        other = bench.add_attachment(world.red, 0, vlan)
        if bench.ingress_index(other) == index:
            break
    assert bench.ingress_index(other) == index
    narrowed(world, ingress=other)
    assert through(world, [fragment(7, first=False, vlan=vlan)]) == 0
    wait(world)
    assert through(world, [fragment(7, first=True, vlan=vlan), fragment(7, first=False, vlan=vlan)]) == 2


def parts(number, order, vlan=RED):
    """A datagram of three fragments, in this order."""
    head, first = whole(True, vlan, A_IP)
    made = []
    for place in order:
        packet = IP(first)
        packet.id, packet.frag = number, place * 3
        packet.flags = "MF" if place < 2 else 0
        del packet.chksum
        made.append(head + bytes(packet)[:20] + bytes([place]) * 24)
        if place == 0:
            made[-1] = head + bytes(packet)[:20] + first[20:44]
    return made


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("apart", [False, True])
def test_datagram_in_any_order_is_whole(world, order, apart):
    narrowed(world)
    frames = parts(5, order)

    if apart:
        for frame in frames:
            world.bench.send((0, frame))
            wait(world, 20)
    else:
        world.bench.send(*[(0, frame) for frame in frames])

    sent = [frame[64:] for _, frame in world.bench.probe.sent()]
    first = order.index(0)
    if apart:  # of one burst those that need not wait go first
        assert [frame[-1] for frame in sent[1 : 1 + first]] == list(order[:first]), "as they came"
    assert len(sent) == 3
    counters = world.bench.probe.counters()
    assert (counters["held_now"], unknown(world)) == (0, 0)


def test_later_fragment_waits_no_longer_than_a_moment(world):
    narrowed(world)
    assert through(world, parts(5, (2, 1))) == 0
    wait(world, 99)
    assert (world.bench.probe.counters()["held_now"], unknown(world)) == (2, 0)
    wait(world, 1)
    assert (world.bench.probe.counters()["held_now"], unknown(world)) == (0, 2)
    assert through(world, parts(5, (0,))) == 1


def test_what_waits_is_bounded_for_each_tenant(world):
    narrowed(world)
    narrowed(world, ingress=world.at_blue, to=world.blue_c)
    through(world, [fragment(i, first=False, vlan=BLUE) for i in range(1000)])
    assert world.bench.probe.counters()["held_now"] == 64
    assert unknown(world) == 936

    assert through(world, parts(5, (1, 2, 0))) == 3


def test_however_many_tenants_flood_the_next_one_finds_room_to_wait(world):
    vlans = range(101, 106)
    for vlan in vlans:
        vnet = world.bench.add_vnet(Vnet(1000 + vlan))
        at = world.bench.add_attachment(vnet, 0, vlan)
        world.bench.add_flow(Key(at, "bridged", ip(A_IP), ip(C_IP)), Action("narrow"))
    *floods, fifth = vlans
    for vlan in floods:
        through(world, [fragment(i, first=False, vlan=vlan) for i in range(1000)])
    before = world.bench.probe.counters()["held_now"]
    assert before > 100
    through(world, [fragment(i, first=False, vlan=fifth) for i in range(2)])
    assert world.bench.probe.counters()["held_now"] == before + 2


def test_later_fragment_goes_on_with_a_first_one_that_waits_for_its_decision(world):
    world.bench.add_flow(Key(world.at_a, "bridged", ip(A_IP), ip(C_IP)), Action("narrow"))
    assert through(world, parts(5, (1, 0, 2))) == 0
    rows = records.select(np.frombuffer(world.bench.probe.records(0), records.RECORD), RecordType.MISS)
    assert len(rows) == 1, "one connection asks once"
    connection = Key(world.at_a, "bridged", ip(A_IP), ip(C_IP), (17, *PORTS))
    world.bench.add_flow(connection, Action("forward", destination=world.c), token=int(rows["token"][0]))
    world.bench.probe.step(world.bench.now)
    assert len(world.bench.probe.sent()) == 3


def test_what_waits_is_accounted_when_its_attachment_goes_or_the_thread_ends(world):
    narrowed(world, ingress=world.at_blue, to=world.blue_c)
    through(world, parts(5, (1, 2), vlan=BLUE))
    world.bench.apply(
        records.make(
            RecordType.ATTACHMENT_REMOVE, vni=200, revision=1, object_id=world.bench.object_id(world.at_blue)
        )
    )
    wait(world)
    counters = world.bench.probe.counters()
    assert (counters["held_now"], counters["dropped"]["ingress_gone"]) == (0, 2)
