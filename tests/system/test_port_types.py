# SPDX-License-Identifier: Apache-2.0
"""Every kind of port that needs no hardware: a frame in is decided and leaves, one comes back, malformed ones
are counted by name, and the process survives. memif's other end is dpdk-testpmd in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))

from data_plane_bed import Bed, Wire, make_bed, until  # noqa: F401
from installing import RED
from test_data_plane_ports import (
    EXCEPTION,
    FAR,
    HOST,
    NODE,
    PEER,
    RACK,
    SERVER,
    decide,
    exception_tap,  # noqa: F401
    frame,
    is_inner,
    is_vxlan,
    run,
    set_up,
)

from fastpath.records import Action

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: veth, AF_PACKET, AF_XDP"),
]

PORT, HOST_SIDE, INNER, OUTER = "vgpt-port", "vgpt-host", "vgpt-in", "vgpt-out"
MEMIF_PEER = (
    "dpdk-testpmd --no-huge --no-shconf --no-pci --no-telemetry -m 128 --lcores 0,1 --file-prefix=vgpt-{pid} "
    "--vdev net_memif0,role=client,id=7,secret=vnet,socket-abstract=no,socket={socket} "
    "--vdev net_pcap0,iface={interface} -- --forward-mode=io --total-num-mbufs=4096 --no-mlockall"
)


@pytest.fixture
def devices() -> Iterator[None]:
    """A veth pair for the port, one for the underlay, without an IP stack's chatter."""
    try:
        for near, far in ((PORT, HOST_SIDE), (INNER, OUTER)):
            run("ip", "link", "add", near, "type", "veth", "peer", "name", far)
            for name in (near, far):
                Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
                run("ip", "link", "set", name, "up")
        yield
    finally:
        for name in (PORT, INNER):
            subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)


@contextlib.contextmanager
def memif_peer(path: Path, interface: str) -> Iterator[None]:
    """A process that carries frames between an interface and a memif."""
    if shutil.which("dpdk-testpmd") is None:
        pytest.skip("no dpdk-testpmd, the other end of a memif: apt install dpdk")
    command = MEMIF_PEER.format(pid=os.getpid(), socket=path, interface=interface).split()
    with open(path.with_suffix(".log"), "wb") as log:
        peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        until(lambda: is_forwarding(peer.pid), "the peer forwards")
        yield
    finally:
        peer.kill()
        peer.communicate()


def is_forwarding(pid: int) -> bool:
    """Say whether a testpmd's worker has left its pipe and spins."""
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            name, rest = task.read_text().split("(", 1)[1].rsplit(")", 1)
            if "worker" in name and int(rest.split()[11]) >= 2:  # utime, in ticks
                return True
    return False


def malformed() -> dict[str, bytes]:
    """A frame for each reason, made by hand: scapy would put it right."""
    good = frame()
    return {
        "frame_truncated": good[:20],
        "ip_bad_version": good[:14] + b"\x65" + good[15:],
        "ip_bad_checksum": good[:24] + b"\xff\xff" + good[26:],
        "ip_bad_length": good[:-20],
        "bad_source_mac": good[:6] + b"\x01" + good[7:],
    }


def dropped(bed: Bed) -> dict[str, int]:
    rows = bed.ask(dump="counters")["drops"]
    return {
        name: sum(r["packets"] for r in rows if r["reason"] == name) for name in {r["reason"] for r in rows}
    }


def check_both_ways(bed: Bed, inside: Wire, outside: Wire) -> None:
    """A frame goes into a tunnel, one comes out, malformed ones are named, and it still goes on."""
    with bed.client("slow-path") as slow_path:
        set_up(bed, slow_path)
        until(lambda: bed.ask(dump="ports")["rows"][0]["up"], "the port is up")
        inside.send(frame())
        decide(slow_path, Action.ENCAPSULATE, FAR, RACK)
        data = outside.receive(is_vxlan)
        assert data is not None
        assert bytes(Ether(data)[VXLAN].payload) == frame()
        mac = bed.ask(dump="ports")["rows"][1]["mac"]
        outer = Ether(src="02:00:00:00:00:99", dst=mac) / IP(src="192.0.2.2", dst="192.0.2.1", id=0)
        outside.send(bytes(outer / UDP(sport=50000, dport=4789) / VXLAN(vni=RED) / frame(PEER, HOST)))
        decide(slow_path, Action.DELIVER, SERVER, NODE)
        assert inside.receive(is_inner) == frame(PEER, HOST)
        assert dropped(bed) == {}

        for bad in malformed().values():
            inside.send(bad)
        until(lambda: sum(dropped(bed).values()) == len(malformed()), "all malformed frames are counted")
        assert dropped(bed) == dict.fromkeys(malformed(), 1)
        inside.send(frame(number=7))
        assert outside.receive(lambda d: is_vxlan(d) and d.endswith(bytes([7]))) is not None
    rack = bed.ask(dump="ports")["rows"][0]
    assert (rack["rx_packets"], rack["tx_packets"]) == (2 + len(malformed()), 1)
    assert bed.processes[0].poll() is None


@pytest.mark.parametrize("device", ["net_af_packet0,iface={}", "net_af_xdp0,iface={}", "net_pcap0,iface={}"])
def test_port_on_an_interface_carries_frames_both_ways(devices: None, make_bed, device: str) -> None:  # noqa: F811
    ports = {
        "rack": (device.format(PORT), "inside"),
        "uplink": (f"net_af_packet1,iface={INNER}", "underlay"),
    }
    bed = make_bed(ports)
    bed.start()
    bed.client().close()
    with contextlib.closing(Wire(HOST_SIDE)) as inside, contextlib.closing(Wire(OUTER)) as outside:
        check_both_ways(bed, inside, outside)


def test_underlay_by_af_xdp_carries_tunnels_both_ways(devices: None, make_bed) -> None:  # noqa: F811
    ports = {
        "rack": (f"net_af_packet1,iface={PORT}", "inside"),
        "uplink": (f"net_af_xdp0,iface={INNER}", "underlay"),
    }
    bed = make_bed(ports)
    bed.start()
    bed.client().close()
    with contextlib.closing(Wire(HOST_SIDE)) as inside, contextlib.closing(Wire(OUTER)) as outside:
        check_both_ways(bed, inside, outside)


def test_memif_carries_frames_between_two_processes(devices: None, make_bed, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "memif.sock"
    ports = {
        "rack": (f"net_memif0,role=server,id=7,secret=vnet,socket-abstract=no,socket={path}", "inside"),
        "uplink": (f"net_af_packet0,iface={INNER}", "underlay"),
    }
    bed = make_bed(ports)
    bed.start()
    assert bed.ask(dump="ports")["rows"][0]["up"] is False, "nobody is at the other end"
    with contextlib.closing(Wire(HOST_SIDE)) as inside, contextlib.closing(Wire(OUTER)) as outside:
        with memif_peer(path, PORT):
            check_both_ways(bed, inside, outside)
        until(lambda: not bed.ask(dump="ports")["rows"][0]["up"], "the port is down when the peer has died")
        received = bed.ask(dump="counters")["counters"]["received"]
        with memif_peer(path, PORT):
            until(lambda: bed.ask(dump="ports")["rows"][0]["up"], "the port is up with a new peer")
            inside.send(frame(number=9))
            assert outside.receive(lambda d: is_vxlan(d) and d.endswith(bytes([9]))) is not None
        assert bed.ask(dump="counters")["counters"]["received"] > received


def test_ring_gives_back_what_is_sent_and_drops_malformed_frames_by_name(
    make_bed,  # noqa: F811
    exception_tap: int,  # noqa: F811
) -> None:
    bed = make_bed({"rack": ("net_null0,no-rx=1", "inside"), "uplink": ("net_ring0", "underlay")})
    bed.start()
    with bed.client("slow-path") as slow_path:
        set_up(bed, slow_path)
    with bed.client("control") as control, contextlib.closing(Wire(EXCEPTION)) as kernel:
        assert control.ask({"exception": "uplink", "index": 0}, [exception_tap])["ok"] is True
        mac = bytes.fromhex(bed.ask(dump="ports")["rows"][1]["mac"].replace(":", ""))
        outer = Ether(src=PEER) / IP(src="192.0.2.77", dst="192.0.2.1", id=0)
        bad_vni = mac + bytes(outer / UDP(dport=4789) / VXLAN(flags=0) / frame())[6:]
        stranger = mac + bytes(outer / UDP(dport=4789) / VXLAN(vni=RED) / frame())[6:]
        for data in (bad_vni, stranger, b"\x02" + bytes(5) + stranger[6:]):
            kernel.send(data)
        wanted = {"tunnel_malformed": 1, "unknown_vtep": 1, "not_for_this_mac": 1}
        until(lambda: sum(dropped(bed).values()) == len(wanted), "all came round and were counted")
        assert dropped(bed) == wanted
        uplink = bed.ask(dump="ports")["rows"][1]
        assert (uplink["rx_packets"], uplink["tx_packets"]) == (3, 3)
    assert bed.processes[0].poll() is None


def test_null_port_that_never_stops_receiving_leaves_room_for_everything_else(make_bed) -> None:  # noqa: F811
    bed = make_bed({"rack": ("net_null0", "inside"), "uplink": ("net_null1,no-rx=1", "underlay")})
    bed.start()

    until(lambda: dropped(bed).get("no_attachment", 0) > 100_000, "frames are received and dropped")

    assert set(dropped(bed)) == {"no_attachment"}
    bed.processes[0].terminate()
    assert bed.processes[0].wait(60) == 0
