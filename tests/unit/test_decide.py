# SPDX-License-Identifier: Apache-2.0
"""decide: every row of the table that the data plane carries, and that the rest is refused by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from directory_client.addresses import pack_address, unpack_address
from directory_client.names import parse_mac
from directory_client.numbers import Action, Granularity, IngressKind, KeyClass, KeyFlag, LocationKind
from directory_client.reasons import reason_number
from directory_client.rows import QUERY
from directory_client.scopes import Scope
from directory_service.answer import decide_rows
from directory_service.decide import Asker, Decision, Query, decide
from directory_service.fabric import derive_tunnel_id
from directory_service.model import Snapshot
from directory_service.settings import Settings
from topologies import make_snapshot

NOW_MS = 10_000_000
SETTINGS = Settings(jitter_ratio=0.0)
MAC = "02:00:5e:00:00:{:02x}"

TOPOLOGY: Mapping[str, Mapping[str, Any]] = {
    "site/ams": {},
    "site/ber": {},
    "path/ams-ber": {"sites": ["ams", "ber"], "trust": "carrier", "mtu_bytes": 9000, "profile": "fabric"},
    "profile/fabric": {"protocol": "vxlan", "udp_port": 4790, "ttl": 32, "dscp": 10},
    "node/gw1": {"kind": "gateway", "site": "ams", "locators": ["192.0.2.1"]},
    "node/gw2": {"kind": "gateway", "site": "ber", "locators": ["192.0.2.2"]},
    "node/gw3": {"kind": "gateway", "site": "ams", "locators": ["192.0.2.3"]},
    "node/leaf": {
        "kind": "vtep",
        "site": "ber",
        "locators": ["203.0.113.7", "203.0.113.8"],
        "ids": {"red": 99},
    },
    "vnet/red": {"vni": 7001, "gateway_addresses": ["10.0.0.1"]},
    "attachment/red/gw1/rack:101": {},
    "attachment/red/gw1/rack:102": {},
    "attachment/red/gw2/rack:101": {},
    "attachment/red/gw3/rack:101": {},
    "endpoint/red/web-1": {
        "addresses": ["10.0.0.11"],
        "mac": MAC.format(1),
        "at": ["gw1/rack:101"],
        "groups": ["web"],
    },
    "endpoint/red/web-2": {
        "addresses": ["10.0.0.12"],
        "mac": MAC.format(2),
        "at": ["gw1/rack:101"],
        "groups": ["web"],
    },
    "endpoint/red/web-3": {
        "addresses": ["10.0.0.13"],
        "mac": MAC.format(3),
        "at": ["gw1/rack:102"],
        "groups": ["web"],
    },
    "endpoint/red/db-1": {
        "addresses": ["10.0.0.21"],
        "mac": MAC.format(33),
        "at": ["gw2/rack:101"],
        "groups": ["db"],
    },
    "endpoint/red/db-2": {
        "addresses": ["10.0.0.22"],
        "mac": MAC.format(34),
        "node": "leaf",
        "groups": ["db"],
    },
    "endpoint/red/far": {"addresses": ["10.0.0.31"], "mac": MAC.format(49), "at": ["gw3/rack:101"]},
    "endpoint/red/router": {"addresses": ["10.0.0.41"], "mac": MAC.format(65), "at": ["gw2/rack:101"]},
    "route/red/192.168.0.0/16": {"via": "router"},
    "route/red/172.16.0.0/12": {"via": "leaf", "router_mac": "02:00:00:00:00:99"},
    "rule/red/inside": {"action": "allow", "from": "any", "to": "any"},
}


def topology(**changes: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """The topology with records changed: kind__vnet__name = values (None: without it)."""
    out = dict(TOPOLOGY)
    for key, values in changes.items():
        key = key.replace("__", "/").replace("_", "-")
        if values is None:
            del out[key]
        else:
            out[key] = values
    return out


def snapshot(**changes: Mapping[str, Any] | None) -> Snapshot:
    return make_snapshot(topology(**changes))


def id_of(model: Snapshot, key: str) -> int:
    return model.records[key].id


def ask(
    model: Snapshot,
    source: str,
    destination: str,
    node: str = "gw1",
    came: str = "attachment/red/gw1/rack:101",
    ports: tuple[int, int, int] | None = None,
    key_class: int = KeyClass.BRIDGED,
    now_ms: int = NOW_MS,
    vni: int = 7001,
    capabilities: tuple[str, ...] = ("vxlan",),
) -> Decision:
    """Ask as `node` about a packet that came by an attachment or from a node; ports: (protocol, from, to)."""
    if key_class == KeyClass.MAC:
        one, other = (parse_mac(text).rjust(16, b"\0") for text in (source, destination))
    else:
        one, other = pack_address(source), pack_address(destination)
    kind = IngressKind.ATTACHMENT if came.startswith("attachment") else IngressKind.NODE
    protocol, source_port, destination_port = ports or (0, 0, 0)
    flags = int(KeyFlag.CONNECTION) if ports else 0
    query = Query(
        vni, key_class, flags, protocol, kind, one, other, source_port, destination_port, id_of(model, came)
    )
    return decide(model, query, Asker(model.fabric.nodes[node], frozenset(capabilities)), now_ms, SETTINGS)


def prefix(text: str) -> tuple[bytes, int]:
    address, _, bits = text.partition("/")
    return pack_address(address), 96 + int(bits)


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


def services(*preferences: int) -> Snapshot:
    nodes = ("gw2/rack:101", "gw3/rack:101", "gw2/rack:101")
    more = {
        f"endpoint/red/s{number}": {
            "services": ["10.0.0.100"],
            "mac": MAC.format(100 + number),
            "at": [nodes[number]],
            "preference": preference,
        }
        for number, preference in enumerate(preferences)
    }
    return make_snapshot({**TOPOLOGY, **more})


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


# ---- rules -----------------------------------------------------------------------------------------

TCP = 6
POSTGRES = {"action": "allow", "from": "group:web", "to": "group:db", "proto": "tcp", "ports": [5432]}


def ruled(**rules: Mapping[str, Any]) -> Snapshot:
    kept = {key: values for key, values in TOPOLOGY.items() if not key.startswith("rule/")}
    return make_snapshot({**kept, **{f"rule/red/{name}": values for name, values in rules.items()}})


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


# ---- target ----------------------------------------------------------------------------------------


def test_target_delivers_what_comes_from_a_node_of_the_source() -> None:
    model = snapshot()
    decision = ask(model, "10.0.0.21", "10.0.0.11", came="node/gw2")
    assert decision.action == Action.DELIVER
    assert decision.destination_location is not None
    assert decision.destination_location.target_id == id_of(model, "attachment/red/gw1/rack:101")


@pytest.mark.parametrize(
    ("source", "reason"),
    [("10.0.0.22", "spoofed"), ("10.0.0.12", "spoofed"), ("10.0.0.99", "unknown_source")],
)
def test_target_refuses_what_comes_from_elsewhere(source: str, reason: str) -> None:
    assert ask(snapshot(), source, "10.0.0.11", came="node/gw2").reason == reason


def test_target_asks_the_rules_too() -> None:
    assert ask(ruled(), "10.0.0.21", "10.0.0.11", came="node/gw2").reason == "no_rule"


def test_target_accepts_an_authorized_relay() -> None:
    model = snapshot(vnet__red={"vni": 7001, "relays": ["gw3"]})
    assert ask(model, "10.0.0.21", "10.0.0.11", came="node/gw3").action == Action.DELIVER
    assert ask(model, "10.0.0.99", "10.0.0.11", came="node/gw3").reason == "unknown_source"


def test_target_that_never_hosted_the_destination_says_so() -> None:
    assert ask(snapshot(), "10.0.0.21", "10.0.0.31", came="node/gw2").reason == "not_here"


def test_a_path_that_is_not_trusted_brings_nothing_in() -> None:
    model = snapshot(vnet__red={"vni": 7001, "min_trust": "own"})
    assert ask(model, "10.0.0.21", "10.0.0.11", came="node/gw2").reason == "not_supported"


def moved(to: str, first: Snapshot | None = None, at_ms: int = NOW_MS - 10_000) -> Snapshot:
    """web-1 has gone from gw1 to another place."""
    where: dict[str, Any] = {"node": to} if "/" not in to else {"at": [to]}
    values = {"addresses": ["10.0.0.11"], "mac": MAC.format(1), "groups": ["web"], **where}
    return make_snapshot(topology(endpoint__red__web_1=values), first or snapshot(), at_ms)


def test_the_old_node_relays_after_a_move_and_for_no_longer_than_the_grace() -> None:
    model = moved("gw3/rack:101")
    decision = ask(model, "10.0.0.21", "10.0.0.11", came="node/gw2")
    assert decision.action == Action.RELAY
    assert decision.destination_location is not None
    assert decision.destination_location.node_id == id_of(model, "node/gw3")
    assert decision.lifetime_ms == 20_000
    assert decision.refresh_ms == 0
    late = ask(model, "10.0.0.21", "10.0.0.11", came="node/gw2", now_ms=NOW_MS + 20_000)
    assert late.reason == "not_here"


def test_the_new_node_accepts_what_the_old_one_relays() -> None:
    model = moved("gw3/rack:101")
    came = {"node": "gw3", "came": "node/gw1"}
    decision = ask(model, "10.0.0.21", "10.0.0.11", **came)
    assert (decision.action, decision.lifetime_ms) == (Action.DELIVER, 20_000)
    assert ask(model, "10.0.0.21", "10.0.0.11", now_ms=NOW_MS + 20_000, **came).reason == "spoofed"
    assert ask(model, "10.0.0.21", "10.0.0.31", **came).reason == "spoofed"


def test_nothing_is_relayed_back_to_where_it_came_from() -> None:
    assert ask(moved("leaf"), "10.0.0.22", "10.0.0.11", came="node/leaf").reason == "relay_loop"


def test_who_comes_back_is_delivered_to_again() -> None:
    model = moved("gw1/rack:101", moved("gw3/rack:101"), NOW_MS - 5_000)
    assert ask(model, "10.0.0.21", "10.0.0.11", came="node/gw2").action == Action.DELIVER
    assert ask(model, "10.0.0.21", "10.0.0.11", "gw3", "node/gw2").action == Action.RELAY


def test_the_source_of_a_move_may_send_from_its_new_place_only() -> None:
    model = moved("gw3/rack:101")
    assert (
        ask(model, "10.0.0.11", "10.0.0.21", "gw3", "attachment/red/gw3/rack:101").action
        == Action.ENCAPSULATE
    )
    assert ask(model, "10.0.0.11", "10.0.0.21").reason == "spoofed"
    assert ask(model, "10.0.0.11", "10.0.0.21", "gw2", "node/gw1").reason == "spoofed"


# ---- ARP and what is not IP ------------------------------------------------------------------------

ARP = {"key_class": KeyClass.NEIGHBOR}


def test_arp_is_answered_with_the_mac_of_a_member_elsewhere() -> None:
    decision = ask(snapshot(), "10.0.0.11", "10.0.0.21", **ARP)
    assert decision.action == Action.ANSWER
    assert decision.destination_location is not None
    assert decision.destination_location.mac == parse_mac(MAC.format(33))
    assert decision.source_location is None


def test_arp_does_not_ask_the_rules() -> None:
    assert ask(ruled(), "10.0.0.11", "10.0.0.21", **ARP).action == Action.ANSWER


def test_arp_is_not_answered_for_the_asking_attachment() -> None:
    assert ask(snapshot(), "10.0.0.11", "10.0.0.12", **ARP).reason == "same_segment"


def test_arp_for_the_gateway_is_answered_with_its_own_mac() -> None:
    decision = ask(snapshot(), "10.0.0.11", "10.0.0.1", **ARP)
    assert (decision.action, decision.destination_location) == (Action.ANSWER, None)


def test_arp_probes_are_answered_for_addresses_that_are_taken_elsewhere() -> None:
    assert ask(snapshot(), "0.0.0.0", "10.0.0.21", **ARP).action == Action.ANSWER
    assert ask(snapshot(), "0.0.0.0", "10.0.0.11", **ARP).reason == "same_segment"
    assert ask(snapshot(), "0.0.0.0", "10.0.0.99", **ARP).reason == "unknown_destination"


def test_arp_with_a_forged_sender_is_refused() -> None:
    assert ask(snapshot(), "10.0.0.21", "10.0.0.31", **ARP).reason == "spoofed"


def test_arp_from_a_tunnel_is_answered_by_the_node_of_the_target_only() -> None:
    model = snapshot()
    decision = ask(model, "10.0.0.22", "10.0.0.11", came="node/leaf", **ARP)
    assert decision.action == Action.ANSWER
    assert decision.source_location is not None
    assert decision.source_location.node_id == id_of(model, "node/leaf")
    assert decision.source_location.kind == LocationKind.TUNNEL
    assert ask(model, "10.0.0.22", "10.0.0.11", "gw2", "node/leaf", **ARP).reason == "not_here"


def test_arp_from_a_tunnel_for_the_gateway_is_answered_by_one_node() -> None:
    model = snapshot()
    answers = [
        ask(model, "10.0.0.22", "10.0.0.1", node, "node/leaf", **ARP).action for node in ("gw1", "gw2", "gw3")
    ]
    assert answers == [Action.ANSWER, Action.DROP, Action.DROP]


def test_what_is_not_ip_goes_by_mac_under_plain_rules() -> None:
    macs = {"source": MAC.format(1), "destination": MAC.format(33), "key_class": KeyClass.MAC}
    assert ask(snapshot(), **macs).action == Action.ENCAPSULATE
    assert ask(ruled(db=POSTGRES), **macs).reason == "no_rule"
    assert (
        ask(ruled(all={"action": "allow", "from": "group:web", "to": "db-1"}), **macs).action
        == Action.ENCAPSULATE
    )
    assert ask(snapshot(), MAC.format(77), MAC.format(33), key_class=KeyClass.MAC).reason == "unknown_source"
    assert (
        ask(snapshot(), MAC.format(1), MAC.format(77), key_class=KeyClass.MAC).reason == "unknown_destination"
    )
    assert ask(snapshot(), MAC.format(1), "02:56:4e:00:1b:59", key_class=KeyClass.MAC).reason == "to_gateway"


@pytest.mark.parametrize("key_class", [0, 5, 6, 200])
def test_other_classes_are_refused_and_never_raise(key_class: int) -> None:
    assert ask(snapshot(), "10.0.0.11", "10.0.0.21", key_class=key_class).reason == "not_supported"


# ---- rows ------------------------------------------------------------------------------------------


def test_rows_are_answered_in_order_and_share_what_they_name() -> None:
    model = snapshot()
    rows = np.zeros(4, QUERY)
    rows["vni"] = 7001
    rows["key_class"] = KeyClass.BRIDGED
    rows["ingress_kind"] = IngressKind.ATTACHMENT
    rows["ingress_object"] = id_of(model, "attachment/red/gw1/rack:101")
    for row, (source, destination) in zip(
        rows,
        [
            ("10.0.0.11", "10.0.0.21"),
            ("10.0.0.12", "10.0.0.21"),
            ("10.0.0.11", "10.0.0.99"),
            ("10.0.0.11", "192.168.1.1"),
        ],
        strict=True,
    ):
        row["source"] = list(pack_address(source))
        row["destination"] = list(pack_address(destination))
    asker = Asker(model.fabric.nodes["gw1"], frozenset(["vxlan"]))
    answer = decide_rows(model, rows, asker, NOW_MS, SETTINGS)
    assert list(answer.decisions["action"]) == [2, 2, 1, 2]
    assert list(answer.decisions["reason"]) == [0, 0, reason_number("unknown_destination"), 0]
    assert list(answer.decisions["destination_location"]) == [0, 0, -1, 1]
    assert list(answer.decisions["scope"]) == [-1, -1, 0, -1]
    assert set(answer.decisions["revision"]) == {model.revision}
    assert len(answer.tunnels) == 1
    assert set(answer.locations["target_id"]) == {answer.tunnels[0]["object_id"]}
    assert bytes(answer.tunnels[0]["remote"]) == pack_address("192.0.2.2")
    assert answer.scopes[0]["destination_bits"] > 96


def test_rows_of_noise_are_answered() -> None:
    model = snapshot()
    noise = np.frombuffer(np.random.default_rng(1).bytes(64 * 500), QUERY).copy()
    noise["vni"][::2] = 7001
    asker = Asker(model.fabric.nodes["gw1"], frozenset(["vxlan"]))
    answer = decide_rows(model, noise, asker, NOW_MS, SETTINGS)
    assert set(answer.decisions["action"]) == {int(Action.DROP)}
