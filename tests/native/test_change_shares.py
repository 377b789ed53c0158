# SPDX-License-Identifier: Apache-2.0
"""What V-nets may have pending of their changes: however many one has, another's are compared one by one."""

from __future__ import annotations

import pytest
from installing import (
    BLUE,
    RED,
    attachment,
    change,
    flow,
    flow_key,
    ingress,
    location,
    nexthop,
    open_arena,
    peering,
    tunnel,
    vnet,
    vnet_remove,
)

from fastpath.records import Action, ActionFlag, ChangeKind, KeyFlag, join

RACK, FAR, TUNNEL = 100, 300, 500
MANY = 600  # more than anything that is shared was ever made for
VLAN = {RED: 10, BLUE: 20}


@pytest.fixture
def arena():
    """Red and blue, and a reader that leaves everything pending: it passes no quiescent state."""
    with open_arena(vnets=2 * MANY, flows=4096) as arena:
        arena.apply(join([tunnel(TUNNEL), nexthop()]))
        for vni, vlan in VLAN.items():
            made = [vnet(vni), attachment(vni, RACK + vlan, vlan=vlan), ingress(vni, 9, "192.0.2.2")]
            assert not arena.apply(join([*made, location(vni, FAR + vlan)])).any()
        arena.reader_register(0)
        arena.reader_online(0)
        yield arena
        arena.reader_offline(0)
        arena.reader_unregister(0)


def key(arena, vni, port):
    ports = {"protocol": 6, "destination_port": int.from_bytes(port.to_bytes(2, "big"), "little")}
    return flow_key(arena.ingress_by_vlan(0, VLAN[vni]), flags=KeyFlag.CONNECTION, **ports)


def decide(arena, vni, *ports):
    rows = [flow(vni, key(arena, vni, port), RACK + VLAN[vni], destination=FAR + VLAN[vni]) for port in ports]
    assert not arena.apply(join(rows)).any()


def state(arena, vni, port):
    word = int(arena.lookup(key(arena, vni, port))[0])
    if Action(word >> 56) == Action.NONE:
        return "closed"
    return "stale" if word >> 48 & ActionFlag.STALE else "good"


def flood(vni, kind, first=1000):
    """Changes of so many single ports, one revision each."""
    ports = range(first, first + MANY)
    return join([change(vni, n, kind=kind, protocol=6, ports=(p, p)) for n, p in enumerate(ports, 1)])


def test_a_flood_of_revocations_closes_all_of_the_flooder_and_nothing_else(arena):
    decide(arena, RED, 80, 81)
    decide(arena, BLUE, 80, 81)
    assert not arena.apply(flood(RED, ChangeKind.TIGHTEN)).any()
    assert not arena.apply(change(BLUE, 9, protocol=6, ports=(80, 80))).any()
    assert [state(arena, RED, 80), state(arena, RED, 81)] == ["closed", "closed"]
    assert [state(arena, BLUE, 80), state(arena, BLUE, 81)] == ["closed", "good"]


def test_what_a_flood_closed_is_good_again_once_it_is_decided_after_it(arena):
    arena.apply(flood(RED, ChangeKind.TIGHTEN))
    row = flow(RED, key(arena, RED, 80), RACK + 10, destination=FAR + 10, revision=MANY)
    assert not arena.apply(row).any()
    assert state(arena, RED, 80) == "good"


def test_peers_that_are_removed_close_nothing_else_of_who_sent_to_them(arena):
    others = range(BLUE + 1, BLUE + 1 + MANY)
    arena.apply(join([row for vni in others for row in (vnet(vni), peering(RED, vni))]))
    decide(arena, RED, 80)
    assert not arena.apply(join([vnet_remove(vni) for vni in others]), tries=100).any()
    assert state(arena, RED, 80) == "good"


def test_a_flood_of_loosened_rules_has_all_of_the_flooder_asked_again_and_nothing_else(arena):
    decide(arena, RED, 80, 81)
    decide(arena, BLUE, 80, 81)
    assert not arena.apply(flood(RED, ChangeKind.LOOSEN)).any()
    assert not arena.apply(change(BLUE, 9, kind=ChangeKind.LOOSEN, protocol=6, ports=(80, 80))).any()
    arena.settle()
    assert [state(arena, RED, 80), state(arena, RED, 81)] == ["stale", "stale"]
    assert [state(arena, BLUE, 80), state(arena, BLUE, 81)] == ["stale", "good"]


@pytest.mark.parametrize("kind", [ChangeKind.LOOSEN, ChangeKind.MOVE])
def test_only_flows_in_its_scope_are_asked_again_among_revocations_of_others(arena, kind):
    decide(arena, RED, 80, 81, 82)
    changes = [
        change(RED, 2, protocol=6, ports=(82, 82)),
        change(RED, 3, kind=kind, protocol=6, ports=(80, 80)),
    ]
    changes.append(change(RED, 4, protocol=6, ports=(83, 83)))
    assert not arena.apply(join(changes)).any()
    arena.settle()
    assert [state(arena, RED, port) for port in (80, 81, 82)] == ["stale", "good", "closed"]
