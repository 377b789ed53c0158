# SPDX-License-Identifier: Apache-2.0
"""What directory.toml says, as frozen dataclasses with every default filled in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from directory_client.endpoint import Endpoint, parse_endpoint
from directory_client.keys import check_public_key
from directory_client.toml.changes import text
from directory_client.toml.strict_toml import Table, TomlError, raise_all, read_toml
from directory_client.vocabulary.names import check_name
from directory_client.wire.limits import RESOLVE_BYTES_MAX, TEXT_BYTES_MAX
from directory_client.wire.messages import DirectoryError
from directory_service.settings import Settings

STORES = ("sqlite", "memory", "etcd")
ROLES = ("gateway", "operator")
T = TypeVar("T")
_NOWHERE = Endpoint("", "", "", "")


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
    except OSError as error:
        raise DirectoryError(f"{path} cannot be read: {error.strerror}", f"ls -l {path}", 2) from error
    except UnicodeDecodeError as error:
        raise DirectoryError(f"{path}: byte {error.start + 1} is not UTF-8", f"file {path}", 2) from error
    return parse(text, str(path))


def parse(toml: str, file: str) -> Configuration:
    """Read and check the text of a directory.toml. Raises TomlError with file, line, key and remedy, or
    TomlErrors with all mistakes."""
    table = read_toml(toml, file)
    mistakes: list[TomlError] = []
    read = partial(_take, mistakes)
    configuration = Configuration(
        name=read(lambda: table.string("name", check=check_name), ""),
        listen=read(lambda: _endpoint(table, "listen"), _NOWHERE),
        local=read(lambda: _endpoint(table, "local") if "local" in table else None, None),
        key_file=read(lambda: _path(table, "key_file"), None),
        clients=_clients(table, mistakes),
        store_path=_section(table, "store", _store, mistakes, None),
        settings=_settings(table, mistakes),
        node_s=_section(table, "leases", _leases, mistakes, 10.0),
        limits=_section(table, "limits", _limits, mistakes, Limits()),
        audit_file=_section(table, "audit", _audit, mistakes, None),
        metrics=_section(table, "metrics", _metrics, mistakes, None),
    )
    mistakes += table.unknown()
    _check_together(table, configuration, mistakes)
    raise_all(mistakes)
    return configuration


def values(configuration: Configuration) -> dict[str, str]:
    """Return what the file says, by its keys, defaults filled in (directory_client.toml.changes)."""
    one = configuration
    named: dict[str, Any] = {
        "name": one.name,
        "listen": one.listen.name,
        "local": one.local.name if one.local else None,
        "key_file": one.key_file and str(one.key_file),
        "store.path": "memory" if one.store_path is None else str(one.store_path),
    }
    for name, value in asdict(one.settings).items():
        section, _, rest = name.partition("_")
        named[f"history.{rest}" if section == "history" else f"answers.{name}"] = value
    named["leases.node_s"] = one.node_s
    named |= {f"limits.{name}": value for name, value in asdict(one.limits).items()}
    named["audit.file"] = one.audit_file and str(one.audit_file)
    named["metrics.listen"] = one.metrics and ":".join(map(str, one.metrics))
    shown = {key: text(value) for key, value in named.items()}
    return shown | {f"client.{c.name}": f"{c.role} {c.public_key.decode()}" for c in one.clients}


def live_part(before: Configuration, after: Configuration) -> Configuration:
    """Return `before` with all that a running directory takes from `after`; the rest needs a restart.

    ZeroMQ knows the sizes of messages when it binds; V-nets are told stale_max_s with their records."""
    audited = before.audit_file is not None and after.audit_file is not None
    sizes = {name: getattr(before.limits, name) for name in ("message_bytes", "document_bytes")}
    return replace(
        before,
        settings=replace(after.settings, stale_max_s=before.settings.stale_max_s),
        limits=replace(after.limits, **sizes),
        node_s=after.node_s,
        audit_file=after.audit_file if audited else before.audit_file,
        metrics=after.metrics,
        clients=after.clients,
    )


def _take(mistakes: list[TomlError], read: Callable[[], T], otherwise: Any) -> T:
    """Return what `read` reads; what is wrong is added to `mistakes`, and `otherwise` stands in."""
    try:
        return read()
    except TomlError as error:
        mistakes.append(error)
        return cast("T", otherwise)


def _section(
    table: Table, key: str, read: Callable[[Table], T], mistakes: list[TomlError], otherwise: Any
) -> T:
    section = _take(mistakes, lambda: table.table(key), None)
    if section is None:
        return cast("T", otherwise)
    found = section.read_all(read, mistakes)
    return otherwise if found is None else found


def _check_together(table: Table, configuration: Configuration, mistakes: list[TomlError]) -> None:
    """Add what is wrong between keys, where each of them is right."""
    wrong = {mistake.key.partition(".")[0].partition("[")[0] for mistake in mistakes}
    listen, local = configuration.listen, configuration.local
    if listen is _NOWHERE:
        return
    if not listen.local and not configuration.key_file and "key_file" not in wrong:
        mistakes.append(table.problem("listen", "TCP needs a key", 'key_file = "/etc/vnet/directory.key"'))
    if not listen.local and not configuration.clients and "client" not in wrong:
        fix = 'add [[client]] with name, public_key and role = "operator"'
        mistakes.append(table.problem("listen", "no client may connect", fix))
    if local is not None and (listen.local or not local.local):
        fix = 'listen = "tcp://HOST:PORT" for others, local = "ipc://DIRECTORY" for this machine'
        mistakes.append(table.problem("local", "it is an ipc:// endpoint beside a tcp:// one", fix))


def _path(table: Table, key: str) -> Path | None:
    found = table.string(key, "")
    return Path(found) if found else None


def _endpoint(table: Table, key: str) -> Endpoint:
    try:
        return parse_endpoint(table.string(key))
    except DirectoryError as error:
        raise table.problem(key, error.error, error.fix) from None


def _clients(table: Table, mistakes: list[TomlError]) -> tuple[Client, ...]:
    clients: list[Client] = []
    seen: dict[str | bytes, Client] = {}
    for entry in table.tables_in_list("client", mistakes):
        client = entry.read_all(_client, mistakes)
        if client is None:
            continue
        clients.append(client)
        for what, value in (("name", client.name), ("public_key", client.public_key)):
            other = seen.setdefault(value, client)
            if other is not client:
                mistakes.append(
                    table.problem(
                        "client",
                        f"{other.name} and {client.name} have the same {what}",
                        "one [[client]] for each key: vnet-directory keygen PATH makes another",
                    )
                )
    return tuple(clients)


def _client(table: Table) -> Client:
    name = table.string("name", check=check_name)
    key = table.string("public_key")
    role = table.string("role", choices=ROLES)
    table.finish()
    try:
        return Client(name, check_public_key(key, "it"), role)
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


def _settings(table: Table, mistakes: list[TomlError]) -> Settings:
    usual = Settings()

    def answers(section: Table) -> dict[str, Any]:
        found = {
            "lifetime_s": section.real("lifetime_s", usual.lifetime_s, 1, 86_400),
            "negative_lifetime_s": section.real("negative_lifetime_s", usual.negative_lifetime_s, 1, 3_600),
            "jitter_ratio": section.real("jitter_ratio", usual.jitter_ratio, 0, 0.5),
            "move_grace_s": section.real("move_grace_s", usual.move_grace_s, 0, 3_600),
            "stale_max_s": section.integer("stale_max_s", usual.stale_max_s, 0, 604_800),
        }
        section.finish()
        return found

    def history(section: Table) -> dict[str, Any]:
        found = {
            "history_revisions": section.integer("revisions", usual.history_revisions, 1),
            "history_days": section.real("days", usual.history_days, 0, 36_500),
        }
        section.finish()
        return found

    said = _section(table, "answers", answers, mistakes, {})
    return Settings(**said, **_section(table, "history", history, mistakes, {}))


def _leases(table: Table) -> float:
    node_s = table.real("node_s", 10.0, 2, 3_600)
    table.finish()
    return node_s


def _limits(table: Table) -> Limits:
    usual = Limits()
    limits = Limits(
        message_bytes=table.integer("message_bytes", usual.message_bytes, RESOLVE_BYTES_MAX, 1 << 30),
        document_bytes=table.integer("document_bytes", usual.document_bytes, TEXT_BYTES_MAX, 1 << 30),
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
