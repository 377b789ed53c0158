# SPDX-License-Identifier: Apache-2.0
"""From two snapshots to the scopes of what changed in a V-net between them.

Every key whose decision differs, on any node that hosts the V-net in both, is covered by a scope. Where a
right was lost the kind is tighten. Refusals that speak of places and not of rights (same_segment,
relay_loop, not_here) come with a move and are no loss: the location itself is told along with the change,
so that nothing goes astray until the flow has been asked again.

Where it is cheap the scopes are exact, elsewhere wider; more than SCOPES_MAX are drawn together.
"""

import ipaddress
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from directory_client.vocabulary.addresses import ZERO, pack_network
from directory_client.vocabulary.numbers import ChangeKind
from directory_client.vocabulary.scopes import Scope
from directory_service.decide.decide import gateway_answerer
from directory_service.decide.locate import locate, wire_id
from directory_service.kinds.registry import WEIGHING
from directory_service.kinds.route import Route
from directory_service.kinds.rule import ALL_PORTS, Ranges, Rule
from directory_service.model.member import Holder, Member, keys_of
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.views.rule_changes import find_rule_changes

SCOPES_MAX = 64
_SIDES_MAX = 8
_MEMBERS_MAX = 16
_RANGES_MAX = 8

Prefix = tuple[bytes, int]
ANY: Prefix = (ZERO, 0)


class ScopedChange(NamedTuple):
    """A change and the keys that it may have touched. `located`: what it forbids goes with a location that is
    removed, so who is told of that needs to ask again only. `node`: it is for this one alone, and takes no
    right away."""

    kind: ChangeKind
    scope: Scope
    located: bool = False
    node: str = ""


def find_changes(
    before: Snapshot, after: Snapshot, name: str, nodes: Set[str] | None = None
) -> list[ScopedChange]:
    """Return the scopes of what changed in a V-net; empty if it is not in both, or has another VNI.

    `nodes`: the only ones of which a link may differ (None: any).
    """
    old, new = before.vnets.get(name), after.vnets.get(name)
    if old is None or new is None or old.vnet is None or new.vnet is None or old.vnet.vni != new.vnet.vni:
        return []
    found = _Finder(before, after, old, new, nodes)
    found.compare()
    return draw_together(found.changes)


def draw_together(changes: Iterable[ScopedChange]) -> list[ScopedChange]:
    """Remove doubles; if too many are left, cover those of a kind by one."""
    unique = list(dict.fromkeys(changes))
    if len(unique) <= SCOPES_MAX:
        return unique
    alike: dict[tuple[ChangeKind, str], list[Scope]] = {}
    for change in sorted(unique, key=lambda one: (one.kind, one.node)):
        alike.setdefault((change.kind, change.node), []).append(change.scope)
    return [ScopedChange(kind, cover(scopes), node=node) for (kind, node), scopes in alike.items()]


def cover(scopes: Sequence[Scope]) -> Scope:
    """Return one scope that contains all of some."""
    both = [*scopes, *(scope.reversed() for scope in scopes if scope.either_direction)]
    source = common_prefix((scope.source, scope.source_bits) for scope in both)
    destination = common_prefix((scope.destination, scope.destination_bits) for scope in both)
    protocols = {scope.protocol for scope in scopes}
    return Scope(
        *source,
        *destination,
        protocols.pop() if len(protocols) == 1 else 0,
        connections=all(scope.connections for scope in scopes),
        judged=all(scope.judged for scope in scopes),
        ip=all(scope.ip for scope in scopes),
    )


def common_prefix(prefixes: Iterable[Prefix]) -> Prefix:
    """Return the longest prefix that contains all of them."""
    number, bits = -1, 128
    for packed, length in prefixes:
        value = int.from_bytes(packed, "big")
        if number < 0:
            number, bits = value, length
        bits = min(bits, length, 128 - (number ^ value).bit_length())
    if number < 0:
        return ANY
    shift = 128 - bits
    return (number >> shift << shift).to_bytes(16, "big"), bits


class _Finder:
    def __init__(
        self,
        before: Snapshot,
        after: Snapshot,
        old: VnetState,
        new: VnetState,
        nodes: Set[str] | None = None,
    ) -> None:
        self.nodes = nodes
        self.before, self.after, self.old, self.new = before, after, old, new
        self.changes: list[ScopedChange] = []

    def compare(self) -> None:
        self._compare_vnet()
        changed = self._compare_members()
        self._compare_routes(changed)
        self._compare_rules()
        for kind in WEIGHING:
            before, after = self.old.tables[kind.name], self.new.tables[kind.name]
            if kind.weighs is not None and (weight := kind.weighs(before, after)) is not None:
                self._add(weight, ANY, ANY)
        if gateway_answerer(self.before, self.old) != gateway_answerer(self.after, self.new):
            for address in self.new.vnet.gateway_addresses if self.new.vnet else ():
                self._add(ChangeKind.TIGHTEN, ANY, (address, 128))
        if self.before.fabric is not self.after.fabric:
            self._compare_links()

    def _add(
        self,
        kind: ChangeKind,
        source: Prefix,
        destination: Prefix,
        either: bool = False,
        judged: bool = False,
    ) -> None:
        scope = Scope(*source, *destination, either_direction=either, judged=judged)
        self.changes.append(ScopedChange(kind, scope))

    def _around(self, kind: ChangeKind, prefix: Prefix, judged: bool = False) -> None:
        self._add(kind, prefix, ANY, either=True, judged=judged)

    def _compare_vnet(self) -> None:
        old, new = self.old.vnet, self.new.vnet
        if old is new or old is None or new is None:
            return
        if old.id != new.id or new.min_trust > old.min_trust or old.relays - new.relays:
            self._add(ChangeKind.TIGHTEN, ANY, ANY)
        elif new.min_trust < old.min_trust or old.relays != new.relays:
            self._add(ChangeKind.LOOSEN, ANY, ANY)
        if old.gateway_mac != new.gateway_mac:
            self._add(ChangeKind.MOVE, ANY, ANY)
            for mac in (old.gateway_mac, new.gateway_mac):
                self._add(ChangeKind.TIGHTEN, ANY, (mac.rjust(16, b"\0"), 128))
        for address in {*old.gateway_addresses} ^ {*new.gateway_addresses}:
            self._around(ChangeKind.TIGHTEN, (address, 128))

    def _compare_members(self) -> set[str]:
        """Return the names of the members whose whereabouts changed."""
        moved: set[str] = set()
        old, new = self.old.members, self.new.members
        for name in self.new.changed_members(self.old):
            one, other = old.get(name), new.get(name)
            if one is other or one == other:
                continue
            if one is None or other is None or one.id != other.id:
                moved.add(name)
                if one is not None:
                    self._remove_keys(one)
                if other is not None:
                    self._add_keys(other, keys_of(other.endpoint))
            elif self._compare_member(one, other):
                moved.add(name)
        return moved

    def _remove_keys(self, one: Member) -> None:
        """Of an address that others go on serving, only what went to this one ends."""
        for family, address in keys_of(one.endpoint):
            left = self.new.by_address[family].get(address, ())
            if left and len(self.old.by_address[family].get(address, ())) > 1:
                self._add(ChangeKind.TIGHTEN, (address, 128), ANY)
                scope = Scope(*ANY, address, 128)
                self.changes.append(ScopedChange(ChangeKind.TIGHTEN, scope, located=True))
            else:
                self._around(ChangeKind.TIGHTEN, (address, 128))

    def _add_keys(self, other: Member, keys: Iterable[tuple[int, bytes]]) -> None:
        """Who joins others that serve an address takes no connection over, unless it is preferred."""
        for family, address in keys:
            holders = self.old.holders(family, address)
            served = [holder.member.endpoint.preference for holder in holders if holder.member]
            if served and len(served) == len(holders) and other.endpoint.preference <= min(served):
                self._add(ChangeKind.TIGHTEN, (address, 128), ANY)
                self._add(ChangeKind.LOOSEN, ANY, (address, 128))
            else:
                self._around(ChangeKind.TIGHTEN if holders else ChangeKind.LOOSEN, (address, 128))

    def _compare_member(self, one: Member, other: Member) -> bool:
        before, after = set(keys_of(one.endpoint)), set(keys_of(other.endpoint))
        for _, address in before - after:
            self._around(ChangeKind.TIGHTEN, (address, 128))
        self._add_keys(other, after - before)
        stayed = [(address, 128) for _, address in before & after]
        whereabouts = one.spots != other.spots or one.endpoint.mac != other.endpoint.mac
        if whereabouts:
            target = self._kind_as_target(Holder(one, None), Holder(other, None))
            for prefix in stayed:
                self._add_as_source(one, other, prefix)
                self._add(ChangeKind.TIGHTEN if self._is_shared(prefix) else target, ANY, prefix)
        kind = self._kind_of_groups(one.endpoint.groups, other.endpoint.groups)
        if kind is not None:
            for prefix in stayed:
                self._around(kind, prefix, judged=True)
        if one.endpoint.preference != other.endpoint.preference:
            for _, address in other.endpoint.services:
                self._around(ChangeKind.TIGHTEN, (address, 128))
        return whereabouts

    def _is_shared(self, prefix: Prefix) -> bool:
        """Tell whether several serve an address: then another may be chosen, to whom other rules apply."""
        address, bits = prefix
        indexes = (*self.old.by_address.values(), *self.new.by_address.values())
        return bits == 128 and any(len(index.get(address, ())) > 1 for index in indexes)

    def _add_as_source(self, one: Member, other: Member, prefix: Prefix) -> None:
        """Who was seen at another of its places may send from all of them as before. Where it has left its
        flows end: if it sends there again, that is a question, which says that it is back."""
        lost = one.attachments - other.attachments or one.nodes - other.nodes
        same = sorted(one.spots) == sorted(other.spots) and one.endpoint.mac == other.endpoint.mac
        if not same:
            self._add(ChangeKind.TIGHTEN if lost else ChangeKind.LOOSEN, prefix, ANY)
        elif one.home_node:
            left = ScopedChange(ChangeKind.TIGHTEN, Scope(*prefix, *ANY), node=one.home_node)
            self.changes.append(left)

    def _kind_as_target(self, one: Holder, other: Holder) -> ChangeKind:
        """Tighten if some gateway reached it and no longer does."""
        for name in self.old.attachments_by_node.keys() & self.new.attachments_by_node.keys():
            was, now = self.before.fabric.nodes.get(name), self.after.fabric.nodes.get(name)
            if was is None or now is None:
                return ChangeKind.TIGHTEN
            if (
                locate(self.before, self.old, was, one).location
                and not locate(self.after, self.new, now, other).location
            ):
                return ChangeKind.TIGHTEN
        return ChangeKind.MOVE

    def _kind_of_groups(self, before: frozenset[str], after: frozenset[str]) -> ChangeKind | None:
        kind = None
        for groups, rules, loses in (
            (before - after, self.old.rule_set.rules, True),
            (after - before, self.new.rule_set.rules, False),
        ):
            selectors = {"group:" + group for group in groups}
            for rule in rules if selectors else ():
                if rule.source in selectors or rule.destination in selectors:
                    if rule.refuses != loses:
                        return ChangeKind.TIGHTEN
                    kind = ChangeKind.LOOSEN
        return kind

    def _compare_routes(self, moved: set[str]) -> None:
        old, new = self.old.routes, self.new.routes
        for name in old.keys() | new.keys():
            one, other = old.get(name), new.get(name)
            if one is None and other is not None:
                covered = self.old.find_route(other.prefix.version, other.packed) is not None
                self._around(ChangeKind.TIGHTEN if covered else ChangeKind.LOOSEN, _prefix_of(other))
            elif one is not None and (other is None or one.id != other.id):
                self._around(ChangeKind.TIGHTEN, _prefix_of(one))
            elif one is not None and other is not None and (one != other or other.via in moved):
                was = Holder(self.old.members.get(one.via), one)
                now = Holder(self.new.members.get(other.via), other)
                self._add(ChangeKind.TIGHTEN, _prefix_of(other), ANY)
                self._add(self._kind_as_target(was, now), ANY, _prefix_of(other))

    def _compare_rules(self) -> None:
        for change in find_rule_changes(self.old, self.new):
            rule, ports = change.rule, change.ports
            if len(ports) > _RANGES_MAX:
                ports = ((min(low for low, _ in ports), max(high for _, high in ports)),)
            base = Scope(protocol=rule.protocol, connections=not change.pairs, judged=True, ip=not rule.plain)
            for source in selected_prefixes(change.state, rule.source):
                for destination in selected_prefixes(change.state, rule.destination):
                    scope = _between(base, source, destination)
                    if change.answers:
                        back = replace(scope.reversed(), source_port=bool(rule.ports))
                        self._add_answers(change.kind, back, ports)
                    else:
                        self._add_ports(change.kind, scope, rule, ports)

    def _add_ports(self, kind: ChangeKind, scope: Scope, rule: Rule, ports: Ranges) -> None:
        if ports == ALL_PORTS:
            one = replace(scope, either_direction=rule.both_directions)
            self.changes.append(ScopedChange(kind, one))
            return
        for low, high in ports:
            one = replace(scope, port_low=low, port_high=high)
            self.changes.append(ScopedChange(kind, one))
            if rule.both_directions:  # on the way back the ports of the rule are source ports
                self.changes.append(ScopedChange(kind, replace(one.reversed(), source_port=True)))

    def _add_answers(self, kind: ChangeKind, scope: Scope, ports: Ranges) -> None:
        for low, high in ports:
            self.changes.append(ScopedChange(kind, replace(scope, port_low=low, port_high=high)))

    def _compare_links(self) -> None:
        hosts = self.old.attachments_by_node.keys() | self.new.attachments_by_node.keys()
        left = {node for state in (self.old, self.new) for moves in state.moves.values() for node, _ in moves}
        relays = self.new.vnet.relays if self.new.vnet else frozenset()
        for there in self.old.nodes_concerned() | self.new.nodes_concerned() | left | relays:
            kind: ChangeKind | None = None
            for here in hosts if self.nodes is None or there in self.nodes else hosts & self.nodes:
                if here != there:
                    kind = _stronger(kind, self._compare_link(here, there))
            if kind is not None:
                for prefix in self._prefixes_at(there):
                    self._around(ChangeKind.TIGHTEN if self._is_shared(prefix) else kind, prefix)

    def _compare_link(self, here: str, there: str) -> ChangeKind | None:
        old, new = self.before.fabric.nodes, self.after.fabric.nodes
        h0, t0, h1, t1 = old.get(here), old.get(there), new.get(here), new.get(there)
        if h0 is None or t0 is None or h1 is None or t1 is None or h0.id != h1.id or t0.id != t1.id:
            return ChangeKind.TIGHTEN
        if self.old.vnet is None or self.new.vnet is None:
            return ChangeKind.TIGHTEN
        was = self.before.fabric.link(h0, t0, self.old.vnet.min_trust)
        now = self.after.fabric.link(h1, t1, self.new.vnet.min_trust)
        if was.tunnel is not None and now.tunnel is None:
            return ChangeKind.TIGHTEN
        if was.tunnel is None and now.tunnel is None:
            return None if was.reason == now.reason else ChangeKind.LOOSEN
        if was.tunnel is None or now.tunnel is None:
            return ChangeKind.LOOSEN
        same = was.tunnel.object_id == now.tunnel.object_id and wire_id(self.old, t0) == wire_id(self.new, t1)
        return None if same else ChangeKind.MOVE

    def _prefixes_at(self, node: str) -> list[Prefix]:
        """Return what lives at a node, or has left it lately, or any if that is much."""
        if self.new.vnet is not None and node in self.new.vnet.relays:
            return [ANY]
        found: list[Prefix] = []
        for state in (self.old, self.new):
            if state.hosted.get(node, 0) > _MEMBERS_MAX:
                return [ANY]
            here = set(state.members_at(node))
            if state.moves:
                here |= {
                    name
                    for name, member in state.members.items()
                    if member.id in state.moves and state.left_at_ms(member, node) is not None
                }
            found += [(address, 128) for name in here for _, address in keys_of(state.members[name].endpoint)]
            found += [
                _prefix_of(route) for route in state.routes.values() if route.via == node or route.via in here
            ]
        unique = list(dict.fromkeys(found))
        return unique if len(unique) <= 4 * _MEMBERS_MAX else [ANY]


def selected_prefixes(state: VnetState, selector: str) -> list[Prefix]:
    """Return prefixes that contain all that a rule's selector selects."""
    if selector == "any":
        return [ANY]
    if "/" in selector:
        return [pack_network(ipaddress.ip_network(selector))]
    if selector.startswith("group:"):
        group = selector.removeprefix("group:")
        members = [member for member in state.members.values() if group in member.endpoint.groups]
    else:
        members = [state.members[selector]] if selector in state.members else []
    by_family: dict[int, list[Prefix]] = {}
    for member in members:
        for family, address in keys_of(member.endpoint):
            by_family.setdefault(family, []).append((address, 128))
    out: list[Prefix] = []
    for prefixes in by_family.values():
        out += prefixes if len(prefixes) <= _SIDES_MAX else [common_prefix(prefixes)]
    return out


def _prefix_of(route: Route) -> Prefix:
    return route.packed, route.bits


def _between(scope: Scope, source: Prefix, destination: Prefix) -> Scope:
    return replace(
        scope,
        source=source[0],
        source_bits=source[1],
        destination=destination[0],
        destination_bits=destination[1],
    )


def _stronger(one: ChangeKind | None, other: ChangeKind | None) -> ChangeKind | None:
    """Tighten covers all; a move and a loosening are asked again alike, and are said to be a move."""
    if one is None or other is None:
        return one or other
    return ChangeKind.TIGHTEN if ChangeKind.TIGHTEN in (one, other) else max(one, other)
