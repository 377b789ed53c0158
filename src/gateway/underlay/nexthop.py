# SPDX-License-Identifier: Apache-2.0
"""From routes and neighbours to next hops: logic only, no input or output.

A tunnel's remote locator is resolved as Linux would: the route to it (all ways of a multipath route), each
way's interface, which must be the exception interface of an underlay port (or a VLAN on one), and the MAC
of the neighbour there. A tunnel whose local locator stands on no interface has no next hop: nothing is sent
from an address that this machine does not have. `Resolver` keeps all of it up to date as changes come in and
says what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

IpAddress = IPv4Address | IPv6Address
NEXTHOPS_MAX = 4  # FP_NEXTHOPS_MAX
STATIC_STATES = frozenset({"permanent", "noarp"})
VALID_STATES = frozenset({"reachable", "stale", "delay", "probe", "noarp", "permanent"})


@dataclass(frozen=True)
class Link:
    index: int
    name: str
    mac: str
    mtu_bytes: int
    up: bool
    carrier: bool
    parent: int = 0  # VLAN interface: index of the interface below
    vlan: int = 0


@dataclass(frozen=True)
class Address:
    index: int
    interface: IPv4Interface | IPv6Interface
    ours: bool = False  # put there by this gateway


@dataclass(frozen=True)
class Neighbour:
    index: int
    address: IpAddress
    mac: str | None
    state: str
    managed: bool = False

    @property
    def usable(self) -> bool:
        return self.mac is not None and self.state in VALID_STATES


@dataclass(frozen=True)
class Way:
    """One way of a route. `gateway` None: the destination is on the link itself."""

    index: int
    gateway: IpAddress | None


@dataclass(frozen=True)
class Route:
    kind: str  # unicast, local, blackhole …
    ways: tuple[Way, ...]
    mtu_bytes: int  # of the route's metrics; 0: the link's


@dataclass(frozen=True)
class UnderlayPort:
    """An underlay port of the data plane and the interface on which Linux sees it."""

    index: int
    name: str
    interface: str


@dataclass(frozen=True, order=True)
class Hop:
    port: int
    vlan: int
    destination_mac: str
    source_mac: str


@dataclass(frozen=True)
class Pair:
    """The two ends of one or more tunnels."""

    local: IpAddress
    remote: IpAddress


@dataclass(frozen=True)
class Resolution:
    """What is known of a pair. No hops: `why` is a sentence and `fix` what to type. `neighbours` are those
    (interface index, address) that have to be kept resolved."""

    hops: tuple[Hop, ...] = ()
    mtu_bytes: int = 0
    why: str = ""
    fix: str = ""
    neighbours: frozenset[tuple[int, IpAddress]] = frozenset()


@dataclass
class Tables:
    """What the kernel says, as last heard."""

    links: dict[int, Link] = field(default_factory=dict)
    neighbours: dict[tuple[int, IpAddress], Neighbour] = field(default_factory=dict)
    addresses: set[tuple[int, IPv4Interface | IPv6Interface]] = field(default_factory=set)

    def has_address(self, address: IpAddress) -> bool:
        return any(interface.ip == address for _, interface in self.addresses)


def underlay_vlans(interface: str, tables: Tables, used: frozenset[int] = frozenset()) -> tuple[int, ...]:
    """Return in which VLANs of an exception interface the underlay is, 0: untagged.

    Those with an address, and of those that are there the ones that next hops have `used`; if there is none
    (locators stand on lo, and nothing is resolved yet) all that are there. Empty: it is not known.
    """
    below = next((link for link in tables.links.values() if link.name == interface), None)
    if below is None:
        return ()
    vlans = {link.index: link.vlan for link in tables.links.values() if link.parent == below.index}
    vlans[below.index] = 0
    known = {
        vlans[index] for index, address in tables.addresses if index in vlans and not address.ip.is_link_local
    }
    return tuple(sorted(known | (used & set(vlans.values())) or set(vlans.values())))


def resolve(pair: Pair, route: Route | None, tables: Tables, ports: Iterable[UnderlayPort]) -> Resolution:
    """Return the next hops towards `pair.remote`, or why there are none."""
    remote = pair.remote
    if not tables.has_address(pair.local):
        why = f"{pair.local} is no address of this machine: nothing is sent from it"
        return Resolution(why=why, fix=f"ip address show to {pair.local}")
    if route is None:
        return Resolution(why=f"no route to {remote}", fix=f"ip route get {remote}")
    if route.kind == "local":
        return Resolution(why=f"{remote} is an address of this machine", fix="vnetctl show nodes")
    if route.kind != "unicast":
        return Resolution(why=f"the route to {remote} is of type {route.kind}", fix=f"ip route get {remote}")
    by_interface = {port.interface: port for port in ports}
    hops: list[Hop] = []
    wanted: set[tuple[int, IpAddress]] = set()
    mtus: list[int] = []
    why, fix = "", ""
    for way in route.ways:
        link = tables.links.get(way.index)
        below = tables.links.get(link.parent) if link and link.parent else link
        if link is None or below is None:
            why, fix = f"the route to {remote} leaves by an interface that is gone", f"ip route get {remote}"
            continue
        port = by_interface.get(below.name)
        if port is None:
            why = f"the route to {remote} leaves by {link.name}, which is no underlay port"
            fix = f"ip route get {remote}"
            continue
        if not link.up:
            why, fix = f"interface {link.name} is down", f"ip link set {link.name} up"
            continue
        if not link.carrier:
            why = f"interface {link.name} has no carrier: the link of port {port.name} is down"
            fix = "look at the cable and its other end; vnetctl show ports"
            continue
        address = way.gateway or remote
        wanted.add((link.index, address))
        neighbour = tables.neighbours.get((link.index, address))
        if neighbour is None or not neighbour.usable or neighbour.mac is None:
            why = (
                f"{address} does not answer ARP on {link.name}"
                if address.version == 4
                else (f"{address} does not answer neighbour discovery on {link.name}")
            )
            fix = f"ip neigh show {address}"
            continue
        hops.append(Hop(port.index, link.vlan, neighbour.mac, link.mac))
        mtus.append(route.mtu_bytes or link.mtu_bytes)
    if not route.ways:
        why, fix = f"the route to {remote} names no interface", f"ip route get {remote}"
    if not hops:
        return Resolution(why=why, fix=fix, neighbours=frozenset(wanted))
    chosen = tuple(sorted(set(hops))[:NEXTHOPS_MAX])
    return Resolution(chosen, min(mtus), neighbours=frozenset(wanted))


Lookup = Callable[[IpAddress, "IpAddress | None"], "Route | None"]


class Resolver:
    """Keeps the resolution of every pair current. Feed it changes, then `run` it; it looks up again only what
    a change may have touched. One thread."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.ports: tuple[UnderlayPort, ...] = ()
        self.resolutions: dict[Pair, Resolution] = {}
        self._routes: dict[Pair, Route | None] = {}
        self._look_up: set[Pair] = set()  # the route is to be asked for
        self._judge: set[Pair] = set()  # the route stands, links or neighbours changed

    def set_pairs(self, pairs: Iterable[Pair]) -> None:
        """Follow exactly these."""
        pairs = set(pairs)
        for gone in set(self._routes) - pairs:
            self.remove(gone)
        for pair in pairs:
            self.add(pair)

    def add(self, pair: Pair) -> None:
        if pair not in self._routes:
            self._routes[pair] = None
            self._look_up.add(pair)

    def remove(self, pair: Pair) -> None:
        self._routes.pop(pair, None)
        self.resolutions.pop(pair, None)
        self._look_up.discard(pair)
        self._judge.discard(pair)

    def set_ports(self, ports: Iterable[UnderlayPort]) -> None:
        self.ports = tuple(ports)
        self._judge.update(self._routes)

    def set_tables(self, tables: Tables) -> None:
        """Start anew: after a restart or when events were lost."""
        self.tables = tables
        self.everything_changed()

    def everything_changed(self) -> None:
        self._look_up.update(self._routes)

    def route_changed(self, prefix: IPv4Network | IPv6Network) -> None:
        self._look_up.update(
            p for p in self._routes if p.remote.version == prefix.version and p.remote in prefix
        )

    def link_changed(self, link: Link) -> None:
        """Changes of state move routes too, but the kernel does not always say so route by route."""
        before = self.tables.links.get(link.index)
        self.tables.links[link.index] = link
        if before != link:
            self.everything_changed()

    def link_removed(self, index: int) -> None:
        if self.tables.links.pop(index, None) is not None:
            self.everything_changed()

    def address_changed(self, address: Address, present: bool) -> None:
        known = (address.index, address.interface)
        if present == (known in self.tables.addresses):
            return
        (self.tables.addresses.add if present else self.tables.addresses.discard)(known)
        self.everything_changed()

    def neighbour_changed(self, neighbour: Neighbour, present: bool = True) -> None:
        key = (neighbour.index, neighbour.address)
        before = self.tables.neighbours.get(key)
        if present:
            self.tables.neighbours[key] = neighbour
        else:
            self.tables.neighbours.pop(key, None)
        usable_mac = neighbour.mac if present and neighbour.usable else None
        if (before.mac if before and before.usable else None) != usable_mac:
            self._judge.update(p for p, r in self.resolutions.items() if key in r.neighbours)

    def run(self, lookup: Lookup, limit: int = 1024) -> list[tuple[Pair, Resolution]]:
        """Resolve what is due, at most `limit` route look-ups; return what differs from before."""
        for pair in list(self._look_up)[:limit]:
            self._look_up.discard(pair)
            local = pair.local if self.tables.has_address(pair.local) else None
            self._routes[pair] = lookup(pair.remote, local)
            self._judge.add(pair)
        changed = []
        for pair in self._judge:
            resolution = resolve(pair, self._routes[pair], self.tables, self.ports)
            before = self.resolutions.get(pair)
            self.resolutions[pair] = resolution
            if before is None or (before.hops, before.mtu_bytes, before.why) != (
                resolution.hops,
                resolution.mtu_bytes,
                resolution.why,
            ):
                changed.append((pair, resolution))
        self._judge.clear()
        return changed

    @property
    def pending(self) -> bool:
        return bool(self._look_up or self._judge)

    def managed_neighbours(self) -> set[tuple[int, IpAddress]]:
        """Return the neighbours that the kernel keeps resolved on interfaces of the ports, whoever asked for
        it: a process before this one, as a rule. Static ones are somebody's."""
        names = {port.interface for port in self.ports}
        links = self.tables.links
        below = {index for index, link in links.items() if link.name in names}
        ours = below | {index for index, link in links.items() if link.parent in below}
        return {
            key
            for key, one in self.tables.neighbours.items()
            if one.managed and one.index in ours and one.state not in STATIC_STATES
        }

    def wanted_neighbours(self) -> set[tuple[int, IpAddress]]:
        return {key for resolution in self.resolutions.values() for key in resolution.neighbours}
