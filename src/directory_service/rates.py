# SPDX-License-Identifier: Apache-2.0
"""Token buckets by key, bounded in number: a second's worth may come at once."""

from __future__ import annotations

from collections.abc import Hashable

KEYS_MAX = 65_536


class Rates:
    """How much each key may still do now."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # key → (tokens, as of)

    def allow(self, per_second: int) -> None:
        """Take another rate for everybody, from now on."""
        self._per_second = per_second

    def take(self, key: Hashable, wanted: int, now: float) -> int:
        """Take up to `wanted` tokens; returns how many there were."""
        tokens, at = self._buckets.get(key, (float(self._per_second), now))
        tokens = min(float(self._per_second), tokens + (now - at) * self._per_second)
        given = min(wanted, int(tokens))
        if key not in self._buckets and len(self._buckets) >= KEYS_MAX:
            self._forget(now)
        self._buckets[key] = (tokens - given, now)
        return given

    def _forget(self, now: float) -> None:
        # A bucket that is full again need not be kept.
        self._buckets = {key: (t, at) for key, (t, at) in self._buckets.items() if now - at < 1.0}
        while len(self._buckets) >= KEYS_MAX:
            self._buckets.pop(next(iter(self._buckets)))
