# SPDX-License-Identifier: Apache-2.0
"""Packets that a gateway must refuse: `python -m demo.forge source|tunnel …`, run in a host's namespace.

source MAC FORGED_ADDRESS TARGET_ADDRESS COUNT     UDP with somebody else's source address, out of eth0
tunnel VNI GATEWAY TARGET_MAC TARGET_ADDRESS COUNT VXLAN from an address that is no VTEP
"""

from __future__ import annotations

import sys

from scapy.all import IP, UDP, Ether, getmacbyip, send, sendp
from scapy.layers.vxlan import VXLAN

PORT = 7999
MARK = b"forged"


def source(mac: str, forged: str, target: str, count: int) -> None:
    frame = Ether(src=mac, dst=getmacbyip(target)) / IP(src=forged, dst=target) / UDP(dport=PORT) / MARK
    sendp(frame, iface="eth0", count=count, verbose=False)


def tunnel(vni: int, gateway: str, target_mac: str, target: str, count: int) -> None:
    claimed = Ether(src="02:00:00:00:01:11", dst=target_mac) / IP(src="10.0.0.11", dst=target)
    inner = claimed / UDP(dport=PORT) / MARK
    outer = IP(dst=gateway) / UDP(sport=50000, dport=4789) / VXLAN(vni=vni, flags=8)
    send(outer / inner, count=count, verbose=False)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["source", mac, forged, target, count]:
            source(mac, forged, target, int(count))
        case ["tunnel", vni, gateway, mac, target, count]:
            tunnel(int(vni), gateway, mac, target, int(count))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
