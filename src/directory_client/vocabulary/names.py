# SPDX-License-Identifier: Apache-2.0
"""How things are called: names, VNET/NAME, MACs, and places (node/port:vlan)."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
PORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")

NAME_RULE = "lower-case letters, digits and hyphens, at most 63, beginning with a letter or digit"


def check_name(text: str) -> str:
    """Return `text` if it is a name; ValueError says what a name is."""
    if NAME.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no name: {NAME_RULE}")
    return text


def split_qualified(text: str) -> tuple[str, str]:
    """Split VNET/NAME; ValueError if it is not that."""
    vnet, slash, name = text.partition("/")
    if not slash or not name:
        raise ValueError(f"{text!r} is not VNET/NAME")
    check_name(vnet)
    return vnet, name


def parse_mac(text: str) -> bytes:
    """Parse a unicast MAC, "02:00:5e:00:00:11"; ValueError otherwise."""
    if _MAC.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no MAC address such as 02:00:5e:00:00:11")
    mac = bytes.fromhex(text.replace(":", ""))
    if mac[0] & 1:
        raise ValueError(f"{text} is a group address: the first byte must be even")
    if not any(mac):
        raise ValueError(f"{text} is no address of an adapter")
    return mac


def format_mac(mac: bytes) -> str:
    """Write a MAC in lower case with colons."""
    return mac.hex(":")


def derive_gateway_mac(vni: int) -> bytes:
    """Return the MAC a V-net's gateway has unless it is given one: 02:56:4e and the VNI."""
    return b"\x02\x56\x4e" + vni.to_bytes(3, "big")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A port of a node and the VLAN on it (0: untagged), written node/port or node/port:vlan."""

    node: str
    port: str
    vlan: int = 0

    def __str__(self) -> str:
        return f"{self.node}/{self.port}:{self.vlan}" if self.vlan else f"{self.node}/{self.port}"


def parse_place(text: str) -> Place:
    """Parse node/port or node/port:vlan; ValueError otherwise."""
    node, slash, rest = text.partition("/")
    port, colon, vlan = rest.partition(":")
    if not slash or PORT.fullmatch(port) is None:
        raise ValueError(f"{text!r} is no place such as ams1-gw1/rack:101")
    check_name(node)
    if not colon:
        return Place(node, port)
    if not (vlan.isascii() and vlan.isdigit()) or not 1 <= int(vlan) <= 4094:
        raise ValueError(f"{text!r}: a VLAN is a number from 1 to 4094")
    return Place(node, port, int(vlan))


def suggest(word: str, choices: Iterable[str]) -> str:
    """Return 'did you mean "x"?' for the nearest choice, else a list of the choices."""
    known = sorted(set(choices))
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    if not known:
        return "there are none yet"
    return "one of: " + ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
