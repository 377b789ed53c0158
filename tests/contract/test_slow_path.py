# SPDX-License-Identifier: Apache-2.0
"""The slow path between a real directory process and a data plane's rings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from rings_data_plane import FakeDataPlane, until

from directory_client.client import DirectoryClient
from fastpath.records import Action, ChangeKind, IngressKind, KeyClass, RecordType, make
from gateway.configuration.configuration import Configuration
from gateway.configuration.reader import parse
from gateway.processes.children import directory_command
from gateway.slow_path.process import SlowPath

VNI = 7001
AGAIN_S = 0.14  # after so long a data plane asks once more
DOCUMENT = """
document = "test"
[site.s1]
[node.gw1]
kind = "gateway"
site = "s1"
[vnet.red]
vni      = 7001
prefixes = ["10.0.0.0/24"]
[[vnet.red.attachment]]
nodes = ["gw1"]
port  = "rack"
vlan  = 101
[[vnet.red.attachment]]
nodes = ["gw1"]
port  = "rack"
vlan  = 102
[vnet.red.endpoint]
web-1 = { addresses = ["10.0.0.11"], mac = "02:00:5e:00:00:11", at = ["gw1/rack:101"] }
db-1  = { addresses = ["10.0.0.21"], mac = "02:00:5e:00:00:21", at = ["gw1/rack:102"] }
"""
RULE = """
[vnet.red.rule.any]
action = "allow"
from   = "any"
to     = "any"
"""


def configuration(directory: Path) -> Configuration:
    text = f"""
name        = "gw1"
directory   = "embedded"
runtime_dir = "{directory}"
state_dir   = "{directory}"
locators    = ["192.0.2.1"]
port.rack   = {{ device = "net_null0", role = "inside" }}
"""
    return parse(text, directory / "gateway.toml")[0]


class Node:
    """A directory process, a data plane's socket, a slow path in a thread."""

    def __init__(self, directory: Path, has_data_plane: bool = True) -> None:
        self.configuration = configuration(directory)
        self.start_directory()
        self.operator = DirectoryClient(self.configuration.directory_endpoints)
        path = self.configuration.data_plane_socket if has_data_plane else directory / "another.sock"
        self.data_plane = FakeDataPlane(path)
        context: zmq.Context[Any] = zmq.Context.instance()
        self.inbox = context.socket(zmq.PULL)
        self.inbox.bind(self.configuration.control_inbox)
        self.start_slow_path()

    def start_slow_path(self) -> None:
        self.slow_path = SlowPath(self.configuration, 0)
        self.thread = threading.Thread(target=self.slow_path.run)
        self.thread.start()

    def stop_slow_path(self) -> None:
        self.slow_path.stop()
        self.thread.join()

    def start_directory(self) -> None:
        self.directory = subprocess.Popen(directory_command(self.configuration))

    def apply(self, text: str) -> int:
        return int(self.operator.call("apply", text=text, name="test.toml", user="test")["revision"])

    def statistics(self) -> dict[str, Any]:
        while True:
            message = msgpack.unpackb(self.inbox.recv())
            if "statistics" in message:
                assert (message["v"], message["from"]) == (1, "slow-path-0")
                return dict(message["statistics"])

    def until(self, record_type: RecordType, count: int = 1) -> np.ndarray:
        def found() -> Any:
            rows = self.data_plane.of_type(record_type)
            return [rows] if len(rows) >= count else None

        return np.asarray(until(found, f"{count} of {record_type.name}")[0])

    def answering(self) -> list[int]:
        """Return what the data plane was told so far: whether a directory answers."""
        return [int(value) for value in self.data_plane.of_type(RecordType.DIRECTORY_STATE)["answering"]]

    def ask(self, row: np.ndarray) -> None:
        """Miss a key, again after a while as a data plane does, until its token is released."""
        token, again_s = int(row["token"][0]), 0.0

        def is_released() -> bool:
            nonlocal again_s
            if time.monotonic() >= again_s:
                again_s = time.monotonic() + AGAIN_S
                self.data_plane.emit(row)
            return token in self.data_plane.of_type(RecordType.FLOW_INSTALL)["token"]

        until(is_released, f"token {token} is released")

    def close(self) -> None:
        self.stop_slow_path()
        self.data_plane.close()
        self.operator.close()
        self.inbox.close(0)
        self.directory.kill()
        self.directory.wait()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.close()


def miss(node: Node, source: int, destination: int, token: int) -> np.ndarray:
    attachments = node.until(RecordType.ATTACHMENT_SET, 2)
    home = int(attachments[attachments["vlan"] == 101]["object_id"][-1])
    row = make(
        RecordType.MISS, vni=VNI, token=token, ingress_object=home, ingress_kind=IngressKind.ATTACHMENT
    )
    key = row["key"]
    key["source"][:, 12:], key["destination"][:, 12:] = (10, 0, 0, source), (10, 0, 0, destination)
    key["key_class"], key["ingress"] = KeyClass.BRIDGED, 1
    return row


def test_document_becomes_tables_and_a_miss_becomes_a_flow(node: Node) -> None:
    node.apply(DOCUMENT + RULE)
    assert node.until(RecordType.VNET_SET)["head"]["vni"][0] == VNI

    node.data_plane.emit(miss(node, 11, 21, token=77))

    flow = node.until(RecordType.FLOW_INSTALL)[0]
    assert (flow["action"], flow["token"]) == (Action.DELIVER, 77)
    located = node.data_plane.of_type(RecordType.LOCATION_SET)
    assert flow["destination_object"] in located["object_id"][located["head"]["flags"] == 0]


def test_revocation_reaches_the_data_plane_and_is_reported_as_applied(node: Node) -> None:
    node.apply(DOCUMENT + RULE)
    node.until(RecordType.VNET_SET)
    revision = node.apply(DOCUMENT)

    change = node.until(RecordType.CHANGE)[-1]

    assert change["head"]["revision"] == revision
    node.data_plane.emit(miss(node, 11, 21, token=78))
    assert node.until(RecordType.FLOW_INSTALL)["action"][0] == Action.DROP


def test_revocation_is_applied_only_when_the_data_plane_confirms_it(node: Node) -> None:
    node.apply(DOCUMENT + RULE)
    node.until(RecordType.VNET_SET)
    node.data_plane.confirms = False

    answer = node.operator.call("apply", text=DOCUMENT, name="test.toml", user="test")

    assert [row["state"] for row in answer["gateways"]] == ["late"]
    assert node.until(RecordType.CHANGE)[-1]["head"]["revision"] == answer["revision"]
    node.data_plane.confirms = True
    answer = node.operator.call("apply", text=DOCUMENT + RULE, name="test.toml", user="test")
    assert [row["state"] for row in answer["gateways"]] == ["applied"]


def test_data_plane_that_restarts_is_told_everything_again(node: Node) -> None:
    node.apply(DOCUMENT + RULE)
    node.until(RecordType.ATTACHMENT_SET, 2)

    node.data_plane.vnis = (VNI, VNI + 1)
    node.data_plane.hang_up()
    until(lambda: len(node.data_plane.greetings) == 2, "the slow path comes back")

    assert len(node.until(RecordType.ATTACHMENT_SET, 2)) == 2
    assert node.until(RecordType.SNAPSHOT_END)["head"]["vni"][0] == VNI
    assert list(node.data_plane.of_type(RecordType.VNET_REMOVE)["head"]["vni"]) == [VNI + 1]


@pytest.mark.parametrize("directory_restarts", [False, True])
def test_revocation_while_the_slow_path_is_away_closes_when_it_is_back(
    node: Node, directory_restarts: bool
) -> None:
    before = node.apply(DOCUMENT + RULE)
    confirmed = until(
        lambda: [
            row for row in node.data_plane.of_type(RecordType.SYNC) if row["head"]["revision"] >= before
        ],
        "all of it is in force",
    )[-1]
    node.stop_slow_path()
    node.data_plane.vnis = (VNI,)
    in_force = int(confirmed["head"]["revision"])
    incarnation = int(confirmed["incarnation"])
    node.data_plane.known = {"incarnation": incarnation, "revision": in_force, "in_force": in_force}
    answer = node.operator.call("apply", text=DOCUMENT, name="test.toml", user="test", wait_ms=0)
    assert [row["state"] for row in answer["gateways"]] != ["applied"]
    if directory_restarts:
        node.directory.kill()
        node.directory.wait()
        node.start_directory()

    node.start_slow_path()

    until(
        lambda: (node.data_plane.of_type(RecordType.SYNC)["head"]["revision"] >= answer["revision"]).any(),
        "the revocation is in force",
    )
    types = node.data_plane.records["head"]["type"].tolist()
    change = node.data_plane.of_type(RecordType.CHANGE)[0]
    assert types.index(RecordType.CHANGE) < types.index(RecordType.SNAPSHOT_BEGIN)
    assert (change["kind"], change["head"]["revision"]) == (ChangeKind.TIGHTEN, answer["revision"])


def test_an_endpoint_with_two_places_is_followed_by_what_its_frames_say(node: Node) -> None:
    both = DOCUMENT.replace('at = ["gw1/rack:101"]', 'at = ["gw1/rack:101", "gw1/rack:102"]')
    node.apply(both + RULE)
    attachments = node.until(RecordType.ATTACHMENT_SET, 2)
    places = {int(row["vlan"]): int(row["object_id"]) for row in attachments}
    asker = miss(node, 21, 11, token=84)
    asker["ingress_object"], asker["key"]["ingress"] = places[102], 2
    node.data_plane.emit(asker)
    web_1 = int(node.until(RecordType.FLOW_INSTALL)["destination_object"][0])
    located = node.until(RecordType.LOCATION_SET)
    assert set(located["target_id"][located["object_id"] == web_1].tolist()) == {places[101]}
    there = miss(node, 11, 21, token=85)
    there["ingress_object"], there["key"]["ingress"] = places[102], 2
    there["source_mac"] = list(bytes.fromhex("02005e000011"))

    node.data_plane.emit(there)

    def targets() -> list[int]:
        found = node.data_plane.of_type(RecordType.LOCATION_SET)
        return [int(one) for one in found["target_id"][found["object_id"] == web_1]]

    until(lambda: targets()[-1] == places[102], "its location is where it sends")


def test_slow_path_asks_the_directory_though_no_data_plane_comes(tmp_path: Path) -> None:
    node = Node(tmp_path, has_data_plane=False)
    try:
        revision = node.apply(DOCUMENT + RULE)
        until(lambda: node.statistics()["directory"]["revision"] >= revision, "a directory is heard")
        until(lambda: node.slow_path._resolver.views, "its state is known")
    finally:
        node.close()


def test_miss_while_the_directory_is_dead_is_answered_when_it_is_back(node: Node) -> None:
    node.apply(DOCUMENT + RULE)
    row = miss(node, 11, 21, token=79)
    until(lambda: node.answering()[-1:] == [1], "the data plane is told that somebody answers")
    node.directory.kill()
    node.directory.wait()
    node.data_plane.emit(row)
    until(lambda: node.answering()[-1] == 0, "the data plane is told that nobody answers")

    node.start_directory()
    until(
        lambda: node.answering()[-1] == 1,
        "the data plane is told that somebody answers",
    )
    row["token"] = 80
    node.ask(row)


def test_stopped_directory_costs_only_answers(node: Node) -> None:
    node.apply(DOCUMENT + RULE)
    row = miss(node, 11, 21, token=81)
    until(lambda: node.answering()[-1:] == [1], "the data plane is told that somebody answers")
    node.directory.send_signal(signal.SIGSTOP)
    node.data_plane.emit(row)
    until(lambda: node.answering()[-1] == 0, "the data plane is told that nobody answers")
    node.directory.send_signal(signal.SIGCONT)
    row["token"] = 82
    until(
        lambda: node.answering()[-1] == 1,
        "the data plane is told that somebody answers",
    )
    node.ask(row)


def test_garbage_in_a_ring_is_counted_and_others_are_served(node: Node) -> None:
    node.apply(DOCUMENT + RULE)
    good = miss(node, 11, 21, token=83)
    garbage = np.random.default_rng(1).integers(0, 256, (500, 128), np.uint8)

    plausible = garbage.copy()
    types = (RecordType.MISS, RecordType.REFRESH, RecordType.REFUSED, RecordType.UNKNOWN_LOCATOR)
    plausible[:, 0] = np.resize(np.array(types, np.uint8), len(plausible))
    plausible[:, 1], plausible[:, 2] = 0, 1

    node.data_plane.emit(garbage, plausible, good)

    until(lambda: 83 in node.data_plane.of_type(RecordType.FLOW_INSTALL)["token"], "its flow")
    until(lambda: node.statistics()["counters"].get("records_unknown", 0) > 400, "the count")


def test_statistics_say_what_was_asked(node: Node) -> None:
    node.apply(DOCUMENT + RULE)
    node.data_plane.emit(miss(node, 11, 21, token=84))
    node.until(RecordType.FLOW_INSTALL)

    statistics = until(
        lambda: (s := node.statistics())["asked"] and sum(s["directory_us_bucket"]) and s,
        "a report that counts question and answer",
    )

    assert statistics["misses"] == statistics["asked"] == statistics["batches"] == 1
    assert sum(statistics["directory_us_bucket"]) == 1
    assert statistics["directory"]["answering"] is True
    assert statistics["pid"] == os.getpid()


def test_idle_worker_hardly_uses_its_cpu(tmp_path: Path) -> None:
    """Of the process, not of the thread: the directory client's sockets have a thread of their own."""
    made = configuration(tmp_path)
    made.path.write_text(
        f'name = "gw1"\ndirectory = "embedded"\nruntime_dir = "{tmp_path}"\nstate_dir = "{tmp_path}"\n'
        'locators = ["192.0.2.1"]\nport.rack = { device = "net_null0", role = "inside" }\n'
    )
    directory = subprocess.Popen(directory_command(made))
    data_plane = FakeDataPlane(made.data_plane_socket)
    worker = subprocess.Popen([sys.executable, "-m", "gateway.main", "slow-path", str(made.path)])
    try:
        until(lambda: data_plane.greetings, "the worker is connected")
        until(lambda: len(data_plane.of_type(RecordType.DIRECTORY_STATE)), "and has a directory")

        def share() -> float:
            began_s, before_s = time.monotonic(), _cpu_s(worker.pid)
            until(lambda: time.monotonic() - began_s > 3, "three seconds")
            return (_cpu_s(worker.pid) - before_s) / (time.monotonic() - began_s)

        # of a core: 1 to 6 %, as fast as the machine just is; one that does not sleep takes all of it
        assert any(share() < 0.25 for _ in range(4))
    finally:
        worker.terminate()
        assert worker.wait(10) == 0
        data_plane.close()
        directory.kill()
        directory.wait()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
