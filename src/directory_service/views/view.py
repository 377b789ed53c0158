# SPDX-License-Identifier: Apache-2.0
"""What one node needs to know of one V-net: the operations of docs/protocol.md, section 2.3.

A node hosts a V-net if it has an attachment there. Its view holds what it needs to recognize packets
(attachments, ingresses), to send them (tunnels), and where everything is (locations, applied by the node
only where in use). Ingresses and tunnels exist for nodes that the V-net may use only: a path that is not
trusted enough brings nothing in. Addresses and MACs in operations are bytes, 16 and 6 long.
"""

from collections.abc import Collection, Iterable, Iterator, Set
from functools import partial
from typing import Any

from directory_client.vocabulary.addresses import ZERO, looks_ipv6
from directory_client.vocabulary.numbers import ChangeKind
from directory_client.vocabulary.scopes import Scope
from directory_service.decide.locate import find_location, object_of, wire_id
from directory_service.kinds.node import Node
from directory_service.kinds.registry import TOLD
from directory_service.kinds.route import Route
from directory_service.kinds.vnet import Vnet
from directory_service.model.fabric import Fabric
from directory_service.model.member import Holder, Member, Whereabouts
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.settings import Settings
from directory_service.views.announcement import announcements
from directory_service.views.scope import ScopedChange, find_changes

Operation = dict[str, Any]
View = dict[tuple[Any, ...], Operation]
SLICE = 500  # members or routes

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


def build_view(snapshot: Snapshot, state: VnetState, node: Node, settings: Settings) -> list[Operation]:
    """Return the operations that build up a node's view of a V-net; empty if it does not host it."""
    if not hosts(state, node.name):
        return []
    return [
        *_base(snapshot, state, node, settings).values(),
        *_locations(snapshot, state, node, None).values(),
    ]


def build_slices(
    snapshot: Snapshot, state: VnetState, node: Node, settings: Settings
) -> Iterator[list[Operation]]:
    """Yield the same operations in slices that take some milliseconds each, made when they are asked for."""
    if not hosts(state, node.name):
        return
    yield list(_base(snapshot, state, node, settings).values())
    members, routes = list(state.members), list(state.routes)
    for at in range(0, len(members), SLICE):
        yield list(_locations(snapshot, state, node, (members[at : at + SLICE], ())).values())
    for at in range(0, len(routes), SLICE):
        yield list(_locations(snapshot, state, node, ((), routes[at : at + SLICE])).values())


def hosts(state: VnetState, node: str) -> bool:
    """Tell whether a node hosts a V-net."""
    return state.vnet is not None and node in state.attachments_by_node


def compare_views(
    before: Snapshot,
    after: Snapshot,
    name: str,
    node_name: str,
    settings: Settings,
    scopes: list[ScopedChange] | None = None,
    nodes: Set[str] | None = None,
) -> list[Operation] | None:
    """Return the operations from one snapshot to the next; None if the node hosts the V-net in neither.

    `scopes` are those of find_changes, if at hand. `nodes` are the only ones of which a link may differ, and
    nothing else does (None: anything may): then only what leads to them is looked at, unless the node itself
    is among them. An empty list: only the revision is news.
    """
    old, new = before.vnets.get(name), after.vnets.get(name)
    was, now = before.fabric.nodes.get(node_name), after.fabric.nodes.get(node_name)
    hosted = old is not None and was is not None and hosts(old, node_name)
    hosting = new is not None and now is not None and hosts(new, node_name)
    if not hosting or new is None or now is None or new.vnet is None:
        if hosted and old is not None and old.vnet is not None:
            return [{"op": "vnet_removed", "vni": old.vnet.vni, "object_id": old.vnet.id}]
        return None
    if not hosted or old is None or was is None or old.vnet is None:
        moved = [] if old is None else announcements(old, new, node_name, new.changed_members(old))
        return [*build_view(after, new, now, settings), *moved]
    if old.vnet.vni != new.vnet.vni:
        return build_view(after, new, now, settings)
    only = None if nodes is None or old is not new or node_name in nodes else nodes
    names = _changed_locations(before, after, old, new, only)
    a, b = _locations(before, old, was, names), _locations(after, new, now, names)
    if not _has_same_base(before, after, old, new):
        a = _base(before, old, was, settings, only) | a
        b = _base(after, new, now, settings, only) | b
    sets = [op for key, op in b.items() if _differs(a.get(key), op)]
    gone = [op for kind in _REMOVERS for key, op in a.items() if key not in b and op["op"] == kind]
    # What is removed goes last, so that what moves is never nowhere; but two cannot have one place.
    taken = {place for op in sets if (place := _place(op)) is not None}
    first = [_removal(op) for op in gone if _place(op) in taken]
    ops = [*first, *sets, *(_removal(op) for op in gone if _place(op) not in taken)]
    ops += announcements(old, new, node_name, new.changed_members(old) if names is None else names[0])
    found = find_changes(before, after, name) if scopes is None else scopes
    ops += [scope_operation(one, new.vnet.vni) for one in found if one.node in ("", node_name)]
    return ops


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


def scope_operation(change: ScopedChange, vni: int) -> Operation:
    """Return the operation "scope" of a change, for who is told all that came with it."""
    scope: Scope = change.scope
    return {
        "op": "scope",
        "kind": int(ChangeKind.LOOSEN if change.located else change.kind),
        "vni": vni,
        "source": scope.source,
        "destination": scope.destination,
        "source_bits": scope.source_bits,
        "destination_bits": scope.destination_bits,
        "protocol": scope.protocol,
        "either_direction": int(scope.either_direction),
        "port_low": scope.port_low,
        "port_high": scope.port_high,
        **{name: 1 for name in ("source_port", "connections", "judged", "ip") if getattr(scope, name)},
    }


def find_ingress(
    snapshot: Snapshot, node: Node, local: bytes, remote: bytes, protocol: int, wire: int
) -> Operation | None:
    """Return the ingress operation of an outer source, None if no V-net of this node has it."""
    for state in snapshot.vnets.values():
        if state.vnet is None or not hosts(state, node.name):
            continue
        for op in _ingresses(snapshot, state, node):
            if (op["local"], op["remote"], op["protocol"], op["wire_id"]) == (local, remote, protocol, wire):
                return op
    return None


def _base(
    snapshot: Snapshot, state: VnetState, node: Node, settings: Settings, only: Set[str] | None = None
) -> View:
    """All but locations, in the order in which they refer to one another."""
    vnet = state.vnet
    if vnet is None:
        return {}
    gateway = next((address for address in vnet.gateway_addresses if not looks_ipv6(address)), ZERO)
    view: View = {
        ("vnet",): {
            "op": "vnet",
            "vni": vnet.vni,
            "object_id": vnet.id,
            "name": vnet.name,
            "gateway_mac": vnet.gateway_mac,
            "gateway_address": gateway,
            "quota_flows": vnet.quota_flows,
            "quota_misses_per_s": vnet.quota_misses_per_s,
            "stale_max_s": settings.stale_max_s if vnet.stale_max_s < 0 else vnet.stale_max_s,
        }
    }
    for attachment in sorted(state.attachments_by_node.get(node.name, ()), key=lambda one: one.id):
        view["attachment", attachment.id, attachment.place] = {
            "op": "attachment",
            "vni": vnet.vni,
            "object_id": attachment.id,
            "port": attachment.place.port,
            "vlan": attachment.place.vlan,
            "mtu_bytes": attachment.mtu_bytes,
        }
    for there in _others(snapshot.fabric, state, node, only):
        link = snapshot.fabric.link(node, there, vnet.min_trust)
        if link.tunnel is not None:
            view["tunnel", link.tunnel.object_id] = {
                "op": "tunnel",
                **link.tunnel._asdict(),
                "node": there.name,  # names go along, so that who shows them has to ask nobody
                "profile": link.profile.name if link.profile is not None and link.profile.id else "",
                "revision": snapshot.revision,
            }
    for op in _ingresses(snapshot, state, node, only):
        key = ("ingress", op["node_id"], op["local"], op["remote"], op["protocol"], op["wire_id"])
        view[key] = op
    for kind in TOLD:
        if kind.told is not None:
            for key, op in kind.told(state.tables[kind.name], vnet, partial(_vnet_named, snapshot)):
                view[(kind.name, *key)] = op
    return view


def _vnet_named(snapshot: Snapshot, name: str) -> Vnet | None:
    state = snapshot.vnets.get(name)
    return None if state is None else state.vnet


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


def _ingresses(
    snapshot: Snapshot, state: VnetState, node: Node, only: Set[str] | None = None
) -> Iterator[Operation]:
    vnet = state.vnet
    if vnet is None:
        return
    for there in _others(snapshot.fabric, state, node, only):
        link = snapshot.fabric.link(node, there, vnet.min_trust)
        if link.tunnel is None:
            continue
        for local in node.locators:
            for remote in there.locators:
                if looks_ipv6(local) or looks_ipv6(remote) or local == remote:
                    continue
                yield {
                    "op": "ingress",
                    "vni": vnet.vni,
                    "node_id": there.id,
                    "local": local,
                    "remote": remote,
                    "protocol": link.tunnel.protocol,
                    "wire_id": wire_id(state, there),
                    "udp_port": link.tunnel.udp_port,
                    "relay": there.name in vnet.relays,
                    "foreign": there.foreign,
                    "check": link.profile is not None and link.profile.check_inner,
                }


def _others(fabric: Fabric, state: VnetState, node: Node, only: Set[str] | None = None) -> list[Node]:
    """The other nodes that a V-net concerns (of some: only those), in order of ids."""
    names: Set[str] = state.nodes_concerned() | (state.vnet.relays if state.vnet else frozenset())
    if only is not None:
        names = names & only
    others = (fabric.nodes.get(name) for name in names)
    return sorted((other for other in others if other and other.id != node.id), key=lambda other: other.id)


def _changed_locations(
    before: Snapshot, after: Snapshot, old: VnetState, new: VnetState, only: Set[str] | None = None
) -> tuple[set[str], set[str]] | None:
    """Return the names of the members and routes whose location may differ; None: any. `only`: it is links
    to these nodes that differ."""
    if only is not None:
        there = {name for node in only for name in new.members_at(node)}
        via = {name for name, route in new.routes.items() if route.via in only or route.via in there}
        return there, via
    if (
        before.fabric is not after.fabric
        or old.attachments_by_node is not new.attachments_by_node
        or old.vnet is not new.vnet
    ):
        return None
    changed = new.changed_members(old)
    members = {name for name in changed if old.members.get(name) is not new.members.get(name)}
    names = old.routes.keys() | new.routes.keys()
    routes = set()
    for name in names:
        one, other = old.routes.get(name), new.routes.get(name)
        if one is not other or (other is not None and other.via in members):
            routes.add(name)
    return members, routes


def _locations(
    snapshot: Snapshot,
    state: VnetState,
    node: Node,
    names: tuple[Collection[str], Collection[str]] | None,
) -> View:
    if names is None:
        members: Iterable[Member] = state.members.values()
        routes: Iterable[Route] = state.routes.values()
    else:
        members = [one for one in state.members.get_all(names[0]) if one is not None]
        routes = [state.routes[name] for name in names[1] if name in state.routes]
    view: View = {}
    alike: dict[Whereabouts, Operation | None] = {}  # members at the same places differ in id and MAC only
    for member in members:
        whereabouts = member.whereabouts
        if whereabouts not in alike:
            alike[whereabouts] = _location(snapshot, state, node, Holder(member, None))
        like = alike[whereabouts]
        if like is not None:
            id_ = member.id
            view["location", id_] = {**like, "object_id": id_, "mac": member.endpoint.mac}
    for route in routes:
        op = _location(snapshot, state, node, Holder(state.members.get(route.via), route))
        if op is not None:
            view["location", op["object_id"]] = op
    return view


def _location(snapshot: Snapshot, state: VnetState, node: Node, holder: Holder) -> Operation | None:
    location = find_location(snapshot, state, node, holder, object_of(holder)).location
    if location is None:
        return None
    return {
        "op": "location",
        "vni": location.vni,
        "way": 0,
        "kind": location.kind,
        "mac": location.mac,
        "object_id": location.object_id,
        "target_id": location.target_id,
        "node_id": location.node_id,
        "wire_id": location.wire_id,
        "revision": snapshot.revision,
    }
