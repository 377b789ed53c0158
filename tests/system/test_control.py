# SPDX-License-Identifier: Apache-2.0
"""Control in a namespace of its own: exception TAP, real routes and neighbours, admin sockets, restarts.

The data plane is played by the test; the kernel, netlink and control are real."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from control_world import HOP, PAIR, ROUTER, ROUTER_MAC, World, with_tunnel

pytest.importorskip("fastpath.rings")

pytestmark = [
    pytest.mark.root,
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and TAP"),
]


def test_the_exception_tap_has_the_ports_mac_mtu_and_addresses(world: World) -> None:
    plane = world.start_plane(mtu_bytes=1400)
    world.start_control()
    world.until(lambda: "uplink" in plane.queues, "the exception queue is handed over")
    (link,) = json.loads(world.ip("-j", "-d", "addr", "show", "uplink"))
    assert (link["address"], link["mtu"]) == ("02:00:5e:00:01:00", 1400)
    assert {"UP", "LOWER_UP"} <= set(link["flags"])
    assert [(a["local"], a["prefixlen"]) for a in link["addr_info"] if a["family"] == "inet"] == [
        ("192.0.2.1", 24)
    ]
    assert "rack" not in world.ip("link")


def test_the_data_plane_learns_in_which_vlans_the_underlay_is(world: World) -> None:
    plane = world.start_plane()
    world.start_control()
    world.until(lambda: plane.underlay_vlans == {"uplink": [0]}, "the address stands on the interface itself")


def test_a_vlan_interface_with_an_address_is_the_underlays_as_long_as_it_is_there(world: World) -> None:
    plane = world.start_plane()
    world.start_control()
    world.until(lambda: plane.underlay_vlans == {"uplink": [0]}, "the interface is there")
    subprocess.run(["modprobe", "-q", "8021q"], check=False)
    try:
        world.ip("link", "add", "link", "uplink", "name", "uplink.20", "type", "vlan", "id", "20")
    except subprocess.CalledProcessError as error:
        if "Unknown device type" not in error.stderr:
            raise
        pytest.skip("this kernel has no VLAN interfaces (8021q): their messages are in unit/test_netlink.py")
    world.ip("address", "add", "198.51.100.5/24", "dev", "uplink.20")
    world.until(
        lambda: plane.underlay_vlans == {"uplink": [0, 20]}, "a VLAN interface with an address counts"
    )
    world.ip("link", "del", "uplink.20")
    world.until(lambda: plane.underlay_vlans == {"uplink": [0]}, "as long as it is there")


def test_a_tunnel_follows_routes_and_neighbours_of_the_kernel(world: World) -> None:
    plane = with_tunnel(world)
    assert plane.next_hops[PAIR]["mtu_bytes"] == 1500
    other, other_mac = "192.0.2.253", "02:00:5e:10:00:02"
    plane.neighbours[other] = other_mac
    world.ip("route", "replace", "203.0.113.0/24", "nexthop", "via", ROUTER, "nexthop", "via", other)
    world.until(lambda: len(world.resolved()) == 2, "both ways are hops")
    assert {hop[1] for hop in world.resolved()} == {ROUTER_MAC, other_mac}
    world.ip("route", "replace", "203.0.113.0/24", "via", other, "dev", "uplink", "mtu", "1300")
    world.until(lambda: [hop[1] for hop in world.resolved()] == [other_mac], "only the other way is left")
    world.until(lambda: plane.next_hops[PAIR]["mtu_bytes"] == 1300, "the route's MTU counts")
    world.ip("neigh", "replace", other, "lladdr", "02:00:5e:10:00:77", "dev", "uplink", "nud", "permanent")
    world.until(lambda: [hop[1] for hop in world.resolved()] == ["02:00:5e:10:00:77"], "the new MAC is used")
    (static,) = json.loads(world.ip("-j", "neigh", "show", other))
    assert static["state"] == ["PERMANENT"]  # a static entry stays one


def test_a_tunnel_without_a_route_is_unresolved_with_event_and_attention(world: World) -> None:
    plane = with_tunnel(world)
    world.ip("route", "delete", "203.0.113.0/24")
    world.until(lambda: world.resolved() == [], "the tunnel has no hop any more")
    (tunnel,) = world.rows("tunnels")
    assert tunnel["why"] == "no route to 203.0.113.7"
    (overview,) = world.rows("overview")
    assert [line["about"] for line in overview["attention"] if line["about"].startswith("tunnel")] == [
        "tunnel 7 → 203.0.113.7"
    ]
    kinds = [event["event"] for event in world.ask("events")["rows"]]
    assert [kind for kind in kinds if kind.startswith("tunnel")] == ["tunnel_resolved", "tunnel_unresolved"]
    plane.next_hops.clear()
    world.ip("route", "add", "203.0.113.0/24", "via", ROUTER, "dev", "uplink")
    world.until(lambda: world.resolved() == [HOP], "it is resolved again")


def test_a_neighbour_that_appears_later_resolves_the_tunnel(world: World) -> None:
    plane = world.start_plane()
    plane.neighbours.clear()
    world.start_control()
    world.until(lambda: "uplink" in plane.queues, "the exception queue is handed over")
    plane.add_tunnel(7, "192.0.2.77")
    pair = ("192.0.2.1", "192.0.2.77")
    world.until(lambda: pair in plane.next_hops, "control says that it is unresolved")
    assert world.resolved(pair) == []
    plane.neighbours["192.0.2.77"] = "02:00:5e:10:00:77"
    world.until(lambda: [hop[1] for hop in world.resolved(pair)] == ["02:00:5e:10:00:77"], "it is resolved")


def test_the_tap_outlives_control_and_is_adopted_with_what_others_put_on_it(world: World) -> None:
    plane = with_tunnel(world)
    world.ip("addr", "add", "192.0.2.99/32", "dev", "uplink")
    index = json.loads(world.ip("-j", "link", "show", "uplink"))[0]["ifindex"]
    world.kill_control()
    assert "LOWER_UP" in world.ip("link", "show", "uplink")  # the data plane's queue keeps it
    plane.next_hops.clear()
    world.start_control()
    world.until(lambda: world.resolved() == [HOP], "the restarted control resolves the tunnel from the dump")
    (link,) = json.loads(world.ip("-j", "addr", "show", "uplink"))
    assert link["ifindex"] == index
    assert {a["local"] for a in link["addr_info"] if a["family"] == "inet"} == {"192.0.2.1", "192.0.2.99"}
    assert "via 192.0.2.254" in world.ip("route", "show", "203.0.113.0/24")


def test_link_addresses_and_routes_outlive_the_data_plane(world: World) -> None:
    with_tunnel(world)
    world.stop_plane()
    world.until(lambda: world.rows("overview")[0]["data_plane"] == "gone", "control notices")
    assert "LOWER_UP" in world.ip("link", "show", "uplink")
    assert "via 192.0.2.254" in world.ip("route", "show", "203.0.113.0/24")
    answer = world.ask("show", noun="flows")
    assert (answer["ok"], answer["code"]) == (False, 3)
    assert "the data plane has ended" in answer["error"]
    plane = world.start_plane()
    plane.add_tunnel(7, PAIR[1], tell=False)
    world.until(lambda: world.resolved() == [HOP], "next hops are sent to the new data plane")
    assert "uplink" in plane.queues


def test_static_neighbours_outlive_the_data_plane(world: World) -> None:
    with_tunnel(world)
    world.ip("neigh", "replace", ROUTER, "lladdr", ROUTER_MAC, "dev", "uplink", "nud", "permanent")
    world.stop_plane()
    world.until(lambda: world.rows("overview")[0]["data_plane"] == "gone", "control notices")
    plane = world.start_plane()
    plane.neighbours.clear()
    plane.add_tunnel(7, PAIR[1], tell=False)
    world.until(lambda: world.resolved() == [HOP], "next hops are sent to the new data plane")
    assert json.loads(world.ip("-j", "neigh", "show", ROUTER))[0]["state"] == ["PERMANENT"]


def test_a_tunnel_of_an_adopting_data_plane_is_not_unresolved_while_neighbours_wake_up(world: World) -> None:
    with_tunnel(world)
    world.stop_plane()
    world.until(lambda: world.rows("overview")[0]["data_plane"] == "gone", "control notices")
    world.ip("neigh", "flush", "dev", "uplink")
    plane = world.start_plane()
    plane.add_tunnel(7, PAIR[1], tell=False)
    said: list[bool] = []

    def heard() -> bool:
        if PAIR in plane.next_hops:
            said.append(bool(world.resolved()))
        return bool(said)

    world.until(heard, "control says something of the tunnel")
    assert said == [True]


def test_nothing_is_sent_from_an_address_that_this_machine_lost_until_it_has_it_again(world: World) -> None:
    plane = with_tunnel(world)
    world.ip("addr", "add", "192.0.2.99/32", "dev", "lo")
    plane.add_tunnel(8, PAIR[1], local="192.0.2.99")
    pair = ("192.0.2.99", PAIR[1])
    world.until(lambda: world.resolved(pair) == [HOP], "the tunnel is resolved")
    world.ip("addr", "delete", "192.0.2.99/32", "dev", "lo")
    world.until(lambda: world.resolved(pair) == [], "it has no hop any more")
    assert world.resolved() == [HOP]
    plane.dumps["tunnels"][1]["state"] = "unresolved"
    (tunnel,) = (row for row in world.rows("tunnels") if row["tunnel"] == 8)
    assert tunnel["why"] == "192.0.2.99 is no address of this machine: nothing is sent from it"
    world.ip("addr", "add", "192.0.2.99/32", "dev", "uplink")
    world.until(lambda: world.resolved(pair) == [HOP], "it is resolved again")


def test_a_configured_address_that_somebody_took_away_is_put_back(world: World) -> None:
    with_tunnel(world)
    world.ip("addr", "delete", "192.0.2.1/24", "dev", "uplink")
    world.until(lambda: "192.0.2.1/24" in world.ip("addr", "show", "uplink"), "the address is back")
    world.ip("route", "replace", "203.0.113.0/24", "via", ROUTER, "dev", "uplink")
    world.until(lambda: world.resolved() == [HOP], "the tunnel is resolved")


def test_a_mac_or_mtu_that_somebody_changed_is_put_back(world: World) -> None:
    plane = with_tunnel(world)

    def link() -> tuple[str, int]:
        (row,) = json.loads(world.ip("-j", "link", "show", "uplink"))
        return row["address"], row["mtu"]

    before = link()
    world.ip("link", "set", "uplink", "address", "02:aa:00:00:00:01", "mtu", "1300")
    world.until(lambda: link() == before, "MAC and MTU are back")
    world.until(lambda: world.resolved() == [HOP], "the tunnel is resolved")
    plane.add_tunnel(8, PAIR[1])
    world.ip("link", "set", "uplink", "down")
    world.ip("link", "set", "uplink", "mtu", "1300")
    world.until(lambda: link() == before, "the MTU is back")
    assert "UP" not in json.loads(world.ip("-j", "link", "show", "uplink"))[0]["flags"]  # that was meant


def test_another_address_of_the_same_prefix_takes_the_place_of_the_one_before(world: World) -> None:
    plane = world.start_plane()
    world.start_control()
    world.until(lambda: "uplink" in plane.queues, "the exception queue is handed over")
    assert v4(world) == ["192.0.2.1/24"]
    for address in ("192.0.2.11/24", "192.0.2.1/24"):
        world.kill_control()
        world.configure(address)
        world.start_control()
        world.until(lambda wanted=address: v4(world) == [wanted], f"{address} is there, and no other")


def test_what_the_kernel_kept_resolved_for_a_tunnel_that_is_gone_is_let_go_by_another_control(
    world: World,
) -> None:
    plane = with_tunnel(world)
    other = "192.0.2.253"
    plane.neighbours[other] = "02:00:5e:10:00:02"
    plane.add_tunnel(8, other)
    world.until(lambda: world.resolved(("192.0.2.1", other)), "the second tunnel is resolved")
    world.until(lambda: managed(world) == {ROUTER, other}, "the kernel keeps both neighbours")
    world.kill_control()
    del plane.dumps["tunnels"][1]
    world.start_control()
    world.until(lambda: managed(world) == {ROUTER}, "the kernel keeps only what is needed")


def v4(world: World) -> list[str]:
    (link,) = json.loads(world.ip("-j", "addr", "show", "uplink"))
    return [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["family"] == "inet"]


def managed(world: World) -> set[str]:
    lines = world.ip("neigh", "show", "dev", "uplink").splitlines()
    return {line.split()[0] for line in lines if "managed" in line.split()}


def test_a_deleted_tap_is_made_again(world: World) -> None:
    plane = with_tunnel(world)
    before = plane.queues["uplink"]
    world.ip("link", "delete", "uplink")
    world.until(lambda: "uplink" in world.ip("link"), "the interface is back")
    world.until(
        lambda: plane.queues["uplink"] != before or world.ip("route") != "", "a new queue is handed over"
    )
    world.ip("route", "add", "203.0.113.0/24", "via", ROUTER, "dev", "uplink")
    world.until(lambda: world.resolved() == [HOP], "the tunnel is resolved again")


def test_an_interface_that_is_taken_is_a_sentence_not_an_end(world: World) -> None:
    world.ip("link", "add", "uplink", "type", "veth", "peer", "name", "uplink-peer")
    world.start_plane()
    world.start_control()
    world.until(
        lambda: any(line["about"] == "port uplink" for line in world.rows("overview")[0]["attention"]),
        "the problem is shown",
    )
    (port,) = (row for row in world.rows("ports") if row["port"] == "uplink")
    assert "no multi-queue TAP" in port["exception_problem"]
    world.ip("link", "delete", "uplink")
    world.until(lambda: world.plane is not None and "uplink" in world.plane.queues, "it is repaired")
