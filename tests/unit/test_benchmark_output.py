# SPDX-License-Identifier: Apache-2.0
"""The judge of what came out: scapy builds right output, one thing in it is made wrong."""

from dataclasses import replace

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN

from benchmarks.sources import traffic
from benchmarks.sources.output import Judge, first
from benchmarks.sources.traffic import Traffic
from benchmarks.subject import WrongOutput

SENT = Traffic(40, endpoints_there=40)


def inner_frames(sent: Traffic) -> list[bytes]:
    return [row.tobytes() for _, rows in traffic.frames(sent) for row in rows]


def encapsulated(inner: bytes) -> Ether:
    there = int(Ether(inner)[IP].dst.rpartition(".")[2]) - 1
    return (
        Ether(dst=f"02:00:00:00:01:{there % 16:02x}", src="02:00:00:00:00:f1")
        / IP(src="198.18.0.1", dst=f"198.18.1.{there % 16}", flags="DF")
        / UDP(sport=50000, dport=4789, chksum=0)
        / VXLAN(vni=100, flags="Instance")
        / inner
    )


def test_right_packets_pass():
    Judge(SENT).check([bytes(encapsulated(frame)) for frame in inner_frames(SENT)])


def wrong(what: str, packet: Ether) -> Ether:
    if what == "VNI":
        packet[VXLAN].vni = 101
    elif what == "VNI flag":
        packet[VXLAN].flags = 0
    elif what == "destination":
        packet[IP].dst = "198.18.1.99"
    elif what == "source":
        packet[IP].src = "198.18.0.2"
    elif what == "IP checksum":
        packet[IP].chksum = 1
    elif what == "IP length":
        packet[IP].len = 80
    elif what == "UDP length":
        packet[UDP].len = 70
    elif what == "UDP port":
        packet[UDP].dport = 4790
    elif what == "next hop":
        packet.dst = "02:00:00:00:01:ff"
    return packet


@pytest.mark.parametrize(
    "what",
    [
        "VNI",
        "VNI flag",
        "destination",
        "source",
        "IP checksum",
        "IP length",
        "UDP length",
        "UDP port",
        "next hop",
    ],
)
def test_wrong_header_is_named(what):
    frame = bytes(wrong(what, encapsulated(inner_frames(SENT)[0])))
    with pytest.raises(WrongOutput, match=f"packet 0: {what} "):
        Judge(SENT).check([frame])


def test_what_is_no_vxlan_is_said():
    packet = encapsulated(inner_frames(SENT)[0])
    packet[UDP].remove_payload()
    frame = bytes(packet / bytes(8) / inner_frames(SENT)[0])
    frame = frame[:23] + b"\x06" + frame[24:]  # TCP
    with pytest.raises(WrongOutput, match="no VXLAN packet"):
        Judge(SENT).check([frame])


def test_changed_byte_of_a_member_is_found():
    frame = bytearray(bytes(encapsulated(inner_frames(SENT)[0])))
    frame[-1] ^= 1
    with pytest.raises(WrongOutput, match="no frame of a member"):
        Judge(SENT).check([bytes(frame)])


def test_decapsulated_packets_are_the_members_own():
    sent = Traffic(40, direction="decap")
    frames = inner_frames(sent)

    Judge(sent).check([frame[50:] for frame in frames])
    with pytest.raises(WrongOutput, match="no frame of a member"):
        Judge(sent).check(frames)


def test_packets_leave_to_each_of_several_next_hops():
    packets = [encapsulated(frame) for frame in inner_frames(SENT)]
    sent = replace(SENT, hops=2)
    for number, packet in enumerate(packets):
        packet.dst = traffic.hop_mac(number % 2)

    Judge(sent).check([bytes(packet) for packet in packets])
    with pytest.raises(WrongOutput, match="packets leave to 1 of 2 next hops"):
        Judge(sent).check([bytes(packet) for packet in packets[::2]])
    with pytest.raises(WrongOutput, match="packet 0: next hop 02:00:00:00:02:00, should be 02:00:00:00:01:"):
        Judge(SENT).check([bytes(packet) for packet in packets])


TAGGED = Traffic(40, direction="decap", vlan=100)


def tagged(frame: bytes, vlan: int = 100, priority: int = 0) -> bytes:
    plain = Ether(frame)
    head = Ether(src=plain.src, dst=plain.dst, type=0x8100) / Dot1Q(vlan=vlan, prio=priority, type=0x0800)
    return bytes(head / bytes(plain.payload))


def test_decapsulated_packets_have_the_tag_of_their_members_port():
    frames = [frame[50:] for frame in inner_frames(TAGGED)]

    Judge(TAGGED).check([tagged(frame) for frame in frames])
    for wrong_frame, said in (
        (frames[0], "packet 0: VLAN none, should be 100"),
        (tagged(frames[0], 101), "packet 0: VLAN 101, should be 100"),
        (tagged(tagged(frames[0])), "no frame of a member"),
        (tagged(frames[0], priority=5), "no frame of a member"),
    ):
        with pytest.raises(WrongOutput, match=said):
            Judge(TAGGED).check([wrong_frame])


def test_a_tag_of_a_members_port_does_not_leave_in_a_tunnel():
    sent = Traffic(40, endpoints_there=40, vlan=100)
    packets = [encapsulated(frame) for frame in inner_frames(SENT)]

    Judge(sent).check([bytes(packet) for packet in packets])
    with pytest.raises(WrongOutput, match="packet 0: VLAN 100, should be none"):
        Judge(sent).check([bytes(encapsulated(inner_frames(sent)[0]))])


def test_a_tag_at_a_port_without_vlans_is_found():
    sent = Traffic(40, direction="decap")
    with pytest.raises(WrongOutput, match="packet 0: VLAN 100, should be none"):
        Judge(sent).check([tagged(inner_frames(sent)[0][50:])])


def test_nothing_is_not_right():
    with pytest.raises(WrongOutput, match="0 packets were captured, at least 3"):
        Judge(SENT).check([], at_least=3)


def test_first_takes_no_more_than_there_are():
    assert first([b"a", b"b"], 1) == [b"a"]
    assert first([b"a"], 5) == [b"a"]
