# SPDX-License-Identifier: Apache-2.0
"""One packet, one fact. Every frame also goes through the model; what comes out is read by scapy."""

from __future__ import annotations

from collections import Counter

import pytest
from frames import (
    ARP,
    GRE,
    ICMP,
    IP,
    SCTP,
    TCP,
    UDP,
    VXLAN,
    Dot1Q,
    Ether,
    Raw,
    SCTPChunkData,
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
    BOTH_MAC,
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
)

from model_checksums import checksum
from model_packets import Action, Key, Location


@pytest.fixture
def world(make_bench):
    return World(make_bench)


def key(ingress, source, destination, key_class="bridged", connection=None):
    return Key(ingress, key_class, ip(source), ip(destination), connection)


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


@pytest.mark.parametrize("port", [0, 2])
def test_partial_checksums_are_completed(make_bench, port):
    world = World(make_bench, partial=True)
    for ingress in (world.at_a, world.near):
        world.bench.allow(key(ingress, A_IP, B_IP), world.b)
    for protocol in ("udp", "tcp"):
        for payload in (b"", b"x", b"odd", b"even", bytes(range(200))):
            whole = udp_frame((A, A_IP), (B, B_IP), protocol=protocol, payload=payload)
            at = 14 + 20 + (6 if protocol == "udp" else 16)
            packet = IP(whole[14:])
            length = len(packet[IP].payload)
            pseudo = sum(whole[14 + i] << 8 | whole[15 + i] for i in range(12, 20, 2)) + packet.proto + length
            while pseudo > 0xFFFF:
                pseudo = (pseudo & 0xFFFF) + (pseudo >> 16)
            frame = whole[:at] + pseudo.to_bytes(2, "big") + whole[at + 2 :]
            if port == 2:
                frame = vxlan_frame(frame, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
            outcome = world.bench.compare(port, frame)
            assert assert_valid(outcome.sent[0].frame)[IP].payload == packet.payload


# -- too big -----------------------------------------------------------------------------------------


def left_partial(layer) -> bytes:
    """An IPv4 packet as a kernel leaves it: the innermost checksum to be completed, those around it as if it
    were; an SCTP checksum 0."""
    whole = bytes(layer)
    inner = layer.copy().getlayer(IP, layer.layers().count(IP))
    at = whole.rindex(bytes(inner))
    l4 = at + inner.ihl * 4 if inner.ihl else at + 20
    if inner.proto == 132:
        return whole[: l4 + 8] + bytes(4) + whole[l4 + 12 :]
    pseudo = whole[at + 12 : at + 20] + bytes([0, whole[at + 9]]) + (len(whole) - l4).to_bytes(2, "big")
    field = l4 + (16 if whole[at + 9] == 6 else 6)
    return whole[:field] + (~checksum(pseudo) & 0xFFFF).to_bytes(2, "big") + whole[field + 2 :]


INSIDE = IP(src="10.9.0.1", dst="10.9.0.2")
OUTSIDE = IP(src=A_IP, dst=C_IP)
PLAIN_VXLAN = Raw(bytes.fromhex("0800000000000500"))
GENEVE = Raw(bytes.fromhex("0200655800000500") + bytes(8))
INNER_TCP = INSIDE / TCP(sport=1, dport=2) / Raw(b"odd")


@pytest.mark.parametrize(
    "sent",
    [
        OUTSIDE / TCP(sport=1, dport=2) / Raw(b"odd"),
        OUTSIDE / UDP(sport=1, dport=2) / Raw(b"odd"),
        OUTSIDE / SCTP(sport=1, dport=2) / SCTPChunkData(data=b"even"),
        OUTSIDE / INNER_TCP,
        OUTSIDE / GRE() / INNER_TCP,
        OUTSIDE / GRE(key_present=1, key=7, seqnum_present=1) / Ether() / INNER_TCP,
        OUTSIDE / UDP(sport=1, dport=4790) / VXLAN(vni=5) / Ether() / INNER_TCP,
        OUTSIDE / UDP(sport=1, dport=4790) / VXLAN(vni=5) / INNER_TCP,
        OUTSIDE / UDP(sport=1, dport=4790) / PLAIN_VXLAN / Ether() / INNER_TCP,
        OUTSIDE / UDP(sport=1, dport=4790, chksum=0) / VXLAN(vni=5) / Ether() / Dot1Q(vlan=3) / INNER_TCP,
        OUTSIDE
        / UDP(sport=1, dport=4790)
        / VXLAN(vni=5)
        / Ether()
        / INSIDE
        / SCTP()
        / SCTPChunkData(data=b"1"),
        OUTSIDE / UDP(sport=1, dport=6081) / GENEVE / Ether() / INNER_TCP,
        OUTSIDE / INSIDE / UDP(sport=1, dport=4790) / VXLAN(vni=5) / Ether() / INNER_TCP,
    ],
    ids=lambda layer: layer.summary(),
)
def test_checksums_are_completed_in_tunnels_of_the_senders_own(make_bench, sent):
    world = World(make_bench, partial=True)
    world.bench.allow(key(world.at_a, A_IP, C_IP), world.c)
    partial = left_partial(sent)
    assert partial != bytes(sent)

    outcome = world.bench.compare(0, C + A + b"\x08\x00" + partial)

    assert outcome.how == "forwarded"
    assert outcome.sent[0].frame.endswith(bytes(sent))
    untouched = world.bench.compare(0, C + A + b"\x08\x00" + bytes(sent))
    assert untouched.sent[0].frame.endswith(bytes(sent)), "what was complete stays"


def test_too_big_with_df_is_told_the_tunnels_mtu(world):
    world.bench.allow(key(world.at_a, A_IP, D_IP), world.d)
    big = udp_frame((A, A_IP), (GATEWAY, D_IP), payload=bytes(1472), flags="DF")
    world.bench.allow(key(world.at_a, A_IP, D_IP, "routed"), world.d)

    outcome = world.bench.compare(0, big)

    assert outcome.reason == "mtu_frag_needed"
    told = assert_valid(outcome.sent[0].frame)
    assert outcome.sent[0].port == 0
    assert (told.dst, told[IP].src, told[IP].dst) == ("02:00:00:00:00:01", "10.0.0.254", A_IP)
    assert (told[ICMP].type, told[ICMP].code, told[ICMP].nexthopmtu) == (3, 4, 1450)
    assert bytes(told[ICMP].payload) == big[14 : 14 + 28]


def test_too_big_without_df_ends_by_name(world):
    world.bench.allow(key(world.at_a, A_IP, D_IP), world.d)
    outcome = world.bench.compare(0, udp_frame((A, A_IP), (D, D_IP), payload=bytes(1472)))
    assert outcome.reason == "mtu_exceeded"
    assert outcome.sent == ()


def test_largest_inner_packet_fits_and_one_byte_more_does_not(world):
    world.bench.allow(key(world.at_a, A_IP, D_IP), world.d)
    fits = world.bench.compare(0, udp_frame((A, A_IP), (D, D_IP), payload=bytes(1450 - 28)))
    more = world.bench.compare(0, udp_frame((A, A_IP), (D, D_IP), payload=bytes(1451 - 28)))
    assert len(assert_valid(fits.sent[0].frame)[IP]) == 1500
    assert more.reason == "mtu_exceeded"


def test_sender_behind_a_tunnel_is_told_through_the_tunnel(world):
    world.bench.allow(key(world.near, C_IP, "10.0.0.9"), world.s, source=world.c)
    big = udp_frame((C, C_IP), (mac(9), "10.0.0.9"), payload=bytes(800), flags="DF")

    outcome = world.bench.compare(2, vxlan_frame(big, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100))

    outer = assert_valid(outcome.sent[0].frame)
    assert (outer[IP].dst, outer[VXLAN].vni) == (NEAR, 100)
    told = Ether(bytes(outer[VXLAN].payload))
    assert (told.dst, told[IP].dst, told[ICMP].nexthopmtu) == ("02:00:00:00:00:03", C_IP, 600)


def test_icmp_errors_are_never_answered_with_one(world):
    world.bench.allow(key(world.at_a, A_IP, D_IP), world.d)
    frame = udp_frame((A, A_IP), (D, D_IP), payload=bytes(1470), flags="DF", protocol="icmp", ports=(11, 0))
    outcome = world.bench.compare(0, frame)
    assert (outcome.reason, outcome.sent) == ("mtu_frag_needed", ())


def test_messages_of_our_own_are_rate_limited(make_bench):
    world = World(make_bench, icmp_per_s=3)
    world.bench.allow(key(world.at_a, A_IP, D_IP), world.d)
    big = udp_frame((A, A_IP), (D, D_IP), payload=bytes(1472), flags="DF")
    world.bench.send(*[(0, big)] * 10)
    assert len(world.bench.probe.sent()) == 3
    counters = world.bench.probe.counters()
    assert (counters["icmp_sent"], counters["dropped"]["mtu_frag_needed"]) == (3, 10)


# -- ARP ---------------------------------------------------------------------------------------------


def test_arp_is_answered_with_the_locations_mac(world):
    question = Key(world.at_b, "neighbor", ip(B_IP), ip(C_IP))
    world.bench.add_flow(question, Action("answer", destination=world.c))
    outcome = world.bench.compare(1, arp_frame((B, B_IP), C_IP, vlan=10))
    reply = assert_valid(outcome.sent[0].frame)
    assert outcome.how == "answered"
    assert (reply.dst, reply.src, reply[Dot1Q].vlan) == ("02:00:00:00:00:02", "02:00:00:00:00:03", 10)
    assert (reply[ARP].op, reply[ARP].hwsrc, reply[ARP].psrc) == (2, "02:00:00:00:00:03", C_IP)
    assert (reply[ARP].hwdst, reply[ARP].pdst) == ("02:00:00:00:00:02", B_IP)


def test_arp_for_the_gateway_is_answered_with_its_mac(world):
    question = Key(world.at_a, "neighbor", ip(A_IP), ip("10.0.0.254"))
    world.bench.add_flow(question, Action("answer"))
    outcome = world.bench.compare(0, arp_frame((A, A_IP), "10.0.0.254"))
    assert assert_valid(outcome.sent[0].frame)[ARP].hwsrc == "02:00:00:00:00:aa"


def test_arp_out_of_a_tunnel_is_answered_into_it(world):
    question = Key(world.near, "neighbor", ip(C_IP), ip(A_IP))
    world.bench.add_flow(question, Action("answer", destination=world.a, source=world.c))
    frame = vxlan_frame(arp_frame((C, C_IP), A_IP), (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    outcome = world.bench.compare(2, frame)
    outer = assert_valid(outcome.sent[0].frame)
    reply = Ether(bytes(outer[VXLAN].payload))
    assert (outer[IP].dst, reply[ARP].hwsrc, reply[ARP].hwdst) == (
        NEAR,
        "02:00:00:00:00:01",
        "02:00:00:00:00:03",
    )


@pytest.mark.parametrize("asker", ["0.0.0.0", B_IP])
def test_probe_of_the_holder_itself_is_not_answered(world, asker):
    probed = Key(world.at_a, "neighbor", ip(asker), ip(A_IP))
    world.bench.add_flow(probed, Action("answer", destination=world.a))

    assert world.bench.compare(0, arp_frame((A, asker), A_IP)).reason == "arp_own_address"
    assert world.bench.compare(0, arp_frame((mac(0x77), asker), A_IP)).how == "answered"


SNAP = bytes.fromhex("aaaa03000000")
INNER_IP = udp_frame((A, "10.0.0.99"), (C, C_IP))[14:]


@pytest.mark.parametrize("length", [0, 3, 1500, 0x5FF, None])
@pytest.mark.parametrize(
    "llc",
    [
        SNAP + b"\x08\x00" + INNER_IP,
        SNAP + b"\x08\x06" + arp_frame((A, A_IP), C_IP)[14:],
        SNAP + b"\x86\xdd" + bytes(40),
        SNAP + b"\x81\x00\x00\x05\x08\x00" + INNER_IP,
        bytes.fromhex("aaaa030000f80800") + INNER_IP,  # IEEE 802.1H
        bytes.fromhex("aaaabf0000000800") + INNER_IP,  # not UI
        bytes.fromhex("060603") + INNER_IP,
        bytes.fromhex("989803") + arp_frame((A, A_IP), C_IP)[14:],
    ],
)
def test_ip_and_arp_in_llc_end_by_name(world, llc, length):
    world.bench.allow(Key(world.at_a, "mac", A, C), world.c)
    world.bench.allow(Key(world.near, "mac", C, A), world.a)
    word = b"\x88\x70" if length is None else length.to_bytes(2, "big")  # None: jumbo
    vlan = bytes.fromhex("8100e000")

    for tag in (b"", vlan):
        assert world.bench.compare(0, C + A + tag + word + llc).reason == "llc_carries_ip"
    tunneled = vxlan_frame(A + C + word + llc, (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), 100)
    assert world.bench.compare(2, tunneled).reason == "llc_carries_ip"


@pytest.mark.parametrize("llc", ["424203000000000000", "aaaa0300000c2000", "aaaa0300000088cc", "aa", "0303"])
def test_other_llc_frames_are_carried_by_mac(world, llc):
    world.bench.allow(Key(world.at_a, "mac", A, C), world.c)

    assert world.bench.compare(0, C + A + b"\x00\x26" + bytes.fromhex(llc)).how == "forwarded"


def test_arp_replies_and_announcements_are_not_believed(world):
    reply = bytes(ether(A, B) / ARP(op=2, hwsrc=A, psrc=A_IP, hwdst=B, pdst=B_IP))
    assert world.bench.compare(0, reply).reason == "arp_unsolicited"
    assert world.bench.compare(0, arp_frame((A, A_IP), A_IP)).reason == "arp_unsolicited"


# -- ports and fragments -----------------------------------------------------------------------------


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


# -- the underlay ------------------------------------------------------------------------------------


def test_what_is_for_the_gateway_itself_goes_to_the_exception_port(world):
    ssh = udp_frame((NEAR_MAC, NEAR), (OUR_MAC, LOCAL), protocol="tcp", ports=(40000, 179))
    arp = arp_frame((NEAR_MAC, NEAR), LOCAL)
    assert world.bench.compare(2, ssh).how == "exception"
    assert world.bench.compare(2, arp).how == "exception"
    assert world.bench.compare(2, b"\x33\x33\0\0\0\1" + NEAR_MAC + b"\x86\xdd" + bytes(40)).how == "exception"


def test_frames_for_others_are_not_ours(world):
    frame = udp_frame((NEAR_MAC, NEAR), (mac(0x77), LOCAL))
    assert world.bench.compare(2, frame).reason == "not_for_this_mac"


def test_exceptions_are_limited(make_bench):
    world = World(make_bench, exceptions_per_s=5)
    world.bench.send(*[(2, arp_frame((NEAR_MAC, NEAR), LOCAL))] * 8)
    assert len(world.bench.probe.exceptions()) == 5
    counters = world.bench.probe.counters()
    assert (counters["exceptions"], counters["dropped"]) == (5, {"exception_control_full": 3})


CONTROL = {
    "arp": arp_frame((NEAR_MAC, NEAR), LOCAL),
    "arp, tagged": arp_frame((NEAR_MAC, NEAR), LOCAL, vlan=7),
    **{
        f"{protocol} {source} {port}": udp_frame(
            (NEAR_MAC, NEAR), (OUR_MAC, LOCAL), protocol=protocol, ports=(source, port)
        )
        for protocol, source, port in [
            ("tcp", 40000, 179),
            ("tcp", 179, 40000),
            *(("udp", 49152, port) for port in (500, 3784, 3785, 4500, 4784)),
        ]
    },
    **{
        f"protocol {number}": bytes(ether(NEAR_MAC, OUR_MAC) / IP(src=NEAR, dst=LOCAL, proto=number))
        for number in (89, 112)
    },
    "nd": b"\x33\x33\xff\0\0\1" + NEAR_MAC + b"\x86\xdd" + bytes(6) + b"\x3a" + bytes(33) + b"\x87\0\0\0",
}
OTHERS = {
    "udp": udp_frame((NEAR_MAC, NEAR), (OUR_MAC, LOCAL), ports=(179, 5000)),
    "tcp": udp_frame((NEAR_MAC, NEAR), (OUR_MAC, LOCAL), protocol="tcp", ports=(500, 22)),
    "ping": bytes(ether(NEAR_MAC, OUR_MAC) / IP(src=NEAR, dst=LOCAL) / ICMP()),
    "later fragment": bytes(
        ether(NEAR_MAC, OUR_MAC) / IP(src=NEAR, dst=LOCAL, proto=6, frag=1) / Raw(b"\0\xb3" * 4)
    ),
    "cut": udp_frame((NEAR_MAC, NEAR), (OUR_MAC, LOCAL), protocol="tcp", ports=(40000, 179))[:36],
    "of another kind": OUR_MAC + NEAR_MAC + b"\x88\xb5" + bytes(46),
}


@pytest.mark.parametrize("kind", CONTROL)
def test_whatever_else_comes_takes_nothing_from_control_protocols(make_bench, kind):
    world = World(make_bench, exceptions_per_s=5)
    world.bench.send(*[(2, frame) for frame in OTHERS.values()] * 20)
    assert len(world.bench.probe.exceptions()) == 5
    world.bench.send(*[(2, CONTROL[kind])] * 8)
    assert [frame for _, frame in world.bench.probe.exceptions()] == [CONTROL[kind]] * 5
    dropped = {"exception_full": 20 * len(OTHERS) - 5, "exception_control_full": 3}
    assert world.bench.probe.counters()["dropped"] == dropped


def test_ring_that_nobody_empties_has_room_for_control_protocols(make_bench):
    world = World(make_bench, exceptions_per_s=1_000_000)
    world.bench.send(*[(2, frame) for frame in OTHERS.values()] * 100)
    world.bench.send(*[(2, arp_frame((NEAR_MAC, NEAR), LOCAL))] * 200)
    found = [frame for _, frame in world.bench.probe.exceptions()]
    assert found.count(arp_frame((NEAR_MAC, NEAR), LOCAL)) == 200
    assert "exception_control_full" not in world.bench.probe.counters()["dropped"]


def test_port_of_both_roles_is_told_apart_by_vlan(world):
    world.bench.allow(key(world.at_both, A_IP, C_IP), world.c)
    world.bench.allow(key(world.near, C_IP, A_IP), world.a)
    inside = world.bench.compare(3, udp_frame((A, A_IP), (C, C_IP), vlan=5))
    inner = udp_frame((C, C_IP), (A, A_IP))
    underlay = world.bench.compare(3, vxlan_frame(inner, (NEAR_MAC, NEAR), (BOTH_MAC, LOCAL), 100, vlan=9))
    assert (inside.how, underlay.how) == ("forwarded", "delivered")


@pytest.mark.parametrize(("port", "to"), [(2, OUR_MAC), (3, BOTH_MAC)])
@pytest.mark.parametrize("underlay", [frozenset({0}), frozenset({77}), frozenset({0, 77})])
def test_tunnel_packets_come_in_the_vlans_of_the_underlay_only(make_bench, port, to, underlay):
    world = World(make_bench, underlay_vlans=underlay)
    world.bench.allow(key(world.near, C_IP, A_IP), world.a)
    inner = udp_frame((C, C_IP), (A, A_IP))

    for vlan in (None, 0, 77, 78, 4000):
        tunneled = vxlan_frame(inner, (NEAR_MAC, NEAR), (to, LOCAL), 100, vlan=vlan)
        outcome = world.bench.compare(port, tunneled)
        assert outcome.reason == ("" if (vlan or 0) in underlay else "underlay_vlan")
        unknown = vxlan_frame(inner, (NEAR_MAC, "192.0.2.99"), (to, LOCAL), 100, vlan=vlan)
        assert world.bench.compare(port, unknown).reason == (
            "unknown_vtep" if (vlan or 0) in underlay else "underlay_vlan"
        )
        routing = udp_frame((NEAR_MAC, NEAR), (to, LOCAL), ports=(179, 179), vlan=vlan)
        assert world.bench.compare(port, routing).how == "exception", "the kernel knows its VLANs"


def test_foreign_vtep_has_its_own_id_and_port(world):
    world.bench.allow(key(world.foreign, "10.0.0.6", A_IP), world.a)
    inner = udp_frame((mac(6), "10.0.0.6"), (A, A_IP))
    frame = vxlan_frame(inner, (FAR_MAC, FOREIGN), (OUR_MAC, LOCAL), FOREIGN_VNI, udp_port=8472)
    assert world.bench.compare(2, frame).how == "delivered"


def test_unknown_vtep_is_asked_about_once(world):
    from numpy import frombuffer

    from fastpath import records

    inner = udp_frame((C, C_IP), (A, A_IP))
    stranger = vxlan_frame(inner, (NEAR_MAC, "192.0.2.99"), (OUR_MAC, LOCAL), 100)
    for _ in range(3):
        assert world.bench.compare(2, stranger).reason == "unknown_vtep"
    rows = frombuffer(world.bench.probe.records(0), records.RECORD)
    asked = records.select(rows, records.RecordType.UNKNOWN_LOCATOR)
    assert len(rows) == len(asked) == 1
    assert bytes(asked["key"]["remote"][0][-4:]) == ip("192.0.2.99")
    assert asked["key"]["wire_id"][0] == 100
    world.bench.now += 6 * 10**9
    world.bench.compare(2, stranger)
    assert len(world.bench.probe.records(0)) == 128


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
