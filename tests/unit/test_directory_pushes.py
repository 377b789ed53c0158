# SPDX-License-Identifier: Apache-2.0
"""What the directory tells gateways when something changes."""

from typing import Any

import pytest
from directory_world import CLOSED, DOCUMENT, SINGLE, Clock, ops_of

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.numbers import ChangeKind
from directory_service.documents.document import parse_document
from directory_service.documents.writer import Counter, plan, want_document
from directory_service.editor import Applied
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.views import difference
from directory_service.views.announcement import LATE_MAX
from directory_service.views.difference import compare_views
from directory_service.views.pushes import RESYNC
from whole_directory import WholeDirectory as Directory

ANNOUNCED = ("announce", "announce_left")
LEAF = pack_address("203.0.113.7")

# ---- what is pushed --------------------------------------------------------------------------------


def test_a_snapshot_builds_up_what_a_node_hosts(directory: Directory) -> None:
    found = directory.snapshot("gw1").vnets
    assert set(found) == {7001, 7002}
    ops = found[7001]
    assert [one["op"] for one in ops[:2]] == ["vnet", "attachment"]
    assert ops[0]["gateway_mac"] == bytes.fromhex("02564e001b59")
    remotes = {one["remote"]: one for one in ops if one["op"] == "ingress"}
    assert set(remotes) == {pack_address("192.0.2.2"), pack_address("203.0.113.7")}
    foreign = remotes[pack_address("203.0.113.7")]
    assert (foreign["foreign"], foreign["wire_id"], foreign["local"]) == (True, 99, pack_address("192.0.2.1"))
    assert remotes[pack_address("192.0.2.2")]["wire_id"] == 7001
    assert len([one for one in ops if one["op"] == "location"]) == 4
    tunnels = {one["object_id"] for one in ops if one["op"] == "tunnel"}
    assert {one["target_id"] for one in ops if one["op"] == "location" and one["kind"] == 2} == tunnels
    assert set(directory.snapshot("gw2").vnets) == {7001}
    assert directory.snapshot("gw1", [7002]).vnets.keys() == {7002}


def test_what_comes_by_tunnels_of_a_profile_is_checked_again_where_it_says_so(directory: Directory) -> None:
    def checked(node: str) -> dict[bytes, bool]:
        ops = directory.snapshot(node).vnets[7001]
        return {one["remote"]: one["check"] for one in ops if one["op"] == "ingress"}

    gw1, gw2 = pack_address("192.0.2.1"), pack_address("192.0.2.2")
    assert checked("gw1") == {gw2: False, LEAF: False}  # a foreign node is checked anyway
    path = '[path.ams1-ber1]\nprofile = "careful"'
    careful = DOCUMENT.replace("[path.ams1-ber1]", path) + '\n[profile.careful]\nprotocol = "vxlan"\n'
    directory.apply(careful + "check_inner = true\n", "topology.toml")
    pushes = directory.poll()
    pushed = ops_of(pushes, directory.node_id("gw1"), 7001, "ingress")
    assert {one["remote"] for one in pushed if one["check"]} >= {gw2}
    assert checked("gw1")[gw2]
    assert checked("gw2")[gw1]
    directory.apply(careful, "topology.toml")
    assert not checked("gw1")[gw2]


def test_the_locator_of_a_peer_is_found_by_what_stands_on_the_wire(directory: Directory) -> None:
    mine, peer = pack_address("192.0.2.1"), pack_address("203.0.113.7")
    found = directory.locator("gw1", mine, peer, 1, 99)
    assert found is not None
    assert found["node_id"] == directory.node_id("leaf")
    assert directory.locator("gw1", mine, peer, 1, 7001) is None
    assert directory.locator("gw1", mine, pack_address("203.0.113.9"), 1, 99) is None


def test_a_move_tells_every_host_and_is_announced_at_the_new_node(directory: Directory) -> None:
    moved = DOCUMENT.replace('at = ["gw1/rack:101"]', 'at = ["gw2/rack:101"]')
    directory.apply(moved, "topology.toml")
    pushes = directory.poll()
    gw1, gw2 = directory.node_id("gw1"), directory.node_id("gw2")
    (announced,) = ops_of(pushes, gw2, 7001, "announce")
    assert announced["addresses"] == [pack_address("10.0.0.11")]
    assert announced["name"] == "red/web-1"
    assert ops_of(pushes, gw1, 7001, "announce") == []
    (left,) = ops_of(pushes, gw1, 7001, "announce_left")  # to the segment that lost it
    for name in ("vni", "object_id", "name", "mac", "addresses"):
        assert left[name] == announced[name]
    for node, kind in ((gw1, 2), (gw2, 1)):
        (location,) = ops_of(pushes, node, 7001, "location")
        assert location["kind"] == kind
    assert all(push.revision == directory.revision for push in pushes)
    last = ops_of(pushes, gw1, 7001)[-1]
    assert last["op"] == "scope"
    assert {push.vni for push in pushes} == {7001}


def test_one_more_endpoint_is_told_without_looking_at_all_nodes_of_its_vnet(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(
        difference, "base_of", lambda snapshot, state, node, *_: looked.append(node.name) or {}
    )
    values = {"addresses": ["10.0.0.77"], "mac": "02:00:5e:00:00:77", "at": ["gw1/rack:101"]}

    directory.set_record("endpoint", "red/more", values)
    pushes = directory.poll()

    assert looked == []
    assert {push.node_id for push in pushes} == {directory.node_id("gw1"), directory.node_id("gw2")}
    assert all(ops_of(pushes, node, 7001, "location") for node in {push.node_id for push in pushes})


def test_a_move_between_two_attachments_of_a_node_is_announced_there(directory: Directory) -> None:
    one = DOCUMENT.replace('node = "gw1"', 'at = ["gw1/rack:101"]')
    two = one + "\n[[vnet.red.attachment]]\nnodes = ['gw1']\nport = 'rack'\nvlan = 105\n"
    directory.apply(two, "topology.toml")
    directory.poll()
    web_1 = '"02:00:5e:00:00:11", at = ["gw1/rack:{}"]'
    directory.apply(two.replace(web_1.format(101), web_1.format(105)), "topology.toml")
    (announced,) = ops_of(directory.poll(), directory.node_id("gw1"), 7001, "announce")
    here = directory.list_records("attachments", "red", "gw1/rack:105")[0]["object_id"]
    assert announced["attachments"] == [here]


def test_a_move_is_in_snapshots_for_as_long_as_bridges_remember(directory: Directory, clock: Clock) -> None:
    def announced(node: str) -> list[str]:
        return [op["op"] for op in directory.snapshot(node).vnets[7001] if op["op"] in ANNOUNCED]

    assert (announced("gw1"), announced("gw2")) == ([], [])
    directory.apply(DOCUMENT.replace('at = ["gw1/rack:101"]', 'at = ["gw2/rack:101"]'), "topology.toml")
    clock.ms += 299_000
    assert (announced("gw1"), announced("gw2")) == (["announce_left"], ["announce"])
    clock.ms += 1_000
    assert (announced("gw1"), announced("gw2")) == ([], [])


def test_a_snapshot_has_the_newest_moves_only(directory: Directory, clock: Clock) -> None:
    lines = "\n".join(
        f'n{n} = {{ addresses = ["10.0.{n >> 8}.{n & 255}"], mac = "02:01:00:00:{n >> 8:02x}:{n & 255:02x}",'
        f' at = ["gw1/rack:101"] }}'
        for n in range(256, 256 + LATE_MAX + 5)
    )
    text = DOCUMENT.replace("web-1 =", lines + "\nweb-1 =").replace('"10.0.0.0/24"', '"10.0.0.0/16"')
    directory.apply(text, "topology.toml")
    text = text.replace('at = ["gw1/rack:101"]', 'at = ["gw2/rack:101"]')
    directory.apply(text, "topology.toml")
    clock.ms += 1
    directory.apply(text.replace('node = "gw1"', 'at = ["gw2/rack:101"]'), "topology.toml")
    for node in ("gw1", "gw2"):
        late = [op for op in directory.snapshot(node).vnets[7001] if op["op"] in ANNOUNCED]
        assert len(late) == LATE_MAX
        assert late[0]["addresses"] == [pack_address("10.0.0.12")]  # the last one


def test_what_moves_to_a_node_that_hosts_the_v_net_since_then_is_announced(directory: Directory) -> None:
    moved = DOCUMENT.replace('nodes = ["gw1", "gw2"]', 'nodes = ["gw1", "gw2", "gw3"]').replace(
        'at = ["gw1/rack:101"]', 'at = ["gw3/rack:101"]'
    )
    directory.apply('document = "more"\n[node.gw3]\nkind = "gateway"\nsite = "ams1"\n', "more.toml")
    directory.poll()
    directory.apply(moved, "topology.toml")
    pushes = directory.poll()
    assert len(ops_of(pushes, directory.node_id("gw3"), 7001, "announce")) == 1
    assert len(ops_of(pushes, directory.node_id("gw1"), 7001, "announce_left")) == 1


def test_a_change_without_operations_still_tells_its_revision(directory: Directory) -> None:
    text = DOCUMENT.replace('prefixes = ["10.0.0.0/24"]', 'prefixes = ["10.0.0.0/16"]')
    directory.apply(text, "topology.toml")
    pushes = directory.poll()
    assert [(push.vni, push.ops) for push in pushes] == [(7001, []), (7001, [])]


def test_losing_the_last_attachment_removes_the_v_net_from_the_node(directory: Directory) -> None:
    directory.apply(DOCUMENT[: DOCUMENT.index("[[vnet.blue")], "topology.toml")
    (op,) = ops_of(directory.poll(), directory.node_id("gw1"), 7002)
    assert (op["op"], op["vni"]) == ("vnet_removed", 7002)


def test_a_new_locator_changes_tunnels_ingresses_and_locations(directory: Directory) -> None:
    directory.announce("gw2", ["192.0.2.200"], ["rack"])
    ops = [one["op"] for one in ops_of(directory.poll(), directory.node_id("gw1"), 7001)]
    assert ops[:3] == ["tunnel", "ingress", "location"]
    assert "ingress_removed" in ops
    assert "scope" in ops


def test_what_a_gateway_announces_is_checked(directory: Directory) -> None:
    for node, locators, ports, problem in (
        ("gw9", ["192.0.2.9"], [], "no node is called gw9"),
        ("leaf", ["192.0.2.9"], [], "declared as a vtep"),
        ("gw2", [f"192.0.2.{n}" for n in range(65)], [], "64 are the limit"),
        ("gw2", ["bad"], [], "bad locator"),
        ("gw2", ["192.0.2.9"], ["a/b"], "bad port name"),
    ):
        with pytest.raises(Refused, match=problem):
            directory.announce(node, locators, ports)


def test_views_built_from_pushes_equal_a_snapshot(directory: Directory) -> None:
    gw1 = directory.node_id("gw1")
    view = {identity(one): one for one in directory.snapshot("gw1").vnets[7001]}
    for text in (
        DOCUMENT.replace('at = ["gw1/rack:101"]', 'at = ["gw2/rack:101"]'),
        CLOSED.replace('node = "gw2", groups', 'node = "leaf", groups'),
        DOCUMENT.replace("db-2 =", "db-3 =").replace('trust = "carrier"', 'trust = "internet"'),
        DOCUMENT.replace('locators = ["203.0.113.7"]', 'locators = ["203.0.113.8"]'),
        DOCUMENT,
    ):
        directory.apply(text, "topology.toml")
        for op in ops_of(directory.poll(), gw1, 7001):
            if op["op"].endswith("_removed"):
                del view[identity({**op, "op": op["op"].removesuffix("_removed")})]
            elif op["op"] not in ("scope", *ANNOUNCED):
                view[identity(op)] = op
        snapshot = directory.snapshot("gw1").vnets[7001]
        now = {identity(one): one for one in snapshot if one["op"] not in ANNOUNCED}
        assert [key for key in view if key not in now] == []
    for key, op in now.items():
        assert {**view[key], "revision": 0} == {**op, "revision": 0}


def test_a_tunnel_is_removed_last_and_only_where_nothing_leads_by_it(directory: Directory) -> None:
    gw1 = directory.node_id("gw1")
    (leaf,) = (op for op in directory.snapshot("gw1").vnets[7001] if op.get("remote") == LEAF and "ttl" in op)
    directory.apply(DOCUMENT.replace("203.0.113.7", "203.0.113.8"), "topology.toml")
    ops = ops_of(directory.poll(), gw1, 7001)
    (gone,) = (op for op in ops if op["op"] == "tunnel_removed")
    assert gone == {"op": "tunnel_removed", "object_id": leaf["object_id"]}
    behind = {op["op"] for op in ops[ops.index(gone) + 1 :]}
    assert behind <= {"scope", *ANNOUNCED}
    (location,) = (op for op in ops if op["op"] == "location")
    assert location["target_id"] != leaf["object_id"]


def test_the_last_member_at_a_node_takes_its_tunnel_along(directory: Directory) -> None:
    directory.apply(DOCUMENT.replace('node = "leaf"', 'node = "gw2"'), "topology.toml")
    ops = [op["op"] for op in ops_of(directory.poll(), directory.node_id("gw1"), 7001)]
    assert ops.count("tunnel_removed") == ops.count("ingress_removed") == 1


def test_a_gateway_that_readdresses_leaves_no_tunnel_from_its_old_address(directory: Directory) -> None:
    def tunnels(node: str) -> dict[int, bytes]:
        ops = directory.snapshot(node).vnets[7001]
        return {op["object_id"]: op["local"] for op in ops if op["op"] == "tunnel"}

    before = tunnels("gw2")
    directory.announce("gw2", ["192.0.2.200"], ["rack"])
    pushes = directory.poll()
    after = tunnels("gw2")
    gone = {op["object_id"] for op in ops_of(pushes, directory.node_id("gw2"), 7001, "tunnel_removed")}
    assert gone == before.keys()
    assert set(after.values()) == {pack_address("192.0.2.200")}


def test_both_v_nets_of_a_peering_are_told_each_its_own_side(directory: Directory) -> None:
    """Also one of which no record changes, nor anything else."""
    gw1 = directory.node_id("gw1")
    number = {state.vnet.name: vni for vni, state in directory.current.by_vni.items()}
    red = next(name for name, vni in number.items() if vni == 7001)
    other = next(name for name, vni in number.items() if vni == 7002)

    def words(vni: int, name: str) -> list[tuple[int, int]]:
        return [(op["to_vni"], op["from_vni"]) for op in ops_of(pushes, gw1, vni, name)]

    with_peering = DOCUMENT + f"\n[vnet.{red}.peering.{other}]\n"
    directory.apply(with_peering, "topology.toml")
    pushes = directory.poll()
    assert words(7001, "peering") == [(7002, 0)]
    assert words(7002, "peering") == [(0, 7001)]
    told = directory.snapshot("gw1").vnets
    assert [(op["to_vni"], op["from_vni"]) for op in told[7002] if op["op"] == "peering"] == [(0, 7001)]
    directory.apply(DOCUMENT, "topology.toml")
    pushes = directory.poll()
    assert words(7001, "peering_removed") == [(7002, 0)]
    assert words(7002, "peering_removed") == [(0, 7001)]


def identity(op: dict[str, Any]) -> tuple:
    names = {
        "vnet": (), "attachment": ("object_id",), "tunnel": ("object_id",), "location": ("object_id",),
        "ingress": ("local", "remote", "wire_id"), "peering": ("to_vni", "from_vni"),
    }  # fmt: skip
    return (op["op"], *(op[name] for name in names[op["op"]]))


def test_what_takes_the_place_of_another_comes_behind_its_removal(directory: Directory) -> None:
    before = directory.current
    renamed = parse_document(DOCUMENT.replace("leaf", "spine"), "topology.toml")
    wanted = want_document(before, renamed, (), {})  # another node, the same locator
    changes, _ = plan(before, wanted, Counter(1_000, 0, 0))
    after = before.with_changes(before.revision + 1, changes, 0)
    ops = [op["op"] for op in compare_views(before, after, "red", "gw1", Settings()) or ()]
    assert ops.count("ingress") == ops.count("ingress_removed") == 1
    assert ops.index("ingress_removed") < ops.index("ingress")


def test_what_only_goes_is_removed_last(directory: Directory) -> None:
    moved = DOCUMENT.replace("203.0.113.7", "203.0.113.8")
    directory.apply(moved, "topology.toml")
    ops = [op["op"] for op in ops_of(directory.poll(), directory.node_id("gw1"), 7001)]
    assert ops.index("ingress") < ops.index("ingress_removed")


def test_ten_thousand_endpoints_are_one_transaction(directory: Directory) -> None:
    lines = "\n".join(
        f'n{number} = {{ addresses = ["10.{number >> 8}.{number & 255}.9"], '
        f'mac = "02:01:00:00:{number >> 8:02x}:{number & 255:02x}", node = "gw1" }}'
        for number in range(10_000)
    )
    text = DOCUMENT.replace("web-1 =", lines + "\nweb-1 =").replace('"10.0.0.0/24"', '"10.0.0.0/8"')
    applied: Applied = directory.apply(text, "topology.toml")
    assert applied.added == 10_000
    assert [push.ops for push in directory.poll()] == [[RESYNC]] * 2
    locations = [op for op in directory.snapshot("gw2").vnets[7001] if op["op"] == "location"]
    assert len(locations) >= 10_000
    blue = directory.current.vnets["blue"]
    directory.set_record("endpoint", "red/extra", {**SINGLE, "addresses": ["10.99.0.1"]})
    assert directory.current.vnets["blue"] is blue
    assert len(directory.poll()) == 2


SERVED = """
s1 = { services = ["10.0.0.99"], mac = "02:00:5e:00:00:91", at = ["gw1/rack:101"] }
s2 = { services = ["10.0.0.99"], mac = "02:00:5e:00:00:92", at = ["gw2/rack:101"] }
"""
JOINS = 's3 = { services = ["10.0.0.99"], mac = "02:00:5e:00:00:93", at = ["gw2/rack:101"] }\n'


def test_who_joins_a_service_closes_nothing_and_who_leaves_is_announced_by_the_others(
    directory: Directory,
) -> None:
    mark = "[vnet.red.endpoint]\n"
    assert mark in DOCUMENT
    two, three = (DOCUMENT.replace(mark, mark + more) for more in (SERVED, SERVED + JOINS))
    directory.apply(two, "topology.toml")
    directory.poll()
    gw1, gw2 = directory.node_id("gw1"), directory.node_id("gw2")
    address = pack_address("10.0.0.99")

    directory.apply(three, "topology.toml")
    scopes = ops_of(directory.poll(), gw1, 7001, "scope")
    towards = [op for op in scopes if op["destination"] == address and not op["either_direction"]]
    assert [op["kind"] for op in towards] == [ChangeKind.LOOSEN]

    directory.apply(two.replace(SERVED, SERVED.partition("s2 =")[0] + JOINS), "topology.toml")
    pushes = directory.poll()
    towards = [op for op in ops_of(pushes, gw1, 7001, "scope") if op["destination"] == address]
    assert [op["kind"] for op in towards] == [ChangeKind.LOOSEN]
    assert len(ops_of(pushes, gw1, 7001, "location_removed")) == 1
    (announced,) = ops_of(pushes, gw2, 7001, "announce")
    assert (announced["name"], announced["addresses"]) == ("red/s3", [address])
    missed = directory._closings.after("gw1", 7001, directory.revision - 1) or []
    assert any(one.scope.destination == address for one in missed), "who missed the push has it closed"
