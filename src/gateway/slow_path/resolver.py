# SPDX-License-Identifier: Apache-2.0
"""The slow path's mind: records, answers and pushes in; questions and records out.

Pure: no sockets, no clock; the caller gives the time (`now_s`, monotonic) and passes on what comes out.

    resolver = Resolver(worker=0, workers=1, wait_s=1.0)
    resolver.records(ring.drain(4096), now_s)
    for batch in resolver.take_questions(now_s):
        resolver.asked(client.send_resolve(batch.queries()), batch, now_s)
    ring.send(join(resolver.take_records()))

What may be trusted: nothing of an answer but its form. The data plane checks every record again (V-nets,
ranges, revisions); it alone decides whether an answer came too late, since it knows every change. What is
refused as late is asked again here. Records leave in the order in which they have to be applied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from directory_client.events import Changed, Located, Resolved, Snapshot
from fastpath.records import MISS, RecordType, select
from fastpath.records import Refusal as Why
from gateway.slow_path.asking import Asking
from gateway.slow_path.locators import Locators
from gateway.slow_path.operations import Operation
from gateway.slow_path.outgoing import Outgoing
from gateway.slow_path.questions import Batch
from gateway.slow_path.refusals import Refusals
from gateway.slow_path.tables import Tables
from gateway.slow_path.told import Told
from gateway.slow_path.view import View

Rows = np.ndarray[Any, Any]

_MISS, _REFRESH = int(RecordType.MISS), int(RecordType.REFRESH)
_KNOWN = (
    *(RecordType.MISS, RecordType.REFRESH, RecordType.REFUSED),
    *(RecordType.UNKNOWN_LOCATOR, RecordType.SYNCED, RecordType.TUNNEL_UP),
)


class Resolver:
    """One worker's. `wait_s` is how long the data plane holds packets: nobody waits longer for an answer.

    What is asked and answered is Asking's, what is known and told Told's; here is who hears what."""

    def __init__(self, worker: int, workers: int, wait_s: float) -> None:
        self._out = Outgoing()
        self._refusals = Refusals()
        self._tables = Tables()
        self._told = Told(worker, workers, self._out, self._refusals, self._tables)
        self._asking = Asking(self._out, self._told, self._refusals, self._tables, wait_s)
        self._locators = Locators()

    @property
    def counters(self) -> Counter[str]:
        """What has happened, by name."""
        return self._out.counters

    @property
    def views(self) -> Mapping[int, View]:
        """What is known, by VNI."""
        return self._told.views

    @property
    def incarnation(self) -> int:
        """Of the store that told it."""
        return self._told.incarnation

    @property
    def answering(self) -> bool | None:
        """Whether a directory answers; None: not known yet."""
        return self._told.answering

    @property
    def wait_s(self) -> float:
        """How long the data plane holds packets."""
        return self._asking.wait_s

    @wait_s.setter
    def wait_s(self, wait_s: float) -> None:
        self._asking.wait_s = wait_s

    # -- out -----------------------------------------------------------------------------------

    def take_records(self) -> list[Rows]:
        """Return what the data plane is to be sent, in order; it counts as sent. A SYNC ends it where the
        data plane has to confirm something."""
        self._told.sync()
        return self._out.take()

    def in_force(self) -> list[tuple[int, int, int]]:
        """Return (VNI, incarnation, revision) of what is known to be in force, to ask for a snapshot with."""
        return self._told.in_force()

    def take_in_force(self) -> int | None:
        """Return the revision that the data plane has just confirmed to be in force; None: none is new."""
        return self._told.take_in_force()

    def announce(self, now_s: float) -> None:
        """Write down the announcements that are due. For when there is a data plane only."""
        self._told.announce(now_s)

    def announcements_due_s(self) -> float | None:
        """Return when `announce` has something to do."""
        return self._told.announcements_due_s()

    def take_questions(self, now_s: float) -> list[Batch]:
        """Return batches to be asked now; `asked` must follow for each."""
        return self._asking.take(now_s)

    def take_locators(self) -> list[bytes]:
        """Return unknown outer sources (bytes of struct fp_locator_key); `asked_locator` must follow."""
        return self._locators.take()

    def due_s(self) -> float | None:
        """Return when `tick` has something to do."""
        due = (self._told.due_s(), self._asking.due_s())
        return min((at for at in due if at is not None), default=None)

    def no_room(self) -> list[tuple[int, str, str]]:
        """Return (VNI, V-net's name, table) of what finds no room in the data plane; VNI 0: of no V-net."""
        return self._told.no_room()

    def waiting(self) -> int:
        """Return how many keys are being asked."""
        return self._asking.waiting()

    # -- from the data plane -------------------------------------------------------------------

    def connected(self, vnets: Mapping[int, tuple[int, int]]) -> None:
        """A data plane is there, with these V-nets of ours in its tables, of which (incarnation, revision) is
        in force: tell it all that is known."""
        self._asking.forget()
        self._out.clear()
        self._told.connected(vnets)

    def records(self, records: Rows, now_s: float) -> None:
        """Take what was drained from the rings."""
        if not len(records):
            return
        types = records["head"]["type"]
        current = records["head"]["version"] == 1
        asks = current & ((types == _MISS) | (types == _REFRESH))
        misses = records if asks.all() else records[asks]
        if len(misses):
            self._asking.misses(misses.view(MISS), now_s)
        if len(misses) < len(records):
            self._refused(select(records, RecordType.REFUSED), now_s)
            self._locators.unknown(select(records, RecordType.UNKNOWN_LOCATOR), now_s)
            self._told.synced(select(records, RecordType.SYNCED))
            self._told.resolved(select(records, RecordType.TUNNEL_UP))
            self.counters["records_unknown"] += int((~current | ~np.isin(types, _KNOWN)).sum())

    def _refused(self, rows: Rows, now_s: float) -> None:
        if not len(rows):
            return
        for why, count in zip(*np.unique(rows["why"], return_counts=True), strict=True):
            self.counters[f"refused_{_why_name(why)}"] += int(count)
        self._told.refused(rows, now_s)
        self._asking.refused(rows, now_s)

    # -- from the directory --------------------------------------------------------------------

    def asked(self, id: int, batch: Batch, now_s: float) -> None:
        """A batch was sent under this id."""
        self._asking.asked(id, batch, now_s)

    def answered(self, answer: Resolved, now_s: float) -> Batch | None:
        """Take the answer to a batch. Returns the batch, None for an answer that nobody waits for."""
        return self._asking.answered(answer, now_s)

    def failed(self, id: int, now_s: float, refused: bool = False) -> None:
        """No answer came, or (`refused`) one that says that none will come."""
        if not self._locators.failed(id, now_s):
            self._asking.failed(id, now_s, refused)

    def asked_locator(self, id: int, key: bytes) -> None:
        """A question about an unknown outer source was sent under this id."""
        self._locators.asked(id, key)

    def located(self, answer: Located, now_s: float) -> None:
        """Take the answer about an unknown outer source."""
        operation = self._locators.located(answer, now_s, self._is_of_mine)
        if operation is not None:
            self._told.learned(operation["vni"], operation, answer.revision)

    def state(self, answering: bool) -> None:
        """Somebody answers, or nobody does."""
        if answering == self.answering:
            return
        self._told.state(answering)
        if answering:
            self._asking.hurry()

    def tick(self, now_s: float) -> None:
        """Tell and ask again what is due; give up what nobody can be waiting for any more."""
        self._told.tick(now_s)
        self._asking.tick(now_s)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Replace what was known of every V-net."""
        self._told.snapshot(snapshot)

    def reached(self, revision: int) -> None:
        """Nothing up to this revision concerns us but what was told: it shall be in force."""
        self._told.reached(revision)

    def changed(self, change: Changed) -> None:
        """Apply a push."""
        self._told.changed(change)

    def _is_of_mine(self, operation: Operation) -> bool:
        vni = operation.get("vni")
        is_good = isinstance(vni, int) and self._told.is_mine(vni)
        self.counters["operations_malformed"] += not is_good
        return is_good


def _why_name(why: int) -> str:
    try:
        name: str = Why(int(why)).name.lower()
        return name
    except ValueError:
        return "unknown"
