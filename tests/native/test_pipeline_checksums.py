# SPDX-License-Identifier: Apache-2.0
"""Checksums that a local sender leaves to its device, in tunnels of its own too."""

from __future__ import annotations

import pytest
from frames import (
    GRE,
    IP,
    SCTP,
    TCP,
    UDP,
    VXLAN,
    Dot1Q,
    Ether,
    Raw,
    SCTPChunkData,
    assert_valid,
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
    World,
    key,
)

from model_checksums import checksum


@pytest.mark.parametrize("port", [0, 2])
def test_partial_checksums_are_completed(make_bench, port):
    world = World(make_bench, partial=True)
    for ingress in (world.at_a, world.near):
        world.bench.allow(key(ingress, A_IP, B_IP), world.b)
    for protocol in ("udp", "tcp"):
        for payload in (b"", b"x", b"odd", b"even", bytes(range(200))):
            whole = udp_frame((A, A_IP), (B, B_IP), protocol=protocol, payload=payload)
            at = 14 + 20 + (6 if protocol == "udp" else 16)
            packet = IP(whole[14:])
            length = len(packet[IP].payload)
            pseudo = sum(whole[14 + i] << 8 | whole[15 + i] for i in range(12, 20, 2)) + packet.proto + length
            while pseudo > 0xFFFF:
                pseudo = (pseudo & 0xFFFF) + (pseudo >> 16)
            frame = whole[:at] + pseudo.to_bytes(2, "big") + whole[at + 2 :]
            if port == 2:
                frame = vxlan_frame(frame, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
            outcome = world.bench.compare(port, frame)
            assert assert_valid(outcome.sent[0].frame)[IP].payload == packet.payload


def left_partial(layer) -> bytes:
    """An IPv4 packet as a kernel leaves it: the innermost checksum to be completed, those around it as if it
    were; an SCTP checksum 0."""
    whole = bytes(layer)
    inner = layer.copy().getlayer(IP, layer.layers().count(IP))
    at = whole.rindex(bytes(inner))
    l4 = at + inner.ihl * 4 if inner.ihl else at + 20
    if inner.proto == 132:
        return whole[: l4 + 8] + bytes(4) + whole[l4 + 12 :]
    pseudo = whole[at + 12 : at + 20] + bytes([0, whole[at + 9]]) + (len(whole) - l4).to_bytes(2, "big")
    field = l4 + (16 if whole[at + 9] == 6 else 6)
    return whole[:field] + (~checksum(pseudo) & 0xFFFF).to_bytes(2, "big") + whole[field + 2 :]


INSIDE = IP(src="10.9.0.1", dst="10.9.0.2")
OUTSIDE = IP(src=A_IP, dst=C_IP)
PLAIN_VXLAN = Raw(bytes.fromhex("0800000000000500"))
GENEVE = Raw(bytes.fromhex("0200655800000500") + bytes(8))
INNER_TCP = INSIDE / TCP(sport=1, dport=2) / Raw(b"odd")


@pytest.mark.parametrize(
    "sent",
    [
        OUTSIDE / TCP(sport=1, dport=2) / Raw(b"odd"),
        OUTSIDE / UDP(sport=1, dport=2) / Raw(b"odd"),
        OUTSIDE / SCTP(sport=1, dport=2) / SCTPChunkData(data=b"even"),
        OUTSIDE / INNER_TCP,
        OUTSIDE / GRE() / INNER_TCP,
        OUTSIDE / GRE(key_present=1, key=7, seqnum_present=1) / Ether() / INNER_TCP,
        OUTSIDE / UDP(sport=1, dport=4790) / VXLAN(vni=5) / Ether() / INNER_TCP,
        OUTSIDE / UDP(sport=1, dport=4790) / VXLAN(vni=5) / INNER_TCP,
        OUTSIDE / UDP(sport=1, dport=4790) / PLAIN_VXLAN / Ether() / INNER_TCP,
        OUTSIDE / UDP(sport=1, dport=4790, chksum=0) / VXLAN(vni=5) / Ether() / Dot1Q(vlan=3) / INNER_TCP,
        OUTSIDE
        / UDP(sport=1, dport=4790)
        / VXLAN(vni=5)
        / Ether()
        / INSIDE
        / SCTP()
        / SCTPChunkData(data=b"1"),
        OUTSIDE / UDP(sport=1, dport=6081) / GENEVE / Ether() / INNER_TCP,
        OUTSIDE / INSIDE / UDP(sport=1, dport=4790) / VXLAN(vni=5) / Ether() / INNER_TCP,
    ],
    ids=lambda layer: layer.summary(),
)
def test_checksums_are_completed_in_tunnels_of_the_senders_own(make_bench, sent):
    world = World(make_bench, partial=True)
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    partial = left_partial(sent)
    assert partial != bytes(sent)

    outcome = world.bench.compare(0, C + A + b"\x08\x00" + partial)

    assert outcome.how == "forwarded"
    assert outcome.sent[0].frame.endswith(bytes(sent))
    untouched = world.bench.compare(0, C + A + b"\x08\x00" + bytes(sent))
    assert untouched.sent[0].frame.endswith(bytes(sent)), "what was complete stays"
