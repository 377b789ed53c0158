# SPDX-License-Identifier: Apache-2.0
"""What control knows at this moment: written by `control.Control`, read by what answers questions. One
thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from directory_client.wire.greeting import Notice
from directory_client.wire.limits import IDS_MAX
from gateway.configuration.configuration import Configuration
from gateway.processes.report import WorkerStatistics
from gateway.state.events import Events
from gateway.state.job import Answer, Ask, AskDirectory, Refused, Steps, dump
from gateway.state.statistics import Statistics
from gateway.underlay.nexthop import Pair, Resolution

NAMES_AGAIN_S = 5.0
NAMES_TOLD_KEPT = 200_000
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
    incarnation: int = 0  # of its store
    key: str = ""  # its public key, as it has proved
    era: int = 0
    era_began: str = ""  # why; empty in the first era of a realm
    era_heard_s: float = 0.0  # since control first heard of that era


@dataclass(frozen=True)
class Worker:
    """The last statistics of a slow-path worker and those before."""

    received_s: float
    now: WorkerStatistics
    before_s: float
    before: WorkerStatistics | None  # None: it has just started


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
        more: float = now.get(counter, 0) - then.get(counter, 0)
        return max(0.0, more) / span


@dataclass
class Names:
    """Names by what the data plane knows things by. In one store a name never changes for an object id. The
    slow path tells those that came with pushes; the directory is asked once for each other."""

    vnets: dict[int, str] = field(default_factory=dict)  # by VNI
    objects: dict[int, str] = field(default_factory=dict)  # nodes, profiles, V-nets by object_id
    ask_again_s: dict[int, float] = field(default_factory=dict)  # object ids that the directory did not know
    incarnation: int = 0  # of the store that they are of: one that went back gives ids out again
    told: dict[int, str] = field(default_factory=dict)  # by object_id, as the slow path says
    told_of: int = 0  # the incarnation that these are of

    def vnet(self, vni: Any) -> str:
        return self.vnets.get(vni, f"vni {vni}")

    def node(self, object_id: Any) -> str:
        return self.objects.get(object_id, f"node {object_id}")

    def profile(self, object_id: Any) -> str:
        return self.objects.get(object_id, f"profile {object_id}") if object_id else "built-in"

    def tell(self, names: Iterable[tuple[int, str]], incarnation: int) -> None:
        """Take names that came with pushes."""
        if incarnation != self.told_of or len(self.told) > NAMES_TOLD_KEPT:
            self.told, self.told_of = {}, incarnation
        self.told.update(names)

    def take_told(self, object_ids: Iterable[int]) -> None:
        """Use what was told of these, if it is of the same store. Without a directory it is all there is."""
        if self.told_of == self.incarnation or not self.incarnation:
            self.objects |= {one: self.told[one] for one in object_ids if one in self.told}

    def unknown(self, object_ids: Iterable[int], now_s: float) -> list[int]:
        """Return the object ids that are to be asked for."""
        return [
            one for one in object_ids if one not in self.objects and now_s >= self.ask_again_s.get(one, 0.0)
        ]

    def keep_only(self, object_ids: Set[int]) -> None:
        """Forget what is used no longer."""
        for known in (self.objects, self.ask_again_s):
            for gone in known.keys() - object_ids:
                del known[gone]


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
    vlan_problems: dict[str, str] = field(default_factory=dict)  # by port
    missing_locators: tuple[str, ...] = ()
    parent_is_gone: bool = False
    metrics_problem: str = ""  # why nobody can read them; empty: all is well
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


def read_names(state: State, more: Iterable[Any] = ()) -> Generator[Ask, Answer, Names]:
    """Bring the names up to date: asks the directory for object ids that the data plane's tables and `more`
    have and that are not known yet, and for nothing else. A silent directory, or a data plane that is gone,
    leaves them."""
    try:
        vnets = state.vnets or (yield from read_table(state, "vnets", "vni"))
        tunnels = state.tunnels or (yield from read_table(state, "tunnels", "tunnel"))
    except Refused:
        return state.names
    names, now = state.names, state.clock()
    ids = {row.get("object_id") for row in vnets.rows.values()}
    ids |= {row.get(key) for row in tunnels.rows.values() for key in ("node_id", "profile_id")}
    used = {one for one in (*ids, *more) if isinstance(one, int) and one}
    server = state.active_server()
    if server is not None and server.incarnation != names.incarnation:
        names.objects, names.ask_again_s, names.incarnation = {}, {}, server.incarnation
    names.take_told(used)
    unknown = names.unknown(sorted(used), now) if server is not None else []
    for start in range(0, len(unknown), IDS_MAX):
        asked = unknown[start : start + IDS_MAX]
        names.ask_again_s |= dict.fromkeys(asked, now + NAMES_AGAIN_S)  # nor twice while it is being asked
        try:
            answer = yield AskDirectory("names", {"ids": asked}, 1.0)
        except Refused:
            break
        names.objects |= {
            one: str(name) for one, name in zip(asked, answer.get("names") or (), strict=False) if name
        }
    names.keep_only(used)
    names.vnets = {
        vni: names.objects[row["object_id"]]
        for vni, row in vnets.rows.items()
        if row.get("object_id") in names.objects
    }
    return names


def read_table(state: State, what: str, key: str) -> Steps:
    """Dump `tunnels` or `vnets` and keep it for rates."""
    rows = yield from dump(what)
    return state.take_table(what, key, rows)
