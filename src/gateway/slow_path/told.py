# SPDX-License-Identifier: Apache-2.0
"""What the directory has told this worker of its V-nets, and what the data plane is told of it: at once,
again where something was refused, and all of it where it is another one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np

from directory_client.events import Changed, Snapshot
from fastpath.records import ChangeKind, RecordType, make
from fastpath.records import Refusal as Why
from gateway.slow_path.announcement import OPERATIONS as ANNOUNCEMENTS
from gateway.slow_path.announcement import announcement
from gateway.slow_path.announcer import Announcer
from gateway.slow_path.in_force import InForce, closing
from gateway.slow_path.kinds.registry import TOLD_AGAIN
from gateway.slow_path.operations import MalformedOperation, Operation, record_of
from gateway.slow_path.outgoing import Outgoing
from gateway.slow_path.places import Places
from gateway.slow_path.refusals import Refusals
from gateway.slow_path.room import Room
from gateway.slow_path.tables import Tables
from gateway.slow_path.tunnel_names import TunnelNames
from gateway.slow_path.view import View

Rows = np.ndarray[Any, Any]

NO_ROOM = (Why.QUOTA, Why.NO_ROOM)
_TOLD_BY_ANSWERS = (RecordType.LOCATION_SET, RecordType.TUNNEL_SET)


class Told:
    """One worker's. `answering`: whether a directory answers; None: not known yet."""

    def __init__(self, worker: int, workers: int, out: Outgoing, refusals: Refusals, tables: Tables) -> None:
        self.views: dict[int, View] = {}
        self.incarnation = 0
        self.answering: bool | None = None
        self.has_view = False
        self._worker = worker
        self._workers = workers
        self._out = out
        self._refusals = refusals
        self._tables = tables
        self._places = Places()
        self._room = Room()
        self._tunnel_names = TunnelNames()
        self._announcer = Announcer()
        self._facts_pushed: set[int] = set()  # V-nets that have changed at one revision, not in force yet
        self._in_force = InForce(workers)
        self._asked_from: frozenset[int] = frozenset()  # VNIs that the last snapshot was asked with
        self._reached = 0  # revision that has been told to the data plane, or is about to be
        self._newly_in_force: int | None = None
        self._there: set[int] = set()  # V-nets that the data plane had when it was connected
        self._found = False  # there was a data plane,
        self._told = False  # and it was told everything: what was decided before this process is of then

    def sync(self) -> None:
        """Have the data plane confirm what it is told, where something has to be confirmed: the last record
        of those that are sent now."""
        if (sync := self._in_force.sync(self.incarnation, self.views)) is not None:
            self._out.emit(sync)

    def in_force(self) -> list[tuple[int, int, int]]:
        """Return (VNI, incarnation, revision) of what is known to be in force, to ask for a snapshot with."""
        known = self._in_force.vnets
        self._asked_from = frozenset(known)
        return [(vni, *in_force) for vni, in_force in known.items()]

    def take_in_force(self) -> int | None:
        """Return the revision that the data plane has just confirmed to be in force; None: none is new."""
        revision, self._newly_in_force = self._newly_in_force, None
        return revision

    def announce(self, now_s: float) -> None:
        """Write down the announcements that are due. For when there is a data plane only."""
        due_s = self._announcer.due_s()
        if due_s is None or now_s < due_s:
            return
        records, count = self._announcer.take(now_s, self.views, self.incarnation)
        for record in records:
            self._out.emit(record)
        self._out.counters["announced"] += count

    def announcements_due_s(self) -> float | None:
        """Return when `announce` has something to do."""
        return self._announcer.due_s()

    def due_s(self) -> float | None:
        """Return when `tick` has something to do."""
        due = (self._places.due_s(), self._in_force.due_s(), self._room.due_s())
        return min((at for at in due if at is not None), default=None)

    def no_room(self) -> list[tuple[int, str, str]]:
        """Return (VNI, V-net's name, table) of what finds no room in the data plane; VNI 0: of no V-net."""
        lacking = list(self._room.lacking())
        return [(vni, self.views[vni].name() if vni in self.views else "", table) for vni, table in lacking]

    def connected(self, vnets: Mapping[int, tuple[int, int]]) -> None:
        """A data plane is there, with these V-nets of ours in its tables, of which (incarnation, revision) is
        in force: tell it all that is known."""
        for kept in (self._tables, self._places, self._room):
            kept.clear()
        self._there = set(vnets)
        unknown = set(vnets) - set(self._in_force.vnets)
        self._in_force.found(vnets)
        if self.answering is not None:
            self._tell_state()
        # A view that is here was asked for without these: what has been forbidden in them is not known.
        self._in_force.close_whole(self._newest_of(unknown), self.incarnation)
        for change in self._in_force.connected():  # what it adopted may be open still
            self._out.emit(change)
        self._found = True
        if self.has_view:
            self._tell_everything(self._facts_pushed & self._there if self._told else self._there)
            self._told = True
        self._announcer.again()

    def refused(self, rows: Rows, now_s: float) -> None:
        """Take REFUSED records: of what finds no room, or a place that another V-net still has."""
        self._room.refused(rows, now_s)
        unknown = (rows["why"] == Why.UNKNOWN_OBJECT) & (rows["refused_type"] != RecordType.TUNNEL_REMOVE)
        full = np.isin(rows["why"], NO_ROOM) & np.isin(rows["refused_type"], _TOLD_BY_ANSWERS)
        if (unknown | full).any():
            # What no flow names is forgotten there after a while: tell it anew when it is next named.
            self._tables.clear_told()
        self._places.refused(rows, now_s)

    def has_attachment(self, vni: int, object_id: int) -> bool:
        """Tell whether a V-net has this attachment, as far as that is known."""
        view = self.views.get(vni) if self.has_view else None
        return view is None or view.has_attachment(object_id)

    def lacks_location(self, vnis: Iterable[int]) -> list[bool]:
        """Tell for each V-net whether one of its locations, or a tunnel, found no room lately."""
        return self._room.lacks_location(vnis)

    def synced(self, rows: Rows) -> None:
        """Take SYNCED records."""
        for number in rows["number"].tolist():
            revision = self._in_force.synced(number, self.incarnation)
            if revision is not None:
                self._newly_in_force = revision
                if self._in_force.is_settled:
                    self._facts_pushed.clear()

    def resolved(self, rows: Rows) -> None:
        """Announce once more to those at the other end, who could not be told until now."""
        vnis: set[int] = set()
        for object_id in rows["object_id"].tolist():
            vnis |= self._tunnel_names.vnets(object_id)
        if vnis:
            self._announcer.again(vnis)

    def state(self, answering: bool) -> None:
        """Somebody answers, or nobody does."""
        self.answering = answering
        self._tell_state()

    def tick(self, now_s: float) -> None:
        """Tell again what is due."""
        self._in_force.tick(now_s)
        self._tell_places(now_s)
        self._try_room(now_s)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Replace what was known of every V-net."""
        same = snapshot.incarnation == self.incarnation
        if not same:
            for vni in list(self.views):
                self._refusals.forget(vni)
        self.incarnation = snapshot.incarnation
        before = self.views
        moved: set[int] = set()  # as far as is known: at one revision, but other locators
        arrivals: list[tuple[View, Operation]] = []
        self.views = {}
        self._room.clear()
        self._tables.clear()
        self._tunnel_names.clear()
        for vni, operations in snapshot.vnets:
            if not self.is_mine(vni):
                continue
            view = self.views[vni] = View(vni)
            view.revision = snapshot.revision
            self._refusals.forget(vni)
            for operation in operations:
                if operation.get("op") in ANNOUNCEMENTS:
                    arrivals.append((view, operation))  # once all is told
                elif operation.get("op") == "scope":
                    self._close(vni, operation, snapshot.revision)
                else:
                    self._take_up(view, operation, snapshot.revision)
            old = before.get(vni)
            if old is None:
                moved |= set() if self._told else {vni} & self._there
            elif same and old.revision == snapshot.revision and view.differs(old):
                moved.add(vni)
        # What it was not asked about, or is not answered: nobody says what has been forbidden meanwhile.
        unknown = set(self._in_force.vnets) - (self._asked_from if snapshot.closes else frozenset())
        for record in self._in_force.close_whole(self._newest_of(unknown), self.incarnation):
            self._out.emit(record)
        self.has_view = True
        self._there |= set(before)
        self._tell_everything(moved)
        self._told = self._found
        for view, one in arrivals:
            self._announce(view, one)
        self._reached = snapshot.revision
        self._in_force.reached(snapshot.revision, anew=True)

    def reached(self, revision: int) -> None:
        """Nothing up to this revision concerns us but what was told: it shall be in force."""
        if self.has_view and revision > self._reached:
            self._reached = revision
            self._in_force.reached(revision)

    def changed(self, change: Changed) -> None:
        """Apply a push."""
        if not self.is_mine(change.vni):
            return
        view = self.views.setdefault(change.vni, View(change.vni))
        if change.revision == view.revision and change.operations:
            self._facts_pushed.add(change.vni)
        view.revision = max(view.revision, change.revision)
        self._places.told(change.vni)
        for operation in change.operations:
            self._apply(view, operation, change.revision)
        if change.vni in self.views:
            self._begins(view)
        reached = change.revision - (not change.last)
        self._reached = max(self._reached, reached)
        self._in_force.reached(reached)

    def learned(self, vni: int, operation: Operation, revision: int) -> None:
        """Take an operation that was asked for."""
        self._apply(self.views.get(vni) or View(vni), operation, revision)

    def is_mine(self, vni: int) -> bool:
        """Tell whether a V-net is this worker's."""
        return 0 < vni < 1 << 24 and vni % self._workers == self._worker

    def _close(self, vni: int, operation: Operation, newest: int) -> None:
        """Close what was forbidden before a snapshot and not told by a push."""
        try:
            record = record_of(operation, vni, newest, self.incarnation)
        except MalformedOperation:
            self._out.counters["operations_malformed"] += 1
            record = None
        record = closing(vni, self.incarnation, newest) if record is None else record
        self._out.emit(record)
        self._in_force.tightened(record)

    def _newest_of(self, vnis: Set[int]) -> dict[int, int]:
        return {vni: self.views[vni].revision for vni in sorted(vnis & self.views.keys())}

    def _begins(self, view: View) -> None:
        """Take note of a V-net that is new to the data plane; what that has is known once it was there."""
        if self._found:
            self._in_force.begins(view.vni, self.incarnation, view.revision)

    def _apply(self, view: View, operation: Operation, revision: int) -> None:
        if operation.get("op") in ANNOUNCEMENTS:
            self._announce(view, operation)
            return
        record = self._take_up(view, operation, revision)
        if record is None:
            return
        if operation["op"] == "tunnel_removed":
            self._take_back(view, [operation["object_id"]], revision)
            return
        self._out.emit(record)
        if operation["op"] == "scope":
            self._in_force.tightened(record)
            self._refusals.change(view.vni, revision, record["scope"][0])
        elif operation["op"] == "vnet_removed":
            self._refusals.forget(view.vni)
            self._room.gone(view.vni)
            self.views.pop(view.vni, None)
            self._in_force.removed(view.vni)
            self._take_back(view, [tunnel["object_id"] for tunnel in view.of_kind("tunnel")], revision)

    def _take_back(self, view: View, tunnels: list[int], revision: int) -> None:
        """Remove tunnels that a V-net names no longer, unless another one of ours does."""
        for object_id in self._tunnel_names.remove_all(tunnels, view.vni):
            self._tables.removed(object_id, revision)
            self._out.emit(make(RecordType.TUNNEL_REMOVE, object_id=object_id, revision=revision))

    def _take_up(self, view: View, operation: Operation, revision: int) -> Rows | None:
        """Check an operation by making its record, and note it in the view."""
        try:
            record = record_of(operation, view.vni, revision, self.incarnation)
        except MalformedOperation:
            self._out.counters["operations_malformed"] += 1
            return None
        if record is not None:
            view.apply(operation)
            self._tables.pushed(record)
            if operation["op"] == "tunnel":
                self._tunnel_names.add(operation["object_id"], view.vni)
        return record

    def _announce(self, view: View, operation: Operation) -> None:
        try:
            self._announcer.add(announcement(operation, view.vni))
        except MalformedOperation:
            self._out.counters["operations_malformed"] += 1

    def _tell_everything(self, moved: Iterable[int] = ()) -> None:
        """Tell all that is known. In the V-nets that have `moved` everything is asked again: of what was
        decided at this very revision nothing else would say that it is old."""
        bracket = {"incarnation": self.incarnation, "workers": self._workers}
        self._out.emit(make(RecordType.SNAPSHOT_BEGIN, **bracket))
        for vni in sorted(self._there - set(self.views)):
            self._out.emit(make(RecordType.VNET_REMOVE, vni=vni, incarnation=self.incarnation))
            self._refusals.forget(vni)
            self._in_force.removed(vni)
        self._there = set(self.views)
        for view in self.views.values():
            self._tell(view)
        self._out.emit(make(RecordType.SNAPSHOT_END, **bracket))
        for view in (self.views[vni] for vni in sorted(moved) if vni in self.views):
            self._out.emit(_any_moved(view, self.incarnation))

    def _tell(self, view: View) -> None:
        bracket = {"vni": view.vni, "revision": view.revision, "incarnation": self.incarnation}
        begun = False
        for operation in view.operations():
            record = record_of(operation, view.vni, view.revision, self.incarnation)
            if record is not None:
                self._out.emit(record)
            if not begun:  # behind the V-net itself, which comes first
                self._out.emit(make(RecordType.SNAPSHOT_BEGIN, **bracket))
                begun = True
        if begun:
            self._out.emit(make(RecordType.SNAPSHOT_END, **bracket))
            self._begins(view)

    def _tell_places(self, now_s: float) -> None:
        """Tell the attachments and ingresses again of V-nets where one was refused for a conflict."""
        for vni in self._places.take_due(now_s, self.views):
            view = self.views[vni]
            self._out.counters["places_told_again"] += 1
            self._emit_all(view, (*view.of_kind("attachment"), *view.of_kind("ingress")))

    def _try_room(self, now_s: float) -> None:
        """Tell again what found no room."""
        for vni, table, has_room in self._room.take_due(now_s):
            view = self.views.get(vni)
            if view is None:
                continue
            self._out.counters["told_for_room"] += 1
            if table == "vnets" and has_room:
                self._tell(view)
                self._in_force.reached(view.revision)
                continue
            for kind in () if has_room else TOLD_AGAIN[table]:
                self._emit_all(view, view.of_kind(kind))

    def _emit_all(self, view: View, operations: Iterable[Operation]) -> None:
        for operation in operations:
            record = record_of(operation, view.vni, view.revision, self.incarnation)
            if record is not None:
                self._out.emit(record)

    def _tell_state(self) -> None:
        self._out.emit(
            make(
                RecordType.DIRECTORY_STATE,
                answering=bool(self.answering),
                worker=self._worker,
                workers=self._workers,
            )
        )


def _any_moved(view: View, incarnation: int) -> Rows:
    """Return a change of kind move that covers everything in a V-net."""
    head = {"vni": view.vni, "revision": view.revision}
    record = make(RecordType.CHANGE, **head, incarnation=incarnation, kind=ChangeKind.MOVE)
    record["scope"]["port_high"] = 0xFFFF
    return record
