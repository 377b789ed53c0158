# SPDX-License-Identifier: Apache-2.0
"""What gateways say of themselves, where steps are made apart: taken up together, and never lost."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from directory_world import DOCUMENT, SINGLE, Clock, ops_of

from directory_client.vocabulary.addresses import pack_address
from directory_service.model.snapshot import Snapshot
from directory_service.service import HEARING_MS
from directory_service.settings import Settings
from directory_service.store.contract import Store, StoreError, World
from directory_service.store.memory import MemoryStore
from directory_service.views.steps import Said, Step
from whole_directory import WholeDirectory


class ByHand:
    """An Apart that works when it is told to."""

    def __init__(self, follow: Callable[[Store, Snapshot, Said | None], Step], store: Store) -> None:
        self._follow = follow
        self._store = store
        self._base: Snapshot | None = None
        self._made: Step | None = None
        self._error: StoreError | None = None
        self.asked: list[Said | None] = []
        self.busy = False

    def ask(self, base: Snapshot, said: Said | None = None) -> None:
        assert not self.busy
        self._base, self.busy = base, True
        self.asked.append(said)

    def work(self) -> None:
        """Make the step that was asked for."""
        base, self._base = self._base, None
        if base is None:
            return
        try:
            made = self._follow(self._store, base, self.asked[-1])
        except StoreError as error:
            self._error = error
            return
        if made.snapshots:
            self._made = made
        else:
            self.busy = False

    def step(self) -> Step | None:
        made, error, self._made, self._error = self._made, self._error, None, None
        if made is None and error is None:
            return None
        self.busy = False
        if error is not None:
            raise error
        return made


class Bench:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = Clock()
        self.directory = WholeDirectory(self.store, Settings(), self.clock)
        self.directory.apply(DOCUMENT, "d.toml")
        self.directory.poll()
        self.apart = ByHand(self.directory.follow, self.store)
        self.directory.leave_to(self.apart)

    def locators(self, node: str) -> tuple[bytes, ...]:
        return self.directory.current.fabric.nodes[node].locators


def test_what_is_said_while_a_step_is_made_is_taken_up_at_once_afterwards() -> None:
    bench = Bench()
    directory, apart = bench.directory, bench.apart
    directory.announce("gw1", ["192.0.2.1"], [])
    assert directory.poll(look=False) == []
    directory.announce("gw2", ["192.0.2.2"], [])
    directory.announce("gw1", ["192.0.2.3"], [])
    assert directory.poll() == []
    apart.work()
    directory.poll()
    assert (bench.locators("gw1"), bench.locators("gw2")) == ((pack_address("192.0.2.1"),), ())
    apart.work()
    pushes = directory.poll()
    assert bench.locators("gw1") == (pack_address("192.0.2.3"),)
    assert [said.changed for said in apart.asked[:2] if said] == [{"gw1"}, {"gw1", "gw2"}]
    (tunnel,) = ops_of(pushes, directory.node_id("gw1"), 7001, "tunnel")[:1]
    assert tunnel["local"] == pack_address("192.0.2.3")
    assert all(push.packed for push in pushes)
    assert directory.heard.since(2).presences.keys() == {"gw1", "gw2"}


def test_no_snapshot_is_begun_for_a_moment_while_news_are_taken_up() -> None:
    bench = Bench()
    directory, apart = bench.directory, bench.apart
    assert not directory.is_hearing
    directory.announce("gw1", ["192.0.2.1"], [])
    directory.poll()
    assert directory.is_hearing
    apart.work()
    directory.announce("gw2", ["192.0.2.2"], [])
    directory.poll()
    assert directory.is_hearing  # there is more
    apart.work()
    directory.poll()
    assert not directory.is_hearing
    directory.announce("gw2", ["192.0.2.3"], [])
    bench.clock.ms += HEARING_MS
    assert not directory.is_hearing  # however long that takes


def test_a_store_that_cannot_be_read_keeps_nobody_from_being_known(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def fails() -> World:
        raise StoreError("locked")

    with monkeypatch.context() as patched:
        patched.setattr(bench.store, "refresh_world", fails)
        bench.directory.announce("gw1", ["192.0.2.1"], [])
        bench.directory.poll()
        bench.apart.work()
        bench.directory.poll()
        assert bench.locators("gw1") == (pack_address("192.0.2.1"),)
        bench.apart.work()
        with pytest.raises(StoreError):
            bench.directory.poll()


@pytest.mark.parametrize("seed", range(30))
def test_nothing_that_is_said_is_lost(seed: int) -> None:
    """Steps that fail, steps that others overtake, commits between: in the end every gateway is where it said
    last, and every commit is known."""
    chance = random.Random(seed)
    bench = Bench()
    directory, apart = bench.directory, bench.apart
    follow = directory.follow
    last: dict[str, str] = {}

    def may_fail(store: Store, base: Snapshot, said: Said | None) -> Step:
        if chance.random() < 0.2:
            raise StoreError("what it has new cannot be taken up")
        return follow(store, base, said)

    apart._follow = may_fail
    for number in range(60):
        what = chance.choice(("say", "say", "say", "work", "poll", "poll", "set", "era"))
        try:
            match what:
                case "say":
                    node = chance.choice(("gw1", "gw2"))
                    last[node] = f"192.0.2.{number + 1}"
                    directory.announce(node, [last[node]], [])
                    bench.clock.ms += 1_000  # nobody says more than they may
                case "work":
                    apart.work()
                case "poll":
                    directory.poll(look=chance.random() < 0.5)
                case "set":
                    addresses = {"addresses": [f"10.0.0.{100 + number}"]}
                    directory.set_record("endpoint", "red/single", {**SINGLE, **addresses})
                case "era":
                    bench.store.begin_era("for a test")
        except StoreError:
            continue
    apart._follow = follow
    for _ in range(4):
        apart.work()
        try:
            directory.poll()
        except StoreError:
            continue
    held = {node: one.locators for node, one in directory.heard.presences.held.items()}
    assert {node: tuple(map(pack_address, at)) for node, at in held.items()} == {
        node: bench.locators(node) for node in held
    }
    assert {node: at for node, (at,) in held.items()} == last
    assert directory.current.presences == directory.heard.presences.held
    assert directory.revision == bench.store.revision()
