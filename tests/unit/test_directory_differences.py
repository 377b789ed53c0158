# SPDX-License-Identifier: Apache-2.0
"""What is pushed for a change of a node is what comparing whole views finds, and costs what it changes."""

import random

import pytest
from directory_world import DOCUMENT, Clock

from directory_service.model.fabric import nodes_between
from directory_service.model.snapshot import Snapshot
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from directory_service.views.difference import compare_views
from directory_service.views.scope import find_changes
from whole_directory import WholeDirectory as Directory

NODES = 8
FLEET = (
    "document = 'fleet'\n[site.a]\n[site.b]\n[path.ab]\n"
    "sites = ['a', 'b']\ntrust = 'carrier'\nprofile = 'p'\n"
    "[profile.p]\nprotocol = 'vxlan'\n"
    + "".join(f"[node.g{n}]\nkind = 'gateway'\nsite = '{'ab'[n % 2]}'\n" for n in range(NODES))
    + "[node.leaf]\nkind = 'vtep'\nsite = 'b'\nlocators = ['203.0.113.7']\n[vnet.red]\nvni = 7001\n"
    + f"relays = ['g{NODES - 1}']\n[[vnet.red.attachment]]\nport = 'rack'\n"
    + f"nodes = {[f'g{n}' for n in range(NODES - 1)]}\n[vnet.red.endpoint]\n"
    + "".join(
        f"e{n} = {{ addresses = ['10.0.{n}.1'], mac = '02:00:00:00:00:{n:02x}', "
        f"node = 'g{n % (NODES - 1)}' }}\n"
        for n in range(40)
    )
    + "far = { addresses = ['10.1.0.1'], mac = '02:00:00:00:01:01', node = 'leaf' }\n"
    + "[vnet.red.route.'10.2.0.0/16']\nvia = 'e3'\n"
    "[vnet.red.rule.any]\naction = 'allow'\nfrom = 'any'\nto = 'any'\n"
)


def same_as_whole_views(before: Snapshot, after: Snapshot) -> int:
    """Compare, and return how many operations there are."""
    count = 0
    nodes = nodes_between(before.fabric, after.fabric)
    scopes = find_changes(before, after, "red")
    assert find_changes(before, after, "red", nodes) == scopes
    for node in after.fabric.nodes:
        whole = compare_views(before, after, "red", node, Settings(), scopes)
        part = compare_views(before, after, "red", node, Settings(), scopes, nodes)
        assert sorted(map(repr, part or ())) == sorted(map(repr, whole or ()))
        assert [op["op"] for op in part or ()] == [op["op"] for op in whole or ()]
        count += len(whole or ())
    return count


@pytest.mark.parametrize("seed", range(20))
def test_differences_of_a_node_are_those_of_whole_views(seed: int) -> None:
    chance = random.Random(seed)
    directory = Directory(MemoryStore(), Settings(), Clock())
    directory.apply(FLEET, "fleet.toml")
    found = 0
    for _ in range(12):
        before = directory.current
        number = chance.randrange(NODES)
        locators = [f"192.0.2.{chance.randrange(1, 30)}" for _ in range(chance.randrange(3))]
        directory.announce(f"g{number}", locators, ["rack"])
        found += same_as_whole_views(before, directory.current)
    assert found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("trust = 'carrier'", "trust = 'internet'"),
        ("protocol = 'vxlan'", "protocol = 'vxlan'\nttl = 9"),
        ("203.0.113.7", "203.0.113.8"),
        ("[node.g2]\nkind = 'gateway'\nsite = 'a'", "[node.g2]\nkind = 'gateway'\nsite = 'b'"),
    ],
)
def test_differences_of_a_document_are_those_of_whole_views(old: str, new: str) -> None:
    directory = Directory(MemoryStore(), Settings(), Clock())
    directory.apply(FLEET, "fleet.toml")
    for number in range(NODES):
        directory.announce(f"g{number}", [f"192.0.2.{number + 1}"], ["rack"])
    before = directory.current
    directory.apply(FLEET.replace(old, new), "fleet.toml")
    assert same_as_whole_views(before, directory.current)


def test_a_v_net_that_a_node_does_not_concern_is_not_looked_at(directory: Directory) -> None:
    directory.apply(DOCUMENT, "topology.toml")
    directory.announce("gw2", ["192.0.2.77"], ["rack"])
    assert {push.vni for push in directory.poll()} == {7001}
