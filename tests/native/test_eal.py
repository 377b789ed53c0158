# SPDX-License-Identifier: Apache-2.0
"""What DPDK's environment leaves behind on the machine."""

from __future__ import annotations

import os
from pathlib import Path

RUNTIME = Path("/var/run/dpdk")


def test_no_directory_is_left_behind(world):
    assert world.bench.probe.counters()["received"] == 0  # it has started
    assert not (RUNTIME / f"rig-{os.getpid()}").exists()
