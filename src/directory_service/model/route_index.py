# SPDX-License-Identifier: Apache-2.0
"""The routes of a V-net by prefix: for an address the longest that contains it."""

from collections.abc import Iterable

from directory_service.kinds.route import Route


class RouteIndex:
    """Never changes."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        index: dict[int, dict[int, dict[int, Route]]] = {}
        for route in routes:
            shift = 128 - route.bits
            network = int.from_bytes(route.packed, "big") >> shift
            index.setdefault(route.prefix.version, {}).setdefault(shift, {})[network] = route
        # per family, from the longest prefixes to the shortest: network → route
        self._index = {family: sorted(by_shift.items()) for family, by_shift in index.items()}

    def find(self, family: int, address: bytes) -> Route | None:
        """Return the longest route that contains a packed address."""
        number = int.from_bytes(address, "big")
        for shift, routes in self._index.get(family, ()):
            route = routes.get(number >> shift)
            if route is not None:
                return route
        return None
