# SPDX-License-Identifier: Apache-2.0
"""Frames of a scenario as numpy rows: what members send, and what a peer's tunnels bring.

One small world serves both directions and every subject. Members of V-net 100 are here (10.0.0.1 and up) and
there (10.128.0.1 and up, at most 10 000); member t there is behind tunnel t % 16 (198.18.1.0 and up). Flow i
is the pair (here i // there, there i % there), each pair once. Encapsulation gets what the members here send;
decapsulation gets the answers, as VXLAN packets from the tunnels. IPv6 members have the same numbers in
2001:db8:a::/64; the underlay is IPv4. Where the members' port is shared by VLAN, frames have their tag there
and only there: in a tunnel the VNI stands for it (RFC 7348, 6.1).

>>> groups = frames(Traffic(flows=1000))  # (row numbers, uint8 rows of one length)
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

import numpy as np
import numpy.typing as npt

from benchmarks.scenario import (
    FCS_BYTES,
    IMIX,
    LARGEST_BYTES,
    LARGEST_VLAN,
    MOST_HOPS,
    MOST_TUNNELS,
    TUNNELS,
    Scenario,
)

Rows = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

VNI = 100
VXLAN_PORT = 4789
# Where all is known already: fewer, so that what is told anew when members leave and come is small.
ENDPOINTS_KNOWN = 1_000
ENDPOINTS_THERE = 10_000
# The underlay is of the network that RFC 2544 gives to benchmarks; the tunnels' far ends are a part of it.
LOCAL_ADDRESS, UNDERLAY_BITS, TUNNELS_PREFIX = "198.18.0.1", 16, "198.18.1.0/24"
UNDERLAY_MAC = bytes((2, 0, 0, 0, 0, 0xF1))
OUTER_BYTES = 50
TAG_AT, TAG_BYTES, ETHERTYPE_VLAN = 12, 4, 0x8100
SMALLEST_BYTES = {4: 46, 6: 66}  # Ethernet, IP, UDP, FCS
_HERE_V4, _THERE_V4 = 0x0A000001, 0x0A800001
_FIRST_TUNNEL = int(IPv4Address(TUNNELS_PREFIX.partition("/")[0]))
_FIRST_HOP = int(IPv4Address("198.18.2.1"))
_PREFIX_V6 = bytes.fromhex("20010db8000a00000000000000000000")[:12]
_PORTS = bytes((0x10, 0x00, 0x20, 0x00))


@dataclass(frozen=True)
class Traffic:
    """What is sent. `frame_bytes` is the inner frame with FCS and without a tag, 0 for IMIX. `vlan` is the
    members' here, 0 for untagged. `hops`: next hops of each tunnel, 1 if that is its far end, on the link."""

    flows: int
    frame_bytes: int = 64
    direction: str = "encap"
    family: int = 4
    endpoints_there: int = ENDPOINTS_THERE
    tunnels: int = TUNNELS
    vlan: int = 0
    hops: int = 1
    seed: int = 1

    def __post_init__(self) -> None:
        if self.flows < 1:
            raise ValueError(f"{self.flows} flows: at least one is needed")
        if self.direction not in ("encap", "decap"):
            raise ValueError(f"direction {self.direction!r} is neither 'encap' nor 'decap'")
        if self.family not in (4, 6):
            raise ValueError(f"family {self.family!r} is neither 4 nor 6")
        smallest = SMALLEST_BYTES[self.family]
        if self.frame_bytes and not smallest <= self.frame_bytes <= LARGEST_BYTES:
            raise ValueError(
                f"frames of {self.frame_bytes} bytes: from {smallest} to {LARGEST_BYTES}, or 0 for IMIX"
            )
        if not 1 <= self.tunnels <= MOST_TUNNELS:
            raise ValueError(f"{self.tunnels} tunnels: from 1 to {MOST_TUNNELS}")
        if not 0 <= self.vlan <= LARGEST_VLAN:
            raise ValueError(f"VLAN {self.vlan}: from 1 to {LARGEST_VLAN}, or 0 for untagged")

        if not 1 <= self.hops <= MOST_HOPS:
            raise ValueError(f"{self.hops} next hops: from 1 to {MOST_HOPS}")

    @property
    def there(self) -> int:
        """How many members there are used."""
        return min(self.flows, self.endpoints_there)

    @property
    def here(self) -> int:
        """How many members here are used."""
        return -(-self.flows // self.there)


def of(scenario: Scenario) -> Traffic:
    """The traffic of a scenario. IPv6 needs 66 bytes where IPv4 needs 64, and gets them."""
    family = 6 if scenario.inner == "ipv6" else 4
    size = 0  # IMIX
    if scenario.frame_bytes != "IMIX":
        size = max(int(scenario.frame_bytes), SMALLEST_BYTES[family])
    there = ENDPOINTS_KNOWN if scenario.measure == "setup-again" else ENDPOINTS_THERE
    return Traffic(
        scenario.flows,
        size,
        scenario.direction or "encap",
        family,
        endpoints_there=there,
        tunnels=scenario.tunnels,
        vlan=scenario.vlan,
        hops=scenario.hops,
    )


def address_here(family: int, number: int) -> str:
    """Address of a member here."""
    return _address(family, _HERE_V4 + number)


def address_there(family: int, number: int) -> str:
    """Address of a member there."""
    return _address(family, _THERE_V4 + number)


def mac_here(number: int) -> str:
    """MAC of a member here."""
    return _mac(2, number)


def mac_there(number: int) -> str:
    """MAC of a member there."""
    return _mac(1, number)


def tunnel_address(number: int) -> str:
    """Underlay address of a tunnel's far end."""
    return str(IPv4Address(_FIRST_TUNNEL + number))


def tunnel_mac(number: int) -> str:
    """MAC of a tunnel's far end: its next hop, if it is on the link."""
    return f"02:00:00:00:01:{number:02x}"


def hop_address(number: int) -> str:
    """Underlay address of a router towards the tunnels' far ends."""
    return str(IPv4Address(_FIRST_HOP + number))


def hop_mac(number: int) -> str:
    """MAC of such a router."""
    return f"02:00:00:00:02:{number:02x}"


def next_hops(traffic: Traffic, tunnel: int) -> tuple[str, ...]:
    """MACs that packets of a tunnel leave to."""
    if traffic.hops == 1:
        return (tunnel_mac(tunnel),)
    return tuple(hop_mac(number) for number in range(traffic.hops))


def neighbours(traffic: Traffic) -> dict[str, str]:
    """What there is on the link, address → MAC: far ends, and routers to them if there are several."""
    found = {tunnel_address(number): tunnel_mac(number) for number in range(traffic.tunnels)}
    if traffic.hops > 1:
        found |= {hop_address(number): hop_mac(number) for number in range(traffic.hops)}
    return found


def frames(traffic: Traffic) -> list[tuple[Numbers, Rows]]:
    """All frames of the traffic in random order: (positions in that order, rows of one length) per length.

    Every flow comes once (IMIX: at least once, in three sizes over all).
    """
    random = np.random.default_rng(traffic.seed)
    order = random.permutation(traffic.flows).astype(np.int64)
    if traffic.frame_bytes:
        return [(np.arange(len(order)), _rows(traffic, order, traffic.frame_bytes))]
    weights = np.array([weight for _, weight in IMIX])
    if len(order) < weights.sum():
        order = np.resize(order, weights.sum())
    kinds = random.permutation(np.resize(np.repeat(np.arange(len(IMIX)), weights), len(order)))
    return [
        (at, _rows(traffic, order[at], size))
        for at, size in ((np.flatnonzero(kinds == kind), size) for kind, (size, _) in enumerate(IMIX))
        if len(at)
    ]


def members_frames(traffic: Traffic) -> set[bytes]:
    """The members' frames as they should come out: in tunnels without a tag, at the members' port with it."""
    sent = (row.tobytes() for _, rows in frames(traffic) for row in rows)
    if traffic.direction == "encap":
        return {untagged(frame) for frame in sent}
    return {tag(frame[OUTER_BYTES:], traffic.vlan) for frame in sent}


def tag(frame: bytes, vlan: int) -> bytes:
    """The frame with a tag of IEEE 802.1Q; for VLAN 0 as it is."""
    return frame[:TAG_AT] + _tag(vlan) + frame[TAG_AT:]


def untagged(frame: bytes) -> bytes:
    """The frame without its tag, if it has one."""
    return frame[:TAG_AT] + frame[TAG_AT + TAG_BYTES :] if vlan_of(frame) else frame


def vlan_of(frame: bytes) -> int:
    """The VLAN of a frame's outermost tag of IEEE 802.1Q; 0 if there is none."""
    head = int.from_bytes(frame[TAG_AT : TAG_AT + TAG_BYTES], "big")
    return head & 0xFFF if head >> 16 == ETHERTYPE_VLAN else 0


def _tag(vlan: int) -> bytes:
    return (ETHERTYPE_VLAN << 16 | vlan).to_bytes(TAG_BYTES, "big") if vlan else b""


def _address(family: int, number: int) -> str:
    if family == 4:
        return ".".join(str(octet) for octet in number.to_bytes(4, "big"))
    return f"2001:db8:a::{number >> 16:x}:{number & 0xFFFF:x}"


def _mac(kind: int, number: int) -> str:
    return bytes((2, kind, 0, *number.to_bytes(3, "big"))).hex(":")


def _rows(traffic: Traffic, flow: Numbers, frame_bytes: int) -> Rows:
    here, there = np.divmod(flow, traffic.there)
    tunnel = there % traffic.tunnels
    length = max(frame_bytes, SMALLEST_BYTES[traffic.family]) - FCS_BYTES
    if traffic.direction == "encap":
        inner = _inner(traffic.family, length, (2, here, _HERE_V4), (1, there, _THERE_V4))
        head = np.frombuffer(_tag(traffic.vlan), np.uint8)
        head = np.broadcast_to(head, (len(inner), len(head)))
        return np.hstack([inner[:, :TAG_AT], head, inner[:, TAG_AT:]])
    inner = _inner(traffic.family, length, (1, there, _THERE_V4), (2, here, _HERE_V4))
    return _outer(inner, tunnel, flow)


Member = tuple[int, Numbers, int]  # kind in the MAC, number, first address


def _inner(family: int, length: int, source: Member, destination: Member) -> Rows:
    rows = np.zeros((len(source[1]), length), np.uint8)
    for at, (kind, number, _) in ((0, destination), (6, source)):
        rows[:, at : at + 3] = (2, kind, 0)
        rows[:, at + 3 : at + 6] = _bytes(number, 3)
    ip = 14
    udp = ip + (20 if family == 4 else 40)
    if family == 4:
        rows[:, 12:14] = (0x08, 0x00)
        rows[:, ip : ip + 12] = np.frombuffer(_ipv4_start(length - ip), np.uint8)
        rows[:, ip + 12 : ip + 16] = _bytes(source[1] + source[2], 4)
        rows[:, ip + 16 : ip + 20] = _bytes(destination[1] + destination[2], 4)
        _checksum(rows, ip, udp, ip + 10)
        addresses = slice(ip + 12, ip + 20)
    else:
        rows[:, 12:14] = (0x86, 0xDD)
        start = bytes((0x60, 0, 0, 0)) + (length - udp).to_bytes(2, "big") + bytes((17, 64))
        rows[:, ip : ip + 8] = np.frombuffer(start, np.uint8)
        for at, (_, number, first) in ((ip + 8, source), (ip + 24, destination)):
            rows[:, at : at + 12] = np.frombuffer(_PREFIX_V6, np.uint8)
            rows[:, at + 12 : at + 16] = _bytes(number + first, 4)
        addresses = slice(ip + 8, ip + 40)
    rows[:, udp : udp + 4] = np.frombuffer(_PORTS, np.uint8)
    rows[:, udp + 4 : udp + 6] = tuple((length - udp).to_bytes(2, "big"))
    _checksum(rows, udp, length, udp + 6, _sum(rows[:, addresses]) + 17 + length - udp)
    return rows


def _outer(inner: Rows, tunnel: Numbers, flow: Numbers) -> Rows:
    rows = np.zeros((len(inner), OUTER_BYTES + inner.shape[1]), np.uint8)
    rows[:, 0:6] = np.frombuffer(UNDERLAY_MAC, np.uint8)
    rows[:, 6:11] = (2, 0, 0, 0, 1)
    rows[:, 11] = tunnel
    rows[:, 12:14] = (0x08, 0x00)
    length = rows.shape[1]
    rows[:, 14:26] = np.frombuffer(_ipv4_start(length - 14, dont_fragment=True), np.uint8)
    rows[:, 26:30] = _bytes(_FIRST_TUNNEL + tunnel, 4)
    rows[:, 30:34] = np.frombuffer(IPv4Address(LOCAL_ADDRESS).packed, np.uint8)
    _checksum(rows, 14, 34, 24)
    # Entropy in the source port, as a tunnel endpoint derives it from the inner flow: RFC 7348, 5.
    rows[:, 34:36] = _bytes(0xC000 + (flow * 2654435761 >> 8) % 0x4000, 2)
    rows[:, 36:38] = tuple(VXLAN_PORT.to_bytes(2, "big"))
    rows[:, 38:40] = tuple((length - 34).to_bytes(2, "big"))
    rows[:, 42] = 0x08
    rows[:, 46:49] = tuple(VNI.to_bytes(3, "big"))
    rows[:, OUTER_BYTES:] = inner
    return rows


def _ipv4_start(total_bytes: int, dont_fragment: bool = False) -> bytes:
    flags = 0x40 if dont_fragment else 0
    return bytes((0x45, 0)) + total_bytes.to_bytes(2, "big") + bytes((0, 0, flags, 0, 64, 17, 0, 0))


def _bytes(numbers: Numbers, width: int) -> Rows:
    return numbers.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - width :]


def _sum(rows: Rows) -> Numbers:
    if rows.shape[1] % 2:
        rows = np.pad(rows, ((0, 0), (0, 1)))
    sums: Numbers = np.ascontiguousarray(rows).view(">u2").sum(axis=1, dtype=np.int64)
    return sums


def _checksum(rows: Rows, start: int, end: int, field: int, more: Numbers | int = 0) -> None:
    """Put the Internet checksum of [start, end) and of `more` into the field, zero until now."""
    total = _sum(rows[:, start:end]) + more
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    total = 0xFFFF - total
    if start != 14:
        total = np.where(total == 0, 0xFFFF, total)  # UDP: 0 says that there is none, RFC 768
    rows[:, field : field + 2] = _bytes(total, 2)
