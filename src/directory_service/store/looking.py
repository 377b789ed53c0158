# SPDX-License-Identifier: Apache-2.0
"""A store's file that is only looked at, also while a directory uses it: nothing is written, no mark, no era
begins, no lock is held.

A file whose last user closed it has nothing beside it (-wal, -shm) and is read as it stands; else SQLite is
asked to read what is beside it as well.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from directory_service.store import digest
from directory_service.store.contract import Item, World
from directory_service.store.mark import MarkFile
from directory_service.store.sqlite_file import check_schema, newest_of, told

RESTORE = "vnet-directory restore CONFIG COPY puts a copy in its place"
WORLDS_SCHEMA = 2  # from which on a store says its realm and era


class Looked:
    """What is found in a store's file, all of one moment. `problems` are (sentence, remedy); a store with
    one of them is not to be relied on. `notes` are those of what comes by itself, or may be meant."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[tuple[str, str]] = []
        self.notes: list[tuple[str, str]] = []
        self.world: World | None = None
        self.revision = 0
        self.oldest = 0
        self.items: list[Item] = []


def look(path: Path) -> Looked:
    """Read a store whole, replay what it keeps of its log, and compare. Raises StoreError if it cannot be
    read at all."""
    found = Looked(path)
    try:
        with _opened(path) as db:
            _look(db, found)
    except sqlite3.Error as error:
        raise told(str(path), error) from error
    return found


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file to read it only, in one read transaction."""
    beside = Path(f"{path}-wal")
    alone = not beside.exists() or not beside.stat().st_size
    how = "immutable=1" if alone and not Path(f"{path}-shm").exists() else "mode=ro"
    with closing(sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, isolation_level=None)) as db:
        db.execute("BEGIN")
        yield db


def _look(db: sqlite3.Connection, found: Looked) -> None:
    schema = check_schema(db, found.path)
    for (line,) in db.execute("PRAGMA integrity_check(3)").fetchall():
        if line != "ok":
            found.problems.append((f"the file is damaged: {line}", RESTORE))
    if found.problems:
        return
    about = dict(db.execute("SELECT name, value FROM about").fetchall())
    expected = {"oldest", "incarnation"} | ({"items", *World._fields} if schema >= WORLDS_SCHEMA else set())
    if missing := sorted(expected - about.keys()):
        found.problems.append((f"the file is damaged: it does not say its {', '.join(missing)}", RESTORE))
        return
    found.oldest = int(about["oldest"])
    newest = newest_of(db)
    found.revision = found.oldest if newest is None else newest
    if schema >= WORLDS_SCHEMA:
        found.world = World(*(about[name] for name in World._fields))
        _compare_mark(found, found.world)
    else:
        found.notes.append(
            (f"the store has schema {schema}", "the next start of the directory takes it over")
        )
    rows = db.execute("SELECT key, value, created, modified FROM item WHERE ended IS NULL ORDER BY key")
    found.items = [Item(*row) for row in rows]
    if len(found.items) != about.get("items", len(found.items)):
        text = f"the file is damaged: {len(found.items)} items of {about['items']} are left"
        found.problems.append((text, RESTORE))
    summed = digest.unpack(about.get("digest"))
    if summed and summed.revision == found.revision and summed.sum != digest.summed(found.items):
        found.problems.append(("the file is damaged: some of its items are not what was written", RESTORE))
    _replay(db, found)


def _compare_mark(found: Looked, world: World) -> None:
    """Say what a start would make of the mark beside the store."""
    mark = MarkFile(found.path)
    marked = mark.read()
    if marked is None:
        return
    if marked.world.realm != world.realm:
        text = f"it is of realm {world.realm:016x}, but realm {marked.world.realm:016x} was here"
        found.problems.append((text, f"put the right store there; if this one is meant: rm {mark.path}"))
        return
    same = marked.world.incarnation == world.incarnation
    if (same and marked.revision > found.revision) or (not same and marked.world.era >= world.era):
        text = (
            f"the store went back: it is at revision {found.revision} of era {world.era}, but revision"
            f" {marked.revision} of era {marked.world.era} was acknowledged here"
        )
        found.notes.append(
            (text, "a new era begins with the next start; what is missing is to be applied again")
        )


def _replay(db: sqlite3.Connection, found: Looked) -> None:
    """Go from the oldest revision that is kept to the newest, commit by commit, and compare what comes of it
    with what stands there."""
    count = db.execute("SELECT count(*) FROM revision").fetchone()[0]
    if count != found.revision - found.oldest:
        text = (
            f"{count} commits are kept of the {found.revision - found.oldest} after revision {found.oldest}"
        )
        found.problems.append((f"the log has gaps: {text}", RESTORE))
    rows = db.execute(
        "SELECT key, modified, created, ended FROM item ORDER BY key, modified"  # its primary key
    )
    wrong: list[str] = []
    before: tuple[str, int, int | None] = ("", 0, 0)  # key, created, ended of the version before
    for key, modified, created, ended in rows:
        is_next = key == before[0]
        follows = is_next and before[2] == modified
        is_first = modified <= found.oldest  # what was before it is not kept
        fits = is_first or created == (before[1] if follows else modified)
        overlaps = is_next and (before[2] is None or before[2] > modified)
        ends = ended is None or modified < ended <= found.revision
        if not fits or overlaps or not ends or modified > found.revision:
            wrong.append(f"{key} of revision {modified}")
        before = (key, created, ended)
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        found.problems.append((f"the log does not lead to what the store holds: {wrong[0]}{more}", RESTORE))
