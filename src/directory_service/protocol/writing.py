# SPDX-License-Identifier: Apache-2.0
"""The write socket's messages: what operators and gateways' controls ask. Pure; see docs/protocol.md,
section 2.2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from directory_client.wire.messages import (
    DirectoryError,
    MalformedMessage,
    encode,
    encode_packed,
    field,
    is_too_deep,
    names,
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

WAIT_S = 2.0  # for gateways to report a change
ASK_S = 3.0  # for gateways' controls to answer
PATIENCE_S = 30.0  # the longest that a request may ask for
FLOW_BYTES = 512  # a row of `show flows`, generously
# Fields of each type that its handler has checked; what else a message carries is not for the audit file.
_AUDITED = {
    "apply": ("name", "comment", "take_over"),
    "rollback": ("revision",),
    "set": ("kind", "name", "values"),
    "remove": ("kind", "name"),
    "release": ("node",),
}

Handler = Callable[[Peer, dict[str, Any], Sequence[Any], float, float], list[Out]]


class Writing:
    """Serves apply, export, history, rollback, set, remove, release, list, explain, hello, answer and
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
        self.handlers: dict[str, Handler] = {
            "apply": self._apply,
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
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        dry_run = field(head, "dry_run", bool, False)
        fields = {
            "text": field(head, "text", str),
            "name": field(head, "name", str, "document"),
            "take_over": names(head, "take_over", []),
            "comment": field(head, "comment", str, ""),
            "dry_run": dry_run,
            "expect_revision": None if dry_run else field(head, "expect_revision", int, None),
        }
        return (self._preview if dry_run else self._change)(peer, head, fields, now)

    def _rollback(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        dry_run = field(head, "dry_run", bool, False)
        fields = {"revision": field(head, "revision", int), "dry_run": dry_run}
        return (self._preview if dry_run else self._change)(peer, head, fields, now)

    def _set(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        kinds = {"kind": str, "name": str, "values": dict}
        return self._change(peer, head, {name: field(head, name, kind) for name, kind in kinds.items()}, now)

    def _remove(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return self._change(peer, head, {name: field(head, name, str) for name in ("kind", "name")}, now)

    def _release(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return self._change(peer, head, {"node": field(head, "node", str)}, now)

    def _change(self, peer: Peer, head: dict[str, Any], fields: dict[str, Any], now: float) -> list[Out]:
        """Have a change made, write it to the audit file, and answer when the gateways have it."""
        if self._desk.is_asked(peer, head.get("id"), head["type"]):
            return []  # it is being done, and stands in the audit file
        self._may_write(peer, now)
        wait_s = _seconds(head, "wait_ms", WAIT_S)
        intention = self._intention(peer, head)
        if self._audit_file is not None:  # first: a change whose process dies now has left a trace
            self._audit_file.write(intention)

        def finish(done: Done, now: float) -> list[Out]:
            changed = done.changed
            if changed is None:
                failed = (done.refusal or {}).get("error", "")
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
            return self._submit(peer, head, fields, finish, now)
        except DirectoryError as error:  # too much waits
            if self._audit_file is not None:
                self._audit_file.write(self._outcome(intention, error=error.error).record)
            raise

    def _preview(self, peer: Peer, head: dict[str, Any], fields: dict[str, Any], now: float) -> list[Out]:
        """Dry run: ask the gateways concerned for their cached flows, and decide those again."""
        self._may_write(peer, now)
        wait_s = _seconds(head, "wait_ms", ASK_S)

        def finish(done: Done, now: float) -> list[Out]:
            if done.changed is None or not done.questions or self._waiting.full:
                return self._preview_reply(peer, head, done)
            return self._waiting.ask(done.questions, judge, lambda _: _fail(peer, head), wait_s, now)

        def judge(gathering: Gathering, now: float) -> list[Out]:
            rows, unseen, failed = rows_of_flows(gathering.answers)
            told = {
                "gateways": sorted({node for _, node, _ in gathering.answers} - failed),
                "silent": sorted({*gathering.silent, *failed}),
                "unseen": unseen,
            }
            return self._submit(
                peer,
                head,
                fields,
                lambda done, now: self._preview_reply(peer, head, done),
                now,
                flows=rows,
                told=told,
            )

        return self._submit(peer, head, fields, finish, now)

    def _preview_reply(self, peer: Peer, head: dict[str, Any], done: Done) -> list[Out]:
        gateways = done.changed.gateways if done.changed is not None else []
        rows = [{"node": node, "state": "concerned", "ms": None} for node in gateways]
        return self._reply(peer, head, done, {"gateways": rows})

    # ---- jobs --------------------------------------------------------------------------------

    def _submit(
        self,
        peer: Peer,
        head: dict[str, Any],
        fields: dict[str, Any],
        finish: Callable[[Done, float], list[Out]],
        now: float,
        **more: Any,
    ) -> list[Out]:
        """Have a job done of these checked fields."""
        flows_max = self._configuration.limits.document_bytes // FLOW_BYTES
        fields = {**fields, "id": head.get("id")}
        if head["type"] in WRITES:
            more["reports"] = self._gateways.reports(self._directory.world.incarnation, now)
        job = Job(head["type"], fields, peer.identity, _user(peer, head), flows_max=flows_max, **more)
        return self._desk.submit(peer, job, finish, now)

    def _show(self, peer: Peer, head: dict[str, Any], fields: dict[str, Any], now: float) -> list[Out]:
        return self._submit(peer, head, fields, lambda done, now: self._reply(peer, head, done), now)

    def _reply(
        self, peer: Peer, head: dict[str, Any], done: Done, more: dict[str, Any] | None = None
    ) -> list[Out]:
        """Answer with what came of a job."""
        count(self._counters, done)
        if done.refusal is not None:
            return [Reply(peer.channel, peer.connection, encode({**done.refusal, "id": head.get("id")}))]
        answer = {"id": head.get("id"), "ok": True, **(more or {})}
        return [Reply(peer.channel, peer.connection, encode_packed(answer, done.pairs, done.body))]

    def _may_write(self, peer: Peer, now: float) -> None:
        if not peer.identity.may_write():
            self._counters["writes_refused"] += 1
            raise DirectoryError(
                f"the key of gateway {peer.identity.name} may not change the directory",
                'use an operator\'s key ([[client]] with role = "operator" in directory.toml)',
            )
        if not self._rates.take(peer.identity, 1, now):
            self._counters["rate_limited_writes"] += 1
            raise DirectoryError(
                f"{peer.identity.name} writes more often than writes_per_second_per_key allows",
                "try again in a second",
            )

    def _intention(self, peer: Peer, head: dict[str, Any]) -> dict[str, Any]:
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
            "type": head.get("type"),
        }
        return record | {name: head[name] for name in _AUDITED.get(head["type"], ()) if head.get(name)}

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
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return self._show(peer, head, {"document": field(head, "document", str)}, now)

    def _history(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        limit = field(head, "limit", int, 50)
        if not 0 < limit <= 100_000:
            raise MalformedMessage("history: limit is between 1 and 100000", id=head.get("id"))
        return self._show(peer, head, {"document": field(head, "document", str, None), "limit": limit}, now)

    def _list(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        kind = field(head, "kind", str)
        if kind == "directories":
            rows = self._rights.visible(peer.identity, "list", kind, [self._describe(now)])
            return [_reply(peer, head, {"rows": rows, "revision": self._directory.revision})]
        fields = {
            "kind": kind,
            "vnet": field(head, "vnet", str, None),
            "name": field(head, "name", str, None),
        }

        def finish(done: Done, now: float) -> list[Out]:
            if done.rows is None:
                return self._reply(peer, head, done)
            rows = [
                {**row, **self._gateways.describe(row["name"], now)} if row.get("kind") == "gateway" else row
                for row in done.rows
            ]
            return self._reply(peer, head, done, {"rows": rows})

        return self._submit(peer, head, fields, finish, now)

    def _describe(self, now: float) -> dict[str, Any]:
        configuration = self._configuration
        audit = self._audit_file
        return {
            "audit": "off" if audit is None else audit.problem or "ok",
            "audit_missing": 0 if audit is None else audit.missing,
            "name": configuration.name,
            "endpoint": configuration.listen.name,
            "state": "up",
            **self._directory.version(),
            "era_began": self._directory.era_began,
            "store": "memory" if configuration.store_path is None else "sqlite",
            "uptime_s": round(now - self._started_at, 1),
            "gateways": self._gateways.alive_count(now),
            "queries": self._counters["queries"],
            "busy": self._counters["busy"],
            "malformed": self._counters["malformed"],
        }

    def _explain(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        fields = {
            "vnet": field(head, "vnet", str),
            "source": field(head, "source", str),
            "destination": field(head, "destination", str),
            "protocol": field(head, "protocol", str, "") or "",
            "port": field(head, "port", int, None),
            "node": field(head, "node", str, None),
            "revision": field(head, "revision", int, None),
            "source_port": field(head, "source_port", int, None),
        }
        return self._show(peer, head, fields, now)

    # ---- gateways' controls ------------------------------------------------------------------

    def _hello(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node = field(head, "node", str)
        if not peer.identity.may_be_node(node):
            raise DirectoryError(f"the key of {peer.identity.name} may not speak as node {node:.80}")
        self._gateways.holders.check(node, claim_of(peer, head), now)  # refused for a second one of the name
        self._directory.node_id(node)  # refused for a node that is not declared
        self._gateways.hello(node, peer.connection, now)
        return [_reply(peer, head, {"revision": self._directory.revision})]

    def _answer(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        id = field(head, "id", int)
        return self._waiting.answered(peer.connection, id, field(head, "answer", dict), now)

    def _forward(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        node, request = field(head, "node", str), field(head, "request", dict)
        if is_too_deep(request):
            raise MalformedMessage("forward: the request is nested too deep", id=head.get("id"))
        if not peer.identity.may_forward(request.get("verb")):
            raise DirectoryError(f"the key of gateway {peer.identity.name} may only have others show things")
        if self._waiting.full:
            raise DirectoryError("too many questions wait for gateways", "try again in a second")
        if node != "all":
            self._directory.node_id(node)  # refused for a node that is not there
        nodes = self._gateways.with_control(now) if node == "all" else [node]

        def finish(gathering: Gathering, now: float) -> list[Out]:
            answers = [
                {"node": name, "answer": answer}
                for _, name, answer in sorted(gathering.answers, key=_by_node)
            ]
            return [_reply(peer, head, {"answers": answers, "silent": self._silent(node, gathering, now)})]

        asked = [(name, request) for name in nodes]
        wait_s = _seconds(head, "wait_ms", ASK_S)
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


def _user(peer: Peer, head: dict[str, Any]) -> str:
    """Name who did it: over TCP the key's name comes first, whatever the message says."""
    said: str = field(head, "user", str, "") or ""
    if peer.identity.role == "local" or said in ("", peer.identity.name):
        return said or peer.identity.name
    return f"{peer.identity.name} ({said:.80})"


def _seconds(head: dict[str, Any], name: str, usual_s: float) -> float:
    value = field(head, name, int, None)
    return usual_s if value is None else min(max(value / 1000, 0.0), PATIENCE_S)


def _reply(peer: Peer, head: dict[str, Any], answer: dict[str, Any]) -> Reply:
    return Reply(peer.channel, peer.connection, encode({**answer, "id": head.get("id"), "ok": True}))


def _fail(peer: Peer, head: dict[str, Any]) -> list[Out]:
    answer = {
        "id": head.get("id"),
        "ok": False,
        "error": "the gateways' answers could not be used",
        "fix": "look at the directory's log",
        "code": 1,
    }
    return [Reply(peer.channel, peer.connection, encode(answer))]
