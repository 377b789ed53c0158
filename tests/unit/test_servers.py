# SPDX-License-Identifier: Apache-2.0
"""Which directories a client listens to, and which of them it uses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from directory_client.allegiance import OTHER_STORE_S, Allegiance
from directory_client.events import Event
from directory_client.realm import RealmPin
from directory_client.servers import MISSES_MAX, RETURN_S, SILENT_S, Servers
from directory_client.wire.answers import Answer


def server(index: int = 0) -> Any:
    """A connection without sockets."""
    return SimpleNamespace(
        index=index,
        endpoint=SimpleNamespace(name=f"d{index}"),
        up=None,
        up_at=0.0,
        heard_at=None,
        misses=0,
        failures=0,
        refused="",
        refusal=None,
        held_since=1.0,
        every_s=1,
        heartbeat_sent_at=None,
        obstacle=("", ""),
        realm=0,
        era=0,
    )


def said(realm: int | None = 7, store: int | None = None, era: int = 1) -> Answer:
    return Answer(ok=True, realm=realm, store=store, era=era, incarnation=9, revision=4, seal=1)


class World:
    """Servers of which it is written down what becomes of them."""

    def __init__(self, count: int) -> None:
        self.told: list[Event] = []
        self.left: list[int] = []
        self.servers = Servers(
            [server(index) for index in range(count)],
            Allegiance(RealmPin()),
            self.told.append,
            lambda before, now: self.left.append(before.index),
            lambda: True,
        )

    def hear(self, index: int, answer: Answer, now: float) -> bool:
        return self.servers.listen(self.servers.all[index], answer, now)


@pytest.mark.parametrize(
    ("answers", "judged"),
    [
        ([(0, said(7), 0.0), (0, said(7), 1.0)], ["", ""]),
        ([(0, said(7), 0.0), (1, said(8), 1.0), (1, said(None), 2.0)], ["", "realm", "realm"]),
        ([(0, said(7, 70), 0.0), (1, said(7, 71), 1.0)], ["", "store"]),
        ([(0, said(7, 70), 0.0), (1, said(7, 71), 1.0), (1, said(7), 2.0)], ["", "store", "store"]),
        ([(0, said(7, 70), 0.0), (1, said(7, 71, era=2), 1.0), (0, said(7, 70), 2.0)], ["", "", "store"]),
        ([(0, said(7, 70), 0.0), (1, said(7, 71), OTHER_STORE_S)], ["", ""]),
        ([(1, said(8), 0.0), (0, said(7), 1.0)], ["", "realm"]),
    ],
    ids=["same", "realm", "store", "store goes on", "new era", "long silent", "first one pins"],
)
def test_a_client_listens_to_one_realm_and_one_store_of_it(answers, judged):
    allegiance, servers = Allegiance(RealmPin()), [server(0), server(1)]
    found = []
    for index, answer, now in answers:
        servers[index].refused = allegiance.judge(servers[index], answer, now)
        found.append(servers[index].refused)
    assert found == judged


def test_another_server_is_used_once_one_has_missed_two_answers():
    world = World(2)
    assert world.hear(0, said(), 0.0)
    assert world.hear(1, said(), 0.0)
    for _ in range(MISSES_MAX):
        world.servers.missed(world.servers.all[0], 1.0)
    assert (world.servers.name(), world.left) == ("d1", [0])
    assert [(one.endpoint, one.up, one.active) for one in world.told] == [
        ("d0", True, "d0"),
        ("d1", True, "d0"),
        ("d0", False, "d1"),
    ]


def test_the_server_in_front_is_used_again_once_it_was_well_for_a_while():
    world = World(2)
    world.hear(1, said(), 0.0)
    assert world.servers.name() == "d1"
    world.hear(0, said(), 1.0)
    world.servers.tick(0.5 + RETURN_S, is_greeting=False)
    assert world.servers.name() == "d1"
    world.servers.tick(1.0 + RETURN_S, is_greeting=False)
    assert (world.servers.name(), world.left) == ("d0", [0, 1])


def test_silence_counts_only_where_each_server_is_greeted():
    world = World(1)
    world.hear(0, said(), 0.0)
    world.servers.tick(SILENT_S + 1.0, is_greeting=False)
    assert world.servers.name() == "d0"
    world.servers.tick(SILENT_S + 1.0, is_greeting=True)
    assert world.servers.name() is None


def test_a_server_of_another_realm_is_given_up_and_says_nothing():
    world = World(2)
    world.hear(0, said(7), 0.0)
    world.hear(1, said(7), 0.0)
    assert not world.hear(0, said(8), 1.0)
    assert (world.servers.name(), world.servers.foreign) == ("d1", 1)


@pytest.mark.parametrize("why", ["fenced", "key"])
def test_a_server_that_does_not_serve_us_is_told_of_once_with_its_reason(why):
    world = World(2)
    refusal = Answer(ok=False, error="not served", fix="stop the other", why=why)
    for now in (0.0, 1.0, 2.0):
        assert world.hear(0, refusal, now)  # who asked is told
    assert [(one.endpoint, one.up, one.why) for one in world.told] == [("d0", False, "not served")]
    assert world.servers.all[0].held_since is None
    world.hear(0, said(), 3.0)
    assert world.servers.all[0].refusal is None
