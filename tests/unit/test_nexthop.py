# SPDX-License-Identifier: Apache-2.0
"""Next hops from made-up kernel tables."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from gateway.underlay.nexthop import (
    Address,
    Hop,
    IpAddress,
    Link,
    Neighbour,
    Pair,
    Resolver,
    Route,
    Tables,
    UnderlayPort,
    Way,
    resolve,
    underlay_vlans,
)

LOCAL, REMOTE = ip_address("192.0.2.1"), ip_address("203.0.113.7")
ROUTER_0, ROUTER_1 = ip_address("192.0.2.254"), ip_address("198.51.100.254")
PAIR = Pair(LOCAL, REMOTE)
PORTS = (UnderlayPort(0, "uplink0", "up0"), UnderlayPort(3, "uplink1", "up1"))
MAC_0, MAC_1 = "02:00:00:00:00:10", "02:00:00:00:00:11"
LINKS = (
    Link(10, "up0", "02:00:00:00:01:00", 9000, True, True),
    Link(11, "up1", "02:00:00:00:01:01", 1500, True, True),
    Link(12, "eth9", "02:00:00:00:01:09", 1500, True, True),
    Link(13, "up0.100", "02:00:00:00:01:00", 9000, True, True, parent=10, vlan=100),
)
ECMP = Route("unicast", (Way(10, ROUTER_0), Way(11, ROUTER_1)), 0)


def neighbour(index: int, address: IpAddress, mac: str | None = MAC_0, state: str = "reachable") -> Neighbour:
    return Neighbour(index, address, mac, state, managed=True)


def tables(*neighbours: Neighbour) -> Tables:
    return Tables(
        {link.index: link for link in LINKS},
        {(n.index, n.address): n for n in neighbours},
        {(10, ip_interface("192.0.2.1/24"))},
    )


def test_a_route_by_a_gateway_becomes_its_neighbours_mac() -> None:
    found = resolve(PAIR, Route("unicast", (Way(10, ROUTER_0),), 0), tables(neighbour(10, ROUTER_0)), PORTS)
    assert found.hops == (Hop(0, 0, MAC_0, "02:00:00:00:01:00"),)
    assert found.mtu_bytes == 9000
    assert found.neighbours == {(10, ROUTER_0)}


def test_a_remote_on_the_link_is_its_own_neighbour() -> None:
    found = resolve(PAIR, Route("unicast", (Way(10, None),), 0), tables(neighbour(10, REMOTE)), PORTS)
    assert found.hops == (Hop(0, 0, MAC_0, "02:00:00:00:01:00"),)


def test_all_ways_of_a_multipath_route_are_hops_and_the_smallest_mtu_counts() -> None:
    found = resolve(PAIR, ECMP, tables(neighbour(10, ROUTER_0), neighbour(11, ROUTER_1, MAC_1)), PORTS)
    assert [hop.port for hop in found.hops] == [0, 3]
    assert found.mtu_bytes == 1500


def test_a_way_whose_neighbour_is_silent_is_left_out_but_kept_being_asked() -> None:
    found = resolve(
        PAIR, ECMP, tables(neighbour(10, ROUTER_0), neighbour(11, ROUTER_1, None, "failed")), PORTS
    )
    assert [hop.port for hop in found.hops] == [0]
    assert found.neighbours == {(10, ROUTER_0), (11, ROUTER_1)}


def test_the_routes_mtu_goes_before_the_links() -> None:
    found = resolve(
        PAIR, Route("unicast", (Way(10, ROUTER_0),), 1400), tables(neighbour(10, ROUTER_0)), PORTS
    )
    assert found.mtu_bytes == 1400


def test_a_vlan_on_an_exception_interface_is_the_port_with_a_tag() -> None:
    found = resolve(PAIR, Route("unicast", (Way(13, ROUTER_0),), 0), tables(neighbour(13, ROUTER_0)), PORTS)
    assert found.hops == (Hop(0, 100, MAC_0, "02:00:00:00:01:00"),)


def test_tunnels_come_in_the_vlans_that_have_an_address() -> None:
    known = tables()
    assert underlay_vlans("up0", known) == (0,)
    known.addresses.add((13, ip_interface("198.51.100.1/31")))
    assert underlay_vlans("up0", known) == (0, 100)
    known.addresses = {(13, ip_interface("198.51.100.1/31")), (10, ip_interface("fe80::1/64"))}
    assert underlay_vlans("up0", known) == (100,)


def test_where_no_interface_has_an_address_tunnels_come_in_all_vlans_that_there_are() -> None:
    """Locators may stand on lo, with unnumbered links."""
    known = tables()
    known.addresses = {(1, ip_interface("192.0.2.1/32"))}
    assert underlay_vlans("up0", known) == (0, 100)
    assert underlay_vlans("up0", known, frozenset({100, 7})) == (100,), "what next hops use is the underlay"
    known.addresses.add((13, ip_interface("198.51.100.1/31")))
    assert underlay_vlans("up0", known, frozenset({0})) == (0, 100)
    assert underlay_vlans("up9", known) == ()


@pytest.mark.parametrize("state", ["reachable", "stale", "delay", "probe", "permanent", "noarp"])
def test_a_neighbour_that_was_heard_is_usable(state: str) -> None:
    route = Route("unicast", (Way(10, ROUTER_0),), 0)
    assert resolve(PAIR, route, tables(neighbour(10, ROUTER_0, MAC_0, state)), PORTS).hops


@pytest.mark.parametrize(
    ("route", "why"),
    [
        (None, "no route to 203.0.113.7"),
        (Route("local", (Way(10, None),), 0), "203.0.113.7 is an address of this machine"),
        (Route("blackhole", (), 0), "the route to 203.0.113.7 is of type blackhole"),
        (Route("unicast", (Way(12, ROUTER_0),), 0), "leaves by eth9, which is no underlay port"),
        (Route("unicast", (Way(99, ROUTER_0),), 0), "leaves by an interface that is gone"),
        (Route("unicast", (Way(10, ROUTER_1),), 0), "198.51.100.254 does not answer ARP on up0"),
    ],
)
def test_what_cannot_be_resolved_says_why_and_what_to_type(route: Route | None, why: str) -> None:
    found = resolve(PAIR, route, tables(), PORTS)
    assert found.hops == ()
    assert why in found.why
    assert found.fix


def test_a_link_without_carrier_is_no_way() -> None:
    down = tables(neighbour(10, ROUTER_0))
    down.links[10] = Link(10, "up0", "02:00:00:00:01:00", 9000, True, False)
    assert (
        resolve(PAIR, Route("unicast", (Way(10, ROUTER_0),), 0), down, PORTS).why
        == "interface up0 has no carrier: the link of port uplink0 is down"
    )


def test_no_more_hops_than_a_record_holds() -> None:
    many = tuple(Way(10, ip_address(f"192.0.2.{n}")) for n in range(10, 20))
    known = tables(
        *(neighbour(10, way.gateway, f"02:00:00:00:02:{n:02x}") for n, way in enumerate(many) if way.gateway)
    )
    assert len(resolve(PAIR, Route("unicast", many, 0), known, PORTS).hops) == 4


class Kernel:
    """Answers route look-ups and counts them."""

    def __init__(self, route: Route | None) -> None:
        self.route = route
        self.asked: list[tuple[IpAddress, IpAddress | None]] = []

    def look_up(self, remote: IpAddress, local: IpAddress | None) -> Route | None:
        self.asked.append((remote, local))
        return self.route


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(Route("unicast", (Way(10, ROUTER_0),), 0))


@pytest.fixture
def resolver(kernel: Kernel) -> Resolver:
    made = Resolver()
    made.set_tables(tables(neighbour(10, ROUTER_0)))
    made.set_ports(PORTS)
    made.set_pairs([PAIR])
    assert [pair for pair, _ in made.run(kernel.look_up)] == [PAIR]
    kernel.asked.clear()
    return made


def test_a_local_address_of_this_machine_takes_part_in_the_look_up(kernel: Kernel) -> None:
    made = Resolver()
    made.set_tables(tables())
    made.set_pairs([PAIR, Pair(ip_address("192.0.2.99"), REMOTE)])
    made.run(kernel.look_up)
    assert set(kernel.asked) == {(REMOTE, LOCAL), (REMOTE, None)}


def test_nothing_is_sent_from_an_address_that_this_machine_has_no_more(
    resolver: Resolver, kernel: Kernel
) -> None:
    ours = Address(10, ip_interface("192.0.2.1/24"))
    resolver.address_changed(ours, False)
    ((_, found),) = resolver.run(kernel.look_up)
    assert found.hops == ()
    assert found.why == "192.0.2.1 is no address of this machine: nothing is sent from it"
    assert found.fix
    resolver.address_changed(Address(12, ip_interface("192.0.2.1/32")), True)  # wherever it stands
    ((_, found),) = resolver.run(kernel.look_up)
    assert found.hops


def test_what_the_kernel_keeps_for_us_is_found_by_another_process() -> None:
    made = Resolver()
    managed = [
        neighbour(10, ROUTER_0),
        neighbour(13, ROUTER_1),  # on a VLAN of a port
        neighbour(12, REMOTE),  # no port
        neighbour(11, ROUTER_1, MAC_1, "permanent"),
    ]
    made.set_tables(tables(*managed, Neighbour(10, REMOTE, MAC_1, "reachable")))
    assert made.managed_neighbours() == set()
    made.set_ports(PORTS)
    assert made.managed_neighbours() == {(10, ROUTER_0), (13, ROUTER_1)}


def test_nothing_new_is_nothing_to_do(resolver: Resolver, kernel: Kernel) -> None:
    resolver.neighbour_changed(neighbour(10, ROUTER_0, MAC_0, "stale"))
    assert resolver.run(kernel.look_up) == []
    assert kernel.asked == []


def test_another_mac_of_the_neighbour_changes_the_hop_without_a_look_up(
    resolver: Resolver, kernel: Kernel
) -> None:
    resolver.neighbour_changed(neighbour(10, ROUTER_0, MAC_1))
    ((_, found),) = resolver.run(kernel.look_up)
    assert found.hops[0].destination_mac == MAC_1
    assert kernel.asked == []


def test_a_neighbour_that_fails_unresolves_and_one_that_answers_resolves(
    resolver: Resolver, kernel: Kernel
) -> None:
    resolver.neighbour_changed(neighbour(10, ROUTER_0, None, "failed"))
    ((_, found),) = resolver.run(kernel.look_up)
    assert (found.hops, found.why) == ((), "192.0.2.254 does not answer ARP on up0")
    resolver.neighbour_changed(neighbour(10, ROUTER_0))
    ((_, found),) = resolver.run(kernel.look_up)
    assert found.hops


def test_only_routes_that_cover_a_remote_are_looked_up_again(resolver: Resolver, kernel: Kernel) -> None:
    resolver.route_changed(ip_network("198.51.100.0/24"))
    resolver.route_changed(ip_network("::/0"))
    resolver.run(kernel.look_up)
    assert kernel.asked == []
    resolver.route_changed(ip_network("203.0.113.0/24"))
    kernel.route = None
    ((_, found),) = resolver.run(kernel.look_up)
    assert found.why == "no route to 203.0.113.7"


def test_a_link_that_changes_has_everything_looked_up_again(resolver: Resolver, kernel: Kernel) -> None:
    resolver.link_changed(LINKS[0])
    resolver.run(kernel.look_up)
    assert kernel.asked == []
    resolver.link_changed(Link(10, "up0", "02:00:00:00:01:00", 9000, False, False))
    ((_, found),) = resolver.run(kernel.look_up)
    assert found.why == "interface up0 is down"


def test_an_address_that_comes_or_goes_has_everything_looked_up_again(
    resolver: Resolver, kernel: Kernel
) -> None:
    resolver.address_changed(Address(10, ip_interface("192.0.2.1/24")), True)
    assert not resolver.pending
    resolver.address_changed(Address(10, ip_interface("192.0.2.1/24")), False)
    resolver.run(kernel.look_up)
    assert kernel.asked == [(REMOTE, None)]


def test_work_is_done_in_bounded_pieces() -> None:
    made = Resolver()
    made.set_tables(tables())
    made.set_pairs(Pair(LOCAL, ip_address(f"203.0.113.{n}")) for n in range(10))
    kernel = Kernel(None)
    assert len(made.run(kernel.look_up, limit=4)) == 4
    assert made.pending
    assert len(made.run(kernel.look_up, limit=100)) == 6
    assert not made.pending


def test_a_pair_that_is_no_longer_followed_wants_no_neighbour(resolver: Resolver, kernel: Kernel) -> None:
    assert resolver.wanted_neighbours() == {(10, ROUTER_0)}
    resolver.set_pairs([])
    assert resolver.wanted_neighbours() == set()
    resolver.everything_changed()
    assert resolver.run(kernel.look_up) == []
