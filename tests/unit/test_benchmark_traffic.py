# SPDX-License-Identifier: Apache-2.0
"""The frames that benchmarks send, read by scapy."""

import time
from dataclasses import replace
from functools import reduce
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from operator import truediv
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
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
@pytest.mark.parametrize("vlan", [0, 100])
def test_lengths_and_checksums_are_what_scapy_computes(tmp_path, direction, family, frame_bytes, vlan):
    sent = Traffic(50, frame_bytes, direction, family, endpoints_there=20, vlan=vlan)
    for packet in packets(tmp_path, sent):
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
        assert packet[IP].src == f"198.18.1.{there % 16}"
        assert packet[IP].dst == "198.18.0.1"
        assert packet[VXLAN].vni == 100
        assert packet[VXLAN].flags.Instance
        assert packet[UDP].sport >= 0xC000
        assert packet[VXLAN][Ether].src == traffic.mac_there(there)


def test_frames_of_members_at_a_vlan_are_those_of_others_with_a_tag(tmp_path):
    plain = packets(tmp_path, Traffic(45, endpoints_there=20))
    tagged = packets(tmp_path, Traffic(45, endpoints_there=20, vlan=4094))

    for packet, other in zip(tagged, plain, strict=True):
        wanted = Ether(src=other.src, dst=other.dst) / Dot1Q(vlan=4094) / bytes(other.payload)
        wanted[Dot1Q].type = 0x0800
        assert bytes(packet) == bytes(wanted)
        assert traffic.vlan_of(bytes(packet)) == packet[Dot1Q].vlan
        assert traffic.untagged(bytes(packet)) == bytes(other)


def test_a_tunnel_brings_no_tags(tmp_path):
    sent = Traffic(45, direction="decap", endpoints_there=20)
    assert [bytes(one) for one in packets(tmp_path, replace(sent, vlan=100))] == [
        bytes(one) for one in packets(tmp_path, sent)
    ]


@pytest.mark.parametrize("vlan", [0, 100])
def test_members_frames_come_out_tagged_at_their_port_and_untagged_in_a_tunnel(tmp_path, vlan):
    sent = Traffic(45, direction="decap", endpoints_there=20, vlan=vlan)
    tag = Dot1Q(vlan=vlan) if vlan else None
    inner = [packet[VXLAN][Ether] for packet in packets(tmp_path, sent)]
    layers = [[Ether(src=one.src, dst=one.dst), *filter(None, [tag]), one.payload] for one in inner]

    assert traffic.members_frames(sent) == {bytes(reduce(truediv, one)) for one in layers}
    encapsulated = Traffic(45, endpoints_there=20, vlan=vlan)
    assert traffic.members_frames(encapsulated) == {
        bytes(packet) for packet in packets(tmp_path, replace(encapsulated, vlan=0))
    }


def test_each_of_256_tunnels_has_an_address_and_a_next_hop_of_its_own(tmp_path):
    sent = Traffic(600, direction="decap", tunnels=256)

    sources = {(packet.src, packet[IP].src) for packet in packets(tmp_path, sent)}

    assert sources == {(traffic.tunnel_mac(n), traffic.tunnel_address(n)) for n in range(256)}
    assert len({address for _, address in sources}) == len({mac for mac, _ in sources}) == 256
    underlay = IPv4Interface(f"{traffic.LOCAL_ADDRESS}/{traffic.UNDERLAY_BITS}").network
    assert all(IPv4Address(address) in IPv4Network(traffic.TUNNELS_PREFIX) for _, address in sources)
    assert IPv4Network(traffic.TUNNELS_PREFIX).subnet_of(underlay)
    assert IPv4Address(traffic.LOCAL_ADDRESS) not in IPv4Network(traffic.TUNNELS_PREFIX)


def test_next_hops_of_a_tunnel_are_its_far_end_or_routers_that_all_share():
    alone, several = Traffic(1), Traffic(1, hops=4)

    assert traffic.next_hops(alone, 3) == ("02:00:00:00:01:03",)
    assert traffic.next_hops(several, 3) == tuple(f"02:00:00:00:02:{n:02x}" for n in range(4))
    for sent in (alone, several):
        macs = {mac for tunnel in range(sent.tunnels) for mac in traffic.next_hops(sent, tunnel)}
        assert macs <= set(traffic.neighbours(sent).values())
    assert len(traffic.neighbours(several)) == len(traffic.neighbours(alone)) + 4
    assert not any(
        IPv4Address(traffic.hop_address(n)) in IPv4Network(traffic.TUNNELS_PREFIX) for n in range(4)
    )


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
    far = Scenario("far", ("floor",), tunnels=256, vlan=7, hops=4)
    assert traffic.of(far) == Traffic(1, tunnels=256, vlan=7, hops=4)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"flows": 0}, "0 flows"),
        ({"flows": 1, "frame_bytes": 45}, "from 46"),
        ({"flows": 1, "frame_bytes": 64, "family": 6}, "from 66"),
        ({"flows": 1, "direction": "sideways"}, "sideways"),
        ({"flows": 1, "family": 5}, "family 5"),
        ({"flows": 1, "tunnels": 257}, "257 tunnels"),
        ({"flows": 1, "vlan": 4095}, "VLAN 4095"),
        ({"flows": 1, "hops": 5}, "5 next hops"),
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
