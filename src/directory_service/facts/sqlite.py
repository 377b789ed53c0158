# SPDX-License-Identifier: Apache-2.0
"""Facts that outlive the process, in a small SQLite file beside the store.

They are written lazily and without fsync: what a crash loses is said again within a second. A file that
cannot be read or written is left alone, and the facts are kept in memory.
"""

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from directory_service.facts.memory import MemoryFacts

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (
  owner TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (owner, key)
) WITHOUT ROWID;
"""


class SqliteFacts(MemoryFacts):
    """See contract.Facts. What the file holds is good until `expires_s`: how old it is, no clock can tell.

    `write_by` has the file written by somebody who may wait for the disk, one thing after the other."""

    def __init__(self, path: str | Path, expires_s: float) -> None:
        super().__init__()
        self.path = str(path)
        self._do: Callable[[Callable[[], None]], None] = lambda write: write()
        self._written: dict[tuple[str, str], bytes] = {}
        self._flushed = 0
        self._db: sqlite3.Connection | None = None
        try:
            self._db = sqlite3.connect(self.path, timeout=0.1, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.executescript(_SCHEMA)
            for owner, key, value in self._db.execute(
                "SELECT owner, key, value FROM fact ORDER BY owner, key"
            ):
                self.put(owner, key, value, expires_s)
                self._written[owner, key] = value
        except sqlite3.Error as error:
            self._give_up(error)
        self._flushed = self.serial

    def flush(self) -> None:
        if self._db is None or self._flushed == self.serial:
            return
        now = {where: fact.value for where, fact in self._facts.items()}
        put = [(*where, value) for where, value in now.items() if self._written.get(where) != value]
        gone = [*(self._written.keys() - now.keys())]
        self._written, self._flushed = now, self.serial
        self._do(lambda: self._write(put, gone))

    def write_by(self, do: Callable[[Callable[[], None]], None]) -> None:
        """Have somebody else write from now on."""
        self._do = do

    def _write(self, put: list[tuple[str, str, bytes]], gone: list[tuple[str, str]]) -> None:
        if self._db is None:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?, ?)", put)
            self._db.executemany("DELETE FROM fact WHERE owner = ? AND key = ?", gone)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Flush, here and now: nobody else writes any more."""
        self._do = lambda write: write()
        super().close()
        if self._db is not None:
            self._db.close()
            self._db = None

    def _give_up(self, error: sqlite3.Error) -> None:
        log.warning(
            "%s cannot be used: %s; after a restart locators are known once gateways say them",
            self.path,
            error,
        )
        if self._db is not None:
            self._db.close()
            self._db = None
