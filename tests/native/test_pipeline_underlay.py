# SPDX-License-Identifier: Apache-2.0
"""What comes by an underlay port: for the gateway itself, for others, from strangers."""

from __future__ import annotations

import pytest
from frames import (
    ICMP,
    IP,
    Raw,
    arp_frame,
    ether,
    ip,
    mac,
    udp_frame,
    vxlan_frame,
)
from world import (
    A_IP,
    BOTH_MAC,
    C_IP,
    FAR_MAC,
    FOREIGN,
    FOREIGN_VNI,
    LOCAL,
    NEAR,
    NEAR_MAC,
    OUR_MAC,
    A,
    C,
    World,
    key,
)


def test_what_is_for_the_gateway_itself_goes_to_the_exception_port(world):
    ssh = udp_frame((NEAR_MAC, NEAR), (OUR_MAC, LOCAL), protocol="tcp", ports=(40000, 179))
    arp = arp_frame((NEAR_MAC, NEAR), LOCAL)
    assert world.bench.compare(2, ssh).how == "exception"
    assert world.bench.compare(2, arp).how == "exception"
    assert world.bench.compare(2, b"\x33\x33\0\0\0\1" + NEAR_MAC + b"\x86\xdd" + bytes(40)).how == "exception"


def test_frames_for_others_are_not_ours(world):
    frame = udp_frame((NEAR_MAC, NEAR), (mac(0x77), LOCAL))
    assert world.bench.compare(2, frame).reason == "not_for_this_mac"


def test_exceptions_are_limited(make_bench):
    world = World(make_bench, exceptions_per_s=5)
    world.bench.send(*[(2, arp_frame((NEAR_MAC, NEAR), LOCAL))] * 8)
    assert len(world.bench.probe.exceptions()) == 5
    counters = world.bench.probe.counters()
    assert (counters["exceptions"], counters["dropped"]) == (5, {"exception_control_full": 3})


CONTROL = {
    "arp": arp_frame((NEAR_MAC, NEAR), LOCAL),
    "arp, tagged": arp_frame((NEAR_MAC, NEAR), LOCAL, vlan=7),
    **{
        f"{protocol} {source} {port}": udp_frame(
            (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), protocol=protocol, ports=(source, port)
        )
        for protocol, source, port in [
            ("tcp", 40000, 179),
            ("tcp", 179, 40000),
            *(("udp", 49152, port) for port in (500, 3784, 3785, 4500, 4784)),
        ]
    },
    **{
        f"protocol {number}": bytes(ether(NEAR_MAC, OUR_MAC) / IP(src=NEAR, dst=LOCAL, proto=number))
        for number in (89, 112)
    },
    "nd": b"\x33\x33\xff\0\0\1" + NEAR_MAC + b"\x86\xdd" + bytes(6) + b"\x3a" + bytes(33) + b"\x87\0\0\0",
}
OTHERS = {
    "udp": udp_frame((NEAR_MAC, NEAR), (OUR_MAC, LOCAL), ports=(179, 5000)),
    "tcp": udp_frame((NEAR_MAC, NEAR), (OUR_MAC, LOCAL), protocol="tcp", ports=(500, 22)),
    "ping": bytes(ether(NEAR_MAC, OUR_MAC) / IP(src=NEAR, dst=LOCAL) / ICMP()),
    "later fragment": bytes(
        ether(NEAR_MAC, OUR_MAC) / IP(src=NEAR, dst=LOCAL, proto=6, frag=1) / Raw(b"\0\xb3" * 4)
    ),
    "cut": udp_frame((NEAR_MAC, NEAR), (OUR_MAC, LOCAL), protocol="tcp", ports=(40000, 179))[:36],
    "of another kind": OUR_MAC + NEAR_MAC + b"\x88\xb5" + bytes(46),
}


@pytest.mark.parametrize("kind", CONTROL)
def test_whatever_else_comes_takes_nothing_from_control_protocols(make_bench, kind):
    world = World(make_bench, exceptions_per_s=5)
    world.bench.send(*[(2, frame) for frame in OTHERS.values()] * 20)
    assert len(world.bench.probe.exceptions()) == 5
    world.bench.send(*[(2, CONTROL[kind])] * 8)
    assert [frame for _, frame in world.bench.probe.exceptions()] == [CONTROL[kind]] * 5
    dropped = {"exception_full": 20 * len(OTHERS) - 5, "exception_control_full": 3}
    assert world.bench.probe.counters()["dropped"] == dropped


def test_ring_that_nobody_empties_has_room_for_control_protocols(make_bench):
    world = World(make_bench, exceptions_per_s=1_000_000)
    world.bench.send(*[(2, frame) for frame in OTHERS.values()] * 100)
    world.bench.send(*[(2, arp_frame((NEAR_MAC, NEAR), LOCAL))] * 200)
    found = [frame for _, frame in world.bench.probe.exceptions()]
    assert found.count(arp_frame((NEAR_MAC, NEAR), LOCAL)) == 200
    assert "exception_control_full" not in world.bench.probe.counters()["dropped"]


def test_port_of_both_roles_is_told_apart_by_vlan(world):
    world.bench.allow(key(world.at_both, A_IP, C_IP), world.c)
    world.bench.allow(key(world.near, C_IP, A_IP), world.a)
    inside = world.bench.compare(3, udp_frame((A, A_IP), (C, C_IP), vlan=5))
    inner = udp_frame((C, C_IP), (A, A_IP))
    underlay = world.bench.compare(3, vxlan_frame(inner, (NEAR_MAC, NEAR), (BOTH_MAC, LOCAL), 100, vlan=9))
    assert (inside.how, underlay.how) == ("forwarded", "delivered")


@pytest.mark.parametrize(("port", "to"), [(2, OUR_MAC), (3, BOTH_MAC)])
@pytest.mark.parametrize("underlay", [frozenset({0}), frozenset({77}), frozenset({0, 77})])
def test_tunnel_packets_come_in_the_vlans_of_the_underlay_only(make_bench, port, to, underlay):
    world = World(make_bench, underlay_vlans=underlay)
    world.bench.allow(key(world.near, C_IP, A_IP), world.a)
    inner = udp_frame((C, C_IP), (A, A_IP))

    for vlan in (None, 0, 77, 78, 4000):
        tunneled = vxlan_frame(inner, (NEAR_MAC, NEAR), (to, LOCAL), 100, vlan=vlan)
        outcome = world.bench.compare(port, tunneled)
        assert outcome.reason == ("" if (vlan or 0) in underlay else "underlay_vlan")
        unknown = vxlan_frame(inner, (NEAR_MAC, "192.0.2.99"), (to, LOCAL), 100, vlan=vlan)
        assert world.bench.compare(port, unknown).reason == (
            "unknown_vtep" if (vlan or 0) in underlay else "underlay_vlan"
        )
        routing = udp_frame((NEAR_MAC, NEAR), (to, LOCAL), ports=(179, 179), vlan=vlan)
        assert world.bench.compare(port, routing).how == "exception", "the kernel knows its VLANs"


def test_foreign_vtep_has_its_own_id_and_port(world):
    world.bench.allow(key(world.foreign, "10.0.0.6", A_IP), world.a)
    inner = udp_frame((mac(6), "10.0.0.6"), (A, A_IP))
    frame = vxlan_frame(inner, (FAR_MAC, FOREIGN), (OUR_MAC, LOCAL), FOREIGN_VNI, udp_port=8472)
    assert world.bench.compare(2, frame).how == "delivered"


def test_unknown_vtep_is_asked_about_once(world):
    from numpy import frombuffer

    from fastpath import records

    inner = udp_frame((C, C_IP), (A, A_IP))
    stranger = vxlan_frame(inner, (NEAR_MAC, "192.0.2.99"), (OUR_MAC, LOCAL), 100)
    for _ in range(3):
        assert world.bench.compare(2, stranger).reason == "unknown_vtep"
    rows = frombuffer(world.bench.probe.records(0), records.RECORD)
    asked = records.select(rows, records.RecordType.UNKNOWN_LOCATOR)
    assert len(rows) == len(asked) == 1
    assert bytes(asked["key"]["remote"][0][-4:]) == ip("192.0.2.99")
    assert asked["key"]["wire_id"][0] == 100
    world.bench.now += 6 * 10**9
    world.bench.compare(2, stranger)
    assert len(world.bench.probe.records(0)) == 128
