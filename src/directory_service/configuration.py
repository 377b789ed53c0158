# SPDX-License-Identifier: Apache-2.0
"""What directory.toml says, as frozen dataclasses with every default filled in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from directory_client.endpoint import Endpoint, parse_endpoint
from directory_client.keys import check_public_key
from directory_client.toml.strict_toml import Table, read_toml
from directory_client.vocabulary.names import check_name
from directory_client.wire.messages import DirectoryError
from directory_service.settings import Settings

STORES = ("sqlite", "memory", "etcd")
ROLES = ("gateway", "operator")


@dataclass(frozen=True, slots=True)
class Client:
    """One [[client]]: whoever holds this key may connect over TCP. A gateway's name is its node's."""

    name: str
    public_key: bytes
    role: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask of everybody's time and memory."""

    message_bytes: int = 1_048_576  # on the resolve socket
    document_bytes: int = 16_777_216  # on the write socket: documents, and flows that gateways report
    resolves_per_second_per_vnet: int = 500_000
    writes_per_second_per_key: int = 200
    late_ms: int = 50


@dataclass(frozen=True, slots=True)
class Configuration:
    """A directory server's configuration. `store_path` is None for a store in memory."""

    name: str
    listen: Endpoint
    store_path: Path | None
    local: Endpoint | None = None  # beside a tcp:// listen: an ipc:// one for this machine
    key_file: Path | None = None
    settings: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)
    node_s: float = 10.0
    audit_file: Path | None = None
    metrics: tuple[str, int] | None = None
    clients: tuple[Client, ...] = ()


def embedded(runtime_dir: str, state_dir: str, name: str = "embedded") -> Configuration:
    """Make the configuration of a gateway's own directory: ipc in runtime_dir, SQLite and audit in state_dir.

    Nobody else is served from it, so a late answer is better than none, and the data plane's own quotas say
    how much a V-net may ask. Raises DirectoryError.
    """
    state = Path(state_dir)
    return Configuration(
        name=name,
        listen=parse_endpoint(f"ipc://{Path(runtime_dir).absolute()}"),
        store_path=state / "directory.db",
        limits=Limits(late_ms=500, resolves_per_second_per_vnet=10_000_000),
        audit_file=state / "audit.jsonl",
    )


def load(path: str | Path) -> Configuration:
    """Read and check a file. Raises TomlError, or DirectoryError if it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DirectoryError(f"{path} cannot be read: {error}", f"ls -l {path}", 2) from error
    return parse(text, str(path))


def parse(text: str, file: str) -> Configuration:
    """Read and check the text of a directory.toml. Raises TomlError with file, line, key and remedy."""
    table = read_toml(text, file)
    name = table.string("name", check=check_name)
    listen = _endpoint(table, "listen")
    local = _endpoint(table, "local") if "local" in table else None
    key_file = table.string("key_file", "")
    clients = tuple(_client(entry) for entry in table.tables_in_list("client"))
    seen: dict[str | bytes, Client] = {}
    for entry in clients:
        for what, value in (("name", entry.name), ("public_key", entry.public_key)):
            other = seen.setdefault(value, entry)
            if other is not entry:
                raise table.problem(
                    "client",
                    f"{other.name} and {entry.name} have the same {what}",
                    "one [[client]] for each key: vnet-directory keygen PATH makes another",
                )
    if not listen.local:
        if not key_file:
            raise table.problem("listen", "TCP needs a key", 'key_file = "/etc/vnet/directory.key"')
        if not clients:
            raise table.problem(
                "listen",
                "no client may connect",
                'add [[client]] with name, public_key and role = "operator"',
            )
    if local is not None and (listen.local or not local.local):
        fix = 'listen = "tcp://HOST:PORT" for others, local = "ipc://DIRECTORY" for this machine'
        raise table.problem("local", "it is an ipc:// endpoint beside a tcp:// one", fix)
    configuration = Configuration(
        name=name,
        listen=listen,
        local=local,
        key_file=Path(key_file) if key_file else None,
        clients=clients,
        store_path=_store(table.table("store")),
        settings=_settings(table.table("answers"), table.table("history")),
        node_s=_leases(table.table("leases")),
        limits=_limits(table.table("limits")),
        audit_file=_audit(table.table("audit")),
        metrics=_metrics(table.table("metrics")),
    )
    table.finish()
    return configuration


def _endpoint(table: Table, key: str) -> Endpoint:
    try:
        return parse_endpoint(table.string(key))
    except DirectoryError as error:
        raise table.problem(key, error.error, error.fix) from None


def _client(table: Table) -> Client:
    name = table.string("name", check=check_name)
    text = table.string("public_key")
    role = table.string("role", choices=ROLES)
    table.finish()
    try:
        return Client(name, check_public_key(text, "it"), role)
    except DirectoryError as error:
        raise table.problem("public_key", error.error, error.fix) from None


def _store(table: Table) -> Path | None:
    kind = table.string("kind", "sqlite", choices=STORES)
    path = table.string("path", "")
    if kind == "etcd":
        fix = 'kind = "sqlite" with path = "/var/lib/vnet/directory.db"'
        raise table.problem("kind", "this build has no etcd store", fix)
    if kind == "sqlite" and not path:
        raise table.problem(None, "path is missing", 'path = "/var/lib/vnet/directory.db"')
    if kind == "memory" and path:
        raise table.problem("path", "a store in memory has no file", 'remove path, or kind = "sqlite"')
    table.finish()
    return Path(path) if path else None


def _settings(answers: Table, history: Table) -> Settings:
    usual = Settings()
    settings = Settings(
        lifetime_s=answers.real("lifetime_s", usual.lifetime_s, 1, 86_400),
        negative_lifetime_s=answers.real("negative_lifetime_s", usual.negative_lifetime_s, 1, 3_600),
        jitter_ratio=answers.real("jitter_ratio", usual.jitter_ratio, 0, 0.5),
        move_grace_s=answers.real("move_grace_s", usual.move_grace_s, 0, 3_600),
        stale_max_s=answers.integer("stale_max_s", usual.stale_max_s, 0, 604_800),
        history_revisions=history.integer("revisions", usual.history_revisions, 1),
        history_days=history.real("days", usual.history_days, 0, 36_500),
    )
    answers.finish()
    history.finish()
    return settings


def _leases(table: Table) -> float:
    node_s = table.real("node_s", 10.0, 2, 3_600)
    table.finish()
    return node_s


def _limits(table: Table) -> Limits:
    usual = Limits()
    limits = Limits(
        message_bytes=table.integer("message_bytes", usual.message_bytes, 4_096, 1 << 30),
        document_bytes=table.integer("document_bytes", usual.document_bytes, 4_096, 1 << 30),
        resolves_per_second_per_vnet=table.integer(
            "resolves_per_second_per_vnet", usual.resolves_per_second_per_vnet, 1, 10**9
        ),
        writes_per_second_per_key=table.integer(
            "writes_per_second_per_key", usual.writes_per_second_per_key, 1, 10**9
        ),
        late_ms=table.integer("late_ms", usual.late_ms, 1, 60_000),
    )
    table.finish()
    return limits


def _audit(table: Table) -> Path | None:
    file = table.string("file", "")
    table.finish()
    return Path(file) if file else None


def _metrics(table: Table) -> tuple[str, int] | None:
    listen = table.string("listen", "")
    table.finish()
    if not listen:
        return None
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise table.problem("listen", f'"{listen}" is not HOST:PORT', 'listen = "127.0.0.1:9465"')
    return host.strip("[]"), int(port)
