# SPDX-License-Identifier: Apache-2.0
"""What a store must do: keys and values under revisions, transactions, history, watch.

A store keeps bytes under text keys. Every transaction that writes makes one new revision; revisions count up
from 1. What a revision held can be read until it is compacted. Revisions are compared within one era of one
realm only (`World`): a store that went back would give a revision out again, so it begins a new era first.

The contract is etcd's, cut down: a commit's note is what etcd would keep under a key of its own that every
transaction writes; compare, put and delete are its transaction; `commits` is its watch.

A store object is used by one thread; several may be open on one file at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec


class StoreError(Exception):
    """The store cannot do it: the message says why."""


class World(NamedTuple):
    """Which world a store holds, and which stretch of its history.

    `realm` is drawn when a store is made, on purpose, and never changes. `era` counts the stretches in which
    revisions only grow. `incarnation` is drawn anew for each era, so that of two copies of a store that both
    begin the next one, neither is taken for the other. All have 63 bits and are never 0.
    """

    realm: int
    era: int
    incarnation: int


class Seen(NamedTuple):
    """What somebody was told: the newest version it has seen, and the seal that came with it."""

    era: int
    incarnation: int
    revision: int
    seal: int


class Conflict(StoreError):
    """A comparison of the transaction did not hold: nothing was written."""

    def __init__(self, key: str, expected: int, found: int) -> None:
        super().__init__(f"{key} has revision {found}, not {expected}")
        self.key = key


class Compacted(StoreError):
    """The revision asked for is no longer (or not yet) kept; `oldest` is the first that is."""

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"revision {revision} is not kept; the oldest is {oldest}")
        self.revision = revision
        self.oldest = oldest


class Item(msgspec.Struct, frozen=True, gc=False):
    """A key and its value; `created` and `modified` are revisions."""

    key: str
    value: bytes
    created: int
    modified: int


@dataclass(frozen=True, slots=True)
class Compare:
    """The key must have been modified last at this revision; 0: must not exist."""

    key: str
    modified: int


class Write(msgspec.Struct, frozen=True, gc=False):
    """Put a value under a key, or delete it (None)."""

    key: str
    value: bytes | None


class Change(msgspec.Struct, frozen=True, gc=False):
    """What a commit did to one key: its item before and after; None: it was not there."""

    key: str
    before: Item | None
    after: Item | None


@dataclass(frozen=True, slots=True)
class Head:
    """A commit without its changes: its revision, when (Unix ms), and the note given with it."""

    revision: int
    time_ms: int
    note: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """One revision: when (Unix ms), the note given with it, and its changes in order of keys."""

    revision: int
    time_ms: int
    note: bytes
    changes: tuple[Change, ...]


class Store(Protocol):
    """What MemoryStore and SqliteStore do."""

    @property
    def world(self) -> World:
        """The realm, and the era as this object last saw it (opening, `refresh_world`, `begin_era`)."""

    @property
    def id(self) -> int:
        """63 bits that tell this very store from a copy of it: servers on one store say the same."""

    @property
    def era_began(self) -> str:
        """Why the present era began, empty for the first one."""

    def refresh_world(self) -> World:
        """Look whether another process has begun an era; return the world."""

    def begin_era(self, why: str, after: int = 0) -> World:
        """Begin an era with a number above the present one and `after`; revisions go on from the newest."""

    def seal(self, version: tuple[int, int, int]) -> int:
        """Return a number of 63 bits that only a store of this realm can make for (era, incarnation,
        revision): who shows it has been told that version."""

    def revision(self) -> int:
        """Return the newest revision; 0 for an empty new store."""

    def oldest(self) -> int:
        """Return the oldest revision that `range` still answers."""

    def range(self, prefix: str = "", revision: int | None = None) -> tuple[int, list[Item]]:
        """Return (revision, items whose key begins with prefix, in order of keys); None: the newest.

        Raises Compacted for a revision older than `oldest` or newer than the newest.
        """

    def transact(
        self, compares: Sequence[Compare], writes: Sequence[Write], note: bytes = b"", time_ms: int = 0
    ) -> int:
        """Write all, if every comparison holds, and return the new revision.

        Writes name each key once. Deleting what is not there changes nothing. Without any change (also: the
        same value again) there is no new revision, and the present one is returned. Raises Conflict.
        """

    def commits(self, after: int, limit: int = 1000) -> list[Commit]:
        """Return the commits with a revision above `after`, oldest first, at most `limit`.

        Raises Compacted if commits after `after` have been compacted: read everything with `range` instead.
        """

    def heads(self, up_to: int, limit: int = 1000) -> list[Head]:
        """Return the heads of the commits up to and with a revision, newest first, at most `limit`. Reads no
        items: what a commit changed does not make it dearer."""

    def first_since(self, after: int, time_ms: int) -> int | None:
        """Return the first revision above `after` that was not made before a time; None: there is none. Reads
        no items."""

    def earliest_ms(self, after: int) -> int | None:
        """Return the earliest time of the commits above a revision; None: there are none. Reads no items."""

    def compact(self, revision: int) -> None:
        """Forget what only revisions before `revision` held. Older than `oldest`: nothing happens."""

    def close(self) -> None:
        """Release files. The object is of no use afterwards."""
