# SPDX-License-Identifier: Apache-2.0
"""Every location that answers have spoken of, numbered by content, and the rows that an answer carries."""

from typing import Any

import numpy as np

from directory_client.numbers import LocationKind
from directory_client.rows import LOCATION, TUNNEL, Rows
from directory_service.answer import pack_location_into, pack_tunnel
from directory_service.fabric import Tunnel
from directory_service.locate import Location

LOCATIONS_MAX = 1 << 20


class Locations:
    """Numbers are good until `clear`. Equal locations have one number: that none is ever out of date is seen
    from this."""

    def __init__(self) -> None:
        self.clear()

    @property
    def full(self) -> bool:
        """Tell whether `clear` is due."""
        return len(self._numbers) > LOCATIONS_MAX

    def clear(self) -> None:
        """Forget everything."""
        self._numbers: dict[Location, int] = {}
        self._tunnel_numbers: dict[Tunnel, int] = {}
        self._tunnels: list[Tunnel] = []
        self._set_rows(np.zeros(1024, LOCATION))
        self._tunnel_of = np.zeros(1024, np.int64)
        self._first = np.zeros(1024, np.int64)  # scratch: where a location is named first

    def number(self, location: Location) -> int:
        """Return the number of a location."""
        number = self._numbers.get(location)
        if number is not None:
            return number
        number = self._numbers[location] = len(self._numbers)
        if number == len(self._rows):
            more = 3 * len(self._rows)
            self._set_rows(np.concatenate([self._rows, np.zeros(more, LOCATION)]))
            self._tunnel_of = np.concatenate([self._tunnel_of, np.zeros(more, np.int64)])
            self._first = np.zeros(len(self._rows), np.int64)
        pack_location_into(self._bytes, number * LOCATION.itemsize, location, 0)
        self._tunnel_of[number] = -1 if location.tunnel is None else self._tunnel(location.tunnel)
        return number

    def are_here(self, numbers: Any) -> Any:
        """Tell of each number whether it is on an attachment of the node that it was found for."""
        return self._rows["kind"][numbers] == LocationKind.LOCAL

    def rows(self, named: Any, revision: int) -> tuple[Any, Rows, Rows]:
        """Make the rows of an answer that names these numbers (-1: none), in the order of their first naming.

        Returns for each the number of its row (-1: none), the LOCATION rows, and the TUNNEL rows.
        """
        there = np.flatnonzero(named >= 0)
        if not len(there):
            return np.full(len(named), -1), np.zeros(0, LOCATION), np.zeros(0, TUNNEL)
        numbers = named[there] if len(there) < len(named) else named
        order = np.arange(len(numbers))
        self._first[numbers[::-1]] = order[::-1]  # of several the last is kept: the first one
        first = self._first[numbers]
        leads = first == order
        at = (np.cumsum(leads) - 1)[first]
        chosen = numbers[leads]
        rows = self._rows.take(chosen)
        rows["revision"] = revision
        if len(there) == len(named):
            return at, rows, self._tunnel_rows(chosen, revision)
        row_of = np.full(len(named), -1)
        row_of[there] = at
        return row_of, rows, self._tunnel_rows(chosen, revision)

    def _set_rows(self, rows: Rows) -> None:
        self._rows = rows
        self._bytes = rows.view(np.uint8).data

    def _tunnel(self, tunnel: Tunnel) -> int:
        number = self._tunnel_numbers.setdefault(tunnel, len(self._tunnels))
        if number == len(self._tunnels):
            self._tunnels.append(tunnel)
        return number

    def _tunnel_rows(self, locations: Any, revision: int) -> Rows:
        numbers = self._tunnel_of[locations]
        if (numbers == numbers[0]).all():
            distinct = [int(numbers[0])]
        else:
            distinct = list(dict.fromkeys(numbers.tolist()))
        found: dict[int, Tunnel] = {}
        for number in distinct:
            if number >= 0:
                found.setdefault(self._tunnels[number].object_id, self._tunnels[number])
        return np.frombuffer(b"".join(pack_tunnel(tunnel, revision) for tunnel in found.values()), TUNNEL)
