# SPDX-License-Identifier: Apache-2.0
"""What makes a change of one endpoint cheap says the same as what looks at everything."""

from collections import Counter
from random import Random

import numpy as np
from directory_world import SINGLE, Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from directory_service.bulk.key_index import KeyIndex, mix
from directory_service.documents.endpoint_fit import are_endpoints, endpoints_fit
from directory_service.documents.integrity import find_faults
from directory_service.documents.writer import Counter as NextId
from directory_service.documents.writer import RecordChange, Wanted, plan
from directory_service.model.layered import Layered
from directory_service.model.snapshot import Snapshot
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from topologies import ENDPOINTS, GATEWAYS, Topology, draw_topology, fits, make_snapshot
from whole_directory import WholeDirectory as Directory

SEEDS = st.integers(0, 2**64 - 1)


def draw_change(random: Random, topology: Topology) -> Topology:
    """Draw other endpoints, that fit or not."""
    after = dict(topology)
    other = draw_topology(random)
    for name in random.sample(ENDPOINTS, random.choice([1, 1, 2])):
        key = f"endpoint/red/{name}"
        after.pop(key, None)
        if key in other and random.random() < 0.9:
            after[key] = dict(other[key])
            if random.random() < 0.2:
                after[key]["mac"] = random.choice(["02:00:5e:00:00:02", "02:56:4e:00:1b:59"])
            if random.random() < 0.2:
                after[key].pop("at", None)
                after[key]["node"] = random.choice([*GATEWAYS, "v1", "v2", "nowhere"])
            if random.random() < 0.1:
                after[key]["addresses"] = ["10.0.0.14"]
    return after


def changes_between(before: Snapshot, topology: Topology) -> list[RecordChange]:
    wanted: dict[str, Wanted | None] = dict.fromkeys(before.records)
    wanted |= {key: Wanted(values, "document", "d") for key, values in topology.items()}
    return plan(before, wanted, NextId(10_000, 0, 0))[0]


@settings(max_examples=400, deadline=None)
@given(seed=SEEDS)
def test_endpoints_that_are_said_to_fit_have_no_fault(seed: int) -> None:
    random = Random(seed)
    topology = draw_topology(random)
    if random.random() < 0.5:
        topology["vnet/red"] = {**topology["vnet/red"], "prefixes": ["10.0.0.0/29", "192.168.0.0/16"]}
        if not fits(make_snapshot(topology)):
            return
    before = make_snapshot(topology)
    changes = changes_between(before, draw_change(random, topology))
    assert are_endpoints(changes)
    after = before.with_changes(2, changes, 0)
    if endpoints_fit(after, changes):
        assert list(find_faults(dict(after.records))) == []


def test_most_endpoints_that_fit_are_seen_to_fit() -> None:
    said: Counter[tuple[bool, bool]] = Counter()
    for seed in range(300):
        random = Random(seed)
        topology = draw_topology(random)
        before = make_snapshot(topology)
        changes = changes_between(before, draw_change(random, topology))
        after = before.with_changes(2, changes, 0)
        said[fits(after), endpoints_fit(after, changes)] += 1
    assert said[True, True] > said[True, False] / 2, said
    assert said[False, False] > 30, said


@settings(deadline=None)
@given(
    first=st.dictionaries(st.integers(0, 99), st.integers(1, 9), max_size=90),
    steps=st.lists(
        st.dictionaries(st.integers(0, 99), st.none() | st.integers(1, 9), max_size=70), max_size=6
    ),
)
def test_a_layered_mapping_is_a_dict(first: dict, steps: list) -> None:
    kept = []
    plain, layered = dict(first), Layered[int, int]().changed(first)
    for step in [{}, *steps]:
        plain = {key: value for key, value in {**plain, **step}.items() if value is not None}
        layered = layered.changed(step)
        kept.append((layered, plain))
    for made, expected in kept:  # the later ones have left the earlier ones as they were
        assert dict(made.items()) == expected
        assert (sorted(made), sorted(made.values())) == (sorted(expected), sorted(expected.values()))
        assert len(made) == len(expected)
        assert [made.get(key) for key in range(100)] == [expected.get(key) for key in range(100)]
        assert made.get_all(range(100)) == [expected.get(key) for key in range(100)]
        assert all((key in made) == (key in expected) for key in range(100))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=300, unique=True), st.integers(1, 40))
def test_an_index_finds_what_was_added(words: list[int], bits: int) -> None:
    index = KeyIndex()
    keys = np.array(words, np.uint64) >> np.uint64(64 - bits)  # crowded: many begin at one place
    marks = np.unique(keys[keys > 0])
    half = len(marks) // 2
    index.add(marks[:half], np.arange(half))
    index.add(marks[half:], np.arange(half, len(marks)))
    assert index.find(marks).tolist() == list(range(len(marks)))
    others = np.setdiff1d(np.arange(1, 200, dtype=np.uint64), marks)
    assert set(index.find(others).tolist()) <= {-1}


def test_an_index_grows() -> None:
    index, marks = KeyIndex(), mix(np.arange(1, 20_001, dtype=np.uint64))
    for at in range(0, 20_000, 500):
        index.add(marks[at : at + 500], np.arange(at, at + 500))
    assert index.find(marks).tolist() == list(range(20_000))


def test_records_of_another_server_are_checked_whole(clock: Clock) -> None:
    """What somebody else wrote meanwhile is not known to be without a fault."""
    store = MemoryStore()
    one, other = (Directory(store, Settings(), clock) for _ in range(2))
    one.apply('document = "d"\n[site.s]\n[node.gw1]\nkind = "gateway"\n[vnet.red]\nvni = 1\n', "d.toml")
    one.apply('document = "e"\n[[vnet.red.attachment]]\nnodes = ["gw1"]\nport = "rack"\nvlan = 1\n', "e.toml")
    one.set_record("endpoint", "red/a", SINGLE)
    other.poll()
    other.set_record("endpoint", "red/b", {**SINGLE, "addresses": ["10.0.0.41"], "mac": "02:00:5e:00:00:41"})
    one.poll()
    assert one.editor._checked is not one.current.records
    one.set_record("endpoint", "red/c", {**SINGLE, "addresses": ["10.0.0.42"], "mac": "02:00:5e:00:00:42"})
    assert one.editor._checked is one.current.records
