# SPDX-License-Identifier: Apache-2.0
"""The write socket's messages: what operators and gateways' controls ask. Pure; see docs/protocol.md,
section 2.2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from directory_client.toml.strict_toml import TomlError
from directory_client.wire.messages import DirectoryError, MalformedMessage, encode, field, is_too_deep, names
from directory_service.configuration import Configuration
from directory_service.protocol.audit import AuditFile
from directory_service.protocol.dry_run import questions, rows_of_flows
from directory_service.protocol.gateways import Gateways
from directory_service.protocol.gathering import Gathering, Waiting
from directory_service.protocol.outbox import Audit, Out, Peer, Reply
from directory_service.protocol.reading import claim_of
from directory_service.protocol.rights import Rights
from directory_service.rates import Rates
from directory_service.refused import Refused
from directory_service.service import Applied, Directory

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
}

Handler = Callable[[Peer, dict[str, Any], Sequence[Any], float, float], list[Out]]


class Writing:
    """Serves apply, export, history, rollback, set, remove, list, explain, hello, answer and forward."""

    def __init__(
        self,
        configuration: Configuration,
        directory: Directory,
        gateways: Gateways,
        waiting: Waiting,
        counters: Counter[str],
        started_at: float,
        wall_ms: Callable[[], int],
        audit: AuditFile | None = None,
        rights: Rights | None = None,
    ) -> None:
        self._rights = rights or Rights(directory)
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
            "export": self._export,
            "history": self._history,
            "list": self._list,
            "explain": self._explain,
            "hello": self._hello,
            "answer": self._answer,
            "forward": self._forward,
        }

    # ---- what changes something --------------------------------------------------------------

    def _apply(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        text, file = field(head, "text", str), field(head, "name", str, "document")
        take_over = names(head, "take_over", [])
        comment = field(head, "comment", str, "")
        dry_run = field(head, "dry_run", bool, False)
        expected = None if dry_run else field(head, "expect_revision", int, None)

        def apply(flows: Sequence[dict[str, Any]] = ()) -> Applied:
            user = _user(peer, head)
            return self._directory.apply(text, file, dry_run, take_over, comment, user, flows, expected)

        if dry_run:
            self._may_write(peer, now)
            return self._preview(peer, head, apply, now)
        return self._change(peer, head, apply, now)

    def _rollback(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        revision = field(head, "revision", int)
        if field(head, "dry_run", bool, False):
            self._may_write(peer, now)

            def preview(flows: Sequence[dict[str, Any]] = ()) -> Applied:
                return self._directory.rollback(revision, _user(peer, head), True, flows)

            return self._preview(peer, head, preview, now)
        return self._change(peer, head, lambda: self._directory.rollback(revision, _user(peer, head)), now)

    def _set(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        kind, name, values = field(head, "kind", str), field(head, "name", str), field(head, "values", dict)
        user = _user(peer, head)
        return self._change(peer, head, lambda: self._directory.set_record(kind, name, values, user), now)

    def _remove(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        kind, name = field(head, "kind", str), field(head, "name", str)
        user = _user(peer, head)
        return self._change(peer, head, lambda: self._directory.remove_record(kind, name, user), now)

    def _change(
        self, peer: Peer, head: dict[str, Any], change: Callable[[], Applied], now: float
    ) -> list[Out]:
        """Make a change, write it to the audit file, and answer when the gateways have it."""
        self._may_write(peer, now)
        wait_s = _seconds(head, "wait_ms", WAIT_S)
        intention = self._intention(peer, head)
        if self._audit_file is not None:  # first: a change whose process dies now has left a trace
            self._audit_file.write(intention)
        try:
            applied = change()
        except (Refused, TomlError) as error:
            return [self._outcome(intention, error=str(error)), *_refuse(peer, head, error)]
        except Exception as error:  # the dispatcher answers; whether the change was made is not known
            if self._audit_file is not None:
                failed = f"it failed, look at the directory's log: {type(error).__name__}: {error}"
                self._audit_file.write(self._outcome(intention, error=failed).record)
            raise
        answer = _summary(applied)
        audit = self._outcome(intention, applied=applied)
        if applied.revision == applied.before or not applied.gateways or self._waiting.full:
            return [audit, _reply(peer, head, {**answer, "gateways": []})]

        def finish(rows: list[dict[str, Any]], now: float) -> list[Out]:
            return [_reply(peer, head, {**answer, "gateways": rows})]

        return [audit, *self._waiting.settle(applied.revision, applied.gateways, finish, wait_s, now)]

    def _preview(
        self, peer: Peer, head: dict[str, Any], apply: Callable[..., Applied], now: float
    ) -> list[Out]:
        """Dry run: ask the gateways concerned for their cached flows, and decide those again."""
        preview = apply()
        limit = self._configuration.limits.document_bytes // FLOW_BYTES
        asked = questions(preview, limit)
        if not asked or self._waiting.full:
            summary = _summary(preview)
            if not asked:  # nobody can have flows that it would cut, which is more than not knowing
                summary["flows"] = {**(summary["flows"] or {}), "concerned": False}
            return [_reply(peer, head, summary)]

        def finish(gathering: Gathering, now: float) -> list[Out]:
            rows, unseen, failed = rows_of_flows(gathering.answers)
            try:
                summary = _summary(apply(rows))
            except (Refused, TomlError) as error:
                return _refuse(peer, head, error)
            summary["flows"] = {
                **(summary["flows"] or {}),
                "gateways": sorted({node for _, node, _ in gathering.answers} - failed),
                "silent": sorted({*gathering.silent, *failed}),
                "unseen": unseen,
            }
            return [_reply(peer, head, summary)]

        wait_s = _seconds(head, "wait_ms", ASK_S)
        return self._waiting.ask(asked, finish, lambda _: _fail(peer, head), wait_s, now)

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

    def _outcome(self, intention: dict[str, Any], applied: Applied | None = None, error: str = "") -> Audit:
        """Make the record of what became of it."""
        ended = {"time_ms": self._wall_ms(), "stage": "done", "ok": applied is not None}
        if applied is None:
            return Audit({**intention, **ended, "error": error})
        facts = ("document", "before", "revision", "added", "changed", "removed")
        return Audit({**intention, **ended, **{fact: getattr(applied, fact) for fact in facts}})

    # ---- what only shows ---------------------------------------------------------------------

    def _export(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        return [_reply(peer, head, {"text": self._directory.export(field(head, "document", str))})]

    def _history(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        limit = field(head, "limit", int, 50)
        if not 0 < limit <= 100_000:
            raise MalformedMessage("history: limit is between 1 and 100000", id=head.get("id"))
        rows = self._directory.history(field(head, "document", str, None), limit)
        return [_reply(peer, head, {"rows": self._rights.visible(peer.identity, "history", "", rows)})]

    def _list(
        self, peer: Peer, head: dict[str, Any], parts: Sequence[Any], now: float, waited_s: float
    ) -> list[Out]:
        kind = field(head, "kind", str)
        if kind == "directories":
            rows = [self._describe(now)]
        else:
            rows = self._directory.list_records(
                kind, field(head, "vnet", str, None), field(head, "name", str, None)
            )
        if kind == "nodes":
            rows = [
                {**row, **self._gateways.describe(row["name"], now)} if row.get("kind") == "gateway" else row
                for row in rows
            ]
        rows = self._rights.visible(peer.identity, "list", kind, rows)
        return [_reply(peer, head, {"rows": rows, "revision": self._directory.revision})]

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
        answer = self._directory.explain(
            field(head, "vnet", str),
            field(head, "source", str),
            field(head, "destination", str),
            field(head, "protocol", str, "") or "",
            field(head, "port", int, None),
            field(head, "node", str, None),
            field(head, "revision", int, None),
            field(head, "source_port", int, None),
        )
        return [_reply(peer, head, answer)]

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
            gateways = {
                row["name"] for row in self._directory.list_records("nodes") if row.get("kind") == "gateway"
            }
            silent |= gateways - answered
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


def _refuse(peer: Peer, head: dict[str, Any], error: Refused | TomlError) -> list[Out]:
    code = error.code if isinstance(error, Refused) else 2
    text = error.problem if isinstance(error, Refused) else str(error)
    answer = {"id": head.get("id"), "ok": False, "error": text, "fix": error.fix, "code": code}
    return [Reply(peer.channel, peer.connection, encode(answer))]


def _fail(peer: Peer, head: dict[str, Any]) -> list[Out]:
    answer = {
        "id": head.get("id"),
        "ok": False,
        "error": "the gateways' answers could not be used",
        "fix": "look at the directory's log",
        "code": 1,
    }
    return [Reply(peer.channel, peer.connection, encode(answer))]


def _summary(applied: Applied) -> dict[str, Any]:
    return {
        "document": applied.document,
        "revision": applied.revision,
        "before": applied.before,
        "added": applied.added,
        "changed": applied.changed,
        "removed": applied.removed,
        "diff": applied.diff,
        "warnings": applied.warnings,
        "flows": applied.flows,
        "gateways": [{"node": node, "state": "concerned", "ms": None} for node in applied.gateways],
    }
