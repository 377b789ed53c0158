# SPDX-License-Identifier: Apache-2.0
"""The whole model at one revision: a Snapshot. Made from the store, and then commit by commit.

A commit rebuilds only what it touches: the fabric if a site, path, profile or node changed, and each V-net of
which a record changed. All else is shared with the snapshot before.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from directory_service.fabric import Fabric
from directory_service.layered import Layered
from directory_service.records import FABRIC_KINDS, Record, decode, is_record_key
from directory_service.store.contract import Change, Commit, Compacted, Store
from directory_service.vnet import MOVES_KEPT_MS, VnetState


class Snapshot:
    """The model at a revision. Never changes; any number of threads may read it."""

    def __init__(
        self,
        incarnation: int,
        revision: int,
        records: Layered[str, Record],
        fabric: Fabric,
        vnets: Mapping[str, VnetState],
    ) -> None:
        self.incarnation = incarnation
        self.revision = revision
        self.records = records
        self.fabric = fabric
        self.vnets = vnets
        self.by_vni = {state.vnet.vni: state for state in vnets.values() if state.vnet is not None}
        self.locations: dict[tuple, Any] = {}  # what decide remembers of where things are

    def with_changes(
        self, revision: int, changes: Iterable[tuple[Record | None, Record | None]], time_ms: int
    ) -> "Snapshot":
        """Return the snapshot after changes (before, after) made by a commit at `time_ms`."""
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
        fabric = Fabric(_of_fabric(records)) if fabric_changed else self.fabric
        vnets = dict(self.vnets)
        for name, vnet_changes in per_vnet.items():
            state = vnets.get(name, _NEW).updated(vnet_changes, time_ms)
            if state.vnet is None and not (
                state.endpoints or state.attachments or state.routes or state.rules
            ):
                vnets.pop(name, None)
            else:
                vnets[name] = state
        return Snapshot(self.incarnation, revision, records, fabric, vnets)

    def with_commit(self, commit: Commit) -> "Snapshot":
        """Return the snapshot after a commit of the store."""
        return self.with_changes(commit.revision, changed_records(commit.changes), commit.time_ms)


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


def load_snapshot(store: Store, revision: int | None = None) -> Snapshot:
    """Return the snapshot of a store at a revision (None: the newest), with the moves of the last ten
    minutes.

    Raises Compacted.
    """
    found, items = store.range(revision=revision)
    start = found
    commits: list[Commit] = []
    if revision is None:
        try:
            commits = recent_commits(store, found)
        except Compacted:
            commits = []
        if commits:
            start = commits[0].revision - 1
            _, items = store.range(revision=start)
    records = [decode(item) for item in items if is_record_key(item.key)]
    snapshot = empty_snapshot(store.incarnation).with_changes(
        start, [(None, record) for record in records], 0
    )
    for commit in commits:
        snapshot = snapshot.with_commit(commit)
    return snapshot


def recent_commits(store: Store, newest: int) -> list[Commit]:
    """Return the newest commits that may still matter to relaying after a move, oldest first."""
    back = 16
    while True:
        after = max(newest - back, store.oldest())
        commits = [commit for commit in store.commits(after, newest - after) if commit.revision <= newest]
        if not commits:
            return []
        since = commits[-1].time_ms - MOVES_KEPT_MS
        recent = [commit for commit in commits if commit.time_ms >= since]
        if len(recent) < len(commits) or after <= store.oldest():
            return recent
        back *= 4


def _of_fabric(records: Mapping[str, Record]) -> dict[str, Record]:
    return {key: record for key, record in records.items() if record.kind in FABRIC_KINDS}
