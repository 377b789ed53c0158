# SPDX-License-Identifier: Apache-2.0
"""Attachments and ingresses: told again when refused."""

from __future__ import annotations

import numpy as np
import pytest
from resolver_world import INCARNATION, VNI, records, snapshot

from directory_client.events import Changed
from fastpath.records import RecordType, Refusal, make
from gateway.slow_path.places import CONFLICTS_MAX
from gateway.slow_path.resolver import Resolver


def refused(record_type: RecordType, why: Refusal) -> np.ndarray:
    return make(RecordType.REFUSED, vni=VNI, refused_type=record_type, why=why)


@pytest.fixture
def resolver() -> Resolver:
    made = Resolver(0, 1, 1.0)
    made.state(True)
    made.snapshot(snapshot())
    (sync,) = (row for row in made.take_records() if row["head"]["type"][0] == RecordType.SYNC)
    made.records(records(make(RecordType.SYNCED, number=sync["number"])), 0.0)
    return made


def kinds(resolver: Resolver) -> list[int]:
    return [int(row["head"]["type"]) for batch in resolver.take_records() for row in batch]


def test_attachment_whose_place_is_taken_is_told_again(resolver: Resolver) -> None:
    resolver.records(records(refused(RecordType.ATTACHMENT_SET, Refusal.CONFLICT)), 100.0)
    assert resolver.due_s() == pytest.approx(100.05)
    resolver.tick(100.04)
    assert kinds(resolver) == []
    resolver.tick(100.06)
    assert RecordType.ATTACHMENT_SET in kinds(resolver)
    assert resolver.due_s() is None
    resolver.tick(101.0)
    assert kinds(resolver) == []


def test_place_that_stays_taken_is_given_up_until_something_changes(resolver: Resolver) -> None:
    now_s, told = 100.0, 0
    for _ in range(3 * CONFLICTS_MAX):
        resolver.records(records(refused(RecordType.ATTACHMENT_SET, Refusal.CONFLICT)), now_s)
        now_s += 2.0
        resolver.tick(now_s)
        told += RecordType.ATTACHMENT_SET in kinds(resolver)
    assert told == CONFLICTS_MAX
    resolver.changed(Changed(VNI, INCARNATION, 9, 0, []))
    resolver.records(records(refused(RecordType.ATTACHMENT_SET, Refusal.CONFLICT)), now_s)
    resolver.tick(now_s + 2.0)
    assert RecordType.ATTACHMENT_SET in kinds(resolver)


def test_other_refusals_tell_nothing_again(resolver: Resolver) -> None:
    resolver.records(records(refused(RecordType.ATTACHMENT_SET, Refusal.MALFORMED)), 100.0)
    resolver.records(records(refused(RecordType.TUNNEL_SET, Refusal.CONFLICT)), 100.0)
    assert resolver.due_s() is None
