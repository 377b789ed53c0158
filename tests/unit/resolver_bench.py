# SPDX-License-Identifier: Apache-2.0
"""A resolver with its questions answered by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from resolver_world import (
    DataPlane,
    Directory,
    records,
    snapshot,
)

from fastpath.records import RecordType
from gateway.slow_path.resolver import Resolver


class World:
    """A resolver whose directory answers when told to."""

    def __init__(
        self, allowed: set[tuple[int, int]] | None = None, worker: int = 0, workers: int = 1
    ) -> None:
        self.resolver = Resolver(worker, workers, 1.0)
        self.directory = Directory((1, 2, 3), allowed if allowed is not None else {(1, 2)})
        self.data_plane = DataPlane()
        self.now_s = 100.0
        self.asked: dict[int, Any] = {}
        self.resolver.state(True)
        self.resolver.snapshot(snapshot())
        self.out()

    def out(self) -> list[np.ndarray]:
        """Take records, hand them to the data plane, and what that says back in."""
        taken = self.resolver.take_records()
        said = self.data_plane.apply(taken)
        if said:
            self.resolver.records(records(*said), self.now_s)
        return taken

    def misses(self, *rows: np.ndarray) -> None:
        self.resolver.records(records(*rows), self.now_s)

    def send(self) -> list[int]:
        """Take questions as the slow path does; returns how many rows each has."""
        sizes = []
        for batch in self.resolver.take_questions(self.now_s):
            id = 1 + max(self.asked, default=0)
            self.asked[id] = batch
            self.resolver.asked(id, batch, self.now_s)
            sizes.append(len(batch))
        return sizes

    def answer(self, id: int | None = None) -> list[np.ndarray]:
        id = id or max(self.asked)
        self.resolver.answered(self.directory.answer(id, self.asked[id].queries()), self.now_s)
        return self.out()


def installs(batches: list[np.ndarray]) -> list[Any]:
    return [row for b in batches for row in b if row["head"]["type"] == RecordType.FLOW_INSTALL]


def types(batches: list[np.ndarray]) -> list[int]:
    return [int(row["head"]["type"]) for batch in batches for row in batch]
