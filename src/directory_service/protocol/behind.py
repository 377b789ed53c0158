# SPDX-License-Identifier: Apache-2.0
"""Which routes lead to gateways that say nothing any more: what a gateway is told, for its operator."""

from __future__ import annotations

from directory_client.wire.greeting import Notice
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.protocol.gateways import Gateways
from directory_service.service import Directory

LOOK_S = 1.0
SHOWN_MAX = 5


class Behind:
    """Looks once a second who is silent, and at the routes of a V-net when that, or the model, is another."""

    def __init__(self, directory: Directory, gateways: Gateways) -> None:
        self._directory = directory
        self._gateways = gateways
        self._look_at = 0.0
        self._silent: frozenset[str] = frozenset()
        self._of: Snapshot | None = None
        self._found: dict[str, list[Notice]] = {}

    def notices(self, node: str, now: float) -> list[Notice]:
        """Return what to tell a gateway of the routes in V-nets that it hosts, a few."""
        current = self._directory.current
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            silent = frozenset(name for name in current.presences if self._is_silent(name, now))
            if silent != self._silent or current is not self._of:
                self._silent, self._of, self._found = silent, current, {}
        if not self._silent or node in self._silent:
            return []
        told: list[Notice] = []
        for name in sorted(self._directory.hosted(node)):
            state = current.vnets.get(name)
            if state is not None and state.routes and len(told) < SHOWN_MAX:
                if name not in self._found:
                    self._found[name] = self._look(name, state)
                told += self._found[name]
        return told[:SHOWN_MAX]

    def _is_silent(self, name: str, now: float) -> bool:
        return not (self._gateways.is_alive(name, now) or self._gateways.may_come(name, now))

    def _look(self, name: str, state: VnetState) -> list[Notice]:
        found = []
        for prefix, route in sorted(state.routes.items()):
            member = state.members.get(route.via)
            nodes = member.nodes if member is not None else frozenset((route.via,))
            if nodes and nodes <= self._silent:
                at = f"{route.via} at {', '.join(sorted(nodes))}" if member is not None else route.via
                text = f"route {name}/{prefix} leads to {at}, which is silent: nothing may arrive there"
                found.append(Notice(f"route {name}/{prefix}", text, "vnetctl show nodes"))
                if len(found) == SHOWN_MAX:
                    break
        return found
