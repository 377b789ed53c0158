# SPDX-License-Identifier: Apache-2.0
"""How often a large fleet greets: seldom enough together, and nobody is taken for silent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from dispatcher_bench import OPERATOR, Bench
from test_servers import World, said
from test_subscriber import NODE, active, push

from directory_client.decoding import read_push
from directory_client.heartbeats import TOGETHER_S, Beat
from directory_client.servers import SILENT_S as SERVER_SILENT_S
from directory_client.subscriber import SILENT_S, Snapshot, Subscriber
from directory_client.wire.greeting import FEATURES
from directory_service.protocol.holders import Claim, Fenced
from directory_service.protocol.outbox import Publish

ALL = list(FEATURES)
OLDER = [name for name in FEATURES if name != "pace"]


def fleet(gateways: int, node_s: float = 10.0, **fields: Any) -> Bench:
    """A directory that has heard as many gateways; gw1 is one of them."""
    bench = Bench()
    bench.dispatcher.gateways.wait_for_silent(node_s)
    for number in range(gateways):
        bench.ask("resolve", "heartbeat", node=f"gw{number + 1}", **{"features": ALL, **fields})
    return bench


def paced(bench: Bench, **fields: Any) -> int:
    every_s: int = bench.ask("resolve", "heartbeat", node="gw1", **{"features": ALL, **fields}).get(
        "every_s", 1
    )
    return every_s


@pytest.mark.parametrize(
    ("gateways", "node_s", "every_s"),
    [(1, 10, 1), (499, 10, 1), (500, 10, 2), (1000, 10, 3), (1000, 30, 4), (750, 2, 1)],
)
def test_a_fleet_greets_as_seldom_as_its_size_and_the_lease_of_a_node_allow(
    gateways: int, node_s: float, every_s: int
) -> None:
    assert paced(fleet(gateways, node_s)) == every_s


def test_one_process_that_cannot_be_told_keeps_its_gateway_at_every_second() -> None:
    bench = fleet(1000)
    assert paced(bench, role="control", features=OLDER) == 1
    assert paced(bench) == 1  # they hear the same topic
    assert paced(bench, role="control") == 3


def test_a_gateway_hears_a_heartbeat_as_often_as_it_is_to_greet() -> None:
    bench = fleet(1000)
    for node_id in (1001, 1002):  # of gw1 and gw2
        bench.dispatcher.subscription(OPERATOR, node_id.to_bytes(8, "big"))
    assert paced(bench) == 3
    heard: dict[int, int] = {1001: 0, 1002: 0}
    bench.ask("resolve", "heartbeat", node="gw2", features=OLDER)
    for _ in range(12):
        for out in bench.tick(1.0):
            if isinstance(out, Publish):
                heard[read_push(out.frames).node_id] += 1
    assert heard == {1001: 4, 1002: 12}


def test_a_control_that_says_hello_seldom_can_be_asked_all_the_time() -> None:
    bench = fleet(1000)
    assert paced(bench) == 3
    bench.ask("write", "hello", node="gw1")
    assert bench.dispatcher.gateways.control("gw1", bench.now + 3.0 * 3) is not None
    assert bench.dispatcher.gateways.control("gw1", bench.now + 3.5 * 3) is None


def test_who_was_told_to_greet_seldom_is_not_silent_by_a_lease_that_was_made_shorter() -> None:
    bench = fleet(1000, instance="one")
    assert paced(bench, instance="one", locators=["192.0.2.1"], ports=["rack"]) == 3
    bench.ask("write", "hello", node="gw1", instance="one")
    said_at, gateways, held = bench.now, bench.dispatcher.gateways, bench.dispatcher.gateways.holders
    bench.dispatcher.take(replace(bench.configuration, node_s=2.0))

    for seconds, lives in ((3.0, True), (8.9, True), (9.1, False)):
        bench.now = said_at + seconds
        assert gateways.is_alive("gw1", bench.now) is lives
        assert gateways.describe("gw1", bench.now)["state"] == ("up" if lives else "stale")
        assert (gateways.said("gw1", bench.now) is not None) is lives
    with pytest.raises(Fenced):
        held.check("gw1", Claim("two"), said_at + 9.0)

    assert paced(bench, instance="one") == 1
    bench.now += 3.0
    assert gateways.is_alive("gw1", bench.now)  # the answer may have been lost
    assert paced(bench, instance="one") == 1
    bench.now += 3.0
    assert not gateways.is_alive("gw1", bench.now)


def test_a_goodbye_leaves_the_other_process_time_for_its_next_greeting() -> None:
    bench = fleet(1000, instance="one")
    assert paced(bench, instance="one") == 3
    bench.ask("resolve", "goodbye", node="gw1", instance="one")
    bench.now += 3.0
    assert bench.ask("resolve", "heartbeat", node="gw1", instance="two", features=ALL)["ok"] is False
    assert bench.ask("resolve", "heartbeat", node="gw1", instance="one", features=ALL)["ok"] is True


def test_a_beat_is_due_as_told_sooner_when_hurried_and_at_once_when_it_counts_in_seconds_again() -> None:
    beat = Beat(True)
    beat.done(10.0, connected=True)
    due = beat.due_at(3)
    assert due is not None
    assert 12.65 <= due <= 13.0
    assert beat.due_at() == 11.0  # its server is lost
    beat.hurry(10.5)
    assert beat.due_at(3) == pytest.approx(10.52)
    beat.done(20.0, connected=False)
    assert beat.due_at(3) == pytest.approx(20.05)


def test_beats_of_a_fleet_come_apart() -> None:
    beats = [Beat(True) for _ in range(50)]
    for beat in beats:
        beat.done(0.0, connected=True)
    assert len({beat.due_at(3) for beat in beats}) > 1


def test_rare_beats_of_a_fleet_fall_together_by_the_wall_clock() -> None:
    beats = [(started, Beat(True, lambda started=started: 1e9 + 0.013 + started)) for started in range(200)]
    due: set[float] = set()
    for started, beat in beats:
        beat.done(float(started), connected=True)
        at = beat.due_at(3)
        assert at is not None
        assert 2.6 < at - started <= 3.0
        due.add(round((at + 1e9 + 0.013) % TOGETHER_S, 6) % TOGETHER_S)
        assert beat.due_at() == started + 1.0  # once a second, when it likes
    assert max(due) - min(due) < 1e-4


def test_pushes_are_waited_for_three_times_as_long_as_they_may_take() -> None:
    subscriber: Subscriber = active({})
    subscriber.every_s = 3
    assert subscriber.due_at() == 3 * SILENT_S
    assert subscriber.tick(3 * SILENT_S - 0.1) == []
    assert subscriber.push(push(0, 0), 8.0) == []
    assert subscriber.due_at() == 8.0 + 3 * SILENT_S
    assert not any(isinstance(one, Snapshot) for one in subscriber.tick(8.0 + 3 * SILENT_S))
    assert subscriber.resyncs == {"silence": 1}
    assert subscriber.node_id == NODE


def test_a_server_that_asked_for_few_greetings_is_given_up_later_and_then_greeted_every_second() -> None:
    world = World(2)
    for index in (0, 1):
        world.hear(index, said(), 0.0)
    first, second = world.servers.all
    first.every_s = 3
    world.hear(1, said(), 3 * SERVER_SILENT_S)
    world.servers.tick(3 * SERVER_SILENT_S, is_greeting=True)
    assert world.servers.is_active(first)
    world.hear(1, said(), 3 * SERVER_SILENT_S + 0.1)
    world.servers.tick(3 * SERVER_SILENT_S + 0.1, is_greeting=True)
    assert world.servers.is_active(second)
    assert first.every_s == 1
