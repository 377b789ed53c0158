# SPDX-License-Identifier: Apache-2.0
"""Find numbers by 64-bit marks, a whole array at a time: an open-addressing hash table in numpy.

Marks are spread well by whoever makes them (`mix`); 0 is none. Whoever makes one mark of longer keys compares
the keys that it finds: two may have the same.

    numbers = index.find(marks)         # -1 where there is none
    index.add(marks, numbers)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Marks = NDArray[np.uint64]
Numbers = NDArray[np.int64]

_SLOTS_MIN = 1 << 12
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_OTHER_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)


def mix(words: Any) -> Marks:
    """Spread 64-bit words. Different ones stay different, but for 0, of which no mark can be made."""
    words = words * _MULTIPLIER
    words ^= words >> _HALF
    words *= _OTHER_MULTIPLIER
    words ^= words >> _HALF
    return np.where(words == 0, _ALL_ONES, words)


class KeyIndex:
    """See the module. Nothing is taken out; `clear` empties it."""

    def __init__(self) -> None:
        self.clear()

    def __len__(self) -> int:
        return self._count

    def clear(self) -> None:
        """Forget everything."""
        self._count = 0
        self._set_size(_SLOTS_MIN)

    def find(self, marks: Marks) -> Numbers:
        """Return the number of each mark, -1 where there is none."""
        at = (marks & self._mask).view(np.int64)
        found = self._marks[at]
        known = found == marks
        if known.all():
            return self._numbers[at]
        searching = np.flatnonzero(~known & (found != 0))
        while len(searching):
            at[searching] = next_at = (at[searching] + 1) & self._last
            found = self._marks[next_at]
            known[searching] = hit = found == marks[searching]
            searching = searching[~hit & (found != 0)]
        return np.where(known, self._numbers[at], -1)

    def add(self, marks: Marks, numbers: Numbers) -> None:
        """Add marks that are not there, each once."""
        self._count += len(marks)
        if 2 * self._count > self._last:
            used = self._marks != 0
            old = self._marks[used], self._numbers[used]
            self._set_size(1 << (4 * self._count).bit_length())
            self._place(*old)
        self._place(marks, numbers)

    def _set_size(self, slots: int) -> None:
        self._last = slots - 1
        self._mask = np.uint64(self._last)
        self._marks = np.zeros(slots, np.uint64)
        self._numbers = np.zeros(slots, np.int64)

    def _place(self, marks: Marks, numbers: Numbers) -> None:
        at = (marks & self._mask).view(np.int64)
        while len(marks):
            free = self._marks[at] == 0
            self._marks[at[free]] = marks[free]  # of several the last
            placed = free & (self._marks[at] == marks)
            self._numbers[at[placed]] = numbers[placed]
            left = ~placed
            marks, numbers, at = marks[left], numbers[left], (at[left] + 1) & self._last
