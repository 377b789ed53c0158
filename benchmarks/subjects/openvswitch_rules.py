# SPDX-License-Identifier: Apache-2.0
"""OpenFlow rules by which Open vSwitch does for a scenario's traffic what our gateway does.

Bridge `members` has the member port (1) and a VXLAN port (2) whose far end and VNI the rules set for each
packet; bridge `underlay` has the underlay's port (1). Table 0 asks who may send (port or tunnel, V-net, MAC,
address: anti-spoofing), table 1 where the destination is. Where the member port is shared by VLAN, the tag is
asked for and taken off in table 0, put on in table 1.

That a sender is looked at makes a cached flow a pair of members, as in ours: a policy between two members
can only be held per pair. `per_destination` leaves the sender out, so that one cached flow serves all
senders of a destination: less than our work, and only different where flows share destinations."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.sources import traffic
from benchmarks.sources.traffic import VNI, Traffic

MEMBER_PORT, TUNNEL_PORT, UNDERLAY_PORT, CAPTURE_PORT = 1, 2, 1, 3
OFPVID_PRESENT = 0x1000  # OpenFlow 1.3, A.2.3.7: that there is a tag, beside its number
CLOSED = "table=0,priority=100,in_port={port},actions=drop"


def rules(sent: Traffic, per_destination: bool = False) -> Iterator[str]:
    """Rules of bridge `members`, one a line of ovs-ofctl."""
    if sent.direction == "encap":
        where = f"in_port={MEMBER_PORT}" + (f",dl_vlan={sent.vlan}" if sent.vlan else "")
        yield from _admit(sent, where, 0 if per_destination else sent.here)
        for number in range(sent.there):
            remote = traffic.tunnel_address(number % sent.tunnels)
            yield (
                f"table=1,priority=10,{_to(sent.family, 'there', number)},actions=set_field:{VNI}->tun_id,"
                f"set_field:{remote}->tun_dst,output:{TUNNEL_PORT}"
            )
    else:
        where = f"in_port={TUNNEL_PORT},tun_id={VNI}"
        yield from _admit(sent, where, 0 if per_destination else sent.there)
        push = f"push_vlan:0x8100,set_field:{OFPVID_PRESENT | sent.vlan}->vlan_vid," if sent.vlan else ""
        for number in range(sent.here):
            yield f"table=1,priority=10,{_to(sent.family, 'here', number)},actions={push}output:{MEMBER_PORT}"


def closed(sent: Traffic) -> str:
    """A rule above all others that lets nothing in."""
    return CLOSED.format(port=MEMBER_PORT if sent.direction == "encap" else TUNNEL_PORT)


def underlay_rules(port: int = UNDERLAY_PORT) -> Iterator[str]:
    """Rules of bridge `underlay`: between the tunnel endpoint, which is the bridge itself, and a port."""
    yield f"priority=10,in_port=LOCAL,actions=output:{port}"
    yield f"priority=10,in_port={UNDERLAY_PORT},actions=LOCAL"


def _admit(sent: Traffic, where: str, senders: int) -> Iterator[str]:
    pop = "pop_vlan," if sent.vlan and sent.direction == "encap" else ""
    if not senders:
        yield f"table=0,priority=10,{where},actions={pop}goto_table:1"
        return
    for number in range(senders):
        if sent.direction == "encap":
            sender = _from(sent.family, "here", number)
            yield f"table=0,priority=10,{where},{sender},actions={pop}goto_table:1"
        else:
            tunnel = f"tun_src={traffic.tunnel_address(number % sent.tunnels)}"
            yield (
                f"table=0,priority=10,{where},{tunnel},{_from(sent.family, 'there', number)},"
                "actions=goto_table:1"
            )


def _from(family: int, side: str, number: int) -> str:
    return _match(family, side, number, "src")


def _to(family: int, side: str, number: int) -> str:
    return _match(family, side, number, "dst")


def _match(family: int, side: str, number: int, end: str) -> str:
    address = (traffic.address_here if side == "here" else traffic.address_there)(family, number)
    mac = (traffic.mac_here if side == "here" else traffic.mac_there)(number)
    kind, field = ("ip", "nw") if family == 4 else ("ipv6", "ipv6")
    return f"{kind},dl_{end}={mac},{field}_{end}={address}"
