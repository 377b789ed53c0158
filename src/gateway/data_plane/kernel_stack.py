# SPDX-License-Identifier: Apache-2.0
"""Keeps Linux's own network stack quiet on an interface that is a port of the gateway.

A NIC that DPDK drives is no Linux interface any more. With net_af_packet it still is one, and with net_af_xdp
for all frames that come by other queues: the kernel sees each frame as well. It would then answer ARP for the
addresses of the exception interface, send port-unreachable for every VXLAN packet that the gateway takes,
and forward what the gateway forwards once more. So the interface is told, in the network namespace of the
calling process:

    net.ipv4.conf.IF.arp_ignore = 8      no ARP request is answered
    net.ipv4.conf.IF.rp_filter = 1       what cannot be answered by this interface is not taken: nothing can
    net.ipv4.conf.IF.forwarding = 0
    net.ipv6.conf.IF.disable_ipv6 = 1

An interface with IPv4 addresses of its own carries other traffic, perhaps the operator's own: that one is
left as it is, with a warning. The settings stay when the data plane ends: another one may take over.
"""

from __future__ import annotations

import fcntl
import logging
import socket
import struct
from pathlib import Path

from gateway.configuration.device import parse_device

log = logging.getLogger(__name__)

SHARED_DRIVERS = ("net_af_packet", "net_af_xdp")
SETTINGS = (
    ("net/ipv4/conf/{}/arp_ignore", "8"),
    ("net/ipv4/conf/{}/rp_filter", "1"),
    ("net/ipv4/conf/{}/forwarding", "0"),
    ("net/ipv6/conf/{}/disable_ipv6", "1"),
)
SIOCGIFADDR = 0x8915


def quiet_port(name: str, device: str, sysctl: Path = Path("/proc/sys")) -> bool:
    """Quiet the kernel on a port's interface, if it has one that the kernel sees, too. Returns whether the
    gateway is alone there; if not, what stands in the way is logged."""
    parsed = parse_device(device)
    interface = parsed.interface
    if parsed.driver not in SHARED_DRIVERS or "/" in interface or not interface:
        return True
    if not (sysctl / "net/ipv4/conf" / interface).is_dir():
        return True  # there is none of this name: opening the port will say so
    if _has_address(interface):
        log.warning(
            "port %s: interface %s has addresses of its own, so Linux answers there beside the gateway, also "
            "for the gateway's addresses; fix: ip addr flush dev %s, and put them in port.%s: addresses",
            *(name, interface, interface, name),
        )
        return False
    alone = _filters_strictly(name, interface, sysctl)
    for setting, value in SETTINGS:
        path = sysctl / setting.format(interface)
        try:
            if path.read_text().strip() != value:
                path.write_text(value)
        except FileNotFoundError:
            continue  # a kernel without IPv6
        except OSError as error:
            alone = False
            log.warning(
                "port %s: Linux answers on %s beside the gateway: %s cannot be set: %s; fix: sysctl -w %s=%s",
                *(name, interface, path, error.strerror, setting.format(interface), value),
            )
    return alone


def _filters_strictly(name: str, interface: str, sysctl: Path) -> bool:
    """The kernel takes the larger of an interface's rp_filter and that of "all", and 2 is the weaker one."""
    if (sysctl / "net/ipv4/conf/all/rp_filter").read_text().strip() != "2":
        return True
    log.warning(
        "port %s: Linux answers on %s beside the gateway, since net.ipv4.conf.all.rp_filter is 2; "
        "fix: sysctl -w net.ipv4.conf.all.rp_filter=0",
        *(name, interface),
    )
    return False


def _has_address(interface: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as question:
        try:
            fcntl.ioctl(question, SIOCGIFADDR, struct.pack("16s24x", interface.encode()[:15]))
        except OSError:
            return False
    return True
