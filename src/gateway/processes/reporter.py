# SPDX-License-Identifier: Apache-2.0
"""Tell control what happens here: events and statistics (docs/protocol.md, section 3.1).

Never waits and never fails: while control is away a few messages are kept for it, the rest is lost.
"""

from __future__ import annotations

from typing import Any

import zmq

from gateway.processes.report import VERSION, Report, WorkerStatistics, pack_report

KEPT = 64


class Reporter:
    """A connection to control's PULL socket. One thread."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, process: str) -> None:
        self._process = process
        self._socket = context.socket(zmq.PUSH)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.SNDHWM, KEPT)
        self._socket.set(zmq.RECONNECT_IVL, 200)
        self._socket.set(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.connect(endpoint)
        self.lost = 0

    def tell(self, event: str, text: str) -> None:
        """Send an event."""
        self._send(Report(v=VERSION, sender=self._process, event=event, text=text))

    def report(self, statistics: WorkerStatistics) -> None:
        """Send statistics; counts are since this process started."""
        self._send(Report(v=VERSION, sender=self._process, statistics=statistics))

    def close(self) -> None:
        self._socket.close()

    def _send(self, report: Report) -> None:
        try:
            self._socket.send(pack_report(report), zmq.DONTWAIT)
        except zmq.Again:
            self.lost += 1
