# SPDX-License-Identifier: Apache-2.0
"""What one node needs to know of one V-net: the operations of docs/protocol.md, section 2.3.

A node hosts a V-net if it has an attachment there. Its view holds what it needs to recognize packets
(attachments, ingresses), to send them (tunnels), and where everything is (locations, applied by the node
only where in use). Ingresses and tunnels exist for nodes that the V-net may use only: a path that is not
trusted enough brings nothing in. Addresses and MACs in operations are bytes, 16 and 6 long.
"""

from collections.abc import Iterable, Iterator, Set
from functools import partial
from typing import Any

from directory_client.vocabulary.addresses import ZERO, looks_ipv6
from directory_client.vocabulary.numbers import ChangeKind
from directory_client.vocabulary.scopes import Scope
from directory_service.decide.locate import find_location, object_of, wire_id
from directory_service.kinds.node import Node
from directory_service.kinds.registry import TOLD
from directory_service.kinds.vnet import Vnet
from directory_service.model.fabric import Fabric
from directory_service.model.member import Holder, Member, Whereabouts
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.settings import Settings
from directory_service.views.scope import ScopedChange

Operation = dict[str, Any]
View = dict[tuple[Any, ...], Operation]
SLICE = 500  # members or routes


def build_view(snapshot: Snapshot, state: VnetState, node: Node, settings: Settings) -> list[Operation]:
    """Return the operations that build up a node's view of a V-net; empty if it does not host it."""
    if not hosts(state, node.name):
        return []
    return [
        *base_of(snapshot, state, node, settings).values(),
        *locations_of_all(snapshot, state, node).values(),
    ]


def build_slices(
    snapshot: Snapshot, state: VnetState, node: Node, settings: Settings
) -> Iterator[list[Operation]]:
    """Yield the same operations in slices that take some milliseconds each, made when they are asked for."""
    if not hosts(state, node.name):
        return
    yield list(base_of(snapshot, state, node, settings).values())
    members, routes = list(state.members), list(state.routes)
    for at in range(0, len(members), SLICE):
        some = state.members.get_all(members[at : at + SLICE])
        yield list(locations_of(snapshot, state, node, some, ()).values())
    for at in range(0, len(routes), SLICE):
        yield list(locations_of(snapshot, state, node, (), routes[at : at + SLICE]).values())


def hosts(state: VnetState, node: str) -> bool:
    """Tell whether a node hosts a V-net."""
    return state.vnet is not None and node in state.attachments_by_node


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


def base_of(
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
            named = partial(_vnet_named, snapshot)
            naming = [one for name in snapshot.naming(kind.name, vnet.name) if (one := named(name))]
            for key, op in kind.told(state.tables[kind.name], vnet, named, naming):
                view[(kind.name, *key)] = op
    return view


def _vnet_named(snapshot: Snapshot, name: str) -> Vnet | None:
    state = snapshot.vnets.get(name)
    return None if state is None else state.vnet


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


def locations_of_all(snapshot: Snapshot, state: VnetState, node: Node) -> View:
    """The locations of all members and routes."""
    return locations_of(snapshot, state, node, state.members.values(), state.routes)


def locations_of(
    snapshot: Snapshot,
    state: VnetState,
    node: Node,
    members: Iterable[Member | None],
    routes: Iterable[str],
) -> View:
    """The locations of these members, and of the routes of these names that there are."""
    view: View = {}
    alike: dict[Whereabouts, Operation | None] = {}  # members at the same places differ in id and MAC only
    for member in members:
        if member is None:
            continue
        whereabouts = member.whereabouts
        if whereabouts not in alike:
            alike[whereabouts] = _location(snapshot, state, node, Holder(member, None))
        like = alike[whereabouts]
        if like is not None:
            id_ = member.id
            view["location", id_] = {**like, "object_id": id_, "mac": member.endpoint.mac}
    for name in routes:
        route = state.routes.get(name)
        if route is None:
            continue
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
