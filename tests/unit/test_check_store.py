# SPDX-License-Identifier: Apache-2.0
"""`vnet-directory check` reads the store: it names what is wrong with it and touches nothing, also while a
directory uses it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from directory_world import CLOSED, DOCUMENT, Clock

from directory_service.configuration import load
from directory_service.kinds.records import decode, encode, make_record
from directory_service.main import main
from directory_service.server.opening import make_store
from directory_service.settings import Settings
from directory_service.store.contract import Write
from directory_service.store.mark import MarkFile
from directory_service.store.sqlite import SqliteStore
from whole_directory import WholeDirectory


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a directory.toml whose store has two documents' worth of history."""
    config = tmp_path / "directory.toml"
    config.write_text(f'name = "d"\nlisten = "ipc://{tmp_path}"\n[store]\npath = "{tmp_path}/directory.db"\n')
    store = make_store(load(config))
    clock = Clock()
    directory = WholeDirectory(store, Settings(), clock)
    directory.apply(DOCUMENT, "topology.toml")
    directory.apply(CLOSED, "topology.toml")
    directory.apply(DOCUMENT, "topology.toml")
    store.close()
    return config


def check(config: Path) -> Result:
    return CliRunner().invoke(main, ["check", str(config)])


def change(config: Path, *statements: str) -> None:
    """Change the file behind the store's back."""
    with sqlite3.connect(config.with_name("directory.db")) as db:
        for statement in statements:
            db.executescript(statement)
    db.close()


def files(config: Path) -> dict[str, tuple[int, bytes]]:
    names = sorted(config.parent.glob("directory.db*"))
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in names}


@pytest.fixture
def in_use(config: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(config.with_name("directory.db"))
    yield store
    store.close()


def test_a_good_store_is_read_and_not_touched(config: Path) -> None:
    before = files(config)
    result = check(config)
    assert (result.exit_code, "warning" in result.output) == (0, False)
    assert "era 1, revision 3" in result.output
    assert files(config) == before


def test_it_is_read_while_a_directory_writes_to_it(config: Path, in_use: SqliteStore) -> None:
    in_use.transact([], [Write("meta/more", b"1")])  # only beside the file yet
    before = config.with_name("directory.db").read_bytes()
    result = check(config)
    assert (result.exit_code, "revision 4" in result.output) == (0, True)
    assert config.with_name("directory.db").read_bytes() == before
    assert in_use.transact([], [Write("meta/more", b"2")]) == 5


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM item WHERE ended IS NULL AND key = 'vnet/red'", "items of"),
        ("DELETE FROM revision WHERE number = 2", "the log has gaps: 2 commits are kept of the 3"),
        ("UPDATE item SET ended = 9 WHERE ended = 2", "the log does not lead to what the store holds"),
        ("UPDATE item SET created = 2 WHERE key = 'vnet/red'", "vnet/red of revision 1"),
        ("DELETE FROM about WHERE name = 'realm'", "does not say its realm"),
        (
            "UPDATE item SET value = x'c1' WHERE key = 'vnet/red'",
            "some of its items are not what was written",
        ),
        (
            "UPDATE item SET value = x'c1' WHERE key = 'vnet/red'; DELETE FROM about WHERE name = 'digest'",
            "vnet/red of revision 1 cannot be read",
        ),
        ("PRAGMA user_version = 99", "has schema 99"),
        ("PRAGMA user_version = 0", "another program's database"),
    ],
)
def test_damage_is_named_with_a_remedy(config: Path, statement: str, said: str) -> None:
    change(config, statement)
    result = check(config)
    assert (result.exit_code, said in result.output) == (1, True), result.output
    assert "fix:   vnet-directory restore" in result.output


def test_what_is_no_database_is_said_to_be_none(config: Path) -> None:
    config.with_name("directory.db").write_bytes(b"directory " * 1000)
    result = check(config)
    assert (result.exit_code, "file is not a database" in result.output) == (1, True), result.output


def test_a_damaged_page_is_found(config: Path) -> None:
    path = config.with_name("directory.db")
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 3 + 64] = bytes(range(64))
    path.write_bytes(data)
    result = check(config)
    assert (result.exit_code, "damaged" in result.output or "malformed" in result.output) == (1, True)


def test_a_store_that_went_back_is_noticed_and_left_as_it_is(config: Path) -> None:
    store = SqliteStore(config.with_name("directory.db"))
    MarkFile(config.with_name("directory.db")).write(store.world, 300)
    store.close()
    before = files(config)
    result = check(config)
    assert result.exit_code == 0
    assert "it is at revision 3 of era 1, but revision 300 of era 1 was acknowledged" in result.output
    assert "a new era begins with the next start" in result.output
    assert files(config) == before


def test_a_store_of_another_realm_is_named(config: Path) -> None:
    store = SqliteStore(config.with_name("directory.db"))
    MarkFile(config.with_name("directory.db")).write(store.world._replace(realm=5), 1)
    store.close()
    result = check(config)
    assert (result.exit_code, "but realm 0000000000000005 was here" in result.output) == (1, True)


def put(config: Path, key: str, **values: object) -> None:
    """Write a record as another program might."""
    store = SqliteStore(config.with_name("directory.db"))
    record = decode(next(item for item in store.range(key)[1] if item.key == key))
    made = make_record(key, record.id, 0, record.owner, record.document, {**record.values, **values})
    store.transact([], [Write(key, encode(made))])
    store.close()


def test_a_record_that_cannot_be_read_is_named(config: Path) -> None:
    put(config, "path/ams1-ber1", trust="private")
    result = check(config)
    assert result.exit_code == 0
    assert "warning: path/ams1-ber1 cannot be read" in result.output


def test_records_that_do_not_fit_are_named(config: Path) -> None:
    put(config, "node/gw2", site="gone")
    result = check(config)
    assert result.exit_code == 0
    assert "warning: node/gw2 does not fit: site gone is not declared" in result.output
