# SPDX-License-Identifier: Apache-2.0
"""The audit trail: what is written when, whole lines, and what happens when nothing can be written."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from directory_world import DOCUMENT
from dispatcher_bench import GATEWAY, OPERATOR, Bench

from directory_client.endpoint import parse_endpoint
from directory_client.wire.messages import encode
from directory_service.configuration import Configuration
from directory_service.protocol.audit import CHARACTERS_MAX, AuditFile
from directory_service.protocol.authentication import AGAIN_S, LOCAL, Refusals
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.protocol.outbox import Audit, Peer
from directory_service.settings import Settings
from directory_service.store.contract import StoreError
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory


def record(**fields: Any) -> dict[str, Any]:
    return {"time_ms": 1_700_000_000_123, **fields}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def nested(depth: int) -> Any:
    value: Any = "end"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        {b"x": 1},
        {"mac": {b"x": 1}},
        nested(2_000),
        {1.5: 2},
        float("nan"),
        1 << 70,
        "\ud800",
        b"\xff" * 9_999,
    ],
    ids=["bytes key", "inner bytes key", "nested", "number key", "nan", "big", "surrogate", "bytes"],
)
def test_every_value_that_a_message_can_carry_becomes_one_line(tmp_path, value):
    audit = AuditFile(tmp_path / "audit.jsonl")
    audit.write(record(who="anna", values=value))
    audit.write(record(who="bob"))
    audit.close()
    assert [line["who"] for line in lines_of(tmp_path / "audit.jsonl")] == ["anna", "bob"]
    assert (audit.problem, audit.missing) == ("", 0)


def test_a_record_has_a_bounded_length(tmp_path):
    audit = AuditFile(tmp_path / "audit.jsonl")
    audit.write(record(comment="x" * 100_000, values={f"k{n}": "y" * 900 for n in range(10_000)}))
    audit.close()
    assert (tmp_path / "audit.jsonl").stat().st_size < 2 * CHARACTERS_MAX


def test_a_half_line_is_ended_and_what_is_missing_is_said(tmp_path):
    path = tmp_path / "audit.jsonl"
    audit = AuditFile(path)
    audit.write(record(who="first"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))  # a full disk
    try:
        audit.write(record(who="half"))
        audit.write(record(who="not at all"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (audit.problem, audit.missing) == ("File too large", 2)
    audit.write(record(who="last"))
    audit.close()
    first, half, gap, last = path.read_text().splitlines()
    assert (json.loads(first)["who"], json.loads(gap)["gap"], json.loads(last)["who"]) == ("first", 2, "last")
    assert len(half) == 20
    assert (audit.problem, audit.missing) == ("", 0)


def test_a_half_line_of_an_earlier_process_is_ended_too(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_text('{"who": "kill')
    audit = AuditFile(path)
    audit.write(record(who="next"))
    audit.close()
    half, line = path.read_text().splitlines()
    assert (half, json.loads(line)["who"]) == ('{"who": "kill', "next")


def test_a_file_that_cannot_be_made_anew_never_costs_another_its_descriptor(tmp_path):
    folder = tmp_path / "log"
    audit = AuditFile(folder / "audit.jsonl")
    audit.write(record(who="before"))
    folder.rename(tmp_path / "moved")
    folder.write_text("in the way")
    audit.write(record(who="moved"))  # it still has its file
    with open(os.devnull) as other:
        audit.write(record(who="moved again"))
        assert os.fstat(other.fileno()).st_rdev  # nobody closed it
    folder.unlink()
    audit.write(record(who="anew"))
    audit.close()
    assert [line["who"] for line in lines_of(tmp_path / "moved" / "audit.jsonl")] == [
        "before",
        "moved",
        "moved again",
    ]
    assert [line["who"] for line in lines_of(folder / "audit.jsonl")] == ["anew"]


def test_a_file_that_is_deleted_with_no_room_for_another_is_a_gap(tmp_path):
    folder = tmp_path / "log"
    audit = AuditFile(folder / "audit.jsonl")
    (folder / "audit.jsonl").unlink()
    folder.rmdir()
    folder.write_text("in the way")
    audit.write(record(who="lost"))
    assert audit.missing == 1
    folder.unlink()
    audit.write(record(who="kept"))
    audit.close()
    gap, kept = lines_of(folder / "audit.jsonl")
    assert (gap["gap"], kept["who"]) == (1, "kept")


def test_a_directory_whose_audit_file_cannot_be_opened_serves_and_says_so(tmp_path):
    (tmp_path / "log").write_text("in the way")
    audit = AuditFile(tmp_path / "log" / "audit.jsonl")
    bench = Bench(audit=audit)
    assert bench.ask("write", "set", kind="rule", name="red/x", values={}, by=OPERATOR)["ok"] is True
    (row,) = bench.ask("write", "list", kind="directories")["rows"]
    assert (row["audit"], row["audit_missing"]) == ("File exists", 1)


def test_the_intention_is_in_the_file_before_the_change_is_made(tmp_path):
    path = tmp_path / "audit.jsonl"
    bench = Bench(audit=AuditFile(path))
    seen: list[dict[str, Any]] = []
    remove = bench.directory.remove_record
    bench.directory.remove_record = lambda *args: seen.extend(lines_of(path)) or remove(*args)
    outs = bench.send("write", "remove", kind="endpoint", name="red/db-1", values={b"x": 1}, by=OPERATOR)
    (asked,) = seen
    assert "values" not in asked  # nobody has looked at them
    done = next(out.record for out in outs if isinstance(out, Audit))
    assert (asked["stage"], asked["who"], asked["name"]) == ("asked", "anna", "red/db-1")
    assert (done["stage"], done["ok"], done["change"]) == ("done", True, asked["change"])


def test_a_change_that_a_key_may_not_make_leaves_a_trace(tmp_path, caplog):
    path = tmp_path / "audit.jsonl"
    bench = Bench(audit=AuditFile(path), writes_per_second_per_key=3)
    asked = {"kind": "rule", "name": "red/x", "values": {}}
    for _ in range(10):
        assert bench.ask("write", "set", **asked, by=GATEWAY)["ok"] is False
    lines = lines_of(path)
    assert {(one["who"], one["role"], one["type"], one["name"], one["ok"]) for one in lines} == {
        ("gw1", "gateway", "set", "red/x", False)
    }
    assert lines[0]["error"] == "its key may not change the directory"
    assert (len(lines), bench.dispatcher.counters["writes_refused"]) == (3, 10)  # no key fills the disk
    assert [one for one in caplog.messages if "refused" in one] == [
        "set of gateway gw1 is refused: its key changes nothing"
    ]


def test_of_many_refused_keys_each_is_told_and_no_more_than_one_a_second():
    refusals = Refusals()
    assert refusals.take("a", 0.0) == 0
    assert [refusals.take("a", now) for now in (0.0, 1.0, 2.0)] == [None, None, None]
    assert refusals.take("b", 0.5) is None
    assert refusals.take("b", 3.0) == 4
    assert refusals.take("a", 3.0 + AGAIN_S) == 0
    told = [refusals.take(f"key {number}", 5_000.0 + number / 1000) for number in range(10_000)]
    assert [more for more in told if more is not None] == [0] + [999] * 9


def test_a_change_that_fails_has_an_outcome_too(tmp_path):
    path = tmp_path / "audit.jsonl"
    bench = Bench(audit=AuditFile(path))
    bench.directory.error = StoreError("disk is full")
    outs = bench.send("write", "set", kind="rule", name="red/x", values={}, by=OPERATOR)
    (asked,) = lines_of(path)
    (done,) = [out.record for out in outs if isinstance(out, Audit)]
    assert (asked["change"], done["ok"]) == (done["change"], False)
    assert "disk is full" in done["error"]


@pytest.mark.parametrize("broken", ["compact", "commits"])
def test_a_change_that_was_made_is_reported_as_made_whatever_fails_afterwards(monkeypatch, broken):
    store = MemoryStore()
    directory = Directory(store, Settings(history_revisions=1, history_days=0), lambda: 1_700_000_000_000)
    directory.apply(DOCUMENT, "world.toml")
    while directory.revision < 255:
        directory.set_record("site", f"s{directory.revision}", {})
    configuration = Configuration("dir1", parse_endpoint("ipc:///run/x"), None)
    dispatcher = Dispatcher(configuration, directory, 5, 0.0)
    real_transact = store.transact

    def fail(*_: Any) -> Any:
        raise StoreError("disk is full")

    def transact(*args: Any, **fields: Any) -> Any:
        try:
            return real_transact(*args, **fields)
        finally:
            monkeypatch.setattr(store, broken, fail)

    monkeypatch.setattr(store, "transact", transact)
    frames = encode({"id": 1, "type": "set", "kind": "site", "name": "last", "values": {}})
    outs = dispatcher.handle(Peer("write", b"c", LOCAL), frames, 1.0)
    (done,) = [out.record for out in outs if isinstance(out, Audit)]
    assert (done["ok"], done["revision"]) == (True, 256)
    assert directory.trims_failed == (broken == "compact")
