# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them. Every function takes None for "not known" and gives "-".

Digits are grouped by a thin space on a terminal only: what is piped can be searched and counted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

THIN_SPACE = "\u2009"
UNKNOWN = "-"
SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
MINUTE, HOUR, DAY = 60, 3600, 86_400


@dataclass(frozen=True)
class Units:
    """How this output writes numbers and times."""

    terminal: bool = False
    utc: bool = False

    def count(self, value: Any) -> str:
        """An exact number: 412 903."""
        if value is None:
            return UNKNOWN
        return f"{round(value):,}".replace(",", THIN_SPACE if self.terminal else "")

    def short(self, value: Any) -> str:
        """Three digits and a scale: 1.21 M."""
        if value is None:
            return UNKNOWN
        return _scaled(float(value), "")

    def bytes(self, value: Any) -> str:
        return UNKNOWN if value is None else _scaled(float(value), "B", spaced=True)

    def bits_per_s(self, value: Any) -> str:
        return UNKNOWN if value is None else _scaled(float(value), "b/s", spaced=True)

    def ratio(self, value: Any) -> str:
        """A part of a whole: 36 %, 92.7 %, 0.4 %."""
        if value is None:
            return UNKNOWN
        percent = 100 * float(value)
        digits = 0 if percent == 0 or percent >= 99.95 or abs(percent - round(percent)) < 0.05 else 1
        return f"{percent:.{digits}f} %"

    def delay_us(self, value: Any) -> str:
        """Microseconds as milliseconds, two digits that count: 0.21 ms."""
        if value is None:
            return UNKNOWN
        milliseconds = float(value) / 1000
        if milliseconds >= 1000:
            return f"{milliseconds / 1000:.1f} s"
        if milliseconds >= 9.95:
            return f"{milliseconds:.0f} ms"
        if milliseconds >= 0.995:
            return f"{milliseconds:.1f} ms"
        return f"{milliseconds:.2f} ms" if milliseconds >= 0.01 else f"{float(value):.0f} µs"

    def duration(self, seconds: Any) -> str:
        """The two largest parts: 12 d 4 h, 118 s, 5 min."""
        if seconds is None:
            return UNKNOWN
        whole = int(seconds)
        if whole < 2 * MINUTE:
            return f"{whole} s"
        if whole < HOUR:
            return f"{whole // MINUTE} min"
        if whole < DAY:
            minutes = whole % HOUR // MINUTE
            return f"{whole // HOUR} h" + (f" {minutes} min" if minutes else "")
        hours = whole % DAY // HOUR
        return f"{whole // DAY} d" + (f" {hours} h" if hours else "")

    def clock(self, time_s: Any) -> str:
        """Seconds since 1970 as a time of day, with the date if it is not today's."""
        if time_s is None:
            return UNKNOWN
        at, now = self._split(float(time_s)), self._split(time.time())
        same_day = at[:3] == now[:3]
        return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", at) + ("Z" if self.utc else "")

    def _split(self, time_s: float) -> time.struct_time:
        return time.gmtime(time_s) if self.utc else time.localtime(time_s)


def _scaled(value: float, unit: str, *, spaced: bool = False) -> str:
    """Scale by powers of 1000. 999.6 k is 1 M: the scale is chosen after rounding."""
    for index, (factor, letter) in enumerate(SCALES):
        if abs(value) >= factor * 0.9995:
            scaled = value / factor
            if scaled >= 999.5 and index:
                factor, letter = SCALES[index - 1]
                scaled = value / factor
            return f"{three_digits(scaled)} {letter}{unit}"
    whole = f"{value:.0f}" if value == int(value) or abs(value) >= 9.95 else f"{value:.1f}"
    return f"{whole} {unit}" if spaced else whole


def three_digits(value: float) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
