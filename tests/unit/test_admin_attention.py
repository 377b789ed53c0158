# SPDX-License-Identifier: Apache-2.0
"""What needs attention, as control says it."""

from __future__ import annotations

from dataclasses import fields, replace
from ipaddress import ip_address, ip_interface
from types import SimpleNamespace

from admin_world import World

from directory_client.health import ServerHealth
from directory_client.wire.greeting import Notice
from gateway.configuration.configuration import Port
from gateway.control.directory_link import DirectoryLink
from gateway.processes.report import NoRoom, WorkerStatistics
from gateway.show.attention import ERA_TOLD_S, attention
from gateway.state.state import DirectoryServer, Worker
from gateway.underlay.nexthop import Pair, Resolution


def test_tunnels_carry_the_directorys_names_and_why_they_are_unresolved(world: World) -> None:
    pair = Pair(ip_address("192.0.2.1"), ip_address("203.0.113.9"))
    world.state.resolutions[pair] = Resolution(why="no route to 203.0.113.9", fix="ip route get 203.0.113.9")
    world.state.unresolved_at[pair] = 5.0
    up, unresolved = world.rows("tunnels")
    assert (up["remote_node"], up["profile"], up["inner_mtu_bytes"]) == ("ber1", "fabric", 1450)
    assert (unresolved["remote_node"], unresolved["why"]) == ("node 99", "no route to 203.0.113.9")
    assert unresolved["since"] == 5.0
    assert [row["tunnel"] for row in world.rows("tunnels", "2")] == [2]
    assert world.ask("show", noun="tunnels", name="3")["error"] == "there is no tunnel 3 at gw1"


def test_why_a_directory_does_not_serve_this_gateway_needs_attention(world: World) -> None:
    refused = DirectoryServer(
        "dir1", "ipc:///d", "refused", False, 0, None, 0.1, 3, "gw1 is there already", "stop it"
    )
    told = Notice("undeclared", "node gw1 is not declared", "vnetctl node add gw1 --site SITE")
    other = DirectoryServer("dir2", "ipc:///e", "up", True, 42, 300, 0.1, 0, notices=(told,))
    world.state.servers = lambda: [refused, other]
    lines = attention(world.state)
    assert {(one["about"], one["text"], one["command"]) for one in lines} >= {
        ("directory dir1", "gw1 is there already", "stop it"),
        ("node gw1", told.text, told.fix),
    }


def test_a_store_that_went_back_needs_attention_for_a_day(world: World) -> None:
    well = DirectoryServer("dir1", "ipc:///d", "up", True, 4, 300, 0.1, 0, incarnation=8, era=1)
    back = replace(well, incarnation=9, era=2, era_began="restored from b.db at revision 4")
    same = replace(back, name="dir2", endpoint="ipc:///e", active=False)  # on the same store
    world.state.servers = lambda: [well]
    assert not [one for one in attention(world.state) if "went back" in one["text"]]
    world.state.servers = lambda: [back, same]
    (told,) = [one for one in attention(world.state) if "went back" in one["text"]]
    assert (told["about"], told["command"]) == ("directory dir1", "vnetctl history")
    assert "era 2 began: restored from b.db at revision 4; what was changed after" in told["text"]
    world.state.servers = lambda: [replace(back, era_heard_s=ERA_TOLD_S)]
    assert not [one for one in attention(world.state) if "went back" in one["text"]]
    (row,) = world.rows("directories")  # which says it for good
    assert (row["era"], row["era_began"]) == (2, "restored from b.db at revision 4")


def test_how_long_an_era_is_known_is_counted_from_when_it_was_first_heard(world: World) -> None:
    link = DirectoryLink.__new__(DirectoryLink)
    told = SimpleNamespace(**dict.fromkeys((one.name for one in fields(ServerHealth)), 0))
    told.refused, told.state, told.era, told.era_began, told.incarnation = "", "up", 1, "", 8
    link._client, link._state, link._eras = SimpleNamespace(servers=lambda: [told]), world.state, {}
    assert link._servers()[0].era_began == ""
    told.era, told.era_began, told.incarnation = 2, "restored", 9
    assert [(one.era_began, one.era_heard_s) for one in link._servers()] == [("restored", 0.0)]
    world.now_s += 60.0
    assert link._servers()[0].era_heard_s == 60.0
    told.refused = "realm"  # of another world: none of ours
    assert link._servers()[0].era_began == ""


def test_a_locator_that_is_missing_says_where_it_belongs(world: World) -> None:
    uplink = Port("uplink", "net_tap0", "underlay", (ip_interface("192.0.2.1/24"),), exception="up0")
    world.state.configuration = replace(world.state.configuration, ports={"uplink": uplink})
    world.state.missing_locators = ("192.0.2.1", "203.0.113.99", "2001:db8::1")
    commands = [one["command"] for one in attention(world.state) if one["about"].startswith("locator")]
    assert commands == [
        "ip address add 192.0.2.1/24 dev up0",
        "ip address add 203.0.113.99/32 dev lo",
        "ip address add 2001:db8::1/128 dev lo",
    ]


def test_what_finds_no_room_needs_attention(world: World) -> None:
    first = {"vnets": NoRoom(2, ["blue", "green"])}
    second = {"vnets": NoRoom(7, ["n1", "n2", "n3", "n4", "n5"]), "locations": NoRoom(1, ["red"])}
    for number, lacking in enumerate((first, second)):
        world.state.workers[f"slow-path-{number}"] = Worker(
            world.now_s, WorkerStatistics(no_room=lacking), 0, None
        )
    lines = [one for one in attention(world.state) if one["about"] == "capacity"]
    assert [one["text"] for one in lines] == [
        "V-nets blue, green, n1, n2, n3 and 4 more are not carried: the table of V-nets is full"
        " (vnets = 256)",
        "V-net red gets no more destinations: its share of the table of locations is used up"
        " (locations = 65536)",
    ]
    assert lines[0]["command"] == "raise vnets in [capacity] of gateway.toml, then restart it"


def test_an_unresolved_tunnel_needs_attention(world: World) -> None:
    world.state.servers = lambda: [DirectoryServer("dir1", "ipc:///d", "down", False, 0, None, 9.0, 3)]
    world.state.missing_locators = ("192.0.2.1",)
    world.state.workers["slow-path-0"] = Worker(world.now_s - 60, WorkerStatistics(), 0, None)
    world.state.exception_problems["uplink"] = ("it is taken", "ip link delete uplink")
    (row,) = world.rows("overview")
    about = [line["about"] for line in row["attention"]]
    assert about == [
        "port uplink",
        "locator 192.0.2.1",
        "tunnel 2 → 203.0.113.9",
        "directory",
        "directory dir1",
        "slow-path-0",
    ]
    assert all(line["command"] for line in row["attention"])


def test_without_a_data_plane_the_overview_still_comes_and_says_so(world: World) -> None:
    world.data_plane_gone, world.state.greeting = True, None
    world.state.data_plane_why = "has ended"
    (row,) = world.rows("overview")
    assert row["data_plane"] == "gone"
    assert row["attention"][0] == {
        "about": "data plane",
        "text": "has ended",
        "command": "systemctl status vnet-gateway",
    }
    answer = world.ask("show", noun="flows")
    assert (answer["ok"], answer["code"], answer["error"]) == (False, 3, "the data plane has ended")
    assert world.rows("endpoints") == [{"name": "red/web-1", "object_id": 5}]
