# SPDX-License-Identifier: Apache-2.0
"""Messages as Linux writes them (rtnetlink(7), if_link.h), byte by byte: a kernel may lack what they tell."""

from __future__ import annotations

import struct
from ipaddress import IPv4Interface

from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from gateway.underlay.netlink import link_of
from gateway.underlay.nexthop import Link, Tables, underlay_vlans

RTM_NEWLINK = 16
IFF_UP, IFF_LOWER_UP = 1, 1 << 16
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_LINKINFO = 1, 3, 4, 5, 18
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_VLAN_ID, IFLA_VLAN_FLAGS, IFLA_VLAN_PROTOCOL = 1, 2, 5


def attribute(number: int, value: bytes) -> bytes:
    return (struct.pack("=HH", 4 + len(value), number) + value).ljust(4 + (len(value) + 3) // 4 * 4, b"\0")


def new_link(index: int, name: str, *more: bytes) -> Link:
    """What is made of an RTM_NEWLINK of an Ethernet interface that is up."""
    body = struct.pack("=BxHiII", 0, 1, index, IFF_UP | IFF_LOWER_UP, 0)
    body += attribute(IFLA_IFNAME, name.encode() + b"\0")
    body += attribute(IFLA_ADDRESS, b"\x02\0\0\0\0\x07") + attribute(IFLA_MTU, struct.pack("=I", 1500))
    body += b"".join(more)
    head = struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, 0, 1, 0)
    (message,) = MarshalRtnl().parse(head + body)
    return link_of(message)


def vlan_link(index: int, name: str, below: int, vlan: int) -> Link:
    data = attribute(IFLA_VLAN_PROTOCOL, struct.pack(">H", 0x8100)) + attribute(
        IFLA_VLAN_ID, struct.pack("=H", vlan)
    )
    data += attribute(IFLA_VLAN_FLAGS, struct.pack("=II", 1, 0xFFFFFFFF))
    info = attribute(IFLA_INFO_KIND, b"vlan\0") + attribute(IFLA_INFO_DATA, data)
    below_it = attribute(IFLA_LINK, struct.pack("=I", below))
    return new_link(index, name, below_it, attribute(IFLA_LINKINFO, info))


def test_a_vlan_interface_says_its_vlan_and_what_is_below_it() -> None:
    found = vlan_link(9, "uplink.20", 4, 20)
    assert found == Link(9, "uplink.20", "02:00:00:00:00:07", 1500, True, True, parent=4, vlan=20)


def test_one_end_of_a_veth_is_on_nothing() -> None:
    info = attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"veth\0"))
    found = new_link(5, "rack", attribute(IFLA_LINK, struct.pack("=I", 6)), info)
    assert (found.parent, found.vlan) == (0, 0)


def test_vlan_interfaces_with_an_address_are_the_underlays_as_long_as_they_are_there() -> None:
    tables = Tables({4: new_link(4, "uplink")}, addresses={(4, IPv4Interface("192.0.2.1/24"))})
    assert underlay_vlans("uplink", tables) == (0,)
    tables.links[9] = vlan_link(9, "uplink.20", 4, 20)
    assert underlay_vlans("uplink", tables) == (0,)
    tables.addresses.add((9, IPv4Interface("198.51.100.5/24")))
    assert underlay_vlans("uplink", tables) == (0, 20)
    del tables.links[9]
    assert underlay_vlans("uplink", tables) == (0,)
