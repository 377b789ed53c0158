# SPDX-License-Identifier: Apache-2.0
"""A wall clock that steps: first in a process's path, it puts time.time ahead by what a file says."""

import os
import time
from pathlib import Path

_FILE = Path(os.environ["STORM_CLOCK"])
_time, _time_ns = time.time, time.time_ns


def _ahead_s() -> int:
    try:
        return int(_FILE.read_text() or 0)
    except (OSError, ValueError):
        return 0


time.time = lambda: _time() + _ahead_s()
time.time_ns = lambda: _time_ns() + _ahead_s() * 1_000_000_000
