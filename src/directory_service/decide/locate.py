# SPDX-License-Identifier: Apache-2.0
"""Where an endpoint or what is behind a route is, as seen from one node. Pure; remembered in the snapshot."""

import hashlib
from typing import NamedTuple

from directory_client.vocabulary.numbers import LocationKind
from directory_service.kinds.node import Node
from directory_service.model.fabric import Link, Tunnel
from directory_service.model.member import Holder, Spot
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState

REMEMBERED_MAX = 1 << 16  # some 20 MB


class Location(NamedTuple):
    """The fields of a LOCATION row; `tunnel` if it is one."""

    vni: int
    kind: int
    mac: bytes
    object_id: int
    target_id: int
    node_id: int
    wire_id: int
    tunnel: Tunnel | None


class Located(NamedTuple):
    """A location with the node and link that lead to it; without one, the drop reason and why."""

    location: Location | None
    node: str
    link: Link | None
    reason: str
    why: str

    @property
    def attachment(self) -> int:
        """The attachment of the asking node that it is on, 0 if it is elsewhere."""
        location = self.location
        return location.target_id if location is not None and location.kind == LocationKind.LOCAL else 0


def locate(snapshot: Snapshot, state: VnetState, here: Node, holder: Holder) -> Located:
    """Say where a holder is for `here`: at its home, else at the first of its places that is within reach.
    A place is reached by an attachment of `here` or by a tunnel."""
    object_id = object_of(holder)
    key = (state.vnet.name if state.vnet else "", here.id, object_id)
    found = snapshot.locations.get(key)
    if found is None:
        if len(snapshot.locations) >= REMEMBERED_MAX:
            snapshot.locations.clear()
        found = snapshot.locations[key] = find_location(snapshot, state, here, holder, object_id)
    return found


def object_of(holder: Holder) -> int:
    """Return the id of the endpoint or route that a location of this holder is of."""
    return holder.route.id if holder.route else holder.member.id if holder.member else 0


def choose(
    snapshot: Snapshot,
    state: VnetState,
    here: Node,
    holders: tuple[Holder, ...],
    source: bytes,
    destination: bytes,
    current_object: int = 0,
) -> Holder:
    """Choose who of several gets what is sent to a service address.

    The highest preference among those within reach; of several the one that serves it already
    (`current_object`), so that who joins takes no connection over; else the one with the highest hash of
    (source, destination, endpoint), so that all nodes choose alike and one that goes takes only its own share
    along.
    """
    if len(holders) == 1:
        return holders[0]
    usable = [holder for holder in holders if locate(snapshot, state, here, holder).location] or list(holders)
    best = usable[0].member.endpoint.preference if usable[0].member else 0
    equals = [holder for holder in usable if holder.member and holder.member.endpoint.preference == best]
    if len(equals) <= 1:
        return usable[0]
    for holder in equals:
        if holder.member is not None and holder.member.id == current_object:
            return holder
    return max(
        equals, key=lambda holder: _weight(source, destination, holder.member.id if holder.member else 0)
    )


def wire_id(state: VnetState, node: Node) -> int:
    """Return the id that stands for the V-net on the wire towards a node."""
    if state.vnet is None:
        return 0
    return node.ids.get(state.vnet.name, state.vnet.vni) if node.foreign else state.vnet.vni


def _weight(source: bytes, destination: bytes, member_id: int) -> bytes:
    return hashlib.blake2b(source + destination + member_id.to_bytes(8, "big"), digest_size=8).digest()


def find_location(
    snapshot: Snapshot, state: VnetState, here: Node, holder: Holder, object_id: int
) -> Located:
    """Say where a holder is, without remembering it."""
    vnet = state.vnet
    if vnet is None:
        return Located(None, "", None, "vnet_gone", "the V-net was removed")
    member, route = holder
    mac = vnet.gateway_mac
    if member is not None:
        mac = member.endpoint.mac
        spots = member.spots
    else:
        spots = (Spot(route.via, 0),) if route else ()
    router_mac = route.router_mac if route is not None and route.router_mac else mac
    refused = Located(None, "", None, "no_path", "it has no place")
    for name, attachment in spots:
        if name == here.name and attachment:
            location = Location(
                vnet.vni, LocationKind.LOCAL, mac, object_id, attachment, here.id, vnet.vni, None
            )
            return Located(location, here.name, None, "", "")
        node = snapshot.fabric.nodes.get(name)
        if node is None or node.id == here.id:
            continue
        link = snapshot.fabric.link(here, node, vnet.min_trust)
        if link.tunnel is None:
            if not refused.node:
                refused = Located(None, name, link, link.reason, link.why)
            continue
        wire = route.wire_id if route and route.wire_id and member is None else wire_id(state, node)
        location = Location(
            vnet.vni,
            LocationKind.TUNNEL,
            router_mac,
            object_id,
            link.tunnel.object_id,
            node.id,
            wire,
            link.tunnel,
        )
        return Located(location, name, link, "", "")
    return refused
