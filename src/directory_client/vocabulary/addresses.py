# SPDX-License-Identifier: Apache-2.0
"""Addresses as they stand in keys: 16 bytes, IPv4 in the last four. Prefix lengths count in all 128 bits."""

import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ADDRESS_BYTES = 16
IPV4_BITS_BEFORE = 96
ZERO = bytes(ADDRESS_BYTES)
NEVER_FORWARDED = {
    **dict.fromkeys([0], "0.0.0.0/8"),
    **dict.fromkeys([127], "127.0.0.0/8"),
    **dict.fromkeys(range(224, 256), "224.0.0.0/3"),
}  # IPv4, by first byte: no packet from or to one of these passes a data plane (`ip_bad_address`)


def parse_address(text: str) -> Address:
    """Parse a unicast IP address; ValueError says what is wrong."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address such as 10.0.0.11") from None
    if address.is_multicast or address.is_unspecified or address == ipaddress.IPv4Address("255.255.255.255"):
        raise ValueError(f"{text} is no unicast address")
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise ValueError(f"{text} has a zone: leave out %{address.scope_id}")
    return address


def parse_network(text: str) -> Network:
    """Parse a prefix without host bits; ValueError says what is wrong, and which prefix would be right."""
    if "/" not in text:
        raise ValueError(f"{text!r} is no prefix such as 10.0.0.0/24")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no prefix such as 10.0.0.0/24") from None
    if str(network.network_address) != text.partition("/")[0] and ipaddress.ip_address(
        text.partition("/")[0]
    ) != (network.network_address):
        raise ValueError(f"{text} has bits behind the prefix: it should be {network}")
    return network


def pack_address(address: Address | str) -> bytes:
    """Return the 16 bytes of an address; ValueError for text that is none."""
    if isinstance(address, str):
        try:
            packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        except OSError:
            raise ValueError(f"{address!r} is no IP address such as 10.0.0.11") from None
        return packed.rjust(ADDRESS_BYTES, b"\0")
    return address.packed.rjust(ADDRESS_BYTES, b"\0")


def unpack_address(packed: bytes, ipv6: bool = False) -> str:
    """Write 16 bytes as text; `ipv6` tells ::a.b.c.d from a.b.c.d."""
    if ipv6:
        return str(ipaddress.IPv6Address(packed))
    return str(ipaddress.IPv4Address(packed[12:]))


def looks_ipv6(packed: bytes) -> bool:
    """Tell the family of 16 bytes that come without a flag, as locators do."""
    return any(packed[:12])


def pack_network(network: Network) -> tuple[bytes, int]:
    """Return a prefix as (16 bytes, bits of the 16 bytes): 10.0.0.0/24 has 120."""
    before = IPV4_BITS_BEFORE if network.version == 4 else 0
    return pack_address(network.network_address), before + network.prefixlen


def pack_mac(mac: bytes) -> bytes:
    """Return a MAC as a key of class MAC has it: in the last six bytes."""
    return mac.rjust(ADDRESS_BYTES, b"\0")


def prefix_contains(prefix: bytes, bits: int, packed: bytes) -> bool:
    """Tell whether the first `bits` bits of two 16-byte addresses are equal."""
    shift = 128 - bits
    return int.from_bytes(prefix, "big") >> shift == int.from_bytes(packed, "big") >> shift
