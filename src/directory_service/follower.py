# SPDX-License-Identifier: Apache-2.0
"""The newest snapshot of a store, followed commit by commit. No sockets, no threads: one thread calls."""

from collections.abc import Callable, Mapping

from directory_service.model.fabric import Presence
from directory_service.model.snapshot import Snapshot, load_snapshot
from directory_service.model.vnet import MOVES_KEPT_MS
from directory_service.store.contract import Compacted, Store
from directory_service.views.steps import Said

PAGE = 256  # commits read at once


class Follower:
    """See the module. `clock_ms` is Unix time, `steady_ms` a clock that never steps, both in milliseconds.

    `take_said` tells it what gateways say; a store does not know.
    """

    def __init__(self, store: Store, clock_ms: Callable[[], int], steady_ms: Callable[[], int]) -> None:
        self.store = store
        self._clock_ms = clock_ms
        self._steady_ms = steady_ms
        self._held: Mapping[str, Presence] = {}
        self._sightings: Mapping[str, Mapping[str, str]] = {}
        self._serial = 1
        self._snapshot = self._load()
        self._scopes_of: Snapshot | None = None  # the next two are of this one
        self._hosted: dict[str, frozenset[str]] = {}
        self._vnets_of_document: dict[str, set[str]] | None = None

    @property
    def current(self) -> Snapshot:
        """The snapshot that answers are given from."""
        return self._snapshot

    @property
    def revision(self) -> int:
        """The revision that answers are given at."""
        return self._snapshot.revision

    def take_up(self) -> None:
        """Take up what has been committed since. Raises StoreError."""
        if self.store.refresh_world().incarnation != self._snapshot.incarnation:
            self._snapshot = self._load()
        while True:
            try:
                commits = self.store.commits(self._snapshot.revision, PAGE)
            except Compacted:
                self._snapshot = self._load()
                return
            for one in commits:
                self._snapshot = self._snapshot.with_commit(one, self._steady_ms())
            if len(commits) < PAGE:
                return

    def take_own(self, after: Snapshot) -> None:
        """Take up a commit of one's own: what it was planned to make, to which nobody has added before it."""
        self._snapshot = after

    def take_said(self, said: Said) -> None:
        """Take up that gateways say something else of themselves, or where endpoints are."""
        self._note_said(said)
        self._snapshot = said.put_on(self._snapshot, self._steady_ms())

    def with_facts(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot as gateways stand now: what they say has no past."""
        return self._with_facts(snapshot, self._held, self._serial, self._sightings)

    def _note_said(self, said: Said) -> None:
        self._held, self._serial = said.held, said.serial
        if said.sightings is not None:
            self._sightings = said.sightings

    def _with_facts(
        self,
        snapshot: Snapshot,
        held: Mapping[str, Presence],
        serial: int,
        sightings: Mapping[str, Mapping[str, str]],
    ) -> Snapshot:
        # Who was seen elsewhere has not moved just now.
        now = snapshot.with_presences(held, serial, held)
        return now.with_sightings(sightings, serial, self._steady_ms() - MOVES_KEPT_MS)

    def hosted(self, node: str) -> frozenset[str]:
        """Return the names of the V-nets that a node hosts."""
        self._remember_scopes()
        if node not in self._hosted:
            self._hosted[node] = frozenset(self._snapshot.hosted_by(node))
        return self._hosted[node]

    def document_vnets(self, document: str) -> frozenset[str]:
        """Return the names of the V-nets that a document has records in. Looks at every record."""
        self._remember_scopes()
        if self._vnets_of_document is None:
            self._vnets_of_document = {}
            for record in self._snapshot.records.values():
                if record.document and record.vnet:
                    self._vnets_of_document.setdefault(record.document, set()).add(record.vnet)
        return frozenset(self._vnets_of_document.get(document, ()))

    def _load(self, store: Store | None = None, like: Snapshot | None = None) -> Snapshot:
        """Load the newest snapshot, with what gateways say of themselves in another one."""
        loaded = load_snapshot(store or self.store, None, self._clock_ms(), self._steady_ms())
        if like is None:
            return self.with_facts(loaded)
        return self._with_facts(loaded, like.presences, like.facts, like.sightings)

    def _remember_scopes(self) -> None:
        """Begin anew with what is remembered of one snapshot."""
        if self._scopes_of is not self._snapshot:
            self._scopes_of = self._snapshot
            self._hosted = {}
            self._vnets_of_document = None
