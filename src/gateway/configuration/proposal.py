# SPDX-License-Identifier: Apache-2.0
"""Write a gateway.toml for a machine, commented, so that `vnet-gateway check` accepts it. Pure."""

from __future__ import annotations

import re

from gateway.configuration.configuration import Capacity
from gateway.configuration.inventory import Adapter, Machine

EXAMPLE_ADDRESS = "192.0.2.1/24"


def propose(machine: Machine, name: str = "") -> str:
    """Return the text of a file. What was found and what was left out stands above it."""
    usable = [a for a in machine.adapters if not _why_not(a, machine)]
    lines = [_describe(a, machine, usable) for a in machine.adapters]
    poll_cpus = machine.isolated_cpus
    lines.append(
        f"# cpus {_cpus(machine.cpus)}" + (f", {_cpus(poll_cpus)} isolated → poll_cpus" if poll_cpus else "")
    )
    huge = machine.hugepage_bytes
    lines.append(
        f"# hugepages {huge / 2**30:.1f} GiB free" if huge else "# no free hugepages: ordinary memory will do"
    )
    lines += [
        "",
        f'name      = "{_name(name or machine.host)}"',
        'directory = "embedded"            # a directory of its own, kept in SQLite',
        "",
    ]
    lines += _ports(usable, machine)
    if poll_cpus:
        rest = [cpu for cpu in machine.cpus if cpu not in poll_cpus]
        lines += ["", "[threads]", f"poll_cpus = {list(poll_cpus)}"]
        lines += [f"control_cpus = {rest}"] if rest else []
    capacity = Capacity()
    lines += ["", "[capacity]", f"flows = {capacity.flows:_}", ""]
    return "\n".join(lines)


def _ports(usable: list[Adapter], machine: Machine) -> list[str]:
    uplink = usable[0].pci if usable else f"net_tap0,iface={_free('vnet-up', machine)}"
    rack = usable[1].pci if len(usable) > 1 else f"net_tap1,iface={_free('vnet-in', machine)}"
    lines = [] if len(usable) > 1 else ["# not enough adapters for DPDK here: TAPs stand in for them"]
    return [
        *lines,
        "[port.uplink]                     # towards the other nodes",
        f'device    = "{uplink}"',
        'role      = "underlay"',
        f'addresses = ["{EXAMPLE_ADDRESS}"]      # TO BE CHANGED: this gateway\'s address on the underlay',
        "",
        "[port.rack]                     # towards the members; the directory says which VLAN is which V-net",
        f'device = "{rack}"',
        'role   = "inside"',
    ]


def _why_not(adapter: Adapter, machine: Machine) -> str:
    if set(adapter.interfaces) & machine.default_interfaces:
        return "carries this machine's default route"
    if not adapter.is_ready:
        return f"held by {adapter.driver or 'no driver'}: dpdk-devbind.py --bind=vfio-pci {adapter.pci}"
    if adapter.interfaces and not adapter.is_up:
        return "link is down"
    return ""


def _describe(adapter: Adapter, machine: Machine, usable: list[Adapter]) -> str:
    link = ""
    if adapter.interfaces:
        speed = f" {adapter.speed_mbps / 1000:g} Gb/s" if adapter.speed_mbps else ""
        link = f", link {'up' if adapter.is_up else 'down'}{speed}"
    if adapter in usable[:2]:
        fate = ("uplink", "rack")[usable.index(adapter)]
    else:
        fate = f"left out ({_why_not(adapter, machine) or 'two are enough to begin with'})"
    return f"# {adapter.pci}  {adapter.vendor_device}  driver {adapter.driver or 'none'}{link} → {fate}"


def _name(text: str) -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")[:63]
    return name or "gw1"


def _free(name: str, machine: Machine) -> str:
    number = 0
    while f"{name}{number}" in machine.interfaces:
        number += 1
    return f"{name}{number}"


def _cpus(cpus: tuple[int, ...]) -> str:
    return ", ".join(map(str, cpus)) or "none"
