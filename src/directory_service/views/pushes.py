# SPDX-License-Identifier: Apache-2.0
"""What nodes are told when a snapshot follows another: pure, the same in whatever thread."""

from collections.abc import Set, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from directory_client.wire.messages import pack
from directory_service.kinds.records import FABRIC_KINDS, is_record_key
from directory_service.kinds.registry import TOLD
from directory_service.model.fabric import nodes_between
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.settings import Settings
from directory_service.store.contract import Commit
from directory_service.views.difference import Difference
from directory_service.views.scope import find_changes
from directory_service.views.tightened import Tightened, find_tightened
from directory_service.views.view import hosts

OPERATIONS_MAX = 2_000  # of one push, some 10 ms to pack
_TOLD = frozenset(kind.name for kind in TOLD)
RESYNC = {"op": "resync"}  # instead of more: the node asks for a snapshot, which comes in pieces


@dataclass(frozen=True)
class Push:
    """What one (node, V-net) is told of a change: operations of docs/protocol.md, section 2.3, in order."""

    node_id: int
    vni: int
    revision: int
    time_ms: int
    ops: list[dict[str, Any]]
    facts: int = 0  # orders pushes and answers of one revision

    @cached_property
    def packed(self) -> bytes:
        """The operations as they are sent."""
        return pack(self.ops)


class Concerned(NamedTuple):
    """Names of V-nets; `touched` are those that a commit has changed records of. `nodes`: a link of these
    may differ."""

    names: set[str]
    touched: set[str]
    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Told:
    """What nodes are told of a change, and what it forbids, told to anybody or not."""

    pushes: list[Push]
    tightened: list[Tightened]

    def packed(self) -> "Told":
        """Pack what is told here and now, so that whoever sends it need not."""
        for push in self.pushes:
            _ = push.packed
        return self


def push_commit(before: Snapshot, after: Snapshot, commit: Commit, settings: Settings) -> Told:
    """Return what to tell of a commit."""
    names, touched, nodes = concerned_by(before, after, commit)
    return _push(before, after, names, touched, commit.time_ms, settings, nodes)


def concerned_by(before: Snapshot, after: Snapshot, commit: Commit) -> Concerned:
    """Return what a commit that led from one snapshot to the next concerns."""
    touched: set[str] = set()
    others: set[str] = set()
    of_fabric = False
    for change in commit.changes:
        if is_record_key(change.key):
            kind, _, rest = change.key.partition("/")
            if kind in FABRIC_KINDS:
                of_fabric = True
            else:
                name, _, other = rest.partition("/")
                touched.add(name)
                if kind in _TOLD and (other in before.vnets or other in after.vnets):  # is told, too
                    others.add(other)
    nodes = nodes_between(before.fabric, after.fabric) if of_fabric else frozenset()
    return Concerned(touched | others | _concerned(before, after, nodes), touched, nodes)


def push_facts(before: Snapshot, after: Snapshot, time_ms: int, settings: Settings) -> Told:
    """Return what to tell when gateways say something else of themselves, or where endpoints are."""
    nodes = nodes_between(before.fabric, after.fabric) if before.fabric is not after.fabric else frozenset()
    names = _concerned(before, after, nodes)
    if before.vnets is not after.vnets:
        names |= {name for name, state in after.vnets.items() if before.vnets.get(name) is not state}
    return _push(before, after, names, set(), time_ms, settings, nodes)


def push_reload(before: Snapshot, after: Snapshot, time_ms: int, settings: Settings) -> Told:
    """Return what to tell when the commits between are not kept any more: anything may differ."""
    return _push(before, after, {*before.vnets, *after.vnets}, set(), time_ms, settings, None)


def _push(
    before: Snapshot,
    after: Snapshot,
    names: set[str],
    touched: set[str],
    time_ms: int,
    settings: Settings,
    nodes: frozenset[str] | None,
) -> Told:
    """Return what nodes must be told; `touched` V-nets tell every host, others those for whom something
    differs. `nodes`: the only ones of which a link may differ (None: any)."""
    told = Told([], [])
    pushes = told.pushes
    for name in sorted(names):
        old, new = before.vnets.get(name), after.vnets.get(name)
        only = nodes if old is new else None
        scopes = find_changes(before, after, name, only)
        if (tightened := find_tightened(before, after, name, scopes)) is not None:
            told.tightened.append(tightened)
        hosting = {*(old.attachments_by_node if old else ()), *(new.attachments_by_node if new else ())}
        difference = Difference(before, after, name, settings, scopes, only)
        are_many = _are_many(old, new)
        for node in sorted(hosting):
            if (are_many and _is_large(old, new, node)) or (
                only and _are_many_elsewhere(before, after, old, node, only)
            ):
                ops: list[dict[str, Any]] | None = [RESYNC]
            else:
                ops = difference.of(node)
                if ops is not None and len(ops) > OPERATIONS_MAX:
                    ops = [RESYNC]
            found = after.fabric.nodes.get(node) or before.fabric.nodes.get(node)
            if ops is None or found is None or not (ops or name in touched):
                continue
            state = new if new and new.vnet and hosts(new, node) else old
            if old and new and old.vnet and new.vnet and old.vnet.vni != new.vnet.vni and hosts(old, node):
                gone = {"op": "vnet_removed", "vni": old.vnet.vni, "object_id": old.vnet.id}
                pushes.append(Push(found.id, old.vnet.vni, after.revision, time_ms, [gone], after.facts))
            if state and state.vnet:
                pushes.append(Push(found.id, state.vnet.vni, after.revision, time_ms, ops, after.facts))
    return told


def _are_many(old: VnetState | None, new: VnetState | None) -> bool:
    """Tell whether some node may have so many news that a push of them would keep others waiting."""
    return old is not new and any(one is not None and len(one.members) > OPERATIONS_MAX for one in (old, new))


def _is_large(old: VnetState | None, new: VnetState | None, node: str) -> bool:
    """Tell whether so many members are news to a node that a push of them would keep others waiting."""
    if new is None or not hosts(new, node):
        return False
    if old is None or not hosts(old, node):
        return len(new.members) > OPERATIONS_MAX
    changed = new.changed_members(old)
    return isinstance(changed, Sized) and len(changed) > OPERATIONS_MAX


def _are_many_elsewhere(
    before: Snapshot, after: Snapshot, state: VnetState | None, node: str, nodes: Set[str]
) -> bool:
    """Tell whether links that differ, of which one end is among `nodes`, lead a node to so many members of a
    V-net that does not change itself. Comparing would make a location of each twice."""
    here, then = before.fabric.nodes.get(node), after.fabric.nodes.get(node)
    if state is None or state.vnet is None or here is None or then is None:
        return False
    others = state.nodes_concerned() if node in nodes else state.nodes_concerned() & nodes
    if sum(state.hosted.get(name, 0) for name in others) <= OPERATIONS_MAX:
        return False
    count, trust = 0, state.vnet.min_trust
    for name in others:
        one, other = before.fabric.nodes.get(name), after.fabric.nodes.get(name)
        if name == node or one is None or other is None:
            continue
        if before.fabric.link(here, one, trust).tunnel != after.fabric.link(then, other, trust).tunnel:
            count += state.hosted.get(name, 0)
    return count > OPERATIONS_MAX


def _concerned(before: Snapshot, after: Snapshot, nodes: Set[str]) -> set[str]:
    """Return the names of the V-nets that links of these nodes concern."""
    if not nodes:
        return set()
    return {
        name
        for one in (before, after)
        for name, state in one.vnets.items()
        if not nodes.isdisjoint(state.nodes_concerned())
        or (state.vnet is not None and not nodes.isdisjoint(state.vnet.relays))
        or any(node in nodes for left in state.moves.values() for node, _ in left)
    }
