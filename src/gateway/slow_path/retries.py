# SPDX-License-Identifier: Apache-2.0
"""Questions that have to be asked again later: ordered by when, bounded in rows. Pure."""

from __future__ import annotations

import heapq

import numpy as np

from gateway.slow_path.questions import Batch

ROWS_MAX = 65_536


class Retries:
    """Batches by the time at which they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Batch]] = []  # due, tie-breaker
        self._number = 0
        self._rows = 0

    def add(self, batch: Batch, due_s: float) -> list[Batch]:
        """Keep a batch. Returns those that are crowded out."""
        self._number += 1
        heapq.heappush(self._heap, (due_s, self._number, batch))
        self._rows += len(batch)
        crowded_out = []
        while self._rows > ROWS_MAX:
            crowded_out.append(self._pop())
        return crowded_out

    def take_due(self, now_s: float) -> list[Batch]:
        """Take out what is due."""
        due = []
        while self._heap and self._heap[0][0] <= now_s:
            due.append(self._pop())
        return due

    def hurry(self) -> None:
        """Make everything due."""
        self._heap = [(0.0, number, batch) for _, number, batch in self._heap]

    def due_s(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def clear(self) -> None:
        self._heap.clear()
        self._rows = 0

    def _pop(self) -> Batch:
        batch = heapq.heappop(self._heap)[2]
        self._rows -= len(batch)
        return batch


def together(batches: list[Batch]) -> Batch:
    """Make one batch of several; it is as old as the youngest."""
    if len(batches) == 1:
        return batches[0]
    rows = np.concatenate([batch.rows for batch in batches])
    attempts, born_s = max(b.attempts for b in batches), max(b.born_s for b in batches)
    return Batch(rows, attempts, born_s)
