# SPDX-License-Identifier: Apache-2.0
"""Misses, answers, failures and revocations in every order: nothing is asked twice at once, every token is
released once, and in the end the flows are what the directory says.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from resolver_world import DataPlane, Directory, Pair, identities, miss, records, snapshot

from fastpath.records import Action
from gateway.slow_path.resolver import Resolver

EVERYONE = (1, 2, 3)
PAIRS = st.tuples(st.sampled_from(EVERYONE), st.sampled_from(EVERYONE))


class Orders(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.resolver = Resolver(0, 1, 1e9)
        self.directory = Directory(EVERYONE, {(1, 2), (2, 1)})
        self.data_plane = DataPlane()
        self.now_s = 1.0
        self.ids = 0
        self.outstanding: dict[int, Any] = {}  # asked, not yet decided
        self.decided: dict[int, Any] = {}  # decided, not yet delivered
        self.pushes: deque[Any] = deque()
        self.said: list[np.ndarray] = []  # by the data plane, not yet read
        self.tokens = 0
        self.resolver.state(True)
        self.resolver.snapshot(snapshot())
        self.apply()

    @rule(pair=PAIRS)
    def packet_misses(self, pair: Pair) -> None:
        if pair in self.data_plane.flows:
            return
        self.tokens += 1
        self.data_plane.waiting[self.tokens] = pair
        self.said.append(miss(pair, self.tokens))

    @rule()
    def hold_asks_again(self) -> None:
        self.said += [miss(pair, token) for token, pair in self.data_plane.waiting.items()]

    @rule()
    def worker_reads(self) -> None:
        if self.said:
            said, self.said = self.said, []
            self.resolver.records(records(*said), self.now_s)
        for batch in self.resolver.take_questions(self.now_s):
            self.ids += 1
            self.resolver.asked(self.ids, batch, self.now_s)
            self.outstanding[self.ids] = batch

    @rule(data=st.data())
    def directory_decides(self, data: st.DataObject) -> None:
        if self.outstanding:
            id = data.draw(st.sampled_from(sorted(self.outstanding)))
            self.decided[id] = self.directory.answer(id, self.outstanding.pop(id).queries())

    @rule(data=st.data())
    def answer_arrives(self, data: st.DataObject) -> None:
        if self.decided:
            id = data.draw(st.sampled_from(sorted(self.decided)))
            self.resolver.answered(self.decided.pop(id), self.now_s)

    @rule(data=st.data())
    def question_fails(self, data: st.DataObject) -> None:
        if self.outstanding:
            id = data.draw(st.sampled_from(sorted(self.outstanding)))
            del self.outstanding[id]
            self.resolver.failed(id, self.now_s)

    @rule(pair=PAIRS)
    def operator_changes(self, pair: Pair) -> None:
        self.pushes.append(self.directory.change(pair))

    @rule()
    def push_arrives(self) -> None:
        if self.pushes:
            self.resolver.changed(self.pushes.popleft())

    @rule()
    def snapshot_instead_of_pushes(self) -> None:
        self.pushes.clear()
        self.resolver.snapshot(snapshot(self.directory.revision))

    @rule(answering=st.booleans())
    def directory_comes_or_goes(self, answering: bool) -> None:
        self.resolver.state(answering)

    @rule()
    def time_passes(self) -> None:
        self.now_s += 0.5
        self.resolver.tick(self.now_s)

    @rule()
    def apply(self) -> None:
        self.said += self.data_plane.apply(self.resolver.take_records())

    @invariant()
    def no_key_is_asked_twice_at_once(self) -> None:
        asked = [key for batch in self.outstanding.values() for key in identities(batch.rows)]
        assert len(asked) == len(set(asked))

    @invariant()
    def no_token_is_released_twice(self) -> None:
        assert len(self.data_plane.released) == len(set(self.data_plane.released))

    def teardown(self) -> None:
        """Let everything arrive: then all is as the directory says, and nobody waits."""
        self.resolver.state(True)
        for _ in range(40):
            self.push_all_and_answer_all()
            if not (self.said or self.decided or self.data_plane.waiting):
                break
            self.hold_asks_again()
        assert not self.data_plane.waiting
        assert sorted(self.data_plane.released) == list(range(1, self.tokens + 1))
        for pair, action in self.data_plane.flows.items():
            assert action == (Action.DELIVER if pair in self.directory.allowed else Action.DROP), pair
        assert self.resolver.waiting() == 0

    def push_all_and_answer_all(self) -> None:
        while self.pushes:
            self.push_arrives()
        for id in sorted(self.decided):
            self.resolver.answered(self.decided.pop(id), self.now_s)
        self.apply()
        self.now_s += 3
        self.resolver.tick(self.now_s)
        self.worker_reads()
        for id in sorted(self.outstanding):
            self.decided[id] = self.directory.answer(id, self.outstanding.pop(id).queries())


TestOrders = Orders.TestCase
TestOrders.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
