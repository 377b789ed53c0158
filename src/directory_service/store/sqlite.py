# SPDX-License-Identifier: Apache-2.0
"""A store in one SQLite file: WAL, synchronous=FULL, so that what was acknowledged outlives a crash.

`item` has every version that is kept: valid from `modified` up to (not including) `ended`, NULL for the
present one. `revision` has one row a commit. A transaction is one SQLite transaction begun IMMEDIATE, so
there is one writer at a time, in whatever process; readers see the commits before or after it, never a
part.

`SqliteStore.make` makes a file, nothing else does. Opening compares it with the mark beside it (mark.py):
a file that is behind its mark went back, and begins a new era before it is used. Every commit counts the
items that are there and sums them up (digest.py), so that a file that lost or altered some is noticed.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from directory_service.store import digest
from directory_service.store.contract import (
    Change,
    Commit,
    Compacted,
    Compare,
    Conflict,
    Head,
    Item,
    StoreError,
    World,
    Write,
)
from directory_service.store.digest import Digest
from directory_service.store.mark import MarkFile
from directory_service.store.seal import SECRET_BYTES, draw, seal
from directory_service.store.sqlite_file import (
    SCHEMA_VERSION,
    check_schema,
    connect,
    fill,
    hold,
    identify,
    newest_of,
    told,
)

log = logging.getLogger(__name__)

BUSY_MS = 15  # how long a write does, where others wait with it
_KEYS_AT_ONCE = 900  # SQLite takes 999 values in every build
_LAST_KEY = "\U0010ffff"
_DAMAGED = (UnicodeDecodeError, TypeError, OverflowError)  # what stands there is not of its column's type


class StoreMissing(StoreError):
    """There is no store at the path."""


class SqliteStore:
    """See contract.Store. Raises StoreMissing if there is none, StoreFull if its disk has no room for what
    SQLite needs beside it, StoreError for a file that is no store."""

    def __init__(self, path: str | Path, busy_ms: int = BUSY_MS) -> None:
        self.path = str(path)
        self._mark = MarkFile(Path(path))
        self._lock: int | None = None
        try:
            if not Path(path).exists() or not Path(path).stat().st_size:
                raise StoreMissing(f"there is no store at {self.path}")
            self._close_to_others()
            self._lock = hold(self.path, fcntl.LOCK_SH)
            self._db = connect(self.path)
            stat = os.stat(self.path)
            self.id = identify(stat)
            self._open()
            self._compare_mark()
            self._files = dict.fromkeys((self.path, f"{self.path}-wal"), (0, 0))
            self._check_file()
            self._db.execute(f"PRAGMA busy_timeout = {busy_ms}")
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise told(self.path, error) from error
        except _DAMAGED as error:
            raise StoreError(f"{self.path} is damaged: {error}") from error

    @classmethod
    def make(cls, path: str | Path) -> "SqliteStore":
        """Make a new, empty store of a new realm and open it. Raises StoreError if something is there."""
        found = Path(path)
        if found.exists() and found.stat().st_size:
            raise StoreError(f"{path} is there already")
        try:
            os.close(os.open(found, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640))
            lock = hold(str(path), fcntl.LOCK_EX)
            try:
                fill(connect(str(path)))
            finally:
                os.close(lock)
        except OSError as error:
            raise StoreError(f"{path} cannot be made: {error.strerror}") from error
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be made: {error}") from error
        MarkFile(found).path.unlink(missing_ok=True)  # of another realm: what was here is given up on purpose
        return cls(path)

    @staticmethod
    def hold_alone(path: str | Path) -> int:
        """Lock a store that nobody uses, until the descriptor is closed. Raises StoreError if it is used."""
        return hold(str(path), fcntl.LOCK_EX)

    @property
    def world(self) -> World:
        return self._world

    @property
    def era_began(self) -> str:
        return self._era_began

    def refresh_world(self) -> World:
        with self._errors():
            if self._about("incarnation") != self._world.incarnation:
                self._read_world()
            return self._world

    def begin_era(self, why: str, after: int = 0) -> World:
        with self._errors(), self._transaction("IMMEDIATE"):
            era = max(self._about("era"), after) + 1
            for name, value in (("era", era), ("incarnation", draw()), ("era_began", why)):
                self._db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))
        with self._errors():
            self._read_world()
            self._mark.write(self._world, self._newest())
        return self._world

    def seal(self, version: tuple[int, int, int]) -> int:
        return seal(self._secret, version)

    def revision(self) -> int:
        with self._errors():
            return self._newest()

    def oldest(self) -> int:
        with self._errors():
            return int(self._about("oldest"))

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
            items = [Item(*row) for row in rows]
            if by and not prefix:
                self._check_items(items, newest)
            return revision, items

    def transact(
        self, compares: Sequence[Compare], writes: Sequence[Write], note: bytes = b"", time_ms: int = 0
    ) -> int:
        if len({write.key for write in writes}) != len(writes):
            raise ValueError("a key is written twice in one transaction")
        self._check_file()
        with self._errors(), self._transaction("IMMEDIATE"):
            for compare in compares:
                item = self._present(compare.key)
                found = item.modified if item else 0
                if found != compare.modified:
                    raise Conflict(compare.key, compare.modified, found)
            newest = self._newest()
            revision = newest + 1
            there = self._presents([write.key for write in writes])
            ended: list[tuple[int, str, int]] = []
            begun: list[tuple[str, int, int, bytes]] = []
            for write in writes:
                key, value = write.key, write.value
                before = there.get(key)
                if (before.value if before else None) == value:
                    continue
                if before is not None:
                    ended.append((revision, key, before.modified))
                if value is not None:
                    begun.append((key, revision, before.created if before else revision, value))
            if not ended and not begun:
                return newest
            more = len(begun) - len(ended)
            self._db.executemany("UPDATE item SET ended = ? WHERE key = ? AND modified = ?", ended)
            self._db.executemany(
                "INSERT INTO item (key, modified, created, value) VALUES (?, ?, ?, ?)", begun
            )
            self._db.execute("INSERT INTO revision VALUES (?, ?, ?)", (revision, time_ms, note))
            self._db.execute("UPDATE about SET value = value + ? WHERE name = 'items'", (more,))
            self._keep_digest(newest, [there[key] for _, key, _ in ended], begun)
        self._mark.write(self._world, revision)
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
            self._check_heads(after, heads)
            first, last = heads[0][0], heads[-1][0]
            changes: dict[int, dict[str, list[Item | None]]] = {head[0]: {} for head in heads}
            rows = self._db.execute(
                "SELECT key, value, created, modified, ended FROM item WHERE modified BETWEEN ?1 AND ?2"
                " UNION ALL SELECT key, value, created, modified, ended FROM item"
                " WHERE ended BETWEEN ?1 AND ?2 AND modified < ?1",
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

    def heads(self, up_to: int, limit: int = 1000) -> list[Head]:
        with self._errors():
            rows = self._db.execute(
                "SELECT number, time_ms, note FROM revision WHERE number <= ? ORDER BY number DESC LIMIT ?",
                (up_to, limit),
            )
            heads = rows.fetchall()
            if heads:
                self._check_heads(heads[-1][0] - 1, heads[::-1])
            return [Head(*row) for row in heads]

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

    def copy_to(self, path: str | Path) -> None:
        """Write a copy, whole and of one moment, while others read and write. Raises StoreError."""
        if Path(path).exists():
            raise StoreError(f"{path} is there already")
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            copy = sqlite3.connect(path)
            try:
                self._db.backup(copy, pages=4096)
            finally:
                copy.close()
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror}") from error
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be written: {error}") from error

    def close(self) -> None:
        self._db.close()
        self._mark.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _close_to_others(self) -> None:
        """Take from every user of the machine what an earlier release gave: to read the files."""
        mode = os.stat(self.path).st_mode & 0o777
        if mode & 0o007:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.chmod(self.path + suffix, mode & 0o770)

    def _open(self) -> None:
        if check_schema(self._db, self.path) == 1:
            with self._transaction("IMMEDIATE"):
                if check_schema(self._db, self.path) == 1:  # nobody else has done it
                    self._take_from_1()
        self._secret = bytes(self._about("secret"))
        self._read_world()

    def _take_from_1(self) -> None:
        """Take a file of schema 1: its incarnation becomes the realm, which is then in its first era."""
        count = self._db.execute("SELECT count(*) FROM item WHERE ended IS NULL").fetchone()[0]
        more = {"realm": self._about("incarnation"), "era": 1, "era_began": "", "items": count}
        self._db.execute("ALTER TABLE about RENAME TO about_1")
        self._db.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID")
        self._db.execute("INSERT INTO about SELECT name, value FROM about_1")
        self._db.execute("DROP TABLE about_1")
        more["secret"] = secrets.token_bytes(SECRET_BYTES)
        self._db.executemany("INSERT INTO about VALUES (?, ?)", more.items())
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _read_world(self) -> None:
        self._world = World(*(self._about(name) for name in World._fields))
        self._era_began: str = self._about("era_began")

    def _compare_mark(self) -> None:
        """Begin an era if the file is behind what its mark says that it has acknowledged."""
        marked = self._mark.read()
        newest = self._newest()
        if marked is None:
            self._mark.write(self._world, newest)
            return
        if marked.world.realm != self._world.realm:
            raise StoreError(
                f"{self.path} is of realm {self._world.realm:016x}, but realm {marked.world.realm:016x} was"
                f" here (says {self._mark.path}; remove that file if this store is meant)"
            )
        same = marked.world.incarnation == self._world.incarnation
        if same and marked.revision > newest:
            why = f"the store was found at revision {newest}, it had acknowledged {marked.revision}"
        elif not same and marked.world.era >= self._world.era:
            why = f"a store of era {self._world.era} was found where era {marked.world.era} had begun"
        else:
            return
        world = self.begin_era(why, marked.world.era)
        log.warning("era %d begins: %s", world.era, why)

    def _check_file(self) -> None:
        """Refuse to write to files that were deleted, replaced or cut underneath: it would be lost. SQLite
        makes neither of them shorter while a store is open."""
        for path, seen in self._files.items():
            try:
                stat = os.stat(path)
                there = (stat.st_ino, stat.st_size)
            except OSError:
                there = (0, 0)
            if seen[0] and (there[0] != seen[0] or there[1] < seen[1]):
                raise StoreError(f"{path} was removed, replaced or cut while in use: restart the directory")
            self._files[path] = there

    def _check_heads(self, after: int, heads: Sequence[tuple[Any, Any, Any]]) -> None:
        """Commits are numbered one after the other."""
        for expected, (number, time_ms, note) in enumerate(heads, after + 1):
            if number != expected or not isinstance(time_ms, int) or not isinstance(note, bytes):
                raise StoreError(f"{self.path} is damaged: its log has no commit {expected}")

    def _check_items(self, items: Sequence[Item], newest: int) -> None:
        """Whether these are the items that the last commit left."""
        if len(items) != (count := self._about("items")):
            raise StoreError(f"{self.path} is damaged: {len(items)} items of {count} are left")
        found = digest.unpack(self._about("digest", b""))
        if found is not None and found.revision == newest and found.sum != digest.summed(items):
            raise StoreError(f"{self.path} is damaged: some of its {count} items are not what was written")

    def _keep_digest(
        self, newest: int, gone: Sequence[Item], begun: Sequence[tuple[str, int, int, bytes]]
    ) -> None:
        """Take what goes out of the sum and what comes in. A file that a program without sums has written to
        is summed up anew."""
        found = digest.unpack(self._about("digest", b""))
        if found is None or found.revision != newest:
            rows = self._db.execute("SELECT key, value, created, modified FROM item WHERE ended IS NULL")
            total = digest.summed(Item(*row) for row in rows)
        else:
            total = found.sum ^ digest.summed(gone)
            total ^= digest.summed(
                Item(key, value, created, modified) for key, modified, created, value in begun
            )
        self._db.execute(
            "INSERT OR REPLACE INTO about VALUES ('digest', ?)", (Digest(newest + 1, total).packed(),)
        )

    def _about(self, name: str, otherwise: Any = None) -> Any:
        row = self._db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        if row is None and otherwise is not None:
            return otherwise
        if row is None:
            raise StoreError(f"{self.path} is damaged: it does not say its {name}")
        return row[0]

    def _newest(self) -> int:
        number = newest_of(self._db)
        return int(self._about("oldest")) if number is None else number

    def _present(self, key: str) -> Item | None:
        row = self._db.execute(
            "SELECT key, value, created, modified FROM item INDEXED BY item_present"
            " WHERE key = ? AND ended IS NULL",
            (key,),
        ).fetchone()
        return Item(*row) if row else None

    def _presents(self, keys: Sequence[str]) -> dict[str, Item]:
        """Return the present items of some keys: some 1000 at a time, which costs a fifth of one by one."""
        found: dict[str, Item] = {}
        for at in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[at : at + _KEYS_AT_ONCE]
            rows = self._db.execute(
                "SELECT key, value, created, modified FROM item INDEXED BY item_present"
                f" WHERE ended IS NULL AND key IN ({', '.join('?' * len(some))})",
                some,
            )
            for row in rows:
                found[row[0]] = Item(*row)
        return found

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
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise StoreError(f"{self.path} is locked by another program: try again") from error
            raise told(self.path, error) from error
        except _DAMAGED as error:
            raise StoreError(f"{self.path} is damaged: {error}") from error
