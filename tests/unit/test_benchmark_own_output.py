# SPDX-License-Identifier: Apache-2.0
"""What our gateway is told of a scenario's tenant, and how what comes out of it is looked at."""

import tomllib

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from benchmarks.sources import traffic
from benchmarks.sources.traffic import Traffic
from benchmarks.subject import WrongOutput
from benchmarks.subjects.vnet_gateway import CAPTURE, QUIET_VLAN, World, check, with_tag

# What Linux 6.18 gave a packet socket at the other end of a veth, with PACKET_AUXDATA.
SENT_TAGGED = bytes.fromhex("0201000000000202000000008100a0640800") + bytes(46)
RECEIVED = bytes.fromhex("0201000000000202000000000800") + bytes(46)
BESIDE_TAGGED = [(263, 8, bytes.fromhex("510000003c0000003c00000000000e0064a00081"))]
BESIDE_UNTAGGED = [(263, 8, bytes.fromhex("010000003c0000003c00000000000e0000000000"))]


def attachments(world: World) -> list[tuple[str, int]]:
    found = tomllib.loads(world.document())["vnet"]["tenant"]["attachment"]
    return [(one["port"], one.get("vlan", 0)) for one in found]


def places(document: str) -> set[str]:
    endpoints = tomllib.loads(document)["vnet"]["tenant"]["endpoint"].values()
    return {place.partition("/")[2] for one in endpoints for place in one.get("at", ())}


def test_a_captured_packet_gets_its_tag_back():
    assert with_tag(RECEIVED, BESIDE_TAGGED) == SENT_TAGGED
    assert with_tag(RECEIVED, BESIDE_UNTAGGED) == RECEIVED
    assert with_tag(RECEIVED, []) == RECEIVED


def test_members_stand_at_the_vlan_of_the_traffic():
    world = World(Traffic(30, vlan=100))

    assert attachments(world) == [("inside", 100)]
    assert places(world.document()) == {"inside:100"}
    assert places(world.before()) == {f"inside:{QUIET_VLAN}"}
    assert attachments(World(Traffic(30))) == [("inside", 0)]


def test_members_move_to_the_capture_port_with_their_vlan():
    world = World(Traffic(30, direction="decap", vlan=100))

    assert attachments(world) == [("inside", 100), (CAPTURE, 100)]
    assert places(world.document()) == {"inside:100"}
    assert places(world.document(port=CAPTURE)) == {f"{CAPTURE}:100"}


def test_members_there_stand_behind_every_tunnel():
    world = World(Traffic(1000, tunnels=256))

    document = tomllib.loads(world.document())
    locators = {name: node.get("locators") for name, node in document["node"].items()}
    endpoints = document["vnet"]["tenant"]["endpoint"]
    assert len(world.tunnels) == 256
    assert {n: locators[endpoints[f"there-{n}"]["node"]] for n in range(1000)} == {
        n: [traffic.tunnel_address(n % 256)] for n in range(1000)
    }


def encapsulated(inner: bytes, hop: str) -> bytes:
    there = int(Ether(inner)[IP].dst.rpartition(".")[2]) - 1
    return bytes(
        Ether(dst=hop, src="02:00:00:00:00:f1")
        / IP(src=traffic.LOCAL_ADDRESS, dst=traffic.tunnel_address(there % 16), flags="DF", id=0)
        / UDP(sport=50000, dport=traffic.VXLAN_PORT, chksum=0)
        / VXLAN(vni=traffic.VNI, flags="Instance")
        / inner
    )


def test_packets_leave_to_each_of_several_next_hops():
    world = World(Traffic(30, hops=2))
    inner = sorted(traffic.members_frames(world.traffic))
    both = [encapsulated(frame, traffic.hop_mac(n % 2)) for n, frame in enumerate(inner)]

    check(world, both)
    with pytest.raises(WrongOutput, match="packets leave to 1 of 2 next hops"):
        check(world, [encapsulated(frame, traffic.hop_mac(0)) for frame in inner])
    with pytest.raises(WrongOutput, match=r"expected .*02:00:00:00:02:00 or 02:00:00:00:02:01"):
        check(world, [*both, encapsulated(inner[0], traffic.hop_mac(2))])


def test_the_route_to_the_tunnels_has_as_many_ways_as_they_have_hops():
    assert World(Traffic(1)).ways("underlay") == ["dev", "underlay"]
    assert " ".join(World(Traffic(1, hops=2)).ways("capture")) == (
        "nexthop via 198.18.2.1 dev capture onlink nexthop via 198.18.2.2 dev capture onlink"
    )


def test_delivered_frames_need_the_tag_of_their_port():
    world = World(Traffic(30, direction="decap", vlan=100))
    frames = list(traffic.members_frames(world.traffic))

    check(world, frames)
    for wrong in (traffic.untagged(frames[0]), traffic.tag(traffic.untagged(frames[0]), 101)):
        with pytest.raises(WrongOutput, match="VLAN 100"):
            check(world, [wrong])
