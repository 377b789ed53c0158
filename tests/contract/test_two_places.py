# SPDX-License-Identifier: Apache-2.0
"""An endpoint with two places is followed by two gateways, over real sockets: a server on a store in a file,
which is started anew in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from directory_client.client import DirectoryClient
from directory_client.events import Answered, Changed, Resolved
from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.numbers import Action, IngressKind, KeyClass, LocationKind
from directory_client.vocabulary.reasons import reason_number
from directory_client.wire import rows
from directory_house import House, active, ipc
from directory_service.facts.sqlite import SqliteFacts
from directory_service.server.clocks import steady_ms, wall_ms
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory

DOCUMENT = """
document = "two"
[site.s]
[node.gw1]
kind = "gateway"
site = "s"
[node.gw2]
kind = "gateway"
site = "s"
[vnet.red]
vni = 7001
[[vnet.red.attachment]]
nodes = ["gw1", "gw2"]
port = "rack"
[vnet.red.endpoint]
both = { addresses = ["10.0.0.11"], mac = "02:00:5e:00:00:11", at = ["gw1/rack", "gw2/rack"] }
one = { addresses = ["10.0.0.21"], mac = "02:00:5e:00:00:21", at = ["gw1/rack"] }
two = { addresses = ["10.0.0.22"], mac = "02:00:5e:00:00:22", at = ["gw2/rack"] }
[vnet.red.rule.any]
action = "allow"
from = "any"
to = "any"
"""


class Fleet:
    """Two gateways of one directory."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.path = Path(house.path)
        self.store = MemoryStore()
        self.start()
        self.directory.apply(DOCUMENT, "two.toml")
        self.gateways = {name: self._gateway(name) for name in ("gw1", "gw2")}

    def start(self) -> None:
        facts = SqliteFacts(self.path / "facts", steady_ms() / 1000 + 60)
        self.directory = WholeDirectory(self.store, Settings(), wall_ms, steady_ms, facts)
        self.server = self.house.serve(ipc(self.house), self.directory)

    def restart(self) -> None:
        self.house.stop(self.server)
        self.directory.heard._facts.close()
        self.start()

    def _gateway(self, name: str) -> DirectoryClient:
        client = self.house.client(ipc(self.house), node=name, role="slow-path", timeout_s=0.5)
        client.set_heartbeat(locators=[f"192.0.2.{name[-1]}"], ports=["rack"])
        active(self.house, client)
        return client

    def ask(self, node: str, source: str, destination: str, mac: str = "") -> tuple[str, str]:
        """Ask as a gateway does about what came in there; return action and reason."""
        table = np.zeros(1, rows.QUERY)
        table["vni"], table["key_class"] = 7001, KeyClass.BRIDGED
        (here,) = self.directory.current.vnets["red"].attachments_by_node[node]
        table["ingress_kind"], table["ingress_object"] = IngressKind.ATTACHMENT, here.id
        table["source"] = np.frombuffer(pack_address(source), np.uint8)
        table["destination"] = np.frombuffer(pack_address(destination), np.uint8)
        if mac:
            table["source_mac_end"] = np.frombuffer(bytes.fromhex(mac.replace(":", ""))[2:], np.uint8)
        asked = self.gateways[node].send_resolve(table)
        answer = self.answer(node, asked).decisions[0]
        return Action(answer["action"]).name, answer["reason"]

    def answer(self, node: str, asked: int) -> Any:
        """Wait for an answer; what else came stays."""

        def found() -> Any:
            events = self.house.events[self.gateways[node]]
            return [one for one in events if isinstance(one, Resolved | Answered) and one.id == asked]

        return self.house.until(found)[0]

    def send(self, node: str) -> None:
        """Have the endpoint with two places send at a node."""
        self.ask(node, "10.0.0.11", "10.0.0.21", "02:00:5e:00:00:11")

    def location(self, node: str) -> Callable[[], Any]:
        """What a gateway was told last of where it is."""

        def found() -> Any:
            told = [event for event in self.house.events[self.gateways[node]] if isinstance(event, Changed)]
            operations = [op for event in told for op in event.operations if op["op"] == "location"]
            return operations[-1] if operations else None

        return found


SAME = ("DROP", reason_number("same_segment"))


@pytest.fixture
def fleet(house: House) -> Fleet:
    fleet = Fleet(house)
    house.until(lambda: fleet.ask("gw1", "10.0.0.21", "10.0.0.22") == ("ENCAPSULATE", 0))
    return fleet


def test_it_is_reached_at_the_place_where_it_is_from_both_segments(fleet: Fleet) -> None:
    assert fleet.ask("gw1", "10.0.0.21", "10.0.0.11") == SAME
    assert fleet.ask("gw2", "10.0.0.22", "10.0.0.11") == ("ENCAPSULATE", 0)

    fleet.send("gw2")

    left = fleet.house.until(fleet.location("gw1"))
    come = fleet.house.until(fleet.location("gw2"))
    assert (left["kind"], left["node_id"]) == (LocationKind.TUNNEL, fleet.directory.node_id("gw2"))
    assert come["kind"] == LocationKind.LOCAL
    assert fleet.ask("gw1", "10.0.0.21", "10.0.0.11") == ("ENCAPSULATE", 0)
    assert fleet.ask("gw2", "10.0.0.22", "10.0.0.11") == SAME


def test_a_directory_that_starts_again_sends_nobody_to_the_first_place(fleet: Fleet) -> None:
    fleet.send("gw2")
    fleet.house.until(fleet.location("gw1"))

    fleet.restart()

    def is_away() -> bool:
        return fleet.ask("gw1", "10.0.0.21", "10.0.0.11") == ("ENCAPSULATE", 0)

    fleet.house.until(is_away)
    assert fleet.ask("gw2", "10.0.0.22", "10.0.0.11") == SAME


def test_whoever_asks_where_it_is_sees_the_place_first(fleet: Fleet) -> None:
    fleet.send("gw2")
    fleet.house.until(fleet.location("gw1"))
    asked = fleet.gateways["gw1"].send("list", kind="endpoints", name="red/both")
    (row,) = fleet.answer("gw1", asked).head["rows"]
    assert (row["at"], row["seen"]) == (["gw2/rack", "gw1/rack"], "gw2/rack")
