# SPDX-License-Identifier: Apache-2.0
"""From the directory's operations (docs/protocol.md, section 2.3) to records for the data plane.

Pure; what comes in is hostile: a value that is missing, of another type or out of range is a
MalformedOperation and concerns that operation alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address, ip_address
from typing import Any

import numpy as np

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
    make_record = _RECORDS.get(operation.get("op", ""))
    if make_record is None:
        return None
    if operation.get("vni", vni) != vni:
        raise MalformedOperation(f"{operation['op']} of V-net {operation['vni']} in a message for {vni}")
    head = {"vni": vni, "revision": revision}
    try:
        return make_record(operation, head, incarnation)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MalformedOperation(f"{operation['op']}: {type(error).__name__} {error}") from None


def number(operation: Operation, name: str, bits: int, default: int | None = None) -> int:
    """Return an unsigned number of so many bits. Raises KeyError, TypeError, ValueError."""
    value = operation.get(name, default) if default is not None else operation[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is no number")
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name} is out of range")
    return value


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


def _vnet(op: Operation, head: dict[str, int], incarnation: int) -> Records:
    return make(
        RecordType.VNET_SET,
        **head,
        object_id=number(op, "object_id", 64),
        incarnation=incarnation,
        quota_flows=number(op, "quota_flows", 32, 0),
        quota_misses_per_s=number(op, "quota_misses_per_s", 32, 0),
        stale_max_s=number(op, "stale_max_s", 32, 0),
        gateway_mac=mac(op["gateway_mac"]),
        gateway_address=address(op.get("gateway_address")),
    )


def _vnet_removed(op: Operation, head: dict[str, int], incarnation: int) -> Records:
    return make(
        RecordType.VNET_REMOVE, **head, object_id=number(op, "object_id", 64), incarnation=incarnation
    )


def _attachment(op: Operation, head: dict[str, int], _incarnation: int) -> Records:
    set_it = op["op"] == "attachment"
    port = op["port"] if set_it else op.get("port", "")
    if not isinstance(port, str):
        raise TypeError("port is no text")
    return make(
        RecordType.ATTACHMENT_SET if set_it else RecordType.ATTACHMENT_REMOVE,
        **head,
        object_id=number(op, "object_id", 64),
        port=port,
        vlan=number(op, "vlan", 12, None if set_it else 0),
        mtu_bytes=number(op, "mtu_bytes", 16, 0),
    )


def _ingress(op: Operation, head: dict[str, int], _incarnation: int) -> Records:
    set_it = op["op"] == "ingress"
    row = make(
        RecordType.INGRESS_SET if set_it else RecordType.INGRESS_REMOVE,
        **head,
        node_id=number(op, "node_id", 64, None if set_it else 0),
        ingress_flags=(IngressFlag.RELAY if op.get("relay") else 0)
        | (IngressFlag.FOREIGN if op.get("foreign") else 0),
        udp_port=number(op, "udp_port", 16, 0),
    )
    key = row["key"]
    key["local"] = np.frombuffer(address(op["local"]), np.uint8)
    key["remote"] = np.frombuffer(address(op["remote"]), np.uint8)
    key["wire_id"] = number(op, "wire_id", 32)
    key["protocol"] = number(op, "protocol", 8)
    return row


def _tunnel(op: Operation, head: dict[str, int], _incarnation: int) -> Records:
    return make(
        RecordType.TUNNEL_SET,
        revision=number(op, "revision", 64, head["revision"]),
        object_id=number(op, "object_id", 64),
        profile_id=number(op, "profile_id", 64, 0),
        node_id=number(op, "node_id", 64),
        local=address(op["local"]),
        remote=address(op["remote"]),
        udp_port=number(op, "udp_port", 16),
        mtu_bytes=number(op, "mtu_bytes", 16),
        protocol=number(op, "protocol", 8),
        ttl=number(op, "ttl", 8),
        dscp=number(op, "dscp", 6, 0),
        dscp_copy=number(op, "dscp_copy", 1, 0)
        if not isinstance(op.get("dscp_copy"), bool)
        else op["dscp_copy"],
    )


def _tunnel_removed(op: Operation, head: dict[str, int], _incarnation: int) -> Records:
    return make(RecordType.TUNNEL_REMOVE, revision=head["revision"], object_id=number(op, "object_id", 64))


def _location(op: Operation, head: dict[str, int], _incarnation: int) -> Records:
    kind = number(op, "kind", 8)
    return make(
        RecordType.LOCATION_SET,
        flags=RecordFlag.IF_PRESENT,
        vni=head["vni"],
        revision=number(op, "revision", 64, head["revision"]),
        object_id=number(op, "object_id", 64),
        target_id=number(op, "target_id", 64),
        node_id=number(op, "node_id", 64),
        wire_id=number(op, "wire_id", 32),
        way=number(op, "way", 4, 0),
        kind=LocationKind(kind),
        mac=mac(op["mac"]),
    )


def _location_removed(op: Operation, head: dict[str, int], _incarnation: int) -> Records:
    return make(
        RecordType.LOCATION_REMOVE, **head, object_id=number(op, "object_id", 64), way=number(op, "way", 4, 0)
    )


def _peering(op: Operation, head: dict[str, int], _incarnation: int) -> Records:
    kind = RecordType.PEERING_SET if op["op"] == "peering" else RecordType.PEERING_REMOVE
    return make(kind, **head, to_vni=number(op, "to_vni", 24))


_SCOPE_FLAGS = {
    "either_direction": ScopeFlag.EITHER,
    "source_port": ScopeFlag.SOURCE_PORT,
    "connections": ScopeFlag.CONNECTIONS,
    "judged": ScopeFlag.JUDGED,
    "ip": ScopeFlag.IP,
}


def _scope(op: Operation, head: dict[str, int], incarnation: int) -> Records:
    row = make(
        RecordType.CHANGE,
        vni=head["vni"],
        revision=number(op, "revision", 64, head["revision"]),
        incarnation=incarnation,
        kind=ChangeKind(number(op, "kind", 8)),
    )
    scope = row["scope"]
    scope["source"] = np.frombuffer(address(op.get("source")), np.uint8)
    scope["destination"] = np.frombuffer(address(op.get("destination")), np.uint8)
    scope["source_bits"] = number(op, "source_bits", 8, 0)
    scope["destination_bits"] = number(op, "destination_bits", 8, 0)
    scope["protocol"] = number(op, "protocol", 8, 0)
    scope["flags"] = sum(flag for name, flag in _SCOPE_FLAGS.items() if op.get(name))
    scope["port_low"] = number(op, "port_low", 16, 0)
    scope["port_high"] = number(op, "port_high", 16, 65_535)
    if (
        scope["source_bits"] > 128
        or scope["destination_bits"] > 128
        or scope["port_low"] > scope["port_high"]
    ):
        raise ValueError("bits or ports are impossible")
    return row


_RECORDS: Mapping[str, Callable[[Operation, dict[str, int], int], Records]] = {
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
