# SPDX-License-Identifier: Apache-2.0
"""What may take long: documents, records, exports, history, lists and reasons, as functions of an Editor.

A Job is a request whose fields have been checked, a Done what came of it. Both are plain data: where the
store is a file, they cross to a process of their own and back (server/office.py). The body of a Done is
packed already, so that whoever sends it on never looks at it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from directory_client.toml.strict_toml import TomlError
from directory_client.wire.answers import Answer
from directory_client.wire.limits import ANSWER_BYTES_MAX, DIFF_ROWS_MAX, HEAD_BYTES_MAX
from directory_client.wire.messages import DirectoryError, MalformedMessage, pack
from directory_client.wire.operator_requests import byte_length
from directory_service.documents.resting import NO_REPORTS, Reports
from directory_service.editor import Applied, Editor
from directory_service.protocol.authentication import Identity
from directory_service.protocol.dry_run import questions
from directory_service.protocol.rights import Rights
from directory_service.protocol.uploads import Exports, Uploads
from directory_service.refused import Refused
from directory_service.store.contract import StoreError

log = logging.getLogger(__name__)

WRITES = frozenset(
    {"apply", "piece", "rollback", "set", "remove", "release"}
)  # one after the other, with their dry runs


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do: a verb and its request (of wire/requests.py), for whom, in whose name.

    `flows` are rows of gateways' flow dumps, for a dry run; `told` stands in its answer beside what becomes
    of them. `flows_max` limits how many rows of a gateway are asked for. `reports` is what gateways had
    reported when it was asked.
    """

    verb: str
    head: Any
    identity: Identity
    user: str = ""
    flows: list[dict[str, Any]] | None = None
    told: Mapping[str, Any] | None = None
    flows_max: int = 0
    reports: Reports = NO_REPORTS


class Changed(NamedTuple):
    """What a change did, for the audit file, and who is to report it."""

    document: str
    before: int
    revision: int
    added: int
    changed: int
    removed: int
    gateways: list[str]
    vnis: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a job: `body` has `pairs` packed pairs of the answer's head. The rest is for the server:
    rows that are to be added to, what a change did, what gateways are to be asked for a dry run. `refusal`
    instead of all that: why not, and what is counted then. `revision`: what it was done at."""

    revision: int
    pairs: int = 0
    body: bytes = b""
    rows: list[dict[str, Any]] | None = None
    changed: Changed | None = None
    questions: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refusal: Answer | None = None
    counted: str = ""
    trims_failed: int = 0


class Jobs:
    """Does jobs, one at a time. `rights` knows what whose key may see."""

    def __init__(self, editor: Editor, rights: Rights) -> None:
        self._editor = editor
        self._rights = rights
        self._uploads = Uploads()
        self._exports = Exports()
        self._doers: dict[str, Callable[[Job], Done]] = {
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
        }

    def do(self, job: Job) -> Done:
        """Do a job. Never raises: what went wrong is a refusal."""
        try:
            return self._doers[job.verb](job)
        except Exception as error:  # one request must not end the service for the others
            counted, refusal = refuse(error, job.verb)
            return Done(self._editor.revision, refusal=refusal, counted=counted)

    def _apply(self, job: Job) -> Done:
        head = job.head
        owner = job.identity.name
        text = head.text if head.upload is None else self._uploads.text(owner, head.upload)
        applied = self._editor.apply(
            text,
            head.name,
            head.dry_run,
            head.take_over or [],
            head.comment or "",
            job.user,
            job.flows or (),
            None if head.dry_run else head.expect_revision,
            job.reports,
        )
        if head.upload is not None and not head.dry_run:
            self._uploads.forget(owner, head.upload)
        return self._change(job, applied)

    def _piece(self, job: Job) -> Done:
        head = job.head
        received = self._uploads.add(job.identity.name, head.upload, head.at, head.text)
        return self._done({"received": received})

    def _rollback(self, job: Job) -> Done:
        head = job.head
        expected = None if head.dry_run else head.expect_revision
        applied = self._editor.rollback(
            head.revision, job.user, head.dry_run, job.flows or (), job.reports, expected
        )
        return self._change(job, applied)

    def _set(self, job: Job) -> Done:
        head = job.head
        set_record = self._editor.set_record
        return self._change(job, set_record(head.kind, head.name, head.values, job.user, job.reports))

    def _remove(self, job: Job) -> Done:
        kind, name = job.head.kind, job.head.name
        return self._change(job, self._editor.remove_record(kind, name, job.user, job.reports))

    def _release(self, job: Job) -> Done:
        return self._change(job, self._editor.release(job.head.node, job.user, job.reports))

    def _change(self, job: Job, applied: Applied) -> Done:
        asks: list[tuple[str, dict[str, Any]]] = []
        flows = applied.flows
        if getattr(job.head, "dry_run", False):
            if job.told is not None:
                flows = {**(flows or {}), **job.told}
            else:
                asks = questions(applied, job.flows_max)
                if not asks:  # nobody can have flows that it would cut, which is more than not knowing
                    flows = {**(flows or {}), "concerned": False}
        shown = _shortened(applied.diff)
        answer = {
            "document": applied.document,
            "revision": applied.revision,
            "before": applied.before,
            "added": applied.added,
            "changed": applied.changed,
            "removed": applied.removed,
            "diff": shown,
            "diff_more": len(applied.diff) - len(shown),
            "warnings": applied.warnings,
            "flows": flows,
        }
        changed = Changed(
            applied.document,
            applied.before,
            applied.revision,
            applied.added,
            applied.changed,
            applied.removed,
            applied.gateways,
            applied.vnis,
        )
        return self._done(answer, changed=changed, questions=asks)

    def _export(self, job: Job) -> Done:
        document = job.head.document
        self._rights.check_document(job.identity, "export", document)
        head = job.head
        export = partial(self._editor.export, document)
        if head.at is not None:
            revision = self._editor.revision
            piece = self._exports.piece(document, head.at, head.revision, revision, export)
            return self._done(piece._asdict())
        text = export()
        if byte_length(text) > ANSWER_BYTES_MAX - HEAD_BYTES_MAX:
            problem = f"document {document} has more than ANSWER_BYTES_MAX, {ANSWER_BYTES_MAX} bytes"
            raise Refused(problem, "vnetctl export of this release asks for it in pieces")
        return self._done({"text": text})

    def _history(self, job: Job) -> Done:
        document = job.head.document
        if document is not None:
            self._rights.check_document(job.identity, "history", document)
        rows = self._editor.history(document, job.head.limit)
        return self._done({"rows": self._rights.visible(job.identity, "history", "", rows)})

    def _list(self, job: Job) -> Done:
        kind = job.head.kind
        rows = self._editor.list_records(kind, job.head.vnet, job.head.name)
        rows = self._rights.visible(job.identity, "list", kind, rows)
        if kind == "nodes":  # the server adds how their gateways are
            return self._done({"revision": self._editor.revision}, rows=rows)
        return self._done({"rows": rows, "revision": self._editor.revision})

    def _explain(self, job: Job) -> Done:
        head = job.head
        answer = self._editor.explain(
            head.vnet,
            head.source,
            head.destination,
            head.protocol or "",
            head.port,
            head.node,
            head.revision,
            head.source_port,
        )
        return self._done(answer)

    def _done(self, answer: Mapping[str, Any], **more: Any) -> Done:
        body = b"".join(pack(one) for pair in answer.items() for one in pair)
        revision = self._editor.revision
        return Done(revision, len(answer), body, trims_failed=self._editor.trims_failed, **more)


def _shortened(diff: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what an answer has room for; what is taken away or changed comes before what is added then."""
    if len(diff) <= DIFF_ROWS_MAX:
        return diff
    return sorted(diff, key=lambda line: line["sign"] == "+")[:DIFF_ROWS_MAX]


def refuse(error: Exception, what: Any) -> tuple[str, Answer]:
    """Return what to count for an error, and what to answer: error, fix, code, perhaps why."""
    match error:
        case MalformedMessage():
            counted, text, fix, code = "malformed", error.error, error.fix, 2
        case DirectoryError():
            counted, text, fix, code = "refused", error.error, error.fix, error.code
        case Refused():
            counted, text, fix, code = "refused", error.problem, error.fix, error.code
        case TomlError():
            counted, text, fix, code = "refused", str(error), error.fix, 2
        case StoreError():
            log.error("the store failed: %s", error)
            counted, text, fix, code = "store_errors", f"the store failed: {error}", _LOOK, 1
        case _:
            log.error("could not serve %.40r", what, exc_info=error)
            counted, text, fix, code = "internal_errors", "the directory failed on this request", _LOOK, 1
    why = getattr(error, "why", "")  # a word for programs, where they can do something about it
    speaks = getattr(error, "speaks", None)
    return counted, Answer(ok=False, error=text, fix=fix, code=code, why=why, speaks=speaks)


_LOOK = "look at the directory's log"


def count(counters: Counter[str], done: Done) -> None:
    """Count what came of a job."""
    if done.counted:
        counters[done.counted] += 1
    counters["trims_failed"] = max(counters["trims_failed"], done.trims_failed)
