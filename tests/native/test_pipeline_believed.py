# SPDX-License-Identifier: Apache-2.0
"""What a gateway of ours has checked is not checked again behind its tunnel; what memory rests on is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from frames import ip, udp_frame, vxlan_frame
from world import (
    A_IP,
    B_IP,
    C_IP,
    FOREIGN,
    FOREIGN_VNI,
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

from model_packets import Key

CHECKED = "192.0.2.77"


@pytest.fixture
def world(make_bench):
    return World(make_bench)


def by(world: World, peer: str):
    """The ingress of a peer, and how its frames get here."""
    if peer == "ours":
        return world.near, lambda inner, **more: vxlan_frame(
            inner, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100, **more
        )
    if peer == "foreign":
        return world.foreign, lambda inner, **more: vxlan_frame(
            inner, (NEAR_MAC, FOREIGN), (OUR_MAC, LOCAL), FOREIGN_VNI, udp_port=8472, **more
        )
    ingress = world.bench.add_remote(world.red, 777, ip(LOCAL), ip(CHECKED), check=True)
    return ingress, lambda inner, **more: vxlan_frame(
        inner, (NEAR_MAC, CHECKED), (OUR_MAC, LOCAL), 100, **more
    )


def wrong_sum(frame: bytes, by_how_much: int = 1) -> bytes:
    word = (int.from_bytes(frame[24:26], "big") + by_how_much) % 65536
    return frame[:24] + word.to_bytes(2, "big") + frame[26:]


def options(frame: bytes) -> bytes:
    """The same with four bytes of IPv4 options and a sum that is wrong."""
    total = int.from_bytes(frame[16:18], "big") + 4
    return (
        frame[:14]
        + b"\x46"
        + frame[15:16]
        + total.to_bytes(2, "big")
        + frame[18:34]
        + b"\1\1\1\0"
        + frame[34:]
    )


@pytest.mark.parametrize("peer", ["ours", "checked", "foreign"])
@pytest.mark.parametrize("key_class", ["bridged", "routed"])
@pytest.mark.parametrize("unusual", [False, True])
def test_sum_of_the_inner_header_is_believed_of_ours_alone(world, peer, key_class, unusual):
    ingress, outer = by(world, peer)
    world.bench.allow(Key(ingress, key_class, ip(C_IP), ip(B_IP)), world.b)
    inner = udp_frame((C, C_IP), (GATEWAY if key_class == "routed" else B, B_IP), tos=2)
    inner = options(inner) if unusual else inner
    for wrong in (1, 0x0100, 0x7FFF, 0xFEFF):
        for tos in (0, 1, 2, 3):  # ECN joins, and patches the sum
            got = world.bench.compare(2, outer(wrong_sum(inner, wrong), tos=tos))
            assert (got.how, got.reason) == (
                ("delivered", "") if peer == "ours" else ("dropped", "ip_bad_checksum")
            )


@pytest.mark.parametrize("peer", ["ours", "checked", "foreign"])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "224.0.0.5", "255.255.255.255"])
def test_addresses_are_believed_of_ours_alone(world, peer, address):
    ingress, outer = by(world, peer)
    world.bench.allow(Key(ingress, "bridged", ip(address), ip(B_IP)), world.b)
    world.bench.allow(Key(ingress, "bridged", ip(C_IP), ip(address)), world.b)
    for source, destination in ((address, B_IP), (C_IP, address)):
        got = world.bench.compare(2, outer(udp_frame((C, source), (B, destination))))
        assert (got.how, got.reason) == (
            ("delivered", "") if peer == "ours" else ("dropped", "ip_bad_address")
        )


@pytest.mark.parametrize("peer", ["ours", "checked", "foreign"])
def test_source_mac_of_zeros_is_believed_of_ours_alone_and_a_group_of_nobody(world, peer):
    ingress, outer = by(world, peer)
    world.bench.allow(Key(ingress, "bridged", ip(C_IP), ip(B_IP)), world.b)
    got = world.bench.compare(2, outer(udp_frame((bytes(6), C_IP), (B, B_IP))))
    assert (got.how, got.reason) == (("delivered", "") if peer == "ours" else ("dropped", "bad_source_mac"))
    group = b"\x03" + bytes(5)
    assert world.bench.compare(2, outer(udp_frame((group, C_IP), (B, B_IP)))).reason == "bad_source_mac"


def test_attachments_are_never_believed(world):
    world.bench.allow(Key(world.at_a, "bridged", ip(A_IP), ip(C_IP)), world.c)
    world.bench.allow(Key(world.at_b, "bridged", ip(B_IP), ip(C_IP)), world.c)
    assert world.bench.compare(0, wrong_sum(udp_frame((A, A_IP), (C, C_IP)))).reason == "ip_bad_checksum"
    inner = wrong_sum(udp_frame((B, B_IP), (C, C_IP)))
    tagged = inner[:12] + b"\x81\x00\x00\x0a" + inner[12:]
    assert world.bench.compare(1, tagged).reason == "ip_bad_checksum"


def test_every_length_is_checked_whoever_sent_it(world):
    world.bench.allow(Key(world.near, "bridged", ip(C_IP), ip(B_IP)), world.b)
    for protocol in ("udp", "tcp", "icmp"):
        inner = udp_frame((C, C_IP), (B, B_IP), protocol=protocol, ports=(8, 0), payload=b"")
        frame = vxlan_frame(inner, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
        assert world.bench.compare(2, frame).how == "delivered"
        for cut in range(1, len(frame)):
            world.bench.compare(2, frame[:-cut])
        for length in range(len(inner)):  # outer lengths that fit what is there
            cut = vxlan_frame(inner[:length], (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
            assert world.bench.compare(2, cut).how == "dropped"
        for total in range(len(inner) - 14 + 4):  # inner lengths that lie
            lying = inner[:16] + total.to_bytes(2, "big") + inner[18:]
            world.bench.compare(2, vxlan_frame(lying, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100))


def test_outer_packet_with_a_trailer_is_the_same_packet(world):
    world.bench.allow(Key(world.near, "bridged", ip(C_IP), ip(B_IP)), world.b)
    frame = vxlan_frame(udp_frame((C, C_IP), (B, B_IP)), (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    for trailer in (b"", b"x", bytes(30)):
        assert world.bench.compare(2, frame + trailer).how == "delivered"


def test_checking_begins_and_ends_with_the_next_packet(world):
    world.bench.allow(Key(world.near, "bridged", ip(C_IP), ip(B_IP)), world.b)
    inner = wrong_sum(udp_frame((C, C_IP), (B, B_IP)))
    frame = vxlan_frame(inner, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    for check in (False, True, False, True):
        world.bench.add_remote(world.red, NEAR_NODE, ip(LOCAL), ip(NEAR), check=check)
        got = world.bench.through(2, frame)
        assert (got.how, got.reason) == (("dropped", "ip_bad_checksum") if check else ("delivered", ""))
    assert replace(world.near, believed=False) != world.near
