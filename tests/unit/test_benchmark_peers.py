# SPDX-License-Identifier: Apache-2.0
"""Command lines of peers, and what they print, recorded from Open vSwitch 3.1.0 and dpdk-testpmd 22.11."""

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scenario import Scenario
from benchmarks.sources import eal, feed, pktgen, traffic
from benchmarks.sources.traffic import Traffic
from benchmarks.subject import Bed, CannotMeasure
from benchmarks.subjects import floor, kernel_vxlan, openvswitch, openvswitch_rules, telemetry
from benchmarks.subjects.child import cpu_seconds
from benchmarks.subjects.openvswitch_control import parse_counters

FRAMES = Path("/run/source.pcap")
BED = Bed(poll_cpu=1, other_cpus=(0,), hugepages=False, directory=Path("/run"))
WIDE = Bed(poll_cpu=5, other_cpus=(0, 2), hugepages=True, directory=Path("/run"))
NICS = Bed(3, (0,), True, Path("/run"), ports=("0000:01:00.0", "0000:01:00.1"))


def test_looping_file_is_the_source_and_a_null_port_the_sink():
    arguments = eal.wiring(BED, FRAMES).arguments()

    assert arguments == [
        "--no-pci",
        "--vdev",
        "net_pcap0,rx_pcap=/run/source.pcap,infinite_rx=1",
        "--vdev",
        "net_null0,no-rx=1",
    ]


def test_ports_replace_both():
    assert eal.wiring(NICS, FRAMES).arguments() == ["-a", "0000:01:00.0", "-a", "0000:01:00.1"]


def test_one_port_is_not_enough():
    bed = Bed(1, (0,), True, Path("/run"), ports=("0000:01:00.0",))
    with pytest.raises(ValueError, match=r"PORTS=0000:01:00\.0: name two PCI addresses"):
        eal.wiring(bed, FRAMES)


def test_memory_holds_every_frame_of_the_file():
    megabytes = int(eal.memory(False, eal.buffers(100_000))[-1])

    assert megabytes * 1_000_000 > 100_000 * 4096  # without hugepages a buffer takes a page
    assert eal.memory(True, 1) == ["--in-memory"]


def test_floor_polls_on_its_processor_and_floats_on_the_others():
    command = floor.command(WIDE, eal.wiring(WIDE, FRAMES), 1000)

    assert command[command.index("--lcores") + 1] == "0@(0,2),1@5"
    assert command[command.index("--main-lcore") + 1] == "0"
    assert "--total-num-mbufs=17384" in command[command.index("--") :]


def test_a_telemetry_socket_that_is_there_but_does_not_listen_yet_is_waited_for(tmp_path):
    path = tmp_path / "dpdk_telemetry.v2"
    assert not telemetry.listens(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as program:
        program.bind(str(path))
        assert not telemetry.listens(path)
        program.listen()

        def greet() -> None:
            with program.accept()[0] as connection:
                connection.sendall(b"{}")

        with ThreadPoolExecutor(1) as pool:
            greeted = pool.submit(greet)
            assert telemetry.listens(path)
            greeted.result()


def test_open_vswitch_is_tuned():
    options = openvswitch.options(WIDE)

    assert options["pmd-cpu-mask"] == "20"
    assert options["dpdk-lcore-mask"] == "5"
    assert options["smc-enable"] == "true"
    assert int(options["flow-limit"]) > 1_000_000
    assert options["dpdk-extra"] == "--no-pci --file-prefix=openvswitch"


def test_open_vswitch_without_hugepages_is_told_legacy_memory():
    assert openvswitch.options(BED)["dpdk-extra"].startswith("--no-huge --no-shconf -m 1")
    assert "--legacy-mem" in openvswitch.options(BED)["dpdk-extra"]


def test_open_vswitch_takes_nics():
    assert "-a 0000:01:00.0 -a 0000:01:00.1" in openvswitch.options(NICS)["dpdk-extra"]


def test_what_open_vswitch_is_not_set_up_for_is_said():
    scenario = Scenario("six", ("openvswitch",), outer="ipv6")
    with pytest.raises(CannotMeasure, match="IPv4 underlay"):
        openvswitch.OpenVSwitch().start(scenario, BED)


def test_rules_send_each_destination_to_its_tunnel():
    rules = list(openvswitch_rules.rules(Traffic(30, endpoints_there=20)))

    assert rules[0] == (
        "table=0,priority=10,in_port=1,ip,dl_src=02:02:00:00:00:00,nw_src=10.0.0.1,actions=goto_table:1"
    )
    assert rules[2 + 17] == (
        "table=1,priority=10,ip,dl_dst=02:01:00:00:00:11,nw_dst=10.128.0.18,actions="
        "set_field:100->tun_id,set_field:198.18.1.1->tun_dst,output:2"
    )
    assert len(rules) == 2 + 20


def test_rules_admit_senders_only_from_their_tunnel():
    rules = list(openvswitch_rules.rules(Traffic(30, direction="decap", endpoints_there=20)))

    assert rules[17] == (
        "table=0,priority=10,in_port=2,tun_id=100,tun_src=198.18.1.1,"
        "ip,dl_src=02:01:00:00:00:11,nw_src=10.128.0.18,actions=goto_table:1"
    )
    assert rules[20:] == [
        f"table=1,priority=10,ip,dl_dst={traffic.mac_here(n)},nw_dst=10.0.0.{n + 1},actions=output:1"
        for n in range(2)
    ]


def test_rules_per_destination_do_not_look_at_senders():
    rules = list(openvswitch_rules.rules(Traffic(30, endpoints_there=20), per_destination=True))

    assert rules[0] == "table=0,priority=10,in_port=1,actions=goto_table:1"
    assert not any("_src" in rule for rule in rules)


def test_rules_take_the_tag_of_the_members_port_off():
    sent = Traffic(30, endpoints_there=20, vlan=100)
    rules = list(openvswitch_rules.rules(sent))

    assert rules[0] == (
        "table=0,priority=10,in_port=1,dl_vlan=100,ip,dl_src=02:02:00:00:00:00,nw_src=10.0.0.1,"
        "actions=pop_vlan,goto_table:1"
    )
    assert rules[2:] == list(openvswitch_rules.rules(replace(sent, vlan=0)))[2:]
    assert next(openvswitch_rules.rules(sent, per_destination=True)) == (
        "table=0,priority=10,in_port=1,dl_vlan=100,actions=pop_vlan,goto_table:1"
    )


def test_rules_put_the_tag_of_the_members_port_on():
    sent = Traffic(30, direction="decap", endpoints_there=20, vlan=100)
    rules = list(openvswitch_rules.rules(sent))

    assert rules[:20] == list(openvswitch_rules.rules(replace(sent, vlan=0)))[:20]
    assert rules[20] == (
        "table=1,priority=10,ip,dl_dst=02:02:00:00:00:00,nw_dst=10.0.0.1,"
        "actions=push_vlan:0x8100,set_field:4196->vlan_vid,output:1"
    )


def test_rules_for_ipv6_members():
    rules = list(openvswitch_rules.rules(Traffic(1, 66, family=6)))

    assert "ipv6,dl_src=02:02:00:00:00:00,ipv6_src=2001:db8:a::a00:1" in rules[0]
    assert "ipv6,dl_dst=02:01:00:00:00:00,ipv6_dst=2001:db8:a::a80:1" in rules[1]


DPCTL_SHOW = """netdev@ovs-netdev:
  lookups: hit:6107329 missed:100001 lost:1924
  flows: 100001
  port 0: ovs-netdev (tap)
    RX packets:0 errors:0 dropped:0 overruns:0 frame:0
    TX packets:0 errors:0 dropped:0 aborted:0 carrier:0
    collisions:0
    RX bytes:0  TX bytes:0
  port 1: vxlan_sys_4789 (vxlan: packet_type=ptap)
    RX packets:0 errors:? dropped:? overruns:? frame:?
    TX packets:0 errors:? dropped:? aborted:? carrier:?
    collisions:?
    RX bytes:0  TX bytes:0
  port 4: member (dpdk: configured_rx_queues=1, configured_rxq_descriptors=2048, mtu=1500)
    RX packets:6209440 errors:0 dropped:0 overruns:? frame:?
    TX packets:0 errors:0 dropped:0 aborted:? carrier:?
    collisions:?
    RX bytes:372566400 (355.3 MiB)  TX bytes:0
  port 5: uplink (dpdk: configured_rx_queues=1, configured_rxq_descriptors=2048, mtu=1600)
    RX packets:0 errors:0 dropped:0 overruns:? frame:?
    TX packets:6207437 errors:0 dropped:79 aborted:? carrier:?
    collisions:?
    RX bytes:0  TX bytes:682818070 (651.2 MiB)
"""


def test_counters_of_open_vswitch():
    counters = parse_counters(DPCTL_SHOW)

    assert (counters.flows, counters.hit, counters.missed, counters.lost) == (100001, 6107329, 100001, 1924)
    assert counters.received["member"] == 6209440
    assert counters.sent["uplink"] == 6207437
    assert counters.unsent["uplink"] == 79


def test_other_text_is_no_counters():
    with pytest.raises(ValueError, match="no counters of a datapath"):
        parse_counters("no datapaths exist\n")


def test_processor_time_of_a_process_with_brackets_in_its_name():
    line = "7 (pmd-c01/id:8 (x)) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0 1 2 3"
    assert cpu_seconds(line) == pytest.approx(3.0)  # 100 ticks a second on x86


PROC_NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0
 entry: 26432760  440546    0    2    0     0          0         0        0       0    0    0    0     0
inject:       0       0    0    0    0     0          0         0 26432760  440546    0    1    0     0
  sink: 48460170  440547    0 440547    0     0          0         0        0       0    0    0    0     0
tunnel:       0       0    0    0    0     0          0         0 20265208  440548    4    0    0     0
"""


def test_packets_at_the_kernels_sink_and_losses_elsewhere():
    assert kernel_vxlan.parse_devices(PROC_NET_DEV) == (440547, 2 + 1 + 4)


def test_kernel_gets_an_entry_for_each_destination():
    lines = list(kernel_vxlan.forwarding(Traffic(30, endpoints_there=20)))

    assert "fdb add 02:01:00:00:00:11 dev tunnel dst 198.18.1.1 self static" in lines
    assert len(lines) == 2 * 20


def test_kernel_is_not_measured_with_ports():
    with pytest.raises(CannotMeasure, match="PORTS="):
        kernel_vxlan.KernelVxlan().start(Scenario("one", ("kernel-vxlan",)), NICS)


@pytest.mark.parametrize("subject", [openvswitch.OpenVSwitch(), kernel_vxlan.KernelVxlan()])
def test_who_has_one_next_hop_a_tunnel_is_not_measured_with_several(subject):
    with pytest.raises(CannotMeasure, match=r"one route|on the link"):
        subject.start(Scenario("one", ("openvswitch",), hops=2), BED)


def test_kernel_is_not_measured_with_vlans():
    with pytest.raises(CannotMeasure, match="knows no VLANs"):
        kernel_vxlan.KernelVxlan().start(Scenario("one", ("kernel-vxlan",), vlan=100), BED)


def test_source_process_polls_beside_the_subject_not_on_its_processor():
    command = feed.testpmd_command(WIDE, FRAMES, 1000, Path("/run/memif.sock"))

    assert command[command.index("--lcores") + 1] == "0@(0,2),1@2"
    assert (
        "net_memif0,role=server,id=0,socket=/run/memif.sock,socket-abstract=no,bsize=2048,rsize=10" in command
    )


def test_missing_source_program_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(CannotMeasure, match="source pktgen is not installed"),
        feed.fed("pktgen", BED, tmp_path, FRAMES, 1),
    ):
        pass


def test_ports_have_no_source_process(tmp_path):
    with feed.fed("testpmd", NICS, tmp_path, FRAMES, 1) as fed:
        assert fed.process is None
        assert fed.wiring.arguments() == ["-a", "0000:01:00.0", "-a", "0000:01:00.1"]


def test_pktgen_and_the_subject_meet_at_a_socket_that_pktgen_offers():
    socket = Path("/run/virtio.sock")

    assert feed.virtio(socket) == "net_virtio_user0,path=/run/virtio.sock,server=1,queue_size=1024"
    assert feed.vhost(socket) == "net_vhost0,iface=/run/virtio.sock,client=1"


def test_pktgen_is_asked_for_packets_when_the_subject_is_there():
    asked = []

    class Recorder(pktgen.Pktgen):
        def connect(self, child):
            asked.append(child)

        def start(self, rate_percent=100.0):
            asked.append("start")

    one = Recorder(BED, Path("/run"), FRAMES, feed.virtio(Path("/run/virtio.sock")))
    source = feed.Feed(eal.Wiring(feed.vhost(Path("/run/virtio.sock"))), "process", one)
    assert asked == []
    source.begin()
    assert asked == ["process", "start"]
    feed.Feed(eal.wiring(BED, FRAMES)).begin()  # a file has nothing to be asked for


def test_pktgen_sends_the_file_by_its_only_port():
    one = pktgen.Pktgen(BED, Path("/run"), FRAMES, feed.virtio(Path("/run/virtio.sock")))
    own = one.command()[one.command().index("--") :]

    assert own[own.index("-m") + 1] == "1.0"
    assert own[own.index("-s") + 1] == "0:/run/source.pcap"
    assert own[own.index("-g") + 1].startswith("127.0.0.1:")


PKTGEN_STATISTICS = "rate.pkts_tx 442880\nport.opackets 568832\nlatency.avg_us 0.0\ntx_failed 0"


def test_statistics_of_pktgen():
    numbers = pktgen.parse(PKTGEN_STATISTICS)

    assert numbers == {
        "rate.pkts_tx": 442880,
        "port.opackets": 568832,
        "latency.avg_us": 0.0,
        "tx_failed": 0,
    }


def test_lua_error_of_pktgen_is_raised():
    with pytest.raises(RuntimeError, match="attempt to call a nil value"):
        pktgen.parse("error stdin:1: attempt to call a nil value")


def test_question_to_pktgen_is_one_line():
    line = pktgen.question('pktgen.start("0")', Path("/run/answer"))

    assert line.count("\n") == 1
    assert line.index('io.open("/run/answer.new"') < line.index('os.rename("/run/answer.new", "/run/answer")')
