# SPDX-License-Identifier: Apache-2.0
"""Two programs on one store: what the newer one writes and the older one does not know ends nothing, opens
nothing, and goes when it is taken back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from directory_world import DOCUMENT, SINGLE, Clock, ask, ops_of

from directory_client.vocabulary.numbers import Action, ChangeKind
from directory_service.kinds.records import decode, encode, make_record
from directory_service.kinds.registry import KINDS
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.contract import StoreError, Write
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory

MORE = """
[profile.fabric]
protocol = "vxlan"

[path.inside]
sites = ["ams1", "ams1"]
trust = "own"
profile = "fabric"

[vnet.red.route]
"192.168.0.0/16" = { via = "web-1" }

[vnet.blue.peering.red]
"""
JUNK = (7, -1, 2**63, True, 1.5, "private", "", [], ["private"], [7], {}, {"a": 1}, [["x"]])


@pytest.fixture
def directory(directory: Directory) -> Directory:
    directory.apply(DOCUMENT + MORE, "topology.toml")
    directory.poll()
    return directory


def write_newer(store: MemoryStore, key: str, values: Mapping[str, Any]) -> None:
    """Write a record as a newer program would: other values, all else as it was."""
    item = next(item for item in store.range(key)[1] if item.key == key)
    record = decode(item)
    newer = make_record(key, record.id, 0, record.owner, record.document, {**record.values, **values})
    store.transact([], [Write(key, encode(newer))], b"", 0)


def how(directory: Directory) -> list[int]:
    """How red's packets from web-1 end: to the other gateway, and to the foreign node."""
    directory.poll()
    return [ask(directory, "10.0.0.11", address)[0] for address in ("10.0.0.21", "10.0.0.22")]


ALL = [Action.ENCAPSULATE, Action.ENCAPSULATE]
NEWER: Mapping[str, Mapping[str, Any]] = {
    "path/ams1-ber1": {"trust": "private"},
    "node/gw2": {"kind": "bridge"},
    "node/leaf": {"tunnels": 4},
    "vnet/red": {"min_trust": "private"},
    "rule/red/any": {"action": "reject"},
    "endpoint/red/web-2": {"quarantine": True},
    "attachment/red/gw2/rack:101": {"mirror": "gw1"},
    "route/red/192.168.0.0/16": {"via": ["web-1", "web-2"]},
}


@pytest.mark.parametrize("key", NEWER)
def test_what_is_not_known_carries_nothing_and_all_else_goes_on(
    key: str, directory: Directory, store: MemoryStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert how(directory) == ALL
    good = directory.revision
    write_newer(store, key, NEWER[key])

    with caplog.at_level(logging.ERROR):
        after = how(directory)

    assert directory.revision == good + 1
    assert [key in record.getMessage() for record in caplog.records] == [True]
    assert after == [Action.ENCAPSULATE if key == on else Action.DROP for on in ("node/leaf", "node/gw2")]
    assert directory.current.vnets["blue"].vnet is not None
    kind = key.partition("/")[0]
    assert [row["name"] for row in directory.list_records(kind) if "unreadable" in row] == [
        key.removeprefix(kind + "/")
    ]
    assert directory.unreadable.keys() == {key}
    again = Directory(store, Settings(), clock)
    assert again.unreadable == directory.unreadable
    assert again.revision == directory.revision
    directory.rollback(good)
    assert how(directory) == ALL
    assert directory.unreadable == {}


def test_nodes_are_told_that_a_vnet_is_gone_and_of_all_of_it_when_it_can_be_read(
    directory: Directory, store: MemoryStore
) -> None:
    good = directory.revision
    gw2 = directory.node_id("gw2")
    before = [op["op"] for op in directory.snapshot("gw2").vnets[7001]]

    write_newer(store, "endpoint/red/web-2", {"quarantine": True})
    assert [op["op"] for op in ops_of(directory.poll(), gw2, 7001)] == ["vnet_removed"]
    assert 7001 not in directory.snapshot("gw2").vnets
    directory.rollback(good)
    told = {op["op"] for op in ops_of(directory.poll(), gw2, 7001)}

    assert {"vnet", "attachment", "tunnel", "ingress", "location"} <= told
    assert [op["op"] for op in directory.snapshot("gw2").vnets[7001]] == before


def test_what_was_forbidden_while_a_vnet_could_not_be_read_is_closed_where_no_push_came(
    directory: Directory, store: MemoryStore, clock: Clock
) -> None:
    known = {7001: directory.revision}
    write_newer(store, "endpoint/red/web-2", {"quarantine": True})
    directory.poll()
    write_newer(store, "rule/red/any", {"from": "group:db"})
    directory.poll()
    text = DOCUMENT.replace('from = "any"', 'from = "group:db"') + MORE
    directory.apply(text, "topology.toml")
    directory.poll()

    for one in (directory, Directory(store, Settings(), clock)):
        closed = [
            (op["kind"], op["source_bits"], op["destination_bits"])
            for vni, ops in one.snapshot("gw1", known=known).slices
            for op in ops
            if vni == 7001 and op["op"] == "scope"
        ]
        assert (ChangeKind.TIGHTEN, 0, 0) in closed


def test_a_path_that_is_not_known_does_not_give_way_to_what_is_assumed_without_it(
    directory: Directory, store: MemoryStore
) -> None:
    write_newer(store, "path/inside", {"trust": "private"})
    directory.poll()
    fabric = directory.current.fabric
    red = directory.current.vnets["red"]
    assert red.vnet is not None

    link = fabric.link(fabric.nodes["gw1"], fabric.nodes["gw1"], red.vnet.min_trust)

    assert link.why == "path inside says what this directory does not know"


def test_a_profile_that_is_not_known_is_not_taken_for_the_built_in_one(
    directory: Directory, store: MemoryStore
) -> None:
    directory.set_record("path", "other", {"sites": ["ber1", "ber1"], "trust": "own", "profile": "fabric"})
    write_newer(store, "profile/fabric", {"dscp": "inner"})
    directory.poll()
    fabric = directory.current.fabric

    link = fabric.link(fabric.nodes["gw2"], fabric.nodes["leaf"], 0)

    assert link.tunnel is None
    assert link.why == "profile fabric says what this directory does not know"


def test_nothing_is_written_beside_what_is_not_known_but_what_takes_it_away(
    directory: Directory, store: MemoryStore
) -> None:
    write_newer(store, "path/ams1-ber1", {"trust": "private"})
    directory.poll()

    with pytest.raises(Refused, match=r'path ams1-ber1 was written by a newer program.*trust: "private"'):
        directory.set_record("endpoint", "red/web-9", SINGLE)
    with pytest.raises(Refused, match="newer program"):
        directory.apply('document = "other"\n[site.x]\n', "other.toml")
    assert "private" in directory.export("ams-ber")
    directory.apply(DOCUMENT + MORE, "topology.toml")
    assert how(directory) == ALL


def test_going_back_does_not_bring_back_what_is_not_known(directory: Directory, store: MemoryStore) -> None:
    write_newer(store, "path/ams1-ber1", {"trust": "private"})
    directory.poll()
    newer = directory.revision
    directory.apply(DOCUMENT + MORE, "topology.toml")

    with pytest.raises(Refused, match=f"path ams1-ber1 of revision {newer} was written by a newer program"):
        directory.rollback(newer)


def test_a_kind_that_is_not_known_is_left_alone(
    directory: Directory, store: MemoryStore, clock: Clock
) -> None:
    pool = make_record("pool/red/hosts", 900, 0, "document", "ams-ber", {"prefix": "10.0.0.128/25"})
    store.transact([], [Write(pool.key, encode(pool))], b"", 0)

    assert how(directory) == ALL
    directory.set_record("endpoint", "red/web-9", SINGLE)
    directory.apply(DOCUMENT, "topology.toml")
    directory.rollback(1)
    assert [item.value for item in store.range("pool/")[1]] == [encode(pool)]
    assert how(Directory(store, Settings(), clock))
    assert directory.unreadable == {}


def test_more_in_a_record_than_is_known_is_no_reason_not_to_read_it(
    directory: Directory, store: MemoryStore
) -> None:
    (item,) = (item for item in store.range("site/ams1")[1])
    packed = bytes([item.value[0] + 1]) + item.value[1:] + b"\xc0"  # a longer array: nil behind it
    store.transact([], [Write("site/ams1", packed)], b"", 0)

    assert how(directory) == ALL
    assert directory.unreadable == {}


def test_what_is_no_record_stops_the_directory_where_it_is(directory: Directory, store: MemoryStore) -> None:
    store.transact([], [Write("site/ams1", b"\xc1")], b"", 0)

    with pytest.raises(StoreError, match="site/ams1 of revision"):
        directory.poll()
    assert ask(directory, "10.0.0.11", "10.0.0.21")[0] == Action.ENCAPSULATE


def test_a_resting_number_that_cannot_be_read_rests_on_and_stops_writing_only(
    directory: Directory, store: MemoryStore
) -> None:
    store.transact([], [Write("rest/locator/192.0.2.9", msgpack.packb(["old", 9, {}, True, "more"]))], b"", 0)
    assert how(directory) == ALL

    with pytest.raises(Refused, match=r"whether locator 192\.0\.2\.9 rests cannot be known"):
        directory.announce("gw1", ["192.0.2.1", "192.0.2.9"], ["rack"])
    directory.announce("gw2", ["192.0.2.2"], ["rack", "more"])
    assert directory.current.presences["gw1"].locators == ("192.0.2.1",)
    assert directory.current.presences["gw2"].ports == ("rack", "more")
    with pytest.raises(StoreError, match=r"rest/locator/192\.0\.2\.9 of revision"):
        directory.set_record("endpoint", "red/web-9", SINGLE)


def test_a_counter_that_cannot_be_read_stops_writing_only(directory: Directory, store: MemoryStore) -> None:
    store.transact([], [Write("meta/counter", msgpack.packb([1, 2, 3]))], b"", 0)

    assert how(directory) == ALL
    with pytest.raises(StoreError, match="meta/counter of revision"):
        directory.set_record("endpoint", "red/web-9", SINGLE)


def look_at_all(directory: Directory) -> None:
    """Ask for everything; a node that is not known is refused."""
    for node in ("gw1", "gw2"):
        with suppress(Refused):
            how(directory)
            list(directory.snapshot(node).slices)
    for kind in KINDS:
        directory.list_records(kind.noun.plural)
    directory.export("ams-ber")
    with suppress(Refused):
        directory.explain("red", "web-1", "db-1", "tcp", 5432)


def test_no_value_of_any_field_ends_a_directory(
    directory: Directory, store: MemoryStore, clock: Clock
) -> None:
    """Each field of each kind with each of many values that it cannot have, and one field more."""
    tried = 0
    for kind in KINDS:
        record = next(record for record in directory.current.records.values() if record.kind == kind.name)
        for field in (*record.values, "colour"):
            for value in JUNK:
                write_newer(store, record.key, {field: value})
                look_at_all(directory)
                if value is JUNK[0]:
                    look_at_all(Directory(store, Settings(), clock))
                store.transact([], [Write(record.key, encode(record))], b"", 0)
                tried += 1
        assert how(directory) == ALL
    assert tried > 20 * len(JUNK)
