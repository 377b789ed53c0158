# SPDX-License-Identifier: Apache-2.0
"""Checksums that a kernel leaves to be completed, in plain Python: also in tunnels of the sender's own."""

from __future__ import annotations

import struct

TCP, UDP, SCTP, IPIP, GRE = 6, 17, 132, 4, 47
DEEPEST = 2


def checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071, one 16-bit word after another."""
    if len(data) % 2:
        data += b"\0"
    total = sum(word for (word,) in struct.iter_unpack("!H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def crc32c(data: bytes) -> int:
    """The CRC of SCTP, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def complete(ip: bytes, deep: int = 0) -> bytes:
    """Finish what is not finished in a whole IPv4 packet that was checked."""
    header, l4 = ip[: (ip[0] & 15) * 4], ip[(ip[0] & 15) * 4 :]
    match ip[9]:
        case 6 if len(l4) >= 20:
            return header + completed(header, l4, 16)
        case 17 if len(l4) >= 8:
            return header + completed(header, l4[:8] + inside_udp(l4[8:], deep), 6)
        case 132 if len(l4) >= 12 and l4[8:12] == bytes(4):
            return header + l4[:8] + struct.pack("<I", crc32c(l4)) + l4[12:]
        case 4:
            return header + inside_ip(l4, deep)
        case 47:
            return header + inside_gre(l4, deep)
    return ip


def completed(header: bytes, l4: bytes, at: int) -> bytes:
    """A field that holds the sum of the pseudo-header becomes the checksum."""
    pseudo = header[12:20] + struct.pack("!HH", header[9], len(l4))
    if l4[at : at + 2] != struct.pack("!H", ~checksum(pseudo) & 0xFFFF):
        return l4
    whole = checksum(pseudo + l4[:at] + b"\0\0" + l4[at + 2 :])
    if whole == 0 and header[9] == UDP:
        whole = 0xFFFF
    return l4[:at] + struct.pack("!H", whole) + l4[at + 2 :]


def inside_ip(ip: bytes, deep: int) -> bytes:
    """What is exactly an IPv4 packet, whole and with the right checksum."""
    if deep == DEEPEST or len(ip) < 20 or ip[0] >> 4 != 4:
        return ip
    header = (ip[0] & 15) * 4
    total, _, fragment = struct.unpack_from("!HHH", ip, 2)
    if not 20 <= header <= total == len(ip) or fragment & 0x3FFF or checksum(ip[:header]):
        return ip
    return complete(ip, deep + 1)


def inside_frame(frame: bytes, deep: int) -> bytes:
    at = 18 if frame[12:14] == b"\x81\x00" else 14
    if frame[at - 2 : at] != b"\x08\x00":
        return frame
    return frame[:at] + inside_ip(frame[at:], deep)


def inside_gre(gre: bytes, deep: int) -> bytes:
    if len(gre) < 4:
        return gre
    flags, protocol = struct.unpack_from("!HH", gre)
    if flags & ~0xB000:
        return gre
    at = 4 + 4 * flags.bit_count()
    inside = {0x0800: inside_ip, 0x6558: inside_frame}.get(protocol)
    return gre[:at] + inside(gre[at:], deep) if inside else gre


def inside_udp(data: bytes, deep: int) -> bytes:
    """Geneve with a frame, or VXLAN (GBP and GPE too), at any port."""
    if len(data) < 8 or data[7]:
        return data
    at = 8
    if data[0] >> 6 == 0 and data[2:4] == b"\x65\x58":
        at += 4 * (data[0] & 0x3F)
    elif not data[0] & 8:
        return data
    inside = inside_ip if data[0] & 12 == 12 and data[3] == 1 else inside_frame
    return data[:at] + inside(data[at:], deep)
