# SPDX-License-Identifier: Apache-2.0
"""Open, make, copy and bring back the store of a configuration: what `vnet-directory` does to files."""

import errno
import hashlib
import logging
import os
import shutil
import sqlite3
from pathlib import Path

from directory_client.realm import format_realm
from directory_client.wire.messages import DirectoryError
from directory_service.configuration import Configuration
from directory_service.store.contract import Store, StoreError
from directory_service.store.mark import MarkFile
from directory_service.store.memory import MemoryStore
from directory_service.store.sqlite import SqliteStore, StoreMissing
from directory_service.store.sqlite_file import check_schema

log = logging.getLogger(__name__)


def open_store(configuration: Configuration, make_once: bool = False) -> Store:
    """Open the store. `make_once`: make it if there never was one at its place (an embedded directory's first
    start). Raises DirectoryError if there is none, StoreError for what cannot be used."""
    path = configuration.store_path
    if path is None:
        name = configuration.name.encode()
        return MemoryStore(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1 or 1)
    if make_once and not path.exists() and not MarkFile(path).exists():
        store = make_store(configuration)
        log.warning("made a new, empty store in %s: realm %s", path, format_realm(store.world.realm))
        return store
    try:
        return SqliteStore(path)
    except StoreMissing as error:
        was = f"; one was here before (says {MarkFile(path).path})" if MarkFile(path).exists() else ""
        raise DirectoryError(
            f"{error}{was}",
            "vnet-directory restore brings a copy back; vnet-directory init makes a new, empty one, of"
            " another realm, which no gateway of this one listens to",
        ) from None


def make_store(configuration: Configuration) -> SqliteStore:
    """Make a new store of a new realm. Raises DirectoryError, or StoreError if there is one."""
    path = _path(configuration)
    if path.exists() and path.stat().st_size:
        raise DirectoryError(f"{path} is there already", "run it, or choose another [store] path")
    _make_place(path)
    return SqliteStore.make(path)


def _make_place(path: Path) -> None:
    """Make the directory that a store lies in. Raises DirectoryError."""
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o750)
        if not path.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise DirectoryError(
            f"{path.parent} cannot be made: {error.strerror}", "choose another [store] path"
        ) from error


def back_up(configuration: Configuration, copy: Path) -> SqliteStore:
    """Write a copy of the store, of one moment, while it is in use; return the store."""
    if copy.exists():
        raise DirectoryError(f"{copy} is there already", "choose another name for the copy")
    store = SqliteStore(_path(configuration))
    try:
        store.copy_to(copy)
    except StoreError as error:
        store.close()
        raise DirectoryError(str(error), f"df -h {copy.parent}; ls -ld {copy.parent}") from error
    return store


def restore(configuration: Configuration, copy: Path) -> SqliteStore:
    """Put a copy in the place of the store and begin a new era in it. The directory must not run.

    What was there is kept beside it as `.before`. Raises DirectoryError, StoreError.
    """
    path = _path(configuration)
    checked = _check_copy(copy)
    _make_place(path)
    try:
        there = SqliteStore.hold_alone(path) if path.exists() else None
    except StoreError as error:
        raise DirectoryError(str(error), "stop the directory that uses it first") from error
    try:
        marked = MarkFile(path).read()
        part = path.with_name(path.name + ".part")
        shutil.copyfile(copy, part)
        part.chmod(0o640)
        for ending in ("", "-wal", "-shm"):
            old = Path(f"{path}{ending}")
            if old.exists():
                old.replace(f"{path}.before{ending}")
        os.replace(part, path)
        MarkFile(path).path.unlink(missing_ok=True)
    except OSError as error:
        raise DirectoryError(
            f"{path} cannot be replaced: {error.strerror}", f"ls -ld {path.parent}"
        ) from error
    finally:
        if there is not None:
            os.close(there)
    store = SqliteStore(path)
    store.begin_era(f"restored from {copy} at revision {checked}", marked.world.era if marked else 0)
    return store


def _check_copy(copy: Path) -> int:
    """Return the newest revision of a copy. Raises DirectoryError for a file that is no whole store."""
    try:
        with sqlite3.connect(f"file:{copy}?mode=ro", uri=True) as db:
            if db.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
                raise DirectoryError(f"{copy} is damaged", "take another copy")
            newest = db.execute("SELECT max(number) FROM revision").fetchone()[0]
            check_schema(db, copy)
            return int(newest or 0)
    except StoreError as error:
        raise DirectoryError(str(error), "vnet-directory backup makes a copy") from error
    except sqlite3.Error as error:
        raise DirectoryError(
            f"{copy} is no copy of a store: {error}", "vnet-directory backup makes one"
        ) from error


def _path(configuration: Configuration) -> Path:
    if configuration.store_path is None:
        raise DirectoryError("a store in memory has no file", 'kind = "sqlite" in [store]', 2)
    return configuration.store_path


__all__ = ["StoreError", "back_up", "make_store", "open_store", "restore"]
