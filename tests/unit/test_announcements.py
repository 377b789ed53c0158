# SPDX-License-Identifier: Apache-2.0
"""Who is here now, or has left, is announced: where it has to be, more than once, while it is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from resolver_world import ATTACHMENT, INCARNATION, MAC, VNET_OPERATIONS, VNI, address, records
from scapy.layers.l2 import ARP, Ether

from directory_client.events import Changed, Snapshot
from fastpath.records import RecordType, make
from gateway.slow_path.announcement import described
from gateway.slow_path.announcer import FRAMES_PER_S, KEPT_MAX, MEMORY_S
from gateway.slow_path.resolver import Resolver

VTEP, OURS, ENDPOINT, TO_VTEP = 50, 51, 2000, 70
TUNNEL = {
    **{"op": "tunnel", "profile_id": 1, "local": address(9), "udp_port": 4789, "mtu_bytes": 1500},
    **{"protocol": 1, "ttl": 64, "dscp": 0, "dscp_copy": 1},
}
INGRESS = {"op": "ingress", "vni": VNI, "local": address(9), "protocol": 1, "udp_port": 4789}
LOCATION = {"op": "location", "vni": VNI, "object_id": ENDPOINT, "node_id": 77, "wire_id": VNI, "mac": MAC}
HERE = {**LOCATION, "kind": 1, "target_id": ATTACHMENT}
AWAY = {**LOCATION, "kind": 2, "target_id": 71, "node_id": OURS}
ARRIVAL = {
    **{"op": "announce", "vni": VNI, "object_id": ENDPOINT, "mac": MAC, "addresses": [address(5)]},
    "attachments": [ATTACHMENT],
}
LEFT = {**{k: v for k, v in ARRIVAL.items() if k != "attachments"}, "op": "announce_left"}
WORLD: list[dict[str, Any]] = [
    *VNET_OPERATIONS,
    {"op": "attachment", "vni": VNI, "object_id": 901, "port": "rack", "vlan": 102, "mtu_bytes": 0},
    {**TUNNEL, "object_id": TO_VTEP, "node_id": VTEP, "remote": address(7)},
    {**TUNNEL, "object_id": 71, "node_id": OURS, "remote": address(8)},
    {**INGRESS, "node_id": VTEP, "remote": address(7), "wire_id": 99, "foreign": True},
    {**INGRESS, "node_id": OURS, "remote": address(8), "wire_id": VNI, "foreign": False},
]
TOLD = [(1, 901, 0), (2, TO_VTEP, 99)]


def snapshot(*more: dict[str, Any], revision: int = 1) -> Snapshot:
    return Snapshot(INCARNATION, revision, 77, [(VNI, [*WORLD, *more])])


def change(revision: int, *operations: dict[str, Any]) -> Changed:
    return Changed(VNI, INCARNATION, revision, 0, list(operations))


@pytest.fixture
def resolver() -> Resolver:
    made = Resolver(0, 1, 1.0)
    made.state(True)
    made.connected({})
    made.snapshot(snapshot(HERE))
    made.take_records()
    return made


def sent(resolver: Resolver, now_s: float) -> list[np.void]:
    resolver.announce(now_s)
    rows = [row for batch in resolver.take_records() for row in batch]
    return [row for row in rows if row["head"]["type"] == RecordType.PACKET_OUT]


def targets(resolver: Resolver, now_s: float) -> list[tuple[int, int, int]]:
    found = [(int(r["kind"]), int(r["target_id"]), int(r["wire_id"])) for r in sent(resolver, now_s)]
    return found


def up(object_id: int) -> np.ndarray:
    return make(RecordType.TUNNEL_UP, object_id=object_id)


def times(resolver: Resolver, until_s: float) -> list[float]:
    """Let time pass from one due moment to the next; return when something was sent."""
    found = []
    while (due_s := resolver.announcements_due_s()) is not None and due_s <= until_s:
        if targets(resolver, max(due_s, 100.0)):
            found.append(max(due_s, 100.0))
    return found


def test_arrival_is_announced_to_other_attachments_and_foreign_vteps_only(resolver: Resolver) -> None:
    resolver.changed(change(3, ARRIVAL))
    rows = sent(resolver, 100.0)
    assert [(int(r["kind"]), int(r["target_id"]), int(r["wire_id"])) for r in rows] == TOLD
    frame = Ether(rows[0]["data"].tobytes()[: int(rows[0]["frame_bytes"])])
    assert (frame.dst, frame.src) == ("ff:ff:ff:ff:ff:ff", "02:00:0a:00:00:01")
    assert (frame[ARP].op, frame[ARP].psrc, frame[ARP].pdst) == (1, "10.0.0.5", "10.0.0.5")
    assert frame[ARP].hwsrc == "02:00:0a:00:00:01"


def test_the_tunnel_is_told_before_what_goes_into_it(resolver: Resolver) -> None:
    resolver.changed(change(3, ARRIVAL))
    resolver.announce(100.0)
    kinds = [int(row["head"]["type"]) for batch in resolver.take_records() for row in batch]
    assert kinds.index(RecordType.TUNNEL_SET) < kinds.index(RecordType.PACKET_OUT)


def test_who_lives_at_two_attachments_is_announced_at_neither(resolver: Resolver) -> None:
    resolver.changed(change(3, {**ARRIVAL, "attachments": [ATTACHMENT, 901]}))
    assert targets(resolver, 100.0) == TOLD[1:]


def test_a_move_is_announced_five_times_and_no_more(resolver: Resolver) -> None:
    resolver.changed(change(3, ARRIVAL))
    assert times(resolver, 1000.0) == [100.0, 101.0, 103.0, 107.0, 115.0]
    assert resolver.counters["announced"] == 5


def test_the_segment_that_lost_it_finds_it_behind_the_gateway(resolver: Resolver) -> None:
    resolver.changed(change(3, AWAY, LEFT))
    assert targets(resolver, 100.0) == [(1, ATTACHMENT, 0), (1, 901, 0)]  # no VTEP: it is not here


def test_what_comes_back_is_here_and_no_longer_gone(resolver: Resolver) -> None:
    resolver.changed(change(3, AWAY, LEFT))
    assert targets(resolver, 100.0)
    resolver.changed(change(4, HERE, ARRIVAL))
    assert targets(resolver, 100.5) == TOLD
    assert targets(resolver, 101.0) == []  # when its leaving was to be told again
    assert targets(resolver, 101.5) == TOLD


@pytest.mark.parametrize(
    "operation",
    [
        AWAY,
        {"op": "location_removed", "vni": VNI, "object_id": ENDPOINT},
        {"op": "vnet_removed", "vni": VNI, "object_id": 1},
    ],
)
def test_what_moved_on_or_is_gone_is_announced_no_more(resolver: Resolver, operation: dict) -> None:
    resolver.changed(change(3, ARRIVAL))
    assert targets(resolver, 100.0) == TOLD
    resolver.changed(change(4, operation))
    assert times(resolver, 1000.0) == []


def test_a_tunnel_that_gets_a_next_hop_hears_who_came_meanwhile(resolver: Resolver) -> None:
    resolver.changed(change(3, ARRIVAL))
    assert len(times(resolver, 200.0)) == 5
    resolver.records(records(up(71), up(999)), 250.0)
    assert TOLD[1] in targets(resolver, 250.0)  # the V-net's, though not the VTEP's
    assert len(times(resolver, 290.0)) == 4
    resolver.records(records(up(TO_VTEP)), 390.0)
    assert targets(resolver, 390.0) == TOLD
    resolver.records(records(up(TO_VTEP)), 100.0 + MEMORY_S)
    assert targets(resolver, 100.0 + MEMORY_S) == []


def test_another_data_plane_announces_what_the_one_before_may_not_have(resolver: Resolver) -> None:
    resolver.changed(change(3, ARRIVAL))
    resolver.connected({VNI: (INCARNATION, 1)})  # the first frame has not been sent
    assert targets(resolver, 100.0) == TOLD
    assert len(times(resolver, 200.0)) == 4
    resolver.connected({VNI: (INCARNATION, 1)})
    assert targets(resolver, 200.0) == TOLD


def test_a_slow_path_that_starts_anew_announces_the_moves_of_its_first_snapshot(resolver: Resolver) -> None:
    resolver.snapshot(snapshot(HERE, ARRIVAL))
    assert targets(resolver, 100.0) == TOLD
    resolver.snapshot(snapshot(HERE, ARRIVAL))  # what is known already begins nothing anew
    assert targets(resolver, 100.5) == []
    assert times(resolver, 1000.0) == [101.0, 103.0, 107.0, 115.0]


def test_announcements_are_bounded_in_number_and_rate() -> None:
    resolver = Resolver(0, 1, 1.0)
    count = KEPT_MAX + 10
    here = [{**HERE, "object_id": n} for n in range(1, count + 1)]
    resolver.snapshot(snapshot(*here))
    resolver.take_records()
    resolver.changed(change(2, *({**ARRIVAL, "object_id": n} for n in range(1, count + 1))))
    now_s, frames = 100.0, []
    while (due_s := resolver.announcements_due_s()) is not None and now_s < 200.0:
        now_s = max(now_s, due_s)
        frames += [now_s] * len(sent(resolver, now_s))
    assert len(frames) == 2 * 5 * KEPT_MAX
    for second in range(100, int(frames[-1]) + 1):
        assert sum(second <= at < second + 1 for at in frames) <= 1.3 * FRAMES_PER_S
    assert 2 * 5 * KEPT_MAX / FRAMES_PER_S - 1 <= frames[-1] - frames[0] < 60


def test_an_event_names_the_endpoint() -> None:
    assert described({**ARRIVAL, "name": "red/web-1"}, VNI).startswith("red/web-1 02:")
    assert described(ARRIVAL, VNI).startswith(f"V-net {VNI}: 02:")
    assert described({"op": "announce", "name": 7}, VNI) == f"V-net {VNI}: an endpoint"
