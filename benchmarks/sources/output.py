# SPDX-License-Identifier: Apache-2.0
"""What should come out: a subject's output is held against the frames that went in, with scapy as judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from benchmarks.sources import traffic
from benchmarks.sources.traffic import OUTER_BYTES, Traffic
from benchmarks.subject import WrongOutput

SAMPLE = 256  # frames read in depth; inner frames are compared in all


class Judge:
    """Knows what went in. `routed` subjects may give tunnel packets other MACs than those of the next hop."""

    def __init__(self, sent: Traffic, underlay_macs: bool = True) -> None:
        self._sent = sent
        self._underlay_macs = underlay_macs
        self._members_frames = traffic.members_frames(sent)
        self._vlan = sent.vlan if sent.direction == "decap" else 0  # of members' frames that come out
        self._tunnel_of = {
            bytes.fromhex(traffic.mac_there(n).replace(":", "")): n % sent.tunnels for n in range(sent.there)
        }

    def check(self, frames: Sequence[bytes], at_least: int = 1) -> None:
        """Raises WrongOutput with the first frame that is not as it should be, or if there are too few."""
        if len(frames) < at_least:
            raise WrongOutput(f"{len(frames)} packets were captured, at least {at_least} were expected")
        encapsulated = self._sent.direction == "encap"
        hops = set()
        for number, frame in enumerate(frames):
            inner = frame[OUTER_BYTES:] if encapsulated else frame
            if (vlan := traffic.vlan_of(inner)) != self._vlan:
                raise WrongOutput(
                    f"packet {number}: VLAN {vlan or 'none'}, should be {self._vlan or 'none'}: {frame.hex()}"
                )
            if inner not in self._members_frames:
                raise WrongOutput(
                    f"packet {number}: no frame of a member that was sent is in it: {frame.hex()}"
                )
            if encapsulated and number < SAMPLE:
                self._check_outer(number, frame)
                hops.add(frame[0:6].hex(":"))
        if encapsulated and self._underlay_macs and len(hops) < self._sent.hops:
            raise WrongOutput(f"packets leave to {len(hops)} of {self._sent.hops} next hops")

    def _check_outer(self, number: int, frame: bytes) -> None:
        tunnel = self._tunnel_of[frame[OUTER_BYTES : OUTER_BYTES + 6]]
        packet = Ether(frame)
        if IP not in packet or UDP not in packet or VXLAN not in packet:
            raise WrongOutput(f"packet {number}: no VXLAN packet: {packet.summary()}")
        clean = packet.copy()
        del clean[IP].chksum
        right = Ether(bytes(clean))
        wanted = {
            "destination": (packet[IP].dst, traffic.tunnel_address(tunnel)),
            "source": (packet[IP].src, traffic.LOCAL_ADDRESS),
            "UDP port": (packet[UDP].dport, traffic.VXLAN_PORT),
            "VNI": (packet[VXLAN].vni, traffic.VNI),
            "VNI flag": (bool(packet[VXLAN].flags.Instance), True),
            "IP length": (packet[IP].len, len(frame) - 14),
            "UDP length": (packet[UDP].len, len(frame) - 34),
            "IP checksum": (packet[IP].chksum, right[IP].chksum),
            "UDP checksum": (packet[UDP].chksum, 0),
        }
        if self._underlay_macs:
            hops = traffic.next_hops(self._sent, tunnel)
            wanted["next hop"] = (packet.dst, packet.dst if packet.dst in hops else " or ".join(hops))
        for what, (got, should) in wanted.items():
            if got != should:
                raise WrongOutput(f"packet {number}: {what} {got}, should be {should}: {packet.summary()}")


def first(frames: Iterable[bytes], count: int) -> list[bytes]:
    """The first frames of a capture."""
    return [frame for _, frame in zip(range(count), frames, strict=False)]
