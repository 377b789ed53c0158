# SPDX-License-Identifier: Apache-2.0
"""decide at the origin: every row of the table that the data plane carries; the rest is refused by name."""

from typing import Any

import pytest

from directory_client.vocabulary.addresses import pack_address, unpack_address
from directory_client.vocabulary.names import parse_mac
from directory_client.vocabulary.numbers import Action, Granularity, KeyClass, LocationKind
from directory_client.vocabulary.scopes import Scope
from directory_service.decide.decide import decide
from directory_service.decide.explain import Question, pose
from directory_service.model.fabric import derive_tunnel_id
from directory_service.model.snapshot import Snapshot
from red_vnet import MAC, NOW_MS, POSTGRES, SETTINGS, TCP, TOPOLOGY, ask, id_of, prefix, ruled, snapshot
from topologies import make_snapshot

BACK = {"node": "gw2", "came": "attachment/red/gw2/rack:101"}

# ---- origin ----------------------------------------------------------------------------------------


def test_origin_encapsulates_to_the_node_of_the_destination() -> None:
    model = snapshot()
    decision = ask(model, "10.0.0.11", "10.0.0.21")
    assert (decision.action, decision.granularity, decision.reason) == (
        Action.ENCAPSULATE,
        Granularity.PAIR,
        "",
    )
    location = decision.destination_location
    assert location is not None
    assert (location.kind, location.vni, location.wire_id) == (LocationKind.TUNNEL, 7001, 7001)
    assert location.mac == parse_mac(MAC.format(33))
    assert location.object_id == id_of(model, "endpoint/red/db-1")
    assert location.node_id == id_of(model, "node/gw2")
    tunnel = location.tunnel
    assert tunnel is not None
    assert location.target_id == tunnel.object_id
    assert (unpack_address(tunnel.local), unpack_address(tunnel.remote)) == ("192.0.2.1", "192.0.2.2")
    assert (tunnel.udp_port, tunnel.ttl, tunnel.dscp, tunnel.dscp_copy, tunnel.mtu_bytes) == (
        4790,
        32,
        10,
        0,
        9000,
    )
    assert decision.rule is not None
    assert decision.rule.name == "inside"
    assert decision.lifetime_ms == 300_000
    assert 0 < decision.refresh_ms < decision.lifetime_ms


def test_towards_a_foreign_node_its_own_id_is_on_the_wire() -> None:
    location = ask(snapshot(), "10.0.0.11", "10.0.0.22").destination_location
    assert location is not None
    assert location.wire_id == 99
    assert location.tunnel is not None
    assert unpack_address(location.tunnel.remote) == "203.0.113.7"


def test_inside_a_site_the_built_in_profile_is_used() -> None:
    location = ask(snapshot(), "10.0.0.11", "10.0.0.31").destination_location
    assert location is not None
    assert location.tunnel is not None
    assert (location.tunnel.profile_id, location.tunnel.udp_port, location.tunnel.mtu_bytes) == (
        0,
        4789,
        1500,
    )


def test_another_attachment_of_the_same_node_is_delivered_to() -> None:
    model = snapshot()
    decision = ask(model, "10.0.0.11", "10.0.0.13")
    assert decision.action == Action.DELIVER
    location = decision.destination_location
    assert location is not None
    assert (location.kind, location.target_id) == (
        LocationKind.LOCAL,
        id_of(model, "attachment/red/gw1/rack:102"),
    )


def test_both_ends_on_one_attachment_need_no_gateway() -> None:
    decision = ask(snapshot(), "10.0.0.11", "10.0.0.12")
    assert decision.reason == "same_segment"
    assert decision.scope == Scope(pack_address("10.0.0.11"), 128, pack_address("10.0.0.12"), 128)


def test_what_is_sent_to_the_gateways_mac_is_routed_back_into_the_segment() -> None:
    model = snapshot()

    decision = ask(model, "10.0.0.11", "10.0.0.12", key_class=KeyClass.ROUTED)

    assert decision.action == Action.DELIVER
    assert decision.destination_location is not None
    assert decision.destination_location.target_id == id_of(model, "attachment/red/gw1/rack:101")
    assert decision.rule is not None, "and the rules are asked"


@pytest.mark.parametrize("key_class", [KeyClass.BRIDGED, KeyClass.ROUTED, KeyClass.NEIGHBOR])
def test_a_decision_names_its_source_whose_mac_packets_have_to_come_from(key_class: int) -> None:
    model = snapshot()
    decision = ask(model, "10.0.0.11", "10.0.0.21", key_class=key_class)
    location = decision.source_location
    assert location is not None
    assert (location.object_id, location.mac) == (
        id_of(model, "endpoint/red/web-1"),
        parse_mac(MAC.format(1)),
    )


def test_what_is_behind_an_endpoint_comes_from_its_mac() -> None:
    location = ask(snapshot(), "192.168.1.1", "10.0.0.11", **BACK).source_location
    assert location is not None
    assert location.mac == parse_mac(MAC.format(65))


def test_the_mac_is_looked_at_where_a_packet_comes_in_and_by_nobody_behind_our_own_tunnels() -> None:
    model = snapshot()
    tunneled = ask(model, "10.0.0.11", "10.0.0.21", node="gw2", came="node/gw1")
    foreign = ask(model, "10.0.0.22", "10.0.0.21", node="gw2", came="node/leaf")
    assert (tunneled.action, tunneled.source_location) == (Action.DELIVER, None)
    assert foreign.source_location is not None
    assert foreign.source_location.mac == parse_mac(MAC.format(34))


def test_an_address_that_several_serve_by_one_attachment_has_no_mac_of_its_own() -> None:
    first = {"services": ["10.0.0.50"], "mac": MAC.format(1), "at": ["gw1/rack:101"]}
    second = {**first, "mac": MAC.format(2)}
    elsewhere = {**second, "at": ["gw1/rack:102"]}
    together = snapshot(endpoint__red__web_1=first, endpoint__red__web_2=second)
    apart = snapshot(endpoint__red__web_1=first, endpoint__red__web_2=elsewhere)
    assert ask(together, "10.0.0.50", "10.0.0.21").source_location is None
    location = ask(apart, "10.0.0.50", "10.0.0.21").source_location
    assert location is not None
    assert location.mac == parse_mac(MAC.format(1))


def test_explain_asks_for_what_is_behind_a_neighbour_as_a_host_sends_it() -> None:
    model = make_snapshot({**TOPOLOGY, "route/red/192.168.4.0/24": {"via": "web-2"}})

    def reason(destination: str) -> str:
        posed = pose(model, Question("red", "web-1", destination, "tcp", 80, None))
        return decide(model, posed.query, posed.asker, NOW_MS, SETTINGS).reason

    assert reason("192.168.4.4") == ""
    assert reason("web-2") == "same_segment"


def test_an_unknown_destination_is_refused_for_the_whole_hole_around_it() -> None:
    decision = ask(snapshot(), "10.0.0.11", "10.0.0.200")
    assert decision.reason == "unknown_destination"
    assert decision.scope == Scope(pack_address("10.0.0.11"), 128, *prefix("10.0.0.128/25"))
    assert decision.lifetime_ms == 5_000
    assert decision.refresh_ms == 0


def test_an_unknown_source_is_refused_for_the_whole_hole_towards_anybody() -> None:
    decision = ask(snapshot(), "10.0.0.200", "10.0.0.21")
    assert decision.reason == "unknown_source"
    assert decision.scope == Scope(*prefix("10.0.0.128/25"), bytes(16), 96)


@pytest.mark.parametrize("source", ["10.0.0.13", "10.0.0.21", "10.0.0.22", "192.168.1.1", "172.16.1.1"])
def test_a_member_that_does_not_live_at_the_attachment_is_spoofed(source: str) -> None:
    decision = ask(snapshot(), source, "10.0.0.31")
    assert decision.reason == "spoofed"
    assert decision.scope == Scope(pack_address(source), 128, bytes(16), 96)


def test_the_address_of_the_gateway_is_no_member() -> None:
    assert ask(snapshot(), "10.0.0.1", "10.0.0.21").reason == "unknown_source"
    assert ask(snapshot(), "10.0.0.11", "10.0.0.1").reason == "to_gateway"


def test_another_nodes_attachment_is_none() -> None:
    assert (
        ask(snapshot(), "10.0.0.11", "10.0.0.21", came="attachment/red/gw2/rack:101").reason
        == "no_attachment"
    )


def test_a_v_net_that_is_not_there_is_gone() -> None:
    assert ask(snapshot(), "10.0.0.11", "10.0.0.21", vni=1).reason == "vnet_gone"


# ---- routes and services ---------------------------------------------------------------------------


def test_a_route_via_an_endpoint_leads_to_where_the_endpoint_is() -> None:
    model = snapshot()
    location = ask(model, "10.0.0.11", "192.168.7.7").destination_location
    assert location is not None
    assert location.object_id == id_of(model, "route/red/192.168.0.0/16")
    assert location.node_id == id_of(model, "node/gw2")
    assert location.mac == parse_mac(MAC.format(65))


def test_a_route_via_an_endpoint_may_be_sourced_from_its_attachment() -> None:
    model = snapshot()
    decision = ask(model, "192.168.7.7", "10.0.0.11", "gw2", "attachment/red/gw2/rack:101")
    assert decision.action == Action.ENCAPSULATE
    assert ask(model, "192.168.7.7", "10.0.0.11", "gw1", "node/gw2").action == Action.DELIVER
    assert ask(model, "192.168.7.7", "10.0.0.11", "gw1", "node/leaf").reason == "spoofed"


def test_a_route_via_a_node_uses_the_routers_mac() -> None:
    location = ask(snapshot(), "10.0.0.11", "172.16.5.5").destination_location
    assert location is not None
    assert (location.mac, location.wire_id) == (parse_mac("02:00:00:00:00:99"), 99)


def test_the_longest_route_wins_and_a_member_wins_over_routes() -> None:
    model = make_snapshot(
        {
            **TOPOLOGY,
            "route/red/192.168.7.0/24": {"via": "leaf", "router_mac": "02:00:00:00:00:99"},
            "endpoint/red/odd": {"addresses": ["192.168.7.1"], "mac": MAC.format(90), "at": ["gw3/rack:101"]},
        }
    )
    names = {}
    for address in ("192.168.8.1", "192.168.7.2", "192.168.7.1"):
        located = ask(model, "10.0.0.11", address).located
        names[address] = located.node if located else ""
    assert names == {"192.168.8.1": "gw2", "192.168.7.2": "leaf", "192.168.7.1": "gw3"}


AT_GW2_AND_GW3 = ("gw2/rack:101", "gw3/rack:101", "gw2/rack:101")


def services(
    *preferences: int, before: Snapshot | None = None, nodes: tuple[str, ...] = AT_GW2_AND_GW3
) -> Snapshot:
    more = {
        f"endpoint/red/s{number}": {
            "services": ["10.0.0.100"],
            "mac": MAC.format(100 + number),
            "at": [nodes[number]],
            "preference": preference,
        }
        for number, preference in enumerate(preferences)
    }
    return make_snapshot({**TOPOLOGY, **more}, before)


def test_a_service_address_goes_to_the_most_preferred() -> None:
    model = services(50, 200)
    chosen = {ask(model, source, "10.0.0.100").located.node for source in ("10.0.0.11", "10.0.0.12")}  # type: ignore[union-attr]
    assert chosen == {"gw3"}


def test_equals_of_a_service_share_by_a_stable_hash() -> None:
    model = services(100, 100, 100)
    counts: dict[int, int] = {}
    for number in range(300):
        source = f"192.168.{number % 2}.{number % 250}"
        query_source = ask(model, source, "10.0.0.100", "gw2", "attachment/red/gw2/rack:101")
        assert query_source == ask(model, source, "10.0.0.100", "gw2", "attachment/red/gw2/rack:101")
        object_id = query_source.destination.member.id  # type: ignore[union-attr]
        counts[object_id] = counts.get(object_id, 0) + 1
    assert len(counts) == 3
    assert min(counts.values()) > 60


def test_who_joins_or_leaves_a_service_takes_nobody_elses_connections_along() -> None:
    sources = [f"192.168.0.{number}" for number in range(1, 200)]

    def serving(model: Snapshot, current: dict[str, int]) -> dict[str, int]:
        found = {}
        for source in sources:
            decision = ask(model, source, "10.0.0.100", "gw2", BACK["came"], current=current.get(source, 0))
            found[source] = decision.destination.member.id  # type: ignore[union-attr]
        return found

    nodes = ("gw1/rack:101", "gw3/rack:101", "gw1/rack:102")
    two = services(100, 100, nodes=nodes)
    three = services(100, 100, 100, before=two, nodes=nodes)
    before = serving(two, {})
    assert len(set(before.values())) == 2
    assert serving(three, before) == before, "who joins takes no connection over"
    fresh = serving(three, {})
    joined = id_of(three, "endpoint/red/s2")
    assert 30 < sum(one == joined for one in fresh.values()) < 110, "but has its share of new ones"
    left = id_of(three, "endpoint/red/s0")
    gone = make_snapshot(
        {
            **TOPOLOGY,
            **{key: dict(three.records[key].values) for key in ("endpoint/red/s1", "endpoint/red/s2")},
        },
        three,
    )
    after = serving(gone, before)
    assert {source for source in sources if after[source] != before[source]} == {
        source for source in sources if before[source] == left
    }


def test_a_target_keeps_to_whom_a_connection_goes() -> None:
    model = services(100, 50, 100)  # two at gw2
    came = {"node": "gw2", "came": "node/gw1"}
    for name in ("s0", "s2"):
        current = id_of(model, f"endpoint/red/{name}")
        decision = ask(model, "10.0.0.11", "10.0.0.100", **came, current=current)
        assert decision.destination.member.name == name  # type: ignore[union-attr]
    chosen = {
        ask(model, f"10.0.0.{last}", "10.0.0.100", **came).destination.member.name  # type: ignore[union-attr]
        for last in (11, 12, 13)
    }
    origin = {
        ask(model, f"10.0.0.{last}", "10.0.0.100").destination.member.name  # type: ignore[union-attr]
        for last in (11, 12)
    }
    assert origin <= chosen | {"s1"}, "origin and target choose alike"


# ---- rules -----------------------------------------------------------------------------------------


def test_without_a_rule_a_pair_is_refused_whatever_its_ports() -> None:
    decision = ask(ruled(), "10.0.0.11", "10.0.0.21")
    assert (decision.reason, decision.granularity) == ("no_rule", Granularity.PAIR)
    assert decision.scope == Scope(pack_address("10.0.0.11"), 128, pack_address("10.0.0.21"), 128)


def test_a_rule_with_ports_makes_the_pair_narrow() -> None:
    decision = ask(ruled(db=POSTGRES), "10.0.0.11", "10.0.0.21")
    assert (decision.action, decision.granularity) == (Action.NARROW, Granularity.CONNECTION)


def test_a_rule_with_ports_matches_both_directions_of_its_connections() -> None:
    model = ruled(db=POSTGRES)
    back = {"node": "gw2", "came": "attachment/red/gw2/rack:101"}
    assert ask(model, "10.0.0.11", "10.0.0.21", ports=(TCP, 40000, 5432)).action == Action.ENCAPSULATE
    assert ask(model, "10.0.0.21", "10.0.0.11", ports=(TCP, 5432, 40000), **back).action == Action.ENCAPSULATE
    assert ask(model, "10.0.0.21", "10.0.0.11", ports=(TCP, 40000, 5432), **back).reason == "no_rule"
    assert ask(model, "10.0.0.11", "10.0.0.21", ports=(TCP, 5432, 22)).reason == "no_rule"
    assert ask(model, "10.0.0.11", "10.0.0.21", ports=(17, 40000, 5432)).reason == "no_rule"


PLAIN = {"action": "allow", "from": "group:web", "to": "group:db"}
OF_TCP = {**PLAIN, "proto": "tcp"}


@pytest.mark.parametrize("rule", [POSTGRES, OF_TCP, PLAIN], ids=["ports", "protocol", "plain"])
def test_an_allow_opens_no_port_of_who_it_lets_begin(rule: dict[str, Any]) -> None:
    model = ruled(db=rule)
    assert ask(model, "10.0.0.11", "10.0.0.21", ports=(TCP, 40000, 5432)).action == Action.ENCAPSULATE
    for port in (1, 22, 1023, 1024, 8080, 32767):
        assert ask(model, "10.0.0.21", "10.0.0.11", ports=(TCP, 5432, port), **BACK).reason == "no_rule", port
    for port in (32768, 49152, 65535):
        assert (
            ask(model, "10.0.0.21", "10.0.0.11", ports=(TCP, 5432, port), **BACK).action == Action.ENCAPSULATE
        )


def test_answer_ports_say_where_answers_may_lead_to() -> None:
    model = ruled(nfs={**POSTGRES, "ports": [2049], "answer_ports": ["512-1023", 2050]})
    for port, reason in ((511, "no_rule"), (512, ""), (1023, ""), (2050, ""), (40000, "no_rule")):
        assert ask(model, "10.0.0.21", "10.0.0.11", ports=(TCP, 2049, port), **BACK).reason == reason, port
    whole = ruled(all={**PLAIN, "answer_ports": ["1-65535"]})
    assert ask(whole, "10.0.0.21", "10.0.0.11", **BACK).granularity == Granularity.PAIR


def test_what_has_no_ports_is_answered_whole() -> None:
    model = ruled(all=PLAIN)
    assert ask(model, "10.0.0.21", "10.0.0.11", ports=(1, 0, 0), **BACK).action == Action.ENCAPSULATE
    assert ask(model, "10.0.0.21", "10.0.0.11", ports=(47, 0, 0), **BACK).action == Action.ENCAPSULATE
    # Who may begin needs no second look; who may only answer does.
    assert ask(model, "10.0.0.11", "10.0.0.21").granularity == Granularity.PAIR
    assert ask(model, "10.0.0.21", "10.0.0.11", **BACK).action == Action.NARROW
    mac = {"key_class": KeyClass.MAC, **BACK}
    assert ask(model, MAC.format(33), MAC.format(1), **mac).action == Action.ENCAPSULATE


def test_a_deny_cuts_its_way_back_at_every_port() -> None:
    model = ruled(
        no={**POSTGRES, "action": "deny", "priority": 200},
        all={"action": "allow", "from": "any", "to": "any"},
    )
    for port in (22, 40000):
        assert ask(model, "10.0.0.21", "10.0.0.11", ports=(TCP, 5432, port), **BACK).reason == "denied"


def test_a_forward_rule_does_not_match_the_way_back() -> None:
    model = ruled(db={**POSTGRES, "direction": "forward"})
    assert ask(model, "10.0.0.11", "10.0.0.21", ports=(TCP, 40000, 5432)).action == Action.ENCAPSULATE
    back = ask(model, "10.0.0.21", "10.0.0.11", "gw2", "attachment/red/gw2/rack:101", (TCP, 5432, 40000))
    assert back.reason == "no_rule"


def test_a_refused_port_is_refused_as_far_as_the_rules_reach() -> None:
    model = ruled(db={**POSTGRES, "ports": [80, "400-500"], "direction": "forward"})
    scope = ask(model, "10.0.0.11", "10.0.0.21", ports=(TCP, 40000, 100)).scope
    assert scope is not None
    assert (scope.protocol, scope.port_low, scope.port_high) == (TCP, 81, 399)


def test_the_higher_priority_decides_and_deny_comes_before_allow() -> None:
    deny = {"action": "deny", "from": "group:web", "to": "any"}
    allow = {"action": "allow", "from": "any", "to": "any"}
    assert ask(ruled(a=allow, d=deny), "10.0.0.11", "10.0.0.21").reason == "denied"
    assert (
        ask(ruled(a={**allow, "priority": 200}, d=deny), "10.0.0.11", "10.0.0.21").action
        == Action.ENCAPSULATE
    )
    assert (
        ask(ruled(a=allow, d={**deny, "priority": 1}), "10.0.0.11", "10.0.0.21").action == Action.ENCAPSULATE
    )


def test_a_plain_rule_before_all_with_ports_keeps_the_pair() -> None:
    model = ruled(all={"action": "allow", "from": "any", "to": "any", "priority": 200}, db=POSTGRES)
    assert ask(model, "10.0.0.11", "10.0.0.21").granularity == Granularity.PAIR


def test_prefixes_and_endpoints_select() -> None:
    model = ruled(lan={"action": "allow", "from": "192.168.0.0/16", "to": "web-1"})
    gw2 = {"node": "gw2", "came": "attachment/red/gw2/rack:101"}
    assert ask(model, "192.168.1.1", "10.0.0.11", **gw2).action == Action.ENCAPSULATE
    assert ask(model, "192.168.1.1", "10.0.0.12", **gw2).reason == "no_rule"
    assert ask(model, "10.0.0.21", "10.0.0.11", **gw2).reason == "no_rule"


@pytest.mark.parametrize("extra", [{"stateful": True}, {"security": "encrypted"}, {"rate_mbps": 10}])
def test_what_rules_ask_for_and_is_not_carried_is_refused_by_name(extra: dict[str, Any]) -> None:
    decision = ask(
        ruled(all={"action": "allow", "from": "any", "to": "any", **extra}), "10.0.0.11", "10.0.0.21"
    )
    assert decision.reason == "not_supported"
    assert "rule all asks for" in decision.why


# ---- paths -----------------------------------------------------------------------------------------


def test_a_path_below_the_trust_of_the_v_net_needs_a_secure_tunnel() -> None:
    decision = ask(snapshot(vnet__red={"vni": 7001, "min_trust": "own"}), "10.0.0.11", "10.0.0.21")
    assert decision.reason == "not_supported"
    assert "trust carrier" in decision.why


def test_without_a_path_there_is_no_way() -> None:
    assert ask(snapshot(path__ams_ber=None), "10.0.0.11", "10.0.0.21").reason == "no_path"


def test_without_a_path_but_with_a_relay_it_is_not_supported() -> None:
    model = snapshot(path__ams_ber=None, vnet__red={"vni": 7001, "relays": ["gw3"]})
    assert ask(model, "10.0.0.11", "10.0.0.21").reason == "not_supported"


@pytest.mark.parametrize("protocol", ["esp", "gre", "nvgre"])
def test_a_profile_of_another_protocol_is_not_supported(protocol: str) -> None:
    model = snapshot(profile__fabric={"protocol": protocol})
    assert ask(model, "10.0.0.11", "10.0.0.21").reason == "not_supported"


def test_a_node_without_a_locator_cannot_be_reached_yet() -> None:
    assert (
        ask(snapshot(node__gw2={"kind": "gateway", "site": "ber"}), "10.0.0.11", "10.0.0.21").reason
        == "no_path"
    )


def test_a_node_with_ipv6_locators_only_is_not_supported() -> None:
    model = snapshot(node__gw2={"kind": "gateway", "site": "ber", "locators": ["2001:db8::2"]})
    assert ask(model, "10.0.0.11", "10.0.0.21").reason == "not_supported"


def test_a_node_that_cannot_vxlan_is_answered_not_supported() -> None:
    assert ask(snapshot(), "10.0.0.11", "10.0.0.21", capabilities=()).reason == "not_supported"


def test_of_two_places_the_first_within_reach_is_used() -> None:
    both = {"addresses": ["10.0.0.21"], "mac": MAC.format(33), "at": ["gw2/rack:101", "gw3/rack:101"]}
    located = ask(snapshot(endpoint__red__db_1=both), "10.0.0.11", "10.0.0.21").located
    assert located is not None
    assert located.node == "gw2"
    located = ask(snapshot(endpoint__red__db_1=both, path__ams_ber=None), "10.0.0.11", "10.0.0.21").located
    assert located is not None
    assert located.node == "gw3"


def test_a_tunnels_id_depends_on_all_that_makes_it() -> None:
    one, other = pack_address("192.0.2.1"), pack_address("192.0.2.2")
    ids = {
        derive_tunnel_id(one, other, 3),
        derive_tunnel_id(other, one, 3),
        derive_tunnel_id(one, other, 4),
        derive_tunnel_id(one, other, 3, backup_id=9),
        derive_tunnel_id(one, other, 3, vnet_id=9),
    }
    assert len(ids) == 5
    assert derive_tunnel_id(one, other, 3) in ids
