# SPDX-License-Identifier: Apache-2.0
"""Tell systemd how we are (sd_notify). Does nothing where NOTIFY_SOCKET is not set."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send `READY=1`, `STOPPING=1` or `STATUS=…`. A service manager that does not listen is only logged."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), address)
        except OSError as error:
            log.warning("could not notify the service manager at %s: %s", path, error)
