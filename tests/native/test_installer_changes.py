# SPDX-License-Identifier: Apache-2.0
"""What a change closes, marks or leaves alone, and what it says then."""

from __future__ import annotations

from installing import (
    BLUE,
    FAR,
    RACK,
    RED,
    TUNNEL,
    action_of,
    all_rows,
    applied,
    attachment,
    change,
    flow,
    flow_key,
    ingress,
    ip,
    location,
    open_arena,
    peering,
    refusals,
    snapshot_begin,
    snapshot_end,
    tunnel,
    vnet,
)

from fastpath import records
from fastpath.records import (
    Action,
    ChangeKind,
    KeyClass,
    KeyFlag,
    RecordFlag,
    RecordType,
    ScopeFlag,
    join,
    make,
    make_keys,
)


def test_change_of_the_other_vnet_closes_flows_into_it(arena, red_key):
    arena.apply(peering(RED, BLUE))
    assert applied(arena, flow(RED, red_key, RACK, destination=FAR + 1, destination_vni=BLUE))

    arena.apply(change(BLUE, 9, destination="10.0.0.0/24"))

    assert action_of(arena, red_key) == Action.NONE


def test_tightening_closes_what_it_covers_at_once_and_nothing_else(arena, red_key):
    other = flow_key(red_key["ingress"], destination="10.0.1.2")
    for key in (red_key, other):
        assert applied(arena, flow(RED, key, RACK, destination=FAR))

    assert applied(arena, change(RED, 5, destination="10.0.0.0/24"))

    assert action_of(arena, red_key) == Action.NONE
    assert action_of(arena, other) == Action.ENCAPSULATE


def test_batch_of_changes_is_scanned_at_its_last(arena, red_key):
    other = flow_key(red_key["ingress"], destination="10.0.1.2")
    for key in (red_key, other):
        arena.apply(flow(RED, key, RACK, destination=FAR))

    arena.apply(change(RED, 5, destination="10.0.0.0/24", flags=RecordFlag.FIRST))
    arena.apply(change(RED, 5, destination="10.0.1.0/24", flags=RecordFlag.LAST))

    assert action_of(arena, red_key) == action_of(arena, other) == Action.NONE


def test_batch_that_never_ends_closes_at_the_next_tick(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR))
    arena.apply(change(RED, 5, flags=RecordFlag.FIRST))

    arena.tick()

    assert action_of(arena, red_key) == Action.NONE


def synced(arena) -> list[int]:
    rows = [row for _, row in arena.taken()["emitted"] if row["head"]["type"] == RecordType.SYNCED]
    return [int(row.reshape(1).view(records.SYNC)["number"][0]) for row in rows]


def test_synced_is_said_when_what_was_revoked_before_it_is_closed(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR))
    arena.apply(change(RED, 5, flags=RecordFlag.FIRST))  # its last one never comes

    assert applied(arena, make(RecordType.SYNC, number=7))

    assert action_of(arena, red_key) == Action.NONE
    assert synced(arena) == [7]


def test_synced_waits_for_a_reader_that_may_still_act_on_a_revoked_flow(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR))
    arena.reader_register(0)
    arena.reader_online(0)  # it has looked the flow up, say
    arena.apply(change(RED, 5))

    assert applied(arena, make(RecordType.SYNC, number=8))
    arena.tick()
    assert synced(arena) == []

    arena.reader_quiescent(0)
    arena.tick()
    assert synced(arena) == [8]
    arena.reader_offline(0)
    arena.reader_unregister(0)


def test_ports_of_a_change_spare_other_connections_but_no_pair(arena, red_key):
    def connection(port):
        return flow_key(
            red_key["ingress"],
            protocol=6,
            flags=KeyFlag.CONNECTION,
            destination_port=int.from_bytes(port.to_bytes(2, "little"), "big"),
        )

    for key in (red_key, connection(22), connection(443)):
        assert applied(arena, flow(RED, key, RACK, destination=FAR))

    arena.apply(change(RED, 5, protocol=6, ports=(20, 30)))

    assert [action_of(arena, k) for k in (red_key, connection(22), connection(443))] == [
        Action.NONE,
        Action.NONE,
        Action.ENCAPSULATE,
    ]


def test_flags_of_a_change_spare_pairs_arp_and_other_source_ports(arena, red_key):
    def connection(port):
        number = int.from_bytes(port.to_bytes(2, "little"), "big")
        return flow_key(red_key["ingress"], protocol=17, flags=KeyFlag.CONNECTION, source_port=number)

    keys = [red_key, connection(7150), connection(7400)]
    for key in keys:
        assert applied(arena, flow(RED, key, RACK, destination=FAR))
    flags = ScopeFlag.SOURCE_PORT | ScopeFlag.CONNECTIONS

    assert applied(arena, change(RED, 5, protocol=17, ports=(7150, 7150), scope_flags=flags))

    assert [action_of(arena, key) for key in keys] == [Action.ENCAPSULATE, Action.NONE, Action.ENCAPSULATE]


def test_change_of_what_rules_judge_spares_arp(arena, red_key):
    arp = flow_key(red_key["ingress"], key_class=KeyClass.NEIGHBOR)
    for key in (red_key, arp):
        assert applied(arena, flow(RED, key, RACK, destination=FAR))

    assert applied(arena, change(RED, 5, scope_flags=ScopeFlag.JUDGED))

    assert [action_of(arena, key) for key in (red_key, arp)] == [Action.NONE, Action.ENCAPSULATE]


def test_loosening_keeps_forwarding_marks_and_asks_again(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR))
    arena.apply(change(RED, 5, kind=ChangeKind.LOOSEN))

    arena.settle()

    assert action_of(arena, red_key) == Action.ENCAPSULATE
    assert all_rows(arena.dump.flows)[0]["stale"]
    asked = [row for _, row in arena.taken()["emitted"] if row["head"]["type"] == RecordType.REFRESH]
    assert len(asked) == 1
    miss = asked[0].reshape(1).view(records.MISS)[0]
    assert miss["current_object"] == FAR, "who serves it now stays, of several that could"
    assert (miss["key"].tobytes(), int(miss["token"]), int(miss["ingress_object"])) == (
        red_key.tobytes(),
        0,
        RACK,
    )

    assert applied(arena, flow(RED, red_key, RACK, destination=FAR, revision=5))
    assert not all_rows(arena.dump.flows)[0]["stale"]


def test_refreshes_are_bounded_per_tick(arena, red_key):
    keys = make_keys(600, ingress=red_key["ingress"][0], key_class=KeyClass.ROUTED, source=ip("10.0.0.1"))
    keys["destination"][:, 14] = [i >> 8 for i in range(600)]
    keys["destination"][:, 15] = [i & 255 for i in range(600)]
    arena.apply(flow(RED, keys, RACK, destination=FAR, n=600))
    arena.apply(change(RED, 5, kind=ChangeKind.MOVE))

    arena.tick()
    first = len(arena.taken()["emitted"])
    arena.settle()

    assert first == 128
    assert first + len(arena.taken()["emitted"]) == 600


def test_refreshes_that_one_tick_leaves_come_at_the_next():
    """A lap over this table takes four ticks, which are 100 ms apart while nothing else happens."""
    with open_arena(flows=60_000) as arena:
        far = [ingress(RED, 9, "192.0.2.2"), tunnel(TUNNEL), location(RED, FAR)]
        arena.apply(join([vnet(RED), attachment(RED, RACK, vlan=10), *far]))
        arena.settle()
        keys = make_keys(
            600, ingress=arena.ingress_by_vlan(0, 10), key_class=KeyClass.ROUTED, source=ip("10.0.0.1")
        )
        keys["destination"][:, 14] = [i >> 8 for i in range(600)]
        keys["destination"][:, 15] = [i & 255 for i in range(600)]
        arena.apply(flow(RED, keys, RACK, destination=FAR, n=600))
        arena.apply(change(RED, 5, kind=ChangeKind.MOVE))
        arena.taken()

        asked = [len(arena.taken()["emitted"]) for _ in range(12) if arena.tick() or True]

    while asked and asked[0] == 0:  # until the lap is where the flows are
        del asked[0]
    assert asked[:5] == [128, 128, 128, 128, 88]


def test_old_change_is_no_news_after_a_snapshot(arena, red_key):
    arena.apply(snapshot_begin(RED))
    arena.apply(attachment(RED, RACK, vlan=10))
    arena.apply(snapshot_end(RED, 10))
    assert applied(arena, flow(RED, red_key, RACK, Action.DROP, destination=0, revision=10))

    assert applied(arena, change(RED, 9))

    assert action_of(arena, red_key) == Action.DROP


def test_a_change_at_the_revision_of_the_snapshot_is_applied(arena, red_key):
    arena.apply(snapshot_begin(RED))
    arena.apply(attachment(RED, RACK, vlan=10))
    arena.apply(snapshot_end(RED, 10))
    assert applied(arena, flow(RED, red_key, RACK, Action.DROP, destination=0, revision=10))

    assert applied(arena, change(RED, 10))

    assert action_of(arena, red_key) != Action.DROP


def test_more_changes_than_are_kept_raise_the_floor(arena, red_key):
    for revision in range(1, 300):
        assert applied(arena, change(RED, revision, destination="172.16.0.0/12"))

    assert not applied(arena, flow(RED, red_key, RACK, destination=FAR, revision=40))
    assert refusals(arena) == ["LATE"]
    assert applied(arena, flow(RED, red_key, RACK, destination=FAR, revision=50))


def test_many_changes_of_one_revision_are_all_applied(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR))
    for i in range(300):
        arena.apply(change(RED, 7, destination=f"172.16.{i // 250}.{i % 250}/32"))

    assert applied(arena, change(RED, 7, destination="10.0.0.2/32"))

    assert action_of(arena, red_key) == Action.NONE


def test_change_of_another_store_is_refused(arena):
    assert not applied(arena, change(RED, 5, incarnation=2))
    assert refusals(arena) == ["OTHER_INCARNATION"]
