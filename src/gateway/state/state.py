# SPDX-License-Identifier: Apache-2.0
"""What control knows at this moment: written by `control.Control`, read by what answers questions. One
thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from directory_client.heartbeats import Notice
from gateway.configuration.configuration import Configuration
from gateway.state.events import Events
from gateway.state.job import AskDirectory, Refused, Steps, dump
from gateway.state.statistics import Statistics
from gateway.underlay.nexthop import Pair, Resolution

NAMES_FRESH_S = 5.0
WORKER_SILENT_S = 5.0


@dataclass(frozen=True)
class DirectoryServer:
    """A row of `show directories`: what the client knows of one server."""

    name: str
    endpoint: str
    state: str
    active: bool
    revision: int
    rtt_us: int | None
    silent_s: float | None
    failures: int
    problem: str = ""  # why it does not serve this gateway, as far as that is known
    fix: str = ""
    notices: Sequence[Notice] = ()  # what it says of this gateway


@dataclass(frozen=True)
class Worker:
    """The last statistics of a slow-path worker and those before."""

    received_s: float
    now: dict[str, Any]
    before_s: float
    before: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A dumped table with counters and an older copy of it, for rates."""

    time_s: float
    rows: dict[Any, dict[str, Any]]
    before_s: float
    before: dict[Any, dict[str, Any]]

    def per_s(self, key: Any, counter: str) -> float | None:
        span = self.time_s - self.before_s
        now, then = self.rows.get(key), self.before.get(key)
        if span <= 0 or now is None or then is None:
            return None
        return max(0, now.get(counter, 0) - then.get(counter, 0)) / span


@dataclass
class Names:
    """Names by what the data plane knows things by, as the directory last said."""

    vnets: dict[int, str] = field(default_factory=dict)  # by VNI
    nodes: dict[int, str] = field(default_factory=dict)  # by object_id
    profiles: dict[int, str] = field(default_factory=dict)
    endpoints: dict[int, str] = field(default_factory=dict)
    read_s: float | None = None

    def vnet(self, vni: Any) -> str:
        return self.vnets.get(vni, f"vni {vni}")

    def node(self, object_id: Any) -> str:
        return self.nodes.get(object_id, f"node {object_id}")

    def profile(self, object_id: Any) -> str:
        return self.profiles.get(object_id, f"profile {object_id}") if object_id else "built-in"


@dataclass
class State:
    configuration: Configuration
    version: str
    events: Events
    clock: Callable[[], float] = time.monotonic
    statistics: Statistics = field(default_factory=Statistics)
    names: Names = field(default_factory=Names)
    greeting: dict[str, Any] | None = None  # of the data plane; None: it does not answer
    data_plane_why: str = "was not found yet"
    data_plane_lost_at: float | None = None  # seconds since 1970
    adoption: dict[str, Any] = field(default_factory=dict)
    servers: Callable[[], Sequence[DirectoryServer]] = tuple
    workers: dict[str, Worker] = field(default_factory=dict)
    resolutions: dict[Pair, Resolution] = field(default_factory=dict)
    unresolved_at: dict[Pair, float] = field(default_factory=dict)  # seconds since 1970
    exception_problems: dict[str, tuple[str, str]] = field(default_factory=dict)  # port -> (error, fix)
    missing_locators: tuple[str, ...] = ()
    tunnels: Table | None = None
    vnets: Table | None = None
    malformed_requests: int = 0
    malformed_inbox: int = 0
    refused_records: dict[str, int] = field(default_factory=dict)

    @property
    def node(self) -> str:
        return self.configuration.name

    @property
    def workers_configured(self) -> int:
        """How many slow-path workers there are to be."""
        return self.configuration.threads.slow_path_workers

    def active_server(self) -> DirectoryServer | None:
        return next((server for server in self.servers() if server.active), None)

    def take_table(self, what: str, key: str, rows: list[dict[str, Any]]) -> Table:
        """Keep a dump of `tunnels` or `vnets`; the older copy stays until it is ten seconds old."""
        now = self.clock()
        old: Table | None = getattr(self, what)
        by_key = {row.get(key): row for row in rows}
        if old is None:
            table = Table(now, by_key, now, {})
        elif now - old.before_s >= 10.0 or not old.before:
            table = Table(now, by_key, old.time_s, old.rows)
        else:
            table = Table(now, by_key, old.before_s, old.before)
        setattr(self, what, table)
        return table


def read_names(state: State) -> Steps:
    """Bring the names up to date if they are older than a few seconds; a silent directory leaves them."""
    now = state.clock()
    if state.names.read_s is not None and now - state.names.read_s < NAMES_FRESH_S:
        return state.names
    if state.active_server() is None:
        return state.names
    state.names.read_s = now
    try:
        vnets = yield AskDirectory("list", {"kind": "vnets", "vnet": None, "name": None}, 1.0)
        nodes = yield AskDirectory("list", {"kind": "nodes", "vnet": None, "name": None}, 1.0)
        profiles = yield AskDirectory("list", {"kind": "profiles", "vnet": None, "name": None}, 1.0)
    except Refused:
        return state.names
    state.names.vnets = {row["vni"]: _name(row) for row in vnets.get("rows", ()) if "vni" in row}
    state.names.nodes = _by_id(nodes)
    state.names.profiles = _by_id(profiles)
    return state.names


def read_table(state: State, what: str, key: str) -> Steps:
    """Dump `tunnels` or `vnets` and keep it for rates."""
    rows = yield from dump(what)
    return state.take_table(what, key, rows)


def _name(row: dict[str, Any]) -> str:
    return str(row.get("name") or row.get("vnet") or "")


def _by_id(answer: dict[str, Any]) -> dict[int, str]:
    return {row["object_id"]: _name(row) for row in answer.get("rows", ()) if row.get("object_id")}
