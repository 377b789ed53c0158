# SPDX-License-Identifier: Apache-2.0
"""VPP as a peer: what it is started and configured with, and what VPP 26.06 printed."""

from pathlib import Path

import pytest

from benchmarks.scenario import Scenario
from benchmarks.sources import eal
from benchmarks.sources.traffic import Traffic
from benchmarks.subject import Bed, CannotMeasure
from benchmarks.subjects import vpp
from benchmarks.subjects import vpp_configuration as configuration
from benchmarks.subjects.vpp_configuration import GENERATED, Ports
from benchmarks.subjects.vpp_control import parse_clocks, parse_counters

RUN = Path("/run/vpp-x")
FRAMES = RUN / "source.pcap"
BED = Bed(poll_cpu=1, other_cpus=(0,), hugepages=False, directory=Path("/run"))
WIDE = Bed(poll_cpu=5, other_cpus=(0, 2), hugepages=True, directory=Path("/run"))
NICS = Bed(3, (0,), True, Path("/run"), ports=("0000:01:00.0", "0000:01:00.1"))
PORTS = Ports("Ethernet0", "Ethernet1")


def startup(bed: Bed, wired: bool = True) -> str:
    return configuration.startup(bed, RUN, eal.wiring(bed, FRAMES) if wired else None, 1000)


def test_the_worker_has_the_poll_processor_and_main_another():
    text = startup(WIDE)

    assert "cpu { main-core 0 corelist-workers 5 }" in text
    assert "cli-listen /run/vpp-x/cli.sock" in text
    assert "buffers { buffers-per-numa 17384 page-size default-hugepage }" in text


def test_packets_come_from_the_same_devices_as_everybodys():
    (section,) = [line for line in startup(WIDE).splitlines() if line.startswith("dpdk ")]

    assert section == (
        "dpdk { no-multi-seg no-tx-checksum-offload no-pci "
        "vdev net_pcap0,rx_pcap=/run/vpp-x/source.pcap,infinite_rx=1 vdev net_null0,no-rx=1 }"
    )


def test_without_hugepages_dpdk_is_told_so():
    assert "no-hugetlb" in startup(BED)
    assert "hugepage" not in startup(BED)


def test_nics_are_named_source_and_sink():
    text = startup(NICS)

    assert "dev 0000:01:00.0 { name source } dev 0000:01:00.1 { name sink }" in text
    assert "no-pci" not in text


def test_with_the_packet_generator_dpdk_is_off():
    text = startup(WIDE, wired=False)

    assert "plugin dpdk_plugin.so { disable }" in text
    assert not any(line.startswith("dpdk ") for line in text.splitlines())


def test_packet_generator_repeats_the_file_far_beyond_the_run():
    (line,) = [one for one in configuration.generator(FRAMES) if one.startswith("packet-generator")]

    limit = int(line.split("limit ")[1].split()[0])
    assert limit > 1e8 * 3600  # packets a second for an hour
    assert f"source pg0 worker 0 limit {limit} pcap {FRAMES}" in line


def test_each_destination_is_bridged_to_its_tunnel():
    lines = list(configuration.commands(Traffic(30, endpoints_there=20), PORTS))

    assert "set interface l2 bridge Ethernet0 1" in lines
    assert "set interface ip address Ethernet1 198.18.0.1/16" in lines
    assert "create vxlan tunnel src 198.18.0.1 dst 198.18.1.1 vni 100 instance 1" in lines
    assert "set ip neighbor static Ethernet1 198.18.1.1 02:00:00:00:01:01" in lines
    assert "l2fib add 02:01:00:00:00:11 1 vxlan_tunnel1 static" in lines
    assert sum(line.startswith("l2fib") for line in lines) == 20 + 2
    assert lines[-1] == "set interface state Ethernet0 up"


def test_decapsulation_comes_in_by_the_underlay():
    lines = list(configuration.commands(Traffic(30, direction="decap", endpoints_there=20), PORTS))

    assert "set interface l2 bridge Ethernet1 1" in lines
    assert "set interface ip vxlan-bypass Ethernet0" in lines
    assert "l2fib add 02:02:00:00:00:01 1 Ethernet1 static" in lines


@pytest.mark.parametrize(("direction", "member"), [("encap", "Ethernet0"), ("decap", "Ethernet1")])
def test_members_port_shared_by_vlan_is_a_sub_interface_that_takes_the_tag_off_and_puts_it_on(
    direction, member
):
    lines = list(
        configuration.commands(Traffic(30, direction=direction, endpoints_there=20, vlan=100), PORTS)
    )

    at = lines.index(f"create sub-interfaces {member} 100")
    assert lines[at + 1 : at + 4] == [
        f"set interface l2 bridge {member}.100 1",
        f"set interface l2 tag-rewrite {member}.100 pop 1",
        f"set interface state {member}.100 up",
    ]
    assert f"set interface l2 bridge {member} 1" not in lines
    assert f"l2fib add 02:02:00:00:00:01 1 {member}.100 static" in lines
    assert f"set interface state {member} up" in lines


def test_several_next_hops_are_paths_of_one_route_to_neighbours_that_are_there():
    lines = list(configuration.commands(Traffic(30, hops=2), PORTS))

    routes = [line for line in lines if line.startswith("ip route")]
    assert routes == [
        "ip route add 198.18.1.0/24 via 198.18.2.1 Ethernet1",
        "ip route add 198.18.1.0/24 via 198.18.2.2 Ethernet1",
    ]
    assert "set ip neighbor static Ethernet1 198.18.2.2 02:00:00:00:02:01" in lines
    assert not any(line.startswith("ip route") for line in configuration.commands(Traffic(30), PORTS))


def test_generated_packets_begin_when_all_is_configured():
    lines = list(configuration.commands(Traffic(1), GENERATED))

    assert lines[-1] == "packet-generator enable-stream source"


SHOW_INTERFACE = (
    "              Name               Idx    State  MTU (L3/IP4/IP6/MPLS)     Counter          Count     \n"
    "Ethernet0                         1      up          9000/0/0/0     rx packets              38386944\n"
    "                                                                    rx bytes              2303216640\n"
    "                                                                    drops                        256\n"
    "Ethernet1                         2      up          9000/0/0/0     tx packets              38386688\n"
    "                                                                    tx bytes              4222563840\n"
    "                                                                    tx-error                       7\n"
    "local0                            0     down          0/0/0/0       \n"
    "vxlan_tunnel10                    13     up          9000/0/0/0     tx packets               2380023\n"
    "                                                                    tx bytes               228482208\n"
    "vxlan_tunnel0                     3      up          9000/0/0/0     tx packets               2418394\n"
    "                                                                    tx bytes               232165824\n"
)


def test_counters_of_interfaces():
    counters = parse_counters(SHOW_INTERFACE)

    assert list(counters.sent) == ["local0", "Ethernet0", "Ethernet1", "vxlan_tunnel0", "vxlan_tunnel10"]
    assert (counters.received["Ethernet0"], counters.sent["Ethernet0"]) == (38386944, 0)
    assert counters.sent["Ethernet1"] == 38386688
    assert counters.lost == 256 + 7


def test_other_text_is_no_counters():
    with pytest.raises(ValueError, match="no counters of interfaces"):
        parse_counters("show: unknown input `interfac'\n")


def test_the_first_two_interfaces_are_source_and_sink():
    assert vpp.dpdk_ports(parse_counters(SHOW_INTERFACE)) == PORTS


def test_nics_are_found_by_name_and_have_the_address_that_the_tester_sends_to():
    text = SHOW_INTERFACE.replace("Ethernet1  ", "source     ").replace("Ethernet0  ", "sink       ")
    ports = vpp.dpdk_ports(parse_counters(text))

    assert ports == Ports("source", "sink")
    lines = list(configuration.commands(Traffic(1, direction="decap"), ports))
    assert "set interface mac address source 02:00:00:00:00:f1" in lines


def test_a_vpp_that_took_no_ports_is_told_from_one_that_did():
    alone = parse_counters("   Name   Idx\nlocal0    0     down          0/0/0/0       \n")
    with pytest.raises(LookupError, match="among its interfaces: none"):
        vpp.dpdk_ports(alone)


SHOW_RUNTIME = """Thread 0 vpp_main (lcore 0)
Time .3, 10.000000 sec internal node vector rate 0.00 loops/sec 1773843.67
  vector rates in 0.0000e0, out 0.0000e0, drop 0.0000e0, punt 0.0000e0
             Name                 State         Calls          Vectors        Suspends      Packet-Clocks   Vectors/Call  
pg-input                       disabled                  4               0               0          4.29e3            0.00
ip4-full-reassembly-expire-wal "any wait"                0               0               6          4.29e3            0.00
---------------
Thread 1 vpp_wk_0 (lcore 1)
Time .3, 10.000000 sec internal node vector rate 256.00 loops/sec 108412.79
  vector rates in 2.7838e7, out 2.7838e7, drop 0.0000e0, punt 0.0000e0
             Name                 State         Calls          Vectors        Suspends      Packet-Clocks   Vectors/Call  
ethernet-input                   active              32851         8409856               0          4.00e0          256.00
pg-input                         polling             32851         8409856               0          1.64e1          256.00
pg1-output                       active              32851         8409856               0          2.16e0          256.00
pg1-tx                           active              32851         8409856               0          4.26e0          256.00
vxlan4-encap                     active              32851         8409856               0          2.69e1          256.00
"""  # noqa: E501, W291


def test_clocks_of_source_and_sink_are_those_of_the_thread_that_packets_passed():
    assert parse_clocks(SHOW_RUNTIME, GENERATED.own_nodes) == pytest.approx(16.4 + 4.26)


def test_a_node_that_no_packet_passed_has_no_clocks():
    with pytest.raises(ValueError, match="no packet passed pg2-tx"):
        parse_clocks(SHOW_RUNTIME, ("pg-input", "pg2-tx"))


def test_version_is_the_word_after_its_name():
    assert vpp.version("vpp v26.06-release built by root on host at 2026-11-28T02:11:50") == "v26.06-release"
    assert vpp.version("") == "unknown"


def test_missing_vpp_is_said_with_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(vpp, "USUAL_PLACE", tmp_path / "vpp")

    assert f"no vpp binary in PATH nor at {tmp_path}/vpp" in (vpp.Vpp().missing() or "")


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        (Scenario("six", ("vpp",), outer="ipv6"), "IPv4 underlay"),
        (Scenario("memif", ("vpp",), source="testpmd"), "memif"),
    ],
)
def test_what_vpp_is_not_set_up_for_is_said(scenario, why):
    with pytest.raises(CannotMeasure, match=why):
        vpp.Vpp().start(scenario, BED)
