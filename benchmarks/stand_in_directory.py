# SPDX-License-Identifier: Apache-2.0
"""A directory that decides without thinking: what the rest of the miss path can do, whatever directory stands
behind it.

Same process, sockets, wire and pushes as `vnet-directory run`; only the decisions are looked up by the
destination's last four bytes in what the real directory decided once for it, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from directory_client import rows
from directory_service import main, service
from directory_service.service import Directory, Resolved


class StandIn(Directory):
    """Decides the first question about a destination, and copies the answer for all others."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._known = np.full(1 << 24, -1, np.int32)  # by the last three bytes of the destination
        self._decisions = np.zeros(0, rows.DECISION)
        self._locations = np.zeros(0, rows.LOCATION)
        self._tunnels = np.zeros(0, rows.TUNNEL)
        self._at = 0

    def resolve(
        self, node: str, capabilities: Sequence[str], queries: rows.Rows, explain: bool = False
    ) -> Resolved:
        if self.revision != self._at:
            self._forget()
        last = queries["destination"][:, 13:].astype(np.int32)
        place = last[:, 0] << 16 | last[:, 1] << 8 | last[:, 2]
        unknown = np.flatnonzero(self._known[place] < 0)
        if len(unknown):
            unknown = unknown[np.unique(place[unknown], return_index=True)[1]]
            self._think(super().resolve(node, capabilities, queries[unknown]), place[unknown])
        number = self._known[place]
        decisions = self._decisions[number]
        used, which = np.unique(number, return_inverse=True)
        decisions["destination_location"] = np.where(decisions["destination_location"] < 0, -1, which)
        no_scopes = np.zeros(0, rows.SCOPE)
        return Resolved(decisions, self._locations[used], self._tunnels, no_scopes, [], self._at)

    def _forget(self) -> None:
        self._known[:] = -1
        self._decisions, self._locations = self._decisions[:0], self._locations[:0]
        self._at = self.revision

    def _think(self, answer: Resolved, place: np.ndarray) -> None:
        """Keep decisions, and for each its location; an answer without one keeps a row of zeros."""
        self._known[place] = len(self._decisions) + np.arange(len(place))
        number = answer.decisions["destination_location"]
        decisions = answer.decisions.copy()
        decisions["scope"] = -1
        located = np.zeros(len(number), rows.LOCATION)
        located[number >= 0] = answer.locations[number[number >= 0]]
        self._decisions = np.concatenate([self._decisions, decisions])
        self._locations = np.concatenate([self._locations, located])
        if len(answer.tunnels) > len(self._tunnels):
            self._tunnels = answer.tunnels


if __name__ == "__main__":
    service.Directory = StandIn  # type: ignore[misc]
    main.Directory = StandIn  # type: ignore[misc]
    main.main()
