# SPDX-License-Identifier: Apache-2.0
"""A port that shares its interface with Linux: only the gateway answers there. In a network namespace, with
the gateway's address on an interface beside the port, as the exception interface has it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_plane_bed import Bed, Wire, make_bed, until  # noqa: F401
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, veth"),
]

NAMESPACE, PORT, OUTSIDE, BESIDE = "vgks", "vgks-in", "vgks-out", "vgks-ex"
PEER, LOCATOR = "02:00:00:00:00:22", "192.0.2.1"


def inside(*command: str) -> str:
    return subprocess.run(
        ["ip", "netns", "exec", NAMESPACE, *command], check=True, capture_output=True, text=True
    ).stdout


def udp_no_ports() -> int:
    """How many UDP packets Linux in the namespace took for itself and refused with port-unreachable."""
    names, values = (line.split() for line in inside("cat", "/proc/net/snmp").splitlines() if "Udp:" in line)
    return int(values[names.index("NoPorts")])


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace with a port's interface; yields that one's MAC. Its other end is outside."""
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        subprocess.run(
            ["ip", "link", "add", OUTSIDE, "type", "veth", "peer", "name", PORT, "netns", NAMESPACE],
            check=True,
        )
        Path(f"/proc/sys/net/ipv6/conf/{OUTSIDE}/disable_ipv6").write_text("1")
        inside("ip", "tuntap", "add", BESIDE, "mode", "tap")
        inside("ip", "address", "add", f"{LOCATOR}/24", "dev", BESIDE)
        for name in (BESIDE, PORT):
            inside("ip", "link", "set", name, "up")
        for name in ("all", PORT):
            inside("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0")
        subprocess.run(["ip", "link", "set", OUTSIDE, "up"], check=True)
        yield inside("cat", f"/sys/class/net/{PORT}/address").strip()
    finally:
        subprocess.run(["ip", "link", "del", OUTSIDE], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False)


def start_inside(bed: Bed) -> None:
    """Start a data plane in the namespace and wait until it serves."""
    program = [sys.executable, "-m", "gateway.main", "data-plane", "--instance", "0", str(bed.file)]
    bed.start(command=["ip", "netns", "exec", NAMESPACE, *program])
    bed.client().close()


def arp() -> bytes:
    return bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=PEER) / ARP(psrc="192.0.2.2", pdst=LOCATOR, hwsrc=PEER))


def vxlan(mac: str) -> bytes:
    return bytes(
        Ether(dst=mac, src=PEER)
        / IP(src="192.0.2.2", dst=LOCATOR)
        / UDP(sport=50000, dport=4789)
        / VXLAN(vni=7)
        / Ether()
    )


def is_arp_answer(data: bytes) -> bool:
    packet = Ether(data)
    return ARP in packet and packet[ARP].op == 2


@pytest.mark.parametrize("driver", ["net_af_packet0", "net_af_xdp0"])
def test_only_the_gateway_answers_on_its_port(namespace: str, make_bed, driver: str) -> None:  # noqa: F811
    bed = make_bed(
        {"rack": ("net_null0,no-rx=1", "inside"), "uplink": (f"{driver},iface={PORT}", "underlay")}
    )
    with contextlib.closing(Wire(OUTSIDE)) as wire:
        wire.send(arp())
        assert wire.receive(is_arp_answer) is not None, "Linux by itself answers for any of its addresses"
        wire.send(vxlan(namespace))
        until(lambda: udp_no_ports() == 1, "Linux by itself refuses VXLAN")

        start_inside(bed)
        before = bed.ask(dump="counters")["counters"]["received"]
        for _ in range(5):
            wire.send(vxlan(namespace))
            wire.send(arp())
        until(
            lambda: bed.ask(dump="counters")["counters"]["received"] >= before + 10,
            "the gateway has all of them",
        )
        # The kernel handles a frame before it hands it to a socket's reader: had it answered, it would have.
        assert wire.receive(is_arp_answer, 0.3) is None
        assert udp_no_ports() == 1
        assert inside("sysctl", "-n", f"net.ipv4.conf.{PORT}.arp_ignore").strip() == "8"


def test_interface_with_addresses_of_its_own_is_left_alone_aloud(namespace: str, make_bed) -> None:  # noqa: F811
    inside("ip", "address", "add", "198.51.100.1/24", "dev", PORT)
    bed = make_bed(
        {"rack": ("net_null0,no-rx=1", "inside"), "uplink": (f"net_af_packet0,iface={PORT}", "underlay")}
    )
    start_inside(bed)

    assert inside("sysctl", "-n", f"net.ipv4.conf.{PORT}.arp_ignore").strip() == "0"
    assert f"port uplink: interface {PORT} has addresses of its own" in bed.log()
    assert f"fix: ip addr flush dev {PORT}" in bed.log()


def test_weak_filter_of_all_interfaces_is_named(namespace: str, make_bed) -> None:  # noqa: F811
    inside("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=2")
    bed = make_bed(
        {"rack": ("net_null0,no-rx=1", "inside"), "uplink": (f"net_af_packet0,iface={PORT}", "underlay")}
    )
    start_inside(bed)

    assert "net.ipv4.conf.all.rp_filter is 2; fix: sysctl -w net.ipv4.conf.all.rp_filter=0" in bed.log()
