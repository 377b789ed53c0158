# SPDX-License-Identifier: Apache-2.0
"""When arrivals and departures are announced: at once, and again 1, 3, 7 and 15 s later. Pure.

One frame may get lost, a switch port may not forward yet, the cable may be moved after the document: so
announcements are repeated, at intervals that double (as OVN does; VRRP and live migration repeat as well).
All of it begins anew when a tunnel that leads to a foreign VTEP gets a next hop and when there is another
data plane. After MEMORY_S nobody remembers the old place any more, and it is forgotten here too. Each time it
is looked up where the endpoint is: one that has moved on or is gone is not announced.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpath.records import LocationKind
from gateway.slow_path.announcement import Announcement
from gateway.slow_path.operations import record_of
from gateway.slow_path.view import View

PAUSES_S = (1.0, 2.0, 4.0, 8.0)
MEMORY_S = 300.0  # a bridge's memory for a MAC, as a rule (IEEE 802.1Q, 8.8.3)
KEPT_MAX = 4_096
FRAMES_PER_S = 1_000  # of 4096 that the data plane takes from each of its clients
BURST_S = 0.25

Rows = np.ndarray[Any, Any]
_Key = tuple[int, int]


@dataclass(slots=True)
class _Kept:
    announcement: Announcement
    told: int = 0
    due_s: float | None = None  # None: as soon as the time is known
    since_s: float | None = None


class Announcer:
    """One worker's."""

    def __init__(self) -> None:
        self._kept: dict[_Key, _Kept] = {}  # in the order in which they came
        self._heap: list[tuple[float, _Key]] = []
        self._new: list[_Key] = []
        self._spent_s = 0.0  # frames are paid for up to this time

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, announcement: Announcement) -> None:
        """Announce it, instead of what was to be announced of this endpoint; nothing new if that was the
        same."""
        key = announcement.vni, announcement.object_id
        known = self._kept.get(key)
        if known is not None and known.announcement == announcement:
            return
        self._kept.pop(key, None)
        self._kept[key] = _Kept(announcement)
        self._new.append(key)
        if len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]

    def again(self, vnis: Collection[int] | None = None) -> None:
        """Begin anew with all that is remembered of these V-nets; None: of all."""
        for key, kept in self._kept.items():
            if vnis is None or key[0] in vnis:
                kept.told, kept.due_s = 0, None
                self._new.append(key)

    def due_s(self) -> float | None:
        """Return when `take` has something to give; None: not by itself."""
        if self._new:
            return self._spent_s
        return max(self._heap[0][0], self._spent_s) if self._heap else None

    def take(self, now_s: float, views: Mapping[int, View], incarnation: int) -> tuple[list[Rows], int]:
        """Return the records that are due, as far as the rate allows, and how many announcements they are."""
        self._take_new(now_s)
        self._forget(now_s)
        self._spent_s = max(self._spent_s, now_s - BURST_S)
        records: list[Rows] = []
        count = 0
        while self._heap and self._heap[0][0] <= now_s and self._spent_s <= now_s:
            due_s, key = heapq.heappop(self._heap)
            kept = self._kept.get(key)
            if kept is None or kept.due_s != due_s:
                continue
            frames = self._tell(kept, views, incarnation)
            records += frames
            count += bool(frames)
            self._spent_s += len(frames) / FRAMES_PER_S
            self._schedule(key, kept, now_s)
        return records, count

    def _take_new(self, now_s: float) -> None:
        for key in self._new:
            kept = self._kept.get(key)
            if kept is None or kept.due_s is not None:
                continue
            kept.due_s = now_s
            if kept.since_s is None:
                kept.since_s = now_s
            heapq.heappush(self._heap, (now_s, key))
        self._new.clear()

    def _forget(self, now_s: float) -> None:
        while self._kept:
            key = next(iter(self._kept))
            since_s = self._kept[key].since_s
            if since_s is None or now_s - since_s < MEMORY_S:
                return
            del self._kept[key]

    def _schedule(self, key: _Key, kept: _Kept, now_s: float) -> None:
        if kept.told >= len(PAUSES_S):
            kept.due_s = None
            return
        kept.due_s = now_s + PAUSES_S[kept.told]
        kept.told += 1
        heapq.heappush(self._heap, (kept.due_s, key))

    @staticmethod
    def _tell(kept: _Kept, views: Mapping[int, View], incarnation: int) -> list[Rows]:
        announcement = kept.announcement
        view = views.get(announcement.vni)
        targets = announcement.targets(view) if view is not None else []
        if view is None or not targets:
            return []
        records = announcement.records(targets)
        if kept.told == 0:  # the data plane forgets tunnels that nothing has used for long
            tunnels = {target_id for kind, target_id, _ in targets if kind == LocationKind.TUNNEL}
            named = [op for op in view.of_kind("tunnel") if op["object_id"] in tunnels]
            rows = [record_of(op, view.vni, view.revision, incarnation) for op in named]
            records = [*(row for row in rows if row is not None), *records]
        return records
