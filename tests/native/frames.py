# SPDX-License-Identifier: Apache-2.0
"""Frames for tests, made and taken apart by scapy, and ways to spoil them."""

from __future__ import annotations

import struct

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw


def mac(number: int) -> bytes:
    """A unicast MAC."""
    return bytes([2, 0, 0, 0, number >> 8, number & 255])


def ip(text: str) -> bytes:
    return bytes(int(part) for part in text.split("."))


def dotted(address: bytes) -> str:
    return ".".join(str(part) for part in address)


def ether(source: bytes, destination: bytes, vlan: int | None = None) -> Packet:
    head = Ether(src=source, dst=destination)
    return head / Dot1Q(vlan=vlan) if vlan is not None else head


def udp_frame(
    source: tuple[bytes, str],
    destination: tuple[bytes, str],
    *,
    vlan: int | None = None,
    ports: tuple[int, int] = (1000, 2000),
    payload: bytes = b"payload",
    tos: int = 0,
    ttl: int = 64,
    flags: str = "",
    protocol: str = "udp",
    **more: int,
) -> bytes:
    """A frame from (MAC, address) to (MAC, address)."""
    layer = {
        "udp": UDP(sport=ports[0], dport=ports[1]),
        "tcp": TCP(sport=ports[0], dport=ports[1]),
        "icmp": ICMP(type=ports[0] & 255, code=ports[1] & 255),
    }[protocol]
    head = IP(src=source[1], dst=destination[1], tos=tos, ttl=ttl, flags=flags, **more)
    return bytes(ether(source[0], destination[0], vlan) / head / layer / Raw(payload))


def arp_frame(
    source: tuple[bytes, str], target: str, *, vlan: int | None = None, destination: bytes = b"\xff" * 6
) -> bytes:
    return bytes(
        ether(source[0], destination, vlan)
        / ARP(op=1, hwsrc=source[0], psrc=source[1], hwdst=bytes(6), pdst=target)
    )


def vxlan_frame(
    inner: bytes,
    outer_source: tuple[bytes, str],
    outer_destination: tuple[bytes, str],
    vni: int,
    *,
    udp_port: int = 4789,
    tos: int = 0,
    ttl: int = 64,
    vlan: int | None = None,
    flags: int = 0x08,
) -> bytes:
    return bytes(
        ether(outer_source[0], outer_destination[0], vlan)
        / IP(src=outer_source[1], dst=outer_destination[1], tos=tos, ttl=ttl, flags="DF")
        / UDP(sport=50000, dport=udp_port, chksum=0)
        / Raw(struct.pack("!BBHI", flags, 0, 0, vni << 8) + inner)
    )


def assert_valid(frame: bytes) -> Packet:
    """Check every checksum and length of a frame by scapy, layer by layer; return it taken apart."""
    packet = Ether(frame)
    again = packet.copy()
    layer = again
    while layer:
        for name in ("chksum", "len"):
            if name in layer.fields and not (
                isinstance(layer, UDP) and name == "chksum" and layer.chksum == 0
            ):
                delattr(layer, name)
        if isinstance(layer, ICMP) and layer.type == 3:
            break  # what follows is a quotation, cut short
        layer = layer.payload
    assert bytes(again) == frame, (
        f"{packet.show(dump=True)}\nscapy makes of it:\n{Ether(bytes(again)).show(dump=True)}"
    )
    return packet


__all__ = [
    "ARP",
    "GRE",
    "ICMP",
    "IP",
    "SCTP",
    "TCP",
    "UDP",
    "VXLAN",
    "Dot1Q",
    "Ether",
    "IPOption_NOP",
    "Raw",
    "SCTPChunkData",
    "arp_frame",
    "assert_valid",
    "dotted",
    "ether",
    "ip",
    "mac",
    "udp_frame",
    "vxlan_frame",
]
