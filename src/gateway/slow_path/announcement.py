# SPDX-License-Identifier: Apache-2.0
"""An endpoint has just arrived here, or left: tell those who keep ARP and forwarding tables of their own.

A gratuitous ARP request (RFC 5227, section 2.3: sender and target are the address). Of one that is here now
it goes out of the V-net's other attachments, where switches learn the MAC behind this gateway, and into the
tunnels to foreign VTEPs, which know nothing of the directory. Never out of the attachment where the endpoint
lives: the switch there would learn its MAC behind the gateway. Of one that has left it goes out of every
attachment, so that the segment that lost it finds it behind the gateway; foreign VTEPs hear from its new one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from directory_client.vocabulary.addresses import looks_ipv6, unpack_address
from directory_client.vocabulary.names import format_mac
from directory_client.wire.operations import Announce
from fastpath.records import LocationKind, RecordType, packet_spans
from gateway.slow_path.kinds.values import address, ipv4, mac
from gateway.slow_path.operations import MalformedOperation, Operation, read_operation
from gateway.slow_path.view import View

BROADCAST = b"\xff" * 6
FRAME_BYTES = 60  # without FCS
ADDRESSES_MAX = 64
OPERATIONS = ("announce", "announce_left")


@dataclass(frozen=True, slots=True)
class Announcement:
    """What an operation asks for, checked. `attachments`: where it is at this node, as far as that was said;
    None: it has left."""

    vni: int
    object_id: int
    mac: bytes
    addresses: tuple[bytes, ...]  # IPv4
    attachments: frozenset[int] | None

    def targets(self, view: View) -> list[tuple[LocationKind, int, int]]:
        """Return where to send it: kind, attachment or tunnel, id on the wire. Nowhere if the endpoint is not
        where the announcement says: it has moved on, or is gone."""
        location = view.location(self.object_id)
        if location is None or (location["kind"] == LocationKind.LOCAL) != (self.attachments is not None):
            return []
        if self.attachments is None:
            return list(_attachments(view, frozenset()))
        homes = self.attachments | {location["target_id"]}
        return [*_attachments(view, homes), *_foreign_tunnels(view)]

    def records(self, targets: list[tuple[LocationKind, int, int]]) -> list[np.ndarray[Any, Any]]:
        """Return the PACKET_OUT records, one frame for each address and target."""
        return [
            packet_spans(
                RecordType.PACKET_OUT,
                gratuitous_arp(self.mac, target),
                vni=self.vni,
                kind=kind,
                target_id=target_id,
                wire_id=wire_id,
            )
            for target in self.addresses
            for kind, target_id, wire_id in targets
        ]


def announcement(operation: Operation, vni: int) -> Announcement:
    """Check an operation `announce` or `announce_left`. Raises MalformedOperation."""
    read = read_operation(operation)
    try:
        packed = [ipv4(one) for one in read.addresses[:ADDRESSES_MAX]]
        return Announcement(
            vni,
            read.object_id,
            mac(read.mac),
            tuple(one for one in packed if one is not None),
            frozenset(read.attachments) if isinstance(read, Announce) else None,
        )
    except (TypeError, ValueError) as error:
        raise MalformedOperation(f"{operation['op']}: {type(error).__name__} {error}") from None


def described(operation: Operation, vni: int) -> str:
    """Say whom an operation is about, for the operator: name, MAC and addresses, as far as they can be
    read."""
    name = operation.get("name")
    who = name if isinstance(name, str) and name else f"V-net {vni}:"
    try:
        addresses = [unpack_address(address(a), looks_ipv6(address(a))) for a in operation["addresses"]]
        return " ".join([who, format_mac(mac(operation["mac"])), *addresses[:ADDRESSES_MAX]])
    except (KeyError, TypeError, ValueError):
        return f"{who} an endpoint"


def gratuitous_arp(sender: bytes, target: bytes) -> bytes:
    """Return the whole frame, padded to the least length of Ethernet."""
    ethernet = BROADCAST + sender + b"\x08\x06"
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, sender, target, bytes(6), target)
    return (ethernet + arp).ljust(FRAME_BYTES, b"\0")


def _attachments(view: View, homes: frozenset[int]) -> Iterator[tuple[LocationKind, int, int]]:
    for attachment in view.of_kind("attachment"):
        if attachment["object_id"] not in homes:
            yield LocationKind.LOCAL, attachment["object_id"], 0


def _foreign_tunnels(view: View) -> Iterator[tuple[LocationKind, int, int]]:
    wire_ids = {op["node_id"]: op["wire_id"] for op in view.of_kind("ingress") if op.get("foreign")}
    for tunnel in view.of_kind("tunnel"):
        if tunnel["node_id"] in wire_ids:
            yield LocationKind.TUNNEL, tunnel["object_id"], wire_ids[tunnel["node_id"]]
