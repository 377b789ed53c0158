# SPDX-License-Identifier: Apache-2.0
"""One contract for every store; the memory store is the oracle."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from directory_service.store.contract import Compacted, Compare, Conflict, Store, StoreError, Write
from directory_service.store.memory import MemoryStore
from directory_service.store.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore.make(tmp_path / "store.db")
    yield made
    made.close()


def put(store: Store, **values: str | None) -> int:
    writes = [Write(key, None if value is None else value.encode()) for key, value in values.items()]
    return store.transact([], writes)


def values_of(store: Store, prefix: str = "", revision: int | None = None) -> dict[str, bytes]:
    return {item.key: item.value for item in store.range(prefix, revision)[1]}


def test_heads_are_the_commits_without_items_newest_first(store: Store) -> None:
    for number in range(1, 6):
        store.transact([], [Write("a", b"%d" % number)], b"note %d" % number, number * 100)
    assert [(head.revision, head.time_ms, head.note) for head in store.heads(4, 2)] == [
        (4, 400, b"note 4"),
        (3, 300, b"note 3"),
    ]
    assert [head.revision for head in store.heads(99)] == [5, 4, 3, 2, 1]
    assert store.heads(0) == []
    store.compact(3)
    assert [head.revision for head in store.heads(5)] == [5, 4]


def test_a_new_store_is_empty_at_revision_0(store: Store) -> None:
    assert store.revision() == store.oldest() == 0
    assert store.range() == (0, [])
    assert store.commits(0) == []
    assert min(store.world) > 0


def test_a_large_transaction_is_as_many_small_ones_at_one_revision(tmp_path: Path) -> None:
    """Items are looked for some 1000 at a time: whatever they were, the two stores stand alike."""
    memory, sqlite = MemoryStore(), SqliteStore.make(tmp_path / "store.db")
    try:
        rounds: list[list[Write]] = [
            [Write(f"k{number:04}", b"%d" % number) for number in range(2_500)],
            [Write(f"k{number:04}", None if number % 3 else b"new") for number in range(0, 2_500, 2)],
            [Write(f"k{number:04}", b"1" if number % 5 else None) for number in range(1, 4_000)],
        ]
        for writes in rounds:
            assert memory.transact([], writes) == sqlite.transact([], writes)
            assert memory.range() == sqlite.range()
        assert memory.commits(0) == sqlite.commits(0)
        assert [memory.range(revision=n) for n in (1, 2, 3)] == [sqlite.range(revision=n) for n in (1, 2, 3)]
        assert memory.transact([], rounds[-1]) == sqlite.transact([], rounds[-1]) == 3  # nothing is new
    finally:
        sqlite.close()


def test_a_transaction_writes_all_at_one_revision(store: Store) -> None:
    assert put(store, a="1", b="2") == 1
    revision, items = store.range()
    assert revision == 1
    assert [(item.key, item.value, item.created, item.modified) for item in items] == [
        ("a", b"1", 1, 1),
        ("b", b"2", 1, 1),
    ]


def test_a_change_keeps_the_revision_of_making(store: Store) -> None:
    put(store, a="1")
    put(store, a="2")
    assert [(item.created, item.modified) for item in store.range()[1]] == [(1, 2)]


def test_what_is_deleted_and_made_again_is_new(store: Store) -> None:
    put(store, a="1")
    put(store, a=None)
    put(store, a="1")
    assert [(item.created, item.modified) for item in store.range()[1]] == [(3, 3)]


def test_the_same_value_again_makes_no_revision(store: Store) -> None:
    put(store, a="1")
    assert put(store, a="1", b=None) == 1
    assert store.revision() == 1


def test_a_failed_comparison_writes_nothing(store: Store) -> None:
    put(store, a="1")
    put(store, a="2")
    with pytest.raises(Conflict, match="a has revision 2, not 1"):
        store.transact([Compare("a", 1)], [Write("a", b"3"), Write("b", b"3")])
    with pytest.raises(Conflict):
        store.transact([Compare("a", 0)], [Write("a", b"3")])
    assert values_of(store) == {"a": b"2"}
    assert store.transact([Compare("a", 2), Compare("b", 0)], [Write("b", b"3")]) == 3


def test_a_key_written_twice_in_one_transaction_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="twice"):
        store.transact([], [Write("a", b"1"), Write("a", b"2")])
    assert store.revision() == 0


def test_a_range_has_the_keys_of_its_prefix_in_order(store: Store) -> None:
    store.transact([], [Write(key, b"x") for key in ("b/2", "a/1", "b/1", "b", "bé", "c")])
    assert [item.key for item in store.range("b/")[1]] == ["b/1", "b/2"]
    assert [item.key for item in store.range("b")[1]] == ["b", "b/1", "b/2", "bé"]


def test_every_revision_can_be_read_again(store: Store) -> None:
    put(store, a="1")
    put(store, a="2", b="1")
    put(store, a=None)
    assert values_of(store, revision=0) == {}
    assert values_of(store, revision=1) == {"a": b"1"}
    assert values_of(store, revision=2) == {"a": b"2", "b": b"1"}
    assert values_of(store, revision=3) == {"b": b"1"}


def test_commits_say_what_changed_when_and_why(store: Store) -> None:
    put(store, a="1")
    store.transact([], [Write("b", b"2"), Write("a", None)], b"note", 1234)
    (first, second) = store.commits(0)
    assert (first.revision, second.revision, second.note, second.time_ms) == (1, 2, b"note", 1234)
    assert [(c.key, c.before and c.before.value, c.after and c.after.value) for c in second.changes] == [
        ("a", b"1", None),
        ("b", None, b"2"),
    ]
    assert store.commits(1) == [second]
    assert store.commits(0, 1) == [first]
    assert store.commits(2) == []


def test_the_first_revision_since_a_time_is_found(store: Store) -> None:
    for number, time_ms in enumerate([100, 200, 150, 300]):
        store.transact([], [Write("a", b"%d" % number)], b"", time_ms)
    assert [store.first_since(0, time_ms) for time_ms in (0, 100, 101, 201, 301)] == [1, 1, 2, 4, None]
    assert store.first_since(2, 150) == 3
    store.compact(3)
    assert store.first_since(0, 0) == 4


def test_a_compacted_revision_is_an_error_that_names_the_oldest(store: Store) -> None:
    for value in "12345":
        put(store, a=value, **{"b" + value: value})
    store.compact(3)
    assert store.oldest() == 3
    for revision in (0, 2, 6):
        with pytest.raises(Compacted) as caught:
            store.range(revision=revision)
        assert caught.value.oldest == 3
    with pytest.raises(Compacted):
        store.commits(2)
    assert values_of(store, revision=3) == {"a": b"3", "b1": b"1", "b2": b"2", "b3": b"3"}
    assert [commit.revision for commit in store.commits(3)] == [4, 5]
    assert values_of(store)["a"] == b"5"
    store.compact(1)
    assert store.oldest() == 3


def test_revisions_go_on_after_everything_was_compacted(store: Store) -> None:
    put(store, a="1")
    put(store, a=None)
    store.compact(2)
    assert store.revision() == 2
    assert put(store, a="1") == 3


_STEP = st.one_of(
    st.tuples(
        st.just("put"),
        st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x", "y", None]), min_size=1),
        st.dictionaries(st.sampled_from("abcd"), st.integers(0, 6), max_size=1),
    ),
    st.tuples(st.just("compact"), st.integers(0, 8), st.just(None)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, max_size=12))
def test_sqlite_does_what_memory_does(steps: list, tmp_path_factory: pytest.TempPathFactory) -> None:
    oracle = MemoryStore()
    store = SqliteStore.make(tmp_path_factory.mktemp("store") / "store.db")
    try:
        for verb, what, compares in steps:
            outcomes = []
            for one in (oracle, store):
                try:
                    if verb == "compact":
                        outcomes.append(one.compact(what))
                    else:
                        writes = [Write(key, value and value.encode()) for key, value in what.items()]
                        outcomes.append(one.transact([Compare(*c) for c in compares.items()], writes))
                except (Conflict, Compacted) as error:
                    outcomes.append(str(error))
            assert outcomes[0] == outcomes[1]
        assert store.oldest() == oracle.oldest()
        assert store.commits(oracle.oldest()) == oracle.commits(oracle.oldest())
        for revision in (None, *range(oracle.oldest(), oracle.revision() + 1)):
            assert store.range("", revision) == oracle.range("", revision)
    finally:
        store.close()


def test_a_file_keeps_everything_and_its_incarnation(tmp_path: Path) -> None:
    first = SqliteStore.make(tmp_path / "store.db")
    put(first, a="1")
    first.close()
    second = SqliteStore(tmp_path / "store.db")
    assert values_of(second) == {"a": b"1"}
    assert second.world == first.world
    second.close()


def test_two_readers_see_what_a_writer_commits_and_no_half(tmp_path: Path) -> None:
    writer = SqliteStore.make(tmp_path / "store.db")
    one, other = (SqliteStore(tmp_path / "store.db") for _ in range(2))
    put(writer, a="1", b="1")
    assert values_of(one) == values_of(other) == {"a": b"1", "b": b"1"}
    put(writer, a="2", b="2")
    put(one, b="3")
    for reader in (writer, one, other):
        assert values_of(reader) == {"a": b"2", "b": b"3"}
        assert [commit.revision for commit in reader.commits(0)] == [1, 2, 3]
        reader.close()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="another program's database"):
        SqliteStore(path)
    (tmp_path / "text").write_text("no database, but long enough to be looked at as one" * 20)
    with pytest.raises(StoreError, match="not a database"):
        SqliteStore(tmp_path / "text")


_WRITER = """
import sys
from directory_service.store.contract import Write
from directory_service.store.sqlite import SqliteStore


class SlowWrites(list):
    # The store looks the keys over once before it writes; the second time it stops half-way, to be killed.
    def __init__(self, number):
        super().__init__(Write(f"key/{key:03}", str(number).encode()) for key in range(200))
        self.number, self.turns = number, 0

    def __iter__(self):
        self.turns += 1
        for at, write in enumerate(super().__iter__()):
            if self.turns == 2 and at == 100 and self.number == int(sys.argv[2]):
                print("half-way", flush=True)
                sys.stdin.read()
            yield write


store = SqliteStore(sys.argv[1])
for number in range(1, 100):
    store.transact([], SlowWrites(number))
"""


@pytest.mark.parametrize("killed_at", [1, 3])
def test_a_writer_killed_in_a_transaction_leaves_the_old_state(tmp_path: Path, killed_at: int) -> None:
    path = tmp_path / "store.db"
    SqliteStore.make(path).close()
    script = tmp_path / "writer.py"
    script.write_text(_WRITER)
    source = str(Path(__file__).parents[2] / "src")
    writer = subprocess.Popen(
        [sys.executable, str(script), str(path), str(killed_at)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half-way\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait(10)
    writer.stdout.close()

    store = SqliteStore(path)
    expected = {} if killed_at == 1 else {f"key/{key:03}": b"2" for key in range(200)}
    assert store.revision() == killed_at - 1
    assert values_of(store) == expected
    assert put(store, a="1") == killed_at
    store.close()


def test_a_writer_killed_at_any_time_leaves_one_of_the_states(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SqliteStore.make(path).close()
    script = (
        "import sys\nfrom directory_service.store.contract import Write\n"
        "from directory_service.store.sqlite import SqliteStore\n"
        "store = SqliteStore(sys.argv[1])\n"
        "while True:\n"
        "    number = store.revision() + 1\n"
        "    store.transact([], [Write(f'key/{key}', str(number).encode()) for key in range(50)])\n"
        "    print(number, flush=True)\n"
    )
    source = str(Path(__file__).parents[2] / "src")
    acknowledged = 0
    for lines in (1, 4, 9):
        writer = subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": source},
            text=True,
        )
        assert writer.stdout is not None
        for _ in range(lines):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait(10)
        writer.stdout.close()
        store = SqliteStore(path)
        revision = store.revision()
        assert revision >= acknowledged
        assert values_of(store) == {f"key/{key}": str(revision).encode() for key in range(50)}
        store.close()
