# SPDX-License-Identifier: Apache-2.0
"""The resolver: what the directory tells becomes records, and is in force once the data plane says so."""

from __future__ import annotations

from typing import Any

from resolver_bench import World, installs, types
from resolver_world import (
    INCARNATION,
    MAC,
    VNET_OPERATIONS,
    VNI,
    address,
    miss,
    records,
    scope_operation,
    snapshot,
)

from directory_client.events import Changed, Located, Snapshot
from fastpath.records import ChangeKind, RecordType, make
from gateway.slow_path.resolver import Resolver


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
