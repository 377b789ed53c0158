# SPDX-License-Identifier: Apache-2.0
"""What slow path and parent tell control (docs/protocol.md, section 3.1): events and statistics, checked."""

from __future__ import annotations

import re

from directory_client.wire.limits import WORKERS_MAX
from gateway.processes.report import Report, WorkerStatistics, read_report
from gateway.state.state import State, Worker

WORKER = re.compile(r"slow-path-([0-9]{1,9})")
BEFORE_S = 10.0  # rates are over so long


def take(state: State, frames: list[bytes]) -> None:
    """Take one message; what is none is counted and dropped."""
    report = read_report(frames)
    if report is None:
        state.malformed_inbox += 1
    elif report.event is not None:
        state.events.add(report.event, report.text or report.sender)
    else:
        _take_statistics(state, report)


def _take_statistics(state: State, report: Report) -> None:
    sender, said = report.sender, report.statistics
    if said is None:
        return
    if (numbered := WORKER.fullmatch(sender)) and int(numbered[1]) >= state.workers_configured:
        return  # the data plane refuses it: nobody waits for it when it is gone
    if sender not in state.workers and len(state.workers) >= WORKERS_MAX:
        state.malformed_inbox += 1
        return
    state.names.tell(said.names, said.names_of)
    now = state.clock()
    old = state.workers.get(sender)
    if old is None or _started_anew(old.now, said):
        state.workers[sender] = Worker(now, said, now, None)
    elif old.before is None or now - old.before_s >= BEFORE_S:
        state.workers[sender] = Worker(now, said, old.received_s, old.now)
    else:
        state.workers[sender] = Worker(now, said, old.before_s, old.before)


def _started_anew(before: WorkerStatistics, now: WorkerStatistics) -> bool:
    return before.pid != now.pid or now.misses < before.misses
