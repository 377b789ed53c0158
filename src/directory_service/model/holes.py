# SPDX-License-Identifier: Apache-2.0
"""The gaps between known addresses: for an unknown one, the widest prefix around it without a known one."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

_ADDED_MIN = 64


class Holes:
    """Known addresses of `width` bits, as numbers: single ones, and ranges (first, last). Never changes."""

    def __init__(self, known: Iterable[int], ranges: Iterable[tuple[int, int]], width: int) -> None:
        self.width = width
        self._known = sorted(known)  # shared with those that are made from this one
        self._added: list[int] = []
        self._removed: frozenset[int] = frozenset()
        self._lows: list[int] = []
        self._highs: list[int] = []
        for low, high in sorted(ranges):
            if self._highs and low <= self._highs[-1] + 1:
                self._highs[-1] = max(self._highs[-1], high)
            else:
                self._lows.append(low)
                self._highs.append(high)

    def changed(self, come: Iterable[int], gone: Iterable[int]) -> "Holes":
        """Return what is left between when single addresses became known, or unknown."""
        other = Holes((), (), self.width)
        other._lows, other._highs, other._known = self._lows, self._highs, self._known
        added, removed = set(self._added), set(self._removed)
        for address in gone:
            if address in added:
                added.remove(address)
            else:
                removed.add(address)
        for address in come:
            if address in removed:
                removed.remove(address)
            else:
                added.add(address)
        if len(added) + len(removed) > max(_ADDED_MIN, len(self._known) ** 0.5):
            other._known = sorted({*self._known, *added} - removed)
        else:
            other._added, other._removed = sorted(added), frozenset(removed)
        return other

    def prefix_bits(self, address: int) -> int:
        """Return the length of the widest prefix around `address` without a known address (width: only
        itself)."""
        at = bisect_right(self._lows, address)
        if at and address <= self._highs[at - 1]:
            return self.width
        near = [*self._highs[max(at - 1, 0) : at], *self._lows[at : at + 1]]
        at = bisect_left(self._added, address)
        near += self._added[max(at - 1, 0) : at + 1]
        known, removed = self._known, self._removed
        above = bisect_left(known, address)
        below = above - 1
        while below >= 0 and known[below] in removed:
            below -= 1
        while above < len(known) and known[above] in removed:
            above += 1
        near += known[max(below, 0) : below + 1] + known[above : above + 1]
        if address in near:
            return self.width
        return max((self._differs_at(address, other) for other in near), default=0)

    def _differs_at(self, one: int, other: int) -> int:
        return self.width - (one ^ other).bit_length() + 1
