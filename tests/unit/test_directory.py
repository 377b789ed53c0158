# SPDX-License-Identifier: Apache-2.0
"""The directory's state: documents, ownership, history, restarts."""

from typing import Any

import pytest
from directory_world import CLOSED, DOCUMENT, SINGLE, Clock, ops_of

from directory_client.toml.strict_toml import TomlError, TomlErrors
from directory_client.vocabulary.numbers import ChangeKind
from directory_service.model.snapshot import load_snapshot
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.contract import Write
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory

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


def test_a_dry_run_judges_the_flows_of_a_moved_member_where_their_packets_will_arrive(
    directory: Directory,
) -> None:
    def flow(node: str, source: str, destination: str, **more: Any) -> dict[str, Any]:
        return {
            "node": node, "vni": 7001, "class": "bridged", "level": "pair", "packets": 3,
            "source": source, "destination": destination, **more,
        }  # fmt: skip

    flows = [
        flow("gw1", "10.0.0.11", "10.0.0.21"),  # from the member that moves: gw2 asks for it then
        flow("gw1", "10.0.0.21", "10.0.0.11"),  # to it
        flow("gw1", "10.0.0.22", "10.0.0.11"),  # from a foreign VTEP: it will send to gw2
        flow("gw2", "10.0.0.21", "10.0.0.11"),  # a neighbour at the new place: no gateway between them
    ]
    moved = DOCUMENT.replace('at = ["gw1/rack:101"]', 'at = ["gw2/rack:101"]')
    judged = directory.apply(moved, "topology.toml", dry_run=True, flows=flows).flows
    assert judged is not None
    assert (judged["left"], judged["dropped"], judged["reasons"]) == (4, 0, {})


def test_what_another_member_of_a_service_would_have_to_take_over_counts_as_dropped(
    directory: Directory,
) -> None:
    s1 = 's1 = { services = ["10.0.0.99"], mac = "02:00:5e:00:00:91", at = ["gw2/rack:101"] }\n'
    s2 = 's2 = { services = ["10.0.0.99"], mac = "02:00:5e:00:00:92", node = "leaf" }\n'
    mark = "[vnet.red.endpoint]\n"
    one, both = DOCUMENT.replace(mark, mark + s1), DOCUMENT.replace(mark, mark + s1 + s2)
    directory.apply(both, "topology.toml")
    ids = {row["name"]: row["object_id"] for row in directory.list_records("endpoints", "red")}
    flows = [
        {
            "node": "gw1", "vni": 7001, "class": "bridged", "level": "pair", "packets": 3,
            "source": "10.0.0.11", "destination": "10.0.0.99", "destination_object": ids[name],
        }
        for name in ("red/s1", "red/s2")
    ]  # fmt: skip
    judged = directory.apply(one, "topology.toml", dry_run=True, flows=flows).flows
    assert judged is not None
    assert (judged["same"], judged["dropped"], judged["reasons"]) == (1, 1, {"other_member": 1})
    assert judged["connections"] == 1, "so it is asked about"


def test_arp_answers_are_no_connections_and_both_ways_are_one(directory: Directory) -> None:
    def flow(source: str, destination: str, **more: Any) -> dict[str, Any]:
        return {
            "node": "gw1", "vni": 7001, "class": "bridged", "level": "pair", "packets": 3,
            "source": source, "destination": destination, **more,
        }  # fmt: skip

    flows = [
        flow("10.0.0.11", "10.0.0.21"),
        flow("10.0.0.21", "10.0.0.11"),
        flow("10.0.0.11", "10.0.0.21", **{"class": "neighbor"}),
    ]
    without = DOCUMENT.replace("db-1 =", "# db-1 =")
    judged = directory.apply(without, "topology.toml", dry_run=True, flows=flows).flows
    assert judged is not None
    assert (judged["dropped"], judged["connections"], judged["aside"]) == (2, 1, 1)


def test_a_dry_run_of_a_rollback_decides_cached_flows_again(directory: Directory) -> None:
    good = directory.revision
    directory.apply(DOCUMENT.replace("web-2 =", "web-9 ="), "topology.toml")
    row = {"node": "gw1", "vni": 7001, "class": "bridged", "level": "pair", "packets": 3}
    flows = [{**row, "source": "10.0.0.12", "destination": "10.0.0.21"}]
    judged = directory.rollback(good, "anna", True, flows).flows
    assert judged is not None
    assert (judged["total"], judged["same"], judged["dropped"]) == (1, 1, 0)


def test_what_another_document_owns_is_refused_with_its_line(directory: Directory) -> None:
    text = 'document = "berlin"\n\n[vnet.red.endpoint]\ndb-1 = { mac = "02:00:5e:00:00:21", node = "gw2" }\n'
    with pytest.raises(TomlError) as caught:
        directory.apply(text, "berlin.toml")
    assert str(caught.value).startswith("berlin.toml line 4: ")
    assert caught.value.problem == "endpoint red/db-1 is owned by document ams-ber (anna, revision 1)"
    assert "vnetctl apply -f berlin.toml --take-over red/db-1" in caught.value.fix


def test_take_over_moves_a_record_and_keeps_its_id(directory: Directory) -> None:
    (before,) = directory.list_records("endpoints", "red", "db-1")
    text = (
        'document = "berlin"\n[vnet.red.endpoint]\n'
        'db-1 = { addresses = ["10.0.0.21"], mac = "02:00:5e:00:00:21", node = "gw2" }\n'
    )
    directory.apply(text, "berlin.toml", take_over=["red/db-1"])
    (after,) = directory.list_records("endpoints", "red", "db-1")
    assert (after["object_id"], after["owner"]) == (before["object_id"], "berlin")
    assert "db-1" not in directory.export("ams-ber")
    with pytest.raises(Refused, match="does not declare it"):
        directory.apply(text, "berlin.toml", take_over=["red/db-9"])


def test_an_id_is_never_used_again(directory: Directory) -> None:
    (before,) = directory.list_records("endpoints", "red", "db-1")
    directory.apply(DOCUMENT.replace("db-1 =", "db-3 ="), "topology.toml")
    directory.apply(DOCUMENT, "topology.toml")
    (after,) = directory.list_records("endpoints", "red", "db-1")
    assert after["object_id"] > before["object_id"]


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
    first = caught.value.errors[0] if isinstance(caught.value, TomlErrors) else caught.value
    assert problem in first.problem
    assert fix in first.fix
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


def test_history_says_who_did_what(directory: Directory, clock: Clock) -> None:
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


def test_rollback_brings_back_documents_and_operators_but_not_what_gateways_say(directory: Directory) -> None:
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
    ids = [row["object_id"] for row in directory.list_records("endpoints", "red")]
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
    directory: Directory, store: MemoryStore, clock: Clock
) -> None:
    directory.apply(DOCUMENT.replace('at = ["gw1/rack:101"]', 'at = ["gw2/rack:101"]'), "topology.toml")
    again = load_snapshot(store, None, clock.ms, clock.ms)
    states = [snapshot.vnets["red"] for snapshot in (directory.current, again)]
    assert states[0].moves == states[1].moves
    assert [left for left in states[1].moves.values() if left[0][0] == "gw1"]


def test_foreign_keys_in_the_store_do_no_harm(directory: Directory, store: MemoryStore) -> None:
    store.transact([], [Write("other/program", b"\xff")], b"not ours")
    directory.poll()
    assert directory.history()[0]["user"] == "anna" or directory.history()[0]["user"] == ""


def test_a_routes_number_on_the_wire_is_not_its_object_id(directory: Directory) -> None:
    directory.set_record(
        "route", "red/10.9.0.0/24", {"via": "leaf", "id": 77, "router_mac": "02:00:5e:00:00:99"}
    )
    (row,) = directory.list_records("routes", "red")
    assert row["id"] == 77
    assert row["object_id"] == directory.current.vnets["red"].routes["10.9.0.0/24"].id


def test_documents_are_listed_with_what_they_own(directory: Directory) -> None:
    directory.set_record("endpoint", "red/extra", SINGLE)  # an operator's: in no document
    (row,) = directory.list_records("documents")
    assert row == {
        "name": "ams-ber",
        "vnets": ["blue", "red"],
        "nodes": ["gw1", "gw2", "leaf"],
        "records": 16,
        "revision": 1,
    }
    with pytest.raises(Refused, match="there is no document ber"):
        directory.list_records("documents", name="ber")
