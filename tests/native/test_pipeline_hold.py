# SPDX-License-Identifier: Apache-2.0
"""The hold: packets wait for a decision, in order, and every one ends exactly once. Time is moved by hand."""

from __future__ import annotations

import numpy as np
import pytest
from bench import INCARNATION, MS
from frames import UDP, Ether, ip, mac, udp_frame, vxlan_frame
from world import A_IP, B_IP, C_IP, LOCAL, NEAR, NEAR_MAC, NEAR_NODE, OUR_MAC, A, B, C, World

from fastpath import records
from fastpath.records import RecordType
from model_packets import Action, Key, Location


@pytest.fixture
def world(make_bench):
    return World(make_bench)


PAIR = (A_IP, C_IP)


def pair_key(world, connection=None, source=A_IP, destination=C_IP):
    return Key(world.at_a, "bridged", ip(source), ip(destination), connection)


def frame(number=0, *, source=A_IP, destination=C_IP, ports=(1000, 2000), **more):
    return udp_frame((A, source), (C, destination), payload=bytes([number]) * 8, ports=ports, **more)


def misses(world, worker=0):
    raw = np.frombuffer(world.bench.probe.records(worker), records.RECORD)
    return records.select(raw, RecordType.MISS)


def step(world, ms=0):
    world.bench.now += ms * MS
    world.bench.probe.step(world.bench.now)


def payloads(world):
    """The number in each packet that was sent, in order."""
    return [bytes(sent)[-1] for _, sent in world.bench.probe.sent()]


def install(world, key, action, token=0, **more):
    world.bench.apply(world.bench.flow_rows(key, action, token=token, **more))


def counters(world):
    found = world.bench.probe.counters()
    world.bench.assert_accounted(found)
    return found


def test_second_miss_of_a_key_asks_once(world):
    world.bench.send((0, frame(1)), (0, frame(2)))
    world.bench.send((0, frame(3)))
    assert len(misses(world)) == 1
    assert counters(world)["held_now"] == 3
    assert world.bench.probe.doorbells() == 1
    assert world.bench.probe.doorbells() == 0


def test_worker_that_always_sleeps_is_not_rung_for_every_burst(world):
    probe = world.bench.probe
    rung = 0
    for i in range(100):  # a microsecond each
        probe.worker_sleeps(0)
        world.bench.now += 1_000
        world.bench.send((0, frame(i, destination=f"10.0.1.{i + 1}")))
        rung += probe.doorbells()
    assert rung == 5
    world.bench.now += 20_000
    probe.step(world.bench.now)
    assert probe.doorbells() == 1  # what came meanwhile is not forgotten
    assert len(misses(world)) == 100


def test_miss_record_says_all_that_a_decision_needs(world):
    whole = frame(1)
    world.bench.send((0, whole))
    (row,) = misses(world)
    assert row["key"].tobytes() == world.bench.native_key(pair_key(world)).tobytes()
    assert row["head"]["vni"] == 100
    assert row["frame_bytes"] == len(whole)
    assert row["ingress_object"] == world.bench.object_id(world.at_a)
    assert (row["ingress_kind"], row["asked"]) == (1, 0)
    assert row["received_ns"] == world.bench.now
    assert (bytes(row["source_mac"]), bytes(row["destination_mac"])) == (A, C)


def test_miss_from_a_tunnel_names_the_node(world):
    inner = udp_frame((C, C_IP), (A, A_IP))
    world.bench.send((2, vxlan_frame(inner, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)))
    (row,) = misses(world)
    assert (row["ingress_kind"], row["ingress_object"]) == (2, world.near.node)


def test_release_acts_on_all_in_order(world):
    world.bench.send(*[(0, frame(i)) for i in range(10)])
    (row,) = misses(world)
    install(world, pair_key(world), Action("forward", destination=world.c), token=row["token"])
    step(world, 3)
    assert payloads(world) == list(range(10))
    found = counters(world)
    assert (found["released"], found["held_now"], found["forwarded"]) == (10, 0, 10)
    assert found["delay"] == {"sum_ns": 3_000_000, "buckets": [[2_883_584, 3_014_656, 1]]}


def test_bursts_that_take_turns_keep_their_order(world):
    install(world, pair_key(world), Action("forward", destination=world.c))
    held = {i for i in range(100) if i % 10 == 3}
    world.bench.send(*[(0, frame(i, source=B_IP if i in held else A_IP)) for i in range(100)])  # four bursts
    assert payloads(world) == [i for i in range(100) if i not in held]
    assert counters(world)["held_now"] == 10
    (row,) = misses(world)
    key = pair_key(world, source=B_IP)
    install(world, key, Action("forward", destination=world.c), token=row["token"])
    step(world)
    assert payloads(world) == sorted(held)


def test_packet_that_finds_the_decision_first_does_not_overtake(world):
    world.bench.send(*[(0, frame(i)) for i in range(3)])
    install(world, pair_key(world), Action("forward", destination=world.c))  # nobody released
    world.bench.send((0, frame(3)), (0, frame(4)))
    assert payloads(world) == [0, 1, 2, 3, 4]


def test_stale_token_does_nothing(world):
    world.bench.send((0, frame(1)))
    (first,) = misses(world)
    step(world, 1100)  # expired
    world.bench.send((0, frame(2)))
    misses(world)
    row = world.bench.flow_rows(pair_key(world), Action("drop", reason="denied"), token=int(first["token"]))
    row["head"]["type"] = RecordType.RELEASE_DROP
    world.bench.apply(row)
    step(world)
    found = counters(world)
    assert found["dropped"] == {"hold_expired": 1}
    assert found["held_now"] == 1


def test_release_with_a_drop_ends_by_its_name(world):
    world.bench.send((0, frame(1)), (0, frame(2)))
    (row,) = misses(world)
    install(world, pair_key(world), Action("drop", reason="no_rule"), token=row["token"])
    step(world)
    assert counters(world)["dropped"] == {"no_rule": 2}


def test_answer_said_twice_releases_once(world):
    world.bench.send((0, frame(1)))
    (row,) = misses(world)
    for _ in range(2):
        install(world, pair_key(world), Action("forward", destination=world.c), token=row["token"])
    step(world)
    assert payloads(world) == [1]


def test_decision_closed_before_it_lets_go_is_asked_again(world):
    """The index in the queued decision leads elsewhere by then: into another V-net."""
    world.bench.send((0, frame(1)))
    (row,) = misses(world)
    install(world, pair_key(world), Action("forward", destination=world.c), token=row["token"])
    gone = world.bench.objects[world.c]
    world.bench.apply(records.make(RecordType.LOCATION_REMOVE, vni=100, object_id=gone))
    for _ in range(2):  # a grace period passes: its index is the first to be taken again
        world.bench.probe.maintain(world.bench.now)
    world.bench.add_location(Location(200, world.to_near, mac(0x20), 200, NEAR_NODE), "other")
    step(world)
    assert payloads(world) == []
    assert [row["asked"] for row in misses(world)] == [1]
    assert counters(world)["held_now"] == 1


def test_decision_is_acted_on_though_its_flow_was_evicted(world):
    world.bench.set_vnet(world.red, quota_flows=2)
    number = 100
    world.bench.send(*[(0, frame(i, destination=f"10.0.1.{i}")) for i in range(number)])
    asked = misses(world)
    for row in asked:  # all of them before the thread looks
        key = pair_key(world, destination=f"10.0.1.{int(row['key']['destination'][15])}")
        install(world, key, Action("forward", destination=world.c), token=row["token"])
    step(world)
    assert payloads(world) == list(range(number))
    step(world, 200)
    assert len(misses(world)) == 0
    assert counters(world)["dropped"] == {}


def test_decision_for_a_moment_is_acted_on_once(world):
    for number in (1, 2):
        world.bench.send((0, frame(number)))
        (row,) = misses(world)
        install(
            world,
            pair_key(world),
            Action("forward", destination=world.c),
            token=row["token"],
            lifetime_ms=1,
        )
        step(world)
        assert payloads(world) == [number]


@pytest.mark.parametrize("covers", [True, False])
def test_decision_that_was_evicted_and_revoked_is_asked_again(world, covers):
    world.bench.set_vnet(world.red, quota_flows=1)
    world.bench.send((0, frame(1)))
    (row,) = misses(world)
    install(world, pair_key(world), Action("forward", destination=world.c), token=row["token"])
    install(world, pair_key(world, destination=B_IP), Action("forward", destination=world.b))  # evicts it
    vni = 100 if covers else 200  # another V-net's revocation is none
    change = records.make(RecordType.CHANGE, vni=vni, revision=2, kind=1, incarnation=INCARNATION, flags=6)
    change["scope"]["port_high"] = 0xFFFF
    world.bench.apply(change)
    step(world)
    assert payloads(world) == ([] if covers else [1])
    assert [row["asked"] for row in misses(world)] == ([1] if covers else [])


def test_question_that_was_written_is_asked_once_more_after_140_ms(world):
    world.bench.send((0, frame(1)))
    asked = [len(misses(world))]
    at = [0]
    for ms in range(1, 1000):
        step(world, 1)
        if rows := misses(world).size:
            asked.append(rows)
            at.append(ms)
    assert at == [0, 140]
    assert asked == [1, 1]
    assert counters(world)["held_now"] == 1


def test_no_decision_in_time_expires(world):
    world.bench.send((0, frame(1)), (0, frame(2)))
    step(world, 999)
    assert counters(world)["held_now"] == 2
    step(world, 1)
    found = counters(world)
    assert (found["dropped"], found["expired"], found["held_now"]) == ({"hold_expired": 2}, 2, 0)


def test_late_tick_asks_once(world):
    world.bench.send((0, frame(1)))
    misses(world)
    step(world, 139)
    assert len(misses(world)) == 0
    step(world, 400)
    assert len(misses(world)) == 1


def test_new_worker_is_asked_what_the_old_one_owes(world):
    world.bench.send((0, frame(1)), (0, frame(2, destination="10.0.0.7")))
    misses(world)
    world.bench.probe.attach(0, False)
    world.bench.probe.attach(0, True)
    rows = misses(world)
    assert sorted(bytes(row["key"]["destination"])[-1] for row in rows) == [3, 7]
    assert list(rows["asked"]) == [1, 1]


def test_without_a_worker_packets_wait_for_one(world):
    world.bench.probe.attach(0, False)
    world.bench.send((0, frame(1)))
    step(world, 30)
    world.bench.probe.attach(0, True)
    (row,) = misses(world)
    assert row["asked"] == 0
    install(world, pair_key(world), Action("forward", destination=world.c), token=row["token"])
    step(world)
    assert payloads(world) == [1]


def test_full_ring_is_counted_and_tried_again(make_bench):
    world = World(make_bench, miss_slots=16)
    world.bench.send(*[(0, frame(i, destination=f"10.0.0.{i + 10}")) for i in range(24)])
    assert len(misses(world)) == 13  # a V-net leaves room for others
    assert counters(world)["miss_ring_full"] == 11
    asked = set()
    for _ in range(3):
        step(world, 20)
        asked |= {(bytes(row["key"]["destination"])[-1], int(row["asked"])) for row in misses(world)}
    assert len({host for host, times in asked if times == 0}) > 0


def test_worker_that_refuses_is_asked_again_at_once(world):
    world.bench.send((0, frame(1)))
    (row,) = misses(world)
    flow = world.bench.flow_rows(
        pair_key(world), Action("forward", destination=world.c), token=int(row["token"])
    )
    flow["incarnation"] = 99  # another store: refused, asked again
    world.bench.probe.apply(flow, world.bench.now)
    step(world)
    again = misses(world)
    assert counters(world)["held_now"] == 1
    assert len(again) <= 1
    install(world, pair_key(world), Action("forward", destination=world.c), token=row["token"])
    step(world)
    assert payloads(world) == [1]


# -- narrow ------------------------------------------------------------------------------------------


def test_narrow_release_waits_again_by_ports_in_order(world):
    world.bench.send(*[(0, frame(i, ports=(1000 + i % 2, 2000))) for i in range(6)])
    (row,) = misses(world)
    install(world, pair_key(world), Action("narrow"), token=row["token"])
    step(world, 2)
    rows = misses(world)
    assert len(rows) == 2
    assert counters(world)["held_now"] == 6
    step(world, 3)
    for row, port in zip(rows, (1000, 1001), strict=True):
        install(
            world,
            pair_key(world, (17, port, 2000)),
            Action("forward", destination=world.c),
            token=row["token"],
        )
    step(world)
    assert payloads(world) == [0, 2, 4, 1, 3, 5]
    assert counters(world)["delay"]["buckets"] == [[4_980_736, 5_242_880, 2]]  # 5 ms since they were received


def test_narrow_release_acts_at_once_on_connections_that_are_known(world):
    connection = pair_key(world, (17, 1000, 2000))
    install(world, connection, Action("forward", destination=world.c))
    world.bench.send((0, frame(1)), (0, frame(2, ports=(1000, 2001))))
    (row,) = misses(world)
    install(world, pair_key(world), Action("narrow"), token=row["token"])
    step(world)
    assert payloads(world) == [1]
    assert counters(world)["held_now"] == 1


# -- limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "frames", "reason", "held"),
    [
        ({"packets_per_flow": 3}, [frame(i) for i in range(5)], "hold_flow_full", 3),
        (
            {"packets_per_ingress": 4},
            [frame(i, destination=f"10.0.1.{i + 1}") for i in range(6)],
            "hold_ingress_full",
            4,
        ),
        (
            {"packets_per_vnet": 4},
            [frame(i, destination=f"10.0.1.{i + 1}") for i in range(6)],
            "hold_vnet_full",
            4,
        ),
        ({"packets": 4}, [frame(i, destination=f"10.0.1.{i + 1}") for i in range(6)], "hold_full", 4),
        ({"packets": 0}, [frame(1)], "hold_full", 0),
    ],
)
def test_each_limit_has_its_name(make_bench, limits, frames, reason, held):
    world = World(make_bench, hold=limits)
    world.bench.send(*[(0, each) for each in frames])
    found = counters(world)
    assert (found["dropped"], found["held_now"]) == ({reason: len(frames) - held}, held)
    assert found["dropped_full"] == len(frames) - held
    step(world, 1100)
    assert counters(world)["held_now"] == 0
    world.bench.send((0, frames[0]))  # there is room again
    assert counters(world)["held_now"] == min(held, 1)


def test_one_ingress_may_ask_so_often(make_bench):
    world = World(make_bench, hold={"misses_per_ingress_s": 5})
    world.bench.send(*[(0, frame(i, destination=f"10.0.1.{i + 1}")) for i in range(9)])
    world.bench.send((1, udp_frame((B, B_IP), (C, C_IP), vlan=10)))
    assert counters(world)["dropped"] == {"miss_rate": 4}
    assert len(misses(world)) == 6
    step(world, 400)
    world.bench.send(*[(0, frame(i, destination=f"10.0.2.{i + 1}")) for i in range(9)])
    assert counters(world)["dropped"] == {"miss_rate": 4 + 7}


def test_vnet_has_its_quota_of_misses(world):
    world.bench.set_vnet(world.blue, quota_misses_per_s=2)
    for i in range(5):
        world.bench.send((0, udp_frame((A, A_IP), (C, f"10.0.1.{i + 1}"), vlan=20)))
        world.bench.send((0, frame(i, destination=f"10.0.1.{i + 1}")))
    found = counters(world)
    assert found["dropped"] == {"miss_rate": 3}
    assert list(found["reason_vnet"].values()) == [3]


def test_limits_can_be_changed_while_it_runs(world):
    world.bench.probe.hold_limits(packets_per_flow=1)
    world.bench.send((0, frame(1)), (0, frame(2)))
    assert counters(world)["dropped"] == {"hold_flow_full": 1}


def test_shutdown_frees_what_is_held(make_bench):
    world = World(make_bench)
    world.bench.send(*[(0, frame(i)) for i in range(5)])
    assert world.bench.probe.counters()["mbufs"] == 5
    world.bench.probe.close()  # ASan builds of the C tests see a leak


def test_no_buffer_is_lost_over_many_turns(world):
    """Whatever the order of misses, decisions and expiry: nothing stays, all is accounted for."""
    rng = np.random.default_rng(1)
    tokens: list[tuple[int, str]] = []
    for turn in range(300):
        for _ in range(int(rng.integers(0, 6))):
            destination = f"10.0.3.{int(rng.integers(1, 30))}"
            world.bench.send((0, frame(turn % 250, destination=destination)))
        tokens += [
            (int(row["token"]), ".".join(map(str, row["key"]["destination"][-4:]))) for row in misses(world)
        ]
        if tokens and rng.random() < 0.5:
            token, destination = tokens.pop(int(rng.integers(len(tokens))))
            row = world.bench.flow_rows(
                pair_key(world, destination=destination), Action("drop", reason="denied"), token=token
            )
            row["head"]["type"] = RecordType.RELEASE_DROP
            world.bench.probe.apply(row, world.bench.now)
        step(world, int(rng.integers(0, 200)))
        found = counters(world)
        assert found["mbufs"] == found["held_now"]
    step(world, 2000)
    assert counters(world)["held_now"] == 0


def test_udp_ports_differ_between_flows_and_stay_within_one(world):
    world.bench.allow(pair_key(world), world.c)
    world.bench.send(*[(0, frame(i, ports=(1000 + i // 2, 2000))) for i in range(64)])
    ports = [Ether(sent)[UDP].sport for _, sent in world.bench.probe.sent()]
    assert ports[0::2] == ports[1::2]
    assert len(set(ports)) > 28
    assert min(ports) >= 49152


def test_last_second_of_a_long_wait(make_bench):
    """The wheel turns once in four seconds: a wait may be longer."""
    world = World(make_bench, hold={"wait_ms": 10_000})
    world.bench.send((0, frame(1)))
    for _ in range(99):
        step(world, 100)
        assert counters(world)["held_now"] == 1
    step(world, 100)
    assert counters(world)["dropped"] == {"hold_expired": 1}


def test_decision_of_an_ingress_is_none_for_the_one_that_had_its_index_before(world):
    """Red's packet waits, red's attachment goes, and a blue one with the same addresses gets its index."""
    bench = world.bench
    index = bench.ingress_index(world.at_a)
    bench.send((0, frame(1)))
    bench.apply(
        records.make(RecordType.ATTACHMENT_REMOVE, vni=100, revision=1, object_id=bench.object_id(world.at_a))
    )
    for vlan in range(200, 260):
        step(world, 1)
        bench.probe.maintain(bench.now)
        blue = bench.add_attachment(world.blue, 0, vlan)
        if bench.ingress_index(blue) == index:
            break
    assert bench.ingress_index(blue) == index

    bench.allow(Key(blue, "bridged", ip(A_IP), ip(C_IP)), world.blue_c)
    step(world, 200)
    bench.send((0, frame(2)[:12] + bytes([0x81, 0, 0, vlan]) + frame(2)[12:]))

    assert payloads(world) == [2]
    assert counters(world)["dropped"] == {"ingress_gone": 1}
