# SPDX-License-Identifier: Apache-2.0
"""What `device` of a port names: a PCI address, a bond of several, or a DPDK device without hardware.

parse_device("0000:3b:00.0")                       Device("pci", ("0000:3b:00.0",), {})
parse_device("bond:0000:5e:00.0,0000:5e:00.1")     Device("bond", (…, …), {})
parse_device("net_tap0,iface=up0")                 Device("net_tap", (), {"iface": "up0"})
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from directory_client.vocabulary.names import suggest

DRIVERS = (
    "net_tap",
    "net_af_packet",
    "net_af_xdp",
    "net_pcap",
    "net_ring",
    "net_null",
    "net_memif",
    "net_bonding",
    "net_virtio_user",
    "net_vhost",
)
_PCI = re.compile(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]")
_VIRTUAL = re.compile(r"([a-z_]+?)(\d+)")


@dataclass(frozen=True)
class Device:
    """`driver`: pci, bond, or a DPDK driver's name; `pci`: addresses; `arguments` of a virtual device."""

    driver: str
    pci: tuple[str, ...]
    arguments: Mapping[str, str]

    @property
    def interface(self) -> str:
        """The Linux interface that it is tied to; empty: none."""
        return self.arguments.get("iface", "")


def parse_device(text: str) -> Device:
    """Read a device. Raises ValueError with a sentence."""
    if text.startswith("bond:"):
        members = tuple(text.removeprefix("bond:").split(","))
        for member in members:
            if not _PCI.fullmatch(member):
                raise ValueError(f'"{member}" in the bond is no PCI address such as 0000:5e:00.0')
        if len(set(members)) < len(members):
            raise ValueError("a member of the bond is there twice")
        return Device("bond", members, {})
    name, *rest = text.split(",")
    if _PCI.fullmatch(name):
        return Device("pci", (name.lower(),), _arguments(rest))
    match = _VIRTUAL.fullmatch(name)
    if match is None:
        raise ValueError(
            f'"{text}" is neither a PCI address (0000:3b:00.0) nor a DPDK device (net_tap0,iface=up0)'
        )
    if match[1] not in DRIVERS:
        raise ValueError(f'there is no driver "{match[1]}": {suggest(match[1], DRIVERS)}')
    return Device(match[1], (), _arguments(rest))


def _arguments(parts: list[str]) -> dict[str, str]:
    arguments = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not key or not equals or not value:
            raise ValueError(f'"{part}" is no argument of a device, such as iface=up0')
        arguments[key] = value
    return arguments
