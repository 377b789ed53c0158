# SPDX-License-Identifier: Apache-2.0
"""What each record does to the tables, one fact a test: flows, and what is refused."""

from __future__ import annotations

import pytest
from installing import (
    BLUE,
    FAR,
    MS,
    RACK,
    RED,
    SERVER,
    TUNNEL,
    action_of,
    all_rows,
    applied,
    attachment,
    attachment_remove,
    change,
    flow,
    flow_key,
    ingress,
    location,
    location_remove,
    nexthop,
    peering,
    refusals,
    tunnel,
    tunnels_end,
    vnet,
)

from fastpath import records
from fastpath.records import (
    Action,
    IngressFlag,
    KeyClass,
    KeyFlag,
    RecordType,
    make,
)


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
        (peering(9999, RED), "UNKNOWN_VNET"),
        (peering(RED, 1 << 24), "MALFORMED"),
        (make(RecordType.PEERING_SET, vni=RED, to_vni=BLUE, from_vni=BLUE), "MALFORMED"),
        (make(RecordType.PEERING_SET, vni=RED), "MALFORMED"),
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


def test_held_key_can_end_without_a_flow(arena, red_key):
    assert applied(arena, flow(RED, red_key, RACK, record_type=RecordType.RELEASE_DROP, reason=41, token=9))

    assert arena.taken()["released"] == [(9, Action.DROP << 56 | 41, red_key.tobytes())]
    assert all_rows(arena.dump.flows) == []
