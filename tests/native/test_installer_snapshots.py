# SPDX-License-Identifier: Apache-2.0
"""What a snapshot keeps and sweeps, and what goes with a V-net or an attachment."""

from __future__ import annotations

from installing import (
    BLUE,
    FAR,
    RACK,
    RED,
    SERVER,
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
    locator_key,
    peering,
    refusals,
    snapshot_begin,
    snapshot_end,
    vnet,
    vnet_remove,
)

from fastpath.records import (
    Action,
    join,
)


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
