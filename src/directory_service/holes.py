# SPDX-License-Identifier: Apache-2.0
"""The gaps between known addresses: for an unknown one, the widest prefix around it without a known one."""

from bisect import bisect_right
from collections.abc import Iterable


class Holes:
    """Known ranges of addresses of `width` bits, as numbers."""

    def __init__(self, known: Iterable[tuple[int, int]], width: int) -> None:
        self.width = width
        self._lows: list[int] = []
        self._highs: list[int] = []
        for low, high in sorted(known):
            if self._highs and low <= self._highs[-1] + 1:
                self._highs[-1] = max(self._highs[-1], high)
            else:
                self._lows.append(low)
                self._highs.append(high)

    def prefix_bits(self, address: int) -> int:
        """Return the length of the widest prefix around `address` without a known address (width: only
        itself)."""
        at = bisect_right(self._lows, address)
        bits = 0
        if at:
            if address <= self._highs[at - 1]:
                return self.width
            bits = max(bits, self._differs_at(address, self._highs[at - 1]))
        if at < len(self._lows):
            bits = max(bits, self._differs_at(address, self._lows[at]))
        return bits

    def _differs_at(self, one: int, other: int) -> int:
        return self.width - (one ^ other).bit_length() + 1
