# SPDX-License-Identifier: Apache-2.0
"""The command that restarts the process that runs this, for sentences."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def restart_command(
    usual_unit: str, environment: Mapping[str, str] | None = None, cgroup: Path = Path("/proc/self/cgroup")
) -> str:
    """Return what to type. Under systemd its unit is restarted; where a parent keeps the process alive (or
    nobody does) the process is ended: a parent starts it again."""
    environment = os.environ if environment is None else environment
    if "NOTIFY_SOCKET" not in environment:  # a gateway's parent does not hand it on
        return f"kill {os.getpid()}   (its parent starts it again)"
    try:
        last = cgroup.read_text().strip().rpartition("/")[2]
    except OSError:
        last = ""
    return f"systemctl restart {last.removesuffix('.service') if last.endswith('.service') else usual_unit}"
