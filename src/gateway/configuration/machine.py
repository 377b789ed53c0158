# SPDX-License-Identifier: Apache-2.0
"""Compare a configuration with the machine: devices, interfaces, CPUs, memory, privileges, groups, keys.

Reads only. Problems are errors like those of the file: they name the line and the key that ask for what is
not there, and what to do.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Callable
from pathlib import Path

from directory_client.endpoint import bind_errno
from directory_client.keys import load_key_file
from directory_client.toml.strict_toml import Table, TomlError
from directory_client.wire.messages import DirectoryError
from gateway.configuration.configuration import Capacity, Configuration, Port
from gateway.configuration.device import parse_device
from gateway.configuration.inventory import Machine, look_around
from gateway.configuration.reader import ConfigurationError, load_with_table
from gateway.configuration.trying import ask_directories, find_twin, lives

# What a row of each table costs, everything counted (buckets, ages, reverse indexes), rounded up.
FLOW_BYTES = 160
LOCATION_BYTES = 96
TUNNEL_BYTES = 640
VNET_BYTES = 14_592
INGRESS_BYTES = 192
PACKET_BUFFER_BYTES = 2_432
FIXED_BYTES = 64 << 20  # EAL, rings, threads

_NEEDS_NET_ADMIN = ("net_tap", "net_af_packet", "net_af_xdp")
_EXISTING_INTERFACE = ("net_af_packet", "net_af_xdp")


def check_file(path: Path) -> str:
    """Read a file and compare it with the machine. Returns a summary. Raises ConfigurationError."""
    configuration, table = load_with_table(path)
    machine = look_around()
    problems = find_problems(configuration, table, machine)
    if problems:
        raise ConfigurationError(problems)
    doubts = [*find_doubts(configuration, machine), *ask_directories(configuration)]
    return "\n".join([summarize(configuration), *(f"warning: {doubt}" for doubt in doubts)])


def find_problems(
    configuration: Configuration, table: Table, machine: Machine, has_data_plane: bool = False
) -> list[TomlError]:
    """Return what the configuration asks for and the machine does not have. `has_data_plane`: one runs
    already, so the memory is taken by us."""
    problems: list[TomlError] = []
    for port in configuration.ports.values():
        _check_port(port, table.table("port").table(port.name), machine, problems)
    _check_cpus(configuration, table, machine, problems)
    if not has_data_plane:
        _check_memory(configuration, table, machine, problems)
    _check_places(configuration, table, problems)
    _check_groups(configuration, table, problems)
    _check_key(configuration, table, problems)
    return problems


def arena_bytes(capacity: Capacity) -> int:
    """Return what the shared tables take, within a tenth."""
    return (
        capacity.flows * FLOW_BYTES
        + capacity.locations * LOCATION_BYTES
        + capacity.tunnels * TUNNEL_BYTES
        + capacity.vnets * VNET_BYTES
        + capacity.ingresses * INGRESS_BYTES
    )


def needed_bytes(configuration: Configuration) -> int:
    """Return what the data plane and its spare take in all."""
    buffers = configuration.memory.packet_buffers * PACKET_BUFFER_BYTES + FIXED_BYTES
    return arena_bytes(configuration.capacity) + buffers * (
        2 if configuration.threads.spare_data_plane else 1
    )


def summarize(configuration: Configuration) -> str:
    """Say what a good configuration amounts to."""
    ports = ", ".join(f"{p.name} ({p.role})" for p in configuration.ports.values())
    memory, tables = needed_bytes(configuration), arena_bytes(configuration.capacity)
    lines = [
        f"{configuration.path} is good: {configuration.name}",
        f"ports      {ports}",
        f"locators   {', '.join(configuration.locators) or 'none'}",
        f"directory  {', '.join(configuration.directory)}",
        f"memory     {_mb(memory)}, of it tables {_mb(tables)}",
    ]
    return "\n".join(lines)


def _check_port(port: Port, table: Table, machine: Machine, problems: list[TomlError]) -> None:
    device = parse_device(port.device)
    adapters = {adapter.pci: adapter for adapter in machine.adapters}
    for pci in device.pci:
        adapter = adapters.get(pci.lower())
        if adapter is None:
            there = ", ".join(adapters) or "there are no PCI network adapters: lspci"
            fix = f"one of: {there}" if adapters else there
            problems.append(table.problem("device", f"there is no network adapter {pci}", fix))
        elif not adapter.is_ready:
            driver = adapter.driver or "no driver"
            fix = f"dpdk-devbind.py --bind=vfio-pci {pci}"
            problems.append(table.problem("device", f"{pci} is held by {driver}, not by DPDK", fix))
    if device.driver in _EXISTING_INTERFACE and device.interface not in machine.interfaces:
        name = device.interface or "iface=…"
        problems.append(table.problem("device", f"there is no interface {name}", "ip -brief link lists them"))
    for argument in ("rx_pcap",):
        path = device.arguments.get(argument, "")
        if path and not Path(path).is_file():
            problems.append(table.problem("device", f"there is no file {path}", f"ls -l {path}"))
    wants = [f"device {port.device}"] if device.driver in _NEEDS_NET_ADMIN else []
    wants += [f'the exception interface "{port.exception}"'] if port.exception else []
    if wants and not machine.is_net_admin:
        key = "device" if device.driver in _NEEDS_NET_ADMIN else "role"
        problems.append(table.problem(key, f"{wants[0]} needs CAP_NET_ADMIN", "run as root"))
    elif wants and not machine.has_tun and (port.exception or device.driver == "net_tap"):
        problems.append(table.problem("device", "there is no /dev/net/tun", "modprobe tun"))


def _check_cpus(
    configuration: Configuration, table: Table, machine: Machine, problems: list[TomlError]
) -> None:
    for key in ("poll_cpus", "control_cpus"):
        missing = [cpu for cpu in getattr(configuration.threads, key) if cpu not in machine.cpus]
        if missing:
            problem = f"CPU {', '.join(map(str, missing))} is not there or not online"
            fix = f"CPUs here: {', '.join(map(str, machine.cpus))}"
            problems.append(table.table("threads").problem(key, problem, fix))


def _check_places(configuration: Configuration, table: Table, problems: list[TomlError]) -> None:
    for key in ("runtime_dir", "state_dir"):
        path = getattr(configuration, key)
        if path.exists() and not path.is_dir():
            problems.append(table.problem(key, f"{path} is no directory", "name a directory"))


def find_doubts(configuration: Configuration, machine: Machine) -> list[str]:
    """Return what is possible and hardly meant, a sentence each: it keeps no gateway from starting."""
    ports, threads = configuration.ports.values(), configuration.threads
    doubts = []
    if not any(port.is_underlay for port in ports):
        doubts.append('no port has role = "underlay" (or "both"): nothing leaves this machine in tunnels')
    if not any(port.is_inside for port in ports):
        doubts.append('no port has role = "inside" (or "both"): no member is attached here')
    doubts += find_twin(configuration)
    for port in ports:
        device = parse_device(port.device)
        mtu_bytes = machine.mtus.get(device.interface, 0)
        if device.driver in _EXISTING_INTERFACE and 0 < mtu_bytes < port.mtu_bytes:
            fix = f"ip link set {device.interface} mtu {port.mtu_bytes}"
            doubts.append(
                f"port.{port.name}.mtu_bytes: {device.interface} takes {mtu_bytes} only  fix: {fix}"
            )
    if both := sorted(set(threads.control_cpus) & set(threads.poll_cpus)):
        cpus = ", ".join(map(str, both))
        doubts.append(f"threads.control_cpus: CPU {cpus} polls: what runs beside takes time from packets")
    listen = configuration.metrics.listen
    if listen and not lives("control", configuration.runtime_dir):
        host, _, port_number = listen.rpartition(":")
        if number := bind_errno(host.strip("[]"), int(port_number)):
            why = os.strerror(number)
            doubts.append(f"metrics.listen: {listen} cannot be listened on: {why}  fix: ss -ltnp")
    return doubts


def _check_memory(
    configuration: Configuration, table: Table, machine: Machine, problems: list[TomlError]
) -> None:
    needed = needed_bytes(configuration)
    mode = configuration.memory.hugepages
    in_hugepages = mode == "always" or (mode == "auto" and machine.hugepage_bytes >= needed)
    free = machine.hugepage_bytes if in_hugepages else machine.available_bytes
    if needed <= free:
        return
    buffers = configuration.memory.packet_buffers
    buffers_bytes = buffers * PACKET_BUFFER_BYTES * (2 if configuration.threads.spare_data_plane else 1)
    if buffers_bytes > needed / 2:
        what = "hugepages" if in_hugepages else "memory"
        problem = f"{buffers:_} need {_mb(buffers_bytes)} of {what}, {_mb(free)} are free"
        problems.append(table.table("memory").problem("packet_buffers", problem, "lower it"))
        return
    capacity, section = configuration.capacity, table.table("capacity")
    largest = max(
        ("flows", "locations", "tunnels", "vnets", "ingresses"),
        key=lambda name: getattr(capacity, name) * _cost(name),
    )
    what = "hugepages" if in_hugepages else "memory"
    problem = f"{getattr(capacity, largest):_} needs {_mb(needed)} of {what}, {_mb(free)} are free"
    fits = max(0, getattr(capacity, largest) - (needed - free) // _cost(largest) - 1)
    size = min(machine.hugepages, default=2 << 20)
    more = f"sysctl vm.nr_hugepages={-(-needed // size)}, or " if in_hugepages else ""
    fix = f"{more}{largest} = {fits:_}" if fits else f"{more}lower [capacity]"
    problems.append(section.problem(largest, problem, fix))


def _check_groups(configuration: Configuration, table: Table, problems: list[TomlError]) -> None:
    for key in ("group", "show_group"):
        name = getattr(configuration.admin, key)
        if name and not _exists(lambda name=name: grp.getgrnam(name)):  # type: ignore[misc]
            problem = f'there is no group "{name}"'
            problems.append(table.table("admin").problem(key, problem, f"groupadd --system {name}"))


def _check_key(configuration: Configuration, table: Table, problems: list[TomlError]) -> None:
    if configuration.identity is None:
        return
    try:
        load_key_file(configuration.identity.key_file)
    except DirectoryError as error:
        problems.append(table.table("identity").problem("key_file", error.error, error.fix))


def _exists(look: Callable[[], object]) -> bool:
    try:
        look()
    except KeyError:
        return False
    return True


def _cost(table: str) -> int:
    return {
        "flows": FLOW_BYTES,
        "locations": LOCATION_BYTES,
        "tunnels": TUNNEL_BYTES,
        "vnets": VNET_BYTES,
        "ingresses": INGRESS_BYTES,
    }[table]


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
