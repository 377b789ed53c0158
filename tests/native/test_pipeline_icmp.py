# SPDX-License-Identifier: Apache-2.0
"""Packets that are too long: who is told, how, and how often."""

from __future__ import annotations

from frames import (
    ICMP,
    IP,
    VXLAN,
    Ether,
    assert_valid,
    mac,
    udp_frame,
    vxlan_frame,
)
from world import (
    A_IP,
    C_IP,
    D_IP,
    GATEWAY,
    LOCAL,
    NEAR,
    NEAR_MAC,
    OUR_MAC,
    A,
    C,
    D,
    World,
    key,
)


def test_too_big_with_df_is_told_the_tunnels_mtu(world):
    world.bench.allow(key(world.at_a, A_IP, D_IP), world.d)
    big = udp_frame((A, A_IP), (GATEWAY, D_IP), payload=bytes(1472), flags="DF")
    world.bench.allow(key(world.at_a, A_IP, D_IP, "routed"), world.d)

    outcome = world.bench.compare(0, big)

    assert outcome.reason == "mtu_frag_needed"
    told = assert_valid(outcome.sent[0].frame)
    assert outcome.sent[0].port == 0
    assert (told.dst, told[IP].src, told[IP].dst) == ("02:00:00:00:00:01", "10.0.0.254", A_IP)
    assert (told[ICMP].type, told[ICMP].code, told[ICMP].nexthopmtu) == (3, 4, 1450)
    assert bytes(told[ICMP].payload) == big[14 : 14 + 28]


def test_too_big_without_df_ends_by_name(world):
    world.bench.allow(key(world.at_a, A_IP, D_IP), world.d)
    outcome = world.bench.compare(0, udp_frame((A, A_IP), (D, D_IP), payload=bytes(1472)))
    assert outcome.reason == "mtu_exceeded"
    assert outcome.sent == ()


def test_largest_inner_packet_fits_and_one_byte_more_does_not(world):
    world.bench.allow(key(world.at_a, A_IP, D_IP), world.d)
    fits = world.bench.compare(0, udp_frame((A, A_IP), (D, D_IP), payload=bytes(1450 - 28)))
    more = world.bench.compare(0, udp_frame((A, A_IP), (D, D_IP), payload=bytes(1451 - 28)))
    assert len(assert_valid(fits.sent[0].frame)[IP]) == 1500
    assert more.reason == "mtu_exceeded"


def test_sender_behind_a_tunnel_is_told_through_the_tunnel(world):
    world.bench.allow(key(world.near, C_IP, "10.0.0.9"), world.s, source=world.c)
    big = udp_frame((C, C_IP), (mac(9), "10.0.0.9"), payload=bytes(800), flags="DF")

    outcome = world.bench.compare(2, vxlan_frame(big, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100))

    outer = assert_valid(outcome.sent[0].frame)
    assert (outer[IP].dst, outer[VXLAN].vni) == (NEAR, 100)
    told = Ether(bytes(outer[VXLAN].payload))
    assert (told.dst, told[IP].dst, told[ICMP].nexthopmtu) == ("02:00:00:00:00:03", C_IP, 600)


def test_icmp_errors_are_never_answered_with_one(world):
    world.bench.allow(key(world.at_a, A_IP, D_IP), world.d)
    frame = udp_frame((A, A_IP), (D, D_IP), payload=bytes(1470), flags="DF", protocol="icmp", ports=(11, 0))
    outcome = world.bench.compare(0, frame)
    assert (outcome.reason, outcome.sent) == ("mtu_frag_needed", ())


def test_messages_of_our_own_are_rate_limited(make_bench):
    world = World(make_bench, icmp_per_s=3)
    world.bench.allow(key(world.at_a, A_IP, D_IP), world.d)
    big = udp_frame((A, A_IP), (D, D_IP), payload=bytes(1472), flags="DF")
    world.bench.send(*[(0, big)] * 10)
    assert len(world.bench.probe.sent()) == 3
    counters = world.bench.probe.counters()
    assert (counters["icmp_sent"], counters["dropped"]["mtu_frag_needed"]) == (3, 10)
