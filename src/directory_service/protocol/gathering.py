# SPDX-License-Identifier: Apache-2.0
"""Things that wait: questions to gateways' controls until all have answered, and changes until gateways
report them. Pure; each ends exactly once, by completion or at its deadline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from directory_client.wire.changes import GatewayRow, plain
from directory_client.wire.messages import encode
from directory_service.protocol.gateways import Gateways, Lack
from directory_service.protocol.outbox import Out, Reply

log = logging.getLogger(__name__)

WAITING_MAX = 1_000
NAMES_SHOWN = 5


@dataclass(slots=True)
class Gathering:
    """Answers to questions that were asked together."""

    expected: dict[int, tuple[int, str]]  # ask id → (which question, node)
    answers: list[tuple[int, str, dict[str, Any]]]
    silent: list[str]
    deadline: float
    finish: Callable[[Gathering, float], list[Out]]
    fail: Callable[[Exception], list[Out]]  # when `finish` raised


@dataclass(slots=True)
class Settling:
    """A change that gateways are to report."""

    revision: int
    started_at: float
    deadline: float
    nodes: dict[str, GatewayRow]
    finish: Callable[[list[dict[str, Any]], float], list[Out]]
    vnis: frozenset[int]
    waiting: set[str]  # those that are waited for


class Waiting:
    """Everything that waits. `full` says that nothing more is taken. `never_heard(node)`: it forwards
    nothing, and has nothing to report."""

    def __init__(self, gateways: Gateways, never_heard: Callable[[str], bool] = lambda node: False) -> None:
        self._never_heard = never_heard
        self._gateways = gateways
        self._gatherings: list[Gathering] = []
        self._settlings: list[Settling] = []
        self._asks: dict[int, tuple[bytes, Gathering]] = {}
        self._next_ask = 0

    def _finish(self, gathering: Gathering, now: float) -> list[Out]:
        """Answer who asked. That this fails is nobody's business but theirs: it must neither end the loop nor
        be told to the gateway whose answer came last."""
        try:
            return gathering.finish(gathering, now)
        except Exception as error:  # answers are hostile: nested too deep to be passed on, say
            log.error("gateways' answers could not be passed on", exc_info=error)
            return gathering.fail(error)

    @property
    def full(self) -> bool:
        """Say whether too many wait already."""
        return len(self._gatherings) + len(self._settlings) >= WAITING_MAX

    def ask(
        self,
        questions: Sequence[tuple[str, dict[str, Any]]],
        finish: Callable[[Gathering, float], list[Out]],
        fail: Callable[[Exception], list[Out]],
        timeout_s: float,
        now: float,
    ) -> list[Out]:
        """Ask (node, request) each; `finish` is called when all have answered or the time is over, and if it
        raises, `fail`."""
        gathering = Gathering({}, [], [], now + timeout_s, finish, fail)
        outs: list[Out] = []
        for index, (node, request) in enumerate(questions):
            connection = self._gateways.control(node, now)
            if connection is None:
                gathering.silent.append(node)
                continue
            self._next_ask += 1
            gathering.expected[self._next_ask] = (index, node)
            self._asks[self._next_ask] = (connection, gathering)
            outs.append(
                Reply("write", connection, encode({"type": "ask", "id": self._next_ask, "request": request}))
            )
        if not gathering.expected:
            return outs + self._finish(gathering, now)
        self._gatherings.append(gathering)
        return outs

    def answered(self, connection: bytes, id: int, answer: dict[str, Any], now: float) -> list[Out]:
        """Take an answer; one from another connection than was asked, or too late, is ignored."""
        asked, gathering = self._asks.get(id, (None, None))
        if asked != connection or gathering is None:
            return []
        del self._asks[id]
        index, node = gathering.expected.pop(id)
        gathering.answers.append((index, node, answer))
        if gathering.expected:
            return []
        self._gatherings.remove(gathering)
        return self._finish(gathering, now)

    def settle(
        self,
        revision: int,
        nodes: Sequence[str],
        finish: Callable[[list[dict[str, Any]], float], list[Out]],
        timeout_s: float,
        now: float,
        vnis: Iterable[int] = (),
    ) -> list[Out]:
        """Wait until the nodes report the revision, which is of these V-nets: where one finds no room, it is
        not applied. Those that are not alive are listed, not waited for,
        unless this directory has just started and could not have heard them. One that was never heard has not
        started: it takes the change with its first start. A row that ends as late names
        the workers of a gateway with several that have not reported."""
        rows = {node: GatewayRow(node=node, state="waiting") for node in nodes}
        settling = Settling(revision, now, now + timeout_s, rows, finish, frozenset(vnis), set(nodes))
        for node in nodes:
            if self._never_heard(node):
                rows[node].state = "not_started"
                settling.waiting.discard(node)
                continue
            if self._gateways.may_come(node, now):
                continue
            if not self._gateways.is_alive(node, now) or self._gateways.revision(node, now) is None:
                rows[node].state = "silent"
                settling.waiting.discard(node)
        self._settlings.append(settling)
        return self.reported(now)

    def reported(self, now: float, by: str | None = None) -> list[Out]:
        """Look again after a heartbeat of one node, or (None) when time has passed."""
        outs: list[Out] = []
        for settling in list(self._settlings):
            for node in settling.waiting.copy() if by is None else settling.waiting & {by}:
                row = settling.nodes[node]
                reached = self._gateways.revision(node, now)
                if reached is None or reached < settling.revision:
                    continue
                settling.waiting.discard(node)
                if no_room := self._gateways.no_room(node, settling.vnis):
                    row.state, row.why = "no_room", _why_no_room(no_room)
                else:
                    row.state, row.ms = "applied", round((now - settling.started_at) * 1000, 1)
            if settling.waiting and now < settling.deadline:
                continue
            for node in sorted(settling.waiting):
                row = settling.nodes[node]
                row.state = "late" if self._gateways.is_alive(node, now) else "silent"
                lacking = self._gateways.lacking(node, settling.revision)
                if lacking != ["slow-path-0"] and lacking:
                    row.workers = lacking
            self._settlings.remove(settling)
            outs += settling.finish([plain(row) for row in settling.nodes.values()], now)
        return outs

    def due_at(self) -> float | None:
        """Return the next deadline."""
        deadlines = [gathering.deadline for gathering in self._gatherings]
        return min(deadlines + [settling.deadline for settling in self._settlings], default=None)

    def tick(self, now: float) -> list[Out]:
        """End what is over."""
        outs: list[Out] = []
        for gathering in [g for g in self._gatherings if g.deadline <= now]:
            self._gatherings.remove(gathering)
            for id, (_, node) in gathering.expected.items():
                del self._asks[id]
                if node not in gathering.silent:
                    gathering.silent.append(node)
            outs += self._finish(gathering, now)
        return outs + self.reported(now)


def _why_no_room(lacking: Sequence[Lack]) -> str:
    """Say what finds no room at a gateway, and where more is given."""
    names = list(
        dict.fromkeys(
            lack.vnet or (f"vni {lack.vni}" if lack.vni else f"new {lack.table}") for lack in lacking
        )
    )
    shown = ", ".join(names[:NAMES_SHOWN]) + (
        f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    )
    tables = ", ".join(sorted({lack.table for lack in lacking}))
    return f"no room for {shown}: raise {tables} in [capacity] of its gateway.toml"
