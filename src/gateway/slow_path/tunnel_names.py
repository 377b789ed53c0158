# SPDX-License-Identifier: Apache-2.0
"""Which V-nets of a worker name a tunnel: with the last of them it is taken back from the data plane.

Pure."""

from __future__ import annotations

from collections.abc import Iterable


class TunnelNames:
    """Of one worker. V-nets share tunnels: one leads to a node, whatever V-net the packet is of."""

    def __init__(self) -> None:
        self._vnets: dict[int, set[int]] = {}  # object id -> VNIs

    def add(self, object_id: int, vni: int) -> None:
        """A V-net names a tunnel."""
        self._vnets.setdefault(object_id, set()).add(vni)

    def remove(self, object_id: int, vni: int) -> bool:
        """A V-net names a tunnel no longer. Returns whether none does now."""
        vnets = self._vnets.get(object_id, set())
        vnets.discard(vni)
        if not vnets:
            self._vnets.pop(object_id, None)
        return not vnets

    def remove_all(self, object_ids: Iterable[int], vni: int) -> list[int]:
        """A V-net goes, which named these. Returns those that none names now."""
        return [object_id for object_id in object_ids if self.remove(object_id, vni)]

    def vnets(self, object_id: int) -> frozenset[int]:
        """Return the VNIs that name a tunnel."""
        return frozenset(self._vnets.get(object_id, ()))

    def clear(self) -> None:
        self._vnets.clear()
