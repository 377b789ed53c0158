# SPDX-License-Identifier: Apache-2.0
"""A store whose file was damaged: it is served as it was, or a sentence says that it is damaged; nothing that
was altered is served, nothing ends in a traceback, nothing goes on for ever."""

import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from directory_world import DOCUMENT, Clock

from directory_client.wire.messages import DirectoryError
from directory_service.settings import Settings
from directory_service.store.contract import StoreError, Write
from directory_service.store.looking import look
from directory_service.store.sqlite import SqliteStore
from whole_directory import WholeDirectory

ENDPOINTS = 120
COPIES = 60
START_S = 20  # a start that takes longer goes on for ever


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    def too_long(*_: object) -> None:
        raise AssertionError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def records_of(path: Path) -> dict[str, bytes]:
    store = SqliteStore(path)
    try:
        return {
            key: record.packed
            for key, record in WholeDirectory(store, Settings(), Clock()).current.records.items()
        }
    finally:
        store.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, dict[str, bytes]]:
    path = tmp_path_factory.mktemp("sound") / "directory.db"
    store = SqliteStore.make(path)
    directory = WholeDirectory(store, Settings(), Clock())
    directory.apply(DOCUMENT, "t.toml")
    for i in range(ENDPOINTS):
        directory.set_record(
            "endpoint",
            f"red/x{i}",
            {"addresses": [f"10.0.0.{i + 100}"], "mac": f"02:00:00:01:00:{i:02x}", "node": "gw1"},
        )
    store.close()
    mark = Path(f"{path}.mark").read_bytes()
    return path.read_bytes(), mark, records_of(path)


@pytest.mark.parametrize("how", ["a bit", "64 bytes", "20 bits"])
def test_a_damaged_file_is_served_as_it_was_or_not_at_all(
    tmp_path: Path, sound: tuple[bytes, bytes, dict[str, bytes]], how: str
) -> None:
    raw, mark, records = sound
    draw = random.Random(how)
    refused = 0
    for number in range(COPIES):
        damaged = bytearray(raw)
        if how == "64 bytes":
            at = draw.randrange(len(raw) - 64)
            damaged[at : at + 64] = draw.randbytes(64)
        else:
            for _ in range(1 if how == "a bit" else 20):
                damaged[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        path = tmp_path / str(number) / "directory.db"
        path.parent.mkdir()
        path.write_bytes(damaged)
        Path(f"{path}.mark").write_bytes(mark)
        with bounded(START_S):
            try:
                found = records_of(path)
            except (StoreError, DirectoryError):
                refused += 1
                continue
        assert found == records, f"copy {number}"
    assert refused > COPIES // 10


def test_a_value_that_nobody_wrote_is_told_by_check_and_at_the_start(
    tmp_path: Path, sound: tuple[bytes, bytes, dict[str, bytes]]
) -> None:
    path = tmp_path / "directory.db"
    path.write_bytes(sound[0])
    db = sqlite3.connect(path)
    value = db.execute("SELECT value FROM item WHERE key LIKE '%x7' AND ended IS NULL").fetchone()[0]
    altered = value[:-1] + bytes([value[-1] ^ 1])
    db.execute("UPDATE item SET value = ? WHERE key LIKE '%x7' AND ended IS NULL", (altered,))
    db.commit()
    db.close()

    assert any("not what was written" in text for text, _ in look(path).problems)
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="not what was written"):
        store.range()
    store.close()


def test_a_store_without_a_sum_is_summed_up_with_its_next_commit(tmp_path: Path) -> None:
    path = tmp_path / "directory.db"
    store = SqliteStore.make(path)
    store.transact([], [Write("a", b"1"), Write("b", b"2")])
    store._db.execute("DELETE FROM about WHERE name = 'digest'")
    assert len(store.range()[1]) == 2

    store.transact([], [Write("a", b"3"), Write("b", None)])
    assert [item.value for item in store.range()[1]] == [b"3"]
    store._db.execute("UPDATE item SET value = x'34' WHERE key = 'a' AND ended IS NULL")
    with pytest.raises(StoreError, match="not what was written"):
        store.range()
    store.close()


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("cut", [True, False])
def test_nothing_is_acknowledged_into_files_that_were_cut_or_removed(
    tmp_path: Path, suffix: str, cut: bool
) -> None:
    path = tmp_path / "directory.db"
    store = SqliteStore.make(path)
    for number in range(50):
        store.transact([], [Write(f"key/{number}", b"x" * 200)])
    file = Path(f"{path}{suffix}")
    if cut:
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size // 2)
    else:
        file.unlink()

    for _ in range(2):
        with pytest.raises(StoreError, match="restart the directory"):
            store.transact([], [Write("key/new", b"y")])
    store.close()
