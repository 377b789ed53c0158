# SPDX-License-Identifier: Apache-2.0
"""A V-net as seen from a node: what decide finds out about addresses there, one by one or many at once.

Most addresses are each held by one member and nothing else is to be said of them. What follows from where a
member is (by what it may come in, how it is reached from here) is found once for all that are at the same
places, and what the rules see of it once for all alike, so that thousands of members take some 2 µs each,
half of it for memory that is touched for the first time, where one asked about alone takes 5.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from directory_client.wire.rows import Rows
from directory_service.bulk.locations import Locations
from directory_service.decide.decide import is_gateway_address
from directory_service.decide.locate import find_location, object_of
from directory_service.decide.source import has_mac
from directory_service.kinds.node import Node
from directory_service.model.member import FAMILY_IPV4, FAMILY_MAC, Holder, Member, Whereabouts
from directory_service.model.rules import RuleSet
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState

PLAIN, MEMBER, NOBODY, FORGOTTEN = 0, 1, 2, 3
PLACES = ("attachment", "other_attachment", "node", "other_node")  # columns: up to two of each, 0 none
_STANDINGS_MAX = 1 << 16
_UNUSED_BYTES = {FAMILY_IPV4: 12, FAMILY_MAC: 10}


class RulesClass(NamedTuple):
    """What the rules see of a side."""

    rule_set: RuleSet
    mac: bool
    mask: int


class Description(NamedTuple):
    """What can be said of one address: columns of a side, and its PLACES."""

    places: tuple[int, int, int, int]  # two attachments and two nodes by which it may come in, 0: none
    rules_class: int
    location: (
        tuple[int, int, bytes] | None
    )  # a key of Locations.numbers; None: none, or decide has to be asked
    kind: int
    hole_bits: int
    has_mac: int  # its packets come from one MAC, that of its location


class _Standing(NamedTuple):
    """What follows from where a member is."""

    places: tuple[int, int, int, int]
    course: int  # of its location, -1: none


_NOWHERE = (0, 0, 0, 0)
PLAIN_SIDE = Description(_NOWHERE, 0, None, PLAIN, 0, 0)


class Scene:
    """See the module. `classes` and `locations` are shared by all scenes; what a change of the V-net touched,
    whoever follows the snapshots forgets."""

    def __init__(
        self, here: Node, state: VnetState, classes: list[RulesClass | None], locations: Locations
    ) -> None:
        self.here = here
        self.state = state
        self.tags: dict[int, int] = {}  # by family
        self.class_numbers: dict[bool, dict[int, int]] = {False: {}, True: {}}  # MAC → selectors → class
        self.nobodies: list[int] = []  # numbers of the sides of those who are not there
        self._classes = classes
        self._locations = locations
        self._standings: dict[Whereabouts, _Standing | None] = {}

    def describe(self, snapshot: Snapshot, family: int, address: bytes) -> Description:
        """Say of one address what can be said."""
        state, unused = self.state, _UNUSED_BYTES.get(family, 0)
        if any(address[:unused]) or is_gateway_address(state, address, family):
            return PLAIN_SIDE
        holders = state.find_holders(family, address)
        if not holders:
            return Description(_NOWHERE, 0, None, NOBODY, state.hole(family, address), 0)
        if len(holders) > 1:
            return PLAIN_SIDE
        holder = holders[0]
        if holder.member is not None:
            places = _places(snapshot, holder.member.whereabouts)
        else:
            places = (0, 0, _node_id(snapshot, holder.route.via), 0) if holder.route else _NOWHERE
        if places is None:
            return PLAIN_SIDE
        rules_class = self._class(family == FAMILY_MAC, state.find_mask(family, address, holder))
        location = find_location(snapshot, state, self.here, holder, object_of(holder)).location
        key = None if location is None else self._locations.key(location)
        return Description(places, rules_class, key, MEMBER, 0, has_mac(holder))

    def describe_members(
        self, snapshot: Snapshot, family: int, addresses: Sequence[bytes], sides: Rows
    ) -> list[int]:
        """Fill in the sides (made without location) of those addresses of which nothing but one member is to
        be said. Returns the numbers of the others, which are left as they are."""
        state, others = self.state, []
        classes = self.class_numbers[family == FAMILY_MAC]
        standings, rule_set, vnet = self._standings, state.rule_set, state.vnet
        of_gateway = vnet.gateway_addresses if vnet else ()
        if vnet and family == FAMILY_MAC:
            of_gateway = (vnet.gateway_mac.rjust(16, b"\0"),)
        if len(standings) > _STANDINGS_MAX:
            standings.clear()
        at, places, rules, keys, located = [], [], [], [], []
        holders = state.by_address[family].get_all(addresses)
        for number, (address, members) in enumerate(zip(addresses, holders, strict=True)):
            if members is None or len(members) > 1 or address in of_gateway:
                others.append(number)
                continue
            member = members[0]
            try:
                standing = standings[member.whereabouts]
            except KeyError:
                standing = standings[member.whereabouts] = self._stand(snapshot, member)
            if standing is None:
                others.append(number)
                continue
            endpoint = member.endpoint
            mask = rule_set.member_mask(member.name, endpoint.groups) | rule_set.address_mask(family, address)
            at.append(number)
            places.append(standing.places)
            rules.append(classes.get(mask) or self._class(family == FAMILY_MAC, mask))
            if standing.course >= 0:
                located.append(number)
                keys.append((standing.course, member.id, endpoint.mac))
        if at:
            sides["kind"][at] = MEMBER
            sides["has_mac"][at] = 1
            sides["rules_class"][at] = rules
            for name, column in zip(PLACES, np.array(places, np.uint64).T, strict=True):
                sides[name][at] = column
        if located:
            sides["location"][located] = self._locations.numbers(keys)
        return others

    def _class(self, mac: bool, mask: int) -> int:
        number = self.class_numbers[mac].get(mask)
        if number is None:
            number = self.class_numbers[mac][mask] = len(self._classes)
            self._classes.append(RulesClass(self.state.rule_set, mac, mask))
        return number

    def _stand(self, snapshot: Snapshot, member: Member) -> _Standing | None:
        """Say what holds for all members that are where this one is; None: they are unusual."""
        places = _places(snapshot, member.whereabouts)
        if places is None:
            return None
        location = find_location(snapshot, self.state, self.here, Holder(member, None), member.id).location
        return _Standing(places, -1 if location is None else self._locations.course(location))


def _places(snapshot: Snapshot, where: Whereabouts) -> tuple[int, int, int, int] | None:
    """Return by what somebody may come in; None if that is more than a side has room for."""
    if len(where.attachments) > 2 or len(where.nodes) > 2:
        return None
    attachments = (*where.attachments, 0, 0)
    nodes = (*(_node_id(snapshot, name) for name in where.nodes), 0, 0)
    return (attachments[0], attachments[1], nodes[0], nodes[1])


def _node_id(snapshot: Snapshot, name: str) -> int:
    node = snapshot.fabric.nodes.get(name)
    return node.id if node else 0
