# SPDX-License-Identifier: Apache-2.0
"""Ours: the whole product between a looping pcap port and a null port, as an operator starts it.

Everything is on: validation, ingress, keyed look-up, location, counters, MTU check, age stamps, the hold, the
slow path and the directory. Paused by SIGSTOP of the data plane alone: all others outlive that by design.

To look at what comes out, it is sent another way for a moment, by a third port: a route moves the tunnels'
next hops there, or the members here move there. Both are one store in the tables; no flow is set up anew."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from benchmarks.gateway import CAPTURE, NODE, UNDERLAY, Gateway, run
from benchmarks.scenario import Scenario
from benchmarks.sources import pcap_file, traffic
from benchmarks.sources.feed import Feed, fed
from benchmarks.sources.traffic import OUTER_BYTES, Traffic
from benchmarks.subject import Bed, CannotMeasure, Sample, Setup, WrongOutput, next_look_s, not_root
from benchmarks.topology import Member, Vnet, write
from gateway.data_plane.process import own_mac

INSIDE = "inside"
QUIET_VLAN = 999
VETH = "veth-capture"  # in the gateway's namespace
UNDERLAY_MAC = bytes.fromhex(str(own_mac(NODE, UNDERLAY, "net_pcap0")).replace(":", ""))
CAPTURED = 256
CAPTURE_S = 5.0
ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 263, 8, 1 << 4  # linux/if_packet.h, and what follows
TPACKET_AUXDATA = struct.Struct("IIIHHHH")
AUXILIARY_BYTES = socket.CMSG_SPACE(TPACKET_AUXDATA.size)
SINK = "net_null0,no-rx=1"
_NUMBERS = count()


class VnetGateway:
    """Starts a gateway for scenarios "encap" and "decap" with a pcap source."""

    name = "vnet-gateway"

    def missing(self) -> str | None:
        return not_root()

    def versions(self) -> Mapping[str, str]:
        return {"vnet-gateway": version("vnet-gateway")}

    def start(self, scenario: Scenario, bed: Bed) -> AbstractContextManager[RunningGateway]:
        if scenario.inner != "ipv4" or scenario.outer != "ipv4":
            raise CannotMeasure("IPv6 is not carried by this data plane")
        return started(World(traffic.of(scenario)), bed, source=scenario.source)


class World:
    """The tenant of `benchmarks.sources.traffic` as our directory is told it."""

    def __init__(self, traffic_: Traffic) -> None:
        self.traffic = traffic_
        self.tunnels = {
            traffic.tunnel_address(t): traffic.tunnel_mac(t)
            for t in range(min(traffic_.tunnels, traffic_.there))
        }

    @property
    def is_encap(self) -> bool:
        return self.traffic.direction == "encap"

    def pcap(self, path: Path) -> int:
        """Write the looping file; return how many frames it has."""
        return pcap_file.write(path, self.frames())

    def frames(self) -> list[tuple[traffic.Numbers, traffic.Rows]]:
        groups = traffic.frames(self.traffic)
        if not self.is_encap:
            for _, rows in groups:
                rows[:, 0:6] = np.frombuffer(UNDERLAY_MAC, np.uint8)
        return groups

    def lead_tunnels(self, namespace: str, device: str) -> None:
        """Make the route to the tunnels' far ends go by a device, to as many next hops as they have."""
        run("ip", "-n", namespace, "route", "replace", traffic.TUNNELS_PREFIX, *self.ways(device))

    def ways(self, device: str) -> list[str]:
        """The words of that route for `ip route`; the device of the capture port has no address, so each hop
        is said to be on the link."""
        if self.traffic.hops == 1:
            return ["dev", device]
        hops = (traffic.hop_address(number) for number in range(self.traffic.hops))
        return [word for hop in hops for word in ("nexthop", "via", hop, "dev", device, "onlink")]

    def before(self) -> str:
        """The topology in which this traffic hits nothing yet. For encapsulation tunnels are up by then and
        members known, who stand at a VLAN that nobody uses."""
        return self.document(QUIET_VLAN) if self.is_encap else write(self.tunnels, [])

    def document(self, vlan: int | None = None, port: str = INSIDE) -> str:
        """The whole topology, with the members here at a port and VLAN; None: their own."""
        vlan = self.traffic.vlan if vlan is None else vlan
        at = f"{port}:{vlan}" if vlan else port
        here = (
            Member(f"here-{n}", traffic.address_here(4, n), traffic.mac_here(n), at)
            for n in range(self.traffic.here)
        )
        there = (
            Member(f"there-{n}", traffic.address_there(4, n), traffic.mac_there(n), n % len(self.tunnels))
            for n in range(self.traffic.there)
        )
        ports = ((INSIDE, vlan),) if self.is_encap else ((INSIDE, vlan), (CAPTURE, vlan))
        members = (*here, *there)
        return write(self.tunnels, [Vnet("tenant", traffic.VNI, "10.0.0.0/8", ports, members)])


@contextmanager
def started(world: World, bed: Bed, source: str = "pcap") -> Iterator[RunningGateway]:
    """Start a gateway for this traffic, paused, without flows."""
    number = next(_NUMBERS)
    directory = bed.directory / f"gateway-{number}"
    directory.mkdir()
    file = directory / "source.pcap"
    frames = world.pcap(file)
    veth = f"vb{os.getpid() % 1_000_000}c{number}"
    with fed(source, bed, directory, file, frames) as feed:
        gateway = Gateway(
            bed,
            directory,
            devices(world.traffic.direction, feed.wiring.source, feed.wiring.sink),
            flows=world.traffic.flows,
            packet_buffers=frames,
            neighbours=traffic.neighbours(world.traffic),
            veths={veth: VETH},
        )
        with gateway:
            feed.begin()
            world.lead_tunnels(gateway.namespace, UNDERLAY)
            gateway.apply(world.before())
            if world.is_encap:
                gateway.until(lambda: gateway.tunnels_up() == len(world.tunnels), "all tunnels are up")
            running = RunningGateway(gateway, world, veth, feed)
            running.pause()
            gateway.apply(world.document())
            yield running


def devices(direction: str, source: str, sink: str) -> dict[str, tuple[str, str]]:
    """Ports in the order of their numbers: encapsulation comes in inside, decapsulation by the underlay."""
    inside, underlay = (source, sink) if direction == "encap" else (sink, source)
    return {
        INSIDE: (inside, "inside"),
        UNDERLAY: (underlay, "underlay"),
        CAPTURE: (f"net_pcap1,tx_iface={VETH}", "underlay" if direction == "encap" else "inside"),
    }


class RunningGateway:
    """One started gateway; begins paused, without flows."""

    def __init__(self, gateway: Gateway, world: World, veth: str, feed: Feed) -> None:
        self.gateway = gateway
        self._world, self._veth, self._feed = world, veth, feed
        self._kind = "forwarded" if world.is_encap else "delivered"
        self._forgot: Mapping[str, Any] = {}  # what was counted when the flows were last forgotten

    def resume(self) -> None:
        self._feed.resume()
        self.gateway.signal("data-plane", signal.SIGCONT)

    def pause(self) -> None:
        self.gateway.signal("data-plane", signal.SIGSTOP)
        self._feed.pause()

    def flows(self) -> int:
        return self.gateway.counters()["flows"]

    def sample(self, seconds: float) -> Sample:
        before, start_s = self._snapshot()
        time.sleep(seconds)
        after, end_s = self._snapshot()
        then, now = before["counters"], after["counters"]
        return Sample(now[self._kind] - then[self._kind], end_s - start_s, now["dropped"] - then["dropped"])

    def _snapshot(self) -> tuple[dict[str, Any], float]:
        """The counters and when they were read: in the middle of the question."""
        asked_s = time.monotonic()
        snapshot = self.gateway.snapshot()
        return snapshot, (asked_s + time.monotonic()) / 2

    def setup(self, seconds: float) -> Setup:
        wanted = self._world.traffic.flows - self._world.traffic.flows // 10_000
        cpu_before = sum(self.gateway.cpu_seconds().values())
        self.resume()
        snapshot, at_s = self._snapshot()
        start_s = at_s
        while snapshot["counters"]["flows"] < wanted and at_s < start_s + seconds:
            if not snapshot["counters"]["held"]:
                start_s = at_s  # before the first miss
            time.sleep(next_look_s(at_s - start_s, snapshot["counters"]["flows"], wanted))
            snapshot, at_s = self._snapshot()
        cpu_s = sum(self.gateway.cpu_seconds().values()) - cpu_before
        passed, lost = self._passed(snapshot), self._lost(snapshot) - self._lost(self._forgot)
        return Setup(
            snapshot["counters"]["flows"],
            at_s - start_s,
            cpu_s,
            passed - self._passed(self._forgot),
            lost.total(),
            lost,
        )

    def _passed(self, snapshot: Mapping[str, Any]) -> int:
        return snapshot["counters"][self._kind] if snapshot else 0

    @staticmethod
    def _lost(snapshot: Mapping[str, Any]) -> Counter[str]:
        """Drops by reason; what came before the tenant was there is not counted as lost."""
        rows = snapshot.get("drops", ())
        return Counter({row["reason"]: row["packets"] for row in rows if row["vni"] == traffic.VNI})

    def forget(self) -> None:
        """Take the members away from the port, and with the attachment all flows; then bring them back."""
        self.resume()
        self.gateway.apply(self._world.before())
        self.gateway.until(lambda: self.flows() == 0, "all flows are forgotten")
        self._forgot = self.gateway.snapshot()
        self.pause()
        self.gateway.apply(self._world.document())

    def source_says(self) -> str | None:
        return self._feed.says()

    def verify(self) -> None:
        if self._world.is_encap:
            self._world.lead_tunnels(self.gateway.namespace, CAPTURE)
            packets = self._captured()
            self._world.lead_tunnels(self.gateway.namespace, UNDERLAY)
        else:
            self.gateway.apply(self._world.document(port=CAPTURE))
            packets = self._captured()
            self.gateway.apply(self._world.document())
        check(self._world, packets)

    def _announces(self, packet: bytes) -> bool:
        """Whether it is a gratuitous ARP of its own, which VTEPs get for 15 s after a member came."""
        frame = packet[OUTER_BYTES:] if self._world.is_encap else packet
        return traffic.untagged(frame)[12:14] == b"\x08\x06"

    def _captured(self) -> list[bytes]:
        """Collect what leaves by the third port."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as raw:
            raw.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            raw.bind((self._veth, ETH_P_ALL))
            raw.settimeout(CAPTURE_S)
            found: list[bytes] = []
            while len(found) < CAPTURED:
                try:
                    packet = with_tag(*raw.recvmsg(4096, AUXILIARY_BYTES)[:2])
                except TimeoutError:
                    raise WrongOutput(f"{len(found)} of {CAPTURED} packets came out for a look") from None
                if self._announces(packet):
                    continue
                if packet[0:2] == b"\x02\x00" or not self._world.is_encap:
                    found.append(packet)
        return found


def with_tag(packet: bytes, ancillary: Sequence[tuple[int, int, bytes]]) -> bytes:
    """A packet as it was sent: Linux takes the tag off and tells a packet socket of it beside the packet."""
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, vlan, _ = TPACKET_AUXDATA.unpack(data[: TPACKET_AUXDATA.size])
            return traffic.tag(packet, vlan) if status & TP_STATUS_VLAN_VALID else packet
    return packet


def check(world: World, packets: list[bytes]) -> None:
    """Compare packets that came out with those that went in. Raises WrongOutput."""
    wanted = traffic.members_frames(world.traffic)
    if world.is_encap:
        for packet in packets:
            _check_encapsulated(packet, wanted, world)
        hops = {packet[0:6] for packet in packets}
        if len(hops) < world.traffic.hops:
            raise WrongOutput(f"packets leave to {len(hops)} of {world.traffic.hops} next hops")
        return
    for packet in packets:
        if packet not in wanted:
            vlan = world.traffic.vlan or "none"
            raise WrongOutput(f"no inner frame of the source, with VLAN {vlan}: {packet.hex()}")


def _check_encapsulated(packet: bytes, members_frames: set[bytes], world: World) -> None:
    frame = Ether(packet)
    if VXLAN not in frame or packet[OUTER_BYTES:] not in members_frames:
        raise WrongOutput(f"no VXLAN packet around a frame of the source: {packet.hex()}")
    there = int.from_bytes(packet[OUTER_BYTES + 30 : OUTER_BYTES + 34], "big")
    number = there - int.from_bytes(socket.inet_aton(traffic.address_there(4, 0)), "big")
    tunnel = number % len(world.tunnels)
    hops = traffic.next_hops(world.traffic, tunnel)
    ip, udp = frame[IP], frame[UDP]
    said = (frame.dst, ip.src, ip.dst, udp.dport, udp.chksum, frame[VXLAN].vni, ip.ttl, str(ip.flags))
    hop = frame.dst if frame.dst in hops else " or ".join(hops)
    wanted = (
        hop,
        traffic.LOCAL_ADDRESS,
        traffic.tunnel_address(tunnel),
        traffic.VXLAN_PORT,
        0,
        traffic.VNI,
        64,
        "DF",
    )
    lengths = (ip.len, udp.len)
    wanted_lengths = (len(packet) - 14, len(packet) - 34)
    again = IP(packet[14:34])
    del again.chksum
    checksum = IP(bytes(again)[:20]).chksum
    if said != wanted or lengths != wanted_lengths or ip.chksum != checksum or udp.sport < 49152:
        raise WrongOutput(
            f"outer header {said} {lengths} checksum {ip.chksum:#x}; "
            f"expected {wanted} {wanted_lengths} checksum {checksum:#x}"
        )
