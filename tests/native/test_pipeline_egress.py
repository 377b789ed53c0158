# SPDX-License-Identifier: Apache-2.0
"""How packets leave as gateways are deployed: tagged or not, by one next hop or several, by sets, for each of
these beside the model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from frames import ip, mac, udp_frame, vxlan_frame
from world import (
    A_IP,
    B_IP,
    C_IP,
    FAR,
    FAR_NODE,
    GATEWAY,
    LOCAL,
    NEAR,
    NEAR_MAC,
    NEAR_NODE,
    OUR_MAC,
    A,
    B,
    C,
    World,
)

from fastpath import records
from fastpath.records import RecordType
from model_packets import NO_MAC, Action, Key, Location, Tunnel, Vnet

ENTROPY, FIRST = 1, 2
SET = 3  # kind of a location


@pytest.fixture
def world(make_bench):
    return World(make_bench)


def tagged(frame: bytes, vlan: int, priority: int = 0) -> bytes:
    return frame[:12] + b"\x81\x00" + (priority << 13 | vlan).to_bytes(2, "big") + frame[12:]


def connection(frame: bytes, number: int) -> bytes:
    """The same untagged UDP frame from another port, without a checksum of its own."""
    return frame[:34] + (1000 + number).to_bytes(2, "big") + frame[36:40] + b"\0\0" + frame[42:]


def hops_of(first: int, count: int, vlan: int) -> list[tuple[bytes, bytes, int, int]]:
    return [(mac(first + i), OUR_MAC, 2, vlan) for i in range(count)]


class Ways:
    """A location behind some tunnels with some hops each, and every frame that the model has for a packet."""

    def __init__(self, world: World, ways: list[tuple[Tunnel, list]], weights: list[int], mode: int) -> None:
        self.world, self.bench = world, world.bench
        for tunnel, hops in ways:
            self.bench.set_hops(tunnel, hops)
        self.choices = [replace(tunnel, hop=hop) for tunnel, hops in ways for hop in hops]
        self.location = Location(100, ways[0][0], C, 100, NEAR_NODE)
        if weights:
            target = self.bench.add_set([tunnel for tunnel, _ in ways], weights, mode)
            self.bench.add_location(self.location, "ways", target_id=target, kind=SET)
        else:
            self.bench.add_location(self.location, "ways")

    def send(self, key: Key, port: int, frame: bytes) -> Tunnel:
        """Which of the choices it took. Fails if what came out is none of theirs."""
        got = self.bench.through(port, frame)
        for choice in self.choices:
            self.bench.tables.flows[key] = Action(
                "forward", destination=replace(self.location, target=choice)
            )
            if replace(self.bench.model.receive(port, frame), key=None) == got:
                return choice
        raise AssertionError(f"{got} is none of what the model has")


@pytest.mark.parametrize(
    ("vlan", "hops", "hop_vlan", "members", "routed"),
    [
        *product((0, 10), (1, 2, 4), (0, 300), (0, 1, 2), (False,)),
        *product((0, 10), (3,), (0,), (0, 2), (True,)),
    ],
)
def test_every_way_of_a_packet_is_one_of_the_models_and_all_are_taken(
    world, vlan, hops, hop_vlan, members, routed
):
    tunnels = [world.to_near, world.to_far][: max(members, 1)]
    ways = Ways(
        world,
        [(tunnel, hops_of(0x200 + 16 * i, hops, hop_vlan)) for i, tunnel in enumerate(tunnels)],
        [1] * members,
        ENTROPY,
    )
    ingress, port, own, own_ip = (world.at_b, 1, B, B_IP) if vlan else (world.at_a, 0, A, A_IP)
    key = Key(ingress, "routed" if routed else "bridged", ip(own_ip), ip(C_IP))
    world.bench.allow(key, ways.location)
    taken: Counter[Tunnel] = Counter()
    for number in range(40 * len(ways.choices)):
        frame = connection(udp_frame((own, own_ip), (GATEWAY if routed else C, C_IP)), number)
        taken[ways.send(key, port, tagged(frame, vlan, 5) if vlan else frame)] += 1
    assert len(taken) == len(ways.choices)  # each misses by chance once in 10^15


def test_weights_share_out_connections(world):
    ways = Ways(
        world, [(world.to_near, hops_of(0x200, 1, 0)), (world.to_far, hops_of(0x210, 1, 0))], [1, 3], ENTROPY
    )
    key = Key(world.at_a, "bridged", ip(A_IP), ip(C_IP))
    world.bench.allow(key, ways.location)
    taken: Counter[bytes] = Counter()
    for port in range(1000):
        taken[ways.send(key, 0, connection(udp_frame((A, A_IP), (C, C_IP)), port)).remote] += 1
    assert 150 < taken[ip(NEAR)] < 350  # 250; by chance once in 10^12


def test_set_of_sixteen_uses_all_of_them_and_the_last_one_alone_when_the_others_are_down(make_bench):
    world = World(make_bench)
    bench = world.bench
    tunnels = []
    for i in range(16):
        remote = bytes([203, 0, 113, 100 + i])
        bench.add_remote(world.red, 700 + i, ip(LOCAL), remote)
        tunnels.append(bench.add_tunnel(Tunnel(ip(LOCAL), remote, 4789, 1550, 64, 0, False, None), 700 + i))
    ways = Ways(
        world, [(tunnel, hops_of(0x200 + i, 1, 0)) for i, tunnel in enumerate(tunnels)], [255] * 16, ENTROPY
    )
    key = Key(world.at_a, "bridged", ip(A_IP), ip(C_IP))
    bench.allow(key, ways.location)

    def taken() -> set[bytes]:
        frames = [connection(udp_frame((A, A_IP), (C, C_IP)), port) for port in range(800)]
        return {ways.send(key, 0, frame).remote for frame in frames}

    assert taken() == {tunnel.remote for tunnel in tunnels}
    for tunnel in tunnels[:15]:
        bench.set_hops(tunnel, [])
    assert taken() == {tunnels[15].remote}
    bench.set_hops(tunnels[15], [])
    frame = udp_frame((A, A_IP), (C, C_IP))
    assert bench.through(0, frame).reason == "tunnel_unresolved"


def test_first_that_is_up_takes_all(world):
    ways = Ways(
        world, [(world.to_near, hops_of(0x200, 2, 0)), (world.to_far, hops_of(0x210, 1, 0))], [1, 1], FIRST
    )
    key = Key(world.at_a, "bridged", ip(A_IP), ip(C_IP))
    world.bench.allow(key, ways.location)
    frames = [connection(udp_frame((A, A_IP), (C, C_IP)), port) for port in range(64)]
    assert {ways.send(key, 0, frame).remote for frame in frames} == {ip(NEAR)}
    world.bench.set_hops(world.to_near, [])
    assert {ways.send(key, 0, frame).remote for frame in frames} == {ip(FAR)}


def test_connection_keeps_its_way(world):
    ways = Ways(
        world,
        [(world.to_near, hops_of(0x200, 4, 0)), (world.to_far, hops_of(0x210, 3, 9))],
        [2, 5],
        ENTROPY,
    )
    key = Key(world.at_a, "bridged", ip(A_IP), ip(C_IP))
    world.bench.allow(key, ways.location)
    for port in range(20):
        frames = [
            connection(udp_frame((A, A_IP), (C, C_IP), payload=b"x" * length), port) for length in range(4)
        ]
        world.bench.set_vnet(world.red)  # prepared anew
        assert len({ways.send(key, 0, frame) for frame in frames}) == 1


@pytest.mark.parametrize("came", ["tunnel", "untagged", "tagged", "both"])
@pytest.mark.parametrize("goes", ["untagged", "tagged", "both"])
@pytest.mark.parametrize("gateway", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_what_is_delivered_has_the_tag_and_macs_of_where_it_goes(world, came, goes, gateway, known):
    bench = world.bench
    attachments = {
        "untagged": (world.at_a, 0, 0),
        "tagged": (world.at_b, 1, 10),
        "both": (world.at_both, 3, 5),
    }
    to, _, _ = attachments[goes]
    location = bench.add_location(Location(100, to, mac(0x44) if known else NO_MAC), "to")
    source, destination = "10.0.0.77", "10.0.0.78"
    frame = udp_frame((mac(0x77), source), (GATEWAY if gateway else mac(0x99), destination))
    if came == "tunnel":
        ingress, port, vlan = world.near, 2, 0
        frame = vxlan_frame(frame, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    else:
        ingress, port, vlan = attachments[came]
    key = Key(ingress, "routed" if gateway else "bridged", ip(source), ip(destination))
    bench.allow(key, location)
    outcome = bench.compare(port, tagged(frame, vlan) if vlan else frame)
    if ingress != to or gateway:
        assert outcome.how == "delivered"
    else:
        assert outcome.reason == "hairpin"


def test_vlans_that_share_a_place_are_told_apart(world):
    bench = world.bench
    vlans = [0x001, 0x101, 0x201, 0xF01, 0x00F, 0x0FF, 0xFFE]
    attachments = {}
    for i, vlan in enumerate(vlans):
        vnet = bench.add_vnet(Vnet(1000 + i))
        attachments[vlan] = bench.add_attachment(vnet, 0, vlan)
        to = bench.add_attachment(vnet, 1, 100 + i)
        location = bench.add_location(Location(vnet.vni, to, mac(i + 1)), "to")
        bench.allow(Key(attachments[vlan], "bridged", ip(A_IP), ip(B_IP)), location)
    frame = udp_frame((A, A_IP), (B, B_IP))
    for _ in range(2):
        for vlan, other in product(vlans, vlans):
            assert bench.compare(0, tagged(frame, vlan)).how == "delivered"
            assert bench.compare(0, tagged(frame, other, 7)).how == "delivered"
    assert bench.compare(0, tagged(frame, 0x301)).reason == "no_attachment"
    assert bench.compare(0, tagged(frame, 0)).how == "held"  # priority alone: the untagged attachment
    gone = attachments.pop(0x101)
    del bench.tables.attachments[0, 0x101]
    bench.apply(
        records.make(RecordType.ATTACHMENT_REMOVE, vni=gone.vni, revision=2, object_id=bench.object_id(gone))
    )
    assert bench.compare(0, tagged(frame, 0x101)).reason == "no_attachment"
    assert bench.compare(0, tagged(frame, 0x001)).how == "delivered"


@pytest.mark.parametrize("cut", [1, 4, 10, 22, 30])
def test_tagged_frame_that_is_too_short_ends_as_an_untagged_one(world, cut):
    world.bench.allow(Key(world.at_b, "bridged", ip(B_IP), ip(C_IP)), world.c)
    frame = tagged(udp_frame((B, B_IP), (C, C_IP), payload=b"abc"), 10)
    assert world.bench.compare(1, frame[:-cut]).how == "dropped"


def test_tunnels_that_share_a_place_never_take_each_others_hops(make_bench):
    world = World(make_bench, tunnels=2048)
    bench = world.bench
    tunnels = []
    for i in range(1025):
        remote = bytes([10, 9, i >> 8, i & 255])
        tunnels.append(bench.add_tunnel(Tunnel(ip(LOCAL), remote, 4789, 1550, 64, 0, False, None), 900 + i))
    sent = []
    for number, (tunnel, hops) in enumerate(
        [(tunnels[0], hops_of(0x200, 4, 0)), (tunnels[1024], hops_of(0x300, 2, 0))]
    ):
        node = 900 + (0 if number == 0 else 1024)
        bench.add_remote(world.red, node, ip(LOCAL), tunnel.remote)
        bench.set_hops(tunnel, hops)
        location = bench.add_location(Location(100, tunnel, C, 100, node), number)
        address = ("10.0.0.60", "10.0.0.61")[number]
        bench.allow(Key(world.at_a, "bridged", ip(A_IP), ip(address)), location)
        sent.append((address, tunnel.remote, {hop[0] for hop in hops}))
    for port in range(400):
        for address, remote, macs in sent:
            (out,) = bench.through(0, connection(udp_frame((A, A_IP), (C, address)), port)).sent
            assert out.frame[30:34] == remote
            assert out.frame[:6] in macs


def test_every_locator_of_many_is_its_own(world):
    bench = world.bench
    nodes = {}
    for i in range(40):
        remote = bytes([10, 8, 0, i])
        nodes[remote] = bench.add_remote(world.red, 800 + i, ip(LOCAL), remote)
        bench.allow(Key(nodes[remote], "bridged", ip(C_IP), ip(B_IP)), world.b)
    inner = udp_frame((C, C_IP), (B, B_IP))
    for _ in range(3):
        for remote in nodes:
            source = ".".join(map(str, remote))
            frame = vxlan_frame(inner, (NEAR_MAC, source), (OUR_MAC, LOCAL), 100)
            assert bench.compare(2, frame).how == "delivered"
    assert FAR_NODE not in {node.node for node in nodes.values()}
