# SPDX-License-Identifier: Apache-2.0
"""What happened here lately: a bounded list that `vnetctl events` reads and follows. Control's thread
only."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EVENTS_KEPT = 4096
TEXT_MAX = 400
ADOPTED = ("flows", "vnets", "ingresses", "locations", "tunnels")
KINDS = frozenset(
    {
        "process_started",
        "process_restarted",
        "process_ended",
        "tunnel_resolved",
        "tunnel_unresolved",
        "directory_lost",
        "directory_found",
        "directory_notice",
        "tables_adopted",
        "endpoint_arrived",
        "endpoint_left",
        "document_applied",
        "records_changed",
        "data_plane_lost",
        "data_plane_found",
        "exception_up",
        "slow_path_silent",
    }
)


@dataclass(frozen=True)
class Event:
    """`seq` grows by one an event and starts anew with control; `time` is seconds since 1970."""

    seq: int
    time: float
    node: str
    event: str
    text: str

    def row(self) -> dict[str, Any]:
        return {"seq": self.seq, "time": self.time, "node": self.node, "event": self.event, "text": self.text}


class Events:
    """The last `kept` events."""

    def __init__(self, node: str, kept: int = EVENTS_KEPT, clock: Callable[[], float] = time.time) -> None:
        self._node = node
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=kept)
        self.last_seq = 0

    def add(self, event: str, text: str, time_s: float | None = None) -> Event:
        """Remember an event of now, or of `time_s` (Unix time) where it is learned later. Text is cut to one
        line of at most 400 characters."""
        line = "".join(c if c.isprintable() else " " for c in text)[:TEXT_MAX]
        self.last_seq += 1
        made = Event(self.last_seq, self._clock() if time_s is None else time_s, self._node, event, line)
        self._events.append(made)
        return made

    def after(self, seq: int, limit: int = 1000) -> list[Event]:
        """Return events that came after `seq`, oldest first, at most the last `limit`. A `seq` from before
        control's restart (larger than any now) gives all."""
        if seq > self.last_seq:
            seq = 0
        return [event for event in self._events if event.seq > seq][-limit:]


def change_text(row: dict[str, Any]) -> tuple[str, str]:
    """Return the event and its text of a row of the directory's history."""
    numbers = ", ".join(f"{row.get(what)} {what}" for what in ("added", "changed", "removed"))
    who = f"by {row.get('user') or 'somebody'}; {numbers}"
    if row.get("document"):
        return "document_applied", f"document {row['document']}: revision {row['revision']}, {who}"
    return "records_changed", f"{row.get('comment') or 'a change'}: revision {row['revision']}, {who}"


def adoption_text(adoption: dict[str, Any]) -> str:
    """Say what a data plane took over from the one before, what it dropped, how long it took."""
    kept = ", ".join(f"{adoption[what]} {what}" for what in ADOPTED if isinstance(adoption.get(what), int))
    dropped = sum(n for what, n in adoption.items() if what.startswith("dropped_") and isinstance(n, int))
    took = f", in {adoption['ns'] / 1e6:.1f} ms" if isinstance(adoption.get("ns"), int) else ""
    suspects = adoption.get("left_out")
    left_out = f", without {suspects} V-nets that its crashes have in common" if suspects else ""
    return f"the data plane took over {kept or 'the tables'}{left_out}; {dropped} entries dropped{took}"
