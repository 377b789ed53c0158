# SPDX-License-Identifier: Apache-2.0
"""The desk, where jobs wait that are done elsewhere: each is answered once, whatever happens."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from directory_client.wire.messages import DirectoryError, encode
from directory_client.wire.requests import ApplyRequest
from directory_service.protocol.authentication import LOCAL, Identity
from directory_service.protocol.desk import JOBS_MAX_OF_ONE, PROGRESS_S, Desk
from directory_service.protocol.jobs import Done, Job
from directory_service.protocol.outbox import Out, Peer, Reply

PEER = Peer("write", b"c", LOCAL)


class Bench:
    def __init__(self) -> None:
        self.desk = Desk(None, 1_000)
        self.carried: list[tuple[int, Job]] = []
        self.desk.carry = lambda number, job: self.carried.append((number, job))

    def submit(self, id: int, peer: Peer = PEER, finish: Any = None, **head: Any) -> list[Out]:
        job = Job("apply", ApplyRequest(id=id, **{"text": "", **head}), peer.identity)
        return self.desk.submit(peer, job, finish or (lambda done, now: answer(peer, id)), 1.0)


def answer(peer: Peer, id: int) -> list[Out]:
    return [Reply(peer.channel, peer.connection, encode({"id": id, "ok": True}))]


def heads(outs: list[Out]) -> list[dict[str, Any]]:
    return [msgpack.unpackb(out.frames[0]) for out in outs if isinstance(out, Reply)]


def test_who_asked_is_answered_once_the_server_has_the_revision() -> None:
    bench = Bench()
    assert bench.submit(1) == []
    ((number, _),) = bench.carried
    assert bench.desk.done(number, Done(7), 6, 2.0) == []
    assert bench.desk.taken_up(6, 2.0) == []
    assert [head["id"] for head in heads(bench.desk.taken_up(7, 3.0))] == [1]
    assert bench.desk.taken_up(8, 4.0) == []
    assert bench.desk.done(number, Done(7), 8, 5.0) == []
    assert len(bench.desk) == 0


def test_what_is_asked_again_while_it_waits_is_done_once() -> None:
    bench = Bench()
    for _ in range(3):
        bench.submit(1)
    assert len(bench.carried) == 1
    bench.submit(1, Peer("write", b"another", LOCAL))
    assert len(bench.carried) == 2
    bench.desk.done(bench.carried[0][0], Done(1), 1, 2.0)
    bench.submit(1)
    assert len(bench.carried) == 3


def test_an_answer_that_cannot_be_given_is_a_refusal_and_no_more() -> None:
    def fail(done: Done, now: float) -> list[Out]:
        raise ValueError("it cannot be packed")

    bench = Bench()
    bench.submit(1, finish=fail)
    bench.submit(2)
    (first, _), (second, _) = bench.carried
    (refused,) = heads(bench.desk.done(first, Done(1), 1, 2.0))
    assert (refused["id"], refused["ok"]) == (1, False)
    assert [head["ok"] for head in heads(bench.desk.done(second, Done(1), 1, 2.0))] == [True]
    assert len(bench.desk) == 0


def test_one_key_leaves_room_for_others_and_documents_for_one_another() -> None:
    bench = Bench()
    for id in range(JOBS_MAX_OF_ONE):
        bench.submit(id)
    with pytest.raises(DirectoryError, match="too many requests wait"):
        bench.submit(1_000)
    anna = Peer("write", b"a", Identity("anna", "operator"))
    bench.submit(1_000, anna)
    for id in range(8):
        bench.submit(2_000 + id, anna, text="x" * 1_000)
    with pytest.raises(DirectoryError, match="too many requests wait"):
        bench.submit(3_000, anna, text="x" * 1_000)
    for number, _ in bench.carried:
        bench.desk.done(number, Done(1), 1, 2.0)
    bench.submit(4_000, anna, text="x" * 5_000)  # alone, it may be larger than all together
    assert len(bench.desk) == 1


def test_who_waits_is_told_how_many_come_before() -> None:
    bench = Bench()
    bench.submit(1)
    bench.submit(2)
    assert bench.desk.progress(1.0) == []
    told = heads(bench.desk.progress(1.0 + PROGRESS_S))
    assert [(head["id"], head["progress"]) for head in told] == [
        (1, {"seconds": 1, "before": 0}),
        (2, {"seconds": 1, "before": 1}),
    ]
    assert bench.desk.progress(1.1 + PROGRESS_S) == []
