# SPDX-License-Identifier: Apache-2.0
"""The frames that benchmarks send, read by scapy."""

import time
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.utils import PcapReader

from benchmarks.scenario import Scenario
from benchmarks.sources import pcap_file, traffic
from benchmarks.sources.traffic import Traffic


def packets(tmp_path: Path, sent: Traffic) -> list[Ether]:
    path = tmp_path / "frames.pcap"
    pcap_file.write(path, traffic.frames(sent))
    with PcapReader(str(path)) as reader:
        return list(reader)


def rebuilt(packet: Ether) -> bytes:
    """The packet with lengths and checksums that scapy computes."""
    again = Ether(bytes(packet))
    for layer in (IP, IPv6, UDP):
        for part in filter(None, (again.getlayer(layer, nb=nb) for nb in (1, 2))):
            if layer is UDP and part.dport == traffic.VXLAN_PORT:
                continue  # RFC 7348: zero
            for name in ("chksum", "len", "plen"):
                part.delfieldval(name) if name in part.fields else None
    return bytes(again)


@pytest.mark.parametrize("direction", ["encap", "decap"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("frame_bytes", [66, 129, 1518, 0])
def test_lengths_and_checksums_are_what_scapy_computes(tmp_path, direction, family, frame_bytes):
    for packet in packets(tmp_path, Traffic(50, frame_bytes, direction, family, endpoints_there=20)):
        assert rebuilt(packet) == bytes(packet)


def test_every_pair_of_members_comes_once(tmp_path):
    sent = Traffic(45, endpoints_there=20)

    got = [(packet[IP].src, packet[IP].dst, packet.src, packet.dst) for packet in packets(tmp_path, sent)]

    assert sent.there == 20
    assert sent.here == 3
    assert sorted(got) == sorted(
        (
            f"10.0.0.{1 + i // 20}",
            f"10.128.0.{1 + i % 20}",
            traffic.mac_here(i // 20),
            traffic.mac_there(i % 20),
        )
        for i in range(45)
    )
    assert got != sorted(got)


def test_answers_come_from_the_tunnel_of_their_sender(tmp_path):
    for packet in packets(tmp_path, Traffic(45, direction="decap", endpoints_there=20)):
        there = int(packet[VXLAN][IP].src.rsplit(".")[-1]) - 1
        assert packet[IP].src == f"192.0.2.{16 + there % 16}"
        assert packet[IP].dst == "192.0.2.1"
        assert packet[VXLAN].vni == 100
        assert packet[VXLAN].flags.Instance
        assert packet[UDP].sport >= 0xC000
        assert packet[VXLAN][Ether].src == traffic.mac_there(there)


def test_imix_has_seven_four_and_one_of_twelve(tmp_path):
    lengths = [len(packet) for packet in packets(tmp_path, Traffic(120, 0))]

    assert sorted(lengths) == [60] * 70 + [590] * 40 + [1514] * 10
    assert lengths[:70] != [60] * 70


def test_one_flow_of_imix_comes_in_all_sizes(tmp_path):
    assert {len(packet) for packet in packets(tmp_path, Traffic(1, 0))} == {60, 590, 1514}


def test_scenario_says_what_is_sent():
    scenario = Scenario("one", ("floor",), direction="decap", frame_bytes="IMIX", flows=7)

    assert traffic.of(scenario) == Traffic(7, 0, "decap", 4)
    assert traffic.of(Scenario("six", ("floor",), inner="ipv6", flows=2)) == Traffic(2, 66, "encap", 6)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"flows": 0}, "0 flows"),
        ({"flows": 1, "frame_bytes": 45}, "from 46"),
        ({"flows": 1, "frame_bytes": 64, "family": 6}, "from 66"),
        ({"flows": 1, "direction": "sideways"}, "sideways"),
        ({"flows": 1, "family": 5}, "family 5"),
        ({"flows": 1, "tunnels": 201}, "201 tunnels"),
    ],
)
def test_impossible_traffic_is_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        Traffic(**wrong)


def test_file_comes_back_and_may_end_within_a_frame(tmp_path):
    path = tmp_path / "frames.pcap"
    assert pcap_file.write(path, traffic.frames(Traffic(3))) == 3
    whole = list(pcap_file.read(path))

    path.write_bytes(path.read_bytes()[:-1])

    assert [len(frame) for frame in whole] == [60, 60, 60]
    assert list(pcap_file.read(path)) == whole[:2]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "frames.pcap"
    path.write_bytes(bytes(64))
    with pytest.raises(ValueError, match="no little-endian pcap"):
        list(pcap_file.read(path))


def test_many_flows_are_made_at_once(tmp_path):
    start = time.process_time()
    pcap_file.write(tmp_path / "frames.pcap", traffic.frames(Traffic(100_000, direction="decap")))
    assert time.process_time() - start < 10  # a frame at a time takes scapy above a minute
