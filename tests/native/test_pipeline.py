# SPDX-License-Identifier: Apache-2.0
"""One packet, one fact. Every frame also goes through the model; what comes out is read by scapy."""

from __future__ import annotations

from collections import Counter

import pytest
from frames import (
    IP,
    UDP,
    VXLAN,
    Dot1Q,
    Ether,
    Raw,
    arp_frame,
    assert_valid,
    ether,
    ip,
    mac,
    udp_frame,
    vxlan_frame,
)
from world import (
    A_IP,
    B_IP,
    C_IP,
    D_IP,
    FAR_MAC,
    FOREIGN,
    FOREIGN_VNI,
    GATEWAY,
    LOCAL,
    NEAR,
    NEAR_MAC,
    OUR_MAC,
    A,
    B,
    C,
    D,
    World,
    key,
)

from model_packets import Action, Key, Location


def test_inside_to_tunnel_is_encapsulated(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    inner = udp_frame((A, A_IP), (mac(0x55), C_IP), tos=0xB8, flags="DF")

    outcome = world.bench.compare(0, inner)

    assert outcome.how == "forwarded"
    outer = assert_valid(outcome.sent[0].frame)
    assert (outer.src, outer.dst) == ("02:00:00:00:00:f2", "02:00:00:00:00:e1")
    assert (outer[IP].src, outer[IP].dst, outer[IP].ttl, outer[IP].id, outer[IP].flags) == (
        LOCAL,
        NEAR,
        64,
        0,
        "DF",
    )
    assert outer[IP].tos == 0
    assert outer[UDP].dport == 4789
    assert outer[VXLAN].vni == 100
    assert bytes(outer[VXLAN].payload) == C + inner[6:]  # only the destination MAC is new


def test_routed_packet_loses_a_hop_and_comes_from_the_gateway(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP, "routed"), world.c)

    outcome = world.bench.compare(0, udp_frame((A, A_IP), (GATEWAY, C_IP), ttl=64))

    inner = Ether(bytes(assert_valid(outcome.sent[0].frame)[VXLAN].payload))
    assert (inner.src, inner.dst, inner[IP].ttl) == ("02:00:00:00:00:aa", "02:00:00:00:00:03", 63)
    assert_valid(bytes(inner))


def test_routed_packet_without_hops_left_ends(world):
    outcome = world.bench.compare(0, udp_frame((A, A_IP), (GATEWAY, C_IP), ttl=1))
    assert outcome.reason == "ttl_exceeded"


def test_dscp_is_copied_and_ecn_always(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    world.bench.allow(key(world.at_a, A_IP, D_IP), world.d)

    fixed = world.bench.compare(0, udp_frame((A, A_IP), (C, C_IP), tos=0x29))
    copied = world.bench.compare(0, udp_frame((A, A_IP), (D, D_IP), tos=0x29))

    assert assert_valid(fixed.sent[0].frame)[IP].tos == 0x01
    outer = assert_valid(copied.sent[0].frame)
    assert outer[IP].tos == 0x29
    assert outer[Dot1Q].vlan == 77  # that next hop is behind a tag


def test_padding_is_cut_off(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    short = udp_frame((A, A_IP), (C, C_IP), payload=b"")
    outcome = world.bench.compare(0, short + bytes(60 - len(short)))
    assert len(outcome.sent[0].frame) == 50 + len(short)


def test_tunnel_to_inside_is_decapsulated(world):
    world.bench.allow(key(world.near, C_IP, B_IP), world.b)
    inner = udp_frame((C, C_IP), (B, B_IP))

    outcome = world.bench.compare(2, vxlan_frame(inner, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100))

    assert outcome.how == "delivered"
    assert outcome.sent[0].port == 1
    assert assert_valid(outcome.sent[0].frame)[Dot1Q].vlan == 10
    assert outcome.sent[0].frame[18:] == inner[14:]


def test_two_attachments_of_one_node(world):
    world.bench.allow(key(world.at_b, B_IP, A_IP), world.a)
    tagged = udp_frame((B, B_IP), (A, A_IP), vlan=10)
    outcome = world.bench.compare(1, tagged)
    assert outcome.how == "delivered"
    assert outcome.sent[0].frame == tagged[:12] + tagged[16:]


def test_same_addresses_in_another_vnet_are_another_flow(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    world.bench.allow(key(world.at_blue, A_IP, C_IP), world.blue_c)

    red = world.bench.compare(0, udp_frame((A, A_IP), (C, C_IP)))
    blue = world.bench.compare(0, udp_frame((A, A_IP), (C, C_IP), vlan=20))

    assert assert_valid(red.sent[0].frame)[VXLAN].vni == 100
    assert assert_valid(blue.sent[0].frame)[VXLAN].vni == 200


def test_forged_source_misses_since_the_ingress_is_in_the_key(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    outcome = world.bench.compare(1, udp_frame((mac(0x66), A_IP), (C, C_IP), vlan=10))
    assert outcome.how == "held"


def test_relay_between_tunnels_counts_outer_hops(world):
    world.bench.allow(key(world.near, C_IP, D_IP), world.d)
    inner = udp_frame((C, C_IP), (D, D_IP))

    far = world.bench.compare(2, vxlan_frame(inner, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100, ttl=64))
    last = world.bench.compare(2, vxlan_frame(inner, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100, ttl=2))
    none = world.bench.compare(2, vxlan_frame(inner, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100, ttl=1))

    assert far.how == "relayed"
    assert assert_valid(far.sent[0].frame)[IP].ttl == 3  # the profile's
    assert assert_valid(last.sent[0].frame)[IP].ttl == 1
    assert none.reason == "relay_hops"


def test_relay_never_goes_back_to_the_node_it_came_from(world):
    world.bench.allow(key(world.near, A_IP, C_IP), world.c)
    inner = udp_frame((A, A_IP), (C, C_IP))
    outcome = world.bench.compare(2, vxlan_frame(inner, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100))
    assert outcome.reason == "relay_loop"


def test_delivery_back_through_the_same_attachment_is_refused(world):
    world.bench.allow(key(world.at_a, A_IP, "10.0.0.9"), world.a)
    outcome = world.bench.compare(0, udp_frame((A, A_IP), (mac(9), "10.0.0.9")))
    assert outcome.reason == "hairpin"


@pytest.mark.parametrize("forged", [mac(0x77), B, C, GATEWAY])
@pytest.mark.parametrize("key_class", ["bridged", "routed"])
def test_source_is_an_address_and_a_mac(world, key_class, forged):
    to = GATEWAY if key_class == "routed" else C
    world.bench.allow(key(world.at_a, A_IP, C_IP, key_class), world.c, world.a)
    world.bench.allow(key(world.at_a, A_IP, B_IP, key_class), world.b, world.a)
    world.bench.allow(key(world.foreign, C_IP, A_IP, key_class), world.a, world.c)
    asked = Key(world.at_a, "neighbor", ip(A_IP), ip(C_IP))
    world.bench.add_flow(asked, Action("answer", destination=world.c, source=world.a))

    for source, end in ((A, "forwarded"), (forged, "dropped")):
        outcome = world.bench.compare(0, udp_frame((source, A_IP), (to, C_IP)))
        assert (outcome.how, outcome.reason) == (end, "spoofed" if source == forged else "")
    for source, end in ((A, "delivered"), (forged, "dropped")):
        assert world.bench.compare(0, udp_frame((source, A_IP), (to, B_IP))).how == end
    for source, end in ((A, "answered"), (forged, "dropped")):
        assert world.bench.compare(0, arp_frame((source, A_IP), C_IP)).how == end


def test_source_behind_a_foreign_vtep_is_an_address_and_a_mac(world):
    world.bench.allow(key(world.foreign, C_IP, A_IP), world.a, world.c)

    for source, end in ((C, "delivered"), (B, "dropped"), (GATEWAY, "dropped")):
        inner = udp_frame((source, C_IP), (A, A_IP))
        frame = vxlan_frame(inner, (FAR_MAC, FOREIGN), (OUR_MAC, LOCAL), FOREIGN_VNI, udp_port=8472)
        assert world.bench.compare(2, frame).how == end


def test_source_whose_mac_changes_is_one_store_in_its_location(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c, world.a)
    world.bench.tables.flows[key(world.at_a, A_IP, C_IP)] = Action(
        "forward", world.c, world.bench.add_location(Location(100, world.at_a, mac(0x78)), "a")
    )

    assert world.bench.compare(0, udp_frame((A, A_IP), (C, C_IP))).reason == "spoofed"
    assert world.bench.compare(0, udp_frame((mac(0x78), A_IP), (C, C_IP))).how == "forwarded"


def test_routed_packet_goes_back_into_the_segment_it_came_from(world):
    other_a = world.bench.add_location(Location(100, world.at_a, mac(0x12)), "neighbour")
    world.bench.allow(key(world.at_a, A_IP, "10.0.1.2", "routed"), other_a)

    outcome = world.bench.compare(0, udp_frame((A, A_IP), (GATEWAY, "10.0.1.2")))

    assert outcome.how == "delivered"
    back = assert_valid(outcome.sent[0].frame)
    assert (back.dst, back.src, back[IP].ttl) == ("02:00:00:00:00:12", "02:00:00:00:00:aa", 63)


def test_moved_endpoint_is_one_store_in_its_location(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    moved = world.bench.add_location(type(world.c)(100, world.at_b, C), "c")
    world.bench.tables.flows[key(world.at_a, A_IP, C_IP)] = Action("forward", destination=moved)
    assert world.bench.compare(0, udp_frame((A, A_IP), (C, C_IP))).how == "delivered"


def test_narrow_pair_is_decided_by_ports(world):
    world.bench.add_flow(key(world.at_a, A_IP, C_IP), Action("narrow"))
    world.bench.allow(key(world.at_a, A_IP, C_IP, connection=(17, 1000, 53)), world.c)
    world.bench.add_flow(
        key(world.at_a, A_IP, C_IP, connection=(6, 1000, 53)), Action("drop", reason="denied")
    )

    assert world.bench.compare(0, udp_frame((A, A_IP), (C, C_IP), ports=(1000, 53))).how == "forwarded"
    denied = world.bench.compare(0, udp_frame((A, A_IP), (C, C_IP), ports=(1000, 53), protocol="tcp"))
    assert denied.reason == "denied"
    assert world.bench.compare(0, udp_frame((A, A_IP), (C, C_IP), ports=(1000, 54))).how == "held"


def test_later_fragments_follow_their_first_one(world):
    world.bench.add_flow(key(world.at_a, A_IP, C_IP), Action("narrow"))
    world.bench.allow(key(world.at_a, A_IP, C_IP, connection=(17, 1000, 53)), world.c)
    whole = IP(udp_frame((A, A_IP), (C, C_IP), ports=(1000, 53), payload=bytes(3000), id=77)[14:])
    first, *later = [bytes(ether(A, C) / part) for part in whole.fragment(1400)]

    assert world.bench.compare(0, later[0]).reason == "fragment_unknown"
    for frame in (first, *later):
        assert world.bench.compare(0, frame).how == "forwarded"


def test_fragments_under_a_pair_decision_need_no_ports(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    whole = IP(udp_frame((A, A_IP), (C, C_IP), payload=bytes(3000), id=77)[14:])
    *_, last = [bytes(ether(A, C) / part) for part in whole.fragment(1400)]
    assert world.bench.compare(0, last).how == "forwarded"


def test_all_fragments_of_a_packet_take_one_way(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    whole = IP(udp_frame((A, A_IP), (C, C_IP), payload=bytes(3000), id=77)[14:])
    world.bench.send(*[(0, bytes(ether(A, C) / part)) for part in whole.fragment(1400)])
    assert len({frame[34:36] for _, frame in world.bench.probe.sent()}) == 1


def test_member_of_a_set_says_nothing_of_the_next_hop(world):
    bench = world.bench
    location = Location(100, world.to_near, mac(7), 100)
    both = bench.add_set([world.to_near, world.to_far], [1, 1], 1)
    location = bench.add_location(location, "of a set", target_id=both, kind=3)
    for tunnel, number in ((world.to_near, 0xB0), (world.to_far, 0xC0)):
        bench.set_hops(tunnel, [(mac(number), OUR_MAC, 2, 0), (mac(number + 1), OUR_MAC, 2, 0)])
    bench.allow(key(world.at_a, A_IP, C_IP), location)
    hops: Counter = Counter()
    for first in range(1000, 2000, 250):
        bench.send(*[(0, udp_frame((A, A_IP), (C, C_IP), ports=(first + i, 53))) for i in range(250)])
        hops.update(frame[:6] for _, frame in bench.probe.sent())
    assert sorted(hops) == [mac(0xB0), mac(0xB1), mac(0xC0), mac(0xC1)]
    assert min(hops.values()) > 150  # of 250; by chance once in 10^13 tests


@pytest.mark.parametrize(
    ("outer", "inner", "got"),
    [(o, i, {3: {0: None, 1: 3, 2: 3}, 1: {2: 1}}.get(o, {}).get(i, i)) for o in range(4) for i in range(4)],
)
def test_ecn_is_joined_as_in_rfc_6040(world, outer, inner, got):
    world.bench.allow(key(world.near, C_IP, A_IP), world.a)
    frame = udp_frame((C, C_IP), (A, A_IP), tos=0x20 | inner)
    outcome = world.bench.compare(2, vxlan_frame(frame, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100, tos=outer))
    if got is None:
        assert outcome.reason == "ecn_congested"
    else:
        assert assert_valid(outcome.sent[0].frame)[IP].tos == 0x20 | got


def test_packet_in_several_buffers_is_joined(world):
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    world.bench.send((0, udp_frame((A, A_IP), (C, C_IP), payload=bytes(1000))), segments=3)
    ((_, frame),) = world.bench.probe.sent()
    assert len(assert_valid(frame)[Raw]) == 1000


def test_packet_longer_than_any_buffer_is_dropped(world):
    world.bench.send((0, udp_frame((A, A_IP), (C, C_IP), payload=bytes(4000))), segments=4)
    assert world.bench.probe.counters()["dropped"] == {"no_buffer": 1}


def test_not_ip_is_carried_by_mac(world):
    world.bench.allow(Key(world.at_a, "mac", A, C), world.c)
    outcome = world.bench.compare(0, C + A + b"\x88\xcc" + bytes(50))
    assert outcome.how == "forwarded"


def test_what_the_queue_does_not_take_is_counted_as_dropped(make_bench):
    world = World(make_bench, ring_slots=64)
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    world.bench.send(*[(0, udp_frame((A, A_IP), (C, C_IP)))] * 96)
    counters = world.bench.probe.counters()
    assert (counters["forwarded"], counters["dropped"]) == (63, {"tx_full": 33})
    assert counters["reason_vnet"] == {("tx_full", 100): 33}
    assert counters["ports"][2]["tx_full"] == 33


def test_counters_agree_with_what_passed(world):
    world.bench.allow(key(world.near, C_IP, B_IP), world.b, source=world.c)
    inner = udp_frame((C, C_IP), (B, B_IP))
    outer = vxlan_frame(inner, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    world.bench.send(*[(2, outer)] * 5)
    counters = world.bench.probe.counters()
    assert counters["ports"][2] == {
        "rx_packets": 5,
        "rx_bytes": 5 * len(outer),
        "tx_packets": 0,
        "tx_bytes": 0,
        "tx_full": 0,
        "exceptions": 0,
    }
    assert counters["ports"][1]["tx_bytes"] == 5 * (len(inner) + 4)
    assert counters["vnets"][1] == {
        "rx_packets": 5,
        "rx_bytes": 5 * len(inner),
        "tx_packets": 5,
        "tx_bytes": 5 * len(inner),
    }
    assert sum(t["rx_packets"] for t in counters["tunnels"][1:]) == 5
    assert (counters["lookups"], counters["hits"]) == (5, 5)


def test_use_is_stamped_and_sampled(world):
    flow = key(world.at_a, A_IP, C_IP)
    world.bench.allow(flow, world.c)
    entry = world.bench.probe.flow_find(world.bench.native_key(flow).tobytes())
    world.bench.now += 5 * 10**9
    frame = udp_frame((A, A_IP), (C, C_IP))
    for _ in range(40):
        world.bench.send(*[(0, frame)] * 160)
        world.bench.probe.sent()
    side = world.bench.probe.flow_side(entry)
    assert world.bench.probe.flow_used_s(entry) == world.bench.now // 10**9
    assert 0.5 < side["packets_sampled"] * 64 / 6400 < 1.5
