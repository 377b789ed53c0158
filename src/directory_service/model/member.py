# SPDX-License-Identifier: Apache-2.0
"""Members of a V-net: endpoints with their places resolved, and who holds an address.

An endpoint may have several places. It may send from each of them; it is reached at one, its home: where it
was seen last (sightings.py), or else the first that its record names.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from directory_service.kinds.endpoint import Endpoint
from directory_service.kinds.route import Route

FAMILY_IPV4, FAMILY_IPV6, FAMILY_MAC = 4, 6, 0


class Spot(NamedTuple):
    """A resolved place: a node and the V-net's attachment there (0 on a foreign node)."""

    node: str
    attachment: int


@dataclass(frozen=True, slots=True, eq=False)
class Whereabouts:
    """Resolved places in the order in which it is looked for at them: home first. Members that are at the
    same ones share this object, so that what follows from where they are is found once for all of them."""

    spots: tuple[Spot, ...]
    nodes: frozenset[str]
    attachments: frozenset[int]

    @property
    def home(self) -> Spot | None:
        """Where who is here is reached; None: they have no place."""
        return self.spots[0] if self.spots else None


class Member(msgspec.Struct, frozen=True, gc=False):
    """An endpoint with its places resolved."""

    endpoint: Endpoint
    whereabouts: Whereabouts

    @property
    def id(self) -> int:
        """The endpoint's id."""
        return self.endpoint.id

    @property
    def name(self) -> str:
        """The endpoint's name in its V-net."""
        return self.endpoint.name

    @property
    def spots(self) -> tuple[Spot, ...]:
        """Its places, home first."""
        return self.whereabouts.spots

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes that it may be at."""
        return self.whereabouts.nodes

    @property
    def attachments(self) -> frozenset[int]:
        """The attachments that it may be at."""
        return self.whereabouts.attachments

    @property
    def home_node(self) -> str:
        """The node where it is reached, empty if it has no place."""
        home = self.whereabouts.home
        return home.node if home is not None else ""


class Holder(NamedTuple):
    """Who holds an address: a member by itself, a member behind which a route's prefix lives, or a route's
    node."""

    member: Member | None
    route: Route | None


def in_order(members: Iterable[Member]) -> tuple[Member, ...]:
    """Return those who share an address as they are chosen."""
    return tuple(sorted(members, key=lambda one: (-one.endpoint.preference, one.id)))


def keys_of(endpoint: Endpoint) -> Iterable[tuple[int, bytes]]:
    """Return (family, packed address) of all by which an endpoint is known."""
    keys = [(FAMILY_MAC, endpoint.mac_key)]
    known = endpoint.addresses
    if endpoint.services or len(known) > 1:
        known = tuple({*known, *endpoint.services})
    for ipv6, address in known:
        keys.append((FAMILY_IPV6 if ipv6 else FAMILY_IPV4, address))
    return keys
