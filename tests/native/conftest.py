# SPDX-License-Identifier: Apache-2.0
"""Tests of compiled code. EAL starts once a process, with the first bench."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import Bench
from installing import (
    BLUE,
    FAR,
    RACK,
    RED,
    SERVER,
    TUNNEL,
    attachment,
    flow_key,
    ingress,
    location,
    nexthop,
    open_arena,
    tunnel,
    vnet,
)
from world import World

from fastpath.records import join


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    """Return a function that makes a bench; all are closed, and must have lost no packet buffer."""
    made: list[Bench] = []

    def make(*args: object, **kwargs: object) -> Bench:
        made.append(Bench(*args, **kwargs))
        return made[-1]

    yield make
    for bench in made:
        bench.probe.close()


@pytest.fixture
def arena():
    """Red and blue, each with an attachment on rack; red has a server here and one far away."""
    with open_arena() as arena:
        set_up = [
            vnet(RED),
            vnet(BLUE),
            attachment(RED, RACK, vlan=10),
            attachment(BLUE, RACK + 1, vlan=20),
            tunnel(TUNNEL),
            nexthop(),
            ingress(RED, 9, "192.0.2.2"),
            ingress(BLUE, 9, "192.0.2.2"),
            location(RED, FAR),
            location(RED, SERVER, "local", RACK),
            location(BLUE, FAR + 1),
            location(BLUE, SERVER + 1, "local", RACK + 1),
        ]
        assert not arena.apply(join(set_up)).any()
        arena.taken()
        yield arena


@pytest.fixture
def red_key(arena):
    return flow_key(arena.ingress_by_vlan(0, 10))


@pytest.fixture
def world(make_bench):
    return World(make_bench)
