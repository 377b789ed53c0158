# SPDX-License-Identifier: Apache-2.0
"""One V-net as decide sees it: members, routes, attachments and rules, with indexes.

A VnetState never changes but for what it remembers of its own results. `updated` makes the next one from it
and shares what did not change: a change of one endpoint copies dicts, and parses that endpoint only.

A record that this program cannot read was written by a newer one. What it limits must not be overlooked: its
V-net is as if it were not declared, until the record says something else or is gone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from directory_client.vocabulary.names import Place
from directory_service.kinds.attachment import ATTACHMENT, Attachment
from directory_service.kinds.endpoint import ENDPOINT, Endpoint
from directory_service.kinds.kind import UNREADABLE, describe_unreadable
from directory_service.kinds.records import Record
from directory_service.kinds.registry import INSIDE, TYPED_BY
from directory_service.kinds.route import ROUTE, Route
from directory_service.kinds.rule import RULE, Rule
from directory_service.kinds.vnet import VNET, Vnet
from directory_service.model.holes import Holes
from directory_service.model.layered import Edit, Layered
from directory_service.model.member import (
    FAMILY_IPV4,
    FAMILY_IPV6,
    FAMILY_MAC,
    Holder,
    Member,
    Spot,
    Whereabouts,
    in_order,
    keys_of,
)
from directory_service.model.route_index import RouteIndex
from directory_service.model.rules import RuleSet, Side

_MEMBERS = ENDPOINT.name
_TABLES = tuple(kind.name for kind in INSIDE if kind is not ENDPOINT)  # members have tables of their own
_NO_TABLES: Mapping[str, dict[str, Any]] = {kind: {} for kind in _TABLES}

MOVES_KEPT_MS = 600_000
_MEMO_MAX = 200_000


class Step(NamedTuple):
    """What made a state from the one before, where endpoints and attachments alone changed."""

    before: object  # the token of that state
    names: frozenset[str]  # of the endpoints that differ, or are at other attachments
    keys: frozenset[tuple[int, bytes]]  # (family, packed address) of all that they had or have
    populates: bool  # addresses became known or unknown
    routes: bool  # there are routes via them: what is behind these may differ too


class VnetState:
    """See the module. Addresses are packed to 16 bytes; MACs as keys have them."""

    def __init__(self) -> None:
        self.token = object()  # stands for this state where it is not to be kept
        self.step: Step | None = None  # None: anything may differ from the state before
        self.vnet: Vnet | None = None  # None: not declared, or something in it cannot be read
        self.declared: Vnet | None = None
        self.unreadable: Mapping[str, str] = {}  # key of a record of a newer program → why
        self.tables: Mapping[str, dict[str, Any]] = _NO_TABLES  # kind → its records by name, typed
        self.members: Layered[str, Member] = Layered()
        self.by_address: dict[int, Layered[bytes, tuple[Member, ...]]] = {
            FAMILY_IPV4: Layered(),
            FAMILY_IPV6: Layered(),
            FAMILY_MAC: Layered(),
        }
        self.hosted: dict[str, int] = {}  # node → members there
        self.attachments_by_id: dict[int, Attachment] = {}
        self.attachments_by_node: dict[str, tuple[Attachment, ...]] = {}
        self.rule_set = RuleSet(())
        # member id → (node it left, when: milliseconds of a steady clock)
        self.moves: dict[int, tuple[tuple[str, int], ...]] = {}
        self.sightings: Mapping[str, str] = {}  # member → the place where it was seen (model/sightings.py)
        self._roaming: frozenset[str] = frozenset()  # names of members that have several places
        self._roamers: Mapping[tuple[bool, bytes], str] | None = None
        self._members_by_node: dict[str, list[str]] | None = None
        self._concerned: frozenset[str] | None = None
        self._nodes_left: frozenset[str] | None = None
        self._whereabouts: dict[tuple[tuple[Place, ...], str, str], Whereabouts] = {}
        self._route_index = RouteIndex()
        self._holes: dict[int, Holes] = {}
        self._masks: dict[tuple[int, bytes, int], int] = {}
        self._holders: dict[tuple[int, bytes], tuple[Holder, ...]] = {}

    @property
    def attachments(self) -> dict[str, Attachment]:
        """Its attachments by place."""
        return self.tables[ATTACHMENT.name]

    @property
    def routes(self) -> dict[str, Route]:
        """Its routes by prefix."""
        return self.tables[ROUTE.name]

    @property
    def rules(self) -> dict[str, Rule]:
        """Its rules by name."""
        return self.tables[RULE.name]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of it."""
        return not (self.declared or self.members or self.unreadable or any(self.tables.values()))

    def updated(self, changes: Iterable[tuple[Record | None, Record | None]], at_ms: int) -> "VnetState":
        """Return the state after changes (before, after) of this V-net's records, made at `at_ms`."""
        return self._next(changes, self.sightings, at_ms)

    def sighted(self, sightings: Mapping[str, str], at_ms: int) -> "VnetState":
        """Return the state after members were seen elsewhere, at `at_ms`: `sightings` are all of them."""
        return self._next((), sightings, at_ms)

    def _next(
        self,
        changes: Iterable[tuple[Record | None, Record | None]],
        sightings: Mapping[str, str],
        at_ms: int,
    ) -> "VnetState":
        new = VnetState()
        new.declared, new.sightings = self.declared, sightings
        known = [(record, after) for before, after in changes if (record := after or before) is not None]
        kinds = {record.kind for record, _ in known}
        tables = {kind: dict(self.tables[kind]) if kind in kinds else self.tables[kind] for kind in _TABLES}
        unreadable = dict(self.unreadable)
        touched: set[str] = set()
        endpoints: dict[str, Endpoint | None] = {}  # that change
        for record, after in known:
            if unreadable:
                unreadable.pop(record.key, None)
            typed = None
            if after is not None:
                try:
                    typed = TYPED_BY[record.kind](after)
                except UNREADABLE as error:
                    unreadable[record.key] = describe_unreadable(error)
            if record.kind == _MEMBERS:
                name = typed.name if typed else record.local_name  # one string for all tables
                touched.add(name)
                endpoints[name] = typed
            elif record.kind == VNET.name:
                new.declared = typed
            else:
                _put(tables[record.kind], record.local_name, typed)
        new.tables, new.unreadable = tables, unreadable
        new.vnet = None if unreadable else new.declared
        if "attachment" in kinds:
            new.attachments_by_id = {attachment.id: attachment for attachment in new.attachments.values()}
            by_node: dict[str, tuple[Attachment, ...]] = {}
            for attachment in new.attachments.values():
                by_node[attachment.place.node] = (*by_node.get(attachment.place.node, ()), attachment)
            new.attachments_by_node = by_node
            touched |= new._moved(self, touched)
        else:
            new.attachments_by_id = self.attachments_by_id
            new.attachments_by_node = self.attachments_by_node
            new._whereabouts = self._whereabouts
        if sightings is not self.sightings:
            touched |= new._seen_elsewhere(self)
        new.rule_set = RuleSet(new.rules.values()) if "rule" in kinds else self.rule_set
        new._route_index = RouteIndex(new.routes.values()) if "route" in kinds else self._route_index
        new._take_members(self, touched, endpoints, at_ms)
        if not kinds & {"rule", "endpoint", "attachment"}:
            new._masks = self._masks
        if kinds <= {"endpoint", "attachment"} and new.vnet is self.vnet:
            new.step = new._step_from(self, touched)
            new._take_holes(self, new.step.keys)
        return new

    def holders(self, family: int, address: bytes) -> tuple[Holder, ...]:
        """Return who holds an address: its members, else what the longest route says; empty: nobody."""
        found = self._holders.get((family, address))
        if found is None:
            found = self.find_holders(family, address)
            if len(self._holders) >= _MEMO_MAX:
                self._holders.clear()
            self._holders[family, address] = found
        return found

    def find_holders(self, family: int, address: bytes) -> tuple[Holder, ...]:
        """Return who holds an address, without remembering it."""
        members = self.by_address[family].get(address)
        if members:
            return tuple([Holder(member, None) for member in members])
        route = self.find_route(family, address)
        return () if route is None else (Holder(self.members.get(route.via), route),)

    def find_route(self, family: int, address: bytes) -> Route | None:
        """Return the longest route that contains an address."""
        return self._route_index.find(family, address)

    def mask(self, family: int, address: bytes, holder: Holder) -> int:
        """Return which selectors of the rules select this address held by this holder."""
        member = holder.member if holder.route is None else None
        key = (family, address, member.id if member else 0)
        mask = self._masks.get(key)
        if mask is None:
            mask = self.find_mask(family, address, holder)
            if len(self._masks) >= _MEMO_MAX:
                self._masks.clear()
            self._masks[key] = mask
        return mask

    def find_mask(self, family: int, address: bytes, holder: Holder) -> int:
        """Return which selectors of the rules select this address, without remembering it."""
        member = holder.member if holder.route is None else None
        if member is None:
            return self.rule_set.mask(Side("", frozenset(), family, address))
        return self.rule_set.mask(Side(member.name, member.endpoint.groups, family, address))

    def hole(self, family: int, address: bytes) -> int:
        """Return the bits (of 128) of the widest prefix around an address in which nobody is."""
        if family == FAMILY_MAC:
            return 128
        holes = self._holes.get(family)
        if holes is None:
            holes = self._holes[family] = self._find_holes(family)
        return 128 - holes.width + holes.prefix_bits(int.from_bytes(address, "big"))

    def is_gateway_address(self, address: bytes) -> bool:
        """Tell whether an address is the V-net's gateway's."""
        return self.vnet is not None and address in self.vnet.gateway_addresses

    def has_hosts_of(self, old: "VnetState") -> bool:
        """Tell whether the same nodes certainly host it as a state that is declared."""
        return self.vnet is not None and self.attachments_by_node is old.attachments_by_node

    def nodes_concerned(self) -> frozenset[str]:
        """Return the names of the nodes that host a member, an attachment or the far side of a route."""
        if self._concerned is None:
            routed = {route.via for route in self.routes.values() if route.via not in self.members}
            self._concerned = frozenset(self.hosted) | frozenset(self.attachments_by_node) | routed
        return self._concerned

    @property
    def nodes_left(self) -> frozenset[str]:
        """The names of the nodes that some member has left lately."""
        if self._nodes_left is None:
            self._nodes_left = frozenset(name for left in self.moves.values() for name, _ in left)
        return self._nodes_left

    def members_at(self, node: str) -> Sequence[str]:
        """Return the names of the members that have a place at a node."""
        if self._members_by_node is None:
            by_node: dict[str, list[str]] = {}
            for name, member in self.members.items():
                for place in member.nodes:
                    by_node.setdefault(place, []).append(name)
            self._members_by_node = by_node
        return self._members_by_node.get(node, ())

    @property
    def roamers(self) -> Mapping[tuple[bool, bytes], str]:
        """The names of the members that have several places, by each packed MAC (True) and address (False)
        that is theirs alone."""
        if self._roamers is None:
            self._roamers = {
                (family == FAMILY_MAC, address): name
                for name in self._roaming
                for family, address in keys_of(self.members[name].endpoint)
                if len(self.by_address[family].get(address, ())) == 1
            }
        return self._roamers

    def left_at_ms(self, member: Member, node: str) -> int | None:
        """Return when a member has left a node, None if it has not lately."""
        for name, when in self.moves.get(member.id, ()):
            if name == node and node != member.home_node:
                return when
        return None

    def resolve(self, endpoint: Endpoint) -> Member:
        """Find the V-net's attachments at an endpoint's places; a place without one on a foreign node is
        the node."""
        return Member(endpoint, self._resolved(endpoint))

    def _resolved(self, endpoint: Endpoint) -> Whereabouts:
        seen = self.sightings.get(endpoint.name, "") if len(endpoint.at) > 1 else ""
        key = (endpoint.at, endpoint.node, seen)
        found = self._whereabouts.get(key)
        if found is None:
            if len(self._whereabouts) >= _MEMO_MAX:
                self._whereabouts.clear()
            found = self._whereabouts[key] = self._find_whereabouts(endpoint, seen)
        return found

    def _find_whereabouts(self, endpoint: Endpoint, seen: str) -> Whereabouts:
        spots: list[Spot] = []
        for place in sorted(map(str, endpoint.at), key=lambda place: place != seen):
            attachment = self.attachments.get(place)
            if attachment is not None:
                spots.append(Spot(attachment.place.node, attachment.id))
        if endpoint.node:
            here = self.attachments_by_node.get(endpoint.node, ())
            spots.append(Spot(endpoint.node, here[0].id if here else 0))
        return Whereabouts(
            tuple(spots),
            frozenset(spot.node for spot in spots),
            frozenset(spot.attachment for spot in spots if spot.attachment),
        )

    def _moved(self, old: "VnetState", touched: set[str]) -> set[str]:
        """Return the names of the endpoints that are elsewhere only since attachments changed."""
        return {
            name
            for name, member in old.members.items()
            if name not in touched and self._resolved(member.endpoint).spots != member.spots
        }

    def _seen_elsewhere(self, old: "VnetState") -> set[str]:
        """Return the names of the members whose home is another one by what was seen of them."""
        names = {name for name, _ in old.sightings.items() ^ self.sightings.items()}
        return {
            name
            for name in names
            if (member := old.members.get(name)) is not None
            and self._resolved(member.endpoint).spots != member.spots
        }

    def _take_members(
        self, old: "VnetState", touched: set[str], endpoints: Mapping[str, Endpoint | None], at_ms: int
    ) -> None:
        """Make the members of those `touched`: endpoints that change, and others that are elsewhere."""
        self.moves = {
            id_: kept
            for id_, left in old.moves.items()
            if (kept := tuple(entry for entry in left if at_ms - entry[1] < MOVES_KEPT_MS))
        }
        if not touched:
            self.members, self.by_address, self.hosted = old.members, old.by_address, old.hosted
            self._roaming, self._roamers = old._roaming, old._roamers
            return
        if not old.members:
            self._take_first(old, endpoints)
            return
        self.hosted = dict(old.hosted)
        members = old.members.edit()
        by_address = {family: index.edit() for family, index in old.by_address.items()}
        for name in touched:
            before = old.members.get(name)
            endpoint = endpoints.get(name, before.endpoint if before else None)
            after = self.resolve(endpoint) if endpoint else None
            members.put(name, after)
            if before is not None:
                self._unindex(before, by_address)
            if after is not None:
                self._index(after, by_address)
            if before is not None and after is not None and before.id == after.id:
                gone = (before.nodes - after.nodes | {before.home_node}) - {after.home_node, ""}
                left = tuple((node, at_ms) for node in sorted(gone))
                kept = tuple(e for e in self.moves.get(after.id, ()) if e[0] not in gone | {after.home_node})
                if left or after.id in self.moves:
                    self.moves[after.id] = (*left, *kept)
            elif before is not None:
                self.moves.pop(before.id, None)
        self.members = members.done()
        several = {name for name in touched if (one := self.members.get(name)) and len(one.spots) > 1}
        self._roaming = old._roaming - touched | several
        self.by_address = {family: index.done() for family, index in by_address.items()}

    def _take_first(self, old: "VnetState", endpoints: Mapping[str, Endpoint | None]) -> None:
        """Make the members where there are none yet, as when a store is loaded: there may be a million."""
        self.hosted = dict(old.hosted)
        members: dict[str, Member] = {}
        tables: dict[int, dict[bytes, tuple[Member, ...]]] = {family: {} for family in old.by_address}
        for name, endpoint in endpoints.items():
            if endpoint is None:
                continue
            member = members[name] = self.resolve(endpoint)
            alone = (member,)  # one for all its keys
            for family, address in keys_of(endpoint):
                table = tables[family]
                if address in table:
                    table[address] = in_order((*table[address], member))
                else:
                    table[address] = alone
            for node in member.whereabouts.nodes:
                self.hosted[node] = self.hosted.get(node, 0) + 1
        self.members = Layered(members)
        self._roaming = frozenset(name for name, member in members.items() if len(member.spots) > 1)
        self.by_address = {family: Layered(table) for family, table in tables.items()}

    def _step_from(self, old: "VnetState", touched: set[str]) -> Step:
        """Say what a change of endpoints touched."""
        before, after = (
            {key for name in touched if name in members for key in keys_of(members[name].endpoint)}
            for members in (old.members, self.members)
        )
        routes = any(route.via in touched for route in self.routes.values())
        return Step(old.token, frozenset(touched), frozenset(before | after), before != after, routes)

    def changed_members(self, old: "VnetState") -> Iterable[str]:
        """Return the names of the members that differ, or may, from those of another state."""
        if self.members is old.members:
            return ()
        if self.step is not None and self.step.before is old.token:
            return self.step.names
        return old.members.keys() | self.members.keys()

    def _index(self, member: Member, by_address: Mapping[int, Edit[bytes, tuple[Member, ...]]]) -> None:
        alone = (member,)  # one for all its keys
        for family, address in keys_of(member.endpoint):
            index = by_address[family]
            others = index.get(address)
            if others is None:
                index.put(address, alone)
            else:
                index.put(address, in_order((*others, member)))
        for node in member.nodes:
            self.hosted[node] = self.hosted.get(node, 0) + 1

    def _unindex(self, member: Member, by_address: Mapping[int, Edit[bytes, tuple[Member, ...]]]) -> None:
        for family, address in keys_of(member.endpoint):
            index = by_address[family]
            members = tuple(one for one in index.get(address, ()) if one.id != member.id)
            index.put(address, members or None)
        for node in member.nodes:
            self.hosted[node] -= 1
            if not self.hosted[node]:
                del self.hosted[node]

    def _find_holes(self, family: int) -> Holes:
        ranges = []
        for address in self.vnet.gateway_addresses if self.vnet is not None else ():
            if any(address[:12]) == (family == FAMILY_IPV6):
                number = int.from_bytes(address, "big")
                ranges.append((number, number))
        for route in self.routes.values():
            if route.prefix.version == family:
                low = int.from_bytes(route.packed, "big")
                ranges.append((low, low + route.prefix.num_addresses - 1))
        known = (int.from_bytes(address, "big") for address in self.by_address[family])
        return Holes(known, ranges, 32 if family == FAMILY_IPV4 else 128)

    def _take_holes(self, old: "VnetState", keys: Iterable[tuple[int, bytes]]) -> None:
        """Take over the holes that were found, where nothing but endpoints by these keys changed."""
        for family, holes in old._holes.items():
            before, after = (state.by_address[family] for state in (old, self))
            touched = [(int.from_bytes(key, "big"), key) for one, key in keys if one == family]
            come = [number for number, key in touched if key in after and key not in before]
            gone = [number for number, key in touched if key in before and key not in after]
            self._holes[family] = holes.changed(come, gone) if come or gone else holes


def _put(table: dict[str, Any], name: str, value: object | None) -> None:
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value
