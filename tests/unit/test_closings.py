# SPDX-License-Identifier: Apache-2.0
"""What a snapshot tells to close: all that was forbidden since a revision, and where that is known no more.

The oracle is `decide`: what it allowed at one revision and refuses at the next must be in a scope.
"""

from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from directory_world import DOCUMENT, SINGLE, Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.numbers import Action, ChangeKind, KeyClass, KeyFlag
from directory_client.vocabulary.scopes import Scope, covers_change
from directory_service.decide.decide import decide
from directory_service.decide.question import Asker, Decision, Query
from directory_service.documents.writer import Wanted, commit, make_note, plan, read_counter
from directory_service.model.snapshot import Snapshot
from directory_service.service import Directory
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from directory_service.views import closings
from topologies import VNI, Topology, draw_edit, draw_query, draw_topology

PLACE_REASONS = ("same_segment", "relay_loop", "not_here")
RED, BLUE = 7001, 7002
NOW_MS = Clock()()
ALLOW = '[vnet.red.rule.any]\naction = "allow"\nfrom = "any"\nto = "any"'
DENY = '\n[vnet.red.rule.no-{0}]\naction = "deny"\nfrom = "any"\nto = "any"\nproto = "udp"\nports = [{0}]\n'


def scopes_of(directory: Directory, node: str, vni: int, since: int) -> list[tuple[int, Scope]]:
    """What a gateway is told to close, where a V-net is in force up to a revision: (revision, scope)."""
    told = []
    for op in directory.snapshot(node, None, {vni: since}).vnets.get(vni, ()):
        if op["op"] != "scope":
            continue
        assert (op["kind"], op["vni"]) == (ChangeKind.TIGHTEN, vni)
        flags = {name: bool(op.get(name)) for name in ("source_port", "connections", "judged", "ip")}
        flags["either_direction"] = bool(op["either_direction"])
        names = ("source", "source_bits", "destination", "destination_bits", "protocol")
        ports = {name: op[name] for name in ("port_low", "port_high")}
        told.append((op["revision"], Scope(**{name: op[name] for name in names}, **ports, **flags)))
    return told


def covers(scope: Scope, key: Query) -> bool:
    return covers_change(
        scope,
        key.key_class,
        key.key_flags,
        key.source,
        key.destination,
        key.protocol,
        key.source_port,
        key.destination_port,
    )


def ask(snapshot: Snapshot, query: Query, node: str) -> Decision:
    asker = Asker(snapshot.fabric.nodes[node], frozenset(["vxlan"]))
    return decide(snapshot, query, asker, NOW_MS, Settings())


def put(directory: Directory, store: MemoryStore, topology: Topology) -> Snapshot:
    """Commit a topology, as the writer does, and take it up."""
    counter = read_counter(store)
    wanted: dict[str, Wanted | None] = dict.fromkeys(directory.current.records)
    wanted |= {key: Wanted(values, "document", "d") for key, values in topology.items()}
    changes, next_id = plan(directory.current, wanted, counter)
    commit(store, changes, next_id, counter, make_note("apply", changes), NOW_MS)
    directory.poll()
    return directory.current


def hosting(snapshot: Snapshot) -> set[str]:
    return set(snapshot.by_vni[VNI].attachments_by_node)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_nothing_that_any_commit_since_has_forbidden_is_left_open(seed: int) -> None:
    random = Random(seed)
    store = MemoryStore()
    directory = Directory(store, Settings(), Clock())
    topology = draw_topology(random)
    history = [put(directory, store, topology)]
    restarts_at = random.randrange(6)  # 0: it knows all of it from its pushes
    for number in range(1, random.choice([2, 4, 6])):
        topology = draw_edit(random, topology)
        history.append(put(directory, store, topology))
        if number == restarts_at:
            directory = Directory(store, Settings(), Clock())
    since = random.randrange(max(1, len(history) - 1))
    now = directory.current
    for node in sorted(hosting(now)):
        scopes = [scope for _, scope in scopes_of(directory, node, VNI, history[since].revision)]
        for before, after in zip(history[since:], history[since + 1 :], strict=False):
            if node not in hosting(before) & hosting(after):
                continue
            if before.fabric.nodes[node].id != after.fabric.nodes[node].id:
                continue
            ids = {one.id for one in before.records.values()} & {one.id for one in after.records.values()}
            for _ in range(60):
                query = draw_query(random, before)
                if query.ingress_object not in ids:
                    continue
                was, is_now = ask(before, query, node), ask(after, query, node)
                had_right = was.action not in (Action.DROP, Action.NARROW)
                if had_right and is_now.action == Action.DROP and is_now.reason not in PLACE_REASONS:
                    assert any(covers(scope, query) for scope in scopes), (query, is_now.reason, scopes)


def udp(port: int) -> Query:
    """A connection from web-1 to db-1."""
    ends = pack_address("10.0.0.11"), pack_address("10.0.0.21")
    return Query(RED, KeyClass.BRIDGED, int(KeyFlag.CONNECTION), 17, 0, *ends, 40_000, port, 0)


def is_closed(directory: Directory, since: int, key: Query) -> bool:
    return any(covers(scope, key) for _, scope in scopes_of(directory, "gw1", RED, since))


@pytest.mark.parametrize("restarts", [False, True])
def test_a_deny_of_one_port_leaves_the_others_alone(
    directory: Directory, store: MemoryStore, restarts: bool
) -> None:
    since = directory.revision
    directory.editor.apply(DOCUMENT + DENY.format(7150), "topology.toml")
    directory.editor.apply(DOCUMENT, "topology.toml")  # what was forbidden for a while is closed too
    if restarts:
        directory = Directory(store, Settings(), Clock())
    assert is_closed(directory, since, udp(7150))
    assert not is_closed(directory, since, udp(7400))
    assert [revision for revision, _ in scopes_of(directory, "gw1", RED, since)] == [since + 1] * 2


def test_what_is_in_force_already_is_not_closed_again(directory: Directory) -> None:
    directory.editor.apply(DOCUMENT + DENY.format(7150), "topology.toml")
    assert scopes_of(directory, "gw1", RED, directory.revision) == []


def test_a_v_net_that_the_gateway_does_not_name_is_told_no_scopes(directory: Directory) -> None:
    directory.editor.apply(DOCUMENT + DENY.format(7150), "topology.toml")
    told = directory.snapshot("gw1", None, {BLUE: 0}).vnets
    assert "scope" not in [op["op"] for op in told[RED]]
    assert "scope" not in [op["op"] for op in directory.snapshot("gw1").vnets[RED]]


WHOLE = Scope()


def test_changes_of_others_cost_a_quiet_v_net_nothing(directory: Directory, store: MemoryStore) -> None:
    since = directory.revision
    for number in range(closings.KEPT_MAX):
        values = {**SINGLE, "addresses": [f"10.9.0.{number + 1}"]}
        directory.editor.set_record("endpoint", "blue/one", values)
        directory.editor.remove_record("endpoint", "blue/one")
    assert scopes_of(directory, "gw1", RED, since) == []
    assert scopes_of(directory, "gw1", BLUE, since) == [(directory.revision, WHOLE)]
    assert scopes_of(directory, "gw1", BLUE, directory.revision - 2) != [(directory.revision, WHOLE)]


def changed_often(directory: Directory, times: int) -> int:
    """Forbid and allow udp ports one after the other; returns the revision before."""
    since = directory.revision
    for number in range(times):
        directory.editor.apply(DOCUMENT + DENY.format(1000 + number), "topology.toml")
    return since


def test_many_scopes_are_drawn_together_and_say_the_newest_revision(directory: Directory) -> None:
    since = changed_often(directory, 40)
    ((revision, scope),) = scopes_of(directory, "gw1", RED, since)
    assert revision == directory.revision
    assert scope != WHOLE
    assert covers(scope, udp(1001))
    assert not covers(scope, udp(1001)._replace(protocol=6))


def test_too_many_in_one_snapshot_are_one_for_each_v_net(directory: Directory) -> None:
    since = changed_often(directory, 10)
    assert len(scopes_of(directory, "gw1", RED, since)) > 1
    with patch.object(closings, "TOLD_MAX", 1):
        assert len(scopes_of(directory, "gw1", RED, since)) == 1


@pytest.mark.parametrize("limit", ["PAST_COMMITS_MAX", "PAST_CHANGES_MAX"])
def test_a_restarted_directory_looks_back_so_far_and_closes_whole_before(
    directory: Directory, store: MemoryStore, limit: str
) -> None:
    since = changed_often(directory, 6)
    newest = directory.revision
    with patch.object(closings, limit, {"PAST_COMMITS_MAX": 3, "PAST_CHANGES_MAX": 7}[limit]):
        directory = Directory(store, Settings(), Clock())
        assert scopes_of(directory, "gw1", RED, since) == [(newest, WHOLE)]
        assert is_closed(directory, newest - 1, udp(1005))
        assert not is_closed(directory, newest - 1, udp(1000))
    assert scopes_of(directory, "gw1", RED, since) == [(newest, WHOLE)]  # it does not look twice


def test_looking_back_ends_when_its_time_is_up(directory: Directory, store: MemoryStore) -> None:
    since = changed_often(directory, 6)
    steady_ms = iter(range(0, 10**9, closings.PAST_MS // 2))
    directory = Directory(store, Settings(), Clock(), lambda: next(steady_ms))
    newest = directory.revision
    told = scopes_of(directory, "gw1", RED, since)
    assert told == [(newest, WHOLE)]
    assert scopes_of(directory, "gw1", RED, newest - 1) != [(newest, WHOLE)]


def test_what_the_store_has_forgotten_is_closed_whole(directory: Directory, store: MemoryStore) -> None:
    since = changed_often(directory, 6)
    store.compact(directory.revision - 2)
    directory = Directory(store, Settings(), Clock())
    newest = directory.revision
    assert scopes_of(directory, "gw1", RED, since) == [(newest, WHOLE)]


def test_a_past_that_cannot_be_read_is_closed_whole(directory: Directory, store: MemoryStore) -> None:
    since = changed_often(directory, 2)
    directory = Directory(store, Settings(), Clock())

    def fails(*_: Any) -> Any:
        raise closings.StoreError("the disk is gone")

    with patch.object(store, "commits", fails):
        assert scopes_of(directory, "gw1", RED, since) == [(directory.revision, WHOLE)]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_v_net_that_its_node_did_not_host_for_a_while_is_closed_whole_there(
    directory: Directory, store: MemoryStore, restarts: bool
) -> None:
    since = directory.revision
    apart = DOCUMENT.replace('nodes = ["gw1", "gw2"]', 'nodes = ["gw1"]').replace(
        'node = "gw2"', 'node = "gw1"'
    )
    directory.editor.apply(apart, "topology.toml")
    directory.editor.apply(DOCUMENT, "topology.toml")
    directory.poll()
    if restarts:
        directory = Directory(store, Settings(), Clock())
    assert scopes_of(directory, "gw2", RED, since) == [(directory.revision, WHOLE)]
    assert (directory.revision, WHOLE) not in scopes_of(directory, "gw1", RED, since)


def test_a_v_net_made_anew_under_its_name_has_no_past(directory: Directory) -> None:
    since = changed_often(directory, 3)
    without = DOCUMENT[: DOCUMENT.index("[vnet.red]")] + DOCUMENT[DOCUMENT.index("[vnet.blue]") :]
    without = without.replace("ids = { red = 99 }\n", "")
    directory.editor.apply(without, "topology.toml")
    directory.editor.apply(DOCUMENT, "topology.toml")
    assert scopes_of(directory, "gw1", RED, since) == []
