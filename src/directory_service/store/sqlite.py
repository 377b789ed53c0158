# SPDX-License-Identifier: Apache-2.0
"""A store in one SQLite file: WAL, synchronous=FULL, so that what was acknowledged outlives a crash.

`item` has every version that is kept: valid from `modified` up to (not including) `ended`, NULL for the
present one. `revision` has one row a commit. A transaction is one SQLite transaction begun IMMEDIATE, so
there is one writer at a time, in whatever process; readers see the commits before or after it, never a
part.
"""

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from directory_service.store.contract import (
    Change,
    Commit,
    Compacted,
    Compare,
    Conflict,
    Item,
    StoreError,
    Write,
)

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE revision (number INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, note BLOB NOT NULL);
CREATE TABLE item (
  key TEXT NOT NULL, modified INTEGER NOT NULL, created INTEGER NOT NULL, ended INTEGER, value BLOB NOT NULL,
  PRIMARY KEY (key, modified)
) WITHOUT ROWID;
CREATE UNIQUE INDEX item_present ON item (key) WHERE ended IS NULL;
CREATE INDEX item_modified ON item (modified);
CREATE INDEX item_ended ON item (ended) WHERE ended IS NOT NULL;
"""
_BUSY_MS = 10_000
_LAST_KEY = "\U0010ffff"


class SqliteStore:
    """See contract.Store. `path` is made if it does not exist; raises StoreError for a file that is no
    store."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        try:
            self._db = sqlite3.connect(self.path, timeout=_BUSY_MS / 1000, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL").fetchone()
            self._db.execute("PRAGMA synchronous=FULL")
            self._open()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    @property
    def incarnation(self) -> int:
        return self._incarnation

    def revision(self) -> int:
        with self._errors():
            return self._newest()

    def oldest(self) -> int:
        with self._errors():
            return self._about("oldest")

    def range(self, prefix: str = "", revision: int | None = None) -> tuple[int, list[Item]]:
        with self._errors(), self._transaction("DEFERRED"):
            newest = self._newest()
            where = "key >= ? AND key < ?"
            values: list[str | int] = [prefix, prefix + _LAST_KEY]
            by = ""
            if revision is None:
                by = "INDEXED BY item_present"  # by the primary key it reads every version of a key
                revision = newest
                where += " AND ended IS NULL"
            else:
                oldest = self._about("oldest")
                if not oldest <= revision <= newest:
                    raise Compacted(revision, oldest)
                where += " AND modified <= ? AND (ended IS NULL OR ended > ?)"
                values += [revision, revision]
            rows = self._db.execute(
                f"SELECT key, value, created, modified FROM item {by} WHERE {where} ORDER BY key", values
            )
            return revision, [Item(*row) for row in rows]

    def transact(
        self, compares: Sequence[Compare], writes: Sequence[Write], note: bytes = b"", time_ms: int = 0
    ) -> int:
        if len({write.key for write in writes}) != len(writes):
            raise ValueError("a key is written twice in one transaction")
        with self._errors(), self._transaction("IMMEDIATE"):
            for compare in compares:
                item = self._present(compare.key)
                found = item.modified if item else 0
                if found != compare.modified:
                    raise Conflict(compare.key, compare.modified, found)
            newest = self._newest()
            revision = newest + 1
            changed = False
            for write in writes:
                before = self._present(write.key)
                if (before.value if before else None) == write.value:
                    continue
                changed = True
                if before is not None:
                    self._db.execute(
                        "UPDATE item SET ended = ? WHERE key = ? AND modified = ?",
                        (revision, write.key, before.modified),
                    )
                if write.value is not None:
                    created = before.created if before else revision
                    self._db.execute(
                        "INSERT INTO item (key, modified, created, value) VALUES (?, ?, ?, ?)",
                        (write.key, revision, created, write.value),
                    )
            if not changed:
                return newest
            self._db.execute("INSERT INTO revision VALUES (?, ?, ?)", (revision, time_ms, note))
            return revision

    def commits(self, after: int, limit: int = 1000) -> list[Commit]:
        with self._errors(), self._transaction("DEFERRED"):
            oldest = self._about("oldest")
            if after < oldest:
                raise Compacted(after, oldest)
            heads = self._db.execute(
                "SELECT number, time_ms, note FROM revision WHERE number > ? ORDER BY number LIMIT ?",
                (after, limit),
            ).fetchall()
            if not heads:
                return []
            first, last = heads[0][0], heads[-1][0]
            changes: dict[int, dict[str, list[Item | None]]] = {head[0]: {} for head in heads}
            rows = self._db.execute(
                "SELECT key, value, created, modified, ended FROM item WHERE modified BETWEEN ?1 AND ?2"
                " UNION SELECT key, value, created, modified, ended FROM item WHERE ended BETWEEN ?1 AND ?2",
                (first, last),
            )
            for *fields, ended in rows:
                item = Item(*fields)
                if item.modified in changes:
                    changes[item.modified].setdefault(item.key, [None, None])[1] = item
                if ended in changes:
                    changes[ended].setdefault(item.key, [None, None])[0] = item
            return [
                Commit(
                    number,
                    time_ms,
                    note,
                    tuple(Change(key, *pair) for key, pair in sorted(changes[number].items())),
                )
                for number, time_ms, note in heads
            ]

    def first_since(self, after: int, time_ms: int) -> int | None:
        with self._errors():
            row = self._db.execute(
                "SELECT number FROM revision WHERE number > ? AND time_ms >= ? ORDER BY number LIMIT 1",
                (after, time_ms),
            ).fetchone()
            return None if row is None else int(row[0])

    def earliest_ms(self, after: int) -> int | None:
        with self._errors():
            found = self._db.execute("SELECT min(time_ms) FROM revision WHERE number > ?", (after,))
            time_ms = found.fetchone()[0]
            return None if time_ms is None else int(time_ms)

    def compact(self, revision: int) -> None:
        with self._errors(), self._transaction("IMMEDIATE"):
            oldest = self._about("oldest")
            if revision > self._newest():
                raise Compacted(revision, oldest)
            if revision <= oldest:
                return
            self._db.execute("DELETE FROM item WHERE ended <= ?", (revision,))
            self._db.execute("DELETE FROM revision WHERE number <= ?", (revision,))
            self._db.execute("UPDATE about SET value = ? WHERE name = 'oldest'", (revision,))

    def close(self) -> None:
        self._db.close()

    def _open(self) -> None:
        with self._transaction("IMMEDIATE"):
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise StoreError(f"{self.path} is another program's database")
                for statement in _SCHEMA.split(";"):
                    if statement.strip():
                        self._db.execute(statement)
                about = [("incarnation", secrets.randbits(62) + 1), ("oldest", 0)]
                self._db.executemany("INSERT INTO about VALUES (?, ?)", about)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif version != SCHEMA_VERSION:
                raise StoreError(f"{self.path} has schema {version}, this program knows {SCHEMA_VERSION}")
            self._incarnation = self._about("incarnation")

    def _about(self, name: str) -> int:
        return self._db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()[0]

    def _newest(self) -> int:
        number = self._db.execute("SELECT max(number) FROM revision").fetchone()[0]
        return self._about("oldest") if number is None else number

    def _present(self, key: str) -> Item | None:
        row = self._db.execute(
            "SELECT key, value, created, modified FROM item INDEXED BY item_present"
            " WHERE key = ? AND ended IS NULL",
            (key,),
        ).fetchone()
        return Item(*row) if row else None

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        self._db.execute(f"BEGIN {kind}")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error
