# SPDX-License-Identifier: Apache-2.0
"""ARP, and what comes in LLC frames."""

from __future__ import annotations

import pytest
from frames import (
    ARP,
    IP,
    VXLAN,
    Dot1Q,
    Ether,
    arp_frame,
    assert_valid,
    ether,
    ip,
    mac,
    udp_frame,
    vxlan_frame,
)
from world import (
    A_IP,
    B_IP,
    C_IP,
    LOCAL,
    NEAR,
    NEAR_MAC,
    OUR_MAC,
    A,
    B,
    C,
)

from model_packets import Action, Key


def test_arp_is_answered_with_the_locations_mac(world):
    question = Key(world.at_b, "neighbor", ip(B_IP), ip(C_IP))
    world.bench.add_flow(question, Action("answer", destination=world.c))
    outcome = world.bench.compare(1, arp_frame((B, B_IP), C_IP, vlan=10))
    reply = assert_valid(outcome.sent[0].frame)
    assert outcome.how == "answered"
    assert (reply.dst, reply.src, reply[Dot1Q].vlan) == ("02:00:00:00:00:02", "02:00:00:00:00:03", 10)
    assert (reply[ARP].op, reply[ARP].hwsrc, reply[ARP].psrc) == (2, "02:00:00:00:00:03", C_IP)
    assert (reply[ARP].hwdst, reply[ARP].pdst) == ("02:00:00:00:00:02", B_IP)


def test_arp_for_the_gateway_is_answered_with_its_mac(world):
    question = Key(world.at_a, "neighbor", ip(A_IP), ip("10.0.0.254"))
    world.bench.add_flow(question, Action("answer"))
    outcome = world.bench.compare(0, arp_frame((A, A_IP), "10.0.0.254"))
    assert assert_valid(outcome.sent[0].frame)[ARP].hwsrc == "02:00:00:00:00:aa"


def test_arp_out_of_a_tunnel_is_answered_into_it(world):
    question = Key(world.near, "neighbor", ip(C_IP), ip(A_IP))
    world.bench.add_flow(question, Action("answer", destination=world.a, source=world.c))
    frame = vxlan_frame(arp_frame((C, C_IP), A_IP), (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    outcome = world.bench.compare(2, frame)
    outer = assert_valid(outcome.sent[0].frame)
    reply = Ether(bytes(outer[VXLAN].payload))
    assert (outer[IP].dst, reply[ARP].hwsrc, reply[ARP].hwdst) == (
        NEAR,
        "02:00:00:00:00:01",
        "02:00:00:00:00:03",
    )


@pytest.mark.parametrize("asker", ["0.0.0.0", B_IP])
def test_probe_of_the_holder_itself_is_not_answered(world, asker):
    probed = Key(world.at_a, "neighbor", ip(asker), ip(A_IP))
    world.bench.add_flow(probed, Action("answer", destination=world.a))

    assert world.bench.compare(0, arp_frame((A, asker), A_IP)).reason == "arp_own_address"
    assert world.bench.compare(0, arp_frame((mac(0x77), asker), A_IP)).how == "answered"


SNAP = bytes.fromhex("aaaa03000000")
INNER_IP = udp_frame((A, "10.0.0.99"), (C, C_IP))[14:]


@pytest.mark.parametrize("length", [0, 3, 1500, 0x5FF, None])
@pytest.mark.parametrize(
    "llc",
    [
        SNAP + b"\x08\x00" + INNER_IP,
        SNAP + b"\x08\x06" + arp_frame((A, A_IP), C_IP)[14:],
        SNAP + b"\x86\xdd" + bytes(40),
        SNAP + b"\x81\x00\x00\x05\x08\x00" + INNER_IP,
        bytes.fromhex("aaaa030000f80800") + INNER_IP,  # IEEE 802.1H
        bytes.fromhex("aaaabf0000000800") + INNER_IP,  # not UI
        bytes.fromhex("060603") + INNER_IP,
        bytes.fromhex("989803") + arp_frame((A, A_IP), C_IP)[14:],
    ],
)
def test_ip_and_arp_in_llc_end_by_name(world, llc, length):
    world.bench.allow(Key(world.at_a, "mac", A, C), world.c)
    world.bench.allow(Key(world.near, "mac", C, A), world.a)
    word = b"\x88\x70" if length is None else length.to_bytes(2, "big")  # None: jumbo
    vlan = bytes.fromhex("8100e000")

    for tag in (b"", vlan):
        assert world.bench.compare(0, C + A + tag + word + llc).reason == "llc_carries_ip"
    tunneled = vxlan_frame(A + C + word + llc, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    assert world.bench.compare(2, tunneled).reason == "llc_carries_ip"


@pytest.mark.parametrize("llc", ["424203000000000000", "aaaa0300000c2000", "aaaa0300000088cc", "aa", "0303"])
def test_other_llc_frames_are_carried_by_mac(world, llc):
    world.bench.allow(Key(world.at_a, "mac", A, C), world.c)

    assert world.bench.compare(0, C + A + b"\x00\x26" + bytes.fromhex(llc)).how == "forwarded"


def test_arp_replies_and_announcements_are_not_believed(world):
    reply = bytes(ether(A, B) / ARP(op=2, hwsrc=A, psrc=A_IP, hwdst=B, pdst=B_IP))
    assert world.bench.compare(0, reply).reason == "arp_unsolicited"
    assert world.bench.compare(0, arp_frame((A, A_IP), A_IP)).reason == "arp_unsolicited"
