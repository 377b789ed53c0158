# SPDX-License-Identifier: Apache-2.0
"""The pipeline against the model: random tables, random and spoiled frames; all that comes of them agrees."""

from __future__ import annotations

import struct

from bench import Bench
from frames import ip, mac, vxlan_frame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import (
    BOTH_MAC,
    FAR,
    FAR_MAC,
    FOREIGN,
    FOREIGN_VNI,
    GATEWAY,
    LOCAL,
    NEAR,
    NEAR_MAC,
    OUR_MAC,
    World,
)

from model import Ended, checksum
from model_packets import Action, Key, Remote

ADDRESSES = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.4",
    "0.0.0.0",
    "127.0.0.1",
    "224.0.0.5",
    "255.255.255.255",
]
MACS = [mac(1), mac(2), mac(3), GATEWAY, bytes(6), b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x05"]
REASONS = ["no_rule", "spoofed", "denied", "unknown_destination"]
usual = st.integers(0, 9)


def mostly(first, others):
    """The first few values far more often than the rest: most packets get past the first checks."""
    return usual.flatmap(lambda n: st.sampled_from(first if n else others))


@st.composite
def ipv4(draw):
    protocol = draw(st.sampled_from([17, 6, 1, 132, 136, 47]))
    payload = bytes(draw(st.sampled_from([0, 1, 8, 20, 64, 500, 1450, 1472])))
    source_port, destination_port = draw(st.sampled_from([(1, 2), (53, 1000)]))
    if protocol == 1:
        l4 = struct.pack("!BBHI", draw(st.sampled_from([0, 3, 8, 11])), 0, 0, 0) + payload
    elif protocol == 6:
        l4 = struct.pack("!HHIIHHHH", source_port, destination_port, 1, 2, 0x5010, 100, 0, 0) + payload
    else:
        l4 = struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload
    source, destination = (ip(draw(mostly(ADDRESSES[:4], ADDRESSES))) for _ in range(2))
    if protocol in (6, 17) and draw(st.booleans()):  # left partial by a local kernel
        pseudo = ~checksum(source + destination + struct.pack("!HH", protocol, len(l4))) & 0xFFFF
        at = 16 if protocol == 6 else 6
        l4 = l4[:at] + struct.pack("!H", pseudo) + l4[at + 2 :]
    options = draw(mostly([b""], [b"\x01" * 4, b"\x01" * 40]))
    fragment = draw(mostly([0, 0x4000], [0x2000, 0x2001, 0x0001, 0x00B9, 0x1FFF, 0x3FFF, 0x4001]))
    version = draw(mostly([4], [0, 5, 6]))
    header = (
        struct.pack(
            "!BBHHHBBH4s4s",
            version << 4 | 5 + len(options) // 4,
            draw(st.sampled_from([0, 1, 2, 3, 0xB8])),
            20 + len(options) + len(l4),
            draw(st.integers(0, 3)),
            fragment,
            draw(mostly([64, 2], [0, 1, 255])),
            protocol,
            0,
            source,
            destination,
        )
        + options
    )
    if draw(usual):
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return b"\x08\x00", header + l4 + bytes(draw(mostly([0], [1, 30])))


@st.composite
def arp(draw, source):
    spa, tpa = (ip(draw(mostly(ADDRESSES[:3], ADDRESSES))) for _ in range(2))
    sha = draw(mostly([source], [mac(99)]))
    head = draw(
        mostly(
            [(1, 0x0800, 0x0604, 1)], [(1, 0x0800, 0x0604, 2), (6, 0x0800, 0x0604, 1), (1, 0x0800, 0x0604, 3)]
        )
    )
    return b"\x08\x06", struct.pack("!HHHH6s4s6s4s", *head, sha, spa, bytes(6), tpa) + bytes(
        draw(st.sampled_from([0, 18]))
    )


@st.composite
def llc(draw, payload):
    length = draw(st.sampled_from([b"\x00\x00", b"\x00\x40", b"\x05\xff", b"\x06\x00", b"\x88\x70"]))
    others = [b"\x06\x06\x03", b"\x98\x98", b"\xaa", b"\x42\x42\x03"]
    head = draw(mostly([b"\xaa\xaa\x03\0\0\0"], others))
    kind = draw(st.sampled_from([b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x81\x00", b"\x88\xcc"]))
    return length, head + kind + payload[draw(st.sampled_from([0, 8])) :]


@st.composite
def inner_frames(draw, tag=b""):
    source = draw(mostly(MACS[:3], MACS))
    kind = draw(st.sampled_from(["ip", "ip", "ip", "ip", "arp", "other"]))
    if kind == "ip":
        destination = draw(mostly(MACS[:4], MACS))
        ethertype, payload = draw(ipv4())
    elif kind == "arp":
        destination = draw(mostly([b"\xff" * 6], MACS))
        ethertype, payload = draw(arp(source))
    else:
        destination = draw(mostly(MACS[:4], MACS))
        ethertype = draw(st.sampled_from([b"\x88\xcc", b"\x86\xdd", b"\x81\x00", b"\x88\xa8", b"\x00\x40"]))
        payload = bytes(draw(st.sampled_from([0, 3, 46, 1450, 1500, 1501])))
        if draw(st.booleans()):
            ethertype, payload = draw(llc(payload))
    return destination + source + tag + ethertype + payload


@st.composite
def frames(draw):
    """(port, frame)"""
    port = draw(st.sampled_from([0, 0, 1, 1, 2, 2, 2, 3, 3]))
    vlans = {0: [0, 20], 1: [10, 12], 2: [0], 3: [5, 9]}[port]
    vlan = draw(mostly(vlans, [0, 7, 4095]))
    tag = (
        struct.pack("!HH", 0x8100, vlan | draw(st.sampled_from([0, 0xE000])))
        if vlan or not draw(usual)
        else b""
    )
    if port in (0, 1) or vlan == 5:
        frame = draw(inner_frames(tag))
    else:
        to = draw(mostly([{2: OUR_MAC, 3: BOTH_MAC}[port]], MACS))
        inner = draw(inner_frames())
        remote, source, vni, udp = draw(
            st.sampled_from(
                [
                    (NEAR, NEAR_MAC, 100, 4789),
                    (NEAR, NEAR_MAC, 200, 4789),
                    (FAR, FAR_MAC, 100, 4789),
                    (FOREIGN, FAR_MAC, FOREIGN_VNI, 8472),
                    (FOREIGN, FAR_MAC, 100, 8472),
                    (NEAR, NEAR_MAC, 100, 4790),
                ]
            )
        )
        frame = vxlan_frame(
            inner,
            (source, remote),
            (to, LOCAL),
            vni,
            udp_port=udp,
            tos=draw(st.integers(0, 3)),
            ttl=draw(mostly([64], [0, 1, 2])),
            vlan=vlan or None,
            flags=draw(mostly([8, 0xFF], [0])),
        )
    for _ in range(draw(mostly([0], [1, 2, 3]))):
        match draw(st.sampled_from(["flip", "cut", "grow"])):
            case "flip" if frame:
                at = draw(st.integers(0, min(len(frame), 120) - 1))
                frame = frame[:at] + bytes([frame[at] ^ draw(st.integers(1, 255))]) + frame[at + 1 :]
            case "cut":
                frame = frame[: draw(st.integers(0, len(frame)))]
            case "grow":
                frame += bytes(draw(st.integers(1, 100)))
    return port, frame or b"\0"


@st.composite
def decide(draw, world: World, key: Key):
    """A decision for a key: any that the installer lets through."""
    red = key.ingress.vni == 100
    places = [world.a, world.b, world.s, world.c, world.d, world.f, world.behind] if red else [world.blue_c]
    op = draw(st.sampled_from(["forward", "forward", "forward", "drop", "answer", "narrow", None]))
    if key.connection is not None and op == "narrow":
        op = "forward"
    if op is None:
        return None
    if op == "drop":
        return Action("drop", reason=draw(st.sampled_from(REASONS)))
    if op == "narrow":
        return Action("narrow")
    back = draw(st.sampled_from([None, *places]))
    there = draw(st.sampled_from(places if op == "forward" else [None, *places]))
    return Action(op, destination=there, source=back)


def key_of(bench: Bench, port: int, frame: bytes) -> Key | None:
    try:
        return bench.model.parse(port, frame).key
    except Ended:
        return None


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_native_agrees_with_the_model(data):
    made = []

    def make(*args, **kwargs):
        made.append(Bench(*args, **kwargs))
        return made[-1]

    draw = data.draw
    try:
        world = World(
            make,
            near_mtu=draw(st.sampled_from([1550, 1500, 600])),
            dscp=draw(st.sampled_from([0, 46])),
            dscp_copy=draw(st.booleans()),
            gateway=draw(mostly([GATEWAY], [bytes(6)])),
            gateway_address=draw(st.sampled_from(["10.0.0.254", "0.0.0.0"])),
            far_vlan=draw(st.sampled_from([0, 77])),
            partial=draw(st.booleans()),
            underlay_vlans=draw(mostly([None], [frozenset({0}), frozenset({9}), frozenset({0, 9})])),
            icmp_per_s=0,
            mbufs=255,
        )
        bench = world.bench
        for _ in range(draw(st.integers(1, 6))):
            port, frame = draw(frames())
            for _ in range(2):  # pair, then connection
                key = key_of(bench, port, frame)
                if key is None:
                    break
                if bench.tables.flows.get(key, Action("")).op == "narrow":
                    try:
                        packet = bench.model.parse(port, frame)
                        if not packet.is_ip:
                            break
                        key = Key(
                            key.ingress,
                            key.key_class,
                            key.source,
                            key.destination,
                            bench.model.connection(packet),
                        )
                    except Ended:
                        break
                if key in bench.tables.flows:
                    break
                action = draw(decide(world, key))
                if action is None or not bench.try_flow(key, action):
                    break
            for _ in range(draw(st.integers(1, 2))):
                outcome = bench.compare(port, frame)
            assert isinstance(outcome.how, str)
    finally:
        for bench in made:
            bench.probe.close()


def test_remote_keys_are_told_apart_by_node():
    assert Key(Remote(1, 2), "bridged", b"", b"") != Key(Remote(1, 3), "bridged", b"", b"")
