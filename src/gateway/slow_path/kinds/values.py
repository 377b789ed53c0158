# SPDX-License-Identifier: Apache-2.0
"""Values in operations: addresses and MACs, as bytes or text. Pure."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, ip_address
from typing import Any

ADDRESS_BYTES = 16
MAC_BYTES = 6


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
