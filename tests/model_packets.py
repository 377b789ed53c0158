# SPDX-License-Identifier: Apache-2.0
"""What the model of the pipeline is given, and what it says of a frame: plain Python values."""

from __future__ import annotations

from dataclasses import dataclass, field

INSIDE, UNDERLAY, BOTH = 1, 2, 3
NO_MAC = bytes(6)


@dataclass(frozen=True)
class Port:
    role: int
    mac: bytes
    mtu: int = 1500
    partial_checksums: bool = False
    underlay_vlans: frozenset[int] | None = None  # None: any


@dataclass(frozen=True)
class Vnet:
    vni: int
    gateway_mac: bytes = NO_MAC
    gateway_address: bytes = bytes(4)


@dataclass(frozen=True)
class Attachment:
    """An ingress: (port, VLAN) of this node."""

    vni: int
    port: int
    vlan: int
    mtu: int = 0

    believed = False


@dataclass(frozen=True)
class Remote:
    """An ingress: (remote node, V-net). Believed: a gateway of ours has checked what comes from there."""

    vni: int
    node: int
    believed: bool = True


@dataclass(frozen=True)
class Tunnel:
    local: bytes
    remote: bytes
    udp_port: int
    mtu: int
    ttl: int
    dscp: int
    dscp_copy: bool
    hop: tuple[bytes, bytes, int, int] | None  # destination MAC, source MAC, port, VLAN; None: unresolved


@dataclass(frozen=True)
class Location:
    vni: int
    target: Attachment | Tunnel
    mac: bytes = NO_MAC
    wire_id: int = 0
    node: int = 0


@dataclass(frozen=True)
class Key:
    ingress: Attachment | Remote
    key_class: str  # routed, bridged, mac, neighbor
    source: bytes
    destination: bytes
    connection: tuple[int, int, int] | None = None  # protocol, ports (ICMP: type, code); None: pair level


@dataclass(frozen=True)
class Action:
    """forward covers encapsulate, deliver and relay: where the location is says which."""

    op: str  # forward, drop, answer, narrow
    destination: Location | None = None
    source: Location | None = None
    reason: str = ""


@dataclass
class Tables:
    ports: list[Port]
    vnets: dict[int, Vnet] = field(default_factory=dict)
    attachments: dict[tuple[int, int], Attachment] = field(default_factory=dict)
    locators: dict[tuple[bytes, bytes, int], Remote] = field(default_factory=dict)  # local, remote, VNI
    udp_ports: set[int] = field(default_factory=set)
    flows: dict[Key, Action] = field(default_factory=dict)


@dataclass(frozen=True)
class Sent:
    port: int
    frame: bytes
    source_port_at: int | None = None  # where the outer UDP source port stands


@dataclass(frozen=True)
class Outcome:
    """How one frame ended. how: forwarded, delivered, relayed, answered, dropped, exception, held."""

    how: str
    reason: str = ""
    sent: tuple[Sent, ...] = ()
    key: Key | None = None
    locator: tuple[bytes, bytes, int] | None = None  # asked for: an unknown outer source
