# SPDX-License-Identifier: Apache-2.0
"""Packets through a data-plane process: net_tap inside, net_af_packet outside, static decisions, scapy."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))

from data_plane_bed import Bed, Wire, make_bed, until  # noqa: F401
from installing import RED, attachment, flow, ingress, location, nexthop, tunnel, vnet

from fastpath.records import Action, RecordType, join, select
from gateway.state.delay import delay_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: TAP and veth"),
]

RACK, SERVER, FAR, TUNNEL, NODE = 100, 200, 300, 500, 9
TAP, INNER, OUTER, EXCEPTION = "vgdp-tap", "vgdp-in", "vgdp-out", "vgdp-ex"
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_MULTI_QUEUE = 0x400454CA, 0x2, 0x1000, 0x100
HOST, PEER = "02:00:00:00:00:11", "02:00:00:00:00:22"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def devices() -> Iterator[None]:
    """A persistent TAP and a veth pair, without an IP stack's chatter."""
    run("ip", "tuntap", "add", TAP, "mode", "tap", "multi_queue")
    try:
        run("ip", "link", "add", INNER, "type", "veth", "peer", "name", OUTER)
        for name in (TAP, INNER, OUTER):
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
            run("ip", "link", "set", name, "up")
        yield
    finally:
        for name in (TAP, INNER):
            subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)


@pytest.fixture
def bed(devices: None, make_bed) -> Bed:  # noqa: F811
    ports = {
        "rack": (f"net_tap0,iface={TAP}", "inside"),
        "uplink": (f"net_af_packet0,iface={INNER}", "underlay"),
    }
    bed = make_bed(ports)
    bed.start()
    return bed


@pytest.fixture
def wires(bed: Bed) -> Iterator[tuple[Wire, Wire]]:
    bed.client().close()
    with contextlib.closing(Wire(TAP)) as inside, contextlib.closing(Wire(OUTER)) as outside:
        yield inside, outside


def frame(source: str = HOST, destination: str = PEER, number: int = 0) -> bytes:
    there = source == HOST
    ends = ("10.0.0.1", "10.0.0.2") if there else ("10.0.0.2", "10.0.0.1")
    inner = IP(src=ends[0], dst=ends[1]) / UDP(sport=1000, dport=2000) / Raw(number.to_bytes(4, "big") * 10)
    return bytes(Ether(src=source, dst=destination) / inner)


def is_vxlan(data: bytes) -> bool:
    packet = Ether(data)
    return UDP in packet and packet[UDP].dport == 4789


def is_inner(data: bytes) -> bool:
    return data[6:12] == bytes.fromhex(PEER.replace(":", ""))


def set_up(bed: Bed, slow_path) -> None:
    """Red with an attachment on rack, a server behind it and one beyond a tunnel."""
    rows = [
        vnet(RED),
        attachment(RED, RACK),
        ingress(RED, NODE, "192.0.2.2"),
        tunnel(TUNNEL),
        location(RED, FAR, mac=bytes.fromhex(PEER.replace(":", ""))),
        location(RED, SERVER, kind="local", target=RACK, mac=bytes.fromhex(HOST.replace(":", ""))),
    ]
    assert slow_path.send(join(rows)) == len(rows)
    with bed.client("control") as control:
        control.send(nexthop(port=1))
        until(lambda: "up" in [r["state"] for r in bed.ask(dump="tunnels")["rows"]], "the tunnel is up")


def decide(slow_path, action: Action, destination: int, ingress_object: int):
    """Answer the next miss as a directory would; return its record."""
    rows = []
    deadline_s = time.monotonic() + 60
    while not len(rows):
        assert time.monotonic() < deadline_s, "no miss came"
        rows = select(slow_path.drain(64), RecordType.MISS)
    row = rows[0]
    answer = flow(
        RED, row["key"], ingress_object, action=action, destination=destination, token=int(row["token"]),
        lifetime_ms=600_000,
    )  # fmt: skip
    assert slow_path.send(answer) == 1
    return row


def test_first_packet_is_held_decided_and_leaves_in_vxlan(bed: Bed, wires) -> None:
    inside, outside = wires
    with bed.client("slow-path") as slow_path:
        set_up(bed, slow_path)

        inside.send(frame())
        decide(slow_path, Action.ENCAPSULATE, FAR, RACK)
        data = outside.receive(is_vxlan)

    assert data is not None
    packet = Ether(data)
    assert (packet[IP].src, packet[IP].dst, packet[VXLAN].vni) == ("192.0.2.1", "192.0.2.2", RED)
    assert bytes(packet[VXLAN].payload) == frame()
    counters = bed.ask(dump="counters")
    assert (counters["counters"]["held"], counters["counters"]["released"]) == (1, 1)
    assert counters["drops"] == []


def test_packet_out_of_a_tunnel_is_delivered_to_the_host(bed: Bed, wires) -> None:
    inside, outside = wires
    with bed.client("slow-path") as slow_path:
        set_up(bed, slow_path)
        with bed.client() as observer:
            port_mac = observer.ports[1]["mac"]
        outer = Ether(src="02:00:00:00:00:99", dst=port_mac) / IP(src="192.0.2.2", dst="192.0.2.1", id=0)
        outside.send(bytes(outer / UDP(sport=50000, dport=4789) / VXLAN(vni=RED) / frame(PEER, HOST)))
        decide(slow_path, Action.DELIVER, SERVER, NODE)
        data = inside.receive(is_inner)

    assert data == frame(PEER, HOST)


def test_first_packets_wait_less_than_five_milliseconds(bed: Bed, wires) -> None:
    inside, outside = wires
    with bed.client("slow-path") as slow_path:
        set_up(bed, slow_path)
        for i in range(1, 41):
            packet = Ether(frame())
            packet[IP].src = f"10.0.0.{i}"
            del packet[IP].chksum, packet[UDP].chksum
            inside.send(bytes(packet))
            decide(slow_path, Action.ENCAPSULATE, FAR, RACK)
            assert outside.receive(is_vxlan) is not None
    delay = delay_of(bed.ask(dump="counters"))
    assert delay.packets == 40
    median_us, longest_us = delay.percentile_us(0.5), delay.percentile_us(1.0)
    print(f"first-packet delay, median {median_us:.0f} us, longest {longest_us:.0f} us")
    assert median_us < 5000


def test_cached_flow_outlives_slow_path_and_killed_data_plane(bed: Bed, wires) -> None:
    inside, outside = wires
    with bed.client("slow-path") as slow_path:
        set_up(bed, slow_path)
        inside.send(frame())
        decide(slow_path, Action.ENCAPSULATE, FAR, RACK)
        assert outside.receive(is_vxlan) is not None
    inside.send(frame(number=1))
    assert outside.receive(is_vxlan) is not None, "the slow path's end is no end for its flows"
    bed.start(1)
    bed.wait_for_spare(1)

    bed.processes[0].send_signal(signal.SIGKILL)
    killed_s = time.monotonic()
    bed.processes[0].wait()

    def forwarded() -> bool:
        inside.send(frame(number=2))
        data = outside.receive(is_vxlan, 0.005)
        return data is not None and data.endswith((2).to_bytes(4, "big"))

    until(forwarded, "it forwards again")
    resumed_s = time.monotonic() - killed_s
    start = bed.ask(dump="counters")
    print(f"forwarded again {resumed_s * 1000:.0f} ms after the kill: {start['start']}")
    assert start["counters"]["misses"] == 0
    assert start["adoption"]["flows"] == 1


def facts(interface: str) -> tuple[str, bool, list[str]]:
    mac = Path(f"/sys/class/net/{interface}/address").read_text().strip()
    flags = int(Path(f"/sys/class/net/{interface}/flags").read_text(), 16)
    addresses = [line.split()[3] for line in run("ip", "-4", "-o", "addr", "show", interface).splitlines()]
    return mac, bool(flags & 1), addresses


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_tap_keeps_its_mac_its_state_and_its_addresses(bed: Bed, number: signal.Signals) -> None:
    run("ip", "addr", "add", "198.18.77.1/30", "dev", TAP)
    before = facts(TAP)
    bed.client().close()
    assert facts(TAP) == before, "plugging it in changes nothing"

    bed.processes[0].send_signal(number)
    bed.processes[0].wait(60)
    assert facts(TAP) == before

    bed.start()
    with bed.client() as observer:
        mac = observer.ports[0]["mac"]
    assert facts(TAP) == before
    assert mac != before[0], "our end of the cable is not the kernel's"


@pytest.fixture
def exception_tap() -> Iterator[int]:
    """A queue of a TAP as control makes them; the interface goes with it."""
    queue = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(
        queue, TUNSETIFF, struct.pack("16sH22x", EXCEPTION.encode(), IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE)
    )
    Path(f"/proc/sys/net/ipv6/conf/{EXCEPTION}/disable_ipv6").write_text("1")
    run("ip", "link", "set", EXCEPTION, "up")
    yield queue
    os.close(queue)


def test_what_is_addressed_to_the_gateway_goes_to_the_kernel_and_back(
    bed: Bed, wires, exception_tap: int
) -> None:
    _, outside = wires
    question = bytes(
        Ether(dst="ff:ff:ff:ff:ff:ff", src=PEER) / ARP(psrc="192.0.2.2", pdst="192.0.2.1", hwsrc=PEER)
    )
    answer = bytes(Ether(dst=PEER, src="02:00:00:00:00:01") / ARP(op=2, psrc="192.0.2.1", pdst="192.0.2.2"))
    with bed.client("control") as control, contextlib.closing(Wire(EXCEPTION)) as kernel:
        assert control.ask({"exception": "uplink", "index": 0}, [exception_tap])["ok"] is True
        assert bed.ask(dump="ports")["rows"][1]["exception"] is True

        outside.send(question)
        assert kernel.receive(lambda data: data[12:14] == b"\x08\x06") == question

        kernel.send(answer)
        assert outside.receive(lambda data: data[:6] == answer[:6]) == answer


def test_frames_that_no_exception_interface_takes_are_dropped_by_name(
    bed: Bed, wires, exception_tap: int
) -> None:
    def counted() -> tuple[int, int, int]:
        counters = bed.ask(dump="counters")
        refused = [row["packets"] for row in counters["drops"] if row["reason"] == "exception_refused"]
        port = bed.ask(dump="ports")["rows"][1]
        return sum(refused), counters["counters"]["exceptions"], port["exceptions"]

    _, outside = wires
    question = Ether(dst="ff:ff:ff:ff:ff:ff", src=PEER) / ARP(psrc="192.0.2.2", pdst="192.0.2.1", hwsrc=PEER)
    outside.send(bytes(question))
    until(lambda: counted() == (1, 0, 0), "there is none")
    with bed.client("control") as control, contextlib.closing(Wire(EXCEPTION)) as kernel:
        assert control.ask({"exception": "uplink", "index": 0}, [exception_tap])["ok"] is True
        outside.send(bytes(question))
        assert kernel.receive(lambda data: data[12:14] == b"\x08\x06") is not None
        run("ip", "link", "set", EXCEPTION, "down")
        outside.send(bytes(question))
        until(lambda: counted() == (2, 1, 1), "it is down")


def carrier(name: str) -> bool:
    return "LOWER_UP" in run("ip", "link", "show", name)


def test_the_exception_interface_has_the_carrier_of_its_port(bed: Bed, exception_tap: int) -> None:
    def has_link() -> bool:
        return bool(bed.ask(dump="ports")["rows"][1]["up"])

    run("ip", "link", "set", OUTER, "down")  # the far end: ours has no carrier then
    with bed.client("control") as control:
        until(lambda: not has_link(), "the port is down")
        assert control.ask({"exception": "uplink", "index": 0}, [exception_tap])["ok"] is True
        until(lambda: not carrier(EXCEPTION), "a new queue shows it")
        run("ip", "link", "set", OUTER, "up")
        until(lambda: carrier(EXCEPTION), "the carrier is back")
        assert has_link()
        run("ip", "link", "set", OUTER, "down")
        until(lambda: not carrier(EXCEPTION), "the carrier goes")


@pytest.mark.parametrize("mtu_bytes", [1947, 2000, 4000, 9000])
def test_frames_of_any_size_pass_an_af_packet_port(devices: None, make_bed, mtu_bytes: int) -> None:  # noqa: F811
    ports = {
        "rack": (f"net_af_packet0,iface={INNER}", "inside", f"mtu_bytes = {mtu_bytes}"),
        "uplink": ("net_null0,no-rx=1", "underlay"),
    }
    for name in (INNER, OUTER):
        run("ip", "link", "set", name, "mtu", str(mtu_bytes))
    bed = make_bed(ports)
    bed.start()
    with bed.client("slow-path") as slow_path, contextlib.closing(Wire(OUTER)) as outside:
        rows = [vnet(RED), attachment(RED, RACK), attachment(RED, RACK + 1, vlan=5)]
        rows.append(location(RED, SERVER, kind="local", target=RACK + 1, mac=OTHER))
        assert slow_path.send(join(rows)) == len(rows)
        until(lambda: bed.ask(dump="ports")["rows"][0]["up"], "the port is up")
        until(lambda: len(bed.ask(dump="locations")["rows"]) == 1, "all that was sent is applied")
        outside.send(largest_ip(mtu_bytes))
        decide(slow_path, Action.DELIVER, SERVER, RACK)
        arrived = outside.receive(lambda data: data[:6] == OTHER)
        assert arrived is not None
        assert arrived[-mtu_bytes:] == largest_ip(mtu_bytes)[14:]


OTHER = bytes.fromhex("020000000033")


def largest_ip(mtu_bytes: int) -> bytes:
    head = Ether(src=HOST, dst=PEER) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1000, dport=2000)
    return bytes(head / bytes(mtu_bytes - 28))


def test_idle_gateway_sleeps_on_its_devices(bed: Bed) -> None:
    bed.client().close()

    def state() -> tuple[float, int, float]:
        counters = bed.ask(dump="counters")
        thread = bed.ask(dump="threads")["rows"][0]
        busy_s = thread["cpu_s"] + counters["housekeeping"]["cpu_ns"] / 1e9
        return counters["counters"]["uptime_s"], thread["sleeps"], busy_s

    before = state()
    time.sleep(3)
    after = state()
    wall_s, sleeps, cpu_s = (b - a for a, b in zip(before, after, strict=True))
    print(f"idle: {cpu_s / wall_s:.2%} of a core, {sleeps / wall_s:.0f} wake-ups a second")
    assert sleeps / wall_s < 200


def sleeps_per_s(bed: Bed) -> float:
    def state() -> tuple[float, int]:
        return bed.ask(dump="counters")["counters"]["uptime_s"], bed.ask(dump="threads")["rows"][0]["sleeps"]

    before = state()
    time.sleep(3)
    (wall_s, sleeps) = (b - a for a, b in zip(before, state(), strict=True))
    return sleeps / wall_s


def test_a_device_that_is_gone_keeps_nobody_awake(bed: Bed) -> None:
    bed.client().close()
    run("ip", "link", "delete", TAP)
    assert sleeps_per_s(bed) < 200


def test_a_link_that_goes_down_keeps_nobody_awake_and_wakes_when_it_is_back(bed: Bed) -> None:
    with bed.client("slow-path") as slow_path, contextlib.closing(Wire(OUTER)) as outside:
        set_up(bed, slow_path)
        run("ip", "link", "set", INNER, "down")
        assert sleeps_per_s(bed) < 200
        run("ip", "link", "set", INNER, "up")
        assert sleeps_per_s(bed) < 200
        before = bed.ask(dump="counters")["counters"]["received"]

        def arrives() -> bool:
            outside.send(bytes(Ether(dst=PEER, src=PEER) / bytes(60)))
            return bed.ask(dump="counters")["counters"]["received"] > before

        until(arrives, "a frame arrives over the link that is back")


def test_two_poll_threads_share_the_queues(devices: None, make_bed) -> None:  # noqa: F811
    ports = {
        "rack": (f"net_tap0,iface={TAP}", "inside"),
        "uplink": (f"net_af_packet0,iface={INNER}", "underlay"),
    }
    bed = make_bed(ports, "[threads]\npoll_cpus = [0, 1]\ncontrol_cpus = [0, 1]\n")
    bed.start()
    with bed.client("slow-path") as slow_path, contextlib.closing(Wire(TAP)) as inside:
        set_up(bed, slow_path)
        assert [row["rx_queues"] for row in bed.ask(dump="ports")["rows"]] == [2, 2]
        with contextlib.closing(Wire(OUTER)) as outside:
            inside.send(frame())
            decide(slow_path, Action.ENCAPSULATE, FAR, RACK)
            assert outside.receive(is_vxlan) is not None
    assert [row["thread"] for row in bed.ask(dump="threads")["rows"]] == ["poll-0", "poll-1"]
