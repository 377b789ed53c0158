# SPDX-License-Identifier: Apache-2.0
"""Misses in, questions out; answers in, flows out: what of one worker is asked, again, or given up. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from directory_client.events import Resolved
from fastpath.records import MISS, Action, IngressKind, RecordType
from fastpath.records import Refusal as Why
from gateway.slow_path.decisions import drops, endings, installs, refusals_of
from gateway.slow_path.outgoing import Outgoing
from gateway.slow_path.questions import Batch, Questions
from gateway.slow_path.refusals import Refusals
from gateway.slow_path.retries import Retries, together
from gateway.slow_path.tables import Tables
from gateway.slow_path.told import NO_ROOM, Told

Rows = np.ndarray[Any, Any]

BATCH_ROWS_MAX = 2_048  # more make a row hardly cheaper, and all of them wait for the last
IN_FLIGHT_MAX = 2  # messages: the directory decides one while the answer to the other is on its way
LATE_S = 0.1
ATTEMPTS_MAX = 6  # for a key whose answers are refused
RETRY_S = 0.05
RETRY_MOST_S = 1.0

_MISS = int(RecordType.MISS)
_NONE = int(Action.NONE)
_ASK_AGAIN = (Why.LATE, Why.UNKNOWN_OBJECT, Why.OTHER_INCARNATION)


class Asking:
    """One worker's. `wait_s` is how long the data plane holds packets: nobody waits longer for an answer.
    `told` knows of which store, and whether somebody answers."""

    def __init__(self, out: Outgoing, told: Told, refusals: Refusals, tables: Tables, wait_s: float) -> None:
        self.wait_s = wait_s
        self._out = out
        self._told = told
        self._refusals = refusals
        self._tables = tables
        self._questions = Questions()
        self._to_ask: deque[Batch] = deque()
        self._asked: dict[int, Batch] = {}
        self._again = Retries()
        self._attempts: dict[bytes, int] = {}
        self._attempts_since_s = 0.0
        self._ingresses: dict[int, tuple[int, int]] = {}

    def take(self, now_s: float) -> list[Batch]:
        """Return batches to be asked now; `asked` must follow for each.

        While the directory has enough to do, questions gather here: the more are missed, the larger the
        batches, and the less each row costs."""
        free = self._messages_free(now_s) if self._to_ask else 0
        if not free:
            return []
        found: list[Batch] = []
        while self._to_ask and len(found) < free:
            if (message := self._next_message()) is not None:
                found.append(message)
        return found

    def waiting(self) -> int:
        """Return how many keys are being asked."""
        return len(self._questions)

    def due_s(self) -> float | None:
        """Return when `tick` or `take` has something to do."""
        due = [] if (again_s := self._again.due_s()) is None else [again_s]
        if self._to_ask:
            due.append(min((batch.asked_s + LATE_S for batch in self._asked.values()), default=0.0))
        return min(due, default=None)

    def misses(self, rows: Rows, now_s: float) -> None:
        """Take MISS and REFRESH records."""
        self._out.counters["misses"] += len(rows)
        self._learn_ingresses(rows)
        is_miss = rows["head"]["type"] == _MISS
        verdicts = self._refusals.match(rows, now_s) if is_miss.any() else None
        if verdicts is not None:
            told = is_miss[verdicts.rows]  # a refresh is asked: what forwards is not closed by a cache
            numbers = verdicts.rows[told]
            self._out.counters["refused_at_once"] += len(numbers)
            known = (verdicts.reason[told], verdicts.revision[told], verdicts.lifetime_ms[told])
            if len(numbers):
                self._out.emit(drops(rows[numbers], *known, self._told.incarnation))
            left = np.ones(len(rows), bool)
            left[numbers] = False
            rows = rows[left]
        if len(rows):
            self._ask(rows, now_s)

    def refused(self, rows: Rows, now_s: float) -> None:
        """Take REFUSED records: of flows, which are asked again or end."""
        flows = rows[rows["refused_type"] == RecordType.FLOW_INSTALL]
        full = np.array(self._told.lacks_location(flows["head"]["vni"].tolist()), bool)
        full &= flows["why"] == Why.UNKNOWN_OBJECT  # what it names found no room: nor would it at once
        again = np.isin(flows["why"], _ASK_AGAIN) & ~full
        if again.any():
            self._ask_again(flows[again], now_s)
        over = ~again & (flows["why"] != Why.UNKNOWN_VNET) & (flows["token"] != 0)
        if over.any():
            self._out.emit(
                endings(
                    flows[over], full[over] | np.isin(flows["why"][over], NO_ROOM), self._told.incarnation
                )
            )

    def asked(self, id: int, batch: Batch, now_s: float) -> None:
        """A batch was sent under this id."""
        batch.attempts += 1
        batch.asked_s = now_s
        self._asked[id] = batch
        self._out.counters["asked"] += len(batch)
        self._out.counters["batches"] += 1

    def answered(self, answer: Resolved, now_s: float) -> Batch | None:
        """Take the answer to a batch. Returns the batch, None for an answer that nobody waits for."""
        batch = self._asked.pop(answer.id, None)
        if batch is None:
            return None
        if len(answer.decisions) != len(batch):
            self._out.counters["answers_malformed"] += 1
            self._try_again(batch, now_s)
            return batch
        if answer.incarnation != self._told.incarnation and self._told.has_view:
            # Decided by a store that has not told us its snapshot yet: the data plane would refuse it.
            self._out.counters["answers_of_another_incarnation"] += 1
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
        for records in self._tables.answer(answer.tunnels, answer.locations, answer.incarnation):
            self._out.emit(records)
        each = decisions if len(numbers) == len(decisions) else decisions[numbers]
        records, bad = installs(rows, each, answer.locations, answer.incarnation)
        self._out.emit(records)
        self._out.counters["decisions_not_supported"] += bad
        refusals, bad = refusals_of(settled.rows, decisions, answer.scopes, now_s)
        self._out.counters["answers_malformed"] += bad
        for refusal in refusals:
            self._refusals.add(*refusal)
        self._out.counters["answered"] += len(settled)
        return settled

    def failed(self, id: int, now_s: float, refused: bool = False) -> None:
        """No answer came, or (`refused`) one that says that none will come."""
        batch = self._asked.pop(id, None)
        if batch is None:
            return
        self._out.counters["failed"] += len(batch)
        if refused:
            self._questions.settle(batch)  # the hold ends what waits
        else:
            self._try_again(batch, now_s)

    def hurry(self) -> None:
        """Ask again at once: somebody answers now."""
        self._again.hurry()

    def tick(self, now_s: float) -> None:
        """Ask again what is due; give up what nobody can be waiting for any more."""
        due = []
        for batch in self._again.take_due(now_s):
            if now_s - batch.born_s > self.wait_s:
                self._give_up(batch)
            else:
                due.append(batch)
        if not due:
            return
        if self._told.answering is False:
            self._wait(together(due), now_s + RETRY_S)
        else:
            self._to_ask.append(together(due))

    def forget(self) -> None:
        """Forget what waits: it is of a data plane that is no more."""
        self._questions.clear()
        self._to_ask.clear()
        self._asked.clear()
        self._again.clear()
        self._attempts.clear()
        self._ingresses.clear()

    def _next_message(self) -> Batch | None:
        """Take the oldest questions that fit into a message; what is left is only looked at, not copied."""
        taken, room = [], BATCH_ROWS_MAX
        while self._to_ask and room:
            batch = self._still_here(self._to_ask.popleft())
            if len(batch) > room:
                self._to_ask.appendleft(batch.between(room, len(batch)))
                batch = batch.between(0, room)
            room -= len(batch)
            if len(batch):
                taken.append(batch)
        return together(taken) if taken else None

    def _still_here(self, batch: Batch) -> Batch:
        """Leave out what came by attachments that were taken away meanwhile: no answer could be installed,
        and those who came since would wait for it. The hold ends what waits."""
        rows = batch.rows
        alike = (rows["ingress_object"] == rows["ingress_object"][0]).all()  # mostly
        gone = [
            object_id
            for vni, object_id in set(_attachments_of(rows[:1] if alike else rows))
            if not self._told.has_attachment(vni, object_id)
        ]
        if not gone:
            return batch
        left_out = np.isin(rows["ingress_object"], gone) & (rows["ingress_kind"] == IngressKind.ATTACHMENT)
        self._give_up(batch.part(np.flatnonzero(left_out)))
        return batch.part(np.flatnonzero(~left_out))

    def _messages_free(self, now_s: float) -> int:
        """Return how many messages may be sent now. An answer that is late hinders nobody any more."""
        awaited = sum(now_s < batch.asked_s + LATE_S for batch in self._asked.values())
        return max(0, IN_FLIGHT_MAX - awaited)

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
        if self._told.answering is False:
            self._wait(batch, now_s + RETRY_S)
        else:
            self._to_ask.append(batch)

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
                self._out.counters["gave_up"] += 1
                continue
            rows["ingress_kind"][number], rows["ingress_object"][number] = known
            keep.append(number)
        if keep:
            self._out.counters["asked_again"] += len(keep)
            self._ask(rows[keep], now_s)

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
        self._out.counters["gave_up"] += len(batch)


def _attachments_of(rows: Rows) -> Iterator[tuple[int, int]]:
    """Yield V-net and id of the attachments that rows came by."""
    here = rows["ingress_kind"] == IngressKind.ATTACHMENT
    return zip(rows["head"]["vni"][here].tolist(), rows["ingress_object"][here].tolist(), strict=True)
