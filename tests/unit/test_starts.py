# SPDX-License-Identifier: Apache-2.0
"""A gateway that was never heard forwards nothing: no change waits for it, and none is late at it."""

from __future__ import annotations

from pathlib import Path

import msgpack
from directory_world import CLOSED, DOCUMENT, Clock
from dispatcher_bench import Bench, replies

from directory_service.facts.contract import Facts
from directory_service.facts.memory import MemoryFacts
from directory_service.facts.sqlite import SqliteFacts
from directory_service.settings import Settings
from directory_service.store.contract import Store
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory


def test_a_change_does_not_wait_for_a_gateway_that_was_never_started() -> None:
    bench = Bench()
    bench.directory.concerned = ["gw1", "gw2"]
    bench.directory.never_started = {"gw2"}
    bench.ask("resolve", "heartbeat", node="gw1", revision=42)
    outs = replies(bench.send("write", "apply", text="x", name="a.toml"))
    assert msgpack.unpackb(outs[-1].frames[0])["gateways"] == [
        {"node": "gw1", "state": "applied", "ms": 0.0},
        {"node": "gw2", "state": "not_started", "ms": None},
    ]


def test_a_dry_run_does_not_miss_the_flows_of_a_gateway_that_was_never_started() -> None:
    bench = Bench()
    bench.directory.concerned = ["gw2"]
    flows = bench.ask("write", "apply", text="x", name="a.toml", dry_run=True)["flows"]
    assert flows["silent"] == ["gw2"]
    bench.directory.never_started = {"gw2"}
    flows = bench.ask("write", "apply", text="x", name="a.toml", dry_run=True)["flows"]
    assert flows["concerned"] is False


def test_the_first_word_of_a_gateway_is_told_once() -> None:
    bench = Bench()
    for _ in range(3):
        bench.ask("resolve", "heartbeat", node="gw1", revision=1)
    assert bench.directory.heard_first == ["gw1"]


def made(store: Store, facts: Facts) -> Directory:
    return Directory(store, Settings(), Clock(), facts=facts)


def test_who_was_heard_once_is_known_after_a_restart(tmp_path: Path) -> None:
    store = MemoryStore()
    facts = SqliteFacts(tmp_path / "facts", 1e9)
    directory = made(store, facts)
    directory.apply(DOCUMENT, "topology.toml")
    assert [directory.never_heard(node) for node in ("gw1", "gw2", "gw9")] == [True, True, False]
    directory.note_heard("gw1")
    facts.flush()
    facts.close()
    again = made(store, SqliteFacts(tmp_path / "facts", 1e9))
    assert [again.never_heard(node) for node in ("gw1", "gw2")] == [False, True]
    again.apply(CLOSED, "topology.toml")  # the node stays what it is
    assert again.never_heard("gw2")


def test_where_facts_were_lost_nobody_declared_before_is_taken_to_be_new() -> None:
    store = MemoryStore()
    made(store, MemoryFacts()).apply(DOCUMENT, "topology.toml")
    directory = made(store, MemoryFacts())
    assert not directory.never_heard("gw2")
    directory.apply(DOCUMENT + '\n[node.gw3]\nkind = "gateway"\nsite = "ams1"\n', "topology.toml")
    assert directory.never_heard("gw3")


def test_facts_of_another_realm_say_nothing(tmp_path: Path) -> None:
    facts = MemoryFacts()
    made(MemoryStore(1), facts).apply(DOCUMENT, "topology.toml")
    other = MemoryStore(2)
    made(other, MemoryFacts()).apply(DOCUMENT, "topology.toml")
    assert not made(other, facts).never_heard("gw2")
