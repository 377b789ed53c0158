# SPDX-License-Identifier: Apache-2.0
"""The clocks of the directory's processes."""

import time


def wall_ms() -> int:
    """Return Unix time in milliseconds: for what is printed. It may step."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Return milliseconds of a clock that never steps, goes on in suspend, and is the same in all
    processes of the machine."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
