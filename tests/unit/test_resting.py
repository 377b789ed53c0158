# SPDX-License-Identifier: Apache-2.0
"""A number that was taken away is nobody else's while a gateway may still forward by its old meaning."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from directory_world import DOCUMENT, Clock
from dispatcher_bench import head_of

from directory_client.endpoint import parse_endpoint
from directory_client.heartbeats import Facts
from directory_client.toml.strict_toml import TomlError
from directory_client.wire.messages import encode
from directory_service.configuration import Configuration
from directory_service.documents.resting import Reports, read_rests
from directory_service.protocol.authentication import LOCAL
from directory_service.protocol.dispatcher import Dispatcher
from directory_service.protocol.outbox import Peer
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from directory_service.store.sqlite import SqliteStore
from whole_directory import WholeDirectory as Directory

GATEWAYS = ("gw1", "gw2", "gw3")
WITHOUT_BLUE = DOCUMENT[: DOCUMENT.index("[vnet.blue]")]
GREEN = DOCUMENT.replace("blue", "green")


def reported(directory: Directory, *nodes: str, silent_s: float = 0.0) -> Reports:
    """These nodes have reported everything, and no other node was heard for `silent_s`."""
    revisions = dict.fromkeys(nodes, directory.revision)
    return Reports(directory.world.incarnation, revisions, dict.fromkeys(nodes, 0.2), silent_s)


@pytest.fixture
def without_blue(directory: Directory) -> Directory:
    """Blue, with VNI 7002, was removed; gw1 hosted it."""
    directory.apply(WITHOUT_BLUE, "topology.toml")
    return directory


# ---- a gateway's beliefs against the directory's truth --------------------------------------------


class Fleet:
    """Gateways that take the directory's view up now and then, and what they believe meanwhile."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.store = MemoryStore()
        self.clock = Clock()
        self.directory = Directory(self.store, Settings(), self.clock)
        self.vnis: dict[str, dict[int, str]] = {name: {} for name in GATEWAYS}
        self.wires: dict[str, dict[tuple[bytes, int], str]] = {name: {} for name in GATEWAYS}
        self.revisions: dict[str, int] = {}  # what the directory has heard
        for number, name in enumerate(GATEWAYS, 1):
            self.set("node", name, kind="gateway", locators=[f"192.0.2.{number}"])
        for number, name in enumerate(("leaf", "spine"), 7):
            self.set("node", name, kind="vtep", locators=[f"203.0.113.{number}"])

    def reports(self) -> Reports:
        silent_s = dict.fromkeys(self.revisions, 0.5)
        return Reports(self.directory.world.incarnation, dict(self.revisions), silent_s, 5.0)

    def set(self, kind: str, name: str, /, **values: Any) -> None:
        self.directory.set_record(kind, name, values, reports=self.reports())

    def view_of(self, node: str) -> tuple[dict[int, str], dict[tuple[bytes, int], str]]:
        """Return whose each VNI, and each (outer source, id), is for a gateway, as the directory tells it."""
        vnis: dict[int, str] = {}
        wires: dict[tuple[bytes, int], str] = {}
        for vni, ops in self.directory.snapshot(node).vnets.items():
            vnis[vni] = next(op["name"] for op in ops if op["op"] == "vnet")
            wires |= {(op["remote"], op["wire_id"]): vnis[vni] for op in ops if op["op"] == "ingress"}
        return vnis, wires

    def take_up(self, node: str) -> None:
        self.vnis[node], self.wires[node] = self.view_of(node)
        self.revisions[node] = self.directory.revision

    def change(self) -> tuple[str, str, dict[str, Any]]:
        random = self.random
        vnet = random.choice(("red", "blue", "green"))
        if vnet not in self.directory.current.vnets:
            return "vnet", vnet, {"vni": random.choice((7001, 7002, 7003))}
        node = random.choice(("leaf", "spine"))
        hosted = self.directory.current.vnets[vnet].attachments_by_node
        what = random.choice(("vnet", "attachment", "attachment", "endpoint", "endpoint", "ids", "locator"))
        if what == "vnet":
            return "remove vnet", vnet, {}
        if what == "attachment":
            gateway = random.choice(GATEWAYS)
            vlan = 100 + ("red", "blue", "green").index(vnet)
            verb = "remove attachment" if gateway in hosted else "attachment"
            return verb, f"{vnet}/{gateway}/rack:{vlan}", {}
        if what == "endpoint":
            name = f"{vnet}/at-{node}"
            if name.partition("/")[2] in self.directory.current.vnets[vnet].members:
                return "remove endpoint", name, {}
            mac = f"02:00:5e:00:00:{7 if node == 'leaf' else 8:02x}"
            return "endpoint", name, {"node": node, "mac": mac}
        if what == "ids":
            known = [name for name in ("red", "blue", "green") if name in self.directory.current.vnets]
            ids = {name: 90 + number for name, number in zip(known, random.sample(range(3), 3), strict=False)}
            return "node", node, {"ids": {name: ids[name] for name in random.sample(known, 1)}}
        return "node", node, {"locators": [f"203.0.113.{random.choice((7, 8, 9))}"]}

    def write(self, kind: str, name: str, values: dict[str, Any]) -> str:
        """Make a change; returns the refusal, "" if it was made."""
        try:
            if kind.startswith("remove "):
                self.directory.remove_record(kind.removeprefix("remove "), name, reports=self.reports())
            else:
                self.set(kind, name, **values)
        except Refused as error:
            return error.problem
        return ""

    def check(self) -> None:
        """No gateway believes of a number what is another owner's now."""
        truths = [self.view_of(node) for node in GATEWAYS]
        vnis = {state.vnet.vni: name for name, state in self.directory.current.vnets.items() if state.vnet}
        wires = {pair: name for _, found in truths for pair, name in found.items()}
        for node in GATEWAYS:
            wrong = {vni for vni, name in self.vnis[node].items() if vnis.get(vni, name) != name}
            assert not wrong, f"{node} forwards by {wrong}"
            mixed = {pair for pair, name in self.wires[node].items() if wires.get(pair, name) != name}
            assert not mixed, f"{node} knows {mixed} as another's"


@pytest.mark.parametrize("seed", range(60))
def test_no_gateway_ever_forwards_by_a_number_that_is_somebody_elses(seed: int) -> None:
    fleet = Fleet(seed)
    for _ in range(80):
        if fleet.random.random() < 0.35:
            fleet.take_up(fleet.random.choice(GATEWAYS))
        elif fleet.random.random() < 0.05:  # a directory that has just started has heard nobody
            fleet.directory = Directory(fleet.store, Settings(), fleet.clock)
            fleet.revisions.clear()
        change = fleet.change()
        problem = fleet.write(*change)
        fleet.check()
        if "has not been reported" in problem:  # it is given away once all have reported, and not before
            for node in GATEWAYS:
                fleet.take_up(node)
            assert "reported" not in fleet.write(*change)
            fleet.check()


def test_random_histories_do_refuse() -> None:
    refused = 0
    for seed in range(10):
        fleet = Fleet(seed)
        for _ in range(80):
            if fleet.random.random() < 0.2:
                fleet.take_up(fleet.random.choice(GATEWAYS))
            refused += "has not been reported" in fleet.write(*fleet.change())
    assert refused > 10


# ---- one number ------------------------------------------------------------------------------------


def test_a_vni_is_not_given_away_before_who_hosted_its_v_net_has_reported(without_blue: Directory) -> None:
    with pytest.raises(TomlError) as refused:
        without_blue.apply(GREEN, "topology.toml", reports=reported(without_blue, "gw2", silent_s=40.0))
    assert str(refused.value).endswith(
        "vnet.green.vni: vni 7002 was V-net blue's until revision 2, and may still be in use at gw1 (not"
        " heard since this directory began, 40 s ago): that it is gone has not been reported there"
    )
    assert refused.value.fix == (
        "connect gw1 to the directory again, or choose another, for example 7003; only if the machine is off"
        " for good:  vnetctl release gw1"
    )
    without_blue.apply(GREEN, "topology.toml", reports=reported(without_blue, "gw1"))
    assert not read_rests(without_blue.store)


def test_what_is_taken_and_given_in_one_change_is_refused(directory: Directory) -> None:
    with pytest.raises(TomlError, match="vni 7002 is V-net blue's until this very change, and gw1 may") as no:
        directory.apply(GREEN, "topology.toml", reports=reported(directory, "gw1", "gw2"))
    assert no.value.fix.startswith("apply without blue first, then give it to green")


def test_a_dry_run_says_so_too(without_blue: Directory) -> None:
    with pytest.raises(TomlError, match="may still be in use at gw1"):
        without_blue.apply(GREEN, "topology.toml", dry_run=True)


def test_the_old_owner_may_have_its_number_back_at_once(without_blue: Directory) -> None:
    without_blue.apply(DOCUMENT, "topology.toml")
    assert "blue" in without_blue.current.vnets


def test_a_number_that_no_gateway_knew_does_not_rest(directory: Directory) -> None:
    directory.set_record("vnet", "draft", {"vni": 7009})
    directory.remove_record("vnet", "draft")
    directory.set_record("vnet", "other", {"vni": 7009})


def test_who_left_a_v_net_before_it_was_removed_counts(directory: Directory) -> None:
    attachment = DOCUMENT.index("[[vnet.blue.attachment]]")
    directory.apply(DOCUMENT[:attachment], "topology.toml")
    directory.apply(WITHOUT_BLUE, "topology.toml", reports=reported(directory, "gw2"))
    with pytest.raises(TomlError, match="may still be in use at gw1"):
        directory.apply(GREEN, "topology.toml", reports=reported(directory, "gw2"))


def test_an_id_at_a_foreign_node_rests(directory: Directory) -> None:
    moved = DOCUMENT.replace("red = 99", "red = 98")
    directory.apply(moved, "topology.toml")
    taken = moved.replace("red = 98", "red = 98, blue = 99")
    with pytest.raises(TomlError, match=r"ids: id 99 at leaf was V-net red's until revision 2.*at gw1.*gw2"):
        directory.apply(taken, "topology.toml", reports=reported(directory))
    directory.apply(taken, "topology.toml", reports=reported(directory, "gw1", "gw2"))


def test_a_locator_of_a_foreign_node_rests(directory: Directory) -> None:
    directory.apply(DOCUMENT.replace("203.0.113.7", "203.0.113.8"), "topology.toml")
    spine = {"kind": "vtep", "locators": ["203.0.113.7"]}
    with pytest.raises(Refused, match=r"node spine: locator 203\.0\.113\.7 was node leaf's until revision 2"):
        directory.set_record("node", "spine", spine)
    with pytest.raises(Refused, match=r"locator 203\.0\.113\.7 was node leaf's"):  # said, not declared
        directory.announce("gw1", ["203.0.113.7", "192.0.2.1"], ["rack"])
    assert len(directory.current.fabric.nodes["gw1"].locators) == 1
    ready = reported(directory, "gw1", "gw2")
    directory.announce("gw1", ["203.0.113.7", "192.0.2.1"], ["rack"], lambda: ready)
    assert len(directory.current.fabric.nodes["gw1"].locators) == 2
    directory.set_record("node", "spine", spine, reports=ready)


# ---- who has reported ------------------------------------------------------------------------------


def test_it_rests_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "directory.db"
    directory = Directory(SqliteStore.make(path), Settings(), Clock())
    directory.apply(DOCUMENT, "topology.toml")
    directory.apply(WITHOUT_BLUE, "topology.toml")
    again = Directory(SqliteStore(path), Settings(), Clock())
    with pytest.raises(TomlError, match="vni 7002 was V-net blue's until revision 2"):
        again.apply(GREEN, "topology.toml")
    again.apply(GREEN, "topology.toml", reports=reported(again, "gw1"))


def test_what_was_reported_in_another_era_does_not_count(without_blue: Directory) -> None:
    before = reported(without_blue, "gw1")
    without_blue.store.begin_era("a test")
    with pytest.raises(TomlError, match="may still be in use at gw1"):
        without_blue.apply(GREEN, "topology.toml", reports=before)
    without_blue.apply(GREEN, "topology.toml", reports=reported(without_blue, "gw1"))


def test_a_gateway_that_is_gone_counts_until_its_flows_have_ended(without_blue: Directory) -> None:
    alone = WITHOUT_BLUE.replace('nodes = ["gw1", "gw2"]', 'nodes = ["gw2"]')
    alone = alone.replace("node.gw1]", "node.gw9]")
    alone = alone.replace('at = ["gw1/rack:101"]', 'node = "gw2"').replace('node = "gw1"', 'node = "gw2"')
    without_blue.apply(alone, "topology.toml")
    green = alone + "\n[vnet.green]\nvni = 7002\n"
    with pytest.raises(
        TomlError, match=r"gw1 \(not declared any more: 60 s more of silence from it are needed"
    ):
        without_blue.apply(green, "topology.toml", reports=reported(without_blue, silent_s=3_600.0))
    without_blue.apply(green, "topology.toml", reports=reported(without_blue, silent_s=3_661.0))


def test_an_operator_may_answer_for_a_machine_that_is_off(without_blue: Directory) -> None:
    alive = reported(without_blue)
    with pytest.raises(Refused, match=r"because of gw7: numbers rest because of gw1"):
        without_blue.release("gw7", reports=alive)
    heard = Reports(alive.incarnation, {}, {"gw1": 2.0}, 60.0)
    with pytest.raises(Refused, match="gw1 was heard 2 s ago: its machine is not off"):
        without_blue.release("gw1", reports=heard)
    done = without_blue.release("gw1", "anna", reports=Reports(alive.incarnation, {}, {"gw1": 99.0}, 99.0))
    assert done.revision == done.before + 1
    assert without_blue.history()[0]["comment"] == "release gw1: its machine is off"
    without_blue.apply(GREEN, "topology.toml")
    with pytest.raises(Refused, match="because of gw1: no number rests"):
        without_blue.release("gw1")


def test_what_rests_is_no_record(without_blue: Directory) -> None:
    assert read_rests(without_blue.store)
    assert "7002" not in without_blue.export("ams-ber")
    assert without_blue.history()[0]["removed"] == 2
    assert not [key for key in without_blue.current.records if key.startswith("rest/")]


# ---- what gateways say -----------------------------------------------------------------------------


class Served:
    """A real directory behind its protocol."""

    def __init__(self) -> None:
        self.directory = Directory(MemoryStore(), Settings(), Clock())
        configuration = Configuration("dir1", parse_endpoint("ipc:///run/x"), None)
        self.dispatcher = Dispatcher(configuration, self.directory, 5, 0.0, lambda: 1_700_000_000_000)
        self.now = 100.0

    def ask(self, channel: str, type: str, **fields: Any) -> dict[str, Any]:
        frames = encode({"id": 1, "type": type, **fields})
        return head_of(self.dispatcher.handle(Peer(channel, b"c1", LOCAL), frames, self.now))

    def apply(self, text: str) -> dict[str, Any]:
        frames = encode({"id": 1, "type": "apply", "text": text, "wait_ms": 0})
        outs = self.dispatcher.handle(Peer("write", b"c1", LOCAL), frames, self.now)
        self.now += 0.1
        return head_of(outs + self.dispatcher.tick(self.now))

    def heartbeat(self, node: str, revision: int, **said: Any) -> None:
        said.setdefault("incarnation", self.directory.world.incarnation)
        self.ask("resolve", "heartbeat", node=node, revision=revision, **said)


def test_a_heartbeat_with_the_revision_in_force_sets_the_number_free() -> None:
    served = Served()
    served.apply(DOCUMENT)
    served.apply(WITHOUT_BLUE)
    for said in ({}, {"revision": 1}, {"incarnation": 7}, {"workers": 2}):
        served.heartbeat("gw1", **{"revision": 2, **said} if said else {"revision": 1})
        refused = served.apply(GREEN)
        assert (refused["ok"], refused["code"]) == (False, 2)
        assert (
            "vni 7002 was V-net blue's until revision 2, and may still be in use at gw1" in refused["error"]
        )
        assert "vnetctl release gw1" in refused["fix"]
    served.heartbeat("gw1", 2, worker=1, workers=2)
    assert served.apply(GREEN)["ok"] is True


def test_release_is_for_a_gateway_that_is_silent() -> None:
    served = Served()
    served.apply(DOCUMENT)
    served.apply(WITHOUT_BLUE)
    served.heartbeat("gw1", 1)
    assert "its machine is not off" in served.ask("write", "release", node="gw1")["error"]
    served.now += 60
    assert served.ask("write", "release", node="gw1")["ok"] is True
    assert served.apply(GREEN)["ok"] is True


def test_a_gateway_reports_nothing_before_its_first_snapshot() -> None:
    facts = Facts()
    facts.reach(41, 9)
    assert (facts.said()["revision"], facts.said()["incarnation"]) == (0, 9)
    facts.delivered(42, anew=True)
    facts.reach(42, 9)
    assert facts.said()["revision"] == 0
    facts.applied(42)
    facts.reach(43, 9)
    assert facts.said()["revision"] == 43
