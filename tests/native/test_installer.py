# SPDX-License-Identifier: Apache-2.0
"""What each record does to the tables, one fact a test."""

from __future__ import annotations

import errno

import pytest
from installing import (
    BLUE,
    RED,
    all_rows,
    attachment,
    attachment_remove,
    change,
    flow,
    flow_key,
    ingress,
    ip,
    location,
    location_remove,
    locator_key,
    nexthop,
    open_arena,
    peering,
    refusals,
    snapshot_begin,
    snapshot_end,
    tunnel,
    tunnels_begin,
    tunnels_end,
    vnet,
    vnet_remove,
)

from fastpath import records
from fastpath.records import (
    Action,
    ChangeKind,
    IngressFlag,
    KeyClass,
    KeyFlag,
    LocationKind,
    RecordFlag,
    RecordType,
    ScopeFlag,
    join,
    make,
    make_keys,
    packet_spans,
)

RACK, SERVER, WEB, TUNNEL, FAR = 100, 200, 201, 500, 300

MS = 1_000_000


@pytest.fixture
def arena():
    """Red and blue, each with an attachment on rack; red has a server here and one far away."""
    with open_arena() as arena:
        set_up = [
            vnet(RED),
            vnet(BLUE),
            attachment(RED, RACK, vlan=10),
            attachment(BLUE, RACK + 1, vlan=20),
            tunnel(TUNNEL),
            nexthop(),
            ingress(RED, 9, "192.0.2.2"),
            ingress(BLUE, 9, "192.0.2.2"),
            location(RED, FAR),
            location(RED, SERVER, "local", RACK),
            location(BLUE, FAR + 1),
            location(BLUE, SERVER + 1, "local", RACK + 1),
        ]
        assert not arena.apply(join(set_up)).any()
        arena.taken()
        yield arena


@pytest.fixture
def red_key(arena):
    return flow_key(arena.ingress_by_vlan(0, 10))


def applied(arena, record, worker=None) -> bool:
    return not arena.apply(record, worker).any()


def action_of(arena, key) -> Action:
    return Action(int(arena.lookup(key)[0]) >> 56)


# ---- flows


def test_flow_leads_to_its_location(arena, red_key):
    assert applied(arena, flow(RED, red_key, RACK, source=SERVER, destination=FAR, revision=3))

    row = all_rows(arena.dump.flows)[0]
    assert action_of(arena, red_key) == Action.ENCAPSULATE
    assert (row["vni"], row["source_object"], row["destination_object"], row["revision"]) == (
        RED,
        SERVER,
        FAR,
        3,
    )
    assert (row["source"], row["destination"], row["class"], row["level"]) == (
        "10.0.0.1",
        "10.0.0.2",
        "routed",
        "pair",
    )


def test_decision_releases_what_waits_for_it_and_an_update_does_too(arena, red_key):
    for token in (77, 78):
        assert applied(arena, flow(RED, red_key, RACK, destination=FAR, token=token))

    released = arena.taken()["released"]
    assert [(token, word >> 56, key) for token, word, key in released] == [
        (77, Action.ENCAPSULATE, red_key.tobytes()),
        (78, Action.ENCAPSULATE, red_key.tobytes()),
    ]


def test_refusal_is_cached_with_its_reason(arena, red_key):
    assert applied(arena, flow(RED, red_key, RACK, Action.DROP, destination=0, reason=48))

    assert all_rows(arena.dump.flows)[0]["reason"] == "denied"
    assert int(arena.lookup(red_key)[0]) & 0xFFFFFF == 48


def test_flow_expires_and_is_forgotten(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR, lifetime_ms=2500))

    arena.advance(1.5)
    assert action_of(arena, red_key) == Action.ENCAPSULATE
    arena.advance(1)
    assert action_of(arena, red_key) == Action.NONE
    arena.advance(60)
    assert all_rows(arena.dump.flows) == []


@pytest.mark.parametrize("lifetime_ms", [1, 250, 999, 1000, 1001, 2500])
@pytest.mark.parametrize("phase_ms", [0, 1, 250, 999])
def test_no_decision_lives_longer_than_it_was_made_for_and_none_ends_a_second_before(
    arena, red_key, lifetime_ms, phase_ms
):
    arena.tick(arena.now_ns + phase_ms * MS)
    made_ns = arena.now_ns
    assert applied(arena, flow(RED, red_key, RACK, destination=FAR, lifetime_ms=lifetime_ms))

    arena.tick(made_ns + max(0, lifetime_ms - 1000) * MS)
    assert lifetime_ms <= 1000 or action_of(arena, red_key) == Action.ENCAPSULATE
    arena.tick(made_ns + lifetime_ms * MS)
    assert action_of(arena, red_key) == Action.NONE


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"action": 0}, "MALFORMED"),
        ({"action": 7}, "MALFORMED"),
        ({"action": 255}, "MALFORMED"),
        ({"action": Action.DROP, "reason": 127}, "MALFORMED"),
        ({"lifetime_ms": 0}, "MALFORMED"),
        ({"lifetime_ms": 0xFFFFFFFF}, "MALFORMED"),
        ({"destination_object": 0}, "MALFORMED"),
        ({"destination_object": 999}, "UNKNOWN_OBJECT"),
        ({"source_object": 999}, "UNKNOWN_OBJECT"),
        ({"destination_vni": 9999}, "UNKNOWN_VNET"),
        ({"destination_vni": BLUE}, "OTHER_VNET"),
        ({"ingress_object": RACK + 1}, "UNKNOWN_OBJECT"),
        ({"incarnation": 2}, "OTHER_INCARNATION"),
        ({"ways": 0x01}, "UNKNOWN_OBJECT"),
    ],
)
def test_decision_that_is_wrong_is_refused_and_told(arena, red_key, broken, why):
    record = flow(RED, red_key, RACK, destination=FAR)
    for name, value in broken.items():
        record[name] = value

    assert not applied(arena, record)
    assert refusals(arena) == [why]
    assert arena.refused()[why] == 1
    assert all_rows(arena.dump.flows) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"zero": 1},
        {"flags": KeyFlag.IPV6},
        {"flags": 0x80},
        {"protocol": 6},
        {"source_port": 1},
        {"key_class": 0},
        {"key_class": KeyClass.SOURCE},
        {"key_class": KeyClass.RESTORE},
        {"key_class": 99},
        {"flags": KeyFlag.DESTINATION},
        {"key_class": KeyClass.NEIGHBOR, "flags": KeyFlag.CONNECTION},
    ],
)
def test_key_that_no_packet_makes_is_refused(arena, red_key, broken):
    for name, value in broken.items():
        red_key[name] = value

    assert not applied(arena, flow(RED, red_key, RACK, destination=FAR))
    assert refusals(arena) == ["MALFORMED"]


def test_refused_record_tells_token_and_key(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=999, token=5), worker=3)

    worker, row = arena.taken()["emitted"][0]
    told = row.reshape(1).view(records.REFUSED)[0]
    assert worker == 3
    assert (int(told["token"]), int(told["object"]), int(told["refused_type"])) == (
        5,
        999,
        RecordType.FLOW_INSTALL,
    )
    assert told["key"].tobytes() == red_key.tobytes()


def test_unknown_type_and_version_are_counted_and_skipped(arena):
    wrong_type, wrong_version = vnet(7003), vnet(7003)
    wrong_type["head"]["type"] = 999
    wrong_version["head"]["version"] = 2

    assert not applied(arena, wrong_type)
    assert not applied(arena, wrong_version)
    assert arena.refused()["MALFORMED"] == 2


# ---- isolation


def test_attachment_of_another_vnet_is_no_target(arena):
    assert not applied(arena, location(RED, 900, "local", RACK + 1))
    assert refusals(arena) == ["OTHER_VNET"]


def test_wire_id_of_another_vnet_is_refused_towards_our_own_gateway(arena):
    assert applied(arena, ingress(RED, 9, "192.0.2.2"))

    assert not applied(arena, location(RED, 901, wire_id=BLUE))
    assert refusals(arena) == ["OTHER_VNET"]
    assert not applied(arena, ingress(BLUE, 9, "192.0.2.3", wire_id=RED))


def test_foreign_peer_may_have_its_own_wire_id(arena):
    assert applied(arena, ingress(RED, 10, "192.0.2.9", wire_id=42, flags=IngressFlag.FOREIGN))
    assert applied(arena, tunnel(502, "192.0.2.9", node_id=10))
    assert applied(arena, location(RED, 902, target=502, wire_id=42, node_id=10))


def test_peering_opens_one_direction_and_its_end_closes_the_flows_at_once(arena, red_key):
    across = flow(RED, red_key, RACK, destination=FAR + 1, destination_vni=BLUE)
    blue_key = flow_key(arena.ingress_by_vlan(0, 20))
    back = flow(BLUE, blue_key, RACK + 1, destination=FAR, destination_vni=RED)
    inside = flow(RED, flow_key(red_key["ingress"], destination="10.0.0.9"), RACK, destination=FAR)
    assert applied(arena, peering(RED, BLUE))

    assert applied(arena, across)
    assert applied(arena, inside)
    assert not applied(arena, back)
    assert refusals(arena) == ["OTHER_VNET"]

    assert applied(arena, peering(RED, BLUE, RecordType.PEERING_REMOVE))
    assert action_of(arena, red_key) == Action.NONE
    assert len(all_rows(arena.dump.flows)) == 1
    assert not applied(arena, across)


def test_answer_across_two_vnets_is_checked_against_both(arena, red_key):
    arena.apply(peering(RED, BLUE))
    arena.apply(change(BLUE, 9, destination="10.0.0.0/24"))

    across = flow(RED, red_key, RACK, destination=FAR + 1, destination_vni=BLUE, revision=8, token=4)
    assert not applied(arena, across)
    assert arena.taken()["released"][0][:2] == (4, 0)


def test_change_of_the_other_vnet_closes_flows_into_it(arena, red_key):
    arena.apply(peering(RED, BLUE))
    assert applied(arena, flow(RED, red_key, RACK, destination=FAR + 1, destination_vni=BLUE))

    arena.apply(change(BLUE, 9, destination="10.0.0.0/24"))

    assert action_of(arena, red_key) == Action.NONE


# ---- changes


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


# ---- snapshots


def test_snapshot_sweeps_what_it_does_not_name(arena, red_key):
    arena.apply(
        join(
            [
                attachment(RED, 110, vlan=11),
                location(RED, 310),
                peering(RED, BLUE),
                ingress(RED, 9, "192.0.2.2"),
            ]
        )
    )
    kept, gone = red_key, flow_key(arena.ingress_by_vlan(0, 11))
    arena.apply(flow(RED, kept, RACK, destination=FAR))
    arena.apply(flow(RED, gone, 110, destination=FAR))

    arena.apply(
        join([snapshot_begin(RED), attachment(RED, RACK, vlan=10), location(RED, SERVER, "local", RACK)])
    )
    assert applied(arena, snapshot_end(RED, 20))

    assert arena.ingress_by_vlan(0, 10)
    assert not arena.ingress_by_vlan(0, 11)
    assert arena.ingress_by_vlan(0, 20)
    assert not arena.ingress_by_locator(locator_key("192.0.2.2", RED))
    assert {r["object_id"] for r in all_rows(arena.dump.locations) if r["vni"] == RED} == {SERVER, FAR}
    assert (action_of(arena, kept), action_of(arena, gone)) == (Action.ENCAPSULATE, Action.NONE)
    assert not applied(arena, flow(RED, kept, RACK, destination=FAR + 1, destination_vni=BLUE, revision=20))


def test_flows_from_before_a_snapshot_forward_and_are_asked_again(arena, red_key):
    newer = flow_key(red_key["ingress"], destination="10.0.0.7")
    arena.apply(flow(RED, red_key, RACK, destination=FAR, revision=4))
    arena.apply(flow(RED, newer, RACK, destination=FAR, revision=6))

    arena.apply(join([snapshot_begin(RED), attachment(RED, RACK, vlan=10), snapshot_end(RED, 5)]))
    arena.settle()

    assert {r["destination"]: r["stale"] for r in all_rows(arena.dump.flows)} == {
        "10.0.0.2": True,
        "10.0.0.7": False,
    }


def test_snapshot_of_revision_zero_marks_nothing(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR, revision=0))

    arena.apply(join([snapshot_begin(RED), attachment(RED, RACK, vlan=10), snapshot_end(RED, 0)]))
    arena.settle()

    assert not all_rows(arena.dump.flows)[0]["stale"]


def test_another_store_needs_a_snapshot_and_is_not_compared_by_number(arena, red_key):
    arena.apply(change(RED, 100))
    assert not applied(arena, flow(RED, red_key, RACK, destination=FAR, revision=3, incarnation=2))
    assert refusals(arena) == ["OTHER_INCARNATION"]

    arena.apply(
        join(
            [
                snapshot_begin(RED, 2),
                attachment(RED, RACK, vlan=10),
                location(RED, FAR),
                snapshot_end(RED, 3, 2),
            ]
        )
    )

    assert refusals(arena) == []
    assert applied(arena, flow(RED, red_key, RACK, destination=FAR, revision=3, incarnation=2))
    assert not applied(arena, flow(RED, red_key, RACK, destination=FAR, revision=200, incarnation=1))


def test_snapshot_may_begin_before_its_vnet_is_set(arena):
    steps = [
        snapshot_begin(7003),
        vnet(7003, incarnation=1),
        attachment(7003, 130, vlan=30),
        snapshot_end(7003, 9),
    ]

    assert not arena.apply(join(steps)).any()
    row = next(r for r in all_rows(arena.dump.vnets) if r["vni"] == 7003)
    assert (row["revision"], row["floor"]) == (9, 9)


def test_attachment_may_take_the_place_of_one_that_the_snapshot_drops(arena):
    steps = [snapshot_begin(RED), attachment(RED, 140, vlan=10), snapshot_end(RED, 9)]

    assert not arena.apply(join(steps)).any()
    assert [r["object_id"] for r in all_rows(arena.dump.ingresses) if r["vni"] == RED] == [140]


# ---- V-nets, attachments, ingresses


def test_vnet_that_goes_takes_everything_with_it(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR))
    arena.apply(peering(BLUE, RED))
    arena.apply(
        flow(BLUE, flow_key(arena.ingress_by_vlan(0, 20)), RACK + 1, destination=FAR, destination_vni=RED)
    )
    assert len(all_rows(arena.dump.flows)) == 2

    assert applied(arena, vnet_remove(RED))

    assert all_rows(arena.dump.flows) == []
    assert {r["vni"] for r in all_rows(arena.dump.locations)} == {BLUE}
    assert arena.ingress_by_vlan(0, 10) == 0
    assert [r["vni"] for r in all_rows(arena.dump.vnets)] == [BLUE]


def test_number_used_again_by_another_vnet_starts_empty(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR))

    assert applied(arena, vnet(RED, object_id=4711))

    assert all_rows(arena.dump.flows) == []
    assert arena.ingress_by_vlan(0, 10) == 0


def test_attachment_that_goes_takes_its_locations_and_flows(arena, red_key):
    towards = flow_key(red_key["ingress"], destination="10.0.0.8")
    arena.apply(attachment(RED, 150, vlan=15))
    elsewhere = flow_key(arena.ingress_by_vlan(0, 15), destination="10.0.0.8")
    arena.apply(flow(RED, red_key, RACK, destination=FAR))
    arena.apply(flow(RED, towards, RACK, Action.DELIVER, destination=SERVER))
    arena.apply(flow(RED, elsewhere, 150, Action.DELIVER, destination=SERVER))

    assert applied(arena, attachment_remove(RED, RACK))
    arena.tick()

    assert all_rows(arena.dump.flows) == []
    assert {r["object_id"] for r in all_rows(arena.dump.locations) if r["vni"] == RED} == {FAR}


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (attachment(RED, 160, port="nowhere"), "UNKNOWN_OBJECT"),
        (attachment(RED, 160, vlan=4095), "MALFORMED"),
        (attachment(RED, 0, vlan=5), "MALFORMED"),
        (attachment(9999, 160), "UNKNOWN_VNET"),
        (attachment(RED, 160, vlan=20), "CONFLICT"),
        (attachment(BLUE, RACK, vlan=21), "CONFLICT"),
        (attachment_remove(BLUE, RACK), "OTHER_VNET"),
        (attachment_remove(RED, 161), "UNKNOWN_OBJECT"),
        (vnet(0), "MALFORMED"),
        (vnet(1 << 24), "MALFORMED"),
        (vnet(RED, gateway_mac=b"\1\0\0\0\0\0"), "MALFORMED"),
        (location_remove(RED, 999), "UNKNOWN_OBJECT"),
        (location(RED, 0), "MALFORMED"),
        (location(RED, 170, target=999), "UNKNOWN_OBJECT"),
        (location(RED, 170, mac=b"\xff" * 6), "MALFORMED"),
        (tunnel(510, mtu_bytes=60), "MALFORMED"),
        (tunnel(510, ttl=0), "MALFORMED"),
        (tunnel(510, protocol=2), "MALFORMED"),
        (tunnel(510, remote="224.0.0.1"), "MALFORMED"),
        (tunnel(TUNNEL, remote="192.0.2.77"), "CONFLICT"),
        (make(RecordType.TUNNEL_REMOVE, object_id=599), "UNKNOWN_OBJECT"),
        (tunnels_end(0), "MALFORMED"),
        (tunnels_end(17), "MALFORMED"),
        (nexthop("192.0.2.88"), "UNKNOWN_OBJECT"),
        (nexthop(port=60), "MALFORMED"),
        (nexthop(mac=bytes(6)), "MALFORMED"),
        (peering(RED, RED), "MALFORMED"),
        (peering(RED, 9999), "UNKNOWN_VNET"),
        (ingress(RED, 0, "192.0.2.5"), "MALFORMED"),
        (ingress(RED, 9, "192.0.2.5", wire_id=1 << 24, flags=IngressFlag.FOREIGN), "MALFORMED"),
        (ingress(RED, 9, "192.0.2.5", flags=0x80), "MALFORMED"),
        (ingress(RED, 9, "192.0.2.5", udp_port=0), "MALFORMED"),
    ],
)
def test_record_that_is_wrong_changes_nothing(arena, record, why):
    def tables():
        return [
            all_rows(d)
            for d in (arena.dump.vnets, arena.dump.ingresses, arena.dump.locations, arena.dump.tunnels)
        ]

    before = tables()
    assert not applied(arena, record)
    assert refusals(arena) == [why]
    assert tables() == before


def test_several_locators_lead_to_one_ingress(arena):
    assert applied(arena, ingress(RED, 9, "192.0.2.2"))
    assert applied(arena, ingress(RED, 9, "192.0.2.3"))
    assert applied(arena, ingress(BLUE, 9, "192.0.2.2"))

    first = arena.ingress_by_locator(locator_key("192.0.2.2", RED))
    assert first == arena.ingress_by_locator(locator_key("192.0.2.3", RED)) != 0
    assert arena.ingress_by_locator(locator_key("192.0.2.2", BLUE)) not in (0, first)
    assert arena.ingress_by_locator(locator_key("192.0.2.4", RED)) == 0
    assert arena.protocol_by_udp_port(4789) == 1

    arena.apply(ingress(RED, 9, "192.0.2.2", record_type=RecordType.INGRESS_REMOVE))
    assert arena.ingress_by_locator(locator_key("192.0.2.3", RED)) == first
    arena.apply(ingress(RED, 9, "192.0.2.3", record_type=RecordType.INGRESS_REMOVE))
    assert arena.ingress_by_locator(locator_key("192.0.2.3", RED)) == 0
    assert arena.protocol_by_udp_port(4789) == 1
    arena.apply(ingress(BLUE, 9, "192.0.2.2", record_type=RecordType.INGRESS_REMOVE))
    assert arena.protocol_by_udp_port(4789) == 0


def test_locator_of_another_node_is_a_conflict(arena):
    arena.apply(ingress(RED, 9, "192.0.2.2"))

    assert not applied(arena, ingress(RED, 8, "192.0.2.2"))
    assert refusals(arena) == ["CONFLICT"]
    nodes = [r for r in all_rows(arena.dump.ingresses) if r["kind"] == "node" and r["vni"] == RED]
    assert [r["object_id"] for r in nodes] == [9]


# ---- locations and tunnels


def test_endpoint_moves_under_its_flows(arena, red_key):
    arena.apply(join([ingress(RED, 9, "192.0.2.3"), tunnel(501, "192.0.2.3")]))
    arena.apply(flow(RED, red_key, RACK, destination=FAR))

    assert applied(arena, location(RED, FAR, target=501, revision=5))

    tunnels = {r["object_id"]: r for r in all_rows(arena.dump.tunnels)}
    assert all_rows(arena.dump.flows)[0]["tunnel"] == tunnels[501]["tunnel"]
    assert (tunnels[TUNNEL]["references"], tunnels[501]["references"]) == (1, 1)


def test_location_does_not_move_back_in_time(arena):
    arena.apply(location(RED, FAR, "local", RACK, revision=5))

    assert not applied(arena, location(RED, FAR, revision=4))
    assert refusals(arena) == ["LATE"]


def test_location_only_if_present(arena):
    assert applied(arena, location(RED, 999, flags=RecordFlag.IF_PRESENT))
    assert 999 not in {r["object_id"] for r in all_rows(arena.dump.locations)}


def test_second_move_waits_for_readers_of_the_first(arena):
    arena.reader_register(0)
    arena.reader_online(0)
    assert applied(arena, location(RED, FAR, "local", RACK, revision=1))

    again = arena.apply(location(RED, FAR, revision=2))[0]
    assert again == -errno.EAGAIN
    assert next(r for r in all_rows(arena.dump.locations) if r["object_id"] == FAR)["kind"] == "local"

    arena.reader_quiescent(0)
    arena.tick()
    assert applied(arena, location(RED, FAR, revision=2))
    arena.reader_offline(0)
    arena.reader_unregister(0)


def test_location_that_nobody_uses_is_forgotten(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR, lifetime_ms=3_600_000))
    for _ in range(40):
        arena.advance(10)

    assert {r["object_id"] for r in all_rows(arena.dump.locations)} == {FAR}


def test_tunnel_waits_for_a_next_hop_and_control_hears_of_it(arena):
    arena.apply(tunnel(501, "192.0.2.3", mtu_bytes=9000))
    worker, row = arena.taken()["emitted"][0]
    came = row.reshape(1).view(records.TUNNEL)[0]
    assert (worker, int(came["head"]["type"]), int(came["object_id"])) == (
        0xFF,
        RecordType.TUNNEL_CHANGED,
        501,
    )
    assert not came["head"]["flags"] & RecordFlag.GONE

    def state():
        r = next(r for r in all_rows(arena.dump.tunnels) if r["object_id"] == 501)
        return r["state"], r["mtu_bytes"], [h["destination_mac"] for h in r["next_hops"]]

    assert state() == ("unresolved", 9000, [])
    assert applied(arena, nexthop("192.0.2.3", mtu_bytes=1500), worker=0xFF)
    assert state() == ("up", 1500, ["02:00:00:00:00:99"])
    assert applied(arena, nexthop("192.0.2.3", mac=b"\2\0\0\0\0\x77"), worker=0xFF)
    assert state() == ("up", 9000, ["02:00:00:00:00:77"])
    assert applied(arena, nexthop("192.0.2.3", count=0), worker=0xFF)
    assert state() == ("unresolved", 9000, [])

    arena.apply(make(RecordType.TUNNEL_REMOVE, object_id=501))
    gone = [row for _, row in arena.taken()["emitted"]][-1]
    assert gone["head"]["flags"] & RecordFlag.GONE


def tunnel_ids(arena) -> set[int]:
    return {row["object_id"] for row in all_rows(arena.dump.tunnels)}


def test_tunnel_that_is_named_no_longer_goes_with_the_last_location_that_leads_there(arena):
    assert applied(arena, make(RecordType.TUNNEL_REMOVE, object_id=TUNNEL))
    assert applied(arena, location_remove(RED, FAR))
    assert tunnel_ids(arena) == {TUNNEL}
    arena.taken()
    assert applied(arena, location_remove(BLUE, FAR + 1))
    assert tunnel_ids(arena) == set()
    ((client, row),) = arena.taken()["emitted"]
    assert client == 0xFF
    assert row["head"]["flags"] & RecordFlag.GONE
    assert applied(arena, tunnel(TUNNEL))  # named again: another one


def test_tunnel_that_is_named_again_before_its_last_location_went_stays(arena):
    assert applied(arena, make(RecordType.TUNNEL_REMOVE, object_id=TUNNEL))
    assert applied(arena, tunnel(TUNNEL))
    assert applied(arena, join([location_remove(RED, FAR), location_remove(BLUE, FAR + 1)]))
    assert tunnel_ids(arena) == {TUNNEL}


def test_tunnel_stays_while_another_worker_names_it(arena):
    assert applied(arena, tunnel(501, "192.0.2.3"), worker=0)
    assert applied(arena, tunnel(501, "192.0.2.3"), worker=1)
    assert applied(arena, make(RecordType.TUNNEL_REMOVE, object_id=501), worker=0)
    assert 501 in tunnel_ids(arena)
    assert applied(arena, make(RecordType.TUNNEL_REMOVE, object_id=501), worker=1)
    assert 501 not in tunnel_ids(arena)


def test_adopted_tunnel_that_nobody_names_goes_when_every_worker_has_told_its_snapshot(tmp_path):
    left = [tunnel(number, f"192.0.2.{number - 490}") for number in (501, 502, 503)]
    with open_arena(path=tmp_path / "arena") as arena:
        arena.apply(join([vnet(RED), ingress(RED, 9, "192.0.2.13"), *left, location(RED, FAR, target=503)]))
    with open_arena(path=tmp_path / "arena") as arena:
        assert applied(arena, join([tunnels_begin(), left[0], tunnels_end(2)]), worker=0)
        assert tunnel_ids(arena) == {501, 502, 503}  # worker 1 may name them yet
        assert applied(arena, join([tunnels_begin(), tunnels_end(2)]), worker=1)
        assert tunnel_ids(arena) == {501, 503}
        assert applied(arena, location_remove(RED, FAR))
        assert tunnel_ids(arena) == {501}
        # The worker comes back and names another one. Until it has said all, nothing goes.
        assert applied(arena, join([tunnels_begin(), left[1]]), worker=0)
        assert tunnel_ids(arena) == {501, 502}
        assert applied(arena, tunnels_end(2), worker=0)
        assert tunnel_ids(arena) == {502}
        # There is one worker only from now on: what the other one named is nobody's.
        assert applied(arena, left[2], worker=1)
        assert applied(arena, tunnels_end(1), worker=0)
        assert tunnel_ids(arena) == {502}


def test_workers_that_name_a_tunnel_hear_that_it_has_a_next_hop(arena):
    def told() -> list[tuple[int, int]]:
        rows = [(c, r.reshape(1).view(records.TUNNEL)[0]) for c, r in arena.taken()["emitted"]]
        return [(c, int(r["object_id"])) for c, r in rows if r["head"]["type"] == RecordType.TUNNEL_UP]

    applied(arena, tunnel(501, "192.0.2.3"), worker=0)
    applied(arena, tunnel(501, "192.0.2.3"), worker=2)
    applied(arena, tunnel(502, "192.0.2.3", profile_id=2), worker=1)
    assert told() == []
    assert applied(arena, nexthop("192.0.2.3"), worker=0xFF)
    assert sorted(told()) == [(0, 501), (1, 502), (2, 501)]
    assert applied(arena, nexthop("192.0.2.3", mac=b"\2\0\0\0\0\x77"), worker=0xFF)
    assert told() == []  # another one is no news
    assert applied(arena, nexthop("192.0.2.3", count=0), worker=0xFF)
    assert told() == []
    assert applied(arena, make(RecordType.TUNNEL_REMOVE, object_id=501), worker=2)
    assert applied(arena, nexthop("192.0.2.3"), worker=0xFF)
    assert sorted(told()) == [(0, 501), (1, 502)]


def test_second_tunnel_to_an_address_takes_the_known_next_hop(arena):
    arena.apply(tunnel(502, profile_id=2))

    assert next(r for r in all_rows(arena.dump.tunnels) if r["object_id"] == 502)["state"] == "up"


def test_header_is_what_scapy_builds(arena):
    from scapy.layers.inet import IP, UDP
    from scapy.layers.vxlan import VXLAN

    arena.apply(tunnel(503, "192.0.2.7", ttl=33, dscp=10, udp_port=8472))
    index = next(r for r in all_rows(arena.dump.tunnels) if r["object_id"] == 503)["tunnel"]
    header, base = arena.header(index)

    outer = IP(
        src="192.0.2.1", dst="192.0.2.7", ttl=33, tos=10 << 2, flags="DF", id=0, len=0, proto=17, chksum=0
    )
    udp = UDP(sport=0, dport=8472, len=0, chksum=0)
    assert header == bytes(outer / udp / VXLAN(vni=0, flags=8))

    whole = IP(
        bytes(IP(src="192.0.2.1", dst="192.0.2.7", ttl=33, tos=10 << 2, flags="DF", id=0, len=1234, proto=17))
    )
    total = (
        base
        + int.from_bytes((1234).to_bytes(2, "big"), "little")
        + int.from_bytes(bytes([0, 10 << 2]), "little")
    )
    total = (total & 0xFFFF) + (total >> 16)
    checksum = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "little")
    assert checksum == whole.chksum.to_bytes(2, "big")


def test_tunnel_set_turns_its_locations_over(arena):
    def group(members, flags=RecordFlag.FIRST | RecordFlag.LAST):
        row = make(RecordType.TUNNEL_GROUP_SET, object_id=600, count=len(members), mode=1, flags=flags)
        row["tunnel"][0, : len(members)] = members
        row["weight"][0, : len(members)] = 1
        return row

    arena.apply(join([ingress(RED, 9, "192.0.2.3"), tunnel(501, "192.0.2.3")]))
    assert applied(arena, group([TUNNEL]))
    set_location = location(RED, 950)
    set_location["kind"], set_location["target_id"] = LocationKind.SET, 600
    assert applied(arena, set_location)
    assert applied(arena, group([TUNNEL, 501]))

    rows = {r["object_id"]: r["references"] for r in all_rows(arena.dump.tunnels)}
    assert rows == {TUNNEL: 3, 501: 1}
    assert not applied(arena, group([TUNNEL, 999]))
    assert not applied(arena, group([TUNNEL], RecordFlag.LAST))


def test_tunnel_sets_that_nobody_names_make_room_and_let_go_of_their_tunnels():
    def group(number, members):
        row = make(
            RecordType.TUNNEL_GROUP_SET,
            object_id=number,
            count=len(members),
            mode=1,
            flags=RecordFlag.FIRST | RecordFlag.LAST,
        )
        row["tunnel"][0, : len(members)] = members
        row["weight"][0, : len(members)] = 1
        return row

    with open_arena(tunnels=16) as arena:
        set_up = [vnet(RED), tunnel(500), tunnel(501, "192.0.2.3"), ingress(RED, 9, "192.0.2.3")]
        assert not arena.apply(join(set_up)).any()
        for number in range(600, 616):
            assert applied(arena, group(number, [501]))
        used = location(RED, 950, target=615)
        used["kind"] = LocationKind.SET
        assert applied(arena, used)
        assert not applied(arena, group(700, [501]))  # full
        assert applied(arena, make(RecordType.TUNNEL_REMOVE, object_id=501))
        assert tunnel_ids(arena) == {500, 501}  # sets hold it

        def pass_by(rows):
            for _ in range(60):
                arena.advance(20)
                assert not arena.apply(rows).any()

        pass_by(join([used, tunnel(500)]))
        for number in range(700, 715):
            assert applied(arena, group(number, [500]))
        assert not applied(arena, group(715, [500]))  # the one in use has stayed
        assert applied(arena, location_remove(RED, 950))
        pass_by(tunnel(500))
        assert tunnel_ids(arena) == {500}


# ---- refresh, silence


def test_flow_in_use_is_asked_again_and_an_idle_one_is_not(arena, red_key):
    idle = flow_key(red_key["ingress"], destination="10.0.0.7")
    for key in (red_key, idle):
        arena.apply(flow(RED, key, RACK, destination=FAR, lifetime_ms=3_600_000, refresh_ms=100_000))
    arena.taken()
    arena.advance(90)
    arena.lookup(red_key)
    arena.advance(20)

    asked = [row for _, row in arena.taken()["emitted"] if row["head"]["type"] == RecordType.REFRESH]
    assert [r.reshape(1).view(records.MISS)[0]["key"].tobytes() for r in asked] == [red_key.tobytes()]


def directory_state(answering, worker=0):
    return make(RecordType.DIRECTORY_STATE, answering=answering, worker=worker, workers=1)


def test_flows_outlive_a_silent_directory_up_to_stale_max(arena, red_key):
    arena.apply(vnet(RED, stale_max_s=100))
    arena.apply(flow(RED, red_key, RACK, destination=FAR, lifetime_ms=10_000))
    arena.apply(directory_state(0))

    for _ in range(9):
        arena.advance(10)
        assert action_of(arena, red_key) == Action.ENCAPSULATE
    arena.advance(20)
    assert action_of(arena, red_key) == Action.NONE


def test_flows_expire_again_once_the_directory_answers(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR, lifetime_ms=10_000))
    arena.apply(directory_state(0))
    arena.advance(20)
    arena.apply(directory_state(1))

    assert action_of(arena, red_key) == Action.ENCAPSULATE
    arena.advance(60)
    assert action_of(arena, red_key) == Action.NONE


def test_worker_that_is_asked_and_says_nothing_counts_as_silent(arena, red_key):
    arena.apply(flow(RED, red_key, RACK, destination=FAR, lifetime_ms=30_000, refresh_ms=10_000))
    for _ in range(30):
        arena.advance(2)
        arena.lookup(red_key)

    assert action_of(arena, red_key) == Action.ENCAPSULATE


def test_quota_keeps_the_flows_of_others(arena, red_key):
    arena.apply(vnet(RED, quota_flows=10))
    blue_key = flow_key(arena.ingress_by_vlan(0, 20))
    arena.apply(flow(BLUE, blue_key, RACK + 1, destination=FAR + 1))
    for i in range(50):
        arena.apply(
            flow(RED, flow_key(red_key["ingress"], destination=f"10.0.0.{i}"), RACK, destination=FAR), tries=4
        )

    rows = {r["vni"]: r["flows"] for r in all_rows(arena.dump.vnets)}
    assert rows == {RED: 10, BLUE: 1}


# ---- packets and releases


def test_frame_in_spans_is_sent_whole(arena):
    frame = bytes(range(256)) * 5

    assert not arena.apply(
        packet_spans(RecordType.PACKET_OUT, frame, vni=RED, kind=LocationKind.LOCAL, target_id=RACK)
    ).any()

    assert arena.taken()["sent"] == [(LocationKind.LOCAL, arena.ingress_by_vlan(0, 10), 0, frame)]


def test_frames_of_two_clients_do_not_mix(arena):
    spans = [
        packet_spans(
            RecordType.PACKET_OUT,
            bytes([n]) * 200,
            vni=RED,
            kind=LocationKind.TUNNEL,
            target_id=TUNNEL,
            wire_id=RED,
        )
        for n in (1, 2)
    ]
    for i in range(3):
        for worker in (0, 1):
            assert applied(arena, spans[worker][i : i + 1], worker)

    assert [frame for *_, frame in arena.taken()["sent"]] == [b"\1" * 200, b"\2" * 200]


@pytest.mark.parametrize("order", [[1], [0, 2], [0, 0, 2], [0, 1, 1]])
def test_spans_out_of_order_send_nothing(arena, order):
    spans = packet_spans(RecordType.PACKET_OUT, b"x" * 200, vni=RED, kind=LocationKind.LOCAL, target_id=RACK)

    arena.apply(spans[order])

    assert arena.taken()["sent"] == []
    assert arena.refused()["MALFORMED"] >= 1


def test_frame_into_another_vnets_attachment_is_refused(arena):
    arena.apply(
        packet_spans(RecordType.PACKET_OUT, b"x" * 60, vni=RED, kind=LocationKind.LOCAL, target_id=RACK + 1)
    )

    assert refusals(arena) == ["OTHER_VNET"]
    assert arena.taken()["sent"] == []


def test_held_key_can_end_without_a_flow(arena, red_key):
    assert applied(arena, flow(RED, red_key, RACK, record_type=RecordType.RELEASE_DROP, reason=41, token=9))

    assert arena.taken()["released"] == [(9, Action.DROP << 56 | 41, red_key.tobytes())]
    assert all_rows(arena.dump.flows) == []


def test_tunnels_of_another_store_are_not_compared_by_number(arena):
    """A new store numbers its V-nets anew, so that none says that it was of another one before."""

    def mtu():
        return next(row["mtu_bytes"] for row in all_rows(arena.dump.tunnels) if row["object_id"] == TUNNEL)

    arena.apply(tunnel(TUNNEL, revision=15, incarnation=1, mtu_bytes=1500))

    steps = [
        vnet(RED, object_id=77, incarnation=2),
        snapshot_begin(RED, 2),
        tunnel(TUNNEL, revision=4, incarnation=2, mtu_bytes=900),
        snapshot_end(RED, 4, 2),
    ]
    assert not arena.apply(join(steps)).any()

    assert mtu() == 900
    assert not applied(arena, tunnel(TUNNEL, revision=3, incarnation=2, mtu_bytes=1400))
    assert refusals(arena) == ["LATE"]
    assert mtu() == 900
