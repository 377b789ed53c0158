# SPDX-License-Identifier: Apache-2.0
"""Who has which locator, from what gateways say of themselves: no revision, no history, no lasting mix-up."""

import pytest
from directory_world import DOCUMENT, Clock, ops_of

from directory_client.decoding import is_overtaken
from directory_client.wire.answers import Answer
from directory_service.facts.memory import MemoryFacts
from directory_service.settings import Settings
from directory_service.store.contract import Write
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory


def locators(directory: Directory, node: str) -> list[str]:
    return directory.list_records("nodes", None, node)[0].get("locators", [])


def test_what_a_gateway_says_makes_no_revision_and_is_pushed_at_once(directory: Directory) -> None:
    revision, facts, history = directory.revision, directory.facts, directory.history()
    directory.announce("gw2", ["192.0.2.200"], ["rack"])
    pushes = directory.poll()
    assert (directory.revision, directory.history()) == (revision, history)
    assert ops_of(pushes, directory.node_id("gw1"), 7001, "tunnel")
    assert {(push.revision, push.facts) for push in pushes} == {(revision, facts + 1)}
    directory.announce("gw2", ["192.0.2.200"], ["rack"])
    assert directory.poll() == []


def test_two_gateways_swap_their_locators(directory: Directory) -> None:
    directory.announce("gw1", ["192.0.2.2"], ["rack"])
    directory.announce("gw2", ["192.0.2.1"], ["rack"])
    assert (locators(directory, "gw1"), locators(directory, "gw2")) == (["192.0.2.2"], ["192.0.2.1"])
    assert directory.conflicts("gw1") == directory.conflicts("gw2") == []


def test_only_the_contested_locator_is_refused_and_both_are_named(directory: Directory) -> None:
    directory.announce("gw2", ["192.0.2.1", "192.0.2.9"], ["rack"])
    assert locators(directory, "gw1") == ["192.0.2.1"]
    assert locators(directory, "gw2") == ["192.0.2.9"]
    (conflict,) = directory.conflicts("gw2")
    assert (conflict["locator"], conflict["node"], conflict["holder"]) == ("192.0.2.1", "gw2", "gw1")
    assert "[node.gw2]" in conflict["fix"]


def test_a_silent_gateway_loses_a_locator_that_another_claims(directory: Directory, clock: Clock) -> None:
    directory.announce("gw2", ["192.0.2.1"], ["rack"])
    clock.ms += 10_000
    directory.announce("gw2", ["192.0.2.1"], ["rack"])
    assert (locators(directory, "gw1"), locators(directory, "gw2")) == ([], ["192.0.2.1"])
    assert directory.conflicts("gw2") == []


def test_a_renamed_gateway_keeps_its_address(directory: Directory) -> None:
    directory.apply(DOCUMENT.replace("gw2", "gw3"), "topology.toml")
    directory.announce("gw3", ["192.0.2.2"], ["rack"])
    assert locators(directory, "gw3") == ["192.0.2.2"]


def test_a_declared_locator_outranks_who_said_it_first(directory: Directory) -> None:
    directory.announce("gw2", ["198.51.100.9"], ["rack"])
    directory.apply(DOCUMENT.replace("203.0.113.7", "198.51.100.9"), "topology.toml")
    assert directory.current.fabric.nodes["gw2"].locators == ()
    directory.announce("gw2", ["198.51.100.9"], ["rack"])
    (conflict,) = directory.conflicts("gw2")
    assert conflict["holder"] == "leaf"
    assert "[node.leaf]" in conflict["fix"]


def test_a_restarted_directory_knows_the_last_locators(store: MemoryStore, clock: Clock) -> None:
    facts = MemoryFacts()
    first = Directory(store, Settings(), clock, facts=facts)
    first.apply(DOCUMENT, "topology.toml")
    first.announce("gw1", ["192.0.2.1"], ["rack"])
    again = Directory(store, Settings(), clock, facts=facts)
    assert locators(again, "gw1") == ["192.0.2.1"]


def test_a_store_of_an_older_version_is_read_without_its_presences(store: MemoryStore, clock: Clock) -> None:
    Directory(store, Settings(), clock).apply(DOCUMENT, "topology.toml")
    store.transact([], [Write("presence/gw1", b"\x94\x01\xa5lease\xa0\x80")])
    again = Directory(store, Settings(), clock)
    assert "presence/gw1" not in again.current.records
    assert again.list_records("nodes", None, "gw1")


def test_a_gateway_that_changes_its_mind_all_the_time_is_taken_up_now_and_then(
    directory: Directory, clock: Clock
) -> None:
    pushed = 0
    for number in range(100):
        clock.ms += 20
        directory.announce("gw2", [f"192.0.2.{100 + number % 2}"], ["rack"])
        pushed += bool(directory.poll())
    assert 4 <= pushed <= 13
    clock.ms += 1_000
    directory.announce("gw2", ["192.0.2.77"], ["rack"])
    assert locators(directory, "gw2") == ["192.0.2.77"]


@pytest.mark.parametrize(
    ("epoch", "facts", "overtaken"), [(5, 7, True), (5, 8, False), (5, 9, False), (6, 1, False)]
)
def test_an_answer_that_does_not_know_what_was_pushed_is_overtaken(
    epoch: int, facts: int, overtaken: bool
) -> None:
    assert is_overtaken(Answer(epoch=epoch, facts=facts), 5, 8) is overtaken
    assert not is_overtaken(Answer(revision=4), 5, 8)  # an older directory counts none
