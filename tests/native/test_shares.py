# SPDX-License-Identifier: Apache-2.0
"""What tenants share: one's flood of what is too big, or of new keys, leaves the others theirs."""

from __future__ import annotations

import numpy as np
from frames import ip, udp_frame
from test_pipeline_hold import counters, frame, misses
from world import A_IP, C_IP, D_IP, A, C, D, World

from model_packets import Key

RED, BLUE = None, 20  # VLANs on port 0
MS = 1_000_000


def big(vlan):
    return udp_frame((A, A_IP), (D, D_IP), payload=bytes(1472), flags="DF", vlan=vlan)


def answers(world, frames):
    """How many messages of our own these make."""
    before = world.bench.probe.counters()["icmp_sent"]
    world.bench.send(*[(0, each) for each in frames])
    world.bench.probe.sent()
    return world.bench.probe.counters()["icmp_sent"] - before


def too_big(make_bench):
    world = World(make_bench, icmp_per_s=8, near_mtu=1500)
    world.bench.allow(Key(world.at_a, "bridged", ip(A_IP), ip(D_IP)), world.c)
    world.bench.allow(Key(world.at_blue, "bridged", ip(A_IP), ip(D_IP)), world.blue_c)
    return world


def test_a_flood_of_what_is_too_big_leaves_other_vnets_their_messages(make_bench):
    world = too_big(make_bench)
    assert answers(world, [big(RED)] * 100) == 8  # alone it has them all
    assert answers(world, [big(BLUE)] * 100) == 4
    for _ in range(20):  # each has its half from then on
        world.bench.now += 500 * MS
        world.bench.probe.step(world.bench.now)
        red, blue = answers(world, [big(RED)] * 100), answers(world, [big(BLUE)] * 100)
        assert blue == 2
        assert red <= 2
    world.bench.now += 3_000 * MS
    world.bench.probe.step(world.bench.now)
    assert answers(world, [big(RED)] * 100) == 8  # blue is gone


def test_one_vnet_leaves_room_in_the_hold(make_bench):
    world = World(make_bench, hold={"packets": 90})
    world.bench.send(*[(0, frame(i, destination=f"10.0.1.{i + 1}")) for i in range(100)])
    found = counters(world)
    assert (found["held_now"], found["dropped"]) == (80, {"hold_vnet_full": 20})
    world.bench.send(*[(0, frame(i, vlan=BLUE, destination=f"10.0.1.{i + 1}")) for i in range(5)])
    assert counters(world)["held_now"] == 85


def test_a_flood_of_new_keys_leaves_room_in_the_ring_of_questions(make_bench):
    world = World(make_bench, miss_slots=64)
    world.bench.send(*[(0, frame(i, destination=f"10.0.1.{i + 1}")) for i in range(100)])
    world.bench.send((0, udp_frame((A, A_IP), (C, C_IP), vlan=BLUE)))
    rows = misses(world)
    asked = np.bincount([int(row["head"]["vni"]) for row in rows], minlength=201)
    assert asked[200] == 1
    assert 48 <= asked[100] < 64
    # What was read makes room: the rest is asked by and by.
    world.bench.now += 25 * MS
    world.bench.probe.step(world.bench.now)
    assert len(misses(world)) == 101 - len(rows)
