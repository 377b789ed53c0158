# SPDX-License-Identifier: Apache-2.0
"""The directory's state: documents, ownership, history, what is pushed, and why."""

from typing import Any

import numpy as np
import pytest

from directory_client.addresses import pack_address
from directory_client.numbers import Action, ChangeKind, IngressKind, KeyClass
from directory_client.rows import QUERY
from directory_client.strict_toml import TomlError
from directory_service.model import load_snapshot
from directory_service.service import Applied, Directory, Push, Refused
from directory_service.settings import Settings
from directory_service.store.contract import Write
from directory_service.store.memory import MemoryStore

DOCUMENT = """\
document = "ams-ber"

[site.ams1]
[site.ber1]

[path.ams1-ber1]
sites = ["ams1", "ber1"]
trust = "carrier"

[node.gw1]
kind = "gateway"
site = "ams1"

[node.gw2]
kind = "gateway"
site = "ber1"

[node.leaf]
kind = "vtep"
site = "ber1"
locators = ["203.0.113.7"]
ids = { red = 99 }

[vnet.red]
vni = 7001
prefixes = ["10.0.0.0/24"]

[[vnet.red.attachment]]
nodes = ["gw1", "gw2"]
port = "rack"
vlan = 101

[vnet.red.endpoint]
web-1 = { addresses = ["10.0.0.11"], mac = "02:00:5e:00:00:11", at = ["gw1/rack:101"], groups = ["web"] }
web-2 = { addresses = ["10.0.0.12"], mac = "02:00:5e:00:00:12", node = "gw1", groups = ["web"] }
db-1 = { addresses = ["10.0.0.21"], mac = "02:00:5e:00:00:21", node = "gw2", groups = ["db"] }
db-2 = { addresses = ["10.0.0.22"], mac = "02:00:5e:00:00:22", node = "leaf", groups = ["db"] }

[vnet.red.rule.any]
action = "allow"
from = "any"
to = "any"

[vnet.blue]
vni = 7002

[[vnet.blue.attachment]]
nodes = ["gw1"]
port = "rack"
vlan = 102
"""
CLOSED = DOCUMENT.replace(
    '[vnet.red.rule.any]\naction = "allow"\nfrom = "any"\nto = "any"',
    '[vnet.red.rule.db]\naction = "allow"\nfrom = "group:web"\nto = "group:db"\n'
    'proto = "tcp"\nports = [5432]',
)


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def directory(store: MemoryStore, clock: Clock) -> Directory:
    made = Directory(store, Settings(), clock)
    made.apply(DOCUMENT, "topology.toml", user="anna", comment="first")
    made.announce("gw1", ["192.0.2.1"], ["rack"])
    made.announce("gw2", ["192.0.2.2"], ["rack"])
    made.poll()
    return made


def ask(directory: Directory, source: str, destination: str, node: str = "gw1") -> tuple[int, Any]:
    """Ask about a packet that came in by red's attachment of a node."""
    row = np.zeros(1, QUERY)
    row["vni"], row["key_class"], row["ingress_kind"] = 7001, KeyClass.BRIDGED, IngressKind.ATTACHMENT
    row["source"], row["destination"] = list(pack_address(source)), list(pack_address(destination))
    row["ingress_object"] = directory.list_records("attachments", "red", f"{node}/rack:101")[0]["id"]
    answer = directory.resolve(node, ["vxlan"], row)
    return int(answer.decisions[0]["action"]), answer


def ops_of(pushes: list[Push], node_id: int, vni: int, op: str | None = None) -> list[dict[str, Any]]:
    return [
        one
        for push in pushes
        if (push.node_id, push.vni) == (node_id, vni)
        for one in push.ops
        if op in (None, one["op"])
    ]


# ---- documents -------------------------------------------------------------------------------------


def test_what_is_exported_and_applied_again_is_the_same_byte_for_byte(directory: Directory) -> None:
    text = directory.export("ams-ber")
    again = directory.apply(text, "export.toml")
    assert again.diff == []
    assert again.revision == again.before
    assert directory.export("ams-ber") == text


def test_the_same_document_again_changes_nothing(directory: Directory) -> None:
    before = directory.revision
    assert directory.apply(DOCUMENT, "topology.toml").revision == before
    assert directory.poll() == []


def test_a_diff_says_what_changes_in_the_words_of_the_document(directory: Directory) -> None:
    text = CLOSED.replace('node = "gw2", groups', 'node = "leaf", groups')
    applied = directory.apply(text, "topology.toml", dry_run=True)
    assert applied.diff == [
        {"sign": "~", "kind": "endpoint", "name": "red/db-1", "text": "node  gw2 → leaf"},
        {"sign": "+", "kind": "rule", "name": "red/db", "text": "allow  group:web → group:db  tcp 5432"},
        {"sign": "-", "kind": "rule", "name": "red/any", "text": "allow  any → any"},
    ]
    assert (applied.added, applied.changed, applied.removed) == (1, 1, 1)
    assert applied.gateways == ["gw1", "gw2"]
    assert directory.revision == applied.before == applied.revision - 1
    assert "any" in [row["name"].partition("/")[2] for row in directory.list_records("rules", "red")]


def test_a_dry_run_decides_cached_flows_again(directory: Directory) -> None:
    def flow(destination: str, level: str = "pair", **more: Any) -> dict[str, Any]:
        return {
            "node": "gw1", "vni": 7001, "class": "bridged", "level": level, "packets": 3,
            "source": "10.0.0.11", "destination": destination, **more,
        }  # fmt: skip

    ssh = {"protocol": 6, "source_port": 40000, "destination_port": 22}
    postgres = {"protocol": 6, "source_port": 40000, "destination_port": 5432}
    flows = [
        flow("10.0.0.21", "connection", **ssh),
        flow("10.0.0.22", "connection", **postgres),
        flow("10.0.0.21", "connection", **postgres),
        flow("10.0.0.99"),
        {"node": "gw1", "vni": "nonsense"},
    ]
    text = CLOSED.replace('node = "gw2", groups', 'node = "leaf", groups')
    judged = directory.apply(text, "topology.toml", dry_run=True, flows=flows).flows
    assert judged is not None
    assert (judged["total"], judged["same"], judged["dropped"], judged["unreadable"]) == (5, 2, 1, 1)
    assert judged["moved"] == [{"from": "gw2", "to": "leaf", "count": 1}]
    assert judged["reasons"] == {"no_rule": 1}
    (row,) = judged["dropped_rows"]
    assert (row["source_name"], row["destination_name"], row["destination_port"]) == ("web-1", "db-1", 22)


def test_what_another_document_owns_is_refused_with_its_line(directory: Directory) -> None:
    text = 'document = "berlin"\n\n[vnet.red.endpoint]\ndb-1 = { mac = "02:00:5e:00:00:21", node = "gw2" }\n'
    with pytest.raises(TomlError) as caught:
        directory.apply(text, "berlin.toml")
    assert str(caught.value).startswith("berlin.toml line 4: ")
    assert caught.value.problem == "endpoint red/db-1 is owned by document ams-ber (anna, revision 1)"
    assert caught.value.fix.endswith("vnetctl apply -f berlin.toml --take-over red/db-1")


def test_take_over_moves_a_record_and_keeps_its_id(directory: Directory) -> None:
    (before,) = directory.list_records("endpoints", "red", "db-1")
    text = (
        'document = "berlin"\n[vnet.red.endpoint]\n'
        'db-1 = { addresses = ["10.0.0.21"], mac = "02:00:5e:00:00:21", node = "gw2" }\n'
    )
    directory.apply(text, "berlin.toml", take_over=["red/db-1"])
    (after,) = directory.list_records("endpoints", "red", "db-1")
    assert (after["id"], after["owner"]) == (before["id"], "berlin")
    assert "db-1" not in directory.export("ams-ber")
    with pytest.raises(Refused, match="does not declare it"):
        directory.apply(text, "berlin.toml", take_over=["red/db-9"])


def test_an_id_is_never_used_again(directory: Directory) -> None:
    (before,) = directory.list_records("endpoints", "red", "db-1")
    directory.apply(DOCUMENT.replace("db-1 =", "db-3 ="), "topology.toml")
    directory.apply(DOCUMENT, "topology.toml")
    (after,) = directory.list_records("endpoints", "red", "db-1")
    assert after["id"] > before["id"]


@pytest.mark.parametrize(
    ("old", "new", "problem", "fix"),
    [
        ('site = "ams1"\n', 'site = "ams2"\n', "site ams2 is not declared", 'did you mean "ams1"? Or'),
        ('node = "leaf"', 'node = "laef"', "node laef is not declared", 'did you mean "leaf"?'),
        ("vni = 7002", "vni = 7001", "vni 7001 is already V-net red's", "choose another, for example 7002"),
        ('"10.0.0.22"', '"10.0.1.22"', "10.0.1.22 is outside the prefixes of red", '"10.0.1.0/24"'),
        ('"10.0.0.22"', '"10.0.0.21"', "10.0.0.21 is already red/db-1's", "services"),
        ('02:00:5e:00:00:22', "02:00:5e:00:00:21", "mac 02:00:5e:00:00:21 is already red/db-1's", "its own"),
        ('["gw1/rack:101"]', '["gw1/rack:102"]', "red has no attachment gw1/rack:102", "gw1/rack:101"),
        ('nodes = ["gw1"]', 'nodes = ["leaf"]', "leaf is a vtep", "endpoints there say"),
        ("vlan = 102", "vlan = 101", "gw1/rack:101 is already attached to V-net red", "another VLAN"),
        ('trust = "carrier"', 'trust = "carier"', '"carier" is not possible', 'did you mean "carrier"?'),
        ('from = "any"', 'from = "web-9"', "web-9 is no endpoint of red", "did you mean"),
        ("vlan = 102", "vlna = 102", "unknown key", 'did you mean "vlan"?'),
        ("[vnet.blue]", "[vnets.blue]", "unknown key", 'did you mean "vnet"?'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_line_and_remedy(
    directory: Directory, old: str, new: str, problem: str, fix: str
) -> None:
    before = directory.revision
    text = DOCUMENT.replace(old, new, 1) if old != "vlan = 102" else new.join(DOCUMENT.rsplit(old, 1))
    line = text[: text.rindex(new.strip())].count("\n") + 1
    with pytest.raises(TomlError) as caught:
        directory.apply(text, "topology.toml")
    assert problem in caught.value.problem
    assert fix in caught.value.fix
    assert caught.value.line == line
    assert directory.revision == before


def test_what_others_still_need_cannot_be_removed(directory: Directory) -> None:
    directory.set_record(
        "endpoint", "red/op", {"addresses": ["10.0.0.30"], "mac": "02:00:5e:00:00:30", "node": "gw2"}
    )
    text = DOCUMENT.replace(
        '[[vnet.red.attachment]]\nnodes = ["gw1", "gw2"]', '[[vnet.red.attachment]]\nnodes = ["gw1"]'
    )
    text = text.replace('node = "gw2", groups', 'node = "leaf", groups')
    with pytest.raises(Refused, match="endpoint red/op: V-net red has no attachment on gw2"):
        directory.apply(text, "topology.toml")


def test_a_group_without_members_is_a_warning(directory: Directory) -> None:
    applied = directory.apply(CLOSED.replace("group:web", "group:wbe"), "topology.toml", dry_run=True)
    assert applied.warnings == ['rule red/db: nobody is in group wbe; did you mean "web"?']


def test_the_vni_of_a_v_net_cannot_change(directory: Directory) -> None:
    with pytest.raises(TomlError, match="cannot change"):
        directory.apply(DOCUMENT.replace("vni = 7002", "vni = 7003"), "topology.toml")


# ---- operators, history ----------------------------------------------------------------------------

SINGLE = {"addresses": ["10.0.0.40"], "mac": "02:00:5e:00:00:40", "node": "gw1"}


def test_an_operator_adds_changes_and_removes_one_record(directory: Directory) -> None:
    added = directory.set_record("endpoint", "red/extra", SINGLE, "ben")
    assert [row["sign"] for row in added.diff] == ["+"]
    changed = directory.set_record("endpoint", "red/extra", {"node": "gw2"})
    assert changed.diff[0]["text"] == "node  gw1 → gw2"
    directory.remove_record("endpoint", "red/extra")
    with pytest.raises(Refused, match="there is no endpoint red/extra"):
        directory.remove_record("endpoint", "red/extra")


def test_what_a_document_owns_is_not_the_operators(directory: Directory) -> None:
    for change in (
        lambda: directory.set_record("endpoint", "red/db-1", {"node": "gw1"}),
        lambda: directory.remove_record("endpoint", "red/db-1"),
        lambda: directory.remove_record("vnet", "red"),
    ):
        with pytest.raises(Refused, match="is owned by document ams-ber") as caught:
            change()
        assert "vnetctl export ams-ber" in caught.value.fix


def test_a_document_takes_what_an_operator_owned(directory: Directory) -> None:
    directory.set_record("endpoint", "red/extra", SINGLE)
    line = 'extra = { addresses = ["10.0.0.40"], mac = "02:00:5e:00:00:40", node = "gw1" }\n'
    applied = directory.apply(DOCUMENT.replace("web-1 =", line + "web-1 ="), "topology.toml")
    assert applied.diff[0]["text"] == "owner  operator → document ams-ber"


@pytest.mark.parametrize(
    ("kind", "name", "values", "problem"),
    [
        ("endpoint", "extra", SINGLE, "is not VNET/NAME"),
        ("endpoint", "red/Extra", SINGLE, "is no name"),
        ("endpont", "red/extra", SINGLE, "there is no kind endpont"),
        ("endpoint", "red/extra", {**SINGLE, "mca": 1}, "mca: unknown key"),
        ("endpoint", "red/extra", {**SINGLE, "node": "gw9"}, "node gw9 is not declared"),
        ("endpoint", "pink/extra", SINGLE, "V-net pink is not declared"),
        ("attachment", "red/gw1", {}, "is no place"),
    ],
)
def test_a_bad_single_change_is_refused(
    directory: Directory, kind: str, name: str, values: dict[str, Any], problem: str
) -> None:
    with pytest.raises(Refused, match=problem):
        directory.set_record(kind, name, values)


def test_history_says_who_did_what_and_leaves_leases_out(directory: Directory, clock: Clock) -> None:
    clock.ms += 5000
    directory.apply(CLOSED, "topology.toml", user="ben", comment="close red")
    rows = directory.history()
    assert [(row["user"], row["comment"], row["document"]) for row in rows] == [
        ("ben", "close red", "ams-ber"),
        ("anna", "first", "ams-ber"),
    ]
    assert (rows[0]["added"], rows[0]["changed"], rows[0]["removed"]) == (1, 0, 1)
    assert rows[0]["time"] - rows[1]["time"] == 5
    assert directory.history("other") == []
    assert len(directory.history(limit=1)) == 1


def test_rollback_brings_back_documents_and_operators_but_not_leases(directory: Directory) -> None:
    directory.set_record("endpoint", "red/extra", SINGLE)
    good = directory.revision
    directory.apply(CLOSED, "topology.toml")
    directory.remove_record("endpoint", "red/extra")
    directory.announce("gw2", ["192.0.2.222"], ["rack"])
    assert [row["sign"] for row in directory.rollback(good, dry_run=True).diff] == ["+", "+", "-"]
    directory.rollback(good, "anna")
    assert {row["name"] for row in directory.list_records("rules", "red")} == {"red/any"}
    assert directory.list_records("endpoints", "red", "extra")[0]["owner"] == "operator"
    assert directory.list_records("nodes", None, "gw2")[0]["locators"] == ["192.0.2.222"]
    with pytest.raises(Refused, match="is not kept"):
        directory.rollback(999)


def test_history_beyond_its_limits_is_forgotten(store: MemoryStore, clock: Clock) -> None:
    directory = Directory(store, Settings(history_revisions=100, history_days=1), clock)
    directory.apply(DOCUMENT, "topology.toml")
    for number in range(400):
        directory.set_record("endpoint", "red/extra", {**SINGLE, "preference": number % 200})
    assert store.revision() - store.oldest() < 400
    assert store.revision() - store.oldest() >= 100
    with pytest.raises(Refused, match="the history goes from"):
        directory.rollback(1)


# ---- more than one server, restarts ----------------------------------------------------------------


def test_a_second_server_takes_up_what_the_first_wrote(
    directory: Directory, store: MemoryStore, clock: Clock
) -> None:
    second = Directory(store, Settings(), clock)
    second.poll()
    directory.apply(CLOSED, "topology.toml")
    pushes = second.poll()
    assert second.revision == directory.revision
    assert ops_of(pushes, second.node_id("gw1"), 7001, "scope")
    second.set_record("endpoint", "red/extra", SINGLE)
    directory.set_record("endpoint", "red/other", {**SINGLE, "addresses": [], "mac": "02:00:5e:00:00:41"})
    ids = [row["id"] for row in directory.list_records("endpoints", "red")]
    assert len(set(ids)) == len(ids)


def test_a_compacted_watch_is_answered_by_a_fresh_snapshot(
    directory: Directory, store: MemoryStore, clock: Clock
) -> None:
    behind = Directory(store, Settings(), clock)
    directory.apply(CLOSED, "topology.toml")
    directory.set_record("endpoint", "red/extra", SINGLE)
    store.compact(store.revision())
    pushes = behind.poll()
    assert behind.revision == directory.revision
    assert {one["name"] for one in behind.list_records("rules", "red")} == {"red/db"}
    kinds = {one["kind"] for one in ops_of(pushes, behind.node_id("gw1"), 7001, "scope")}
    assert ChangeKind.TIGHTEN in kinds


def test_a_restarted_directory_still_knows_who_has_just_moved(
    directory: Directory, store: MemoryStore
) -> None:
    directory.apply(DOCUMENT.replace('at = ["gw1/rack:101"]', 'at = ["gw2/rack:101"]'), "topology.toml")
    states = [snapshot.vnets["red"] for snapshot in (directory.current, load_snapshot(store))]
    assert states[0].moves == states[1].moves
    assert [left for left in states[1].moves.values() if left[0][0] == "gw1"]


def test_foreign_keys_in_the_store_do_no_harm(directory: Directory, store: MemoryStore) -> None:
    store.transact([], [Write("other/program", b"\xff")], b"not ours")
    directory.poll()
    assert directory.history()[0]["user"] == "anna" or directory.history()[0]["user"] == ""


# ---- what is pushed --------------------------------------------------------------------------------


def test_a_snapshot_builds_up_what_a_node_hosts(directory: Directory) -> None:
    found = directory.snapshot("gw1")
    assert set(found.vnets) == {7001, 7002}
    ops = found.vnets[7001]
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
    assert ops_of(pushes, gw1, 7001, "announce") == []
    for node, kind in ((gw1, 2), (gw2, 1)):
        (location,) = ops_of(pushes, node, 7001, "location")
        assert location["kind"] == kind
    assert all(push.revision == directory.revision for push in pushes)
    last = ops_of(pushes, gw1, 7001)[-1]
    assert last["op"] == "scope"
    assert {push.vni for push in pushes} == {7001}


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
        ("gw2", ["192.0.2.1"], [], "already node gw1's"),
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
            elif op["op"] not in ("scope", "announce"):
                view[identity(op)] = op
    now = {identity(one): one for one in directory.snapshot("gw1").vnets[7001]}
    stale = [key for key in view if key not in now and key[0] not in ("tunnel", "location")]
    assert stale == []
    for key, op in now.items():
        assert {**view[key], "revision": 0} == {**op, "revision": 0}


def identity(op: dict[str, Any]) -> tuple:
    names = {
        "vnet": (), "attachment": ("object_id",), "tunnel": ("object_id",), "location": ("object_id",),
        "ingress": ("local", "remote", "wire_id"), "peering": ("to_vni",),
    }  # fmt: skip
    return (op["op"], *(op[name] for name in names[op["op"]]))


# ---- why -------------------------------------------------------------------------------------------


def roles(answer: dict[str, Any]) -> dict[str, str]:
    return {row["role"]: row["name"] for row in answer["records"]}


def test_explain_names_what_led_to_the_decision(directory: Directory) -> None:
    directory.apply(CLOSED, "topology.toml")
    answer = directory.explain("red", "web-1", "10.0.0.21", "tcp", 5432)
    assert (answer["action"], answer["to_node"], answer["node"]) == ("encapsulate", "gw2", "gw1")
    assert roles(answer) == {
        "source": "web-1", "destination": "db-1", "rule": "db", "path": "ams1-ber1", "profile": "built-in",
    }  # fmt: skip
    assert next(row["revision"] for row in answer["records"] if row["role"] == "rule") == directory.revision


def test_explain_names_the_nearest_rule_and_what_allowed_it_before(directory: Directory) -> None:
    closed = directory.apply(CLOSED, "topology.toml", user="anna", comment="close red")
    answer = directory.explain("red", "web-2", "db-1", "tcp", 22)
    assert (answer["action"], answer["reason"]) == ("drop", "no_rule")
    assert answer["nearest"]["name"] == "db"
    assert answer["nearest"]["differs"] == ["port 22"]
    before = answer["before"]
    assert (before["name"], before["revision"], before["user"], before["comment"]) == (
        "any", closed.revision, "anna", "close red",
    )  # fmt: skip


def test_explain_answers_as_of_an_older_revision(directory: Directory) -> None:
    before = directory.revision
    directory.apply(CLOSED, "topology.toml")
    assert directory.explain("red", "web-2", "db-1", "tcp", 22, revision=before)["action"] == "encapsulate"
    with pytest.raises(Refused, match="is not kept"):
        directory.explain("red", "web-2", "db-1", "tcp", 22, revision=999)


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        (("rde", "web-1", "db-1"), "there is no V-net rde"),
        (("red", "web-9", "db-1"), "web-9 is no endpoint of red"),
        (("red", "web-1", "db-1", "tpc", 22), "tpc is no protocol"),
        (("red", "web-1", "db-1", "tcp"), "tcp needs a port"),
        (("red", "web-1", "db-1", "", 22), "a port needs a protocol"),
        (("red", "web-1", "db-1", "", None, "leaf"), "asks no directory"),
    ],
)
def test_explain_refuses_what_makes_no_question(directory: Directory, question: tuple, problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        directory.explain(*question)


def test_resolve_gives_provenance_when_asked(directory: Directory) -> None:
    action, answer = ask(directory, "10.0.0.11", "10.0.0.21")
    assert action == Action.ENCAPSULATE
    assert answer.provenance == []
    row = np.zeros(1, QUERY)
    (given,) = directory.resolve("gw1", ["vxlan"], row, explain=True).provenance
    assert given == {}


def test_ten_thousand_endpoints_are_one_transaction(directory: Directory) -> None:
    lines = "\n".join(
        f'n{number} = {{ addresses = ["10.{number >> 8}.{number & 255}.9"], '
        f'mac = "02:01:00:00:{number >> 8:02x}:{number & 255:02x}", node = "gw1" }}'
        for number in range(10_000)
    )
    text = DOCUMENT.replace("web-1 =", lines + "\nweb-1 =").replace('"10.0.0.0/24"', '"10.0.0.0/8"')
    applied: Applied = directory.apply(text, "topology.toml")
    assert applied.added == 10_000
    pushes = directory.poll()
    assert len(ops_of(pushes, directory.node_id("gw2"), 7001, "location")) == 10_000
    assert len(ops_of(pushes, directory.node_id("gw2"), 7001, "scope")) < 10
    blue = directory.current.vnets["blue"]
    directory.set_record("endpoint", "red/extra", {**SINGLE, "addresses": ["10.99.0.1"]})
    assert directory.current.vnets["blue"] is blue
    assert len(directory.poll()) == 2
