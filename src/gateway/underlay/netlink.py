# SPDX-License-Identifier: Apache-2.0
"""rtnetlink on plain sockets that the caller polls: pyroute2's message codecs, none of its event loops.

`Requests` asks and waits for the kernel's answer (the kernel answers at once; 2 s at most). `Events` is a
non-blocking socket with a `fileno()` for the caller's poller. Neither makes a thread; use both from one.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from gateway.underlay.nexthop import Address, Link, Neighbour, Route, Way

Message = dict[str, Any]
Interface = IPv4Interface | IPv6Interface

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE = 32, 33

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_F_FIB_MATCH = 0x2000
NTF_USE, NTF_EXT_MANAGED = 1, 1
IFF_UP, IFF_LOWER_UP = 1, 0x10000
IFA_PROTO_OURS = 118  # marks addresses that this gateway put on an interface (Linux 5.18)

# link, neighbour, IPv4 address, route, rule; IPv6 address, route, rule; next-hop objects
EVENT_GROUPS = (1, 3, 5, 7, 8, 9, 11, 19, 32)

NUD_NAMES = {
    0: "none",
    1: "incomplete",
    2: "reachable",
    4: "stale",
    8: "delay",
    16: "probe",
    32: "failed",
    64: "noarp",
    128: "permanent",
}
ROUTE_KINDS = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
}
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1


class NetlinkError(OSError):
    """The kernel refused a request; `errno` says why."""


class Overrun(Exception):
    """Events were lost: the caller must read the tables again."""


def attributes(message: Any) -> dict[str, Any]:
    """Return a message's attributes as a map; of repeated ones the last."""
    return dict(tuple(pair)[:2] for pair in message.get("attrs", ()))


class Requests:
    """Questions to the kernel, one at a time, in the network namespace of the calling process."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._socket.settimeout(2.0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._marshal = MarshalRtnl()
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def ask(self, message: Any, kind: int, flags: int = NLM_F_ACK) -> list[Message]:
        """Send one message; return the answers. Raises NetlinkError with the kernel's errno."""
        self._sequence += 1
        message["header"]["type"] = kind
        message["header"]["flags"] = NLM_F_REQUEST | flags
        message["header"]["sequence_number"] = self._sequence
        message.encode()
        self._socket.send(message.data)
        answers: list[Message] = []
        dumping = flags & NLM_F_DUMP == NLM_F_DUMP
        while True:
            for answer in self._marshal.parse(self._socket.recv(1 << 18)):
                header = answer["header"]
                if header["sequence_number"] != self._sequence:
                    continue
                if header["type"] == NLMSG_DONE:
                    return answers
                if header["type"] == NLMSG_ERROR:
                    code = abs(getattr(header["error"], "code", 0) or 0) if header["error"] else 0
                    if code:
                        raise NetlinkError(code, os.strerror(code))
                    return answers
                answers.append(answer)
            if answers and not dumping and not flags & NLM_F_ACK:
                return answers

    def links(self) -> list[Link]:
        return [link_of(m) for m in self.ask(ifinfmsg(), RTM_GETLINK, NLM_F_DUMP)]

    def link(self, name: str) -> Link | None:
        """Return the link of that name, None if there is none."""
        message = ifinfmsg()
        message["attrs"] = [("IFLA_IFNAME", name)]
        try:
            return link_of(self.ask(message, RTM_GETLINK, 0)[0])
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def addresses(self) -> list[Address]:
        return [address_of(m) for m in self.ask(ifaddrmsg(), RTM_GETADDR, NLM_F_DUMP)]

    def neighbours(self) -> list[Neighbour]:
        found = (neighbour_of(m) for m in self.ask(ndmsg(), RTM_GETNEIGH, NLM_F_DUMP))
        return [n for n in found if n is not None]

    def route(
        self, remote: IPv4Address | IPv6Address, local: IPv4Address | IPv6Address | None
    ) -> Route | None:
        """Return the route that the kernel would take (policy rules included, all ways of a multipath
        route), None if there is none. `local` must stand on this machine or be None."""
        message = rtmsg()
        message["family"] = family_of(remote)
        message["dst_len"] = remote.max_prefixlen
        message["flags"] = RTM_F_FIB_MATCH
        message["attrs"] = [("RTA_DST", str(remote))]
        if local is not None:
            message["src_len"] = local.max_prefixlen
            message["attrs"].append(("RTA_SRC", str(local)))
        try:
            return route_of(self.ask(message, RTM_GETROUTE, 0)[0])
        except NetlinkError as error:
            refusals = {
                errno.EINVAL: "blackhole",
                errno.EHOSTUNREACH: "unreachable",
                errno.EACCES: "prohibit",
            }
            if error.errno in refusals:
                return Route(refusals[error.errno], (), 0)
            if error.errno == errno.ENETUNREACH:
                return None
            raise

    def set_link(
        self, index: int, *, mac: str | None = None, mtu_bytes: int | None = None, up: bool | None = True
    ) -> None:
        """Change what is given. `up`: None leaves it."""
        message = ifinfmsg()
        message["index"] = index
        message["flags"] = IFF_UP if up else 0
        message["change"] = 0 if up is None else IFF_UP
        message["attrs"] = []
        if mac is not None:
            message["attrs"].append(("IFLA_ADDRESS", mac))
        if mtu_bytes is not None:
            message["attrs"].append(("IFLA_MTU", mtu_bytes))
        self.ask(message, RTM_NEWLINK)

    def add_address(self, index: int, interface: Interface) -> None:
        """Put an address on an interface, marked as ours; done if it is there already."""
        message = address_message(index, interface)
        message["attrs"].append(("IFA_PROTO", IFA_PROTO_OURS))
        self.ask(message, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)

    def remove_address(self, index: int, interface: Interface) -> None:
        self.ask(address_message(index, interface), RTM_DELADDR)

    def keep_neighbour(self, index: int, address: IPv4Address | IPv6Address) -> None:
        """Make the kernel keep a neighbour resolved by itself (`ip neigh … managed`)."""
        message = neighbour_message(index, address)
        message["attrs"].append(("NDA_FLAGS_EXT", NTF_EXT_MANAGED))
        self.ask(message, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)

    def probe_neighbour(self, index: int, address: IPv4Address | IPv6Address) -> None:
        """Make the kernel resolve a neighbour now, as if a packet were waiting for it."""
        message = neighbour_message(index, address)
        message["flags"] = NTF_USE
        self.ask(message, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE)

    def forget_neighbour(self, index: int, address: IPv4Address | IPv6Address) -> None:
        try:
            self.ask(neighbour_message(index, address), RTM_DELNEIGH)
        except NetlinkError as error:
            if error.errno not in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
                raise


class Events:
    """What changes in links, addresses, neighbours, routes and rules, as messages."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((0, 0))
        for group in EVENT_GROUPS:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        self._socket.setblocking(False)
        self._marshal = MarshalRtnl()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self, limit: int = 256) -> Iterator[Message]:
        """Yield what is there, at most `limit` datagrams. Raises Overrun if the kernel dropped some."""
        for _ in range(limit):
            try:
                data = self._socket.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Overrun from error
                raise
            yield from self._marshal.parse(data)


def family_of(address: IPv4Address | IPv6Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def address_message(index: int, interface: Interface) -> Any:
    message = ifaddrmsg()
    message["family"] = family_of(interface.ip)
    message["prefixlen"] = interface.network.prefixlen
    message["index"] = index
    message["attrs"] = [("IFA_LOCAL", str(interface.ip)), ("IFA_ADDRESS", str(interface.ip))]
    return message


def neighbour_message(index: int, address: IPv4Address | IPv6Address) -> Any:
    message = ndmsg()
    message["family"] = family_of(address)
    message["ifindex"] = index
    message["attrs"] = [("NDA_DST", str(address))]
    return message


def link_of(message: Message) -> Link:
    attrs = attributes(message)
    info = attributes(attrs["IFLA_LINKINFO"]) if "IFLA_LINKINFO" in attrs else {}
    vlan = 0
    if info.get("IFLA_INFO_KIND") == "vlan":
        vlan = attributes(info.get("IFLA_INFO_DATA", {})).get("IFLA_VLAN_ID", 0)
    return Link(
        index=message["index"],
        name=attrs.get("IFLA_IFNAME", ""),
        mac=attrs.get("IFLA_ADDRESS") or "",
        mtu_bytes=attrs.get("IFLA_MTU", 0),
        up=bool(message["flags"] & IFF_UP),
        carrier=bool(message["flags"] & IFF_LOWER_UP),
        parent=attrs.get("IFLA_LINK", 0) if vlan else 0,
        vlan=vlan,
    )


def address_of(message: Message) -> Address:
    attrs = attributes(message)
    text = attrs.get("IFA_LOCAL") or attrs.get("IFA_ADDRESS")
    return Address(
        message["index"],
        ip_interface(f"{text}/{message['prefixlen']}"),
        attrs.get("IFA_PROTO") == IFA_PROTO_OURS,
    )


def neighbour_of(message: Message) -> Neighbour | None:
    """Return the neighbour of a message, None where it is none of IP (bridge entries, proxies)."""
    attrs = attributes(message)
    if message["family"] not in (socket.AF_INET, socket.AF_INET6) or "NDA_DST" not in attrs:
        return None
    return Neighbour(
        index=message["ifindex"],
        address=ip_address(attrs["NDA_DST"]),
        mac=attrs.get("NDA_LLADDR"),
        state=NUD_NAMES.get(message["state"], "none"),
        managed=bool(attrs.get("NDA_FLAGS_EXT", 0) & NTF_EXT_MANAGED),
    )


def route_of(message: Message) -> Route:
    attrs = attributes(message)
    kind = ROUTE_KINDS.get(message["type"], "unknown")
    metrics = attributes(attrs["RTA_METRICS"]) if "RTA_METRICS" in attrs else {}
    if "RTA_MULTIPATH" in attrs:
        ways = tuple(_way_of(hop["oif"], attributes(hop)) for hop in attrs["RTA_MULTIPATH"])
    elif "RTA_OIF" in attrs:
        ways = (_way_of(attrs["RTA_OIF"], attrs),)
    else:
        ways = ()
    return Route(kind, ways, metrics.get("RTAX_MTU", 0))


def _way_of(index: int, attrs: dict[str, Any]) -> Way:
    gateway = attrs.get("RTA_GATEWAY")
    if gateway is None and isinstance(attrs.get("RTA_VIA"), dict):  # an IPv4 route by an IPv6 next hop
        gateway = attrs["RTA_VIA"].get("addr")
    return Way(index, ip_address(gateway) if gateway else None)
