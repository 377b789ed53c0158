# SPDX-License-Identifier: Apache-2.0
"""What finds no room in the data plane's tables is said, and comes by itself once there is room."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from resolver_world import INCARNATION, VNI, miss, records

from directory_client.events import Changed, Snapshot
from fastpath.records import RECORD, RecordType, Refusal, make, select
from gateway.processes.report import NoRoom
from gateway.slow_path.resolver import Resolver
from gateway.slow_path.room import LAPSE_S, Room, by_table, to_declare

VNIS = range(7001, 7009)


class Tables:
    """A data plane that has room for so many V-nets and attachments."""

    def __init__(self, vnets: int, attachments: int) -> None:
        self.vnets_max, self.attachments_max = vnets, attachments
        self.vnets: set[int] = set()
        self.attachments: set[tuple[int, int]] = set()

    def apply(self, batches: list[np.ndarray]) -> np.ndarray:
        """Apply records; returns what it answers."""
        answers = [one for batch in batches for row in batch for one in self._apply(row)]
        return records(*answers) if answers else np.zeros(0, RECORD)

    def _apply(self, row: Any) -> list[np.ndarray]:
        kind, vni = int(row["head"]["type"]), int(row["head"]["vni"])
        refuse = {"vni": vni, "refused_type": kind}
        if kind == RecordType.SYNC:
            return [make(RecordType.SYNCED, number=row["number"])]
        if kind == RecordType.VNET_SET:
            if vni not in self.vnets and len(self.vnets) >= self.vnets_max:
                return [make(RecordType.REFUSED, why=Refusal.NO_ROOM, **refuse)]
            self.vnets.add(vni)
        elif kind == RecordType.VNET_REMOVE:
            self.vnets.discard(vni)
            self.attachments = {one for one in self.attachments if one[0] != vni}
        elif kind in (RecordType.ATTACHMENT_SET, RecordType.ATTACHMENT_REMOVE):
            if vni not in self.vnets:
                return [make(RecordType.REFUSED, why=Refusal.UNKNOWN_VNET, **refuse)]
            place = (vni, int(row["object_id"]))
            if kind == RecordType.ATTACHMENT_REMOVE:
                self.attachments.discard(place)
            elif place not in self.attachments and len(self.attachments) >= self.attachments_max:
                return [make(RecordType.REFUSED, why=Refusal.NO_ROOM, **refuse)]
            else:
                self.attachments.add(place)
        return []


def operations(vni: int) -> list[dict[str, Any]]:
    place = {"op": "attachment", "vni": vni, "object_id": vni * 10, "port": "rack", "vlan": vni % 100}
    vnet = {"op": "vnet", "vni": vni, "object_id": vni, "name": f"net-{vni}", "gateway_mac": b"\2\0\0\0\0\1"}
    return [vnet, {**place, "mtu_bytes": 1500}]


def removal(vni: int) -> list[dict[str, Any]]:
    return [{"op": "vnet_removed", "vni": vni, "object_id": vni}]


def run_for(resolver: Resolver, tables: Tables, now_s: float, seconds: float) -> float:
    until_s = now_s + seconds
    while now_s < until_s:
        resolver.tick(now_s)
        resolver.records(tables.apply(resolver.take_records()), now_s)
        resolver.take_in_force()
        now_s += 0.25
    return now_s


@pytest.mark.parametrize("seed", range(20))
def test_as_much_as_has_room_is_there_and_the_rest_is_named(seed: int) -> None:
    random = Random(seed)
    tables = Tables(random.randint(1, 6), random.randint(1, 8))
    resolver = Resolver(0, 1, 1.0)
    resolver.state(True)
    declared = {vni for vni in VNIS if random.random() < 0.7}
    resolver.snapshot(Snapshot(INCARNATION, 1, 1, [(vni, operations(vni)) for vni in sorted(declared)]))
    now_s = 100.0
    for revision in range(2, 30):
        vni = random.choice(VNIS)
        ops = removal(vni) if vni in declared else operations(vni)
        declared ^= {vni}
        resolver.changed(Changed(vni, INCARNATION, revision, 0, ops))
        now_s = run_for(resolver, tables, now_s, random.choice((0.25, 1.0, 4.0)))
    run_for(resolver, tables, now_s, 40.0)

    lacking: dict[str, set[int]] = {"vnets": set(), "ingresses": set()}
    for vni, name, table in resolver.no_room():
        assert name == f"net-{vni}"
        lacking[table].add(vni)
    assert tables.vnets <= declared
    assert len(tables.vnets) == min(tables.vnets_max, len(declared))
    assert lacking["vnets"] == declared - tables.vnets
    placed = {vni for vni, _ in tables.attachments}
    assert len(placed) == min(tables.attachments_max, len(tables.vnets))
    assert lacking["ingresses"] == tables.vnets - placed


def test_what_finds_no_room_is_known_before_its_revision_is_in_force() -> None:
    resolver, tables = Resolver(0, 1, 1.0), Tables(1, 8)
    resolver.state(True)
    resolver.snapshot(Snapshot(INCARNATION, 4, 1, [(vni, operations(vni)) for vni in (7001, 7002)]))
    resolver.records(tables.apply(resolver.take_records()), 100.0)
    assert resolver.take_in_force() == 4
    assert resolver.no_room() == [(7002, "net-7002", "vnets")]
    assert by_table(resolver.no_room()) == {"vnets": NoRoom(1, ["net-7002"])}


def refused_flow(why: Refusal) -> np.ndarray:
    row = make(
        RecordType.REFUSED, vni=VNI, refused_type=RecordType.FLOW_INSTALL, why=why, object=300, token=7
    )
    row["key"] = miss((1, 2))["key"]
    return row


def refused_location() -> np.ndarray:
    return make(
        RecordType.REFUSED, vni=VNI, refused_type=RecordType.LOCATION_SET, why=Refusal.QUOTA, object=300
    )


def test_a_connection_whose_location_finds_no_room_ends_with_that_name() -> None:
    resolver = Resolver(0, 1, 1.0)
    resolver.records(records(miss((1, 2), 7)), 100.0)
    resolver.take_questions(100.0)
    resolver.records(records(refused_location(), refused_flow(Refusal.UNKNOWN_OBJECT)), 100.0)
    (row,) = select(np.concatenate(resolver.take_records()), RecordType.RELEASE_DROP)
    assert (int(row["token"]), int(row["reason"])) == (7, 66)
    assert resolver.take_questions(101.0) == []
    assert [table for _, _, table in resolver.no_room()] == ["locations"]
    resolver.tick(100.0 + LAPSE_S)
    assert resolver.no_room() == []


def test_the_directory_is_told_that_tunnels_find_no_room() -> None:
    """No change that comes then may count as applied; a location that finds none costs its flows only."""
    room = Room()
    told = [(VNI, RecordType.LOCATION_SET), (VNI, RecordType.VNET_SET), (0, RecordType.TUNNEL_SET)]
    refusals = [
        make(RecordType.REFUSED, vni=vni, refused_type=kind, why=Refusal.NO_ROOM) for vni, kind in told
    ]
    room.refused(select(records(*refusals), RecordType.REFUSED), 0.0)
    lacking = [(vni, "red" if vni else "", table) for vni, table in room.lacking()]
    assert to_declare(lacking) == [(0, "", "tunnels"), (VNI, "red", "vnets")]
    room.take_due(LAPSE_S + 1.0)
    assert (0, "tunnels") not in room.lacking()


def test_a_removed_v_net_makes_others_be_tried_at_once() -> None:
    room = Room()
    full = make(RecordType.REFUSED, vni=7002, refused_type=RecordType.VNET_SET, why=Refusal.NO_ROOM)
    room.refused(full, 100.0)
    assert room.due_s() == 101.0
    room.gone(7001)
    assert [one.vni for one in room.take_due(100.1)] == [7002]
    room.gone(7002)
    assert room.due_s() is None


def test_other_refusals_say_nothing_of_room() -> None:
    room = Room()
    for kind, why in (
        (RecordType.VNET_SET, Refusal.MALFORMED),
        (RecordType.FLOW_INSTALL, Refusal.QUOTA),
        (RecordType.ATTACHMENT_SET, Refusal.CONFLICT),
    ):
        room.refused(make(RecordType.REFUSED, vni=7001, refused_type=kind, why=why), 100.0)
    assert room.due_s() is None
