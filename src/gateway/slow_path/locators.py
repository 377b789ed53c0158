# SPDX-License-Identifier: Apache-2.0
"""Outer sources that no V-net of this worker knows: the directory is asked who they are, seldom. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from directory_client.events import Located
from gateway.slow_path.operations import Operation

Rows = np.ndarray[Any, Any]

NEGATIVE_S = 5.0
FAILED_S = 1.0
KEPT_MAX = 65_536


class Locators:
    """One worker's. A key is the bytes of struct fp_locator_key."""

    def __init__(self) -> None:
        self._not_before_s: dict[bytes, float] = {}  # key -> asked again not before
        self._to_ask: list[bytes] = []
        self._asked: dict[int, bytes] = {}

    def unknown(self, rows: Rows, now_s: float) -> None:
        """Take UNKNOWN_LOCATOR records."""
        for row in rows:
            key = row["key"].tobytes()
            if now_s < self._not_before_s.get(key, 0.0):
                continue
            if len(self._not_before_s) >= KEPT_MAX:
                self._not_before_s.clear()
            self._not_before_s[key] = now_s + NEGATIVE_S
            self._to_ask.append(key)

    def take(self) -> list[bytes]:
        """Return those to be asked now; `asked` must follow."""
        locators, self._to_ask = self._to_ask, []
        return locators

    def asked(self, id: int, key: bytes) -> None:
        """One was asked under this id."""
        self._asked[id] = key

    def failed(self, id: int, now_s: float) -> bool:
        """No answer came; returns whether the question was one of these."""
        key = self._asked.pop(id, None)
        if key is not None:
            self._not_before_s[key] = now_s + FAILED_S
        return key is not None

    def located(
        self, answer: Located, now_s: float, is_good: Callable[[Operation], bool]
    ) -> Operation | None:
        """Take an answer; returns the operation that makes the source known, if it `is_good`. None: nobody
        knows it, or nobody asked."""
        key = self._asked.pop(answer.id, None)
        if key is None:
            return None
        if answer.operation is None:
            negative_s = NEGATIVE_S if answer.negative_s is None else answer.negative_s
            self._not_before_s[key] = now_s + negative_s
            return None
        if not is_good(answer.operation):
            return None
        self._not_before_s.pop(key, None)
        return answer.operation
