# SPDX-License-Identifier: Apache-2.0
"""The resolver, fact by fact, against a data plane and a directory in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from resolver_bench import World, installs, types
from resolver_world import (
    ATTACHMENT,
    INCARNATION,
    VNET_OPERATIONS,
    VNI,
    address,
    miss,
    records,
)

from directory_client.events import Changed
from directory_client.wire import rows as wire
from fastpath.records import Action, RecordType, Refusal, make
from gateway.slow_path.asking import ATTEMPTS_MAX, BATCH_ROWS_MAX, LATE_S


def test_second_miss_of_a_key_asks_once_and_both_are_released() -> None:
    world = World()
    world.misses(miss((1, 2), token=11), miss((1, 2), token=12))
    world.misses(miss((1, 2), token=13), miss((1, 2), token=11))

    assert world.send() == [1]
    assert sorted(int(row["token"]) for row in installs(world.answer())) == [11, 12, 13]


def test_a_batch_of_misses_is_one_message() -> None:
    world = World()
    world.misses(*(miss((1, n), token=n) for n in range(1, 200)))
    assert world.send() == [199]


def test_the_question_is_the_key_as_it_was_missed() -> None:
    world = World()
    row = miss((1, 2), token=11)
    row["key"]["protocol"], row["key"]["flags"] = 6, 2
    row["key"]["source_port"] = np.frombuffer((43210).to_bytes(2, "big"), np.uint16)
    row["key"]["destination_port"] = np.frombuffer((5432).to_bytes(2, "big"), np.uint16)
    world.misses(row)

    query = world.resolver.take_questions(world.now_s)[0].queries()[0]

    assert (query["vni"], query["source"].tobytes(), query["destination"].tobytes()) == (
        VNI,
        address(1),
        address(2),
    )
    assert (query["source_port"], query["destination_port"], query["protocol"]) == (43210, 5432, 6)
    assert (query["ingress_kind"], query["ingress_object"]) == (1, ATTACHMENT)


def test_location_comes_once_and_before_the_flow_that_names_it() -> None:
    world = World({(1, 2), (3, 2)})
    world.misses(miss((1, 2), token=11))
    world.send()
    assert types(world.answer()) == [RecordType.LOCATION_SET, RecordType.FLOW_INSTALL]

    world.misses(miss((3, 2), token=12))
    world.send()
    assert types(world.answer()) == [RecordType.FLOW_INSTALL]


def test_location_that_the_data_plane_has_forgotten_comes_again() -> None:
    world = World({(1, 2), (3, 2)})
    world.misses(miss((1, 2), token=11))
    world.send()
    world.answer()
    world.data_plane.locations.clear()
    world.data_plane.waiting[12] = (3, 2)

    world.misses(miss((3, 2), token=12))
    world.send()
    world.answer()  # refused: unknown object
    assert world.send() == [1]
    world.answer()

    assert world.data_plane.released == [12]


def test_late_answer_is_asked_again() -> None:
    world = World()
    world.data_plane.waiting[11] = (1, 2)
    world.misses(miss((1, 2), token=11))
    world.send()
    late = world.directory.answer(1, world.asked[1].queries())
    world.resolver.changed(world.directory.change((1, 2)))
    world.resolver.answered(late, world.now_s)
    world.out()

    assert world.send() == [1]
    world.answer()
    assert world.data_plane.flows == {(1, 2): Action.DROP}
    assert world.data_plane.released == [11]


def test_key_whose_answers_are_always_refused_is_given_up() -> None:
    world = World()
    world.misses(miss((1, 2), token=11))
    asked = 0
    while world.send():
        asked += 1
        world.data_plane.locations.clear()
        world.resolver.answered(world.directory.answer(asked, world.asked[asked].queries()), world.now_s)
        taken = [b for b in world.resolver.take_records() if b["head"]["type"][0] == RecordType.FLOW_INSTALL]
        world.resolver.records(records(*world.data_plane.apply(taken)), world.now_s)
    assert asked == ATTEMPTS_MAX + 1


def test_what_was_missed_by_an_attachment_that_is_gone_is_not_asked() -> None:
    world = World()
    gone = {**VNET_OPERATIONS[1], "op": "attachment_removed"}
    back = {**VNET_OPERATIONS[1], "object_id": 901}
    world.misses(miss((1, 2), token=11))
    world.resolver.changed(Changed(VNI, INCARNATION, 2, 0, [gone, back]))
    assert world.send() == []
    assert world.resolver.waiting() == 0
    again = miss((1, 2), token=12)
    again["ingress_object"] = 901
    world.misses(again)
    assert world.send() == [1]
    assert world.asked[1].rows["ingress_object"].tolist() == [901]


def test_answer_that_will_never_be_taken_ends_what_waits() -> None:
    world = World()
    refused = make(
        RecordType.REFUSED, vni=VNI, refused_type=RecordType.FLOW_INSTALL, why=Refusal.OTHER_VNET, token=11
    )
    world.misses(refused)

    (row,) = [r for b in world.resolver.take_records() for r in b]
    assert row["head"]["type"] == RecordType.RELEASE_DROP
    assert row["token"] == 11


def test_misses_wait_while_nobody_answers_and_are_asked_when_somebody_does() -> None:
    world = World()
    world.resolver.state(False)
    assert types(world.out()) == [RecordType.DIRECTORY_STATE]
    world.misses(miss((1, 2), token=11))
    world.misses(miss((1, 3), token=12))
    assert world.send() == []

    world.now_s += 0.3
    world.resolver.state(True)
    world.resolver.tick(world.now_s)

    assert world.send() == [2]


def test_what_has_waited_longer_than_the_hold_is_not_asked_any_more() -> None:
    world = World()
    world.resolver.state(False)
    world.misses(miss((1, 2), token=11))
    world.now_s += 1.5
    world.resolver.tick(world.now_s)
    world.resolver.state(True)
    world.resolver.tick(world.now_s)
    assert world.send() == []

    world.misses(miss((1, 2), token=12))
    assert world.send() == [1]


def test_failed_question_is_asked_again_after_a_while() -> None:
    world = World()
    world.misses(miss((1, 2), token=11))
    world.send()
    world.resolver.failed(1, world.now_s)
    world.misses(miss((1, 2), token=12))
    assert world.send() == []

    due_s = world.resolver.due_s()
    assert due_s is not None
    world.now_s = due_s
    world.resolver.tick(world.now_s)

    assert world.send() == [1]
    assert sorted(int(row["token"]) for row in installs(world.answer())) == [11, 12]


def test_undecided_rows_are_asked_again_and_the_others_installed() -> None:
    world = World({(1, 2), (1, 3)})
    world.misses(miss((1, 2), token=11), miss((1, 3), token=12))
    world.send()
    answer = world.directory.answer(1, world.asked[1].queries())
    answer.decisions["action"][0] = Action.NONE

    world.resolver.answered(answer, world.now_s)

    assert [int(r["token"]) for r in installs(world.out())] == [12]
    world.now_s += 1
    world.resolver.tick(world.now_s)
    assert world.resolver.waiting() == 1 or world.send() == [1]


@pytest.mark.parametrize(
    ("column", "value"),
    [("action", 9), ("action", 200), ("destination_location", 7), ("destination_location", -1)],
)
def test_decision_that_cannot_be_carried_drops(column: str, value: int) -> None:
    world = World()
    world.misses(miss((1, 2), token=11))
    world.send()
    answer = world.directory.answer(1, world.asked[1].queries())
    answer.decisions[column][0] = value

    world.resolver.answered(answer, world.now_s)

    (row,) = installs(world.resolver.take_records())
    assert (row["action"], row["reason"], row["destination_object"]) == (Action.DROP, 44, 0)


def test_decision_for_a_connection_without_ports_means_narrow() -> None:
    world = World()
    world.misses(miss((1, 2), token=11))
    world.send()
    answer = world.directory.answer(1, world.asked[1].queries())
    answer.decisions["granularity"][0] = 2

    world.resolver.answered(answer, world.now_s)

    (row,) = installs(world.resolver.take_records())
    assert (row["action"], row["destination_object"], row["token"]) == (Action.NARROW, 0, 11)


def test_answer_of_a_wrong_length_is_not_believed() -> None:
    world = World()
    world.misses(miss((1, 2), token=11))
    world.send()
    answer = world.directory.answer(1, np.zeros(2, wire.QUERY))

    world.resolver.answered(answer, world.now_s)

    assert world.resolver.take_records() == []
    assert world.resolver.counters["answers_malformed"] == 1


def test_questions_gather_while_the_directory_is_busy() -> None:
    world = World()
    for token, pair in enumerate([(1, 2), (1, 3), (2, 1), (2, 3)], start=1):
        world.misses(miss(pair, token=token))
        world.send()
    assert [len(batch) for batch in world.asked.values()] == [1, 1]
    assert world.resolver.due_s() == world.now_s + LATE_S

    world.answer(1)

    assert world.send() == [2]


def test_an_answer_that_is_late_hinders_nobody() -> None:
    world = World()
    for token, pair in enumerate([(1, 2), (1, 3), (2, 1)], start=1):
        world.misses(miss(pair, token=token))
        world.send()

    world.now_s += LATE_S

    assert world.send() == [1]


def test_what_does_not_fit_into_a_message_is_asked_next_in_order() -> None:
    world = World()
    rows = np.concatenate([miss((1, 2))] * 3 * BATCH_ROWS_MAX)
    rows["key"]["ingress"] = np.arange(len(rows))
    world.resolver.records(records(rows), world.now_s)

    assert world.send() == [BATCH_ROWS_MAX] * 2
    world.resolver.failed(1, world.now_s, refused=True)
    assert world.send() == [BATCH_ROWS_MAX]
    asked = np.concatenate([batch.rows["key"]["ingress"] for batch in world.asked.values()])
    assert asked.tolist() == list(range(len(rows)))
