# SPDX-License-Identifier: Apache-2.0
"""The resolver: refusals answer their whole scope, for as long as they hold."""

from __future__ import annotations

from resolver_bench import World, installs
from resolver_world import (
    NO_RULE,
    VNI,
    miss,
)

from fastpath.records import Action, RecordType


def test_refusal_answers_its_whole_scope_without_asking() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    world.answer()

    world.misses(miss((1, 3), token=12))

    assert world.send() == []
    (row,) = installs(world.out())
    assert (row["action"], row["reason"], row["token"]) == (Action.DROP, NO_RULE, 12)


def test_refusal_does_not_hold_for_another_source_or_v_net() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    world.answer()

    world.misses(miss((2, 3), token=12), miss((1, 3), token=13, vni=VNI + 1))

    assert world.send() == [2]


def test_refusal_ends_when_it_expires() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    world.answer()
    world.now_s += 5.1

    world.misses(miss((1, 2), token=12))

    assert world.send() == [1]


def test_refusal_ends_when_a_change_touches_it() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    world.answer()

    world.resolver.changed(world.directory.change((1, 3)))
    world.misses(miss((1, 3), token=12))

    assert world.send() == [1]


def test_refusal_that_a_change_has_overtaken_is_not_kept() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    late = world.directory.answer(1, world.asked[1].queries())
    world.resolver.changed(world.directory.change((1, 3)))
    world.resolver.answered(late, world.now_s)
    world.out()

    world.misses(miss((1, 3), token=12))

    assert world.send() == [1]


def test_refresh_is_asked_even_under_a_refusal() -> None:
    world = World(allowed=set())
    world.misses(miss((1, 2), token=11))
    world.send()
    world.answer()

    world.misses(miss((1, 3), record_type=RecordType.REFRESH))

    assert world.send() == [1]
