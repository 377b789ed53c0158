# SPDX-License-Identifier: Apache-2.0
"""What slow path and parent tell control (docs/protocol.md, section 3.1): events and statistics, checked."""

from __future__ import annotations

import re
from typing import Any

import msgpack

from gateway.state.state import State, Worker

MESSAGE_BYTES_MAX = 65_536
WORKERS_MAX = 64
WORKER = re.compile(r"slow-path-([0-9]{1,9})")
TABLES_MAX, NAMES_MAX = 16, 16  # of what finds no room
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def take(state: State, frames: list[bytes]) -> None:
    """Take one message; what is none is counted and dropped."""
    try:
        message = msgpack.unpackb(frames[0], max_ext_len=0) if len(frames) == 1 else None
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException):
        message = None
    if not isinstance(message, dict) or message.get("v") != 1 or not _take(state, message):
        state.malformed_inbox += 1


def _take(state: State, message: dict[str, Any]) -> bool:
    sender, event, statistics = message.get("from"), message.get("event"), message.get("statistics")
    if not isinstance(sender, str) or not NAME.fullmatch(sender):
        return False
    if event is not None:
        text = message.get("text", "")
        if not isinstance(event, str) or not NAME.fullmatch(event) or not isinstance(text, str):
            return False
        state.events.add(event, text or sender)
        return True
    if not isinstance(statistics, dict) or not _is_statistics(statistics):
        return False
    if (numbered := WORKER.fullmatch(sender)) and int(numbered[1]) >= state.workers_configured:
        return True  # the data plane refuses it: nobody waits for it when it is gone
    if sender not in state.workers and len(state.workers) >= WORKERS_MAX:
        return False
    now = state.clock()
    old = state.workers.get(sender)
    if old is None or _started_anew(old.now, statistics):
        state.workers[sender] = Worker(now, statistics, now, {})
    elif not old.before or now - old.before_s >= 10.0:
        state.workers[sender] = Worker(now, statistics, old.received_s, old.now)
    else:
        state.workers[sender] = Worker(now, statistics, old.before_s, old.before)
    return True


def _started_anew(before: dict[str, Any], now: dict[str, Any]) -> bool:
    return before.get("pid") != now.get("pid") or (now.get("misses") or 0) < (before.get("misses") or 0)


def _is_statistics(value: dict[str, Any]) -> bool:
    """Whether counts are numbers and the histogram is a short list of them."""
    for key in ("misses", "batches", "busy_s", "asked", "pid"):
        if key in value and (not isinstance(value[key], (int, float)) or isinstance(value[key], bool)):
            return False
    if not _is_room(value.get("no_room", {})):
        return False
    buckets = value.get("directory_us_bucket", [])
    return (
        isinstance(buckets, list)
        and len(buckets) <= 64
        and all(isinstance(n, int) and n >= 0 for n in buckets)
    )


def _is_room(value: Any) -> bool:
    """Whether what finds no room is said as table → count and a few names."""
    return (
        isinstance(value, dict)
        and len(value) <= TABLES_MAX
        and all(
            isinstance(table, str)
            and isinstance(lacking, dict)
            and isinstance(lacking.get("count"), int)
            and isinstance(names := lacking.get("vnets"), list)
            and len(names) <= NAMES_MAX
            and all(isinstance(name, str) for name in names)
            for table, lacking in value.items()
        )
    )
