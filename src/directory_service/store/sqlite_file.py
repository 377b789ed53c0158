# SPDX-License-Identifier: Apache-2.0
"""The file of a SQLite store: its schema, how it is made, opened, locked and named; what its errors mean."""

import contextlib
import fcntl
import hashlib
import os
import secrets
import sqlite3
from pathlib import Path

from directory_service.store.contract import StoreError
from directory_service.store.seal import SECRET_BYTES, draw

SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE revision (number INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, note BLOB NOT NULL);
CREATE TABLE item (
  key TEXT NOT NULL, modified INTEGER NOT NULL, created INTEGER NOT NULL, ended INTEGER, value BLOB NOT NULL,
  PRIMARY KEY (key, modified)
) WITHOUT ROWID;
CREATE UNIQUE INDEX item_present ON item (key) WHERE ended IS NULL;
CREATE INDEX item_modified ON item (modified);
CREATE INDEX item_ended ON item (ended) WHERE ended IS NOT NULL;
"""
_OPEN_MS = 10_000  # how long opening waits for a lock that another process holds
_ROOM_BYTES = 64 << 10  # with less there may be no room for the smallest commit


class StoreFull(StoreError):
    """There is no room on the disk of the store."""


def check_schema(db: sqlite3.Connection, path: str | Path) -> int:
    """Return the version of a store's schema. Raises StoreError for one that is not known."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version == 0:
        raise StoreError(f"{path} is another program's database")
    if not 1 <= version <= SCHEMA_VERSION:
        raise StoreError(f"{path} has schema {version}, this program knows {SCHEMA_VERSION}")
    return version


def newest_of(db: sqlite3.Connection) -> int | None:
    """Return the newest revision whose commit is kept; None: none is."""
    number = db.execute("SELECT max(number) FROM revision").fetchone()[0]
    return None if number is None else int(number)


def told(path: str, error: sqlite3.Error) -> StoreError:
    """Return what to raise for an error of SQLite's, which calls a full disk an I/O error where it maps
    memory (the -shm file, of at least 32 kB)."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_FULL or code & 0xFF == sqlite3.SQLITE_IOERR:
        with contextlib.suppress(OSError):
            disk = os.statvfs(Path(path).parent)
            if disk.f_bavail * disk.f_frsize < _ROOM_BYTES:
                return StoreFull(f"{path}: database or disk is full")
    return StoreError(f"{path}: {error}")


def identify(stat: os.stat_result) -> int:
    """Return the id of a file: of this machine, file system and inode."""
    try:
        machine = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        machine = os.uname().nodename.encode()
    text = machine + b"%d/%d" % (stat.st_dev, stat.st_ino)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"vnet-store").digest(), "big") >> 1


def connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_OPEN_MS / 1000, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL").fetchone()
    db.execute("PRAGMA synchronous=FULL")
    return db


def fill(db: sqlite3.Connection) -> None:
    """Write the schema and draw the identities, in one transaction."""
    db.execute("BEGIN IMMEDIATE")
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise sqlite3.DatabaseError("somebody else makes it")
    for statement in _SCHEMA.split(";"):
        if statement.strip():
            db.execute(statement)
    about = {"realm": draw(), "era": 1, "incarnation": draw(), "era_began": "", "oldest": 0, "items": 0}
    db.executemany("INSERT INTO about VALUES (?, ?)", about.items())
    db.execute("INSERT INTO about VALUES ('secret', ?)", (secrets.token_bytes(SECRET_BYTES),))
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")
    db.close()


def hold(path: str, how: int) -> int:
    """Lock a store's file for as long as the descriptor is open: shared by all who use it."""
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StoreError(f"{path} is in use, or being restored") from None
    return lock
