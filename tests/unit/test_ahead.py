# SPDX-License-Identifier: Apache-2.0
"""What is learned before anybody asks is what would be learned then, and no more than was allowed."""

import numpy as np
import pytest

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.numbers import IngressKind, KeyClass
from directory_client.wire.rows import QUERY, Rows
from directory_service.bulk import ahead as ahead_module
from directory_service.bulk import sides as sides_module
from directory_service.bulk.bulk import ROWS_MIN, Bulk
from directory_service.decide.answer import decide_rows
from directory_service.decide.question import Asker
from directory_service.model.snapshot import Snapshot
from directory_service.settings import Settings
from learning import note_learned
from red_vnet import id_of, snapshot, topology
from topologies import make_snapshot

MEMBERS = ("10.0.0.11", "10.0.0.12", "10.0.0.21", "10.0.0.22", "10.0.0.31")


def learn_all(bulk: Bulk, model: Snapshot) -> int:
    """Let a quiet time pass; returns how many moments were used."""
    moments = 0
    while bulk.has_to_learn(model):
        bulk.learn_ahead(model)
        moments += 1
        assert moments < 1_000
    return moments


def rows_between_all(model: Snapshot) -> Rows:
    rows = np.zeros(ROWS_MIN, QUERY)
    rows["vni"], rows["key_class"], rows["ingress_kind"] = 7001, KeyClass.BRIDGED, IngressKind.ATTACHMENT
    rows["ingress_object"] = id_of(model, "attachment/red/gw1/rack:101")
    for number, row in enumerate(rows):
        row["source"] = np.frombuffer(pack_address(MEMBERS[number % 2]), np.uint8)
        row["destination"] = np.frombuffer(pack_address(MEMBERS[number % len(MEMBERS)]), np.uint8)
    return rows


def answers_alike(bulk: Bulk, model: Snapshot) -> bool:
    asker, rows = Asker(model.fabric.nodes["gw1"], frozenset(("vxlan",))), rows_between_all(model)
    found, wanted = (decide(model, rows, asker, 0, Settings()) for decide in (bulk.decide_rows, decide_rows))
    return all(
        getattr(found, part).tobytes() == getattr(wanted, part).tobytes()
        for part in ("decisions", "locations", "tunnels", "scopes")
    )


def test_what_was_learned_ahead_is_not_learned_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    bulk, model = Bulk(), snapshot()
    bulk.expect("gw1")
    learn_all(bulk, model)
    learned = note_learned(monkeypatch)
    assert answers_alike(bulk, model)
    assert learned == []


def test_nothing_is_learned_for_nodes_that_never_asked() -> None:
    bulk, model = Bulk(), snapshot()
    assert not bulk.has_to_learn(model)
    bulk.expect("gw9")  # hosts nothing
    learn_all(bulk, model)
    assert bulk._sides.count == 1


def test_another_node_brings_up_only_what_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    bulk, model = Bulk(), snapshot()
    bulk.expect("gw1")
    learn_all(bulk, model)
    before = bulk._sides.count
    asked: list[int] = []
    find = sides_module.Sides.find

    def noting(self: sides_module.Sides, tags: Rows, *words: Rows) -> Rows:
        asked.extend(tags.tolist())
        return find(self, tags, *words)

    monkeypatch.setattr(sides_module.Sides, "find", noting)
    bulk.expect("gw2")
    bulk.expect("gw1")
    learn_all(bulk, model)
    assert bulk._sides.count == before + len(asked)  # nothing that was known is looked at again


def test_a_change_of_an_endpoint_brings_up_its_addresses_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bulk, before = Bulk(), snapshot()
    bulk.expect("gw1")
    learn_all(bulk, before)
    learned = note_learned(monkeypatch)
    there = {"addresses": ["10.0.0.31"], "mac": "02:00:5e:00:00:31", "at": ["gw2/rack:101"]}
    after = make_snapshot(topology(endpoint__red__far=there), before, 1)
    bulk.follow(after)
    learn_all(bulk, after)
    assert set(learned) == {pack_address("10.0.0.31")}
    assert answers_alike(bulk, after)


def test_a_node_that_comes_to_host_a_v_net_brings_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [key for key in topology() if key.startswith("attachment/red/gw1/")]
    bulk, before = Bulk(), snapshot(**dict.fromkeys(places))
    bulk.expect("gw1")
    learn_all(bulk, before)
    assert bulk._sides.count == 1
    after = make_snapshot(topology(), before, 1)
    learn_all(bulk, after)
    learned = note_learned(monkeypatch)
    assert answers_alike(bulk, after)
    assert learned == []


def test_a_change_of_the_rules_brings_up_the_whole_v_net(monkeypatch: pytest.MonkeyPatch) -> None:
    bulk, before = Bulk(), snapshot()
    bulk.expect("gw1")
    learn_all(bulk, before)
    learned = note_learned(monkeypatch)
    everybody = {"action": "allow", "from": "any", "to": "any"}
    after = make_snapshot(topology(rule__red__all=everybody), before, 1)
    learn_all(bulk, after)
    assert {pack_address(member) for member in MEMBERS} <= set(learned)
    learned.clear()
    assert answers_alike(bulk, after)
    assert learned == []


def test_learning_ahead_stops_at_its_share_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "ADDRESSES_MAX", 2)
    monkeypatch.setattr(ahead_module, "SIDES_AHEAD_MAX", 5)
    bulk, model = Bulk(), snapshot()
    bulk.expect("gw1")
    learn_all(bulk, model)
    assert bulk._sides.count <= 5
    assert answers_alike(bulk, model)


def test_a_few_addresses_are_learned_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "ADDRESSES_MAX", 2)
    bulk, model = Bulk(), snapshot()
    bulk.expect("gw1")
    learned = note_learned(monkeypatch)
    while bulk.has_to_learn(model):
        before = len(learned)
        bulk.learn_ahead(model)
        assert len(learned) - before <= 2
