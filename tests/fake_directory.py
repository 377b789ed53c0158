# SPDX-License-Identifier: Apache-2.0
"""A directory whose answers a test sets, with the interface of directory_service.service.Directory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from directory_client.wire import rows
from directory_service.editor import Applied
from directory_service.refused import Refused
from directory_service.service import NodeSnapshot, Push, Resolved
from directory_service.store.contract import Seen, World

NODES = {"gw1": 1001, "gw2": 1002}


class FakeDirectory:
    """Knows two gateways. Decides every query with action 2 and its source port as rule id, so that order
    shows."""

    def __init__(self) -> None:
        self.revision = 41  # what answers are given at: behind `newest` until polled
        self.newest = 41
        self.world = World(7, 1, 9)
        self.store_id = 70
        self.era_began = ""
        self.unreadable: dict[str, str] = {}
        self.heard: list[Seen] = []
        self.heard_first: list[str] = []
        self.never_started: set[str] = set()
        self.pushes: list[Push] = []
        self.announced: list[tuple[str, list[str], list[str]]] = []
        self.applied: list[dict[str, Any]] = []
        self.concerned = ["gw1"]
        self.diff = [{"sign": "+", "kind": "rule", "name": "red/web", "text": "allow"}]
        self.error: Exception | None = None
        self.vnets: dict[int, list[dict[str, Any]]] = {7001: [{"op": "vnet", "vni": 7001}]}
        self.trims_failed = 0
        self.to_learn = 0  # quiet moments that are needed

    def take(self, settings: Any, node_s: float) -> None:
        self.taken = (settings, node_s)

    def note_heard(self, node: str) -> None:
        self.heard_first.append(node)

    def never_heard(self, node: str) -> bool:
        return node in self.never_started

    @property
    def editor(self) -> FakeDirectory:
        return self

    @property
    def current(self) -> SimpleNamespace:
        nodes = {name: SimpleNamespace(kind="gateway") for name in NODES}
        return SimpleNamespace(fabric=SimpleNamespace(nodes=nodes), presences={}, vnets={})

    def change(self, *node_vnis: tuple[int, int]) -> int:
        """Make a revision that concerns these topics."""
        self.newest += 1
        self.pushes += [
            Push(node, vni, self.newest, 0, [{"op": "vnet", "n": self.newest}]) for node, vni in node_vnis
        ]
        return self.newest

    def version(self, revision: int | None = None) -> dict[str, int]:
        told = self.revision if revision is None else revision
        return {**self.world._asdict(), "revision": told, "seal": 1}

    def hear(self, seen: Seen) -> bool:
        self.heard.append(seen)
        return False

    def node_id(self, node: str) -> int:
        if node not in NODES:
            raise Refused(f"there is no node {node}", "vnetctl show nodes")
        return NODES[node]

    @property
    def is_hearing(self) -> bool:
        return False

    @property
    def has_to_learn(self) -> bool:
        return self.to_learn > 0

    def learn_ahead(self) -> None:
        self.to_learn -= 1
        if self.error is not None:
            raise self.error

    def resolve(self, node: str, capabilities: Any, queries: rows.Rows, explain: bool = False) -> Resolved:
        self._maybe_fail()
        self.node_id(node)
        decisions = np.zeros(len(queries), rows.DECISION)
        decisions["action"] = 2
        decisions["rule_id"] = queries["source_port"]
        provenance = [{"port": int(port)} for port in queries["source_port"]] if explain else []
        locations = np.zeros(1, rows.LOCATION)
        return Resolved(
            decisions, locations, np.zeros(0, rows.TUNNEL), np.zeros(0, rows.SCOPE), provenance, self.revision
        )

    def snapshot(self, node: str, vnis: Any = None, known: Any = None) -> NodeSnapshot:
        self._maybe_fail()
        self.known = known
        vnets = {vni: ops for vni, ops in self.vnets.items() if vnis is None or vni in vnis}
        return NodeSnapshot(self.node_id(node), self.revision, iter(vnets.items()))

    def locator(
        self, node: str, local: bytes, remote: bytes, protocol: int, wire_id: int
    ) -> dict[str, Any] | None:
        return {"op": "ingress", "wire_id": wire_id} if wire_id == 7001 else None

    def announce(self, node: str, locators: list[str], ports: list[str], *more: Any) -> None:
        self.announced.append((node, locators, ports))

    facts = 0
    has_news = False

    def conflicts(self, node: str) -> list[dict[str, Any]]:
        return [{"locator": "192.0.2.9"}] if ["192.0.2.9"] in [said[1] for said in self.announced] else []

    def flaps(self, node: str) -> list[Any]:
        return []

    def poll(self, look: bool = True) -> list[Push]:
        pushes, self.pushes = self.pushes, []
        self.revision = self.newest
        return pushes

    def apply(
        self,
        text: str,
        file: str,
        dry_run: bool,
        take_over: Any,
        comment: str,
        user: str,
        flows: Any = (),
        expect_revision: int | None = None,
        reports: Any = None,
    ) -> Applied:
        self._maybe_fail()
        self.applied.append({"text": text, "dry_run": dry_run, "user": user, "flows": list(flows)})
        before = self.newest
        if not dry_run:
            self.change((1001, 7001))
        revision = before + 1
        return Applied(
            "doc", before, revision, 1, 0, 0, self.diff, [], {"cached": len(flows)}, self.concerned, [7001]
        )

    def rollback(
        self,
        revision: int,
        user: str = "",
        dry_run: bool = False,
        flows: Any = (),
        reports: Any = None,
        expect_revision: int | None = None,
    ) -> Applied:
        return self.apply("", "", dry_run, (), "", user, flows)

    def set_record(self, kind: str, name: str, values: Any, user: str = "", reports: Any = None) -> Applied:
        return self.apply("", "", False, (), "", user)

    def remove_record(self, kind: str, name: str, user: str = "", reports: Any = None) -> Applied:
        return self.apply("", "", False, (), "", user)

    def release(self, node: str, user: str = "", reports: Any = None) -> Applied:
        self.reports = reports
        return self.apply("", "", False, (), "", user)

    def hosted(self, node: str) -> frozenset[str]:
        return frozenset({"red"})

    def document_vnets(self, document: str) -> frozenset[str]:
        return frozenset({"red"})

    def export(self, document: str) -> str:
        self._maybe_fail()
        return f'document = "{document}"\n'

    def history(self, document: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        return [{"revision": self.revision}]

    def list_records(
        self, kind: str, vnet: str | None = None, name: str | None = None
    ) -> list[dict[str, Any]]:
        return [{"name": name, "kind": "gateway"} for name in NODES] if kind == "nodes" else []

    def explain(self, *arguments: Any) -> dict[str, Any]:
        return {"arguments": list(arguments)}

    def _maybe_fail(self) -> None:
        if self.error is not None:
            raise self.error
