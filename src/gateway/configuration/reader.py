# SPDX-License-Identifier: Apache-2.0
"""Read gateway.toml strictly. All that is wrong is reported at once: file, line, key, sentence, remedy.

try:
    configuration = load(Path("gateway.toml"))
except ConfigurationError as error:
    print(error.report(), file=sys.stderr)
    sys.exit(2)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, TypeVar

from directory_client.endpoint import parse_endpoint
from directory_client.keys import check_public_key
from directory_client.process.log import FORMATS, LEVELS
from directory_client.toml.strict_toml import Table, TomlError, read_toml
from directory_client.toml.toml_lines import Lines
from directory_client.vocabulary.names import PORT, check_name, suggest
from directory_client.wire.messages import DirectoryError
from gateway.configuration.configuration import (
    EMBEDDED,
    IDLE_MODES,
    ROLES,
    Admin,
    Capacity,
    Configuration,
    EmbeddedDirectory,
    Hold,
    Identity,
    Log,
    Memory,
    Metrics,
    Port,
    Threads,
)
from gateway.configuration.device import parse_device
from gateway.configuration.values import (
    check_absolute,
    check_interface,
    check_interface_address,
    check_listen,
    check_locator,
    listen_of,
    same_device,
)

T = TypeVar("T")

UNIX_PATH_BYTES = 107  # sun_path
MTU_BYTES = (576, 9600)
PORTS_MAX = 32


_TOP = [
    *("name", "site", "locators", "directory", "runtime_dir", "state_dir"),
    *(
        "identity",
        "embedded_directory",
        "port",
        "threads",
        "capacity",
        "memory",
        "hold",
        "admin",
        "metrics",
        "log",
    ),
]
_CAPACITY = {
    "flows": (64, 2**24 - 1),
    "locations": (16, 2**24 - 1),
    "tunnels": (1, 2**20 - 1),
    "vnets": (1, 2**16 - 1),
    "ingresses": (1, 2**20),
    "sessions": (0, 2**32 - 1),
    "threads": (1, 64),
}
_HOLD = {
    "packets": (1, 2**20),
    "packets_per_vnet": (1, 2**20),
    "packets_per_ingress": (1, 2**20),
    "packets_per_flow": (1, 1024),
    "wait_ms": (10, 60_000),
    "misses_per_ingress_s": (0, 10**9),
}


class ConfigurationError(Exception):
    """Everything that is wrong in a file, in the order of its lines."""

    def __init__(self, problems: list[TomlError]) -> None:
        super().__init__("; ".join(str(p) for p in problems))
        self.problems = tuple(sorted(problems, key=lambda p: p.line))

    def report(self) -> str:
        """Write what the operator sees: two lines for each problem."""
        return "\n".join(f"error: {p}" + (f"\nfix:   {p.fix}" if p.fix else "") for p in self.problems)


def load(path: Path) -> Configuration:
    """Read and check a file. Raises ConfigurationError."""
    return load_with_table(path)[0]


def load_with_table(path: Path) -> tuple[Configuration, Table]:
    """Also give the table, which makes later errors that name the line. Raises ConfigurationError."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        fix = f"vnet-gateway init > {path}" if isinstance(error, FileNotFoundError) else f"ls -l {path}"
        raise ConfigurationError(
            [TomlError(str(path), 0, "", f"cannot be read: {error.strerror}", fix)]
        ) from None
    except UnicodeDecodeError as error:
        problem = TomlError(str(path), 0, "", f"is no UTF-8 text: {error.reason}", "save it as UTF-8")
        raise ConfigurationError([problem]) from None
    return parse(text, path)


def parse(text: str, path: Path) -> tuple[Configuration, Table]:
    """Read the text of a file that would stand at `path`. Raises ConfigurationError."""
    try:
        table = read_toml(text, str(path))
    except TomlError as error:
        raise ConfigurationError([error]) from None
    reader = _Reader()
    configuration = reader.configuration(table, path)
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return configuration, table


class _Reader:
    """Collects problems instead of stopping at the first; for a bad value its default stands in."""

    def __init__(self) -> None:
        self.problems: list[TomlError] = []

    def take(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except TomlError as error:
            self.problems.append(error)
            return otherwise

    def wrong(self, table: Table, key: str | None, problem: str, fix: str) -> None:
        self.problems.append(table.problem(key, problem, fix))

    def section(self, table: Table, key: str, known: Collection[str]) -> Table:
        found = self.take(lambda: table.table(key), None) or Table(table.file, Lines(), (key,), {})
        self.unknown(found, known)
        return found

    def unknown(self, table: Table, known: Collection[str]) -> None:
        for key in set(table.keys()) - set(known):
            self.wrong(table, key, "unknown key", suggest(key, known))

    # -- sections ------------------------------------------------------------------------------

    def configuration(self, table: Table, path: Path) -> Configuration:
        self.unknown(table, _TOP)
        name = self.take(lambda: table.string("name", check=check_name), "unnamed")
        runtime_dir = self.directory_path(table, "runtime_dir", Path("/run/vnet") / name)
        longest = len(str(runtime_dir / "directory-resolve.sock").encode())
        if longest > UNIX_PATH_BYTES:
            self.wrong(
                table,
                "runtime_dir",
                f"socket paths in it would have {longest} bytes, {UNIX_PATH_BYTES} are possible",
                "use a shorter path",
            )
        ports = self.ports(table)
        threads = self.threads(table)
        capacity = self.capacity(table, threads)
        directory = self.directory(table)
        return Configuration(
            path=path,
            name=name,
            runtime_dir=runtime_dir,
            state_dir=self.directory_path(table, "state_dir", Path("/var/lib/vnet") / name),
            ports=ports,
            admin=self.admin(table, runtime_dir),
            site=self.take(lambda: table.string("site", "", check=check_name), ""),
            locators=self.locators(table, ports),
            directory=directory,
            identity=self.identity(table, path, directory),
            embedded_directory=self.embedded_directory(table, path, directory),
            threads=threads,
            capacity=capacity,
            memory=self.memory(table),
            hold=self.hold(table),
            metrics=self.metrics(table),
            log=self.log(table),
        )

    def directory(self, table: Table) -> tuple[str, ...]:
        value = table.raw("directory")
        fix = 'directory = "embedded", or directory = ["tcp://10.80.0.11:7460"]'
        if value is None:
            self.wrong(table, None, "directory is missing", f"add {fix}")
            return (EMBEDDED,)
        if value == EMBEDDED:
            return (EMBEDDED,)
        servers = [value] if isinstance(value, str) else value
        if not isinstance(servers, list) or not servers or not all(isinstance(s, str) for s in servers):
            self.wrong(table, "directory", "is neither an endpoint nor a list of endpoints", fix)
            return (EMBEDDED,)
        for server in dict.fromkeys(servers):
            try:
                parse_endpoint(server)
            except DirectoryError as error:
                hint = (
                    f'did you mean "{EMBEDDED}"?'
                    if suggest(server, [EMBEDDED]).startswith("did")
                    else error.fix
                )
                self.wrong(table, "directory", error.error, hint)
            if servers.count(server) > 1:
                self.wrong(table, "directory", f'"{server}" is there twice', "remove one")
        return tuple(dict.fromkeys(servers))

    def identity(self, table: Table, path: Path, directory: tuple[str, ...]) -> Identity | None:
        if "identity" not in table:
            if any(server.startswith("tcp://") for server in directory) and not self.problems_in("directory"):
                fix = (
                    "add [identity] with key_file (vnet-directory keygen makes one) and directory_public_key"
                )
                self.wrong(table, "directory", "a directory on tcp:// needs [identity]", fix)
            return None
        section = self.section(table, "identity", ["key_file", "directory_public_key"])

        def check_key(text: str) -> None:
            try:
                check_public_key(text, "this")
            except DirectoryError as error:
                raise ValueError(error.error) from None

        return Identity(
            key_file=path.parent / self.take(lambda: section.string("key_file"), "key"),
            directory_public_key=self.take(lambda: public_keys(section, check_key), ()),
        )

    def embedded_directory(self, table: Table, path: Path, directory: tuple[str, ...]) -> EmbeddedDirectory:
        if "embedded_directory" not in table:
            return EmbeddedDirectory()
        section = self.section(table, "embedded_directory", ["config"])
        if directory != (EMBEDDED,):
            self.wrong(
                table, "embedded_directory", "there is no embedded directory", 'directory = "embedded"'
            )
        config = self.take(lambda: section.string("config", ""), "")
        if not config:
            return EmbeddedDirectory()
        listen = self.take(lambda: listen_of(section, path.parent / config), "")
        if listen.startswith("tcp://") and "identity" not in table:
            fix = "add [identity] with key_file and directory_public_key, or local = 'ipc://…' there"
            self.wrong(section, "config", f"the directory listens on {listen}, which needs [identity]", fix)
        return EmbeddedDirectory(path.parent / config, listen)

    def ports(self, table: Table) -> Mapping[str, Port]:
        ports: dict[str, Port] = {}
        outer = self.take(lambda: table.table("port"), Table(table.file, Lines(), ("port",), {}))
        for name in tuple(outer.keys()):
            if not PORT.fullmatch(name):
                fix = "letters, digits, dot, hyphen, underscore, at most 15, beginning with a letter or digit"
                self.wrong(outer, name, f'"{name}" is no name of a port', fix)
            section = self.take(lambda name=name: outer.table(name), None)  # type: ignore[misc]
            if section is not None:
                ports[name] = self.port(section, name, ports)
        if not ports and not self.problems_in("port"):
            fix = "vnet-gateway init looks at the machine and writes [port.NAME] with device and role"
            self.wrong(table, None, "no port is configured", fix)
        if len(ports) > PORTS_MAX:
            self.wrong(table, "port", f"{len(ports)} ports, {PORTS_MAX} are possible", "remove some")
        return ports

    def problems_in(self, key: str) -> bool:
        return any(p.key.partition(".")[0] == key for p in self.problems)

    def port(self, table: Table, name: str, others: Mapping[str, Port]) -> Port:
        self.unknown(table, [f.name for f in fields(Port) if f.name != "name"])
        device = self.take(lambda: table.string("device", check=parse_device), "")
        role = self.take(lambda: table.string("role", choices=ROLES), "")
        low, high = MTU_BYTES
        port = Port(
            name=name,
            device=device,
            role=role,
            addresses=self.addresses(table),
            exception=self.take(lambda: table.string("exception", "", check=check_interface), ""),
            mtu_bytes=self.take(lambda: table.integer("mtu_bytes", 1500, low, high), 1500),
        )
        if role == "inside":
            for key in ("addresses", "exception"):
                if key in table:
                    fix = f'remove {key}, or role = "underlay" (or "both")'
                    self.wrong(table, key, "an inside port has no exception interface", fix)
        elif role and not port.exception:
            port = replace(port, exception=name)
        if device:
            self.devices(table, port, others)
        return port

    def devices(self, table: Table, port: Port, others: Mapping[str, Port]) -> None:
        parsed = parse_device(port.device)
        if parsed.driver == "net_tap" and parsed.interface and parsed.interface == port.exception:
            fix = f'exception = "{port.name[:11]}-exc"'
            self.wrong(table, "device", f'"{port.exception}" would be both the device and the exception', fix)
        for other in others.values():
            if other.device and same_device(other.device, port.device):
                self.wrong(
                    table, "device", f"port {other.name} has the same device", "give each port its own"
                )
            elif other.device and parsed.interface in _shared_interfaces(other.device):
                fix = "give each port an interface of its own"
                self.wrong(table, "device", f"port {other.name} is on {parsed.interface} too", fix)
            if port.exception and other.exception == port.exception:
                fix = f'exception = "{port.name}"'
                self.wrong(table, "exception", f'port {other.name} uses "{port.exception}" too', fix)

    def addresses(self, table: Table) -> tuple[IPv4Interface, ...]:
        none: tuple[str, ...] = ()
        texts = self.take(lambda: table.strings("addresses", none, check=check_interface_address), none)
        return tuple(IPv4Interface(text) for text in texts)

    def locators(self, table: Table, ports: Mapping[str, Port]) -> tuple[str, ...]:
        if "locators" in table:
            none: tuple[str, ...] = ()
            return self.take(lambda: table.strings("locators", check=check_locator, least=1), none)
        underlay = [port for port in ports.values() if port.is_underlay]
        found = tuple(str(address.ip) for port in underlay for address in port.addresses)
        if underlay and not found and not self.problems_in("port"):
            fix = f'locators = ["192.0.2.1"], or addresses = ["192.0.2.1/24"] in [port.{underlay[0].name}]'
            self.wrong(table, None, "no locator: no other node could send to this gateway", fix)
        return tuple(dict.fromkeys(found))

    def threads(self, table: Table) -> Threads:
        section = self.section(table, "threads", [f.name for f in fields(Threads)])
        default = Threads()
        threads = Threads(
            poll_cpus=self.cpus(section, "poll_cpus"),
            control_cpus=self.cpus(section, "control_cpus"),
            slow_path_workers=self.take(lambda: section.integer("slow_path_workers", 1, 1, 16), 1),
            idle=self.take(lambda: section.string("idle", default.idle, IDLE_MODES), default.idle),
            max_sleep_us=self.take(
                lambda: section.integer("max_sleep_us", default.max_sleep_us, 1, 10_000), default.max_sleep_us
            ),
            spare_data_plane=self.take(lambda: section.boolean("spare_data_plane", True), True),
        )
        return threads

    def cpus(self, table: Table, key: str) -> tuple[int, ...]:
        none: tuple[int, ...] = ()
        cpus = self.take(lambda: table.integers(key, none, 0, 4095), none)
        if len(set(cpus)) < len(cpus):
            self.wrong(table, key, "a CPU is there twice", "remove one")
        return cpus

    def capacity(self, table: Table, threads: Threads) -> Capacity:
        section = self.section(table, "capacity", list(_CAPACITY))
        capacity: Capacity = self.integers(section, Capacity(), _CAPACITY)
        if capacity.sessions:
            self.wrong(section, "sessions", "sessions are not carried by this version", "sessions = 0")
        if threads.poll_threads > capacity.threads:
            problem = f"{threads.poll_threads} poll threads, capacity.threads = {capacity.threads}"
            self.wrong(
                table.table("threads"), "poll_cpus", problem, f"[capacity] threads = {threads.poll_threads}"
            )
        return capacity

    def memory(self, table: Table) -> Memory:
        section = self.section(table, "memory", [f.name for f in fields(Memory)])
        modes = ("auto", "always", "never")
        return Memory(
            hugepages=self.take(lambda: section.string("hugepages", "auto", modes), "auto"),
            packet_buffers=self.take(lambda: section.integer("packet_buffers", 16_384, 1_024, 2**24), 16_384),
        )

    def hold(self, table: Table) -> Hold:
        section = self.section(table, "hold", list(_HOLD))
        hold: Hold = self.integers(section, Hold(), _HOLD)
        for key in ("packets_per_vnet", "packets_per_ingress", "packets_per_flow"):
            if getattr(hold, key) > hold.packets and key in section:
                problem = f"{getattr(hold, key)} is more than packets = {hold.packets}"
                self.wrong(section, key, problem, "lower it, or raise packets")
        return hold

    def integers(self, table: Table, default: Any, ranges: Mapping[str, tuple[int, int]]) -> Any:
        def read(key: str, low: int, high: int) -> int:
            otherwise: int = getattr(default, key)
            return self.take(lambda: table.integer(key, otherwise, low, high), otherwise)

        return replace(default, **{key: read(key, low, high) for key, (low, high) in ranges.items()})

    def admin(self, table: Table, runtime_dir: Path) -> Admin:
        section = self.section(table, "admin", [f.name for f in fields(Admin)])
        return Admin(
            socket=self.socket_path(section, "socket", runtime_dir / "gateway.sock"),
            show_socket=self.socket_path(section, "show_socket", runtime_dir / "show.sock"),
            group=self.take(lambda: section.string("group", ""), ""),
            show_group=self.take(lambda: section.string("show_group", ""), ""),
        )

    def metrics(self, table: Table) -> Metrics:
        section = self.section(table, "metrics", ["listen"])
        return Metrics(self.take(lambda: section.string("listen", "", check=check_listen), ""))

    def log(self, table: Table) -> Log:
        section = self.section(table, "log", ["level", "format"])
        return Log(
            level=self.take(lambda: section.string("level", "info", LEVELS), "info"),
            format=self.take(lambda: section.string("format", "auto", FORMATS), "auto"),
        )

    # -- paths ---------------------------------------------------------------------------------

    def directory_path(self, table: Table, key: str, default: Path) -> Path:
        return Path(self.take(lambda: table.string(key, str(default), check=check_absolute), str(default)))

    def socket_path(self, table: Table, key: str, default: Path) -> Path:
        path = self.directory_path(table, key, default)
        if len(str(path).encode()) > UNIX_PATH_BYTES and key in table:
            self.wrong(table, key, f"is longer than {UNIX_PATH_BYTES} bytes", "use a shorter path")
        return path


def _shared_interfaces(device: str) -> tuple[str, ...]:
    """Return the interface of Linux that a device takes, whatever its number is."""
    parsed = parse_device(device)
    return (parsed.interface,) if parsed.interface else ()


def public_keys(section: Table, check: Callable[[str], object]) -> tuple[str, ...]:
    """Return one key, or a list of those that are accepted. Raises TomlError."""
    key = "directory_public_key"
    if key in section and isinstance(section.raw(key), list):
        return section.strings(key, check=check, least=1)
    return (section.string(key, check=check),)
