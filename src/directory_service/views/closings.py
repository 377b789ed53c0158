# SPDX-License-Identifier: Apache-2.0
"""What each V-net's newest changes have forbidden, for gateways that were not told by a push.

A gateway that asks for a snapshot says up to which revision each of its V-nets is in force in its data plane.
What was tightened since then is told with the snapshot, so that it is closed and not only asked again. It is
kept as it is pushed; of the time before this process the store's log tells, looked at once, backwards, and
for a bounded time. Where neither knows, all of the V-net is closed.
"""

import logging
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from directory_client.vocabulary.numbers import ChangeKind
from directory_client.vocabulary.scopes import Scope
from directory_service.documents.history import undo
from directory_service.documents.writer import decode_note
from directory_service.model.snapshot import Snapshot
from directory_service.store.contract import Commit, Compacted, Store, StoreError
from directory_service.views.pushes import concerned_by
from directory_service.views.scope import SCOPES_MAX, ScopedChange, cover, find_changes
from directory_service.views.tightened import Tightened, find_tightened
from directory_service.views.view import Operation, scope_operation

log = logging.getLogger(__name__)

KEPT_MAX = 128  # of a V-net
TOLD_MAX = 1_024  # in one snapshot; where it would be more, each V-net has one
PAST_COMMITS_MAX = 256
PAST_CHANGES_MAX = 2_048  # records in them
PAST_MS = 100
_PAGE = 16
_WHOLE = Scope()


class Closing(NamedTuple):
    """What a revision has forbidden."""

    revision: int
    scope: Scope


class Closings:
    """One directory's. What came after `revision` is added here; what was before is in the store's log."""

    def __init__(self, revision: int) -> None:
        self._since = revision  # whatever is younger is known
        self._kept: dict[int, deque[Closing]] = {}  # by VNI, oldest first
        self._dropped: dict[int, int] = {}  # newest revision of which something is no longer kept
        self._left: dict[tuple[str, int], int] = {}  # (node, VNI) → when the node hosted it no longer
        self._has_looked_back = False

    def add(self, news: Iterable[Tightened], vnis: Container[int]) -> None:
        """Keep what the newest changes forbid; `vnis`: those that there are. Of a V-net that is gone nothing
        is kept: one that has its number later is another one, and shares no flow with it."""
        for one in news:
            kept = self._kept.setdefault(one.vni, deque())
            kept.extend(_closings(one))
            while len(kept) > KEPT_MAX:
                self._dropped[one.vni] = kept.popleft().revision
            self._left |= {(node, one.vni): one.revision for node in one.left}
        for vni in [vni for vni in self._kept if vni not in vnis]:
            del self._kept[vni]
            self._dropped.pop(vni, None)
            self._left = {key: revision for key, revision in self._left.items() if key[1] != vni}

    def after(self, node: str, vni: int, revision: int) -> list[Closing] | None:
        """Return what was forbidden in a V-net after a revision, oldest first; None: all of it, or what is
        not known."""
        if revision < max(self._since, self._dropped.get(vni, 0), self._left.get((node, vni), 0)):
            return None
        return [one for one in self._kept.get(vni, ()) if one.revision > revision]

    def operations(
        self,
        node: str,
        known: Mapping[int, int],
        newest: Snapshot,
        store: Store,
        steady_ms: Callable[[], int],
    ) -> dict[int, list[Operation]]:
        """Return the operations that close what was forbidden after the revision at which a V-net, by its
        VNI, is known to be in force at a node. Each says its own revision; a V-net's are in order."""
        if any(revision < self._since for revision in known.values()):
            self._look_back(newest, store, steady_ms)
        found: dict[int, list[Closing]] = {}
        for vni, revision in known.items():
            closings = self.after(node, vni, revision)
            if closings is None:
                closings = [Closing(newest.revision, _WHOLE)]
            if closings:
                found[vni] = closings if len(closings) <= SCOPES_MAX else _together(closings)
        if sum(map(len, found.values())) > TOLD_MAX:
            found = {vni: _together(closings) for vni, closings in found.items()}
        return {vni: [_operation(one, vni) for one in closings] for vni, closings in found.items()}

    def _look_back(self, newest: Snapshot, store: Store, steady_ms: Callable[[], int]) -> None:
        """Take up what the store's log says of the time before this process, as far back as is cheap."""
        if self._has_looked_back:
            return
        self._has_looked_back = True
        until_ms = steady_ms() + PAST_MS
        after = newest
        try:
            for commit in _newest_first(store, newest.revision):
                if steady_ms() > until_ms:
                    break
                before = undo(after, commit)
                if commit.revision <= self._since:
                    # Made anew from the one before, a state knows what differs from that.
                    self._add_past(before, before.with_commit(commit, 0), commit)
                after = before
        except (Compacted, StoreError) as error:
            log.warning("the log before revision %d is not looked at: %s", self._since, error)

    def _add_past(self, before: Snapshot, after: Snapshot, commit: Commit) -> None:
        concerned = concerned_by(before, after, commit)
        for name in concerned.names:
            only = concerned.nodes if before.vnets.get(name) is after.vnets.get(name) else None
            one = find_tightened(before, after, name, find_changes(before, after, name, only))
            if one is None:
                continue
            kept = self._kept.setdefault(one.vni, deque())
            if len(kept) + len(one.scopes) > KEPT_MAX:
                self._dropped[one.vni] = max(self._dropped.get(one.vni, 0), one.revision)
            elif one.revision > self._dropped.get(one.vni, 0):
                kept.extendleft(reversed(_closings(one)))
            for node in one.left:
                self._left.setdefault((node, one.vni), one.revision)
        self._since = commit.revision - 1


def _newest_first(store: Store, newest: int) -> Iterator[Commit]:
    """Yield the newest commits until they are too many, or what they change is."""
    oldest, changes = newest, 0
    for head in store.heads(newest, PAST_COMMITS_MAX):
        note = decode_note(head)
        changes += note.added + note.changed + note.removed
        if changes > PAST_CHANGES_MAX:
            break
        oldest = head.revision - 1
    high = newest
    while high > oldest:
        low = max(oldest, high - _PAGE)
        yield from reversed([commit for commit in store.commits(low, high - low) if commit.revision <= high])
        high = low


def _closings(one: Tightened) -> list[Closing]:
    return [Closing(one.revision, scope) for scope in one.scopes]


def _together(closings: list[Closing]) -> list[Closing]:
    """Cover all by one, which is of the newest revision: when it is applied, all of them are."""
    if len(closings) == 1:
        return closings
    return [Closing(closings[-1].revision, cover([one.scope for one in closings]))]


def _operation(closing: Closing, vni: int) -> Operation:
    change = ScopedChange(ChangeKind.TIGHTEN, closing.scope)
    return {**scope_operation(change, vni), "revision": closing.revision}
