# SPDX-License-Identifier: Apache-2.0
"""What is another one in a node's view of a V-net, from one snapshot to the next.

A change of a V-net is told to each node that hosts it, so that what is the same for all of them is found
once: which members and routes are others, whether anything but locations may differ, and the scopes.
"""

from collections.abc import Set
from functools import cached_property
from typing import Any

from directory_service.kinds.registry import TOLD
from directory_service.model.member import Member
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.settings import Settings
from directory_service.views.announcement import announcements, may_announce
from directory_service.views.scope import ScopedChange, find_changes
from directory_service.views.view import (
    Operation,
    base_of,
    build_view,
    hosts,
    locations_of,
    locations_of_all,
    scope_operation,
)

_REMOVERS = {  # what undoes an operation, and the fields that name it
    "location": ("location_removed", ("vni", "object_id", "way")),
    "ingress": (
        "ingress_removed",
        ("vni", "node_id", "local", "remote", "protocol", "wire_id", "udp_port", "relay", "foreign", "check"),
    ),
    **{name: undone for kind in TOLD for name, undone in kind.untold.items()},
    "attachment": ("attachment_removed", ("vni", "object_id", "port", "vlan", "mtu_bytes")),
    "tunnel": ("tunnel_removed", ("object_id",)),  # behind all that may lead there
}


class Difference:
    """Of one V-net. `scopes` are those of find_changes, if at hand. `nodes` are the only ones of which a link
    may differ, and nothing else does (None: anything may): then only what leads to them is looked at, unless
    the node itself is among them."""

    def __init__(
        self,
        before: Snapshot,
        after: Snapshot,
        name: str,
        settings: Settings,
        scopes: list[ScopedChange] | None = None,
        nodes: Set[str] | None = None,
    ) -> None:
        self._before, self._after, self._settings, self._nodes = before, after, settings, nodes
        self._name = name
        self._old, self._new = before.vnets.get(name), after.vnets.get(name)
        self._found = find_changes(before, after, name) if scopes is None else scopes

    @cached_property
    def _changed(self) -> "_Changed | None":
        old, new = self._old, self._new
        if old is None or new is None:
            return None
        return _Changed(self._before, self._after, old, new, self._name)

    @cached_property
    def _scopes(self) -> list[tuple[str, Operation]]:
        vni = self._new.vnet.vni if self._new is not None and self._new.vnet is not None else 0
        return [(one.node, scope_operation(one, vni)) for one in self._found]

    def of(self, node_name: str) -> list[Operation] | None:
        """Return the operations for a node; None if it hosts the V-net in neither. An empty list: only the
        revision is news."""
        old, new, before, after = self._old, self._new, self._before, self._after
        was, now = before.fabric.nodes.get(node_name), after.fabric.nodes.get(node_name)
        hosted = old is not None and was is not None and hosts(old, node_name)
        hosting = new is not None and now is not None and hosts(new, node_name)
        if not hosting or new is None or now is None or new.vnet is None:
            if hosted and old is not None and old.vnet is not None:
                return [{"op": "vnet_removed", "vni": old.vnet.vni, "object_id": old.vnet.id}]
            return None
        if not hosted or old is None or was is None or old.vnet is None:
            moved = [] if old is None else announcements(old, new, node_name, new.changed_members(old))
            return [*build_view(after, new, now, self._settings), *moved]
        if old.vnet.vni != new.vnet.vni or (changed := self._changed) is None:
            return build_view(after, new, now, self._settings)
        only = None if self._nodes is None or old is not new or node_name in self._nodes else self._nodes
        if only is not None:
            there, via = _led_to(new, only)
            a = locations_of(before, old, was, old.members.get_all(there), via)
            b = locations_of(after, new, now, new.members.get_all(there), via)
        elif changed.anywhere:
            a, b = locations_of_all(before, old, was), locations_of_all(after, new, now)
        else:
            a = locations_of(before, old, was, changed.members_before, changed.routes)
            b = locations_of(after, new, now, changed.members_after, changed.routes)
        if not changed.has_same_base:
            a = base_of(before, old, was, self._settings, only) | a
            b = base_of(after, new, now, self._settings, only) | b
        ops = _from_to(a, b)
        if changed.announced:
            ops += announcements(old, new, node_name, changed.announced)
        ops += [operation for node, operation in self._scopes if node in ("", node_name)]
        return ops


class _Changed:
    """What is the same for all nodes. `anywhere`: any member's or route's location may be another one."""

    def __init__(self, before: Snapshot, after: Snapshot, old: VnetState, new: VnetState, name: str) -> None:
        self.has_same_base = _has_same_base(before, after, old, new) and not any(
            one.naming(kind.name, name) for one in (before, after) for kind in TOLD
        )
        self.anywhere = (
            before.fabric is not after.fabric
            or old.attachments_by_node is not new.attachments_by_node
            or old.vnet is not new.vnet
        )
        changed = new.changed_members(old)
        self.announced = [name for name in changed if may_announce(old, new, name)]
        self.members_before: list[Member | None] = []
        self.members_after: list[Member | None] = []
        self.routes: list[str] = []
        if self.anywhere:
            return
        names = [name for name in changed if old.members.get(name) is not new.members.get(name)]
        self.members_before, self.members_after = old.members.get_all(names), new.members.get_all(names)
        for name in old.routes.keys() | new.routes.keys():
            one, other = old.routes.get(name), new.routes.get(name)
            if one is not other or (other is not None and other.via in names):
                self.routes.append(name)


def compare_views(
    before: Snapshot,
    after: Snapshot,
    name: str,
    node_name: str,
    settings: Settings,
    scopes: list[ScopedChange] | None = None,
    nodes: Set[str] | None = None,
) -> list[Operation] | None:
    """Return the operations of one node: see Difference."""
    return Difference(before, after, name, settings, scopes, nodes).of(node_name)


def _from_to(a: dict[tuple[Any, ...], Operation], b: dict[tuple[Any, ...], Operation]) -> list[Operation]:
    """Return the operations that lead from one view to another."""
    sets = [op for key, op in b.items() if _differs(a.get(key), op)]
    if a.keys() <= b.keys():
        return sets
    gone = [op for kind in _REMOVERS for key, op in a.items() if key not in b and op["op"] == kind]
    # What is removed goes last, so that what moves is never nowhere; but two cannot have one place.
    taken = {place for op in sets if (place := _place(op)) is not None}
    first = [_removal(op) for op in gone if _place(op) in taken]
    return [*first, *sets, *(_removal(op) for op in gone if _place(op) not in taken)]


def _place(op: Operation) -> tuple[Any, ...] | None:
    """Return what an ingress or attachment occupies at the data plane: only one of them can have it."""
    if op["op"] == "ingress":
        return ("ingress", op["local"], op["remote"], op["protocol"], op["wire_id"])
    if op["op"] == "attachment":
        return ("attachment", op["port"], op["vlan"])
    return None


def _removal(op: Operation) -> Operation:
    """Return the operation that undoes another."""
    remover, fields = _REMOVERS[op["op"]]
    return {"op": remover, **{field: op[field] for field in fields}}


def _differs(one: Operation | None, other: Operation) -> bool:
    """Tell whether an operation is news; a higher revision alone is not."""
    if one is None:
        return True
    return {**one, "revision": 0} != {**other, "revision": 0}


def _has_same_base(before: Snapshot, after: Snapshot, old: VnetState, new: VnetState) -> bool:
    """Tell whether all but locations is certainly the same, as it is when an endpoint changes: it grows with
    the nodes of a V-net, and each of these would make it twice."""
    return (
        before.fabric is after.fabric
        and old.vnet is new.vnet
        and old.attachments_by_node is new.attachments_by_node
        and not any(state.tables[kind.name] for state in (old, new) for kind in TOLD)
        and old.nodes_concerned() == new.nodes_concerned()
    )


def _led_to(state: VnetState, nodes: Set[str]) -> tuple[list[str], list[str]]:
    """Return the names of the members at these nodes, and of the routes that lead there."""
    there = {name for node in nodes for name in state.members_at(node)}
    routes = state.routes.items()
    return list(there), [name for name, route in routes if route.via in nodes or route.via in there]
