# SPDX-License-Identifier: Apache-2.0
"""What is gone goes: tunnels that no V-net names, and decisions that a resync at one revision makes old."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from resolver_world import INCARNATION, VNET_OPERATIONS, VNI, address, records

from directory_client.events import Changed, Snapshot
from directory_client.wire import rows as wire
from fastpath.records import ChangeKind, RecordType, Refusal, make
from gateway.slow_path.resolver import Resolver

OTHER = VNI + 1
TUNNEL: dict[str, Any] = {
    **{"op": "tunnel", "object_id": 70, "node_id": 50, "local": address(9), "remote": address(7)},
    **{"udp_port": 4789, "mtu_bytes": 1500, "protocol": 1, "ttl": 64},
}
REMOVED = {"op": "tunnel_removed", "object_id": 70}


def snapshot(*more: dict[str, Any], revision: int = 1, incarnation: int = INCARNATION) -> Snapshot:
    other = [{**VNET_OPERATIONS[0], "vni": OTHER, "object_id": 2}, TUNNEL]
    vnets = [(VNI, [*VNET_OPERATIONS, *more]), (OTHER, other)]
    return Snapshot(incarnation, revision, 77, vnets, closes=True)


def taken(resolver: Resolver) -> list[np.void]:
    return [row for batch in resolver.take_records() for row in batch]


def removed(rows: list[np.void]) -> list[int]:
    return [int(row["object_id"]) for row in rows if row["head"]["type"] == RecordType.TUNNEL_REMOVE]


def moved(rows: list[np.void]) -> list[tuple[int, int]]:
    """(VNI, revision) of changes of kind move that cover everything."""
    for at, row in enumerate(rows):
        if row["head"]["type"] == RecordType.CHANGE:
            assert row["kind"] == ChangeKind.MOVE
            assert all(one["head"]["type"] != RecordType.SNAPSHOT_END for one in rows[at:])
    changes = [row for row in rows if row["head"]["type"] == RecordType.CHANGE]
    return [(int(row["head"]["vni"]), int(row["head"]["revision"])) for row in changes]


@pytest.fixture
def resolver() -> Resolver:
    made = Resolver(0, 1, 1.0)
    made.state(True)
    made.connected({})
    made.snapshot(snapshot(TUNNEL))
    made.take_records()
    made.in_force()  # snapshots are asked for with it
    return made


def push(vni: int, revision: int, *operations: dict[str, Any]) -> Changed:
    return Changed(vni, INCARNATION, revision, 0, list(operations))


def test_a_tunnel_is_removed_with_the_last_v_net_that_names_it(resolver: Resolver) -> None:
    resolver.changed(push(VNI, 2, REMOVED))
    assert removed(taken(resolver)) == []
    resolver.changed(push(OTHER, 2, REMOVED))
    assert removed(taken(resolver)) == [70]
    resolver.changed(push(OTHER, 3, TUNNEL))
    assert removed(taken(resolver)) == []


def test_a_v_net_that_goes_takes_its_tunnels_along(resolver: Resolver) -> None:
    resolver.changed(push(OTHER, 2, {"op": "vnet_removed", "vni": OTHER, "object_id": 2}))
    assert removed(taken(resolver)) == []
    resolver.changed(push(VNI, 2, {"op": "vnet_removed", "vni": VNI, "object_id": 1}))
    assert removed(taken(resolver)) == [70]


def test_a_removed_tunnel_is_not_told_to_another_data_plane(resolver: Resolver) -> None:
    resolver.changed(push(VNI, 2, REMOVED))
    resolver.changed(push(OTHER, 2, REMOVED))
    resolver.connected(dict.fromkeys((VNI, OTHER), (INCARNATION, 1)))
    assert not [row for row in taken(resolver) if row["head"]["type"] == RecordType.TUNNEL_SET]


def test_an_answer_from_before_its_removal_does_not_bring_a_tunnel_back(resolver: Resolver) -> None:
    def told(revision: int) -> bool:
        row = np.zeros(1, wire.TUNNEL)
        row["object_id"], row["revision"], row["udp_port"], row["mtu_bytes"] = 70, revision, 4789, 1500
        return bool(resolver._tables.answer(row, np.zeros(0, wire.LOCATION), 1))

    resolver.changed(push(VNI, 3, REMOVED))
    resolver.changed(push(OTHER, 3, REMOVED))
    assert not told(2)
    assert told(3)  # of that revision, but with newer locators
    resolver.changed(push(OTHER, 5, TUNNEL))
    assert told(6)


def test_that_a_tunnel_was_gone_already_makes_nothing_else_unknown(resolver: Resolver) -> None:
    row = np.zeros(1, wire.TUNNEL)
    row["object_id"], row["revision"] = 71, 1
    assert resolver._tables.answer(row, np.zeros(0, wire.LOCATION), 1)
    refused = make(
        RecordType.REFUSED, refused_type=RecordType.TUNNEL_REMOVE, why=Refusal.UNKNOWN_OBJECT, object=70
    )
    resolver.records(records(refused), 0.0)
    assert not resolver._tables.answer(row, np.zeros(0, wire.LOCATION), 1)


# ---- resync at one revision


def test_a_resync_at_one_revision_with_other_locators_makes_decisions_old(resolver: Resolver) -> None:
    resolver.snapshot(snapshot(TUNNEL))
    assert moved(taken(resolver)) == []  # nothing differs
    resolver.snapshot(snapshot({**TUNNEL, "object_id": 71, "remote": address(8)}))
    assert moved(taken(resolver)) == [(VNI, 1)]
    resolver.snapshot(snapshot(TUNNEL, revision=2))
    assert moved(taken(resolver)) == []  # all that is older is asked again anyway
    resolver.snapshot(snapshot(incarnation=INCARNATION + 1, revision=2))
    assert moved(taken(resolver)) == []


@pytest.mark.parametrize("snapshot_first", [True, False])
def test_a_process_that_starts_does_not_know_what_was_decided_before_it(snapshot_first: bool) -> None:
    resolver = Resolver(0, 1, 1.0)
    if snapshot_first:
        resolver.snapshot(snapshot(TUNNEL))
        resolver.connected({VNI: (INCARNATION, 1)})
    else:
        resolver.connected({VNI: (INCARNATION, 1)})
        resolver.snapshot(snapshot(TUNNEL))
    assert moved(taken(resolver)) == [(VNI, 1)]  # the other one is new there
    resolver.connected(dict.fromkeys((VNI, OTHER), (INCARNATION, 1)))
    assert (
        moved(taken(resolver)) == []
    )  # all that was pushed is known to have been applied, or has a revision


def test_locators_that_changed_while_the_data_plane_was_away_make_decisions_old(resolver: Resolver) -> None:
    resolver.snapshot(snapshot(TUNNEL, revision=4))
    resolver.take_records()
    resolver.changed(push(VNI, 4, REMOVED))
    resolver.connected(dict.fromkeys((VNI, OTHER), (INCARNATION, 1)))
    rows = taken(resolver)
    assert moved(rows) == [(VNI, 4)]
    (sync,) = (row for row in rows if row["head"]["type"] == RecordType.SYNC)
    resolver.records(records(make(RecordType.SYNCED, number=sync["number"])), 0.0)
    resolver.connected(dict.fromkeys((VNI, OTHER), (INCARNATION, 1)))
    assert moved(taken(resolver)) == []  # it has been applied
