# SPDX-License-Identifier: Apache-2.0
"""Which world a store holds: made on purpose only, its past noticed when it went back, copies told apart."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from directory_client.wire.messages import DirectoryError
from directory_service.configuration import embedded
from directory_service.server.opening import back_up, make_store, open_store, restore
from directory_service.store.contract import Seen, StoreError, Write
from directory_service.store.mark import MarkFile
from directory_service.store.sqlite import BUSY_MS, SqliteStore, StoreMissing

NAME = "directory.db"


def write(store: SqliteStore, value: str) -> int:
    return store.transact([], [Write("a", value.encode())])


def files_of(path: Path) -> list[Path]:
    return [found for ending in ("", "-wal", "-shm") if (found := Path(f"{path}{ending}")).exists()]


def put_back(copy: Path, path: Path) -> None:
    for found in files_of(path):
        found.unlink()
    shutil.copy(copy, path)


def test_opening_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        SqliteStore(tmp_path / NAME)
    (tmp_path / NAME).touch()
    with pytest.raises(StoreMissing):
        SqliteStore(tmp_path / NAME)
    assert (tmp_path / NAME).stat().st_size == 0


def test_a_store_is_made_once_and_not_over_another(tmp_path: Path) -> None:
    made = SqliteStore.make(tmp_path / NAME)
    with pytest.raises(StoreError, match="is there already"):
        SqliteStore.make(tmp_path / NAME)
    assert made.world.era == 1
    other = SqliteStore.make(tmp_path / "other.db")
    assert made.world.realm != other.world.realm


def test_an_embedded_directory_makes_its_store_at_its_first_start_only(tmp_path: Path) -> None:
    configuration = embedded(str(tmp_path / "run"), str(tmp_path / "state"))
    store = open_store(configuration, make_once=True)
    realm = store.world.realm
    write(store, "1")  # type: ignore[arg-type]
    store.close()
    again = open_store(configuration, make_once=True)
    assert (again.world.realm, again.revision()) == (realm, 1)
    again.close()
    for found in files_of(tmp_path / "state" / NAME):
        found.unlink()
    with pytest.raises(DirectoryError, match="one was here before"):
        open_store(configuration, make_once=True)


def test_a_copy_that_is_put_back_begins_an_era_of_its_own(tmp_path: Path) -> None:
    path, copy = tmp_path / NAME, tmp_path / "copy.db"
    store = SqliteStore.make(path)
    write(store, "1")
    store.copy_to(copy)
    write(store, "2")
    before = store.world
    store.close()
    eras = []
    for _ in range(2):  # the same copy again: another era, another incarnation
        put_back(copy, path)
        store = SqliteStore(path)
        assert store.world.realm == before.realm
        assert "acknowledged" in store.era_began or "era" in store.era_began
        eras.append((store.world.era, store.world.incarnation))
        store.close()
    assert [era for era, _ in eras] == [2, 3]
    assert len({incarnation for _, incarnation in eras} | {before.incarnation}) == 3


def test_a_store_that_is_opened_as_it_was_left_goes_on_in_its_era(tmp_path: Path) -> None:
    store = SqliteStore.make(tmp_path / NAME)
    for value in "123":
        write(store, value)
    world = store.world
    store.close()
    again = SqliteStore(tmp_path / NAME)
    assert (again.world, again.era_began) == (world, "")
    again.close()


def test_a_store_of_another_realm_is_not_taken_for_this_one(tmp_path: Path) -> None:
    SqliteStore.make(tmp_path / NAME).close()
    other = SqliteStore.make(tmp_path / "other.db")
    write(other, "1")
    other.copy_to(tmp_path / "copy.db")
    put_back(tmp_path / "copy.db", tmp_path / NAME)
    with pytest.raises(StoreError, match="was here"):
        SqliteStore(tmp_path / NAME)


def test_a_second_process_sees_that_an_era_began(tmp_path: Path) -> None:
    one = SqliteStore.make(tmp_path / NAME)
    other = SqliteStore(tmp_path / NAME)
    assert one.id == other.id
    world = one.begin_era("a test", 6)
    assert world.era == 7
    assert other.refresh_world() == world
    assert other.era_began == "a test"


def test_a_seal_is_of_the_realm_and_of_the_version(tmp_path: Path) -> None:
    store, other = SqliteStore.make(tmp_path / NAME), SqliteStore.make(tmp_path / "other.db")
    versions = [(1, 5, 9), (1, 5, 10), (2, 5, 9), (1, 6, 9)]
    seals = {store.seal(version) for version in versions} | {other.seal(version) for version in versions}
    assert len(seals) == 8
    store.copy_to(tmp_path / "copy.db")
    assert SqliteStore(tmp_path / "copy.db").seal((1, 5, 9)) == store.seal((1, 5, 9))
    assert len(Seen._fields) == 4


def test_backup_while_it_is_used_and_restore_while_it_is_not(tmp_path: Path) -> None:
    configuration = embedded(str(tmp_path / "run"), str(tmp_path / "state"))
    store = make_store(configuration)
    write(store, "1")
    back_up(configuration, tmp_path / "copy.db").close()
    write(store, "2")
    with pytest.raises(DirectoryError, match="in use") as refused:
        restore(configuration, tmp_path / "copy.db")
    assert refused.value.fix == "stop the directory that uses it first"
    for again in (lambda: make_store(configuration), lambda: back_up(configuration, tmp_path / "copy.db")):
        with pytest.raises(DirectoryError, match="is there already"):
            again()
    realm = store.world.realm
    store.close()
    restored = restore(configuration, tmp_path / "copy.db")
    assert (restored.world.realm, restored.world.era, restored.revision()) == (realm, 2, 1)
    assert str(tmp_path / "copy.db") in restored.era_began
    restored.close()
    assert (tmp_path / "state" / f"{NAME}.before").exists()


def test_a_copy_that_is_no_store_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    configuration = embedded(str(tmp_path / "run"), str(tmp_path / "state"))
    store = make_store(configuration)
    write(store, "1")
    store.close()
    (tmp_path / "text").write_text("no store" * 200)
    with pytest.raises(DirectoryError, match="no copy of a store"):
        restore(configuration, tmp_path / "text")
    assert SqliteStore(tmp_path / "state" / NAME).revision() == 1


@pytest.mark.parametrize("version", [0, 99])
def test_a_copy_of_another_program_is_refused_and_the_store_stays(tmp_path: Path, version: int) -> None:
    one = embedded(str(tmp_path), str(tmp_path / "state"))
    make_store(one).close()
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE revision (number INTEGER)")
        db.execute(f"PRAGMA user_version = {version}")
    before = (tmp_path / "state" / NAME).read_bytes()
    with pytest.raises(DirectoryError, match=r"other\.db"):
        restore(one, tmp_path / "other.db")
    assert (tmp_path / "state" / NAME).read_bytes() == before
    assert not Path(f"{tmp_path / 'state' / NAME}.before").exists()


def test_a_copy_is_restored_on_a_machine_that_has_nothing_yet(tmp_path: Path) -> None:
    store = make_store(embedded(str(tmp_path), str(tmp_path / "old")))
    write(store, "1")
    realm = store.world.realm
    store.copy_to(tmp_path / "copy.db")
    store.close()
    back = restore(embedded(str(tmp_path), str(tmp_path / "new" / "place")), tmp_path / "copy.db")
    assert (back.world.realm, back.revision()) == (realm, 1)
    assert (tmp_path / "new" / "place").stat().st_mode & 0o777 == 0o750
    back.close()


def test_a_copy_that_cannot_be_written_leads_nobody_to_restore(tmp_path: Path) -> None:
    one = embedded(str(tmp_path), str(tmp_path / "state"))
    make_store(one).close()
    with pytest.raises(DirectoryError, match="cannot be written") as caught:
        back_up(one, tmp_path / "nowhere" / "copy.db")
    assert "restore" not in caught.value.fix


def test_a_file_that_lost_items_is_refused_when_it_is_read(tmp_path: Path) -> None:
    store = SqliteStore.make(tmp_path / NAME)
    store.transact([], [Write(key, b"x") for key in "abc"])
    db = sqlite3.connect(tmp_path / NAME)
    db.execute("DELETE FROM item WHERE key = 'b'")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="damaged: 2 items of 3"):
        store.range()


def test_a_file_that_is_removed_in_use_takes_no_more_writes(tmp_path: Path) -> None:
    store = SqliteStore.make(tmp_path / NAME)
    write(store, "1")
    (tmp_path / NAME).unlink()
    with pytest.raises(StoreError, match="removed, replaced or cut"):
        write(store, "2")


def test_a_file_of_the_schema_before_becomes_a_realm_in_its_first_era(tmp_path: Path) -> None:
    store = SqliteStore.make(tmp_path / NAME)
    write(store, "1")
    store.close()
    db = sqlite3.connect(tmp_path / NAME)
    db.execute("DELETE FROM about WHERE name NOT IN ('incarnation', 'oldest')")
    db.execute("UPDATE about SET value = 4711 WHERE name = 'incarnation'")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    MarkFile(tmp_path / NAME).path.unlink()
    taken = SqliteStore(tmp_path / NAME)
    assert taken.world == (4711, 1, 4711)
    assert write(taken, "2") == 2
    assert len(taken.range()[1]) == 1


def test_a_lock_that_another_program_holds_refuses_writes_and_lets_reads_pass(tmp_path: Path) -> None:
    store = SqliteStore.make(tmp_path / NAME)
    write(store, "1")
    other = sqlite3.connect(tmp_path / NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked by another program: try again"):
        write(store, "2")
    assert [item.value for item in store.range()[1]] == [b"1"]
    assert store._db.execute("PRAGMA busy_timeout").fetchone()[0] == BUSY_MS < 20
    other.execute("ROLLBACK")
    assert write(store, "2") == 2
