# SPDX-License-Identifier: Apache-2.0
"""The operations of pushes and snapshots (docs/protocol.md, section 2.3), by which a node's view of a V-net
is made and changed. Each is checked by itself: one that is wrong spoils no other, one that is not known does
nothing.

Addresses and MACs are bytes (16 and 6) or text.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

U1 = Annotated[int, Meta(ge=0, le=1)]
U4 = Annotated[int, Meta(ge=0, le=15)]
U6 = Annotated[int, Meta(ge=0, le=63)]
U8 = Annotated[int, Meta(ge=0, le=255)]
U12 = Annotated[int, Meta(ge=0, le=4_095)]
U16 = Annotated[int, Meta(ge=0, le=65_535)]
U24 = Annotated[int, Meta(ge=0, le=(1 << 24) - 1)]
U32 = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
U64 = Annotated[int, Meta(ge=0)]  # msgpack has no larger ones
Address = Any  # bytes or text, which one declaration cannot say: whoever makes a record of it looks
Mac = Any
Flag = bool | int  # any number but zero is true


class Operation(Struct, tag_field="op", kw_only=True, frozen=True):
    """What every operation may say. `vni`: of the V-net whose message it stands in."""

    vni: int | None = None


class VnetOperation(Operation, tag="vnet", kw_only=True, frozen=True):
    """The V-net itself."""

    object_id: U64
    name: str = ""
    gateway_mac: Mac
    gateway_address: Address = None
    quota_flows: U32 = 0
    quota_misses_per_s: U32 = 0
    stale_max_s: U32 = 0


class VnetRemoved(Operation, tag="vnet_removed", kw_only=True, frozen=True):
    """The V-net is not at this node any more."""

    object_id: U64


class AttachmentOperation(Operation, tag="attachment", kw_only=True, frozen=True):
    """Where members of the V-net are attached to this node."""

    object_id: U64
    port: str
    vlan: U12
    mtu_bytes: U16 = 0


class AttachmentRemoved(Operation, tag="attachment_removed", kw_only=True, frozen=True):
    """That is no more."""

    object_id: U64
    port: str = ""
    vlan: U12 = 0
    mtu_bytes: U16 = 0


class IngressOperation(Operation, tag="ingress", kw_only=True, frozen=True):
    """From where packets of the V-net may come by a tunnel."""

    node_id: U64
    local: Address
    remote: Address
    protocol: U8
    wire_id: U32
    udp_port: U16 = 0
    relay: Flag = False
    foreign: Flag = False
    check: Flag = False


class IngressRemoved(Operation, tag="ingress_removed", kw_only=True, frozen=True):
    """They may no longer."""

    node_id: U64 = 0
    local: Address
    remote: Address
    protocol: U8
    wire_id: U32
    udp_port: U16 = 0
    relay: Flag = False
    foreign: Flag = False
    check: Flag = False


class TunnelOperation(Operation, tag="tunnel", kw_only=True, frozen=True):
    """A tunnel that the V-net may use."""

    object_id: U64
    profile_id: U64 = 0
    node_id: U64
    node: str = ""
    profile: str = ""
    local: Address
    remote: Address
    udp_port: U16
    mtu_bytes: U16
    protocol: U8
    ttl: U8
    dscp: U6 = 0
    dscp_copy: bool | U1 = 0
    backup_id: U64 = 0
    revision: U64 | None = None


class TunnelRemoved(Operation, tag="tunnel_removed", kw_only=True, frozen=True):
    """The V-net uses it no longer."""

    object_id: U64


class LocationOperation(Operation, tag="location", kw_only=True, frozen=True):
    """Where an endpoint or a route is."""

    way: U4 = 0
    kind: U8
    mac: Mac
    object_id: U64
    target_id: U64
    node_id: U64
    wire_id: U32
    revision: U64 | None = None


class LocationRemoved(Operation, tag="location_removed", kw_only=True, frozen=True):
    """It is nowhere."""

    object_id: U64
    way: U4 = 0


class PeeringOperation(Operation, tag="peering", kw_only=True, frozen=True):
    """Members of another V-net may be reached (`to_vni`), or may reach this one's (`from_vni`): one of the
    two, the other is 0."""

    to_vni: U24
    from_vni: U24 = 0


class PeeringRemoved(Operation, tag="peering_removed", kw_only=True, frozen=True):
    """They may no longer."""

    to_vni: U24
    from_vni: U24 = 0


class ScopeOperation(Operation, tag="scope", kw_only=True, frozen=True):
    """What was decided in here is to be decided again (`kind`: how, FP_CHANGE_*)."""

    kind: U8
    source: Address = None
    destination: Address = None
    source_bits: Annotated[int, Meta(ge=0, le=128)] = 0
    destination_bits: Annotated[int, Meta(ge=0, le=128)] = 0
    protocol: U8 = 0
    port_low: U16 = 0
    port_high: U16 = 65_535
    either_direction: Flag = False
    source_port: Flag = False
    connections: Flag = False
    judged: Flag = False
    ip: Flag = False
    revision: U64 | None = None


class Announce(Operation, tag="announce", kw_only=True, frozen=True):
    """An endpoint has just come to these attachments of this node."""

    object_id: U64
    name: str = ""
    mac: Mac
    addresses: list[Address]
    attachments: list[U64] = field(default_factory=list)


class AnnounceLeft(Operation, tag="announce_left", kw_only=True, frozen=True):
    """An endpoint has just left this node, and is elsewhere now."""

    object_id: U64
    name: str = ""
    mac: Mac
    addresses: list[Address]


class Resync(Operation, tag="resync", kw_only=True, frozen=True):
    """It is too much for a push: ask for a snapshot."""


_ALL: tuple[type[Operation], ...] = (
    VnetOperation,
    VnetRemoved,
    AttachmentOperation,
    AttachmentRemoved,
    IngressOperation,
    IngressRemoved,
    TunnelOperation,
    TunnelRemoved,
    LocationOperation,
    LocationRemoved,
    PeeringOperation,
    PeeringRemoved,
    ScopeOperation,
    Announce,
    AnnounceLeft,
    Resync,
)
OPERATIONS: dict[str, type[Operation]] = {str(one.__struct_config__.tag): one for one in _ALL}
