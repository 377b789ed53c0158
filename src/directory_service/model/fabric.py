# SPDX-License-Identifier: Apache-2.0
"""Sites, paths, profiles and nodes, and the link that they make between two nodes.

A link is what a node does to reach another one for a V-net of a certain minimum trust: a tunnel, or why
there is none. Of several paths between two sites the most trusted is taken, then the first by name. A site
reaches itself by its own path if it has one, else with trust own, 1500 bytes and the built-in profile
(VXLAN). The local locator is the asking node's first IPv4 one, the remote the target's: tunnel sets over
several locators have their place on the wire, and are not used here.
"""

import hashlib
from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any, NamedTuple

from directory_client.vocabulary.addresses import looks_ipv6
from directory_client.vocabulary.numbers import Protocol
from directory_service.kinds.kind import UNREADABLE, describe_unreadable
from directory_service.kinds.node import NODE, Node, to_node
from directory_service.kinds.path import PATH, TRUST, Path
from directory_service.kinds.profile import BUILT_IN_PROFILE, PROFILE, Profile
from directory_service.kinds.records import Record
from directory_service.kinds.registry import FABRIC, TYPED_BY
from directory_service.kinds.site import SITE

OWN = TRUST.index("own")
DEFAULT_MTU_BYTES = 1500


class Tunnel(NamedTuple):
    """The fields of a TUNNEL row; locators packed."""

    object_id: int
    profile_id: int
    node_id: int
    local: bytes
    remote: bytes
    udp_port: int
    mtu_bytes: int
    protocol: int
    ttl: int
    dscp: int
    dscp_copy: int
    backup_id: int


class Link(NamedTuple):
    """How a node reaches another: `tunnel`, or None with the drop reason and a sentence that says why."""

    tunnel: Tunnel | None
    reason: str
    why: str
    path: Path | None
    profile: Profile | None


def derive_tunnel_id(
    local: bytes, remote: bytes, profile_id: int, backup_id: int = 0, vnet_id: int = 0
) -> int:
    """Return the 64-bit id of a tunnel: a hash of what it is. `vnet_id` where an SA is bound to one V-net."""
    text = local + remote + b"".join(part.to_bytes(8, "big") for part in (profile_id, backup_id, vnet_id))
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"vnet-tunnel").digest(), "big") or 1


class Presence(NamedTuple):
    """What a gateway says of itself and has: locators as text, and the names of its inside ports."""

    locators: tuple[str, ...]
    ports: tuple[str, ...]


_NOTHING_SAID = Presence((), ())
_NO_PRESENCES: Mapping[str, Presence] = {}


class Fabric:
    """Never changes but for what it remembers of its own results. `declared`: whose locators are, by
    documents."""

    def __init__(
        self, records: Mapping[str, Record], presences: Mapping[str, Presence] = _NO_PRESENCES
    ) -> None:
        nodes = [record for record in records.values() if record.kind == NODE.name]
        self.declared = {at: record.name for record in nodes for at in _texts(record, "locators")}
        self.tables: dict[str, dict[str, Any]] = {kind.name: {} for kind in FABRIC}  # by name, typed
        self.unreadable: dict[str, str] = {}  # key of a record of a newer program → why
        self._closed: dict[frozenset[str], str] = {}  # two sites → an unreadable path between them
        for record in records.values():
            is_node = record.kind == NODE.name
            try:
                typed = self._node(record, presences) if is_node else TYPED_BY[record.kind](record)
                self.tables[record.kind][record.name] = typed
            except UNREADABLE as error:
                self.unreadable[record.key] = describe_unreadable(error)
                if record.kind == PATH.name:
                    self._closed[frozenset(_texts(record, "sites"))] = record.name
        self.paths: dict[str, Path] = self.tables[PATH.name]
        self.profiles: dict[str, Profile] = self.tables[PROFILE.name]
        self.nodes: dict[str, Node] = self.tables[NODE.name]
        self.sites: dict[str, Record] = self.tables[SITE.name]
        self.nodes_by_id = {node.id: node for node in self.nodes.values()}
        self._by_sites: dict[frozenset[str], list[Path]] = {}
        for path in sorted(self.paths.values(), key=lambda path: (-path.trust, path.name)):
            self._by_sites.setdefault(path.sites, []).append(path)
        self._links: dict[tuple[int, int, int], Link] = {}

    def with_presences(self, presences: Mapping[str, Presence], names: Iterable[str]) -> "Fabric":
        """Return the fabric after these gateways said something else of themselves."""
        new = copy(self)
        new.nodes = dict(self.nodes)
        new.tables = {**self.tables, NODE.name: new.nodes}
        changed: set[int] = set()
        for name in names:
            node = self.nodes.get(name)
            if node is not None:
                new.nodes[name] = self._node(node.record, presences)
                changed.add(node.id)
        new.nodes_by_id = {node.id: node for node in new.nodes.values()}
        new._links = {
            key: link for key, link in self._links.items() if key[0] not in changed and key[1] not in changed
        }
        return new

    def link(self, here: Node, there: Node, min_trust: int) -> Link:
        """Return how `here` reaches `there`, another node."""
        key = (here.id, there.id, min_trust)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = self._find(here, there, min_trust)
        return link

    def paths_between(self, one: str, other: str) -> Iterable[Path]:
        """Return the declared paths between two sites, the most trusted first."""
        return self._by_sites.get(frozenset((one, other)), ())

    def _node(self, record: Record, presences: Mapping[str, Presence]) -> Node:
        NODE.check_values(record)
        if record.values["kind"] != "gateway":
            return to_node(record)
        locators, ports = presences.get(record.name, _NOTHING_SAID)
        return to_node(record, [at for at in locators if self.declared.get(at) is None], ports)

    def _find(self, here: Node, there: Node, min_trust: int) -> Link:
        paths = self.paths_between(here.site, there.site)
        if paths:
            best = next(iter(paths))
            if best.profile and best.profile not in self.profiles:
                why = f"profile {best.profile} says what this directory does not know"
                return Link(None, "not_supported", why, best, None)
            profile = self.profiles.get(best.profile, BUILT_IN_PROFILE)
            if best.trust < min_trust:
                trust = f"trust {TRUST[best.trust]}, {TRUST[min_trust]} is asked for"
                why = f"path {best.name} has {trust}: needs a secure tunnel"
                return Link(None, "not_supported", why, best, profile)
            return self._make(here, there, best, profile, best.mtu_bytes)
        closed = self._closed.get(frozenset((here.site, there.site)))
        if closed is not None:
            why = f"path {closed} says what this directory does not know"
            return Link(None, "not_supported", why, None, None)
        if here.site == there.site:
            return self._make(here, there, None, BUILT_IN_PROFILE, DEFAULT_MTU_BYTES)
        return Link(
            None,
            "no_path",
            f"no path between the sites {here.site or '(none)'} and {there.site or '(none)'}",
            None,
            None,
        )

    def _make(self, here: Node, there: Node, path: Path | None, profile: Profile, mtu_bytes: int) -> Link:
        if profile.protocol != "vxlan":
            return Link(
                None, "not_supported", f"profile {profile.name} asks for {profile.protocol}", path, profile
            )
        if there.kind == "vpn":
            return Link(
                None, "not_supported", f"{there.name} is a VPN peer: needs a secure tunnel", path, profile
            )
        for node in (here, there):
            if not node.locators:
                return Link(None, "no_path", f"{node.name} has said no locator yet", path, profile)
        local = first_ipv4(here)
        remote = first_ipv4(there)
        if not local or not remote:
            which = there if local else here
            return Link(None, "not_supported", f"{which.name} has IPv6 locators only", path, profile)
        if local == remote:
            return Link(None, "no_path", f"{here.name} and {there.name} have the same locator", path, profile)
        if profile.mtu_bytes:
            mtu_bytes = min(mtu_bytes, profile.mtu_bytes)
        tunnel = Tunnel(
            derive_tunnel_id(local, remote, profile.id),
            profile.id,
            there.id,
            local,
            remote,
            profile.udp_port,
            mtu_bytes,
            Protocol.VXLAN,
            profile.ttl,
            profile.dscp,
            int(profile.dscp_copy),
            0,
        )
        return Link(tunnel, "", "", path, profile)


def nodes_between(before: Fabric, after: Fabric) -> frozenset[str]:
    """Return the names of the nodes of which some link may differ."""
    names = {
        name
        for name in before.nodes.keys() | after.nodes.keys()
        if _reach(before.nodes.get(name)) != _reach(after.nodes.get(name))
    }
    sites: set[str] = set()
    for name in before.paths.keys() | after.paths.keys():
        one, other = before.paths.get(name), after.paths.get(name)
        profiles = {path.profile for path in (one, other) if path is not None}
        if one != other or any(before.profiles.get(at) != after.profiles.get(at) for at in profiles):
            sites.update(site for path in (one, other) if path is not None for site in path.sites)
    sites.update(site for pair, _ in before._closed.items() ^ after._closed.items() for site in pair)
    if sites:
        names |= {node.name for one in (before, after) for node in one.nodes.values() if node.site in sites}
    return frozenset(names)


def _reach(node: Node | None) -> tuple[Any, ...] | None:
    """Return all of a node that a link depends on."""
    return None if node is None else (node.id, node.kind, node.site, node.locators, dict(node.ids))


def _texts(record: Record, field: str) -> list[str]:
    """Return the texts in a list that a record may have."""
    found = record.values.get(field)
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def first_ipv4(node: Node) -> bytes:
    """Return the first IPv4 locator of a node, packed; empty if it has none."""
    return next((locator for locator in node.locators if not looks_ipv6(locator)), b"")
