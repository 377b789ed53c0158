# SPDX-License-Identifier: Apache-2.0
"""A switch's trunk in 60 lines, for kernels without VLAN devices: `python -m demo.trunk PORT VLAN TAP`.

Gives a host a TAP as its cable (moved into the host's namespace by the caller) and carries its frames, tagged
with VLAN, out of and into the kernel side of the gateway's port PORT. A TAP rather than a veth, since the
kernel finishes checksums and segments before a frame reaches a TAP's file.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys

TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
SOL_PACKET = 263
PACKET_AUXDATA = 8
PACKET_OUTGOING = 4
TP_STATUS_VLAN_VALID = 1 << 4
ETH_P_ALL = 3
VLAN_ETHERTYPE = 0x8100


def open_tap(name: str) -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return tap


def open_port(name: str) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.bind((name, ETH_P_ALL))
    port.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    return port


def vlan_of(ancillary: list[tuple[int, int, bytes]]) -> int:
    """VLAN id that the kernel took out of the frame (struct tpacket_auxdata), 0 if there was none."""
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, *_, tag, _ = struct.unpack("IIIHHHH", data[:20])
            return tag & 0xFFF if status & TP_STATUS_VLAN_VALID else 0
    return 0


def carry(port: socket.socket, tap: int, vlan: int) -> None:
    """Carry frames both ways until killed."""
    tag = struct.pack("!HH", VLAN_ETHERTYPE, vlan)
    while True:
        ready, _, _ = select.select([port, tap], [], [])
        try:
            if tap in ready:
                frame = os.read(tap, 65536)
                port.send(frame[:12] + tag + frame[12:])
            if port in ready:
                frame, ancillary, _, sender = port.recvmsg(65536, 64)
                if sender[2] != PACKET_OUTGOING and vlan_of(ancillary) == vlan:
                    os.write(tap, frame)
        except OSError:
            continue  # an end is down for the moment: the frame is lost, as on a pulled cable


if __name__ == "__main__":
    with open_port(sys.argv[1]) as trunk_port:
        host_tap = open_tap(sys.argv[3])
        print("ready", flush=True)
        carry(trunk_port, host_tap, int(sys.argv[2]))
