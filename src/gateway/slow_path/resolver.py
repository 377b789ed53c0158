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

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np

from directory_client.events import Changed, Located, Resolved, Snapshot
from fastpath.records import MISS, Action, ChangeKind, RecordType, make, select
from fastpath.records import Refusal as Why
from gateway.slow_path.announcement import OPERATIONS as ANNOUNCEMENTS
from gateway.slow_path.announcement import announcement
from gateway.slow_path.announcer import Announcer
from gateway.slow_path.decisions import drops, endings, installs, refusals_of
from gateway.slow_path.in_force import InForce, closing
from gateway.slow_path.operations import MalformedOperation, Operation, record_of
from gateway.slow_path.questions import Batch, Questions
from gateway.slow_path.refusals import Refusals
from gateway.slow_path.retries import Retries, together
from gateway.slow_path.room import TOLD_AGAIN, Room
from gateway.slow_path.tables import Tables
from gateway.slow_path.tunnel_names import TunnelNames
from gateway.slow_path.view import View

Rows = np.ndarray[Any, Any]

BATCH_ROWS_MAX = 2_048  # more make a row hardly cheaper, and all of them wait for the last
IN_FLIGHT_MAX = 2  # messages: the directory decides one while the answer to the other is on its way
LATE_S = 0.1
ATTEMPTS_MAX = 6  # for a key whose answers are refused
RETRY_S = 0.05
RETRY_MOST_S = 1.0
CONFLICTS_MAX = 6  # times that a V-net's ingresses are told again, 50 ms to 1 s apart
LOCATOR_NEGATIVE_S = 5.0
LOCATORS_MAX = 65_536

_MISS, _REFRESH = int(RecordType.MISS), int(RecordType.REFRESH)
_NONE = int(Action.NONE)
_ASK_AGAIN = (Why.LATE, Why.UNKNOWN_OBJECT, Why.OTHER_INCARNATION)
_NEVER = float("inf")
_PLACES = (RecordType.ATTACHMENT_SET, RecordType.INGRESS_SET)
_NO_ROOM = (Why.QUOTA, Why.NO_ROOM)
_TOLD_BY_ANSWERS = (RecordType.LOCATION_SET, RecordType.TUNNEL_SET)


class Resolver:
    """One worker's. `wait_s` is how long the data plane holds packets: nobody waits longer for an answer."""

    def __init__(self, worker: int, workers: int, wait_s: float) -> None:
        self.counters: Counter[str] = Counter()
        self.views: dict[int, View] = {}
        self.incarnation = 0
        self.answering: bool | None = None
        self._worker = worker
        self._workers = workers
        self.wait_s = wait_s
        self._questions = Questions()
        self._refusals = Refusals()
        self._tables = Tables()
        self._to_ask: deque[Batch] = deque()
        self._asked: dict[int, Batch] = {}
        self._again = Retries()
        self._attempts: dict[bytes, int] = {}
        self._attempts_since_s = 0.0
        self._ingresses: dict[int, tuple[int, int]] = {}
        self._locators: dict[bytes, float] = {}  # key -> asked again not before
        self._locators_to_ask: list[bytes] = []
        self._locators_asked: dict[int, bytes] = {}
        self._conflicts: dict[int, tuple[int, float]] = {}  # VNI -> (times told again, due next)
        self._room = Room()
        self._tunnel_names = TunnelNames()
        self._announcer = Announcer()
        self._facts_pushed: set[int] = set()  # V-nets that have changed at one revision, not in force yet
        self._in_force = InForce(workers)
        self._asked_from: frozenset[int] = frozenset()  # VNIs that the last snapshot was asked with
        self._reached = 0  # revision that has been told to the data plane, or is about to be
        self._newly_in_force: int | None = None
        self._records: list[Rows] = []
        self._has_view = False
        self._there: set[int] = set()  # V-nets that the data plane had when it was connected
        self._found = False  # there was a data plane,
        self._told = False  # and it was told everything: what was decided before this process is of then

    # -- out -----------------------------------------------------------------------------------

    def take_records(self) -> list[Rows]:
        """Return what the data plane is to be sent, in order; it counts as sent. A SYNC ends it where the
        data plane has to confirm something."""
        if (sync := self._in_force.sync(self.incarnation, self.views)) is not None:
            self._emit(sync)
        records, self._records = self._records, []
        return records

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
            self._emit(record)
        self.counters["announced"] += count

    def announcements_due_s(self) -> float | None:
        """Return when `announce` has something to do."""
        return self._announcer.due_s()

    def take_questions(self, now_s: float) -> list[Batch]:
        """Return batches to be asked now; `asked` must follow for each.

        While the directory has enough to do, questions gather here: the more are missed, the larger the
        batches, and the less each row costs."""
        free = self._messages_free(now_s) if self._to_ask else 0
        if not free:
            return []
        found: list[Batch] = []
        while self._to_ask and len(found) < free:
            found.append(self._next_message())
        return found

    def take_locators(self) -> list[bytes]:
        """Return unknown outer sources (bytes of struct fp_locator_key); `asked_locator` must follow."""
        locators, self._locators_to_ask = self._locators_to_ask, []
        return locators

    def due_s(self) -> float | None:
        """Return when `tick` has something to do."""
        due = [at for times, at in self._conflicts.values() if times < CONFLICTS_MAX and at < _NEVER]
        if (sync_s := self._in_force.due_s()) is not None:
            due.append(sync_s)
        if self._to_ask:
            due.append(min((batch.asked_s + LATE_S for batch in self._asked.values()), default=0.0))
        due += [at for at in (self._again.due_s(), self._room.due_s()) if at is not None]
        return min(due, default=None)

    def no_room(self) -> list[tuple[int, str, str]]:
        """Return (VNI, V-net's name, table) of what finds no room in the data plane; VNI 0: of no V-net."""
        lacking = list(self._room.lacking())
        return [(vni, self.views[vni].name() if vni in self.views else "", table) for vni, table in lacking]

    def waiting(self) -> int:
        """Return how many keys are being asked."""
        return len(self._questions)

    # -- from the data plane -------------------------------------------------------------------

    def connected(self, vnets: Mapping[int, tuple[int, int]]) -> None:
        """A data plane is there, with these V-nets of ours in its tables, of which (incarnation, revision) is
        in force: tell it all that is known."""
        self._forget_tokens()
        self._there = set(vnets)
        unknown = set(vnets) - set(self._in_force.vnets)
        self._in_force.found(vnets)
        if self.answering is not None:
            self._tell_state()
        # A view that is here was asked for without these: what has been forbidden in them is not known.
        self._in_force.close_whole(self._newest_of(unknown), self.incarnation)
        for change in self._in_force.connected():  # what it adopted may be open still
            self._emit(change)
        self._found = True
        if self._has_view:
            self._tell_everything(self._facts_pushed & self._there if self._told else self._there)
            self._told = True
        self._announcer.again()

    def records(self, records: Rows, now_s: float) -> None:
        """Take what was drained from the rings."""
        if not len(records):
            return
        types = records["head"]["type"]
        current = records["head"]["version"] == 1
        asks = current & ((types == _MISS) | (types == _REFRESH))
        misses = records if asks.all() else records[asks]
        if len(misses):
            self._misses(misses.view(MISS), now_s)
        if len(misses) < len(records):
            self._refused(select(records, RecordType.REFUSED), now_s)
            self._unknown_locators(select(records, RecordType.UNKNOWN_LOCATOR), now_s)
            self._synced(select(records, RecordType.SYNCED))
            self._resolved(select(records, RecordType.TUNNEL_UP))
            known = (
                *(RecordType.MISS, RecordType.REFRESH, RecordType.REFUSED),
                *(RecordType.UNKNOWN_LOCATOR, RecordType.SYNCED, RecordType.TUNNEL_UP),
            )
            self.counters["records_unknown"] += int((~current | ~np.isin(types, known)).sum())

    def _next_message(self) -> Batch:
        """Take the oldest questions that fit into a message; what is left is only looked at, not copied."""
        taken, room = [], BATCH_ROWS_MAX
        while self._to_ask and room:
            batch = self._to_ask.popleft()
            if len(batch) > room:
                self._to_ask.appendleft(batch.between(room, len(batch)))
                batch = batch.between(0, room)
            room -= len(batch)
            taken.append(batch)
        return together(taken)

    def _messages_free(self, now_s: float) -> int:
        """Return how many messages may be sent now. An answer that is late hinders nobody any more."""
        awaited = sum(now_s < batch.asked_s + LATE_S for batch in self._asked.values())
        return max(0, IN_FLIGHT_MAX - awaited)

    def _misses(self, rows: Rows, now_s: float) -> None:
        self.counters["misses"] += len(rows)
        self._learn_ingresses(rows)
        is_miss = rows["head"]["type"] == _MISS
        verdicts = self._refusals.match(rows, now_s) if is_miss.any() else None
        if verdicts is not None:
            told = is_miss[verdicts.rows]  # a refresh is asked: what forwards is not closed by a cache
            numbers = verdicts.rows[told]
            self.counters["refused_at_once"] += len(numbers)
            known = (verdicts.reason[told], verdicts.revision[told], verdicts.lifetime_ms[told])
            if len(numbers):
                self._emit(drops(rows[numbers], *known, self.incarnation))
            left = np.ones(len(rows), bool)
            left[numbers] = False
            rows = rows[left]
        if len(rows):
            self._ask(rows, now_s)

    def _learn_ingresses(self, rows: Rows) -> None:
        indexes = rows["key"]["ingress"]
        if (indexes == indexes[0]).all():  # mostly: sorting takes as long as all the rest
            indexes, first = indexes[:1], np.zeros(1, np.intp)
        else:
            indexes, first = np.unique(indexes, return_index=True)
        kinds, objects = rows["ingress_kind"][first].tolist(), rows["ingress_object"][first].tolist()
        self._ingresses.update(zip(indexes.tolist(), zip(kinds, objects, strict=True), strict=True))

    def _ask(self, rows: Rows, now_s: float) -> None:
        batch = self._questions.admit(rows, now_s)
        if batch is None:
            return
        if self.answering is False:
            self._wait(batch, now_s + RETRY_S)
        else:
            self._to_ask.append(batch)

    def _refused(self, rows: Rows, now_s: float) -> None:
        if not len(rows):
            return
        for why, count in zip(*np.unique(rows["why"], return_counts=True), strict=True):
            self.counters[f"refused_{_why_name(why)}"] += int(count)
        self._room.refused(rows, now_s)
        unknown = (rows["why"] == Why.UNKNOWN_OBJECT) & (rows["refused_type"] != RecordType.TUNNEL_REMOVE)
        full = np.isin(rows["why"], _NO_ROOM) & np.isin(rows["refused_type"], _TOLD_BY_ANSWERS)
        if (unknown | full).any():
            # What no flow names is forgotten there after a while: tell it anew when it is next named.
            self._tables.clear_told()
        # A port's VLAN or a locator that another V-net still has: its removal may be on the way, from
        # another worker even.
        places = rows[(rows["why"] == Why.CONFLICT) & np.isin(rows["refused_type"], _PLACES)]
        for vni in set(places["head"]["vni"].tolist()):
            times, _ = self._conflicts.get(vni, (0, 0.0))
            self._conflicts[vni] = (times, now_s + min(RETRY_MOST_S, RETRY_S * 2**times))
        flows = rows[rows["refused_type"] == RecordType.FLOW_INSTALL]
        full = np.array(self._room.lacks_location(flows["head"]["vni"].tolist()), bool)
        full &= flows["why"] == Why.UNKNOWN_OBJECT  # what it names found no room: nor would it at once
        again = np.isin(flows["why"], _ASK_AGAIN) & ~full
        if again.any():
            self._ask_again(flows[again], now_s)
        over = ~again & (flows["why"] != Why.UNKNOWN_VNET) & (flows["token"] != 0)
        if over.any():
            self._emit(
                endings(flows[over], full[over] | np.isin(flows["why"][over], _NO_ROOM), self.incarnation)
            )

    def _ask_again(self, refused: Rows, now_s: float) -> None:
        if now_s - self._attempts_since_s > 2 * self.wait_s:
            self._attempts.clear()
            self._attempts_since_s = now_s
        rows = np.zeros(len(refused), MISS)
        rows["head"]["type"] = RecordType.MISS
        rows["head"]["version"] = 1
        rows["head"]["vni"] = refused["head"]["vni"]
        rows["key"] = refused["key"]
        rows["token"] = refused["token"]
        keep = []
        for number, ingress in enumerate(rows["key"]["ingress"].tolist()):
            known = self._ingresses.get(ingress)
            identity = rows[number : number + 1].tobytes()[4:60]
            attempts = self._attempts.get(identity, 0) + 1
            self._attempts[identity] = attempts
            if known is None or attempts > ATTEMPTS_MAX:
                self.counters["gave_up"] += 1
                continue
            rows["ingress_kind"][number], rows["ingress_object"][number] = known
            keep.append(number)
        if keep:
            self.counters["asked_again"] += len(keep)
            self._ask(rows[keep], now_s)

    def _unknown_locators(self, rows: Rows, now_s: float) -> None:
        for row in rows:
            key = row["key"].tobytes()
            if now_s < self._locators.get(key, 0.0):
                continue
            if len(self._locators) >= LOCATORS_MAX:
                self._locators.clear()
            self._locators[key] = now_s + LOCATOR_NEGATIVE_S
            self._locators_to_ask.append(key)

    def _synced(self, rows: Rows) -> None:
        for number in rows["number"].tolist():
            revision = self._in_force.synced(number, self.incarnation)
            if revision is not None:
                self._newly_in_force = revision
                if self._in_force.is_settled:
                    self._facts_pushed.clear()

    def _resolved(self, rows: Rows) -> None:
        """Announce once more to those at the other end, who could not be told until now."""
        vnis: set[int] = set()
        for object_id in rows["object_id"].tolist():
            vnis |= self._tunnel_names.vnets(object_id)
        if vnis:
            self._announcer.again(vnis)

    # -- from the directory: answers -----------------------------------------------------------

    def asked(self, id: int, batch: Batch, now_s: float) -> None:
        """A batch was sent under this id."""
        batch.attempts += 1
        batch.asked_s = now_s
        self._asked[id] = batch
        self.counters["asked"] += len(batch)
        self.counters["batches"] += 1

    def answered(self, answer: Resolved, now_s: float) -> Batch | None:
        """Take the answer to a batch. Returns the batch, None for an answer that nobody waits for."""
        batch = self._asked.pop(answer.id, None)
        if batch is None:
            return None
        if len(answer.decisions) != len(batch):
            self.counters["answers_malformed"] += 1
            self._try_again(batch, now_s)
            return batch
        if answer.incarnation != self.incarnation and self._has_view:
            # Decided by a store that has not told us its snapshot yet: the data plane would refuse it.
            self.counters["answers_of_another_incarnation"] += 1
            self._try_again(batch, now_s)
            return batch
        settled, decisions = batch, answer.decisions
        undecided = decisions["action"] == _NONE
        if undecided.any():
            self._postpone(batch, undecided, now_s)
            if undecided.all():
                return batch
            settled, decisions = batch.part(np.flatnonzero(~undecided)), decisions[~undecided]
        rows, numbers = self._questions.settle(settled)
        for records in self._tables.answer(answer.tunnels, answer.locations):
            self._emit(records)
        each = decisions if len(numbers) == len(decisions) else decisions[numbers]
        records, bad = installs(rows, each, answer.locations, answer.incarnation)
        self._emit(records)
        self.counters["decisions_not_supported"] += bad
        refusals, bad = refusals_of(settled.rows, decisions, answer.scopes, now_s)
        self.counters["answers_malformed"] += bad
        for refusal in refusals:
            self._refusals.add(*refusal)
        self.counters["answered"] += len(settled)
        return settled

    def failed(self, id: int, now_s: float, refused: bool = False) -> None:
        """No answer came, or (`refused`) one that says that none will come."""
        if (key := self._locators_asked.pop(id, None)) is not None:
            self._locators[key] = now_s + RETRY_MOST_S
            return
        batch = self._asked.pop(id, None)
        if batch is None:
            return
        self.counters["failed"] += len(batch)
        if refused:
            self._questions.settle(batch)  # the hold ends what waits
        else:
            self._try_again(batch, now_s)

    def asked_locator(self, id: int, key: bytes) -> None:
        """A question about an unknown outer source was sent under this id."""
        self._locators_asked[id] = key

    def located(self, answer: Located, now_s: float) -> None:
        """Take the answer about an unknown outer source."""
        key = self._locators_asked.pop(answer.id, None)
        if key is None:
            return
        operation = answer.operation
        if operation is None:
            negative_s = LOCATOR_NEGATIVE_S if answer.negative_s is None else answer.negative_s
            self._locators[key] = now_s + negative_s
            return
        vni = operation.get("vni")
        if not isinstance(vni, int) or not self._is_mine(vni):
            self.counters["operations_malformed"] += 1
            return
        self._locators.pop(key, None)
        self._apply(self.views.get(vni) or View(vni), operation, answer.revision)

    def state(self, answering: bool) -> None:
        """Somebody answers, or nobody does."""
        if answering == self.answering:
            return
        self.answering = answering
        self._tell_state()
        if answering:
            self._again.hurry()

    def tick(self, now_s: float) -> None:
        """Ask again what is due; give up what nobody can be waiting for any more."""
        self._in_force.tick(now_s)
        self._tell_places(now_s)
        self._try_room(now_s)
        due = []
        for batch in self._again.take_due(now_s):
            if now_s - batch.born_s > self.wait_s:
                self._give_up(batch)
            else:
                due.append(batch)
        if not due:
            return
        if self.answering is False:
            self._wait(together(due), now_s + RETRY_S)
        else:
            self._to_ask.append(together(due))

    # -- from the directory: pushes ------------------------------------------------------------

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
            if not self._is_mine(vni):
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
            self._emit(record)
        self._has_view = True
        self._there |= set(before)
        self._tell_everything(moved)
        self._told = self._found
        for view, one in arrivals:
            self._announce(view, one)
        self._reached = snapshot.revision
        self._in_force.reached(snapshot.revision, anew=True)

    def reached(self, revision: int) -> None:
        """Nothing up to this revision concerns us but what was told: it shall be in force."""
        if self._has_view and revision > self._reached:
            self._reached = revision
            self._in_force.reached(revision)

    def _close(self, vni: int, operation: Operation, newest: int) -> None:
        """Close what was forbidden before a snapshot and not told by a push."""
        try:
            record = record_of(operation, vni, newest, self.incarnation)
        except MalformedOperation:
            self.counters["operations_malformed"] += 1
            record = None
        record = closing(vni, self.incarnation, newest) if record is None else record
        self._emit(record)
        self._in_force.tightened(record)

    def _newest_of(self, vnis: Set[int]) -> dict[int, int]:
        return {vni: self.views[vni].revision for vni in sorted(vnis & self.views.keys())}

    def changed(self, change: Changed) -> None:
        """Apply a push."""
        if not self._is_mine(change.vni):
            return
        view = self.views.setdefault(change.vni, View(change.vni))
        if change.revision == view.revision and change.operations:
            self._facts_pushed.add(change.vni)
        view.revision = max(view.revision, change.revision)
        self._conflicts.pop(change.vni, None)
        for operation in change.operations:
            self._apply(view, operation, change.revision)
        if change.vni in self.views:
            self._begins(view)
        reached = change.revision - (not change.last)
        self._reached = max(self._reached, reached)
        self._in_force.reached(reached)

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
        self._emit(record)
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
            self._emit(make(RecordType.TUNNEL_REMOVE, object_id=object_id, revision=revision))

    def _take_up(self, view: View, operation: Operation, revision: int) -> Rows | None:
        """Check an operation by making its record, and note it in the view."""
        try:
            record = record_of(operation, view.vni, revision, self.incarnation)
        except MalformedOperation:
            self.counters["operations_malformed"] += 1
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
            self.counters["operations_malformed"] += 1

    def _tell_everything(self, moved: Iterable[int] = ()) -> None:
        """Tell all that is known. In the V-nets that have `moved` everything is asked again: of what was
        decided at this very revision nothing else would say that it is old."""
        bracket = {"incarnation": self.incarnation, "workers": self._workers}
        self._emit(make(RecordType.SNAPSHOT_BEGIN, **bracket))
        for vni in sorted(self._there - set(self.views)):
            self._emit(make(RecordType.VNET_REMOVE, vni=vni, incarnation=self.incarnation))
            self._refusals.forget(vni)
            self._in_force.removed(vni)
        self._there = set(self.views)
        for view in self.views.values():
            self._tell(view)
        self._emit(make(RecordType.SNAPSHOT_END, **bracket))
        for view in (self.views[vni] for vni in sorted(moved) if vni in self.views):
            self._emit(_any_moved(view, self.incarnation))

    def _tell(self, view: View) -> None:
        bracket = {"vni": view.vni, "revision": view.revision, "incarnation": self.incarnation}
        begun = False
        for operation in view.operations():
            record = record_of(operation, view.vni, view.revision, self.incarnation)
            if record is not None:
                self._emit(record)
            if not begun:  # behind the V-net itself, which comes first
                self._emit(make(RecordType.SNAPSHOT_BEGIN, **bracket))
                begun = True
        if begun:
            self._emit(make(RecordType.SNAPSHOT_END, **bracket))
            self._begins(view)

    def _tell_places(self, now_s: float) -> None:
        """Tell the attachments and ingresses again of V-nets where one was refused for a conflict."""
        for vni, (times, due_s) in list(self._conflicts.items()):
            if times >= CONFLICTS_MAX or now_s < due_s:
                continue
            view = self.views.get(vni)
            if view is None:
                del self._conflicts[vni]
                continue
            self._conflicts[vni] = (times + 1, _NEVER)  # due again once it is refused again
            self.counters["places_told_again"] += 1
            self._emit_all(view, (*view.of_kind("attachment"), *view.of_kind("ingress")))

    def _try_room(self, now_s: float) -> None:
        """Tell again what found no room."""
        for vni, table, has_room in self._room.take_due(now_s):
            view = self.views.get(vni)
            if view is None:
                continue
            self.counters["told_for_room"] += 1
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
                self._emit(record)

    def _tell_state(self) -> None:
        self._emit(
            make(
                RecordType.DIRECTORY_STATE,
                answering=bool(self.answering),
                worker=self._worker,
                workers=self._workers,
            )
        )

    # -- asking again --------------------------------------------------------------------------

    def _postpone(self, batch: Batch, undecided: Rows, now_s: float) -> None:
        self._try_again(batch.part(np.flatnonzero(undecided)), now_s)

    def _try_again(self, batch: Batch, now_s: float) -> None:
        """Wait and ask once more, unless it is only a refresh, which the data plane repeats by itself."""
        if (batch.rows["token"] == 0).all() and not self._questions.joined(batch):
            self._questions.settle(batch)
            return
        self._wait(batch, now_s + min(RETRY_MOST_S, RETRY_S * 2 ** min(batch.attempts - 1, 8)))

    def _wait(self, batch: Batch, due_s: float) -> None:
        for crowded_out in self._again.add(batch, due_s):
            self._give_up(crowded_out)

    def _give_up(self, batch: Batch) -> None:
        """Nobody waits any more, or too many do: the hold ends them, and asks again if they come again."""
        self._questions.settle(batch)
        self.counters["gave_up"] += len(batch)

    def _forget_tokens(self) -> None:
        self._questions.clear()
        self._tables.clear()
        self._to_ask.clear()
        self._asked.clear()
        self._again.clear()
        self._attempts.clear()
        self._ingresses.clear()
        self._conflicts.clear()
        self._room.clear()
        self._records.clear()

    def _is_mine(self, vni: int) -> bool:
        return 0 < vni < 1 << 24 and vni % self._workers == self._worker

    def _emit(self, records: Rows) -> None:
        self._records.append(records)


def _any_moved(view: View, incarnation: int) -> Rows:
    """Return a change of kind move that covers everything in a V-net."""
    head = {"vni": view.vni, "revision": view.revision}
    record = make(RecordType.CHANGE, **head, incarnation=incarnation, kind=ChangeKind.MOVE)
    record["scope"]["port_high"] = 0xFFFF
    return record


def _why_name(why: int) -> str:
    try:
        name: str = Why(int(why)).name.lower()
        return name
    except ValueError:
        return "unknown"
