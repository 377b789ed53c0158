# SPDX-License-Identifier: Apache-2.0
"""The whole model at one revision: a Snapshot. Made from the store, and then commit by commit.

A commit rebuilds only what it touches: the fabric if a site, path, profile or node changed, and each V-net of
which a record changed. All else is shared with the snapshot before.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgpack

from directory_service.kinds.records import FABRIC_KINDS, Record, decode, is_record_key
from directory_service.kinds.registry import TOLD
from directory_service.model.fabric import Fabric, Presence
from directory_service.model.layered import Layered
from directory_service.model.vnet import MOVES_KEPT_MS, VnetState
from directory_service.store.contract import Change, Commit, Compacted, Item, Store, StoreError

log = logging.getLogger(__name__)

_REPLAYED_AT_ONCE = 4
REPLAYED_MAX = 4_096  # commits; a move that is further back is forgotten early


class _Hosting:
    """Which V-nets each node hosts: found when it is first asked for, shared by snapshots of which it is the
    same."""

    def __init__(self) -> None:
        self.by_node: dict[str, list[str]] | None = None

    def find(self, vnets: Mapping[str, VnetState]) -> dict[str, list[str]]:
        if self.by_node is None:
            by_node: dict[str, list[str]] = {}
            for name, state in vnets.items():
                for node in state.attachments_by_node if state.vnet is not None else ():
                    by_node.setdefault(node, []).append(name)
            self.by_node = by_node
        return self.by_node


class _Naming:
    """Which V-nets have a record that names another one, of a kind of which nodes are told: likewise."""

    kinds = frozenset(kind.name for kind in TOLD)

    def __init__(self) -> None:
        self.by_name: dict[tuple[str, str], list[str]] | None = None

    def find(self, vnets: Mapping[str, VnetState]) -> dict[tuple[str, str], list[str]]:
        if self.by_name is None:
            by_name: dict[tuple[str, str], list[str]] = {}
            for name in sorted(vnets):
                for kind in self.kinds:
                    for other in vnets[name].tables.get(kind, ()):
                        by_name.setdefault((kind, other), []).append(name)
            self.by_name = by_name
        return self.by_name


class Snapshot:
    """The model at a revision. Never changes; any number of threads may read it."""

    def __init__(
        self,
        incarnation: int,
        revision: int,
        records: Layered[str, Record],
        fabric: Fabric,
        vnets: Mapping[str, VnetState],
        presences: Mapping[str, Presence] | None = None,
        facts: int = 0,
        hosting: _Hosting | None = None,
        naming: _Naming | None = None,
    ) -> None:
        self._hosting = hosting or _Hosting()
        self._naming = naming or _Naming()
        self.incarnation = incarnation
        self.revision = revision
        self.records = records
        self.fabric = fabric
        self.vnets = vnets
        self.presences: Mapping[str, Presence] = {} if presences is None else presences
        self.facts = facts  # orders what is said at one revision
        self.by_vni = {state.vnet.vni: state for state in vnets.values() if state.vnet is not None}
        self.locations: dict[tuple[Any, ...], Any] = {}  # what decide remembers of where things are

    def unreadable(self) -> dict[str, str]:
        """Return the keys of the records that this program cannot read, a newer one has written them, and
        why."""
        found = dict(self.fabric.unreadable)
        for state in self.vnets.values():
            if state.unreadable:
                found.update(state.unreadable)
        return found

    def hosted_by(self, node: str) -> Sequence[str]:
        """Return the names of the V-nets that a node hosts."""
        return self._hosting.find(self.vnets).get(node, ())

    def naming(self, kind: str, vnet: str) -> Sequence[str]:
        """Return the names of the V-nets that have a record of a kind with this V-net's name."""
        return self._naming.find(self.vnets).get((kind, vnet), ())

    def with_changes(
        self, revision: int, changes: Iterable[tuple[Record | None, Record | None]], at_ms: int
    ) -> "Snapshot":
        """Return the snapshot after changes (before, after) that were made at `at_ms` of a steady clock."""
        edit = self.records.edit()
        per_vnet: dict[str, list[tuple[Record | None, Record | None]]] = {}
        fabric_changed, naming = False, self._naming
        for before, after in changes:
            record = after or before
            if record is None:
                continue
            if record.kind in _Naming.kinds:
                naming = _Naming()
            edit.put(record.key, after)
            if record.kind in FABRIC_KINDS:
                fabric_changed = True
            else:
                per_vnet.setdefault(record.vnet, []).append((before, after))
        records = edit.done()
        fabric = Fabric(_of_fabric(records), self.presences) if fabric_changed else self.fabric
        vnets = dict(self.vnets)
        same_hosts = True
        for name, vnet_changes in per_vnet.items():
            old = vnets.get(name, _NEW)
            state = old.updated(vnet_changes, at_ms)
            same_hosts = same_hosts and old.vnet is not None and state.has_hosts_of(old)
            if state.is_empty:
                vnets.pop(name, None)
            else:
                vnets[name] = state
        hosting = self._hosting if same_hosts else None
        return Snapshot(
            self.incarnation, revision, records, fabric, vnets, self.presences, self.facts, hosting, naming
        )

    def with_presences(
        self, presences: Mapping[str, Presence], facts: int, names: Iterable[str]
    ) -> "Snapshot":
        """Return the snapshot, of the same revision, after these gateways said something else of
        themselves."""
        fabric = self.fabric.with_presences(presences, names)
        return Snapshot(
            self.incarnation,
            self.revision,
            self.records,
            fabric,
            self.vnets,
            presences,
            facts,
            self._hosting,
            self._naming,
        )

    def with_sightings(
        self, sightings: Mapping[str, Mapping[str, str]], facts: int, at_ms: int
    ) -> "Snapshot":
        """Return the snapshot, of the same revision, after endpoints were seen elsewhere: by V-net, all that
        are known (model/sightings.py)."""
        seen = {
            name: state.sighted(found, at_ms)
            for name, state in self.vnets.items()
            if state.sightings != (found := sightings.get(name, _NO_SIGHTINGS))
        }
        vnets = {**self.vnets, **seen} if seen else self.vnets
        return Snapshot(
            self.incarnation,
            self.revision,
            self.records,
            self.fabric,
            vnets,
            self.presences,
            facts,
            self._hosting,
            self._naming,
        )

    @property
    def sightings(self) -> dict[str, Mapping[str, str]]:
        """What is known of where endpoints were seen, by V-net."""
        return {name: state.sightings for name, state in self.vnets.items() if state.sightings}

    def with_commit(self, commit: Commit, at_ms: int) -> "Snapshot":
        """Return the snapshot after a commit of the store, which was made at `at_ms` of a steady clock."""
        return self.with_changes(commit.revision, changed_records(commit.changes), at_ms)


_NEW = VnetState()
_NO_SIGHTINGS: Mapping[str, str] = {}


def changed_records(changes: Iterable[Change]) -> list[tuple[Record | None, Record | None]]:
    """Return (before, after) of the records among a commit's changes. Raises StoreError for what is no
    record."""
    found: list[tuple[Record | None, Record | None]] = []
    for change in changes:
        if is_record_key(change.key):
            before = _decoded(change.before) if change.before else None
            found.append((before, _decoded(change.after) if change.after else None))
    return found


def empty_snapshot(incarnation: int = 0) -> Snapshot:
    """Return a snapshot without any record."""
    return Snapshot(incarnation, 0, Layered(), Fabric({}), {})


def load_snapshot(
    store: Store, revision: int | None = None, wall_ms: int = 0, steady_ms: int = 0
) -> Snapshot:
    """Return the snapshot of a store at a revision (None: the newest, with the moves of the last minutes).

    The newest commits are replayed in the order of their revisions, none left out, and what comes of it is
    compared with what the store holds. Clocks order nothing: `wall_ms` and `steady_ms`, both now, only say
    how long ago a move was; one that seems to lie ahead is taken to be of now.
    Raises Compacted.
    """
    if revision is not None:
        found, items = store.range(revision=revision)
        return _snapshot_of(store, found, items)
    try:
        replayed = _replay(store, wall_ms, steady_ms)
    except Compacted:  # forgotten by another server between two looks
        replayed = None
    found, items = store.range()
    if replayed is not None and replayed.revision < found:  # somebody writes meanwhile
        try:
            replayed = _follow(store, replayed, found, wall_ms, steady_ms)
        except Compacted:
            replayed = None
    if replayed is not None and _holds(replayed, items):
        return replayed
    if replayed is not None:
        log.error("revision %d: the log does not lead to what the store holds; the store counts", found)
    return _snapshot_of(store, found, items)


def _snapshot_of(store: Store, revision: int, items: Iterable[Item]) -> Snapshot:
    changes = ((None, _decoded(item)) for item in items if is_record_key(item.key))
    return empty_snapshot(store.world.incarnation).with_changes(revision, changes, 0)


def _holds(snapshot: Snapshot, items: Iterable[Item]) -> bool:
    """Tell whether a snapshot has these records and no others, to the byte."""
    count = 0
    for item in items:
        if is_record_key(item.key):
            record = snapshot.records.get(item.key)
            if record is None or record.revision != item.modified or record.packed != item.value:
                return False
            count += 1
    return count == len(snapshot.records)


def _replay(store: Store, wall_ms: int, steady_ms: int) -> Snapshot | None:
    """Return the snapshot after replaying the newest commits; None: none of them matters any more."""
    newest = store.revision()
    first = first_recent(store, newest)
    if first is None:
        return None
    start = _snapshot_of(store, *store.range(revision=first - 1))
    return _follow(store, start, newest, wall_ms, steady_ms)


def _follow(store: Store, snapshot: Snapshot, newest: int, wall_ms: int, steady_ms: int) -> Snapshot:
    """Return the snapshot after the commits up to a revision, few at a time: one may be a whole document."""
    while snapshot.revision < newest:
        commits = store.commits(snapshot.revision, min(_REPLAYED_AT_ONCE, newest - snapshot.revision))
        if not commits:
            break
        for commit in commits:
            snapshot = snapshot.with_commit(commit, steady_ms - max(0, wall_ms - commit.time_ms))
    return snapshot


def _decoded(item: Item) -> Record:
    """Return the record of an item. Raises StoreError for what is none: it is damaged."""
    try:
        return decode(item)
    except (ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException) as error:
        raise StoreError(f"{item.key} of revision {item.modified} cannot be read: {error}") from error


def first_recent(store: Store, newest: int) -> int | None:
    """Return the revision of the first commit that may still matter to relaying after a move; None: no commit
    is kept. Clocks may have stepped, so only those before the first young one are left out."""
    back = 16
    while True:
        heads = [head for head in reversed(store.heads(newest, back)) if head.revision > store.oldest()]
        if not heads:
            return None
        since = heads[-1].time_ms - MOVES_KEPT_MS
        first = next(index for index, head in enumerate(heads) if head.time_ms >= since)
        if first or len(heads) < back or len(heads) >= REPLAYED_MAX:
            return heads[first].revision
        back *= 4


def _of_fabric(records: Mapping[str, Record]) -> dict[str, Record]:
    return {key: record for key, record in records.items() if record.kind in FABRIC_KINDS}
