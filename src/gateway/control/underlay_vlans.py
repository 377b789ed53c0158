# SPDX-License-Identifier: Apache-2.0
"""Tells the data plane in which VLANs of each underlay port tunnel packets may come.

Those that `underlay.nexthop.underlay_vlans` says: with an address, and of next hops. A tunnel uses the VLANs
that it was resolved to last, until it is resolved to others or is gone: one whose next hop is lost for a
moment goes on receiving. What the data plane refuses is told again each second, and stands in
`state.vlan_problems` until it is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from gateway.state.state import State
from gateway.underlay.nexthop import Hop, Pair, Tables, UnderlayPort, underlay_vlans

log = logging.getLogger(__name__)

AGAIN_S = 1.0


class Told(Protocol):
    """The part of `ControlRings` that is used."""

    def tell_vlans(self, port: str, vlans: tuple[int, ...]) -> str: ...


class UnderlayVlans:
    """What each port's VLANs are for tunnels, and what the data plane knows of that."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._used: dict[Pair, frozenset[tuple[int, int]]] = {}  # (port, VLAN) of its next hops
        self._told: dict[str, tuple[int, ...]] = {}  # by port: what was taken
        self._again_s: dict[str, float] = {}  # by port: what was refused is told again then

    def data_plane_is_new(self) -> None:
        """Tell everything again."""
        self._told.clear()
        self._again_s.clear()
        self._state.vlan_problems.clear()

    def resolved(self, pair: Pair, hops: Sequence[Hop]) -> None:
        """Take up what a tunnel is sent by; no hops: as before."""
        if hops:
            self._used[pair] = frozenset((hop.port, hop.vlan) for hop in hops)

    def keep_only(self, pairs: Collection[Pair]) -> None:
        """Forget tunnels that are gone."""
        for gone in self._used.keys() - set(pairs):
            del self._used[gone]

    def tell(self, ports: Iterable[UnderlayPort], tables: Tables, data_plane: Told, now_s: float) -> None:
        """Say what has changed."""
        used = frozenset().union(*self._used.values())
        for port in ports:
            of_port = frozenset(vlan for index, vlan in used if index == port.index)
            vlans = underlay_vlans(port.interface, tables, of_port)
            if not vlans or self._told.get(port.name) == vlans or now_s < self._again_s.get(port.name, 0.0):
                continue
            refused = data_plane.tell_vlans(port.name, vlans)
            if not refused:
                self._told[port.name] = vlans
                self._again_s.pop(port.name, None)
                self._state.vlan_problems.pop(port.name, None)
                continue
            self._again_s[port.name] = now_s + AGAIN_S
            problem = f"the data plane did not take the underlay's VLANs {_listed(vlans)}: {refused}"
            if self._state.vlan_problems.get(port.name) != problem:
                log.warning("port=%s %s", port.name, problem)
            self._state.vlan_problems[port.name] = problem


def _listed(vlans: Iterable[int]) -> str:
    return ", ".join(str(vlan) if vlan else "untagged" for vlan in vlans)
