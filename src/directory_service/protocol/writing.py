# SPDX-License-Identifier: Apache-2.0
"""The write socket's messages: what operators and gateways' controls ask. Pure; see docs/protocol.md,
section 2.2."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from directory_client.wire.answers import Answer
from directory_client.wire.changes import GatewayRow, plain
from directory_client.wire.greeting import Hello
from directory_client.wire.limits import DEPTH_MAX, WAIT_MS_MAX
from directory_client.wire.messages import (
    DirectoryError,
    MalformedMessage,
    Request,
    encode,
    encode_packed,
    is_too_deep,
)
from directory_client.wire.requests import (
    ApplyRequest,
    Change,
    ControlAnswer,
    ExplainRequest,
    ExportRequest,
    ForwardRequest,
    HistoryRequest,
    ListRequest,
    PieceRequest,
    ReleaseRequest,
    RemoveRequest,
    RollbackRequest,
    SetRequest,
)
from directory_service.configuration import Configuration
from directory_service.protocol.audit import AuditFile
from directory_service.protocol.desk import Desk
from directory_service.protocol.dry_run import rows_of_flows
from directory_service.protocol.gateways import Gateways
from directory_service.protocol.gathering import Gathering, Waiting
from directory_service.protocol.jobs import WRITES, Changed, Done, Job, count
from directory_service.protocol.outbox import Audit, Out, Peer, Reply
from directory_service.protocol.reading import claim_of
from directory_service.protocol.rights import Rights
from directory_service.rates import Rates
from directory_service.service import Directory

log = logging.getLogger(__name__)

WAIT_S = 2.0  # for gateways to report a change
ASK_S = 3.0  # for gateways' controls to answer
FLOW_BYTES = 512  # a row of `show flows`, generously
# Fields of each type that stand in the audit file.
_AUDITED = {
    "apply": ("name", "comment", "take_over"),
    "rollback": ("revision",),
    "set": ("kind", "name", "values"),
    "remove": ("kind", "name"),
    "release": ("node",),
}

# The head is read already as what its type says: a Request of wire/requests.py.
Handler = Callable[[Peer, Any, Sequence[Any], float, float], list[Out]]


class Writing:
    """Serves apply, piece, export, history, rollback, set, remove, release, list, explain, hello, answer and
    forward."""

    def __init__(
        self,
        configuration: Configuration,
        directory: Directory,
        gateways: Gateways,
        waiting: Waiting,
        counters: Counter[str],
        started_at: float,
        wall_ms: Callable[[], int],
        audit: AuditFile | None,
        rights: Rights,
        desk: Desk,
    ) -> None:
        self._rights = rights
        self._desk = desk
        self._audit_file = audit
        self._changes = wall_ms()  # numbers them; a restarted directory goes on with higher ones
        self._configuration = configuration
        self._directory = directory
        self._gateways = gateways
        self._waiting = waiting
        self._counters = counters
        self._started_at = started_at
        self._wall_ms = wall_ms
        self._rates = Rates(configuration.limits.writes_per_second_per_key)
        self._told = Rates(1)  # refused changes in the log, for each key
        self.handlers: dict[str, Handler] = {
            "apply": self._apply,
            "piece": self._piece,
            "rollback": self._rollback,
            "set": self._set,
            "remove": self._remove,
            "release": self._release,
            "export": self._export,
            "history": self._history,
            "list": self._list,
            "explain": self._explain,
            "hello": self._hello,
            "answer": self._answer,
            "forward": self._forward,
        }

    def take(self, configuration: Configuration) -> None:
        """Take what may change while it runs."""
        self._configuration = configuration
        self._rates.allow(configuration.limits.writes_per_second_per_key)

    # ---- what changes something --------------------------------------------------------------

    def _apply(
        self, peer: Peer, head: ApplyRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return (self._preview if head.dry_run else self._change)(peer, head, now)

    def _piece(
        self, peer: Peer, head: PieceRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        self._may_write(peer, now)
        return self._show(peer, head, now)

    def _rollback(
        self, peer: Peer, head: RollbackRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return (self._preview if head.dry_run else self._change)(peer, head, now)

    def _set(
        self, peer: Peer, head: SetRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        if is_too_deep(head.values):
            raise MalformedMessage(f"set: values is nested more than DEPTH_MAX, {DEPTH_MAX}", id=head.id)
        return self._change(peer, head, now)

    def _remove(
        self, peer: Peer, head: RemoveRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return self._change(peer, head, now)

    def _release(
        self, peer: Peer, head: ReleaseRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return self._change(peer, head, now)

    def _change(self, peer: Peer, head: Change, now: float) -> list[Out]:
        """Have a change made, write it to the audit file, and answer when the gateways have it."""
        if self._desk.is_asked(peer, head.id, head.type):
            return []  # it is being done, and stands in the audit file
        self._may_write(peer, now, head)
        wait_s = _seconds(head.wait_ms, WAIT_S)
        intention = self._intention(peer, head)
        if self._audit_file is not None:  # first: a change whose process dies now has left a trace
            self._audit_file.write(intention)

        def finish(done: Done, now: float) -> list[Out]:
            changed = done.changed
            if changed is None:
                failed = done.refusal.error if done.refusal is not None else ""
                return [self._outcome(intention, error=failed), *self._reply(peer, head, done)]
            audit = self._outcome(intention, changed=changed)
            if changed.revision == changed.before or not changed.gateways or self._waiting.full:
                return [audit, *self._reply(peer, head, done, {"gateways": []})]

            def settled(rows: list[dict[str, Any]], now: float) -> list[Out]:
                return self._reply(peer, head, done, {"gateways": rows})

            waited = self._waiting.settle(
                changed.revision, changed.gateways, settled, wait_s, now, changed.vnis
            )
            return [audit, *waited]

        try:
            return self._submit(peer, head, finish, now)
        except DirectoryError as error:  # too much waits
            if self._audit_file is not None:
                self._audit_file.write(self._outcome(intention, error=error.error).record)
            raise

    def _preview(self, peer: Peer, head: Change, now: float) -> list[Out]:
        """Dry run: ask the gateways concerned for their cached flows, and decide those again."""
        self._may_write(peer, now)
        wait_s = _seconds(head.wait_ms, ASK_S)

        def finish(done: Done, now: float) -> list[Out]:
            if done.changed is None or not done.questions or self._waiting.full:
                return self._preview_reply(peer, head, done)
            # Who was never heard has no flows.
            asked = [one for one in done.questions if not self._directory.never_heard(one[0])]
            if not asked:
                return judged([], {"concerned": False}, now)
            return self._waiting.ask(asked, judge, lambda _: _fail(peer, head), wait_s, now)

        def judge(gathering: Gathering, now: float) -> list[Out]:
            rows, unseen, failed = rows_of_flows(gathering.answers)
            told = {
                "gateways": sorted({node for _, node, _ in gathering.answers} - failed),
                "silent": sorted({*gathering.silent, *failed}),
                "unseen": unseen,
            }
            return judged(rows, told, now)

        def judged(rows: list[Any], told: dict[str, Any], now: float) -> list[Out]:
            return self._submit(
                peer,
                head,
                lambda done, now: self._preview_reply(peer, head, done),
                now,
                flows=rows,
                told=told,
            )

        return self._submit(peer, head, finish, now)

    def _preview_reply(self, peer: Peer, head: Request, done: Done) -> list[Out]:
        gateways = done.changed.gateways if done.changed is not None else []
        rows = [plain(GatewayRow(node=node, state="concerned")) for node in gateways]
        return self._reply(peer, head, done, {"gateways": rows})

    # ---- jobs --------------------------------------------------------------------------------

    def _submit(
        self,
        peer: Peer,
        head: Request,
        finish: Callable[[Done, float], list[Out]],
        now: float,
        **more: Any,
    ) -> list[Out]:
        """Have a job done."""
        flows_max = self._configuration.limits.document_bytes // FLOW_BYTES
        if head.type in WRITES:
            more["reports"] = self._gateways.reports(self._directory.world.incarnation, now)
        job = Job(head.type, head, peer.identity, _user(peer, head), flows_max=flows_max, **more)
        return self._desk.submit(peer, job, finish, now)

    def _show(self, peer: Peer, head: Request, now: float) -> list[Out]:
        return self._submit(peer, head, lambda done, now: self._reply(peer, head, done), now)

    def _reply(self, peer: Peer, head: Request, done: Done, more: dict[str, Any] | None = None) -> list[Out]:
        """Answer with what came of a job."""
        count(self._counters, done)
        if done.refusal is not None:
            done.refusal.id = head.id
            return [Reply(peer.channel, peer.connection, encode(done.refusal))]
        answer = {"id": head.id, "ok": True, **(more or {})}
        return [Reply(peer.channel, peer.connection, encode_packed(answer, done.pairs, done.body))]

    def _may_write(self, peer: Peer, now: float, change: Change | None = None) -> None:
        if not peer.identity.may_write():
            self._counters["writes_refused"] += 1
            if change is not None:
                self._note_refused(peer, change, now)
            raise DirectoryError(
                f"the key of gateway {peer.identity.name} may not change the directory",
                'with an operator\'s key ([[client]] with role = "operator" in directory.toml):'
                " vnetctl --directory tcp://HOST:PORT --key-file FILE --directory-key 'PUBLIC KEY' …",
            )
        if not self._rates.take(peer.identity, 1, now):
            self._counters["rate_limited_writes"] += 1
            raise DirectoryError(
                f"{peer.identity.name} writes more often than writes_per_second_per_key allows",
                "try again in a second",
            )

    def _note_refused(self, peer: Peer, change: Change, now: float) -> None:
        """Leave a trace of a change that a key may not make: as many a second as a key that may write makes
        stand in the audit file, one in the log; all are counted."""
        if self._audit_file is not None and self._rates.take(peer.identity, 1, now):
            error = "its key may not change the directory"
            self._audit_file.write(self._outcome(self._intention(peer, change), error=error).record)
        if self._told.take(peer.identity, 1, now):
            log.warning(
                "%s of gateway %s is refused: its key changes nothing", change.type, peer.identity.name
            )

    def _intention(self, peer: Peer, head: Change) -> dict[str, Any]:
        """Make the record of what somebody is about to change."""
        self._changes += 1
        record: dict[str, Any] = {
            "time_ms": self._wall_ms(),
            "stage": "asked",
            "directory": self._configuration.name,
            "change": self._changes,
            "who": peer.identity.name,
            "role": peer.identity.role,
            "user": _user(peer, head),
            "type": head.type,
        }
        said = {name: getattr(head, name) for name in _AUDITED[head.type]}
        return record | {name: value for name, value in said.items() if value}

    def _outcome(self, intention: dict[str, Any], changed: Changed | None = None, error: str = "") -> Audit:
        """Make the record of what became of it."""
        ended = {"time_ms": self._wall_ms(), "stage": "done", "ok": changed is not None}
        if changed is None:
            return Audit({**intention, **ended, "error": error})
        facts = changed._asdict()
        del facts["gateways"], facts["vnis"]
        return Audit({**intention, **ended, **facts})

    # ---- what only shows ---------------------------------------------------------------------

    def _export(
        self, peer: Peer, head: ExportRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return self._show(peer, head, now)

    def _history(
        self, peer: Peer, head: HistoryRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return self._show(peer, head, now)

    def _list(
        self, peer: Peer, head: ListRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        if head.kind == "directories":
            rows = self._rights.visible(peer.identity, "list", head.kind, [self._describe(now)])
            return [_reply(peer, head, {"rows": rows, "revision": self._directory.revision})]

        def finish(done: Done, now: float) -> list[Out]:
            if done.rows is None:
                return self._reply(peer, head, done)
            rows = [
                {**row, **self._gateways.describe(row["name"], now)} if row.get("kind") == "gateway" else row
                for row in done.rows
            ]
            return self._reply(peer, head, done, {"rows": rows})

        return self._submit(peer, head, finish, now)

    def _describe(self, now: float) -> dict[str, Any]:
        configuration = self._configuration
        audit = self._audit_file
        return {
            "audit": "off" if audit is None else audit.trouble or "ok",
            "audit_missing": 0 if audit is None else audit.missing,
            "name": configuration.name,
            "endpoint": configuration.listen.name,
            "state": "up",
            **self._directory.version(),
            "era_began": self._directory.era_began,
            "unreadable": len(self._directory.unreadable),
            "store": "memory" if configuration.store_path is None else "sqlite",
            "uptime_s": round(now - self._started_at, 1),
            "gateways": self._gateways.alive_count(now),
            "queries": self._counters["queries"],
            "busy": self._counters["busy"],
            "malformed": self._counters["malformed"],
        }

    def _explain(
        self, peer: Peer, head: ExplainRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return self._show(peer, head, now)

    # ---- gateways' controls ------------------------------------------------------------------

    def _hello(self, peer: Peer, head: Hello, parts: Sequence[Any], now: float, waited_s: float) -> list[Out]:
        node = head.node
        if not peer.identity.may_be_node(node):
            raise DirectoryError(f"the key of {peer.identity.name} may not speak as node {node:.80}")
        self._gateways.holders.check(node, claim_of(peer, head), now)  # refused for a second one of the name
        self._directory.node_id(node)  # refused for a node that is not declared
        self._gateways.hello(node, peer.connection, now)
        return [_reply(peer, head, {"revision": self._directory.revision})]

    def _answer(
        self, peer: Peer, head: ControlAnswer, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return self._waiting.answered(peer.connection, head.id, head.answer, now)

    def _forward(
        self, peer: Peer, head: ForwardRequest, parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node, request = head.node, head.request
        if is_too_deep(request):
            raise MalformedMessage(f"forward: request is nested more than DEPTH_MAX, {DEPTH_MAX}", id=head.id)
        if self._waiting.full:
            raise DirectoryError("too many questions wait for gateways", "try again in a second")
        if node != "all":
            self._directory.node_id(node)  # refused for a node that is not there
            found = self._directory.current.fabric.nodes[node]
            if found.kind != "gateway":
                raise DirectoryError(
                    f"{node} is a {found.kind}: it answers no questions", "name a gateway", 2
                )
        nodes = self._gateways.with_control(now) if node == "all" else [node]

        def finish(gathering: Gathering, now: float) -> list[Out]:
            answers = [
                {"node": name, "answer": answer}
                for _, name, answer in sorted(gathering.answers, key=_by_node)
            ]
            return [_reply(peer, head, {"answers": answers, "silent": self._silent(node, gathering, now)})]

        asked = [(name, request) for name in nodes]
        wait_s = _seconds(head.wait_ms, ASK_S)
        return self._waiting.ask(asked, finish, lambda _: _fail(peer, head), wait_s, now)

    def _silent(self, node: str, gathering: Gathering, now: float) -> list[str]:
        """Name who was asked and did not answer; of "all", gateways without a control are silent too."""
        silent = set(gathering.silent)
        if node == "all":
            answered = {name for _, name, _ in gathering.answers}
            nodes = self._directory.current.fabric.nodes.items()
            silent |= {name for name, found in nodes if found.kind == "gateway"} - answered
        return sorted(silent)


def _by_node(answer: tuple[int, str, dict[str, Any]]) -> str:
    return answer[1]


def _user(peer: Peer, head: Request) -> str:
    """Name who did it: over TCP the key's name comes first, whatever the message says."""
    said: str = getattr(head, "user", None) or ""
    if peer.identity.role == "local" or said in ("", peer.identity.name):
        return said or peer.identity.name
    return f"{peer.identity.name} ({said:.80})"


def _seconds(wait_ms: int | None, usual_s: float) -> float:
    return usual_s if wait_ms is None else min(max(wait_ms, 0), WAIT_MS_MAX) / 1000


def _reply(peer: Peer, head: Request, answer: dict[str, Any]) -> Reply:
    return Reply(peer.channel, peer.connection, encode({**answer, "id": head.id, "ok": True}))


def _fail(peer: Peer, head: Request) -> list[Out]:
    answer = Answer(
        id=head.id,
        ok=False,
        error="the gateways' answers could not be used",
        fix="look at the directory's log",
        code=1,
    )
    return [Reply(peer.channel, peer.connection, encode(answer))]
