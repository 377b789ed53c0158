# SPDX-License-Identifier: Apache-2.0
"""Ingresses, locations, tunnels and sets of them: how they come, move and go."""

from __future__ import annotations

import errno

from installing import (
    BLUE,
    FAR,
    RACK,
    RED,
    TUNNEL,
    all_rows,
    applied,
    flow,
    ingress,
    location,
    location_remove,
    locator_key,
    nexthop,
    open_arena,
    refusals,
    snapshot_begin,
    snapshot_end,
    tunnel,
    tunnels_begin,
    tunnels_end,
    vnet,
)

from fastpath import records
from fastpath.records import (
    LocationKind,
    RecordFlag,
    RecordType,
    join,
    make,
)


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
