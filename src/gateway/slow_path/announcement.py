# SPDX-License-Identifier: Apache-2.0
"""An endpoint has just arrived here: tell those who keep ARP tables and forwarding tables of their own.

A gratuitous ARP request (RFC 5227, section 2.3: sender and target are the address) goes out of the V-net's
other attachments, where switches learn the MAC behind this gateway, and into the tunnels to foreign VTEPs,
which know nothing of the directory. Never out of the attachment where the endpoint lives: the switch there
would learn the endpoint's MAC behind the gateway.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from directory_client.vocabulary.addresses import looks_ipv6, unpack_address
from directory_client.vocabulary.names import format_mac
from fastpath.records import LocationKind, RecordType, packet_spans
from gateway.slow_path.operations import MalformedOperation, Operation, address, ipv4, mac, number
from gateway.slow_path.view import View

BROADCAST = b"\xff" * 6
FRAME_BYTES = 60  # without FCS
ADDRESSES_MAX = 64


def announcements(operation: Operation, view: View) -> list[np.ndarray[Any, Any]]:
    """Return the PACKET_OUT records for an announce operation. Raises MalformedOperation."""
    try:
        sender = mac(operation["mac"])
        object_id = number(operation, "object_id", 64)
        packed = [ipv4(a) for a in list(operation["addresses"])[:ADDRESSES_MAX]]
        targets = [*_attachments(view, object_id), *_foreign_tunnels(view)]
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedOperation(f"announce: {type(error).__name__} {error}") from None
    return [
        packet_spans(
            RecordType.PACKET_OUT,
            gratuitous_arp(sender, target),
            vni=view.vni,
            kind=kind,
            target_id=target_id,
            wire_id=wire_id,
        )
        for target in packed
        if target is not None
        for kind, target_id, wire_id in targets
    ]


def arrival(operation: Operation) -> str:
    """Say who has arrived, for the operator: MAC and addresses, as far as they can be read."""
    try:
        addresses = [unpack_address(address(a), looks_ipv6(address(a))) for a in operation["addresses"]]
        return " ".join([format_mac(mac(operation["mac"])), *addresses[:ADDRESSES_MAX]])
    except (KeyError, TypeError, ValueError):
        return "an endpoint"


def gratuitous_arp(sender: bytes, target: bytes) -> bytes:
    """Return the whole frame, padded to the least length of Ethernet."""
    ethernet = BROADCAST + sender + b"\x08\x06"
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, sender, target, bytes(6), target)
    return (ethernet + arp).ljust(FRAME_BYTES, b"\0")


def _attachments(view: View, object_id: int) -> Iterator[tuple[LocationKind, int, int]]:
    homes = {
        op["target_id"]
        for op in view.of_kind("location")
        if op["object_id"] == object_id and op["kind"] == LocationKind.LOCAL
    }
    if not homes:
        return  # where it lives is not known, so no attachment is known to be another one
    for attachment in view.of_kind("attachment"):
        if attachment["object_id"] not in homes:
            yield LocationKind.LOCAL, attachment["object_id"], 0


def _foreign_tunnels(view: View) -> Iterator[tuple[LocationKind, int, int]]:
    wire_ids = {op["node_id"]: op["wire_id"] for op in view.of_kind("ingress") if op.get("foreign")}
    for tunnel in view.of_kind("tunnel"):
        if tunnel["node_id"] in wire_ids:
            yield LocationKind.TUNNEL, tunnel["object_id"], wire_ids[tunnel["node_id"]]
