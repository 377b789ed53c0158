# SPDX-License-Identifier: Apache-2.0
"""From the directory's operations (docs/protocol.md, section 2.3) to records for the data plane.

Pure; what comes in is hostile: a value that is missing, of another type or out of range is a
MalformedOperation and concerns that operation alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address, ip_address
from typing import Any

import msgspec
import numpy as np

from directory_client.wire import operations as wire
from directory_client.wire.messages import complaint
from fastpath.records import ChangeKind, IngressFlag, LocationKind, RecordFlag, RecordType, ScopeFlag, make

Operation = Mapping[str, Any]
Records = np.ndarray[Any, Any]

ADDRESS_BYTES = 16
MAC_BYTES = 6


class MalformedOperation(ValueError):
    """An operation that says nothing that could be applied."""


def record_of(operation: Operation, vni: int, revision: int, incarnation: int) -> Records | None:
    """Return the record that applies an operation to a V-net; None for an operation that has none
    (announcements, or one that this version does not know). Raises MalformedOperation."""
    name = operation.get("op", "")
    make_record = _RECORDS.get(name)
    if make_record is None:
        return None
    read = read_operation(operation)
    if read.vni is not None and read.vni != vni:
        raise MalformedOperation(f"{name} of V-net {read.vni} in a message for {vni}")
    head = {"vni": vni, "revision": revision}
    try:
        return make_record(read, head, incarnation)
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedOperation(f"{name}: {type(error).__name__} {error}") from None


def read_operation(operation: Operation) -> Any:
    """Return an operation that is known as what it is declared to be. Raises MalformedOperation."""
    name = str(operation["op"])
    try:
        return msgspec.convert(operation, wire.OPERATIONS[name])
    except msgspec.ValidationError as error:
        raise MalformedOperation(complaint(error, name)) from None


def address(value: Any) -> bytes:
    """Return the 16 bytes of an address: 16 bytes, text, or None for none."""
    if value is None or value == "":
        return bytes(ADDRESS_BYTES)
    if isinstance(value, bytes) and len(value) == ADDRESS_BYTES:
        return value
    if isinstance(value, str):
        return ip_address(value).packed.rjust(ADDRESS_BYTES, b"\0")
    raise ValueError("no address")


def mac(value: Any) -> bytes:
    """Return the 6 bytes of a MAC: 6 bytes, or text."""
    if isinstance(value, str):
        value = bytes.fromhex(value.replace(":", ""))
    if not isinstance(value, bytes) or len(value) != MAC_BYTES:
        raise ValueError("no MAC")
    return value


def ipv4(value: Any) -> bytes | None:
    """Return the 4 bytes of an IPv4 address; None for an IPv6 one. Raises ValueError."""
    packed = address(value)
    if any(packed[:12]):
        return None
    try:
        return IPv4Address(packed[12:]).packed
    except AddressValueError as error:
        raise ValueError(str(error)) from None


def _vnet(op: wire.VnetOperation, head: dict[str, int], incarnation: int) -> Records:
    return make(
        RecordType.VNET_SET,
        **head,
        object_id=op.object_id,
        incarnation=incarnation,
        quota_flows=op.quota_flows,
        quota_misses_per_s=op.quota_misses_per_s,
        stale_max_s=op.stale_max_s,
        gateway_mac=mac(op.gateway_mac),
        gateway_address=address(op.gateway_address),
    )


def _vnet_removed(op: wire.VnetRemoved, head: dict[str, int], incarnation: int) -> Records:
    return make(RecordType.VNET_REMOVE, **head, object_id=op.object_id, incarnation=incarnation)


def _attachment(
    op: wire.AttachmentOperation | wire.AttachmentRemoved, head: dict[str, int], _incarnation: int
) -> Records:
    set_it = isinstance(op, wire.AttachmentOperation)
    return make(
        RecordType.ATTACHMENT_SET if set_it else RecordType.ATTACHMENT_REMOVE,
        **head,
        object_id=op.object_id,
        port=op.port,
        vlan=op.vlan,
        mtu_bytes=op.mtu_bytes,
    )


def _ingress(
    op: wire.IngressOperation | wire.IngressRemoved, head: dict[str, int], _incarnation: int
) -> Records:
    set_it = isinstance(op, wire.IngressOperation)
    row = make(
        RecordType.INGRESS_SET if set_it else RecordType.INGRESS_REMOVE,
        **head,
        node_id=op.node_id,
        ingress_flags=(IngressFlag.RELAY if op.relay else 0) | (IngressFlag.FOREIGN if op.foreign else 0),
        udp_port=op.udp_port,
    )
    key = row["key"]
    key["local"] = np.frombuffer(address(op.local), np.uint8)
    key["remote"] = np.frombuffer(address(op.remote), np.uint8)
    key["wire_id"] = op.wire_id
    key["protocol"] = op.protocol
    return row


def _tunnel(op: wire.TunnelOperation, head: dict[str, int], _incarnation: int) -> Records:
    return make(
        RecordType.TUNNEL_SET,
        revision=head["revision"] if op.revision is None else op.revision,
        object_id=op.object_id,
        profile_id=op.profile_id,
        node_id=op.node_id,
        local=address(op.local),
        remote=address(op.remote),
        udp_port=op.udp_port,
        mtu_bytes=op.mtu_bytes,
        protocol=op.protocol,
        ttl=op.ttl,
        dscp=op.dscp,
        dscp_copy=op.dscp_copy,
    )


def _tunnel_removed(op: wire.TunnelRemoved, head: dict[str, int], _incarnation: int) -> Records:
    return make(RecordType.TUNNEL_REMOVE, revision=head["revision"], object_id=op.object_id)


def _location(op: wire.LocationOperation, head: dict[str, int], _incarnation: int) -> Records:
    return make(
        RecordType.LOCATION_SET,
        flags=RecordFlag.IF_PRESENT,
        vni=head["vni"],
        revision=head["revision"] if op.revision is None else op.revision,
        object_id=op.object_id,
        target_id=op.target_id,
        node_id=op.node_id,
        wire_id=op.wire_id,
        way=op.way,
        kind=LocationKind(op.kind),
        mac=mac(op.mac),
    )


def _location_removed(op: wire.LocationRemoved, head: dict[str, int], _incarnation: int) -> Records:
    return make(RecordType.LOCATION_REMOVE, **head, object_id=op.object_id, way=op.way)


def _peering(
    op: wire.PeeringOperation | wire.PeeringRemoved, head: dict[str, int], _incarnation: int
) -> Records:
    set_it = isinstance(op, wire.PeeringOperation)
    kind = RecordType.PEERING_SET if set_it else RecordType.PEERING_REMOVE
    return make(kind, **head, to_vni=op.to_vni)


_SCOPE_FLAGS = {
    "either_direction": ScopeFlag.EITHER,
    "source_port": ScopeFlag.SOURCE_PORT,
    "connections": ScopeFlag.CONNECTIONS,
    "judged": ScopeFlag.JUDGED,
    "ip": ScopeFlag.IP,
}


def _scope(op: wire.ScopeOperation, head: dict[str, int], incarnation: int) -> Records:
    if op.port_low > op.port_high:
        raise ValueError("ports are impossible")
    row = make(
        RecordType.CHANGE,
        vni=head["vni"],
        revision=head["revision"] if op.revision is None else op.revision,
        incarnation=incarnation,
        kind=ChangeKind(op.kind),
    )
    scope = row["scope"]
    scope["source"] = np.frombuffer(address(op.source), np.uint8)
    scope["destination"] = np.frombuffer(address(op.destination), np.uint8)
    scope["source_bits"] = op.source_bits
    scope["destination_bits"] = op.destination_bits
    scope["protocol"] = op.protocol
    scope["flags"] = sum(flag for name, flag in _SCOPE_FLAGS.items() if getattr(op, name))
    scope["port_low"] = op.port_low
    scope["port_high"] = op.port_high
    return row


_RECORDS: Mapping[str, Callable[[Any, dict[str, int], int], Records]] = {
    "vnet": _vnet,
    "vnet_removed": _vnet_removed,
    "attachment": _attachment,
    "attachment_removed": _attachment,
    "ingress": _ingress,
    "ingress_removed": _ingress,
    "tunnel": _tunnel,
    "tunnel_removed": _tunnel_removed,
    "location": _location,
    "location_removed": _location_removed,
    "peering": _peering,
    "peering_removed": _peering,
    "scope": _scope,
}
