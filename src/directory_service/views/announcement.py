# SPDX-License-Identifier: Apache-2.0
"""Which endpoints a node has to announce: those that have just come here, and those that have left.

`announce` goes to the node that has the endpoint now: foreign VTEPs have to learn it behind that node.
`announce_left` goes to the node that lost it: there, hosts and switches of the old segment have to learn that
it is behind the gateway now. A move between two attachments of a node is an arrival.

Whoever leaves others alone with an address that it served was known by its MAC to foreign VTEPs and to hosts
behind them: a node that has one of the others announces that one.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from directory_service.model.member import Member
from directory_service.model.vnet import VnetState

# So long a bridge remembers where it saw a MAC, as a rule (IEEE 802.1Q, 8.8.3): what was not told by then has
# been forgotten.
ANNOUNCED_MS = 300_000
LATE_MAX = 1_000  # of a V-net: one piece of a snapshot, and frames for some seconds


def announcements(old: VnetState, new: VnetState, node: str, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the operations for members of these names, from one state to the next."""
    if new.vnet is None or old.members is new.members:
        return []
    ops = []
    for name in names:
        member = new.members.get(name)
        if member is None or not member.spots:
            continue
        here = _attachments(member, node)
        addresses = []
        for ipv6, address in member.endpoint.addresses:
            before = old.by_address[6 if ipv6 else 4].get(address, ())
            was_here = any(one.home_node == node for one in before)
            if member.home_node != node:
                moved = was_here
            elif was_here:
                moved = any(_attachments(one, node) - here for one in before)
            else:
                moved = bool(before)
            if moved:
                addresses.append(address)
        if addresses:
            ops.append(_operation(new.vnet.vni, member, node, addresses))
    return ops + _announce_left_alone(old, new, node, names)


def may_announce(old: VnetState, new: VnetState, name: str) -> bool:
    """Tell whether some node may have to announce something of a member."""
    if name in old.members:
        return True
    member = new.members.get(name)
    known = member.endpoint.addresses if member is not None else ()
    return any(old.by_address[6 if ipv6 else 4].get(address) for ipv6, address in known)


def _announce_left_alone(
    old: VnetState, new: VnetState, node: str, names: Iterable[str]
) -> list[dict[str, Any]]:
    """Return the operations for those of a node that go on serving what members of these names served."""
    alone: dict[str, dict[bytes, None]] = {}
    for name in names:
        before, after = old.members.get(name), new.members.get(name)
        if before is None:
            continue
        still = after.endpoint.services if after is not None and after.id == before.id else ()
        for ipv6, address in before.endpoint.services:
            here = [one for one in new.by_address[6 if ipv6 else 4].get(address, ()) if one.home_node == node]
            if (ipv6, address) not in still and here:
                alone.setdefault(here[0].name, {})[address] = None
    vni = new.vnet.vni if new.vnet else 0
    return [
        _operation(vni, member, node, [*(address for _, address in member.endpoint.addresses), *services])
        for name, services in alone.items()
        if (member := new.members.get(name)) is not None
    ]


def late_announcements(state: VnetState, node: str, now_ms: int) -> list[dict[str, Any]]:
    """Return the operations for moves of the last minutes, for a node that begins with a snapshot: it may
    not have heard, or not have told, what was pushed. The newest LATE_MAX. `now_ms`: of the clock of the
    moves."""
    late = {
        id_: dict(reversed(left))
        for id_, left in state.moves.items()
        if any(now_ms - at_ms < ANNOUNCED_MS for _, at_ms in left)
    }
    if state.vnet is None or not late:
        return []
    found: list[tuple[int, Member]] = []
    for member in state.members.values():
        left = late.get(member.id)
        if not left or not member.spots:
            continue
        at_ms = max(left.values()) if member.home_node == node else left.get(node, now_ms - ANNOUNCED_MS)
        if now_ms - at_ms < ANNOUNCED_MS:
            found.append((at_ms, member))
    found.sort(key=lambda one: one[0], reverse=True)
    return [
        _operation(state.vnet.vni, member, node, [address for _, address in member.endpoint.addresses])
        for _, member in found[:LATE_MAX]
    ]


def _operation(vni: int, member: Member, node: str, addresses: Sequence[bytes]) -> dict[str, Any]:
    is_here = member.home_node == node
    return {
        "op": "announce" if is_here else "announce_left",
        "vni": vni,
        "object_id": member.id,
        "name": member.endpoint.record.name,
        "mac": member.endpoint.mac,
        "addresses": list(addresses),
        **({"attachments": sorted(_attachments(member, node))} if is_here else {}),
    }


def _attachments(member: Member, node: str) -> frozenset[int]:
    """Return the attachment of a node that a member is at, if it is there."""
    home = member.whereabouts.home
    return frozenset((home.attachment,) if home and home.node == node and home.attachment else ())
