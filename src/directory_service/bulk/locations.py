# SPDX-License-Identifier: Apache-2.0
"""Every location that answers have spoken of, numbered by content, and the rows that an answer carries."""

from typing import Any

import numpy as np

from directory_client.vocabulary.numbers import LocationKind
from directory_client.wire.rows import LOCATION, TUNNEL, Rows
from directory_service.decide.answer import pack_location, pack_tunnel
from directory_service.decide.locate import Location
from directory_service.model.fabric import Tunnel

LOCATIONS_MAX = 1 << 20
_NO_MAC = bytes(6)


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
        self._numbers: dict[tuple[int, int, bytes], int] = {}  # by course, object and MAC
        self._course_numbers: dict[Location, int] = {}
        self._courses: list[Location] = []
        self._tunnel_numbers: dict[Tunnel, int] = {}
        self._tunnels: list[Tunnel] = []
        self._rows: Rows = np.zeros(1024, LOCATION)
        self._tunnel_of = np.zeros(1024, np.int64)
        self._first = np.zeros(1024, np.int64)  # scratch: where a location is named first

    def number(self, location: Location) -> int:
        """Return the number of a location."""
        return self.numbers([self.key(location)])[0]

    def key(self, location: Location) -> tuple[int, int, bytes]:
        """Return the key by which `numbers` knows a location."""
        return self.course(location), location.object_id, location.mac

    def course(self, location: Location) -> int:
        """Return the number of what a location has in common with those of all objects at the same place."""
        course = location._replace(object_id=0, mac=_NO_MAC)
        number = self._course_numbers.get(course)
        if number is None:
            number = self._course_numbers[course] = len(self._courses)
            self._courses.append(course)
        return number

    def numbers(self, keys: list[tuple[int, int, bytes]]) -> list[int]:
        """Return the number of each location, given as (course, object id, MAC)."""
        numbers = self._numbers
        before = len(numbers)
        found = [numbers.setdefault(key, len(numbers)) for key in keys]
        if len(numbers) > before:
            new = [key for key, number in zip(keys, found, strict=True) if number >= before]
            self._add(before, list(dict.fromkeys(new)))
        return found

    def _add(self, first: int, keys: list[tuple[int, int, bytes]]) -> None:
        """Write the rows of new locations, which have numbers in their order."""
        last = first + len(keys)
        if last > len(self._rows):
            more = max(last, 4 * len(self._rows)) - len(self._rows)
            self._rows = np.concatenate([self._rows, np.zeros(more, LOCATION)])
            self._tunnel_of = np.concatenate([self._tunnel_of, np.zeros(more, np.int64)])
            self._first = np.zeros(len(self._rows), np.int64)
        courses, object_ids, macs = zip(*keys, strict=True)
        each, which = np.unique(courses, return_inverse=True)
        known = [self._courses[number] for number in each.tolist()]
        rows = np.frombuffer(b"".join(map(pack_location, known)), LOCATION).take(which)
        rows["object_id"] = object_ids
        rows["mac"] = np.frombuffer(b"".join(macs), np.uint8).reshape(-1, len(_NO_MAC))
        self._rows[first:last] = rows
        tunnels = [-1 if one.tunnel is None else self._tunnel(one.tunnel) for one in known]
        self._tunnel_of[first:last] = np.array(tunnels)[which]

    def are_here(self, numbers: Any) -> Any:
        """Tell of each number whether it is on an attachment of the node that it was found for."""
        return self._rows["kind"][numbers] == LocationKind.LOCAL

    def are_on(self, numbers: Any, attachments: Any) -> Any:
        """Tell of each number (-1: none, which is nowhere) whether it is on an attachment."""
        here = self._rows["kind"][numbers] == LocationKind.LOCAL
        return here & (numbers >= 0) & (self._rows["target_id"][numbers] == attachments)

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
