# SPDX-License-Identifier: Apache-2.0
"""Rows decided in bulk are what decide says, byte for byte, whatever changed before."""

import struct
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.numbers import Action, IngressKind, KeyClass, KeyFlag
from directory_client.wire.rows import QUERY, Rows
from directory_service.bulk import bulk as bulk_module
from directory_service.bulk import sides as sides_module
from directory_service.bulk import verdicts as verdicts_module
from directory_service.bulk.bulk import ROWS_MIN, Bulk
from directory_service.bulk.outcomes import ASK
from directory_service.decide.answer import Answer, decide_rows
from directory_service.decide.question import Asker, Query
from directory_service.model.snapshot import Snapshot
from directory_service.settings import Settings
from learning import note_learned
from red_vnet import id_of, snapshot, topology
from topologies import GATEWAYS, Topology, draw_edit, draw_query, draw_sightings, draw_topology, make_snapshot

MANY = settings(max_examples=150, deadline=None)
SEEDS = st.integers(0, 2**64 - 1)
ROW = struct.Struct("<IBBBB16s16s2s2s4xQQ")
PARTS = ("decisions", "locations", "tunnels", "scopes")
VXLAN = frozenset(("vxlan",))


def rows_of(queries: Iterable[Query]) -> Rows:
    out = b""
    for query in queries:
        ports = query.source_port.to_bytes(2, "big"), query.destination_port.to_bytes(2, "big")
        head = query.vni, query.key_class, query.key_flags, query.protocol, query.ingress_kind
        out += ROW.pack(
            *head, query.source, query.destination, *ports, query.ingress_object, query.current_object
        )
    return np.frombuffer(out, QUERY)


def compare(bulk: Bulk, model: Snapshot, rows: Rows, node: str, now_ms: int, answers: Settings) -> None:
    asker = Asker(model.fabric.nodes[node], VXLAN)
    one_by_one = decide_rows(model, rows, asker, now_ms, answers)
    at_once = bulk.decide_rows(model, rows, asker, now_ms, answers)
    for part in PARTS:
        one, other = getattr(one_by_one, part), getattr(at_once, part)
        if other.tobytes() != one.tobytes():
            assert list(map(str, other)) == list(map(str, one)), part


def with_ipv6(before: Topology) -> Topology:
    """Give endpoints IPv6 addresses too, and something behind the first that has a place."""
    out = dict(before)
    for key, values in before.items():
        if key.startswith("endpoint/"):
            address = "2001:db8::" + key[-1]
            out[key] = {**values, "addresses": [*values.get("addresses", ()), address]}
    return out


def draw_here(random: Random, model: Snapshot, node: str) -> Query:
    """Draw a query that mostly comes in where the node has an ingress, from somebody to somebody."""
    state = model.vnets["red"]
    while True:
        query = draw_query(random, model)
        at = state.attachments_by_id.get(query.ingress_object)
        family = 0 if query.key_class == KeyClass.MAC else 4
        served = state.holders(family, query.destination)
        known = state.holders(family, query.source) and served
        if served and random.random() < 0.3:  # a cached flow is asked again
            holder = random.choice(served)
            query = query._replace(current_object=holder.member.id if holder.member else 77)
        if (known and (at is None or at.place.node == node)) or random.random() < 0.1:
            return query


def draw_unusual(random: Random, model: Snapshot, node: str) -> Query:
    """Draw a query of another family or V-net, or one that contradicts itself."""
    query = draw_here(random, model, node)
    change = random.randrange(6)
    if change == 0:
        return query._replace(vni=random.choice([7002, 9]))
    if change == 1:
        return query._replace(key_class=random.randrange(256), ingress_kind=random.randrange(4))
    if change == 2:
        return query._replace(key_flags=random.randrange(256))
    if change == 3:
        return query._replace(destination=random.randbytes(16))
    pair = (pack_address(f"2001:db8::{random.choice(['1', '2', '3', '4', '5', '99'])}") for _ in range(2))
    source, destination = pair
    flags = query.key_flags | KeyFlag.IPV6
    return query._replace(key_class=KeyClass.BRIDGED, key_flags=flags, source=source, destination=destination)


def draw_rows(random: Random, model: Snapshot, node: str, asked: list[Query]) -> Rows:
    """Draw new queries, and some that were asked about before the last changes."""
    draws = [draw_unusual if random.random() < 0.15 else draw_here for _ in range(random.choice([25, 60]))]
    new = [draw(random, model, node) for draw in draws]
    old = random.sample(asked, min(len(asked), 150))
    asked += new
    rows = rows_of(random.sample([*new, *old], len(new) + len(old)))
    # Mostly one context, as a gateway's batch has: then all goes another way through the code.
    return rows[rows["ingress_object"] == rows["ingress_object"][0]] if random.random() < 0.2 else rows


@MANY
@given(seed=SEEDS)
def test_bulk_says_what_decide_says_through_any_changes(seed: int) -> None:
    random = Random(seed)
    world, now_ms, asked = draw_topology(random), 0, []
    model, bulk = make_snapshot(with_ipv6(world)), Bulk()
    for node in random.sample(GATEWAYS, random.randrange(3)):
        bulk.expect(node)
    answers = Settings(
        jitter_ratio=random.choice([0.0, 0.1, 0.5]), lifetime_s=random.choice([1.0, 1.5, 300.0])
    )
    for _ in range(6):
        for node in random.sample(GATEWAYS, 2):
            with (
                mock.patch.object(verdicts_module, "ALIKE_MIN", random.choice([1, 4])),
                mock.patch.object(sides_module, "TOGETHER_MIN", random.choice([1, 4])),
            ):
                compare(bulk, model, draw_rows(random, model, node, asked), node, now_ms, answers)
        for _ in range(random.choice([1, 1, 2, 3])):
            world, now_ms = draw_edit(random, world), now_ms + random.choice([0, 10, 20_000, 400_000])
            model = make_snapshot(with_ipv6(world), model, now_ms)
            if random.random() < 0.5:
                bulk.follow(model)
            model = draw_sightings(random, model, now_ms)
            if random.random() < 0.8:  # a snapshot that is left out costs time only
                bulk.follow(model)
            for _ in range(random.choice([0, 1, 50])):
                if bulk.has_to_learn(model):
                    bulk.learn_ahead(model)


def test_most_of_a_random_world_is_decided_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: Counter[int] = Counter()
    find = bulk_module.find_outcomes

    def counting(*arguments: Any) -> Any:
        found = find(*arguments)
        outcomes.update(found.outcome.tolist())
        return found

    monkeypatch.setattr(bulk_module, "find_outcomes", counting)
    monkeypatch.setattr(verdicts_module, "ALIKE_MIN", 1)
    for seed in range(200):
        random = Random(seed)
        model = make_snapshot(with_ipv6(draw_topology(random)))
        rows = rows_of(draw_here(random, model, "g1") for _ in range(100))
        Bulk().decide_rows(model, rows, Asker(model.fabric.nodes["g1"], VXLAN), 0, Settings())
    assert min(outcomes[outcome] for outcome in range(9)) > 20, outcomes
    assert outcomes[ASK] < 0.25 * outcomes.total(), outcomes


def pairs(model: Snapshot, *ends: tuple[str, str]) -> Rows:
    ingress = id_of(model, "attachment/red/gw1/rack:101")
    queries = [
        Query(
            7001,
            KeyClass.BRIDGED,
            0,
            0,
            IngressKind.ATTACHMENT,
            pack_address(a),
            pack_address(b),
            0,
            0,
            ingress,
        )
        for a, b in ends
    ]
    return rows_of(queries * ROWS_MIN)


def where_to(answer: Answer) -> Rows:
    return answer.locations["node_id"][answer.decisions["destination_location"]]


def test_who_moved_is_found_at_once_and_who_left_is_refused() -> None:
    bulk, before = Bulk(), snapshot()
    asker = Asker(before.fabric.nodes["gw1"], VXLAN)
    rows = pairs(before, ("10.0.0.11", "10.0.0.21"))
    first = bulk.decide_rows(before, rows, asker, 0, Settings())
    assert set(where_to(first)) == {id_of(before, "node/gw2")}
    there = {"addresses": ["10.0.0.21"], "mac": "02:00:5e:00:00:21", "at": ["gw3/rack:101"], "groups": ["db"]}
    moved = make_snapshot(topology(endpoint__red__db_1=there), before, 1)
    second = bulk.decide_rows(moved, rows, asker, 0, Settings())
    assert set(where_to(second)) == {id_of(before, "node/gw3")}
    gone = make_snapshot(topology(endpoint__red__db_1=None), moved, 2)
    third = bulk.decide_rows(gone, rows, asker, 0, Settings())
    assert set(third.decisions["action"]) == {int(Action.DROP)}


def test_a_change_of_one_endpoint_leaves_the_others_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    bulk, before = Bulk(), snapshot()
    asker = Asker(before.fabric.nodes["gw1"], VXLAN)
    rows = pairs(before, ("10.0.0.11", "10.0.0.21"), ("10.0.0.12", "10.0.0.22"), ("10.0.0.12", "10.0.0.31"))
    bulk.decide_rows(before, rows, asker, 0, Settings())
    learned = note_learned(monkeypatch)
    there = {"addresses": ["10.0.0.31"], "mac": "02:00:5e:00:00:31", "at": ["gw2/rack:101"]}
    after = make_snapshot(topology(endpoint__red__far=there), before, 1)
    bulk.decide_rows(after, rows, asker, 0, Settings())
    assert learned == [pack_address("10.0.0.31")]


def test_an_attachment_that_comes_leaves_the_others_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    bulk = Bulk()
    here = {"addresses": ["10.0.0.31"], "mac": "02:00:5e:00:00:31", "at": ["gw2/rack:777"]}
    before = make_snapshot(topology(endpoint__red__far=here))
    asker = Asker(before.fabric.nodes["gw1"], VXLAN)
    rows = pairs(before, ("10.0.0.11", "10.0.0.21"), ("10.0.0.12", "10.0.0.31"))
    assert 0 in bulk.decide_rows(before, rows, asker, 0, Settings()).decisions["destination_location"] + 1
    learned = note_learned(monkeypatch)
    after = make_snapshot(
        topology(**{"endpoint__red__far": here, "attachment/red/gw2/rack:777": {}}), before, 1
    )
    compare(bulk, after, rows, "gw1", 1, Settings())
    assert learned == [pack_address("10.0.0.31")]


def test_room_is_made_by_forgetting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides_module, "SIDES_MAX", 500)
    bulk, model, random = Bulk(), snapshot(), Random(7)
    for _ in range(20):
        ends = [("10.0.0.11", f"10.0.{random.randrange(256)}.{random.randrange(256)}") for _ in range(5)]
        compare(bulk, model, pairs(model, *ends), "gw1", 0, Settings())
