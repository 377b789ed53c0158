# SPDX-License-Identifier: Apache-2.0
"""The whole model at one revision: a Snapshot. Made from the store, and then commit by commit.

A commit rebuilds only what it touches: the fabric if a site, path, profile or node changed, and each V-net of
which a record changed. All else is shared with the snapshot before.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgpack

from directory_service.kinds.records import FABRIC_KINDS, Record, decode, is_record_key
from directory_service.model.fabric import Fabric, Presence
from directory_service.model.layered import Layered
from directory_service.model.vnet import MOVES_KEPT_MS, VnetState
from directory_service.store.contract import Change, Commit, Compacted, Item, Store, StoreError

log = logging.getLogger(__name__)

REPLAYED_MAX = 4_096  # commits; a move that is further back is forgotten early


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
    ) -> None:
        self.incarnation = incarnation
        self.revision = revision
        self.records = records
        self.fabric = fabric
        self.vnets = vnets
        self.presences: Mapping[str, Presence] = {} if presences is None else presences
        self.facts = facts  # orders what is said at one revision
        self.by_vni = {state.vnet.vni: state for state in vnets.values() if state.vnet is not None}
        self.locations: dict[tuple, Any] = {}  # what decide remembers of where things are

    def with_changes(
        self, revision: int, changes: Iterable[tuple[Record | None, Record | None]], at_ms: int
    ) -> "Snapshot":
        """Return the snapshot after changes (before, after) that were made at `at_ms` of a steady clock."""
        edit = self.records.edit()
        per_vnet: dict[str, list[tuple[Record | None, Record | None]]] = {}
        fabric_changed = False
        for before, after in changes:
            record = after or before
            if record is None:
                continue
            edit.put(record.key, after)
            if record.kind in FABRIC_KINDS:
                fabric_changed = True
            else:
                per_vnet.setdefault(record.vnet, []).append((before, after))
        records = edit.done()
        fabric = Fabric(_of_fabric(records), self.presences) if fabric_changed else self.fabric
        vnets = dict(self.vnets)
        for name, vnet_changes in per_vnet.items():
            state = vnets.get(name, _NEW).updated(vnet_changes, at_ms)
            if state.vnet is None and not (
                state.endpoints or state.attachments or state.routes or state.rules
            ):
                vnets.pop(name, None)
            else:
                vnets[name] = state
        return Snapshot(self.incarnation, revision, records, fabric, vnets, self.presences, self.facts)

    def with_presences(
        self, presences: Mapping[str, Presence], facts: int, names: Iterable[str]
    ) -> "Snapshot":
        """Return the snapshot, of the same revision, after these gateways said something else of
        themselves."""
        fabric = self.fabric.with_presences(presences, names)
        return Snapshot(self.incarnation, self.revision, self.records, fabric, self.vnets, presences, facts)

    def with_commit(self, commit: Commit, at_ms: int) -> "Snapshot":
        """Return the snapshot after a commit of the store, which was made at `at_ms` of a steady clock."""
        return self.with_changes(commit.revision, changed_records(commit.changes), at_ms)


_NEW = VnetState()


def changed_records(changes: Iterable[Change]) -> list[tuple[Record | None, Record | None]]:
    """Return (before, after) of the records among a commit's changes."""
    return [
        (decode(change.before) if change.before else None, decode(change.after) if change.after else None)
        for change in changes
        if is_record_key(change.key)
    ]


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
    found, items = store.range(revision=revision)
    records = {record.key: record for record in _decoded(items)}
    if revision is None:
        try:
            replayed = _replay(store, found, wall_ms, steady_ms)
        except Compacted:  # forgotten by another server between two looks
            replayed = None
        if replayed is not None and dict(replayed.records) == records:
            return replayed
        if replayed is not None:
            log.error("revision %d: the log does not lead to what the store holds; the store counts", found)
    return empty_snapshot(store.world.incarnation).with_changes(
        found, [(None, record) for record in records.values()], 0
    )


def _replay(store: Store, newest: int, wall_ms: int, steady_ms: int) -> Snapshot | None:
    """Return the snapshot after replaying the newest commits; None: none of them matters any more."""
    commits = recent_commits(store, newest)
    if not commits:
        return None
    start = commits[0].revision - 1
    _, items = store.range(revision=start)
    snapshot = empty_snapshot(store.world.incarnation).with_changes(
        start, [(None, record) for record in _decoded(items)], 0
    )
    for commit in commits:
        snapshot = snapshot.with_commit(commit, steady_ms - max(0, wall_ms - commit.time_ms))
    return snapshot


def _decoded(items: Iterable[Item]) -> Iterator[Record]:
    """Yield the records among items. Raises StoreError for what cannot be read: it is damaged, or of a newer
    program."""
    for item in items:
        if is_record_key(item.key):
            try:
                yield decode(item)
            except (ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException) as error:
                raise StoreError(f"{item.key} of revision {item.modified} cannot be read: {error}") from error


def recent_commits(store: Store, newest: int) -> list[Commit]:
    """Return the newest commits, oldest first: all from the first one that may still matter to relaying after
    a move. Clocks may have stepped, so only those before the first young one are left out."""
    back = 16
    while True:
        after = max(newest - back, store.oldest())
        commits = [commit for commit in store.commits(after, newest - after) if commit.revision <= newest]
        if not commits:
            return []
        since = commits[-1].time_ms - MOVES_KEPT_MS
        first = next(index for index, commit in enumerate(commits) if commit.time_ms >= since)
        recent = commits[first:]
        if len(recent) < len(commits) or after <= store.oldest() or len(commits) >= REPLAYED_MAX:
            return recent
        back *= 4


def _of_fabric(records: Mapping[str, Record]) -> dict[str, Record]:
    return {key: record for key, record in records.items() if record.kind in FABRIC_KINDS}
