# SPDX-License-Identifier: Apache-2.0
"""What a poll thread keeps prepared of tunnels and locators never outlives what it was made from."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from bench import wide
from frames import IP, Dot1Q, Ether, arp_frame, ip, mac, udp_frame, vxlan_frame
from world import A_IP, B_IP, C_IP, GATEWAY, LOCAL, NEAR, NEAR_MAC, NEAR_NODE, OUR_MAC, A, B, C, World

from fastpath import records
from fastpath.records import RecordType
from model_packets import Action, Key, Location


@pytest.fixture
def world(make_bench):
    return World(make_bench)


def key(ingress, source, destination, key_class="bridged"):
    return Key(ingress, key_class, ip(source), ip(destination), None)


def remove_near(world) -> None:
    locator = world.bench.tables.locators
    del locator[ip(LOCAL), ip(NEAR), 100]
    named = records.make(RecordType.INGRESS_REMOVE, vni=100, revision=2, node_id=NEAR_NODE, udp_port=4789)
    named["key"]["local"], named["key"]["remote"] = list(wide(ip(LOCAL))), list(wide(ip(NEAR)))
    named["key"]["wire_id"], named["key"]["protocol"] = 100, 1
    world.bench.apply(named)


def test_next_packet_takes_the_next_hop_of_now(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    inner = udp_frame((A, A_IP), (C, C_IP))
    chance = random.Random(3)
    for turn in range(60):
        for change in range(chance.randrange(4)):  # slots are used again without a packet in between
            hop = mac(0x100 + 8 * turn + change)
            world.bench.set_hops(world.to_near, [(hop, OUR_MAC, 2, 0)])
            for _ in range(chance.randrange(3)):
                world.bench.probe.step(world.bench.now)
        sent = world.bench.through(0, inner).sent
        if turn:
            assert Ether(sent[0].frame).dst == ":".join(f"{byte:02x}" for byte in hop)


def test_tunnel_that_loses_its_next_hop_says_so_at_once(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    inner = udp_frame((A, A_IP), (C, C_IP))
    assert world.bench.through(0, inner).how == "forwarded"
    world.bench.set_hops(world.to_near, [])
    assert world.bench.through(0, inner).reason == "tunnel_unresolved"
    world.bench.set_hops(world.to_near, [(NEAR_MAC, OUR_MAC, 2, 5)])
    assert Ether(world.bench.through(0, inner).sent[0].frame)[Dot1Q].vlan == 5


def test_locator_that_is_taken_out_is_unknown_at_once(world):
    world.bench.allow(key(world.near, C_IP, B_IP), world.b)
    frame = vxlan_frame(udp_frame((C, C_IP), (B, B_IP)), (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    assert [world.bench.compare(2, frame).how for _ in range(3)] == ["delivered"] * 3
    remove_near(world)
    assert world.bench.compare(2, frame).reason == "unknown_vtep"


def test_locator_that_comes_back_is_another_ingress(world):
    world.bench.allow(key(world.near, C_IP, B_IP), world.b)
    frame = vxlan_frame(udp_frame((C, C_IP), (B, B_IP)), (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    assert world.bench.compare(2, frame).how == "delivered"
    remove_near(world)
    world.bench.add_remote(world.red, 599, ip(LOCAL), ip(NEAR))
    assert world.bench.through(2, frame).how == "held"  # the flow was the other node's


def test_gateway_mac_of_now_decides_what_is_routed(world):
    world.bench.allow(key(world.near, C_IP, B_IP), world.b)
    world.bench.allow(key(world.near, C_IP, B_IP, "routed"), world.b)
    frame = vxlan_frame(udp_frame((C, C_IP), (GATEWAY, B_IP), ttl=9), (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    hops = []
    for gateway in (GATEWAY, mac(0xAB), GATEWAY):
        world.bench.set_vnet(replace(world.red, gateway_mac=gateway))
        hops.append(Ether(world.bench.through(2, frame).sent[0].frame)[IP].ttl)
    assert hops == [8, 9, 8]


@pytest.mark.parametrize("to", ["tunnel", "attachment", "tagged attachment"])
def test_what_is_routed_never_leaves_with_no_source(world, to):
    at = {"attachment": (1, 0), "tagged attachment": (1, 30)}.get(to)
    place = world.blue_c
    if at is not None:
        place = world.bench.add_location(Location(200, world.bench.add_attachment(world.blue, *at), C), "x")
    world.bench.apply(records.make(RecordType.PEERING_SET, vni=100, to_vni=200))
    world.bench.allow(key(world.at_a, A_IP, C_IP, "routed"), place)
    frame = udp_frame((A, A_IP), (GATEWAY, C_IP), ttl=9)
    assert world.bench.compare(0, frame).reason == "no_gateway"
    world.bench.set_vnet(replace(world.blue, gateway_mac=mac(0xBB)))
    for _ in range(2):
        (sent,) = world.bench.compare(0, frame).sent
        assert mac(0xBB) in sent.frame
    world.bench.set_vnet(world.blue)
    assert world.bench.compare(0, frame).reason == "no_gateway"


def test_nobody_answers_for_a_gateway_that_has_no_mac(world):
    question = arp_frame((A, A_IP), "10.0.0.254", vlan=20)
    world.bench.add_flow(key(world.at_blue, A_IP, "10.0.0.254", "neighbor"), Action("answer"))
    assert world.bench.compare(0, question).reason == "no_gateway"
