# SPDX-License-Identifier: Apache-2.0
"""An index that is given out again begins at zero: what is kept by index is its owner's and nobody else's."""

from __future__ import annotations

import pytest
from frames import ip, mac, udp_frame, vxlan_frame
from world import A_IP, C_IP, FAR_NODE, LOCAL, NEAR, NEAR_MAC, OUR_MAC, A, C, World

from fastpath import records
from fastpath.records import RecordType
from model_packets import Key, Tunnel, Vnet

MS = 1_000_000
NOTHING = {"rx_packets": 0, "rx_bytes": 0, "tx_packets": 0, "tx_bytes": 0}


@pytest.fixture
def world(make_bench):
    return World(make_bench)


def grace(bench, ms=0):
    for _ in range(4):
        bench.now += ms * MS
        bench.probe.step(bench.now)
        bench.probe.maintain(bench.now)


def remove_vnet(bench, vni):
    bench.apply(
        records.make(RecordType.VNET_REMOVE, vni=vni, object_id=bench.object_id(("vnet", vni))),
    )


def vnet_index(bench, vni):
    return bench.probe.vnet_by_vni(vni)


def vnet_with_index(bench, index, vni=300, **more):
    """A new V-net that has this index, with an attachment of its VLAN on port 0."""
    for number in range(vni, vni + 20):
        vnet = bench.add_vnet(Vnet(number), **more)
        if vnet_index(bench, number) == index:
            return vnet, bench.add_attachment(vnet, 0, number)
    raise AssertionError(f"nobody gets index {index}")


def frame(number, vlan=None, destination=C_IP):
    return udp_frame((A, A_IP), (C, destination), payload=bytes([number]), vlan=vlan)


def counted(bench):
    found = bench.probe.counters()
    bench.assert_accounted(found)
    return found


def test_counters_and_drops_of_a_vnet_are_not_those_of_the_next_one(world):
    bench = world.bench
    index = vnet_index(bench, 200)
    bench.allow(Key(world.at_blue, "bridged", ip(A_IP), ip(C_IP)), world.blue_c)
    bench.send(*[(0, frame(i, vlan=20)) for i in range(10)])
    bench.send(*[(0, udp_frame((bytes(6), A_IP), (C, C_IP), vlan=20))] * 7)
    found = counted(bench)
    assert found["vnets"][index]["rx_packets"] == found["vnets"][index]["tx_packets"] == 10
    assert found["reason_vnet"] == {("bad_source_mac", 200): 7}

    remove_vnet(bench, 200)
    assert counted(bench)["reason_vnet"] == {}
    grace(bench)
    other, _ = vnet_with_index(bench, index)
    found = counted(bench)
    assert found["vnets"][index] == NOTHING
    assert (found["reason_vnet"], found["dropped"]) == ({}, {"bad_source_mac": 7})

    bench.send(*[(0, udp_frame((bytes(6), A_IP), (C, C_IP), vlan=other.vni))] * 2)
    bench.send((0, frame(1, vlan=other.vni)))
    found = counted(bench)
    assert found["vnets"][index]["rx_packets"] == 1
    assert (found["reason_vnet"], found["dropped"]) == (
        {("bad_source_mac", other.vni): 2},
        {"bad_source_mac": 9},
    )


def test_pairs_of_vnets_that_are_gone_make_room(world):
    """More pairs than there is room for, if those of the gone stayed: 400 V-nets, two reasons each."""
    bench = world.bench
    remove_vnet(bench, 200)
    broken = (
        udp_frame((bytes(6), A_IP), (C, C_IP)),
        udp_frame((A, A_IP), (b"\xff" * 6, C_IP)),
    )
    for number in range(400):
        grace(bench)
        vnet = bench.add_vnet(Vnet(300 + number))
        bench.add_attachment(vnet, 0, 300 + number)
        tag = bytes([0x81, 0, *divmod(300 + number, 256)])
        bench.send(*[(0, each[:12] + tag + each[12:]) for each in broken])
        found = counted(bench)
        assert set(found["reason_vnet"]) == {
            ("bad_source_mac", vnet.vni),
            ("broadcast_not_carried", vnet.vni),
        }
        remove_vnet(bench, vnet.vni)
    assert counted(bench)["reason_vnet_full"] == 0


def test_counters_of_a_tunnel_are_not_those_of_the_next_one(world):
    bench = world.bench
    bench.allow(Key(world.at_a, "bridged", ip(A_IP), ip(C_IP)), world.c)
    bench.allow(Key(world.near, "bridged", ip(C_IP), ip(A_IP)), world.a, source=world.c)
    back = vxlan_frame(udp_frame((C, C_IP), (A, A_IP)), (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    bench.send(*[(0, frame(i)) for i in range(5)], *[(2, back)] * 3)
    (index,) = [i for i, t in enumerate(counted(bench)["tunnels"]) if i and t["tx_packets"]]
    assert counted(bench)["tunnels"][index]["rx_packets"] == 3

    # All that leads there goes to the other node; what comes from the first one still comes.
    for location in (world.c, world.behind, world.blue_c):
        bench.apply(
            records.make(RecordType.LOCATION_REMOVE, vni=location.vni, object_id=bench.objects[location])
        )
    bench.apply(records.make(RecordType.TUNNEL_REMOVE, object_id=bench.object_id(world.to_near)))
    grace(bench)
    bench.allow(Key(world.near, "bridged", ip(C_IP), ip(A_IP)), world.a)
    for number in range(20):
        other = bench.add_tunnel(
            Tunnel(
                ip(LOCAL), ip(f"192.0.2.{100 + number}"), 4789, 1500, 64, 0, False, (mac(9), mac(8), 2, 0)
            ),
            FAR_NODE,
        )
        if bench.probe.tunnel_by_id(bench.object_id(other)) == index:
            break
    else:
        raise AssertionError(f"nobody gets index {index}")
    bench.send((2, back))
    assert counted(bench)["tunnels"][index] == NOTHING


def test_samples_of_a_flow_are_not_those_of_the_next_one(world):
    bench = world.bench
    first = Key(world.at_a, "bridged", ip(A_IP), ip(C_IP))
    bench.allow(first, world.c)
    index = bench.probe.flow_find(bench.native_key(first).tobytes())
    bench.send(*[(0, frame(i % 250)) for i in range(480)])
    assert bench.probe.flow_side(index)["packets_sampled"] > 0
    bench.apply(records.make(RecordType.LOCATION_REMOVE, vni=100, object_id=bench.objects[world.c]))
    grace(bench)
    for number in range(1, 250):
        key = Key(world.at_a, "bridged", ip(A_IP), ip(f"10.0.1.{number}"))
        bench.allow(key, world.d)
        if bench.probe.flow_find(bench.native_key(key).tobytes()) == index:
            break
    else:
        raise AssertionError(f"nobody gets index {index}")
    side = bench.probe.flow_side(index)
    assert (side["packets_sampled"], side["kbytes_sampled"]) == (0, 0)


def test_what_a_vnet_holds_and_asks_is_not_counted_with_the_next_one(make_bench):
    world = World(make_bench, hold={"packets_per_vnet": 4, "wait_ms": 1000})
    bench = world.bench
    bench.set_vnet(world.blue, quota_misses_per_s=4)
    index = vnet_index(bench, 200)
    bench.send(*[(0, frame(i, vlan=20, destination=f"10.0.1.{i + 1}")) for i in range(6)])
    assert counted(bench)["dropped"] == {"hold_vnet_full": 2}
    remove_vnet(bench, 200)
    grace(bench)
    other, attachment = vnet_with_index(bench, index, quota_misses_per_s=4)

    bench.send(*[(0, frame(i, vlan=other.vni, destination=f"10.0.1.{i + 1}")) for i in range(4)])
    found = counted(bench)
    assert (found["held_now"], found["dropped"]) == (8, {"hold_vnet_full": 2})
    bench.send((0, frame(9, vlan=other.vni, destination="10.0.1.9")))
    assert counted(bench)["reason_vnet"] == {("hold_vnet_full", other.vni): 1}

    # What the one before has left ends later, and takes nothing from the other one's count.
    bench.now += 1_200 * MS
    bench.probe.step(bench.now)
    found = counted(bench)
    assert (found["held_now"], found["expired"], found["dropped"]["ingress_gone"]) == (0, 4, 4)
    assert found["reason_vnet"] == {("hold_vnet_full", other.vni): 1, ("hold_expired", other.vni): 4}
    bench.send(*[(0, frame(i, vlan=other.vni, destination=f"10.0.2.{i + 1}")) for i in range(6)])
    assert counted(bench)["held_now"] == 4
    assert bench.ingress_index(attachment) != 0


def test_what_an_ingress_holds_and_asks_is_not_counted_with_the_next_one(make_bench):
    world = World(make_bench, hold={"packets_per_ingress": 4, "misses_per_ingress_s": 4})
    bench = world.bench
    index = bench.ingress_index(world.at_blue)
    bench.send(*[(0, frame(i, vlan=20, destination=f"10.0.1.{i + 1}")) for i in range(6)])
    assert counted(bench)["dropped"] == {"hold_ingress_full": 2}
    gone = bench.object_id(world.at_blue)
    bench.apply(records.make(RecordType.ATTACHMENT_REMOVE, vni=200, revision=1, object_id=gone))
    for vlan in range(200, 260):
        grace(bench)
        other = bench.add_attachment(world.red, 0, vlan)
        if bench.ingress_index(other) == index:
            break
    assert bench.ingress_index(other) == index
    bench.send(*[(0, frame(i, vlan=vlan, destination=f"10.0.3.{i + 1}")) for i in range(5)])
    found = counted(bench)
    assert (found["held_now"], found["dropped"]) == (8, {"hold_ingress_full": 3})
    bench.now += 1_200 * MS
    bench.probe.step(bench.now)
    assert counted(bench)["held_now"] == 0
    bench.send(*[(0, frame(i, vlan=vlan, destination=f"10.0.2.{i + 1}")) for i in range(5)])
    assert counted(bench)["held_now"] == 4
