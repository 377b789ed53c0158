# SPDX-License-Identifier: Apache-2.0
"""The judge of what came out: scapy builds right output, one thing in it is made wrong."""

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
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
        / IP(src="192.0.2.1", dst=f"192.0.2.{16 + there % 16}", flags="DF")
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
        packet[IP].dst = "192.0.2.99"
    elif what == "source":
        packet[IP].src = "192.0.2.2"
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


def test_nothing_is_not_right():
    with pytest.raises(WrongOutput, match="0 packets were captured, at least 3"):
        Judge(SENT).check([], at_least=3)


def test_first_takes_no_more_than_there_are():
    assert first([b"a", b"b"], 1) == [b"a"]
    assert first([b"a"], 5) == [b"a"]
