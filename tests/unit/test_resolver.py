# SPDX-License-Identifier: Apache-2.0
"""The resolver, fact by fact, against a data plane and a directory in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from resolver_world import (
    ATTACHMENT,
    INCARNATION,
    MAC,
    NO_RULE,
    VNET_OPERATIONS,
    VNI,
    DataPlane,
    Directory,
    address,
    miss,
    records,
    scope_operation,
    snapshot,
)

from directory_client.events import Changed, Located, Snapshot
from directory_client.wire import rows as wire
from fastpath.records import Action, ChangeKind, RecordType, Refusal, make
from gateway.slow_path.asking import ATTEMPTS_MAX, BATCH_ROWS_MAX, LATE_S
from gateway.slow_path.resolver import Resolver


class World:
    """A resolver whose directory answers when told to."""

    def __init__(
        self, allowed: set[tuple[int, int]] | None = None, worker: int = 0, workers: int = 1
    ) -> None:
        self.resolver = Resolver(worker, workers, 1.0)
        self.directory = Directory((1, 2, 3), allowed if allowed is not None else {(1, 2)})
        self.data_plane = DataPlane()
        self.now_s = 100.0
        self.asked: dict[int, Any] = {}
        self.resolver.state(True)
        self.resolver.snapshot(snapshot())
        self.out()

    def out(self) -> list[np.ndarray]:
        """Take records, hand them to the data plane, and what that says back in."""
        taken = self.resolver.take_records()
        said = self.data_plane.apply(taken)
        if said:
            self.resolver.records(records(*said), self.now_s)
        return taken

    def misses(self, *rows: np.ndarray) -> None:
        self.resolver.records(records(*rows), self.now_s)

    def send(self) -> list[int]:
        """Take questions as the slow path does; returns how many rows each has."""
        sizes = []
        for batch in self.resolver.take_questions(self.now_s):
            id = 1 + max(self.asked, default=0)
            self.asked[id] = batch
            self.resolver.asked(id, batch, self.now_s)
            sizes.append(len(batch))
        return sizes

    def answer(self, id: int | None = None) -> list[np.ndarray]:
        id = id or max(self.asked)
        self.resolver.answered(self.directory.answer(id, self.asked[id].queries()), self.now_s)
        return self.out()


def installs(batches: list[np.ndarray]) -> list[Any]:
    return [row for b in batches for row in b if row["head"]["type"] == RecordType.FLOW_INSTALL]


def types(batches: list[np.ndarray]) -> list[int]:
    return [int(row["head"]["type"]) for batch in batches for row in batch]


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


def test_refusal_answers_its_whole_scope_without_asking() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    world.answer()

    world.misses(miss((1, 3), token=12))

    assert world.send() == []
    (row,) = installs(world.out())
    assert (row["action"], row["reason"], row["token"]) == (Action.DROP, NO_RULE, 12)


def test_refusal_does_not_hold_for_another_source_or_v_net() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    world.answer()

    world.misses(miss((2, 3), token=12), miss((1, 3), token=13, vni=VNI + 1))

    assert world.send() == [2]


def test_refusal_ends_when_it_expires() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    world.answer()
    world.now_s += 5.1

    world.misses(miss((1, 2), token=12))

    assert world.send() == [1]


def test_refusal_ends_when_a_change_touches_it() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    world.answer()

    world.resolver.changed(world.directory.change((1, 3)))
    world.misses(miss((1, 3), token=12))

    assert world.send() == [1]


def test_refusal_that_a_change_has_overtaken_is_not_kept() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    late = world.directory.answer(1, world.asked[1].queries())
    world.resolver.changed(world.directory.change((1, 3)))
    world.resolver.answered(late, world.now_s)
    world.out()

    world.misses(miss((1, 3), token=12))

    assert world.send() == [1]


def test_refresh_is_asked_even_under_a_refusal() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    world.answer()

    world.misses(miss((1, 3), record_type=RecordType.REFRESH))

    assert world.send() == [1]


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


def test_snapshot_is_bracketed_behind_the_v_net_itself() -> None:
    resolver = Resolver(0, 1, 1.0)
    resolver.snapshot(snapshot(revision=9))
    taken = resolver.take_records()
    assert types(taken) == [
        RecordType.SNAPSHOT_BEGIN,
        RecordType.VNET_SET,
        RecordType.SNAPSHOT_BEGIN,
        RecordType.ATTACHMENT_SET,
        RecordType.SNAPSHOT_END,
        RecordType.SNAPSHOT_END,
        RecordType.SYNC,
    ]
    assert {int(b["head"]["revision"][0]) for b in taken[1:-2]} == {9}
    assert [int(b["head"]["vni"][0]) for b in taken] == [0, VNI, VNI, VNI, VNI, 0, 0]
    assert taken[-2]["workers"][0] == 1


def test_v_net_that_the_snapshot_does_not_name_is_removed() -> None:
    world = World()
    world.resolver.snapshot(Snapshot(INCARNATION, 2, 77, []))
    begin, removal, end, sync = world.resolver.take_records()
    assert [int(row["head"]["vni"][0]) for row in (begin, end)] == [0, 0]
    assert sync["head"]["type"][0] == RecordType.SYNC
    assert (removal["head"]["type"][0], removal["head"]["vni"][0]) == (RecordType.VNET_REMOVE, VNI)


def test_v_net_of_another_worker_is_left_to_it() -> None:
    world = World(worker=(VNI + 1) % 2, workers=2)
    assert world.resolver.views == {}
    world.resolver.changed(Changed(VNI, INCARNATION, 2, 0, [scope_operation(1, 2, ChangeKind.TIGHTEN)]))
    assert world.resolver.take_records() == []


def revocation(revision: int, source: int = 1) -> Changed:
    return Changed(VNI, INCARNATION, revision, 0, [scope_operation(source, 2, ChangeKind.TIGHTEN)])


def test_revision_is_in_force_once_the_data_plane_says_so_and_not_when_it_is_sent() -> None:
    world = World()
    assert world.resolver.take_in_force() == 1
    world.data_plane.confirms = False
    world.resolver.changed(revocation(4))
    sync = world.out()[-1]
    assert world.resolver.take_in_force() is None

    world.resolver.records(records(make(RecordType.SYNCED, number=sync["number"])), world.now_s)

    assert world.resolver.take_in_force() == 4
    assert world.resolver.take_in_force() is None


def test_change_behind_a_sync_waits_for_the_next_one() -> None:
    world = World()
    world.data_plane.confirms = False
    world.resolver.changed(revocation(4))
    sync = world.out()[-1]
    world.resolver.changed(revocation(5))
    assert types(world.out()) == [RecordType.CHANGE]
    world.data_plane.confirms = True

    world.resolver.records(records(make(RecordType.SYNCED, number=sync["number"])), world.now_s)

    assert world.resolver.take_in_force() == 4
    assert types(world.out()) == [RecordType.SYNC]
    assert world.resolver.take_in_force() == 5


def test_data_plane_that_takes_anothers_place_hears_first_what_was_revoked_meanwhile() -> None:
    world = World()
    world.data_plane.confirms = False
    world.resolver.changed(revocation(4))
    world.out()
    world.resolver.changed(revocation(5, source=3))
    world.data_plane.confirms = True

    world.resolver.connected({VNI: (INCARNATION, 1)})

    told = world.out()
    assert types(told)[:3] == [RecordType.DIRECTORY_STATE, RecordType.CHANGE, RecordType.CHANGE]
    assert [int(row["head"]["revision"][0]) for row in told[1:3]] == [4, 5]
    assert world.resolver.take_in_force() == 5
    world.resolver.connected({VNI: (INCARNATION, 1)})
    assert RecordType.CHANGE not in types(world.out())


def test_confirmation_that_is_lost_is_asked_for_again() -> None:
    world = World()
    world.data_plane.confirms = False
    world.resolver.changed(revocation(4))
    world.out()
    world.resolver.tick(world.now_s)
    due_s = world.resolver.due_s()
    assert due_s is not None
    world.data_plane.confirms = True

    world.resolver.tick(due_s)

    assert types(world.out()) == [RecordType.SYNC]
    assert world.resolver.take_in_force() == 4


def test_confirmation_of_another_incarnation_reports_nothing() -> None:
    world = World()
    assert world.resolver.take_in_force() == 1
    world.data_plane.confirms = False
    world.resolver.changed(revocation(40))
    sync = world.out()[-1]
    world.resolver.snapshot(snapshot(revision=2, incarnation=INCARNATION + 1))

    world.resolver.records(records(make(RecordType.SYNCED, number=sync["number"])), world.now_s)

    assert world.resolver.take_in_force() is None


def test_data_plane_that_comes_back_is_told_everything_and_old_answers_are_forgotten() -> None:
    world = World()
    world.misses(miss((1, 2), token=11))
    world.send()
    world.resolver.changed(
        Changed(VNI, INCARNATION, 4, 0, [{**VNET_OPERATIONS[1], "op": "attachment_removed"}])
    )
    world.out()

    world.resolver.connected({VNI: (INCARNATION, 1), VNI + 2: (INCARNATION, 1)})

    assert types(world.resolver.take_records()) == [
        RecordType.DIRECTORY_STATE,
        RecordType.SNAPSHOT_BEGIN,
        RecordType.VNET_REMOVE,
        RecordType.VNET_SET,
        RecordType.SNAPSHOT_BEGIN,
        RecordType.SNAPSHOT_END,
        RecordType.SNAPSHOT_END,
        RecordType.CHANGE,  # this process does not know what was decided before it
    ]
    world.answer()
    assert installs(world.resolver.take_records()) == []


def test_operation_that_says_nothing_usable_costs_only_itself() -> None:
    world = World()
    good = {"op": "attachment", "vni": VNI, "object_id": 901, "port": "rack", "vlan": 102, "mtu_bytes": 0}
    bad: list[dict[str, Any]] = [
        {"op": "attachment", "vni": VNI},
        {**good, "vlan": 4096},
        {**good, "vlan": "x"},
        {**good, "port": [1]},
        {**good, "op": "attachment_removed", "port": {}},
        {**good, "vni": VNI + 1},
        {**good, "port": "a-name-that-is-too-long"},
        {"op": "tunnel", "object_id": 1, "local": "1.2.3", "remote": b""},
        {"op": "location", "object_id": 1, "target_id": 2, "node_id": 3, "wire_id": 1, "kind": 9, "mac": MAC},
        {"op": "scope", "vni": VNI, "kind": 9},
        {"op": "scope", "vni": VNI, "kind": 1, "source_bits": 129},
        {"op": "announce", "vni": VNI},
        {"op": "announce", "vni": VNI, "object_id": 1, "mac": MAC, "addresses": ["10.0.0.300"]},
    ]
    world.resolver.changed(Changed(VNI, INCARNATION, 2, 0, [*bad, {"op": "of the future"}, good]))

    assert types(world.resolver.take_records()) == [RecordType.ATTACHMENT_SET, RecordType.SYNC]
    assert world.resolver.counters["operations_malformed"] == len(bad)


def test_unknown_outer_source_is_asked_once_and_its_ingress_is_set() -> None:
    world = World()
    row = make(RecordType.UNKNOWN_LOCATOR, vni=VNI)
    row["key"]["remote"], row["key"]["wire_id"], row["key"]["protocol"] = 7, VNI, 1
    world.misses(row, row)
    (key,) = world.resolver.take_locators()
    world.resolver.asked_locator(50, key)
    world.misses(row)
    assert world.resolver.take_locators() == []

    operation = {
        **{"op": "ingress", "vni": VNI, "node_id": 5, "local": address(9), "remote": address(7)},
        **{"protocol": 1, "wire_id": VNI, "udp_port": 4789, "relay": False, "foreign": True},
    }
    world.resolver.located(Located(50, 3, operation, None), world.now_s)

    (ingress,) = world.resolver.take_records()
    assert ingress["head"]["type"][0] == RecordType.INGRESS_SET
    assert ingress["ingress_flags"][0] == 4


def test_unknown_outer_source_that_nobody_knows_is_not_asked_for_a_while() -> None:
    world = World()
    row = make(RecordType.UNKNOWN_LOCATOR, vni=VNI)
    world.misses(row)
    (key,) = world.resolver.take_locators()
    world.resolver.asked_locator(50, key)
    world.resolver.located(Located(50, 3, None, 5.0), world.now_s)

    world.now_s += 4.9
    world.misses(row)
    assert world.resolver.take_locators() == []
    world.now_s += 0.2
    world.misses(row)
    assert len(world.resolver.take_locators()) == 1


def test_records_of_a_kind_or_version_that_is_not_known_are_counted() -> None:
    world = World()
    odd, old = make(RecordType.PACKET), miss((1, 2), token=1)
    old["head"]["version"] = 2
    world.misses(odd, old)
    assert world.send() == []
    assert world.resolver.counters["records_unknown"] == 2


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
