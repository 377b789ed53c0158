# SPDX-License-Identifier: Apache-2.0
"""What the data plane is known to enforce, and what it has still to confirm. Pure.

A revision is in force once the data plane has answered the SYNC that follows its records: what it forbids
is closed then, and no packet that was looked up before is on its way. Until then its tightening scopes are
kept, so that a data plane that takes the place of the one that was told hears them too, before anything else.

A revision is of all V-nets of this worker: the directory client takes nothing newer before it has what is
older. The data plane keeps it too, for a worker that starts anew (`found`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpath.records import ChangeKind, RecordType, make

Rows = np.ndarray[Any, Any]

AGAIN_S = 1.0  # an answer may get lost: it is asked for again
SCOPES_MAX = 1_024  # more are drawn together, one for each V-net

_WHOLE = 65_535


@dataclass(frozen=True, slots=True)
class _Sync:
    """A SYNC on its way: what is in force when it is answered."""

    number: int
    incarnation: int
    revision: int
    vnets: tuple[int, ...]  # VNIs


class InForce:
    """One worker's; it serves the V-nets with `vni % workers` == its number."""

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self.vnets: dict[int, tuple[int, int]] = {}  # VNI -> (incarnation, revision) known to be in force
        self._number = 0
        self._wanted: int | None = None  # revision that is to be confirmed
        self._sync: _Sync | None = None
        self._sync_since_s: float | None = None
        self._open: list[Rows] = []  # tightening CHANGE records since the last SYNC
        self._covered: list[Rows] = []  # those that the SYNC on its way will confirm

    def found(self, vnets: Mapping[int, tuple[int, int]]) -> None:
        """Take what a data plane says of its V-nets, (incarnation, revision) by VNI, where none is known."""
        for vni, in_force in vnets.items():
            self.vnets.setdefault(vni, in_force)

    def begins(self, vni: int, incarnation: int, revision: int) -> None:
        """Take note of a V-net that the data plane had not, or that it had of another incarnation: nothing
        that was decided before is left in it."""
        if vni not in self.vnets or self.vnets[vni][0] != incarnation:
            self.vnets[vni] = incarnation, revision

    def close_whole(self, newest: Mapping[int, int], incarnation: int) -> list[Rows]:
        """Return records that close all of V-nets, of which it is not known what was forbidden in them up to
        their newest revisions. What another incarnation has left the data plane closes by itself."""
        found = []
        for vni, revision in newest.items():
            of, known = self.vnets.get(vni, (0, 0))
            if of == incarnation and known < revision:
                found.append(closing(vni, incarnation, revision))
                self.tightened(found[-1])
        return found

    def removed(self, vni: int) -> None:
        """A V-net is taken away, with all that was decided in it."""
        self.vnets.pop(vni, None)

    def tightened(self, record: Rows) -> None:
        """Keep a CHANGE record until it is confirmed. What only loosens needs no confirmation."""
        if record["kind"][0] != ChangeKind.TIGHTEN:
            return
        self._open.append(record)
        if len(self._open) > SCOPES_MAX:
            self._open = _whole(self._open)

    def reached(self, revision: int, anew: bool = False) -> None:
        """Want a confirmation of this revision; `anew`: it may be lower than the one before."""
        self._wanted = revision if anew else max(self._wanted or 0, revision)

    def connected(self) -> list[Rows]:
        """Return what another data plane is to be told first; all of it has to be confirmed again."""
        self._give_up()
        return list(self._open)

    def sync(self, incarnation: int, vnets: Iterable[int]) -> Rows | None:
        """Return the SYNC record that follows what is being sent now; `vnets`: the VNIs that have been told.

        None: nothing is to be confirmed, or a confirmation is on its way: the next one covers the rest.
        """
        if self._wanted is None or self._sync is not None:
            return None
        self._number += 1
        self._sync = sync = _Sync(self._number, incarnation, self._wanted, tuple(vnets))
        self._sync_since_s = None
        self._wanted = None
        self._covered, self._open = self._open, []
        return make(
            RecordType.SYNC,
            number=sync.number,
            revision=sync.revision,
            incarnation=incarnation,
            workers=self._workers,
        )

    def synced(self, number: int, incarnation: int) -> int | None:
        """Take an answer; returns the revision that is in force now, None if it says nothing new."""
        sync = self._sync
        if sync is None or sync.number != number:
            return None
        self._sync = None
        self._covered = []
        if sync.incarnation != incarnation:
            return None  # of a store whose revisions mean nothing any more
        self.vnets |= dict.fromkeys(sync.vnets, (incarnation, sync.revision))
        return sync.revision

    @property
    def is_settled(self) -> bool:
        """Whether all that was wanted is confirmed."""
        return self._sync is None and self._wanted is None

    def tick(self, now_s: float) -> None:
        """Ask again where no answer has come."""
        if self._sync is None:
            return
        if self._sync_since_s is None:
            self._sync_since_s = now_s
        elif now_s - self._sync_since_s >= AGAIN_S:
            self._give_up()

    def due_s(self) -> float | None:
        """Return when `tick` has something to do."""
        if self._sync is None or self._sync_since_s is None:
            return None  # `tick` follows when it has been sent
        return self._sync_since_s + AGAIN_S

    def _give_up(self) -> None:
        if self._sync is not None and self._wanted is None:
            self._wanted = self._sync.revision
        self._sync = None
        self._open = self._covered + self._open
        self._covered = []


def _whole(records: list[Rows]) -> list[Rows]:
    """Return one record for each V-net that covers everything in it."""
    newest: dict[tuple[int, int], int] = {}
    for record in records:
        key = int(record["head"]["vni"][0]), int(record["incarnation"][0])
        newest[key] = max(newest.get(key, 0), int(record["head"]["revision"][0]))
    found = []
    for (vni, incarnation), revision in newest.items():
        found.append(closing(vni, incarnation, revision))
    return found


def closing(vni: int, incarnation: int, revision: int) -> Rows:
    """Return the CHANGE record that closes all of a V-net."""
    record = make(
        RecordType.CHANGE, vni=vni, revision=revision, incarnation=incarnation, kind=ChangeKind.TIGHTEN
    )
    record["scope"]["port_high"] = _WHOLE
    return record
