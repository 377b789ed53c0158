# SPDX-License-Identifier: Apache-2.0
"""What this machine has: network adapters, interfaces, CPUs, hugepages. Only reads."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

DPDK_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio")
SHARING_DRIVERS = ("mlx4_core", "mlx5_core", "mana")  # DPDK works beside the kernel's driver
NETWORK_CLASS = "0x02"
CAP_NET_ADMIN = 12


@dataclass(frozen=True)
class Adapter:
    """A PCI network adapter. `interfaces`: what Linux calls it, if its driver is Linux's."""

    pci: str
    vendor_device: str
    driver: str
    interfaces: tuple[str, ...] = ()
    is_up: bool = False
    speed_mbps: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether DPDK can take it as it is."""
        return self.driver in DPDK_DRIVERS or self.driver in SHARING_DRIVERS


@dataclass(frozen=True)
class Machine:
    """`hugepages`: free pages by their size in bytes. `mtus`: of interfaces, in bytes."""

    host: str
    adapters: tuple[Adapter, ...]
    interfaces: frozenset[str]
    default_interfaces: frozenset[str]
    cpus: tuple[int, ...]
    isolated_cpus: tuple[int, ...]
    hugepages: dict[int, int] = field(default_factory=dict)
    available_bytes: int = 0
    is_net_admin: bool = False
    has_tun: bool = False
    mtus: dict[str, int] = field(default_factory=dict)

    @property
    def hugepage_bytes(self) -> int:
        return sum(size * free for size, free in self.hugepages.items())


def look_around(root: Path = Path("/")) -> Machine:
    """Look at the machine; `root` is where proc, sys and dev are."""
    interfaces = frozenset(_names(root / "sys/class/net"))
    return Machine(
        host=socket.gethostname().partition(".")[0].lower(),
        adapters=tuple(_adapters(root)),
        interfaces=interfaces,
        default_interfaces=frozenset(_default_interfaces(root)),
        cpus=_cpu_list(root / "sys/devices/system/cpu/online"),
        isolated_cpus=_cpu_list(root / "sys/devices/system/cpu/isolated"),
        hugepages=_hugepages(root),
        available_bytes=_available_bytes(root),
        is_net_admin=_is_net_admin(root),
        has_tun=(root / "dev/net/tun").exists(),
        mtus={name: int(_text(root / "sys/class/net" / name / "mtu") or 0) for name in interfaces},
    )


def _adapters(root: Path) -> list[Adapter]:
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if not _text(device / "class").startswith(NETWORK_CLASS):
            continue
        driver = device / "driver"
        interfaces = tuple(_names(device / "net"))
        states = [_text(device / "net" / name / "operstate") for name in interfaces]
        speeds = [_text(device / "net" / name / "speed") for name in interfaces]
        found.append(
            Adapter(
                pci=device.name,
                vendor_device=f"{_text(device / 'vendor')[2:]}:{_text(device / 'device')[2:]}",
                driver=driver.resolve().name if driver.exists() else "",
                interfaces=interfaces,
                is_up="up" in states,
                speed_mbps=max((int(s) for s in speeds if s.isdigit()), default=0),
            )
        )
    return found


def _default_interfaces(root: Path) -> list[str]:
    """Return the interfaces of default routes: taking one of them away would cut the operator off."""
    rows = [line.split() for line in _text(root / "proc/net/route").splitlines()[1:]]
    return [row[0] for row in rows if len(row) > 7 and row[1] == "00000000" and row[7] == "00000000"]


def _hugepages(root: Path) -> dict[int, int]:
    free = {}
    for pool in (root / "sys/kernel/mm/hugepages").glob("hugepages-*kB"):
        size = int(pool.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        free[size] = int(_text(pool / "free_hugepages") or 0)
    return {size: n for size, n in sorted(free.items()) if n}


def _available_bytes(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _is_net_admin(root: Path) -> bool:
    for line in _text(root / "proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_NET_ADMIN & 1)
    return False


def _cpu_list(path: Path) -> tuple[int, ...]:
    cpus: list[int] = []
    for part in filter(None, _text(path).split(",")):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return tuple(cpus)


def _names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir()) if directory.is_dir() else []


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
