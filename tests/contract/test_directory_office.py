# SPDX-License-Identifier: Apache-2.0
"""Writer and reader are processes of their own: whatever they do or suffer, others are answered meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from directory_client.client import DirectoryClient
from directory_client.events import Resolved
from directory_client.wire import rows
from directory_client.wire.messages import DirectoryError
from directory_client.wire.operator_requests import pieces_of
from directory_service.kinds.records import decode, encode, make_record
from directory_service.store.contract import Write
from directory_service.store.sqlite import SqliteStore

WITHIN_S = 60.0
SMALL = 'document = "small"\n[site.s]\n[node.gw1]\nkind = "gateway"\n[vnet.red]\nvni = 7001\n'


def large(endpoints: int) -> str:
    lines = ['document = "large"', "[vnet.blue]", "vni = 7002"]
    lines += ["[[vnet.blue.attachment]]", 'nodes = ["gw1"]', 'port = "rack"', "vlan = 1"]
    for at in range(endpoints):
        octets = f"{at >> 8}.{at & 255}"
        mac = f"02:00:00:00:{at >> 8:02x}:{at & 255:02x}"
        lines += [f"[vnet.blue.endpoint.e{at}]", f'addresses = ["10.1.{octets}"]', f'mac = "{mac}"']
        lines.append('node = "gw1"')
    return "\n".join(lines)


class Served:
    """A vnet-directory process on a SQLite store, and its clients."""

    def __init__(self, path: Path, process: subprocess.Popen[str], stack: contextlib.ExitStack) -> None:
        self.path = path
        self.process = process
        self._stack = stack
        self.operator = self.client()

    def client(self, **options: Any) -> DirectoryClient:
        client = DirectoryClient([f"ipc://{self.path}/s"], **options)
        return self._stack.enter_context(contextlib.closing(client))

    def call(self, verb: str, **fields: Any) -> dict[str, Any]:
        return self.operator.call(verb, timeout_s=WITHIN_S, **fields)

    def worker(self, name: str) -> int:
        """The process id of the writer or the reader, which is started with its first job."""
        first, second = (
            ("export", {"document": "small"})
            if name == "reader"
            else ("apply", {"text": SMALL, "dry_run": True})
        )
        self.call(first, **second)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[-1])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    config = tmp_path / "d.toml"
    config.write_text(
        f'name = "d1"\nlisten = "ipc://{tmp_path}/s"\n[store]\nkind = "sqlite"\npath = "{tmp_path}/d.db"\n'
        f'[limits]\nlate_ms = 60000\n[audit]\nfile = "{tmp_path}/audit.jsonl"\n'
    )
    run = [sys.executable, "-m", "directory_service.main"]
    subprocess.run([*run, "init", str(config)], check=True, capture_output=True)
    process = subprocess.Popen([*run, "run", str(config)], stderr=subprocess.PIPE, text=True)
    with contextlib.ExitStack() as stack:
        stack.callback(process.communicate)
        stack.callback(process.kill)
        served = Served(tmp_path, process, stack)
        served.call("apply", text=SMALL, name="small.toml", wait_ms=0)
        yield served


class Elsewhere(threading.Thread):
    """Asks something that takes long, with a client of its own."""

    def __init__(self, served: Served, verb: str, within_s: float = WITHIN_S, **fields: Any) -> None:
        super().__init__(daemon=True)
        self._client = served.client()
        self._ask: Callable[[], Any] = lambda: self._client.call(verb, timeout_s=within_s, **fields)
        self.answer: dict[str, Any] | None = None
        self.error: DirectoryError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._ask()
        except DirectoryError as error:
            self.error = error

    def outcome(self) -> dict[str, Any]:
        self.join(WITHIN_S)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        assert self.answer is not None
        return self.answer


def decide(client: DirectoryClient) -> Resolved:
    """Ask one decision and wait for it."""
    query = np.zeros(1, rows.QUERY)
    query["vni"], query["key_class"] = 7001, 1
    asked = client.send_resolve(query)
    poller = zmq.Poller()
    for each in client.sockets:
        poller.register(each, zmq.POLLIN)
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        poller.poll(client.timeout_ms())
        for event in client.receive():
            if isinstance(event, Resolved) and event.id == asked:
                return event
    raise AssertionError("no decision")


def test_decisions_are_made_while_a_large_document_is_tried_applied_and_exported(served: Served) -> None:
    node = served.client(node="gw1")
    text = large(8_000)
    for verb, fields in (
        ("apply", {"text": text, "name": "large.toml", "dry_run": True}),
        ("apply", {"text": text, "name": "large.toml", "wait_ms": 0}),
        ("list", {"kind": "endpoints"}),
        ("export", {"document": "large"}),
        ("rollback", {"revision": 1, "wait_ms": 0}),
    ):
        job = Elsewhere(served, verb, **fields)
        made = 0
        while job.is_alive():
            decide(node)
            made += 1
        job.outcome()
        # One thread would make the one that came before the job, and the one after it.
        assert made > 3 or verb in ("list", "export", "rollback"), verb
    # 60 000 for an apply: nothing is lost on the way
    assert served.call("list", kind="endpoints")["rows"] == []


def test_what_was_answered_as_done_is_seen_by_the_next_question(served: Served) -> None:
    for number in range(1, 30):
        served.call("set", kind="site", name=f"s{number}", values={}, wait_ms=0)
        assert len(served.call("list", kind="sites")["rows"]) == number + 1


def test_a_writer_that_is_killed_costs_one_answer(served: Served) -> None:
    writer = served.worker("writer")
    os.kill(writer, signal.SIGSTOP)
    job = Elsewhere(served, "set", kind="site", name="lost", values={})
    audit = served.path / "audit.jsonl"
    wait_for(lambda: '"lost"' in audit.read_text())
    os.kill(writer, signal.SIGKILL)
    with pytest.raises(DirectoryError, match=r"the directory's writer ended .*whether the change was made"):
        job.outcome()
    served.call("set", kind="site", name="kept", values={}, wait_ms=0)
    assert {row["name"] for row in served.call("list", kind="sites")["rows"]} == {"s", "kept"}
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    of_lost = [line for line in lines if line.get("name") == "lost"]
    assert [(line["stage"], line.get("ok")) for line in of_lost] == [("asked", None), ("done", False)]
    assert "whether the change was made" in of_lost[1]["error"]


def test_a_reader_that_is_killed_says_try_again(served: Served) -> None:
    reader = served.worker("reader")
    os.kill(reader, signal.SIGSTOP)
    job = Elsewhere(served, "export", document="small")
    time_out = Elsewhere(served, "list", kind="sites")
    assert decide(served.client(node="gw1"))
    wait_for(lambda: unread_bytes(reader))
    os.kill(reader, signal.SIGKILL)
    for one in (job, time_out):
        with contextlib.suppress(DirectoryError):  # or it came after the end, and was done
            assert one.outcome()
    assert "vni = 7001" in served.call("export", document="small")["text"]


def test_workers_end_with_a_server_that_is_killed(served: Served) -> None:
    workers = [served.worker("writer"), served.worker("reader")]
    served.process.kill()
    wait_for(lambda: not any(is_running(worker) for worker in workers))


def test_while_another_program_holds_the_store_others_are_answered_and_the_write_waits(
    served: Served,
) -> None:
    node = served.client(node="gw1")
    with contextlib.closing(sqlite3.connect(served.path / "d.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        job = Elsewhere(served, "set", kind="site", name="late", values={}, wait_ms=0)
        for _ in range(20):
            decide(node)
            served.call("list", kind="sites")
        assert job.is_alive()
        other.execute("ROLLBACK")
    assert job.outcome()["revision"] == 2


def test_what_other_processes_commit_is_taken_up(served: Served) -> None:
    node = served.client(node="gw1")
    before = decide(node).revision
    second = subprocess.Popen(
        [sys.executable, "-m", "directory_service.main", "run", str(other_configuration(served.path))]
    )
    try:
        with contextlib.closing(DirectoryClient([f"ipc://{served.path}/other"])) as client:
            wait_for(lambda: answers(client))
            client.call("set", kind="site", name="new", values={}, timeout_s=WITHIN_S, wait_ms=0)
    finally:
        second.kill()
        second.wait()
    wait_for(lambda: decide(node).revision == before + 1)
    assert {row["name"] for row in served.call("list", kind="sites")["rows"]} == {"s", "new"}


def test_what_a_newer_program_writes_ends_neither_server_nor_writer_nor_reader(served: Served) -> None:
    node = served.client(node="gw1")
    workers = [served.worker("writer"), served.worker("reader")]
    before = decide(node).revision
    with contextlib.closing(SqliteStore(served.path / "d.db")) as newer:
        red = decode(newer.range("vnet/red")[1][0])
        values = {**red.values, "min_trust": "private"}
        record = make_record(red.key, red.id, 0, red.owner, red.document, values)
        newer.transact([], [Write(red.key, encode(record))], b"", 0)
    wait_for(lambda: decide(node).revision == before + 1)

    (row,) = served.call("list", kind="vnets")["rows"]
    assert row["unreadable"] == 'min_trust: "private" is not possible'
    assert served.call("list", kind="directories")["rows"][0]["unreadable"] == 1
    with pytest.raises(DirectoryError, match="vnet red was written by a newer program"):
        served.call("set", kind="site", name="new", values={}, wait_ms=0)
    second = subprocess.Popen(
        [sys.executable, "-m", "directory_service.main", "run", str(other_configuration(served.path))]
    )
    try:
        with contextlib.closing(DirectoryClient([f"ipc://{served.path}/other"])) as client:
            wait_for(lambda: answers(client))
            client.call("rollback", revision=before, timeout_s=WITHIN_S, wait_ms=0)
    finally:
        second.kill()
        second.wait()
    wait_for(lambda: "unreadable" not in served.call("list", kind="vnets")["rows"][0])
    assert all(is_running(worker) for worker in workers)


def test_a_crowd_of_requests_is_refused_by_number_not_by_time(served: Served) -> None:
    writer = served.worker("writer")
    os.kill(writer, signal.SIGSTOP)
    try:
        jobs = [
            Elsewhere(served, "set", kind="site", name=f"c{at}", values={}, wait_ms=0) for at in range(40)
        ]
        wait_for(lambda: sum(job.error is not None for job in jobs) == 8)
        assert "too many requests wait" in str(next(job.error for job in jobs if job.error is not None))
    finally:
        os.kill(writer, signal.SIGCONT)
    for job in jobs:
        if job.error is None:
            job.outcome()
    assert len(served.call("list", kind="sites")["rows"]) == 33
    with contextlib.closing(SqliteStore(served.path / "d.db")) as store:
        assert store.revision() == 33


def other_configuration(path: Path) -> Path:
    text = (path / "d.toml").read_text()
    (path / "o.toml").write_text(text.replace(f"ipc://{path}/s", f"ipc://{path}/other"))
    return path / "o.toml"


def answers(client: DirectoryClient) -> bool:
    try:
        return bool(client.call("list", kind="directories", timeout_s=1.0))
    except DirectoryError:
        return False


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_running(process_id: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[:1]
    except FileNotFoundError:
        return False


def unread_bytes(process_id: int) -> bool:
    """Whether the process has something to read at its socket. Its one stream socket is the server's."""
    state = subprocess.run(["ss", "-xpn"], capture_output=True, text=True, check=True).stdout
    return any(f"pid={process_id}," in line and int(line.split()[2]) > 0 for line in state.splitlines())


def test_who_waits_for_long_is_told_so_and_goes_on_waiting(served: Served) -> None:
    writer = served.worker("writer")
    os.kill(writer, signal.SIGSTOP)
    told: list[tuple[int, int]] = []
    first = Elsewhere(served, "set", kind="site", name="first", values={}, wait_ms=0)
    audit = served.path / "audit.jsonl"
    wait_for(lambda: '"first"' in audit.read_text())
    second = Elsewhere(
        served,
        "set",
        kind="site",
        name="second",
        values={},
        wait_ms=0,
        within_s=1.5,
        progress=lambda seconds, before: told.append((seconds, before)),
    )
    wait_for(lambda: told and told[-1][0] >= 3)  # longer than it would have waited in silence
    os.kill(writer, signal.SIGCONT)
    assert first.outcome()["revision"] == 2
    assert second.outcome()["revision"] == 3
    assert {before for _, before in told} == {1}


def test_a_document_of_many_megabytes_is_applied_in_pieces_while_others_are_answered(served: Served) -> None:
    node = served.client(node="gw1")
    text = large(500) + "".join(f"\n# {'-' * 1000}" for _ in range(18_000))
    with pytest.raises(DirectoryError, match="more than TEXT_BYTES_MAX"):
        served.call("apply", text=text)
    for at, piece in pieces_of(text):
        served.call("piece", upload=5, at=at, text=piece)
        assert len(decide(node).decisions) == 1
    tried = Elsewhere(served, "apply", upload=5, dry_run=True)
    while tried.is_alive():
        assert len(decide(node).decisions) == 1
    assert len(tried.outcome()["diff"]) == 502
    assert served.call("apply", upload=5, wait_ms=0)["added"] == 502
    exported = served.call("export", document="large", at=0)
    assert exported["more"] is None
    assert "e499" in exported["text"]


def test_a_disk_that_takes_no_audit_record_keeps_back_changes_and_nothing_else(served: Served) -> None:
    audit = served.path / "audit.jsonl"
    # Of what was made before, the record may still be on its way.
    wait_for(lambda: json.loads(audit.read_text().splitlines()[-1])["stage"] == "done")
    audit.rename(served.path / "audit.1")
    os.mkfifo(audit)
    with open(os.open(audit, os.O_RDWR | os.O_NONBLOCK), "r+b", buffering=0) as pipe:
        filled = 0
        while written := pipe.write(b"\n" * 4096):
            filled += written
        job = Elsewhere(served, "set", kind="site", name="late", values={}, wait_ms=0)
        gateway = served.client(node="gw1")

        def waits() -> bool:
            (row,) = served.call("list", kind="directories")["rows"]
            return "has not taken a record" in row["audit"]

        wait_for(waits)
        for _ in range(20):
            decide(gateway)
        assert [row["name"] for row in served.call("list", kind="sites")["rows"]] == ["s"]  # no trace yet
        assert job.is_alive()
        while filled:
            filled -= len(pipe.read(4096))
        assert job.outcome()["revision"] == 2
        asked = json.loads(pipe.readline())
        assert (asked["stage"], asked["name"]) == ("asked", "late")
