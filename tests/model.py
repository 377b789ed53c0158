# SPDX-License-Identifier: Apache-2.0
"""The pipeline in plain Python: what must happen to one frame, given the tables. The oracle of tests/native.

Written from docs/architecture.md and the RFCs, not from the C code, and shares nothing with it: every
checksum is computed afresh, every header is taken apart with struct. It says nothing about time, limits
and bursts: those have tests of their own. The outer UDP source port is left zero (it is a keyed hash).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from model_checksums import checksum, complete
from model_packets import (
    BOTH,
    NO_MAC,
    UNDERLAY,
    Action,
    Attachment,
    Key,
    Location,
    Outcome,
    Port,
    Remote,
    Sent,
    Tables,
    Tunnel,
    Vnet,
)

BROADCAST = b"\xff" * 6
TCP, UDP, ICMP, SCTP, UDPLITE = 6, 17, 1, 132, 136
L4_BYTES = {TCP: 20, UDP: 8, ICMP: 8, SCTP: 12, UDPLITE: 8}
NOT_ECT, ECT1, ECT0, CE = 0, 1, 2, 3
OUTER_BYTES = 20 + 8 + 8


class Ended(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def dropped(reason: str, **more: object) -> Ended:
    return Ended(Outcome("dropped", reason, **more))  # type: ignore[arg-type]


def with_checksum(header: bytes) -> bytes:
    header = header[:10] + b"\0\0" + header[12:]
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:]


def with_checksum_updated(before: bytes, after: bytes) -> bytes:
    """The checksum of a header that was `before`: as far from right as it was (RFC 1624 equation 3)."""
    if not checksum(before):
        return with_checksum(after)
    (was,) = struct.unpack_from("!H", before, 10)
    total = ~was & 0xFFFF
    for (old,), (new,) in zip(struct.iter_unpack("!H", before), struct.iter_unpack("!H", after), strict=True):
        if old != new:
            total += (~old & 0xFFFF) + new
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return after[:10] + struct.pack("!H", ~total & 0xFFFF) + after[12:]


def is_unicast(address: bytes) -> bool:
    return address[0] not in (0, 127) and address[0] < 224


@dataclass
class Packet:
    """A packet of a V-net, as bytes that change on the way."""

    ingress: Attachment | Remote
    vnet: Vnet
    port: Port
    ethernet: bytes
    payload: bytes
    key: Key
    routed: bool = False
    outer_ttl: int = 0

    @property
    def is_ip(self) -> bool:
        return self.key.key_class in ("routed", "bridged")

    @property
    def frame(self) -> bytes:
        return self.ethernet + self.payload


class Pipeline:
    """The tables and the little that is remembered between packets (first fragments)."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.fragments: dict[tuple, tuple[int, int]] = {}

    def receive(self, port: int, frame: bytes) -> Outcome:
        try:
            packet = self.parse(port, frame)
            return self.decide(packet)
        except Ended as ended:
            return ended.outcome

    def handed_over(self, number: int, frame: bytes) -> bytes:
        """An exception, as the kernel gets it: with its checksums completed."""
        ip = frame[14:]
        if not self.tables.ports[number].partial_checksums or frame[12:14] != b"\x08\x00" or len(ip) < 20:
            return frame
        header = (ip[0] & 15) * 4
        total, _, fragment = struct.unpack_from("!HHH", ip, 2)
        if ip[0] >> 4 != 4 or not 20 <= header <= total <= len(ip) or fragment & 0x3FFF:
            return frame
        return frame[:14] + complete(ip[:total]) + ip[total:]

    # -- in ------------------------------------------------------------------------------------

    def parse(self, number: int, frame: bytes) -> Packet:
        port = self.tables.ports[number]
        if len(frame) < 14:
            raise dropped("frame_truncated")
        (ethertype,) = struct.unpack_from("!H", frame, 12)
        vlan, tag = 0, 0
        if ethertype == 0x8100:
            if len(frame) < 18:
                raise dropped("frame_truncated")
            tci, ethertype = struct.unpack_from("!HH", frame, 14)
            vlan, tag = tci & 0xFFF, 4
        attachment = self.tables.attachments.get((number, vlan))
        if port.role == UNDERLAY or (port.role == BOTH and attachment is None):
            return self.parse_underlay(port, frame, ethertype, vlan, 14 + tag)
        if ethertype in (0x8100, 0x88A8):
            raise dropped("vlan_nested")
        if attachment is None:
            raise dropped("no_attachment")
        return self.parse_inner(port, attachment, frame[:12] + frame[12 + tag :], port.mtu, None)

    def parse_underlay(self, port: Port, frame: bytes, ethertype: int, vlan: int, at: int) -> Packet:
        exception = Ended(Outcome("exception"))
        if frame[:6] != port.mac:
            if frame[0] & 1:
                raise exception
            raise dropped("not_for_this_mac")
        if ethertype != 0x0800:
            raise exception
        ip = frame[at:]
        if len(ip) < 20:
            raise dropped("frame_truncated")
        if ip[0] >> 4 != 4:
            raise dropped("ip_bad_version")
        header = (ip[0] & 15) * 4
        if header < 20:
            raise dropped("ip_bad_length")
        total, _, fragment = struct.unpack_from("!HHH", ip, 2)
        if ip[9] != UDP or fragment & 0x1FFF or len(ip) < header + 8:
            raise exception
        _, udp_port, udp_length = struct.unpack_from("!HHH", ip, header)
        if udp_port not in self.tables.udp_ports:
            raise exception
        if port.underlay_vlans is not None and vlan not in port.underlay_vlans:
            raise dropped("underlay_vlan")
        if fragment & 0x2000:
            raise dropped("outer_fragment")
        if not header <= total <= len(ip):
            raise dropped("ip_bad_length")
        if checksum(ip[:header]):
            raise dropped("ip_bad_checksum")
        remote, local = ip[12:16], ip[16:20]
        if not is_unicast(remote) or not is_unicast(local):
            raise dropped("ip_bad_address")
        if udp_length < 16 or header + udp_length > total:
            raise dropped("tunnel_malformed")
        vxlan = ip[header + 8 : header + udp_length]
        if not vxlan[0] & 0x08:
            raise dropped("tunnel_malformed")
        vni = int.from_bytes(vxlan[4:7], "big")
        ingress = self.tables.locators.get((local, remote, vni))
        if ingress is None:
            raise dropped("unknown_vtep", locator=(local, remote, vni))
        packet = self.parse_inner(port, ingress, vxlan[8:], 0, ip[8])
        if packet.is_ip:
            self.join_ecn(packet, ip[1] & 3)
        return packet

    def parse_inner(
        self, port: Port, ingress: Attachment | Remote, frame: bytes, mtu: int, outer_ttl: int | None
    ) -> Packet:
        vnet = self.tables.vnets.get(ingress.vni)
        if vnet is None:
            raise dropped("vnet_gone")
        if len(frame) < 14:
            raise dropped("frame_truncated")
        destination, source = frame[:6], frame[6:12]
        (ethertype,) = struct.unpack_from("!H", frame, 12)
        if ethertype in (0x8100, 0x88A8):
            raise dropped("vlan_nested" if outer_ttl is None else "inner_vlan")
        if (source == NO_MAC and not ingress.believed) or source[0] & 1:
            raise dropped("bad_source_mac")
        packet = Packet(
            ingress,
            vnet,
            port,
            frame[:14],
            frame[14:],
            Key(ingress, "mac", source, destination),
            outer_ttl=outer_ttl or 0,
        )
        if ethertype == 0x0806:
            self.parse_arp(packet)
        elif destination == BROADCAST:
            raise dropped("broadcast_not_carried")
        elif destination[0] & 1:
            raise dropped("multicast_not_carried")
        elif ethertype == 0x86DD:
            raise dropped("ipv6_not_carried")
        elif ethertype == 0x0800:
            self.parse_ipv4(packet, mtu)
        elif (ethertype < 0x600 or ethertype == 0x8870) and self.llc_carries_ip(packet.payload):
            raise dropped("llc_carries_ip")
        elif mtu and len(packet.payload) > mtu:
            raise dropped("frame_oversized")
        return packet

    @staticmethod
    def llc_carries_ip(llc: bytes) -> bool:
        """RFC 1042; 06 and 98 are the SAPs of IP and ARP."""
        if len(llc) < 3:
            return False
        if llc[0] == 0xAA:
            return llc[6:8] in (b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x81\x00", b"\x88\xa8")
        return llc[0] in (0x06, 0x98)

    def parse_arp(self, packet: Packet) -> None:
        if len(packet.payload) < 28:
            raise dropped("arp_malformed")
        packet.payload = packet.payload[:28]
        hardware, protocol, sizes, operation, sha, spa, _, tpa = struct.unpack(
            "!HHHH6s4s6s4s", packet.payload
        )
        destination, source = packet.ethernet[:6], packet.ethernet[6:12]
        if (hardware, protocol, sizes) != (1, 0x0800, 0x0604) or operation not in (1, 2) or sha != source:
            raise dropped("arp_malformed")
        if destination[0] & 1 and destination != BROADCAST:
            raise dropped("arp_malformed")
        if operation == 2 or spa == tpa:
            raise dropped("arp_unsolicited")
        if (spa != bytes(4) and not is_unicast(spa)) or not is_unicast(tpa):
            raise dropped("arp_malformed")
        packet.key = Key(packet.ingress, "neighbor", spa, tpa)

    def parse_ipv4(self, packet: Packet, mtu: int) -> None:
        ip = packet.payload
        if len(ip) < 20:
            raise dropped("frame_truncated")
        if ip[0] >> 4 != 4:
            raise dropped("ip_bad_version")
        header = (ip[0] & 15) * 4
        total, _, fragment = struct.unpack_from("!HHH", ip, 2)
        if header < 20 or total < header:
            raise dropped("ip_bad_length")
        if total > len(ip):
            raise dropped("ip_truncated_segment" if mtu and total > mtu else "ip_bad_length")
        believed = packet.ingress.believed
        if not believed and checksum(ip[:header]):
            raise dropped("ip_bad_checksum")
        source, destination, protocol = ip[12:16], ip[16:20], ip[9]
        if not believed and not (is_unicast(source) and is_unicast(destination)):
            raise dropped("ip_bad_address")
        if mtu and total > mtu:
            raise dropped("frame_oversized")
        ip = packet.payload = ip[:total]
        offset, more = (fragment & 0x1FFF) * 8, bool(fragment & 0x2000)
        if offset + total > 65535:
            raise dropped("ip_bad_length")
        if not offset:
            if total - header < L4_BYTES.get(protocol, 0):
                raise dropped("l4_truncated")
            if not more and packet.port.partial_checksums:
                packet.payload = ip = complete(ip)
        if packet.ethernet[:6] == packet.vnet.gateway_mac != NO_MAC:
            if ip[8] <= 1:
                raise dropped("ttl_exceeded")
            packet.routed = True
        packet.key = Key(packet.ingress, "routed" if packet.routed else "bridged", source, destination)

    @staticmethod
    def ports(ip: bytes) -> tuple[int, int]:
        l4 = ip[(ip[0] & 15) * 4 :]
        if ip[9] == ICMP:
            return l4[0], l4[1]
        if ip[9] in L4_BYTES:
            return struct.unpack_from("!HH", l4)  # type: ignore[return-value]
        return 0, 0

    @staticmethod
    def join_ecn(packet: Packet, outer: int) -> None:
        """RFC 6040, figure 4."""
        ip = packet.payload
        inner = ip[1] & 3
        if outer == CE and inner == NOT_ECT:
            raise dropped("ecn_congested")
        joined = {(CE, ECT0): CE, (CE, ECT1): CE, (ECT1, ECT0): ECT1}.get((outer, inner), inner)
        if joined != inner:
            header = (ip[0] & 15) * 4
            new = ip[:1] + bytes([ip[1] & ~3 | joined]) + ip[2:]
            packet.payload = with_checksum_updated(ip[:header], new[:header]) + new[header:]

    # -- decide --------------------------------------------------------------------------------

    def decide(self, packet: Packet) -> Outcome:
        action = self.tables.flows.get(packet.key)
        if action is not None and action.op == "narrow":
            if not packet.is_ip:
                raise dropped("not_supported")
            packet.key = replace(packet.key, connection=self.connection(packet))
            action = self.tables.flows.get(packet.key)
        if action is None:
            return Outcome("held", key=packet.key)
        if action.op == "drop":
            raise dropped(action.reason)
        self.look_at_source(packet, action)
        match action.op:
            case "answer" if packet.key.key_class == "neighbor":
                return self.answer(packet, action)
            case "forward" if packet.key.key_class != "neighbor":
                return self.forward(packet, action)
        raise dropped("not_supported")

    @staticmethod
    def look_at_source(packet: Packet, action: Action) -> None:
        """A source is an address and a MAC, where the decision says whose."""
        if packet.key.key_class == "neighbor" and isinstance(packet.ingress, Remote):
            return
        if action.source and action.source.mac not in (NO_MAC, packet.ethernet[6:12]):
            raise dropped("spoofed")

    def connection(self, packet: Packet) -> tuple[int, int, int]:
        ip = packet.payload
        number, fragment = struct.unpack_from("!HH", ip, 4)
        datagram = (packet.ingress, ip[12:16], ip[16:20], ip[9], number)
        if not fragment & 0x1FFF:
            if fragment & 0x2000:
                self.fragments[datagram] = self.ports(ip)
            return (ip[9], *self.ports(ip))
        ports = self.fragments.get(datagram)
        if ports is None:  # it waits for its first one, for 100 ms
            raise Ended(Outcome("held"))
        return (ip[9], *ports)

    # -- act -----------------------------------------------------------------------------------

    def forward(self, packet: Packet, action: Action) -> Outcome:
        location = action.destination
        assert location is not None
        if packet.routed and self.tables.vnets[location.vni].gateway_mac == NO_MAC:
            raise dropped("no_gateway")
        tunneled = isinstance(packet.ingress, Remote)
        if isinstance(location.target, Attachment):
            if location.target == packet.ingress and not packet.routed:
                raise dropped("hairpin")
            if location.target.mtu and len(packet.payload) > location.target.mtu:
                raise self.too_big(packet, action, location.target.mtu)
            self.rewrite(packet, location)
            return Outcome("delivered", sent=(self.out(location.target, packet.frame),))
        tunnel = location.target
        if isinstance(packet.ingress, Remote) and location.node == packet.ingress.node:
            raise dropped("relay_loop")
        if tunnel.hop is None:
            raise dropped("tunnel_unresolved")
        inner_mtu = tunnel.mtu - OUTER_BYTES - 14
        if len(packet.payload) > inner_mtu:
            raise self.too_big(packet, action, inner_mtu)
        ttl = 255
        if tunneled:
            ttl = packet.outer_ttl - 1
            if ttl <= 0:
                raise dropped("relay_hops")
        self.rewrite(packet, location)
        how = "relayed" if tunneled else "forwarded"
        return Outcome(how, sent=(self.encapsulate(packet.frame, packet.is_ip, location, ttl),))

    def rewrite(self, packet: Packet, location: Location) -> None:
        destination, source = packet.ethernet[:6], packet.ethernet[6:12]
        if location.mac != NO_MAC:
            destination = location.mac
        if packet.routed:
            source = self.tables.vnets[location.vni].gateway_mac
            ip = packet.payload
            header = (ip[0] & 15) * 4
            new = ip[:8] + bytes([ip[8] - 1]) + ip[9:]
            packet.payload = with_checksum_updated(ip[:header], new[:header]) + new[header:]
        packet.ethernet = destination + source + packet.ethernet[12:]

    @staticmethod
    def out(attachment: Attachment, frame: bytes) -> Sent:
        if attachment.vlan:
            frame = frame[:12] + struct.pack("!HH", 0x8100, attachment.vlan) + frame[12:]
        return Sent(attachment.port, frame)

    @staticmethod
    def encapsulate(inner: bytes, is_ip: bool, location: Location, ttl: int) -> Sent:
        tunnel = location.target
        assert isinstance(tunnel, Tunnel)
        assert tunnel.hop is not None
        tos = tunnel.dscp << 2
        if is_ip:
            tos = inner[15] if tunnel.dscp_copy else tunnel.dscp << 2 | inner[15] & 3
        vxlan = struct.pack("!II", 0x08000000, location.wire_id << 8)
        udp = struct.pack("!HHHH", 0, tunnel.udp_port, 16 + len(inner), 0)
        ip = struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            tos,
            OUTER_BYTES + len(inner),
            0,
            0x4000,
            min(ttl, tunnel.ttl),
            UDP,
            0,
            tunnel.local,
            tunnel.remote,
        )
        destination, source, port, vlan = tunnel.hop
        tag = struct.pack("!HH", 0x8100, vlan) if vlan else b""
        ethernet = destination + source + tag + struct.pack("!H", 0x0800)
        return Sent(port, ethernet + with_checksum(ip) + udp + vxlan + inner, len(ethernet) + 20)

    def back(self, packet: Packet, action: Action, frame: bytes, is_ip: bool) -> Sent | None:
        """The way it came; None: no way back."""
        if isinstance(packet.ingress, Attachment):
            return self.out(packet.ingress, frame)
        source = action.source
        if source is None or not isinstance(source.target, Tunnel):
            return None
        return self.encapsulate(frame, is_ip, source, 255) if source.target.hop else None

    def answer(self, packet: Packet, action: Action) -> Outcome:
        mac = action.destination.mac if action.destination else packet.vnet.gateway_mac
        if mac == NO_MAC:
            raise dropped("location_gone" if action.destination else "no_gateway")
        if mac == packet.ethernet[6:12]:
            raise dropped("arp_own_address")
        _, sha, spa, _, tpa = struct.unpack("!8s6s4s6s4s", packet.payload)
        reply = struct.pack("!HHHH6s4s6s4s", 1, 0x0800, 0x0604, 2, mac, tpa, sha, spa)
        sent = self.back(packet, action, sha + mac + b"\x08\x06" + reply, False)
        if sent is None:
            source = action.source
            unresolved = source is not None and isinstance(source.target, Tunnel)
            raise dropped("tunnel_unresolved" if unresolved else "location_gone")
        return Outcome("answered", sent=(sent,))

    def too_big(self, packet: Packet, action: Action, mtu: int) -> Ended:
        """RFC 792, RFC 1191; whom not to tell: RFC 1122 section 3.2.2."""
        ip = packet.payload
        if not packet.is_ip or not ip[6] & 0x40:
            return dropped("mtu_exceeded")
        header = (ip[0] & 15) * 4
        later = struct.unpack_from("!H", ip, 6)[0] & 0x1FFF
        if later or (ip[9] == ICMP and ip[header] in (3, 4, 5, 11, 12)):
            return dropped("mtu_frag_needed")
        quoted = ip[: header + 8]
        message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted
        message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
        vnet = packet.vnet
        source = vnet.gateway_address if vnet.gateway_address != bytes(4) else ip[16:20]
        header_bytes = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0xC0, 20 + len(message), 0, 0x4000, 64, ICMP, 0, source, ip[12:16]
        )
        mac = vnet.gateway_mac if vnet.gateway_mac != NO_MAC else packet.ethernet[:6]
        frame = packet.ethernet[6:12] + mac + b"\x08\x00" + with_checksum(header_bytes) + message
        sent = self.back(packet, action, frame, True)
        return dropped("mtu_frag_needed", sent=(sent,) if sent else ())
