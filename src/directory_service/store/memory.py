# SPDX-License-Identifier: Apache-2.0
"""A store in memory: the oracle of the contract suite, and for tests. Its history is a list of commits."""

import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import islice

from directory_service.store.contract import (
    Change,
    Commit,
    Compacted,
    Compare,
    Conflict,
    Head,
    Item,
    World,
    Write,
)
from directory_service.store.seal import SECRET_BYTES, draw, seal

_LAST_KEY = "\U0010ffff"


class MemoryStore:
    """See contract.Store."""

    def __init__(self, realm: int = 0) -> None:
        """`realm` 0: draw one. Stores of one realm are taken for the same store that lost everything."""
        self._world = World(realm or draw(), 1, draw())
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._era_began = ""
        self.id = self._world.realm
        self._items: dict[str, Item] = {}
        self._sorted: list[str] | None = None  # keys of _items; None: not sorted yet
        self._commits: list[Commit] = []  # of revisions above _oldest
        self._oldest = 0
        self._base: dict[str, Item] = {}  # as of _oldest

    @property
    def world(self) -> World:
        return self._world

    @property
    def era_began(self) -> str:
        return self._era_began

    def refresh_world(self) -> World:
        return self._world

    def begin_era(self, why: str, after: int = 0) -> World:
        self._era_began = why
        self._world = World(self._world.realm, max(self._world.era, after) + 1, draw())
        return self._world

    def seal(self, version: tuple[int, int, int]) -> int:
        return seal(self._secret, version)

    def revision(self) -> int:
        return self._commits[-1].revision if self._commits else self._oldest

    def oldest(self) -> int:
        return self._oldest

    def range(self, prefix: str = "", revision: int | None = None) -> tuple[int, list[Item]]:
        if revision is None:
            revision = self.revision()
            items = self._items
        else:
            self._check_kept(revision)
            items = dict(self._base)
            for commit in self._commits:
                if commit.revision > revision:
                    break
                _replay(items, commit)
        if items is not self._items:
            return revision, [items[key] for key in sorted(items) if key.startswith(prefix)]
        if self._sorted is None:
            self._sorted = sorted(items)
        keys = self._sorted
        start, end = bisect_left(keys, prefix), bisect_left(keys, prefix + _LAST_KEY)
        return revision, [items[key] for key in keys[start:end]]

    def transact(
        self, compares: Sequence[Compare], writes: Sequence[Write], note: bytes = b"", time_ms: int = 0
    ) -> int:
        for compare in compares:
            item = self._items.get(compare.key)
            found = item.modified if item else 0
            if found != compare.modified:
                raise Conflict(compare.key, compare.modified, found)
        revision = self.revision() + 1
        changes: dict[str, Change] = {}
        for write in writes:
            if write.key in changes:
                raise ValueError(f"{write.key} is written twice in one transaction")
            before = self._items.get(write.key)
            after = None
            if write.value is not None:
                after = Item(write.key, write.value, before.created if before else revision, revision)
            if (before.value if before else None) != write.value:
                changes[write.key] = Change(write.key, before, after)
        if not changes:
            return self.revision()
        ordered = tuple(changes[key] for key in sorted(changes))
        commit = Commit(revision, time_ms, note, ordered)
        self._commits.append(commit)
        _replay(self._items, commit)
        if any(change.before is None or change.after is None for change in ordered):
            self._sorted = None
        return revision

    def commits(self, after: int, limit: int = 1000) -> list[Commit]:
        if after < self._oldest:
            raise Compacted(after, self._oldest)
        start = bisect_right(self._commits, after, key=lambda commit: commit.revision)
        return self._commits[start : start + limit]

    def heads(self, up_to: int, limit: int = 1000) -> list[Head]:
        end = bisect_right(self._commits, up_to, key=lambda commit: commit.revision)
        newest_first = reversed(self._commits[max(0, end - limit) : end])
        return [Head(commit.revision, commit.time_ms, commit.note) for commit in newest_first]

    def first_since(self, after: int, time_ms: int) -> int | None:
        start = bisect_right(self._commits, after, key=lambda commit: commit.revision)
        commits = islice(self._commits, start, None)
        return next((commit.revision for commit in commits if commit.time_ms >= time_ms), None)

    def earliest_ms(self, after: int) -> int | None:
        start = bisect_right(self._commits, after, key=lambda commit: commit.revision)
        return min((commit.time_ms for commit in islice(self._commits, start, None)), default=None)

    def compact(self, revision: int) -> None:
        if revision > self.revision():
            raise Compacted(revision, self._oldest)
        while self._commits and self._commits[0].revision <= revision:
            _replay(self._base, self._commits.pop(0))
        self._oldest = max(self._oldest, revision)

    def close(self) -> None:
        self._items.clear()

    def _check_kept(self, revision: int) -> None:
        if not self._oldest <= revision <= self.revision():
            raise Compacted(revision, self._oldest)


def _replay(items: dict[str, Item], commit: Commit) -> None:
    for change in commit.changes:
        if change.after is None:
            items.pop(change.key, None)
        else:
            items[change.key] = change.after
