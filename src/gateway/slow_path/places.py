# SPDX-License-Identifier: Apache-2.0
"""Places that were refused because another V-net still has them: a port's VLAN, or a locator. Its removal may
be on the way, from another worker even, so they are told again a few times. Pure."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from fastpath.records import RecordType
from fastpath.records import Refusal as Why

Rows = np.ndarray[Any, Any]

CONFLICTS_MAX = 6  # times that a V-net's ingresses are told again, 50 ms to 1 s apart
AGAIN_S = 0.05
AGAIN_MOST_S = 1.0
_NEVER = float("inf")
_PLACES = (RecordType.ATTACHMENT_SET, RecordType.INGRESS_SET)


class Places:
    """One worker's."""

    def __init__(self) -> None:
        self._conflicts: dict[int, tuple[int, float]] = {}  # VNI -> (times told again, due next)

    def refused(self, rows: Rows, now_s: float) -> None:
        """Take REFUSED records; those that are of no place are left alone."""
        places = rows[(rows["why"] == Why.CONFLICT) & np.isin(rows["refused_type"], _PLACES)]
        for vni in set(places["head"]["vni"].tolist()):
            times, _ = self._conflicts.get(vni, (0, 0.0))
            self._conflicts[vni] = (times, now_s + min(AGAIN_MOST_S, AGAIN_S * 2**times))

    def take_due(self, now_s: float, there: Container[int]) -> list[int]:
        """Return the V-nets, of those that are there, whose places are to be told now."""
        found = []
        for vni, (times, due_s) in list(self._conflicts.items()):
            if times >= CONFLICTS_MAX or now_s < due_s:
                continue
            if vni not in there:
                del self._conflicts[vni]
                continue
            self._conflicts[vni] = (times + 1, _NEVER)  # due again once it is refused again
            found.append(vni)
        return found

    def due_s(self) -> float | None:
        """Return when `take_due` has something to do."""
        due = [at for times, at in self._conflicts.values() if times < CONFLICTS_MAX and at < _NEVER]
        return min(due, default=None)

    def told(self, vni: int) -> None:
        """A V-net has changed: what conflicts now begins anew."""
        self._conflicts.pop(vni, None)

    def clear(self) -> None:
        """All is told anew."""
        self._conflicts.clear()
