# SPDX-License-Identifier: Apache-2.0
"""Topologies for benchmarks: one V-net, members here at ports of the gateway under test, members there at
foreign VTEPs that exist by name only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.gateway import NODE

HEAD = """document = "bench"
[site.near]
[site.far]
[path.wire]
sites = ["near", "far"]
trust = "own"
mtu_bytes = 1700
[node.{node}]
kind = "gateway"
site = "near"
"""


@dataclass(frozen=True)
class Member:
    """`at`: a port, or the number of a tunnel."""

    name: str
    address: str
    mac: str
    at: str | int


@dataclass(frozen=True)
class Vnet:
    """A tenant that allows everything within itself. `ports` are where it touches the gateway:
    names and VLANs, 0 for untagged."""

    name: str
    vni: int
    prefix: str
    ports: tuple[tuple[str, int], ...]
    members: tuple[Member, ...] = field(default=(), repr=False)


def write(tunnels: Mapping[str, str], vnets: Iterable[Vnet]) -> str:
    """Return a document: a VTEP for each tunnel (locator → MAC of its next hop), and the V-nets."""
    lines = [HEAD.format(node=NODE)]
    for number, locator in enumerate(tunnels):
        lines.append(f'[node.far-{number}]\nkind = "vtep"\nsite = "far"\nlocators = ["{locator}"]')
    for vnet in vnets:
        lines.append(f'[vnet.{vnet.name}]\nvni = {vnet.vni}\nprefixes = ["{vnet.prefix}"]')
        for port, vlan in vnet.ports:
            lines.append(f'[[vnet.{vnet.name}.attachment]]\nnodes = ["{NODE}"]\nport = "{port}"')
            lines += [f"vlan = {vlan}"] if vlan else []
        lines.append(f'[vnet.{vnet.name}.rule.any]\naction = "allow"\nfrom = "any"\nto = "any"')
        lines.append(f"[vnet.{vnet.name}.endpoint]")
        lines += (
            f'{one.name} = {{ addresses = ["{one.address}"], mac = "{one.mac}", {_place(one.at)} }}'
            for one in vnet.members
        )
    return "\n".join(lines) + "\n"


def _place(at: str | int) -> str:
    return f'node = "far-{at}"' if isinstance(at, int) else f'at = ["{NODE}/{at}"]'
