# SPDX-License-Identifier: Apache-2.0
"""What gateway.toml says, as frozen dataclasses with every default filled in.

`configuration_file.load(path)` reads and checks the file; `machine.check(configuration)` compares it with the
machine. A field with `metadata=LIVE` may change while the gateway runs (`vnetctl reload`,
processes/reloading.py); any other needs a restart of the process that uses it. Fields are named as the keys
of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

LIVE: Mapping[str, Any] = {"live": True}

EMBEDDED = "embedded"
ROLES = ("inside", "underlay", "both")
IDLE_MODES = ("sleep", "interrupt", "spin")


@dataclass(frozen=True)
class Port:
    """One [port.NAME]. `exception` is the interface on which Linux sees what is addressed to this gateway
    (empty on inside ports); `addresses` are put on it."""

    name: str
    device: str
    role: str
    addresses: tuple[IPv4Interface, ...] = ()
    exception: str = ""
    mtu_bytes: int = 1500

    @property
    def is_inside(self) -> bool:
        return self.role in ("inside", "both")

    @property
    def is_underlay(self) -> bool:
        return self.role in ("underlay", "both")


@dataclass(frozen=True)
class Identity:
    """Keys for directories on TCP (CURVE). Public keys are Z85, 40 characters; one of the directory's has to
    be its own."""

    key_file: Path
    directory_public_key: tuple[str, ...] = field(metadata=LIVE)


@dataclass(frozen=True)
class EmbeddedDirectory:
    """A directory.toml of its own for the embedded directory, and where that listens; None: it listens in
    runtime_dir and keeps SQLite in state_dir."""

    config: Path | None = None
    listen: str = ""


@dataclass(frozen=True)
class Threads:
    poll_cpus: tuple[int, ...] = ()  # empty: one poll thread that is not pinned
    control_cpus: tuple[int, ...] = ()  # empty: all CPUs that are not poll_cpus
    slow_path_workers: int = 1
    idle: str = field(default="sleep", metadata=LIVE)
    max_sleep_us: int = field(default=900, metadata=LIVE)
    spare_data_plane: bool = True  # a second one that has started and waits for the first one's end

    @property
    def poll_threads(self) -> int:
        return max(1, len(self.poll_cpus))


@dataclass(frozen=True)
class Capacity:
    """Sizes of the arena's tables."""

    flows: int = 65_536
    locations: int = 65_536
    tunnels: int = 1_024
    vnets: int = 256
    ingresses: int = 4_096
    sessions: int = 0
    threads: int = 8


@dataclass(frozen=True)
class Memory:
    """hugepages: auto, always or never. packet_buffers: mbufs, shared by all ports."""

    hugepages: str = "auto"
    packet_buffers: int = 16_384


@dataclass(frozen=True)
class Hold:
    packets: int = field(default=8_192, metadata=LIVE)
    packets_per_vnet: int = field(default=2_048, metadata=LIVE)
    packets_per_ingress: int = field(default=1_024, metadata=LIVE)
    packets_per_flow: int = field(default=16, metadata=LIVE)
    wait_ms: int = field(default=1_000, metadata=LIVE)
    misses_per_ingress_s: int = field(default=50_000, metadata=LIVE)  # new keys; 0: no limit


@dataclass(frozen=True)
class Admin:
    socket: Path
    show_socket: Path
    group: str = field(default="", metadata=LIVE)  # empty: the group of the process
    show_group: str = field(default="", metadata=LIVE)


@dataclass(frozen=True)
class Metrics:
    listen: str = field(default="", metadata=LIVE)  # "127.0.0.1:9464"; empty: none


@dataclass(frozen=True)
class Log:
    level: str = field(default="info", metadata=LIVE)  # debug | info | warning | error
    format: str = field(default="auto", metadata=LIVE)  # auto | console | json


@dataclass(frozen=True)
class Configuration:
    """The whole file. `path` is the file itself, which every process of the gateway is started with."""

    path: Path
    name: str
    runtime_dir: Path
    state_dir: Path
    ports: Mapping[str, Port]
    admin: Admin
    site: str = field(default="", metadata=LIVE)
    locators: tuple[str, ...] = ()  # IPv4 addresses; default: those of the underlay ports
    directory: tuple[str, ...] = (EMBEDDED,)  # ("embedded",) or endpoints of directory servers
    identity: Identity | None = None
    embedded_directory: EmbeddedDirectory = field(default_factory=EmbeddedDirectory)
    threads: Threads = field(default_factory=Threads)
    capacity: Capacity = field(default_factory=Capacity)
    memory: Memory = field(default_factory=Memory)
    hold: Hold = field(default_factory=Hold)
    metrics: Metrics = field(default_factory=Metrics)
    log: Log = field(default_factory=Log)

    @property
    def realm_file(self) -> Path:
        """Where the realm that this gateway belongs to is written down."""
        return self.state_dir / "realm"

    @property
    def is_embedded(self) -> bool:
        return self.directory == (EMBEDDED,)

    @property
    def directory_endpoints(self) -> tuple[str, ...]:
        """Where the directory client connects: `ipc://RUNTIME_DIR` stands for the three sockets in it,
        directory-resolve.sock, -write.sock and -push.sock; `tcp://HOST:PORT` for PORT, PORT+1 and PORT+2."""
        if not self.is_embedded:
            return self.directory
        return (self.embedded_directory.listen or f"ipc://{self.runtime_dir}",)

    @property
    def data_plane_socket(self) -> Path:
        return self.runtime_dir / "dataplane.sock"

    @property
    def control_inbox(self) -> str:
        """ZeroMQ endpoint of control's PULL socket for statistics and events."""
        return f"ipc://{self.runtime_dir}/control-inbox.sock"
