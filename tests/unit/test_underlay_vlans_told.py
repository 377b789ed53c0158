# SPDX-License-Identifier: Apache-2.0
"""In which VLANs tunnels come: what is used no longer goes, and what is refused stands until it is taken."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
from admin_world import World as AdminWorld

from gateway.control.underlay_vlans import AGAIN_S, UnderlayVlans
from gateway.show.attention import attention
from gateway.underlay.nexthop import Hop, Link, Pair, Tables, UnderlayPort

PORT = UnderlayPort(1, "uplink", "uplink0")
HERE = IPv4Address("192.0.2.1")
FIRST, SECOND = (Pair(HERE, IPv4Address(f"192.0.2.{n}")) for n in (2, 3))


def link(index: int, name: str, parent: int = 0, vlan: int = 0) -> Link:
    return Link(index, name, "02:00:00:00:00:01", 1500, True, True, parent, vlan)


TABLES = Tables(
    links={n: link(n, f"uplink0.{n}", 1, n) for n in (10, 20, 30)} | {1: link(1, "uplink0")},
    addresses={(30, IPv4Interface("198.51.100.1/24"))},
)


class DataPlane:
    def __init__(self) -> None:
        self.told: list[tuple[int, ...]] = []
        self.refuses = ""

    def tell_vlans(self, port: str, vlans: tuple[int, ...]) -> str:
        assert port == PORT.name
        self.told.append(vlans)
        return self.refuses


class World:
    def __init__(self, tmp_path: Path) -> None:
        self.state = AdminWorld(tmp_path).state
        self.data_plane = DataPlane()
        self.vlans = UnderlayVlans(self.state)
        self.now_s = 0.0

    def hops(self, pair: Pair, *vlans: int) -> None:
        self.vlans.resolved(
            pair, [Hop(PORT.index, v, "02:00:00:00:00:02", "02:00:00:00:00:01") for v in vlans]
        )

    def tell(self) -> list[tuple[int, ...]]:
        """What is told now."""
        self.data_plane.told.clear()
        self.vlans.tell([PORT], TABLES, self.data_plane, self.now_s)
        return list(self.data_plane.told)

    def problems(self) -> list[str]:
        return [one["text"] for one in attention(self.state) if one["about"] == "port uplink"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_vlan_goes_with_the_last_tunnel_that_uses_it(world: World) -> None:
    world.hops(FIRST, 10)
    world.hops(SECOND, 10, 20)
    assert world.tell() == [(10, 20, 30)]
    world.hops(SECOND, 20)
    assert world.tell() == []
    world.hops(FIRST, 20)
    assert world.tell() == [(20, 30)]
    world.vlans.keep_only([FIRST])
    assert world.tell() == []
    world.vlans.keep_only([])
    assert world.tell() == [(30,)]


def test_a_tunnel_whose_next_hop_is_lost_goes_on_receiving(world: World) -> None:
    world.hops(FIRST, 10)
    world.tell()
    world.hops(FIRST)
    assert world.tell() == []


def test_what_is_refused_is_told_again_and_stands_in_attention_until_it_is_taken(world: World) -> None:
    world.hops(FIRST, 10)
    world.data_plane.refuses = "not now"
    assert world.tell() == [(10, 30)]
    assert world.problems() == ["the data plane did not take the underlay's VLANs 10, 30: not now"]
    assert world.tell() == []  # not at once
    world.now_s += AGAIN_S
    assert world.tell() == [(10, 30)]
    world.data_plane.refuses = ""
    world.now_s += AGAIN_S
    assert world.tell() == [(10, 30)]
    assert world.problems() == []
    world.now_s += AGAIN_S
    assert world.tell() == []


def test_another_data_plane_is_told_everything(world: World) -> None:
    world.hops(FIRST, 10)
    world.data_plane.refuses = "not now"
    world.tell()
    world.vlans.data_plane_is_new()
    assert world.problems() == []
    assert world.tell() == [(10, 30)]
