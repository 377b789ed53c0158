# SPDX-License-Identifier: Apache-2.0
"""Whether changed endpoints fit in with records that do, without a look at all the others.

integrity.py reads every record; for one endpoint among 100 thousand that takes a second. Here the
indexes of the state after the change are asked. True is certain; False means that integrity.py has to look,
and to say what is wrong: a test compares the two.
"""

import ipaddress
from collections.abc import Iterable

from directory_client.vocabulary.addresses import pack_network, prefix_contains
from directory_service.kinds.endpoint import Endpoint
from directory_service.kinds.records import Record
from directory_service.model.member import FAMILY_IPV4, FAMILY_IPV6, FAMILY_MAC
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState

Change = tuple[Record | None, Record | None]


def are_endpoints(changes: Iterable[Change]) -> bool:
    """Tell whether nothing but endpoints changes."""
    return all(record is None or record.kind == "endpoint" for change in changes for record in change)


def endpoints_fit(after: Snapshot, changes: Iterable[Change]) -> bool:
    """Tell whether changes (before, after) of endpoints surely fit in the snapshot after them. The one before
    is known to be without a fault."""
    for before, record in changes:
        either = record or before
        if either is None:
            continue
        state = after.vnets.get(either.vnet)
        if state is None or state.vnet is None:
            return False
        if (before is None or record is None) and _is_named(state, either.local_name):
            return False
        if record is not None and not _fits(after, state, state.members[record.local_name].endpoint):
            return False
    return True


def _is_named(state: VnetState, name: str) -> bool:
    """Tell whether a route or a rule speaks of a name."""
    if any(route.via == name for route in state.routes.values()):
        return True
    return any(name in (rule.source, rule.destination) for rule in state.rules.values())


def _fits(after: Snapshot, state: VnetState, endpoint: Endpoint) -> bool:
    vnet = state.vnet
    if vnet is None or endpoint.mac == vnet.gateway_mac:
        return False
    own = {*endpoint.addresses}
    if len(own) < len(endpoint.addresses) or own & {*endpoint.services}:
        return False
    if not _is_alone(state, FAMILY_MAC, endpoint.mac_key, endpoint):
        return False
    for ipv6, address in (*endpoint.addresses, *endpoint.services):
        if address in vnet.gateway_addresses or not _is_inside(vnet.prefixes, ipv6, address):
            return False
    for ipv6, address in endpoint.addresses:
        if not _is_alone(state, FAMILY_IPV6 if ipv6 else FAMILY_IPV4, address, endpoint):
            return False
    for service in endpoint.services:
        family = FAMILY_IPV6 if service[0] else FAMILY_IPV4
        if any(service in other.endpoint.addresses for other in state.by_address[family].get(service[1], ())):
            return False
    return _has_places(after, state, endpoint)


def _is_alone(state: VnetState, family: int, address: bytes, endpoint: Endpoint) -> bool:
    return [member.id for member in state.by_address[family].get(address, ())] == [endpoint.id]


def _is_inside(
    prefixes: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network], ipv6: bool, address: bytes
) -> bool:
    networks = list(prefixes)
    return not networks or any(
        (network.version == 6) == ipv6 and prefix_contains(*pack_network(network), address)
        for network in networks
    )


def _has_places(after: Snapshot, state: VnetState, endpoint: Endpoint) -> bool:
    nodes = after.fabric.nodes
    for place in endpoint.at:
        if place.node not in nodes or str(place) not in state.attachments:
            return False
    if not endpoint.node:
        return True
    node = nodes.get(endpoint.node)
    if node is None or node.ids:  # whether an id stands for two V-nets there is not to be seen from here
        return False
    return node.foreign or len(state.attachments_by_node.get(endpoint.node, ())) == 1
