# SPDX-License-Identifier: Apache-2.0
"""Endpoints with several places are reached where they were seen; what was seen is a fact with a lease."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from directory_world import DOCUMENT, Clock, ops_of

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.numbers import Action, ChangeKind, IngressKind, KeyClass, LocationKind
from directory_client.vocabulary.reasons import reason_number
from directory_client.wire.rows import QUERY
from directory_service.facts.memory import MemoryFacts
from directory_service.model.sightings import FLAPS, FLAPS_S, MOVE_S, Sightings
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory

HERE, THERE = "gw1/rack:101", "gw2/rack:101"
TWO = DOCUMENT.replace('at = ["gw1/rack:101"], groups = ["web"]', f'at = ["{HERE}", "{THERE}"]')
LEASE_S, SILENT_S = 300.0, 3600.0


def lives(node: str) -> bool:
    return False


class Bench:
    """A directory; red's web-1 (10.0.0.11) may be at gw1 or at gw2, where db-1 (10.0.0.21) is."""

    def __init__(self, facts: MemoryFacts | None = None, store: MemoryStore | None = None) -> None:
        self.clock = Clock()
        self.facts, self.store = facts or MemoryFacts(), store or MemoryStore()
        self.directory = WholeDirectory(self.store, Settings(), self.clock, facts=self.facts)
        self.directory.apply(TWO, "d.toml")
        self.directory.announce("gw1", ["192.0.2.1"], [])
        self.directory.announce("gw2", ["192.0.2.2"], [])
        self.directory.poll()

    def wait(self, seconds: float) -> None:
        self.clock.ms += int(seconds * 1000)

    def attachment(self, node: str) -> int:
        (one,) = self.directory.current.vnets["red"].attachments_by_node[node]
        return one.id

    def ask(self, node, source, destination, mac=None, key_class=KeyClass.BRIDGED, count=1, via=None):
        rows = np.zeros(count, QUERY)
        rows["vni"], rows["key_class"] = 7001, key_class
        rows["ingress_kind"], rows["ingress_object"] = IngressKind.ATTACHMENT, self.attachment(node)
        if via is not None:
            rows["ingress_kind"] = IngressKind.NODE
            rows["ingress_object"] = self.directory.node_id(via)
        rows["source"] = np.frombuffer(pack_address(source), np.uint8)
        rows["destination"] = np.frombuffer(pack_address(destination), np.uint8)
        if mac is not None:
            rows["source_mac_end"] = np.frombuffer(bytes.fromhex(mac.replace(":", ""))[2:], np.uint8)
        return self.directory.resolve(node, ["vxlan"], rows)

    def sees(self, node: str) -> list:
        """web-1 sends at a node; returns what is pushed."""
        self.ask(node, "10.0.0.11", "10.0.0.21", "02:00:5e:00:00:11")
        return self.directory.poll()

    @property
    def home(self) -> str:
        return self.directory.current.vnets["red"].members["web-1"].home_node


def test_it_is_at_the_first_place_of_its_record_until_it_is_seen() -> None:
    bench = Bench()
    assert bench.home == "gw1"
    bench.sees("gw2")
    assert bench.home == "gw2"


@pytest.mark.parametrize("count", [1, 64])  # one by one, and in bulk
def test_its_neighbours_reach_it_where_it_is(count: int) -> None:
    bench = Bench()
    db_1, web_1, web_2 = "10.0.0.21", "10.0.0.11", "10.0.0.12"
    away = bench.ask("gw2", db_1, web_1, count=count)
    assert set(away.decisions["action"].tolist()) == {Action.ENCAPSULATE}
    beside = bench.ask("gw1", web_2, web_1, count=count)
    assert set(beside.decisions["reason"].tolist()) == {reason_number("same_segment")}
    bench.sees("gw2")
    beside = bench.ask("gw2", db_1, web_1, count=count)
    assert set(beside.decisions["reason"].tolist()) == {reason_number("same_segment")}
    away = bench.ask("gw1", web_2, web_1, count=count)
    assert set(away.decisions["action"].tolist()) == {Action.ENCAPSULATE}
    asked = bench.ask("gw1", web_2, web_1, key_class=KeyClass.NEIGHBOR, count=count)
    assert set(asked.decisions["action"].tolist()) == {Action.ANSWER}
    relayed = bench.ask("gw1", db_1, web_1, via="gw2", count=count)
    assert set(relayed.decisions["reason"].tolist()) == {reason_number("relay_loop")}
    arrives = bench.ask("gw2", web_2, web_1, via="gw1", count=count)
    assert set(arrives.decisions["action"].tolist()) == {Action.DELIVER}


def test_others_are_told_its_location_and_its_flows_end_where_it_left() -> None:
    bench = Bench()
    revision = bench.directory.revision
    pushes = bench.sees("gw2")
    here, there = bench.directory.node_id("gw1"), bench.directory.node_id("gw2")
    (left,) = ops_of(pushes, here, 7001, "location")
    (come,) = ops_of(pushes, there, 7001, "location")
    assert (left["kind"], come["kind"]) == (LocationKind.TUNNEL, LocationKind.LOCAL)
    assert come["target_id"] == bench.attachment("gw2")
    web_1 = pack_address("10.0.0.11")
    closed = [
        (node, op["source"])
        for node in (here, there)
        for op in ops_of(pushes, node, 7001, "scope")
        if op["kind"] == ChangeKind.TIGHTEN
    ]
    assert (here, web_1) in closed
    assert not [one for one in closed if one[0] == there]
    (announced,) = ops_of(pushes, there, 7001, "announce")
    (gone,) = ops_of(pushes, here, 7001, "announce_left")
    assert announced["addresses"] == gone["addresses"] == [web_1]
    assert bench.directory.revision == revision
    assert bench.directory.facts > 0


def test_a_frame_of_another_mac_or_a_place_that_no_record_names_is_no_sighting() -> None:
    bench = Bench()
    bench.ask("gw2", "10.0.0.11", "10.0.0.21", "02:00:5e:00:00:99")
    bench.ask("gw2", "10.0.0.12", "10.0.0.21", "02:00:5e:00:00:12")  # web-2 is at gw1 alone
    bench.directory.poll()
    assert bench.home == "gw1"
    assert bench.directory.current.sightings == {}


def test_a_flow_that_was_in_use_is_no_sign_of_a_move_but_prolongs_what_is_known() -> None:
    bench = Bench()
    bench.sees("gw2")
    bench.wait(200)
    bench.ask("gw1", "10.0.0.11", "10.0.0.12")  # asked again, by no packet
    bench.ask("gw2", "10.0.0.11", "10.0.0.21")
    bench.wait(200)
    bench.directory.poll()
    assert bench.home == "gw2"


def test_when_both_are_quiet_it_is_at_the_first_again() -> None:
    bench = Bench()
    bench.sees("gw2")
    for _ in range(4):  # both gateways live
        bench.wait(80)
        bench.directory.announce("gw1", ["192.0.2.1"], [])
        bench.directory.announce("gw2", ["192.0.2.2"], [])
        pushes = bench.directory.poll()
    assert bench.home == "gw1"
    (come,) = ops_of(pushes, bench.directory.node_id("gw1"), 7001, "location")
    assert come["kind"] == LocationKind.LOCAL
    assert bench.facts.of_key("seen") == []


def test_no_lease_ends_while_the_gateway_says_nothing() -> None:
    bench = Bench()
    bench.sees("gw2")
    for _ in range(40):
        bench.wait(60)
        bench.directory.poll()
    assert bench.home == "gw2"  # cut off from here for 40 minutes, and it may forward all the same
    for _ in range(40):
        bench.wait(60)
        bench.directory.poll()
    assert bench.home == "gw1"


def test_a_directory_that_starts_again_leaves_it_where_it_is() -> None:
    bench = Bench()
    bench.sees("gw2")
    again = Bench(bench.facts, bench.store)
    assert again.home == "gw2"
    grace = again.ask("gw1", "10.0.0.21", "10.0.0.11", via="gw2")
    assert grace.decisions["reason"].tolist() == [reason_number("not_here")]  # it has not just moved


def test_an_edit_of_the_endpoint_leaves_it_where_it_is() -> None:
    bench = Bench()
    bench.sees("gw2")
    bench.directory.apply(TWO.replace('"10.0.0.11"', '"10.0.0.111"'), "d.toml")
    assert bench.home == "gw2"
    bench.directory.apply(DOCUMENT, "d.toml")
    assert bench.home == "gw1"


def test_two_places_that_both_send_take_turns_ever_more_slowly_and_are_told_of() -> None:
    bench = Bench()
    homes = []
    for _ in range(180):
        for node in ("gw1", "gw2"):
            bench.directory.announce(node, [f"192.0.2.{node[-1]}"], [])
            bench.sees(node)
        homes.append(bench.home)
        bench.wait(1)
    moves = sum(one != other for one, other in pairwise(homes))
    assert FLAPS <= moves <= 7
    (flap,) = bench.directory.flaps("gw1")
    assert (flap.vnet, flap.endpoint, {flap.place, flap.other}) == ("red", "web-1", {HERE, THERE})
    bench.wait(FLAPS_S)
    assert bench.directory.flaps("gw1") == []


def test_what_was_seen_while_it_had_to_stay_counts_afterwards() -> None:
    sightings = Sightings(MemoryFacts(), LEASE_S, SILENT_S, 0.0)
    assert sightings.see("red", "web-1", HERE, 0.0)
    assert sightings.see("red", "web-1", THERE, 1.0)
    assert not sightings.see("red", "web-1", HERE, 2.0)
    assert sightings.settle(1.0 + MOVE_S - 0.1, lives) == set()
    assert sightings.settle(1.0 + MOVE_S, lives) == {"red"}
    assert sightings.held == {"red": {"web-1": HERE}}


def test_what_is_seen_at_home_again_ends_what_waited() -> None:
    sightings = Sightings(MemoryFacts(), LEASE_S, SILENT_S, 0.0)
    sightings.see("red", "web-1", HERE, 0.0)
    sightings.see("red", "web-1", THERE, 1.0)
    sightings.see("red", "web-1", HERE, 2.0)
    sightings.see("red", "web-1", THERE, 3.0)
    assert sightings.settle(1.0 + MOVE_S, lives) == set()
