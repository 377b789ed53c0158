# SPDX-License-Identifier: Apache-2.0
"""What a client of the data plane may send: one that is hostile reaches no other tenant."""

from __future__ import annotations

import numpy as np
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
    location,
    location_remove,
    nexthop,
    open_arena,
    peering,
    refusals,
    snapshot_begin,
    snapshot_end,
    takes,
    tunnel,
    tunnels_begin,
    tunnels_end,
    vnet,
    vnet_remove,
)

from fastpath.records import Action, IngressFlag, LocationKind, RecordFlag, RecordType, make, packet_spans
from gateway.slow_path.operations import record_of

CONTROL = 0xFF
WORKERS = 2
RED_WORKER, BLUE_WORKER = RED % WORKERS, BLUE % WORKERS
FRAME = bytes(64)
FIRST_AND_LAST = RecordFlag.FIRST | RecordFlag.LAST


@pytest.fixture
def arena():
    """Red and blue, whose workers are two clients; each has an attachment, and members at node 9."""
    with open_arena() as arena:
        arena.share(WORKERS)
        for vni, worker, vlan in ((RED, RED_WORKER, 10), (BLUE, BLUE_WORKER, 20)):
            for record in (
                vnet(vni),
                attachment(vni, 100 + worker, vlan=vlan),
                ingress(vni, 9, "192.0.2.2"),
                tunnel(500),
                location(vni, 300 + worker),
            ):
                assert not arena.apply(record, worker).any()
            key = flow_key(arena.ingress_by_vlan(0, vlan))
            assert not arena.apply(flow(vni, key, 100 + worker, destination=300 + worker), worker).any()
        assert not arena.apply(nexthop(), CONTROL).any()
        arena.taken()
        yield arena


def tables(arena) -> list[list[dict]]:
    """All but how many lead to a tunnel, which is shared."""
    dump = arena.dump
    tunnels = [{**row, "references": 0} for row in all_rows(dump.tunnels)]
    return [tunnels, *(all_rows(d) for d in (dump.vnets, dump.ingresses, dump.locations, dump.flows))]


def against_blue(arena) -> dict[RecordType, np.ndarray]:
    """One record of each type that would change something of blue's, if blue's worker sent it."""
    key = flow_key(arena.ingress_by_vlan(0, 20))
    return {
        RecordType.VNET_SET: vnet(BLUE, stale_max_s=1),
        RecordType.VNET_REMOVE: vnet_remove(BLUE),
        RecordType.SNAPSHOT_BEGIN: snapshot_begin(BLUE, incarnation=2),
        RecordType.SNAPSHOT_END: snapshot_end(BLUE, 5),
        RecordType.ATTACHMENT_SET: attachment(BLUE, 999, vlan=30),
        RecordType.ATTACHMENT_REMOVE: attachment_remove(BLUE, 100 + BLUE_WORKER),
        RecordType.INGRESS_SET: ingress(BLUE, 8, "192.0.2.8"),
        RecordType.INGRESS_REMOVE: ingress(BLUE, 9, "192.0.2.2", record_type=RecordType.INGRESS_REMOVE),
        RecordType.LOCATION_SET: location(BLUE, 399),
        RecordType.LOCATION_REMOVE: location_remove(BLUE, 300 + BLUE_WORKER),
        RecordType.PEERING_SET: peering(BLUE, RED),
        RecordType.PEERING_REMOVE: peering(BLUE, RED, RecordType.PEERING_REMOVE),
        RecordType.FLOW_INSTALL: flow(BLUE, key, 100 + BLUE_WORKER, Action.DROP, destination=0, revision=9),
        RecordType.CHANGE: change(BLUE, 9),
        RecordType.RELEASE_DROP: flow(
            BLUE, key, 100 + BLUE_WORKER, record_type=RecordType.RELEASE_DROP, reason=41, token=9
        ),
        RecordType.DIRECTORY_STATE: make(
            RecordType.DIRECTORY_STATE, answering=0, worker=BLUE_WORKER, workers=WORKERS
        ),
        RecordType.PACKET_OUT: packet_spans(
            RecordType.PACKET_OUT, FRAME, vni=BLUE, kind=LocationKind.LOCAL, target_id=100 + BLUE_WORKER
        ),
        RecordType.NEXTHOP_SET: nexthop(mac=b"\2\0\0\0\0\x66"),
        # Of no V-net, and so of any:
        RecordType.TUNNEL_SET: tunnel(
            500, revision=9, mtu_bytes=576, udp_port=9, ttl=1, node_id=66, incarnation=1
        ),
        RecordType.TUNNEL_REMOVE: make(RecordType.TUNNEL_REMOVE, object_id=500),
        RecordType.TUNNEL_GROUP_SET: group(500),
        RecordType.SYNC: make(RecordType.SYNC, revision=77, incarnation=1, workers=1),
    }


def group(*members: int, object_id: int = 700):
    row = make(
        RecordType.TUNNEL_GROUP_SET, object_id=object_id, count=len(members), mode=1, flags=FIRST_AND_LAST
    )
    row["tunnel"][0, : len(members)], row["weight"][0, : len(members)] = members, 1
    return row


def to_group(vni: int, object_id: int, target: int = 700):
    row = location(vni, object_id, target=target)
    row["kind"] = LocationKind.SET
    return row


# A worker may say these of what it shares with others: taken, and nothing of another one's changes.
TAKEN = {RecordType.TUNNEL_SET, RecordType.TUNNEL_REMOVE, RecordType.TUNNEL_GROUP_SET}


def test_each_type_of_record_is_tried() -> None:
    with open_arena() as arena:
        arena.apply(vnet(BLUE))
        tried = set(against_blue(arena))
    from_clients = {kind for kind in RecordType if 32 <= kind < 64}
    assert tried == from_clients


@pytest.mark.parametrize("client", [RED_WORKER, CONTROL])
def test_another_tenant_is_beyond_every_record_of_a_hostile_client(arena, client) -> None:
    assert not arena.apply(tunnel(501, "192.0.2.3"), BLUE_WORKER).any()
    assert not arena.apply(ingress(BLUE, 9, "192.0.2.3"), BLUE_WORKER).any()
    for record in (group(501), to_group(BLUE, 398)):
        assert not arena.apply(record, BLUE_WORKER).any()
    before = tables(arena)
    refused = 0
    for kind, record in against_blue(arena).items():
        if client == CONTROL and kind == RecordType.NEXTHOP_SET:
            continue  # that is control's
        taken = client == RED_WORKER and kind in TAKEN
        assert bool(arena.apply(record, client).any()) is not taken, kind.name
        refused += not taken
        arena.settle()
        assert tables(arena) == before, kind.name
    taken = arena.taken()
    assert taken["released"] == taken["sent"] == []
    assert arena.refused()["OTHER_CLIENT"] == refused


def test_a_record_of_red_that_speaks_of_blue_is_refused(arena) -> None:
    key = flow_key(arena.ingress_by_vlan(0, 20))
    blue_attachment, blue_location = 100 + BLUE_WORKER, 300 + BLUE_WORKER
    before = tables(arena)
    for record in (
        location(RED, 399, "local", blue_attachment),
        flow(RED, key, blue_attachment, destination=300 + RED_WORKER),
        flow(RED, key, blue_attachment, record_type=RecordType.RELEASE_DROP, reason=41, token=9),
        flow(RED, flow_key(arena.ingress_by_vlan(0, 10)), 100 + RED_WORKER, destination=blue_location),
        attachment(RED, blue_attachment, vlan=30),
        attachment(RED, 999, vlan=20),
        attachment_remove(RED, blue_attachment),
        location_remove(RED, blue_location),
        packet_spans(
            RecordType.PACKET_OUT, FRAME, vni=RED, kind=LocationKind.LOCAL, target_id=blue_attachment
        ),
    ):
        assert arena.apply(record, RED_WORKER).all()
        arena.settle()
        assert tables(arena) == before
    taken = arena.taken()
    assert taken["released"] == taken["sent"] == []


@pytest.mark.parametrize("node_id", [9, 8])
@pytest.mark.parametrize("wire_id", [BLUE, 4242])
def test_what_leaves_by_a_tunnel_is_what_may_come_back_by_it(arena, node_id, wire_id) -> None:
    """At the other end the number on the wire says whose a packet is, whatever the client calls the node."""
    assert arena.apply(location(RED, 399, wire_id=wire_id, node_id=node_id), RED_WORKER).all()
    out = packet_spans(
        RecordType.PACKET_OUT, FRAME, vni=RED, kind=LocationKind.TUNNEL, target_id=500, wire_id=wire_id
    )
    assert arena.apply(out, RED_WORKER).all()
    assert arena.taken()["sent"] == []
    assert not arena.apply(location(RED, 399), RED_WORKER).any()
    assert arena.apply(location(RED, 300 + RED_WORKER, wire_id=wire_id), RED_WORKER).all()  # nor by a move


def test_every_member_of_a_set_leads_home(arena) -> None:
    arena.apply(tunnel(501, "192.0.2.3"), RED_WORKER)  # no ingress of red is there

    assert not arena.apply(group(500, 501), RED_WORKER).any()
    assert arena.apply(to_group(RED, 399), RED_WORKER).all()
    assert not arena.apply(group(500), RED_WORKER).any()
    assert not arena.apply(to_group(RED, 399), RED_WORKER).any()
    assert arena.apply(group(500, 501), RED_WORKER).all()  # nor does a later member
    assert not arena.apply(ingress(RED, 9, "192.0.2.3"), RED_WORKER).any()
    assert not arena.apply(group(500, 501), RED_WORKER).any()


def test_next_hops_are_told_by_control_only(arena) -> None:
    before = tables(arena)
    assert arena.apply(nexthop(mac=b"\2\0\0\0\0\x66"), RED_WORKER).all()
    assert tables(arena) == before
    assert not arena.apply(nexthop(mac=b"\2\0\0\0\0\x66"), CONTROL).any()


# ---- peerings: each side speaks for itself


def across(arena):
    """A flow of red to blue's member."""
    key = flow_key(arena.ingress_by_vlan(0, 10))
    return flow(RED, key, 100 + RED_WORKER, destination=300 + BLUE_WORKER, destination_vni=BLUE)


def test_no_worker_opens_the_way_into_another_ones_v_net(arena) -> None:
    assert not arena.apply(peering(RED, BLUE), RED_WORKER).any()  # a word, and not more
    assert arena.apply(across(arena), RED_WORKER).all()
    assert refusals(arena) == ["OTHER_VNET"]
    assert arena.apply(takes(BLUE, RED), RED_WORKER).all()  # not red's to say
    assert not arena.apply(takes(RED, BLUE), RED_WORKER).any()  # nor what it needs
    assert arena.apply(across(arena), RED_WORKER).all()


SIDES = {"sender": (peering, RED, BLUE, RED_WORKER), "receiver": (takes, BLUE, RED, BLUE_WORKER)}


def say(arena, side: str, record_type: RecordType = RecordType.PEERING_SET) -> None:
    word, vni, other, worker = SIDES[side]
    assert not arena.apply(word(vni, other, record_type), worker).any()


@pytest.mark.parametrize("first", SIDES)
def test_a_peering_is_in_force_while_both_sides_say_so(arena, first) -> None:
    (second,) = SIDES.keys() - {first}
    for side in (first, second):
        assert arena.apply(across(arena), RED_WORKER).all()
        say(arena, side)
    for side in (first, second):
        assert not arena.apply(across(arena), RED_WORKER).any()
        say(arena, side, RecordType.PEERING_REMOVE)
        assert int(arena.lookup(across(arena)["key"])[0]) == 0  # its flows with it
        assert arena.apply(across(arena), RED_WORKER).all()
        say(arena, side)
    assert not arena.apply(across(arena), RED_WORKER).any()


def snapshot(arena, side: str, said: bool) -> None:
    """Its worker tells all that stands in the V-net of one side, with its word or without."""
    _, vni, _, worker = SIDES[side]
    vlan = 10 if vni == RED else 20
    for record in (
        snapshot_begin(vni),
        attachment(vni, 100 + worker, vlan=vlan),
        ingress(vni, 9, "192.0.2.2"),
        tunnel(500),
        location(vni, 300 + worker),
    ):
        assert not arena.apply(record, worker).any()
    if said:
        say(arena, side)
    assert not arena.apply(snapshot_end(vni, 0), worker).any()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("said", [True, False])
def test_a_worker_that_starts_anew_says_its_words_again(arena, side, said) -> None:
    say(arena, "sender")
    say(arena, "receiver")
    assert not arena.apply(across(arena), RED_WORKER).any()
    snapshot(arena, side, said)
    assert bool(arena.apply(across(arena), RED_WORKER).all()) is not said


def test_a_peering_comes_into_force_whichever_v_net_comes_last(arena) -> None:
    assert not arena.apply(vnet_remove(BLUE), BLUE_WORKER, tries=100).any()
    say(arena, "sender")  # nobody is there
    for record in (vnet(BLUE, 77), ingress(BLUE, 9, "192.0.2.2"), location(BLUE, 300 + BLUE_WORKER)):
        assert not arena.apply(record, BLUE_WORKER, tries=100).any()
    assert arena.apply(across(arena), RED_WORKER).all()
    say(arena, "receiver")
    assert not arena.apply(across(arena), RED_WORKER).any()


def test_what_the_directory_tells_each_side_brings_a_peering_into_force(arena) -> None:
    told = {
        RED: {"op": "peering", "vni": RED, "to_vni": BLUE, "from_vni": 0},
        BLUE: {"op": "peering", "vni": BLUE, "to_vni": 0, "from_vni": RED},
    }
    for vni, operation in told.items():
        assert arena.apply(across(arena), RED_WORKER).all()
        assert not arena.apply(record_of(operation, vni, 5, 1), vni % WORKERS).any()
    assert not arena.apply(across(arena), RED_WORKER).any()
    removed = record_of({**told[BLUE], "op": "peering_removed"}, BLUE, 6, 1)
    assert not arena.apply(removed, BLUE_WORKER).any()
    assert arena.apply(across(arena), RED_WORKER).all()


def test_who_has_a_number_after_another_inherits_no_peering(arena) -> None:
    say(arena, "sender")
    say(arena, "receiver")
    for record in (vnet(BLUE, 77), ingress(BLUE, 9, "192.0.2.2"), location(BLUE, 300 + BLUE_WORKER)):
        assert not arena.apply(record, BLUE_WORKER, tries=100).any()
    say(arena, "sender")
    assert arena.apply(across(arena), RED_WORKER).all()


def test_between_v_nets_of_one_worker_the_senders_word_will_do(arena) -> None:
    other = RED + WORKERS
    for record in (vnet(other), ingress(other, 9, "192.0.2.2"), location(other, 390), peering(RED, other)):
        assert not arena.apply(record, RED_WORKER).any()
    key = flow_key(arena.ingress_by_vlan(0, 10))
    row = flow(RED, key, 100 + RED_WORKER, destination=390, destination_vni=other)
    assert not arena.apply(row, RED_WORKER).any()


@pytest.mark.parametrize("said", ["sender", "receiver", "both"])
def test_an_adopted_peering_stands_until_a_snapshot_does_not_say_it_again(tmp_path, said) -> None:
    path = tmp_path / "arena"
    with open_arena(path=path) as arena:
        for vni in (RED, BLUE):
            arena.apply(vnet(vni), vni % WORKERS)
        arena.apply(peering(RED, BLUE), RED_WORKER)
    with open_arena(path=path) as arena:
        arena.share(WORKERS)
        arena.apply(attachment(RED, 100 + RED_WORKER, vlan=10), RED_WORKER)
        for record in (ingress(BLUE, 9, "192.0.2.2"), tunnel(500), location(BLUE, 300 + BLUE_WORKER)):
            assert not arena.apply(record, BLUE_WORKER).any()
        assert not arena.apply(across(arena), RED_WORKER).any()
        for side in SIDES:
            snapshot(arena, side, said in (side, "both"))
        assert bool(arena.apply(across(arena), RED_WORKER).all()) is (said != "both")


def test_no_v_net_keeps_the_others_from_saying_who_their_peers_are(arena) -> None:
    said = 0
    while not arena.apply(peering(RED, 100_000 + said), RED_WORKER).any():
        said += 1
    assert refusals(arena) == ["QUOTA"]
    assert not arena.apply(takes(BLUE, RED), BLUE_WORKER).any()


# ---- how many workers there are is not theirs to say


@pytest.mark.parametrize("worker", [RED_WORKER, BLUE_WORKER])
def test_a_worker_confirms_no_revision_of_anothers_v_net(arena, worker) -> None:
    before = {row["vni"]: row["in_force"] for row in all_rows(arena.dump.vnets)}
    for workers in (1, 3, 4, 16):
        lie = make(RecordType.SYNC, revision=77, incarnation=1, workers=workers)
        assert arena.apply(lie, worker).all()
        arena.settle()
    assert {row["vni"]: row["in_force"] for row in all_rows(arena.dump.vnets)} == before
    arena.apply(make(RecordType.SYNC, revision=77, incarnation=1, workers=WORKERS), worker)
    arena.settle()
    raised = {row["vni"] for row in all_rows(arena.dump.vnets) if row["in_force"] == 77}
    assert raised == {RED if worker == RED_WORKER else BLUE}


def test_a_worker_takes_no_tunnel_away_that_another_one_names(arena) -> None:
    assert not arena.apply(tunnel(501, "192.0.2.3"), 1).any()
    before = tables(arena)
    assert not arena.apply(tunnels_begin(), 0).any()
    assert arena.apply(tunnels_end(workers=1), 0).all()
    arena.settle()
    assert tables(arena) == before


# ---- foreign devices


def foreign(remote: str, wire_id: int, record_type=RecordType.INGRESS_SET, vni: int = RED):
    return ingress(vni, 5, remote, wire_id=wire_id, flags=IngressFlag.FOREIGN, record_type=record_type)


@pytest.mark.parametrize("wire_id", [BLUE, 4242])
def test_a_gateway_of_ours_is_no_foreign_device(arena, wire_id) -> None:
    """Behind a number that it calls a foreign device's would be the V-net of that number."""
    assert not arena.apply(tunnel(505, "192.0.2.5"), RED_WORKER).any()
    assert not arena.apply(ingress(BLUE, 8, "192.0.2.5"), BLUE_WORKER).any()
    before = tables(arena)
    assert arena.apply(foreign("192.0.2.5", wire_id), RED_WORKER).all()
    assert arena.apply(location(RED, 396, target=505, wire_id=wire_id, node_id=5), RED_WORKER).all()
    out = packet_spans(
        RecordType.PACKET_OUT, FRAME, vni=RED, kind=LocationKind.TUNNEL, target_id=505, wire_id=wire_id
    )
    assert arena.apply(out, RED_WORKER).all()
    assert tables(arena) == before
    assert not arena.apply(foreign("192.0.2.5", RED), RED_WORKER).any()  # its own number is nobody else's


def test_a_foreign_device_may_have_any_number(arena) -> None:
    assert not arena.apply(tunnel(505, "192.0.2.5"), RED_WORKER).any()
    assert not arena.apply(foreign("192.0.2.5", BLUE), RED_WORKER).any()
    assert not arena.apply(location(RED, 396, target=505, wire_id=BLUE, node_id=5), RED_WORKER).any()
    assert arena.apply(foreign("192.0.2.5", BLUE, vni=BLUE), BLUE_WORKER).all()  # and one V-net has it


@pytest.mark.parametrize("leaves", [True, False])
def test_who_speaks_first_keeps_nothing_that_is_a_gateways(arena, leaves) -> None:
    """Red calls a gateway a foreign device before anybody says that it is one of ours."""
    key = flow_key(arena.ingress_by_vlan(0, 10), destination="10.0.0.77")
    decision = flow(RED, key, 100 + RED_WORKER, destination=396)
    for record in (
        tunnel(505, "192.0.2.5"),
        foreign("192.0.2.5", BLUE),
        location(RED, 396, target=505, wire_id=BLUE, node_id=5),
        decision,
    ):
        assert not arena.apply(record, RED_WORKER).any()
    assert int(arena.lookup(key)[0])
    if leaves:
        assert not arena.apply(foreign("192.0.2.5", BLUE, RecordType.INGRESS_REMOVE), RED_WORKER).any()
    assert not arena.apply(ingress(BLUE, 8, "192.0.2.5"), BLUE_WORKER).any()
    assert int(arena.lookup(key)[0]) == 0
    assert arena.apply(decision, RED_WORKER).all()
    assert arena.apply(foreign("192.0.2.5", BLUE), RED_WORKER).all()


def test_a_snapshot_of_another_worker_leaves_its_places_to_nobody(arena) -> None:
    assert not arena.apply(snapshot_begin(BLUE), BLUE_WORKER).any()  # nothing is named yet
    before = tables(arena)
    assert arena.apply(attachment(RED, 999, vlan=20), RED_WORKER).all()
    assert arena.apply(foreign("192.0.2.2", BLUE), RED_WORKER).all()
    assert tables(arena) == before


# ---- tunnels and sets


def form(arena) -> tuple[int, ...]:
    (row,) = (row for row in all_rows(arena.dump.tunnels) if row["object_id"] == 500)
    return row["mtu_bytes"], row["ttl"], row["node_id"]


NEW = {"mtu_bytes": 1400, "ttl": 32, "node_id": 10}


@pytest.mark.parametrize("first", [RED_WORKER, BLUE_WORKER])
def test_a_tunnel_of_several_workers_changes_once_all_have_said_so(arena, first) -> None:
    was = form(arena)
    assert not arena.apply(tunnel(500, revision=7, **NEW), first).any()
    assert form(arena) == was
    assert not arena.apply(tunnel(500, revision=6), 1 - first).any()  # it has not heard yet
    assert form(arena) == was
    assert not arena.apply(tunnel(500, revision=8, **NEW), 1 - first).any()
    assert form(arena) == tuple(NEW.values())


def test_a_tunnel_changes_when_the_last_one_that_says_otherwise_names_it_no_longer(arena) -> None:
    for worker in (0, 1):
        for record in (tunnels_begin(), tunnel(500), tunnels_end(WORKERS)):
            assert not arena.apply(record, worker).any()
    assert not arena.apply(tunnel(500, revision=7, **NEW), RED_WORKER).any()
    assert form(arena) != tuple(NEW.values())
    assert not arena.apply(make(RecordType.TUNNEL_REMOVE, object_id=500), BLUE_WORKER).any()
    assert form(arena) == tuple(NEW.values())
    assert not arena.apply(tunnel(500, revision=9), RED_WORKER).any()  # it is its own now
    assert form(arena) != tuple(NEW.values())


def test_a_worker_that_starts_anew_may_name_any_tunnel(arena) -> None:
    for worker in (0, 1):
        for record in (tunnels_begin(), tunnel(500), tunnels_end(WORKERS)):
            assert not arena.apply(record, worker).any()
    was = form(arena)
    assert not arena.apply(tunnels_begin(), BLUE_WORKER).any()
    assert not arena.apply(tunnel(500, revision=7, **NEW), RED_WORKER).any()
    assert form(arena) == was
    assert not arena.apply(tunnels_end(WORKERS), BLUE_WORKER).any()  # it does not
    assert form(arena) == tuple(NEW.values())


def test_no_revision_of_one_worker_makes_the_others_late(arena) -> None:
    assert not arena.apply(tunnel(500, revision=1 << 60), RED_WORKER).any()
    for worker in (RED_WORKER, BLUE_WORKER):
        revision = 1 << 61 if worker == RED_WORKER else 7
        assert not arena.apply(tunnel(500, revision=revision, **NEW), worker).any()
    assert form(arena) == tuple(NEW.values())
    assert not arena.apply(tunnel(500, revision=8), BLUE_WORKER).any()


def test_sets_of_two_workers_are_two_sets(arena) -> None:
    for vni, worker in ((RED, RED_WORKER), (BLUE, BLUE_WORKER)):
        for record in (
            tunnel(501, "192.0.2.3"),
            ingress(vni, 9, "192.0.2.3"),
            group(500 + worker),
            to_group(vni, 398),
        ):
            assert not arena.apply(record, worker).any()
    targets = {row["vni"]: row["target"] for row in all_rows(arena.dump.locations) if row["object_id"] == 398}
    assert targets[RED] != targets[BLUE]
