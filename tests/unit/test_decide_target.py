# SPDX-License-Identifier: Apache-2.0
"""decide at the target, after moves, for ARP and for what is not IP; and decisions as rows."""

from typing import Any

import numpy as np
import pytest

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.names import parse_mac
from directory_client.vocabulary.numbers import Action, IngressKind, KeyClass, LocationKind
from directory_client.vocabulary.reasons import reason_number
from directory_client.wire.limits import LIFETIME_MS_MIN
from directory_client.wire.rows import QUERY
from directory_service.decide.answer import decide_rows
from directory_service.decide.question import Asker
from directory_service.model.snapshot import Snapshot
from red_vnet import MAC, NOW_MS, POSTGRES, SETTINGS, ask, id_of, ruled, snapshot, topology
from topologies import make_snapshot

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


def test_no_decision_lives_for_less_than_a_gateway_can_keep() -> None:
    model = moved("gw3/rack:101")
    last = ask(model, "10.0.0.21", "10.0.0.11", came="node/gw2", now_ms=NOW_MS + 20_000 - 1)
    assert (last.action, last.lifetime_ms) == (Action.RELAY, LIFETIME_MS_MIN)


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
    assert decision.source_location is not None
    assert decision.source_location.mac == parse_mac(MAC.format(1))


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
    assert list(answer.decisions["source_location"]) == [0, 2, -1, 0], "web-1, web-2"
    assert list(answer.decisions["destination_location"]) == [1, 1, -1, 3]
    assert list(answer.decisions["scope"]) == [-1, -1, 0, -1]
    assert set(answer.decisions["revision"]) == {model.revision}
    assert len(answer.tunnels) == 1
    here, there = id_of(model, "attachment/red/gw1/rack:101"), answer.tunnels[0]["object_id"]
    assert list(answer.locations["target_id"]) == [here, there, here, there]
    assert bytes(answer.tunnels[0]["remote"]) == pack_address("192.0.2.2")
    assert answer.scopes[0]["destination_bits"] > 96


def test_rows_of_noise_are_answered() -> None:
    model = snapshot()
    noise = np.frombuffer(np.random.default_rng(1).bytes(64 * 500), QUERY).copy()
    noise["vni"][::2] = 7001
    asker = Asker(model.fabric.nodes["gw1"], frozenset(["vxlan"]))
    answer = decide_rows(model, noise, asker, NOW_MS, SETTINGS)
    assert set(answer.decisions["action"]) == {int(Action.DROP)}
