# SPDX-License-Identifier: Apache-2.0
"""What operators ask of the directory: documents and records, what they were, and why something is decided.

This is what may take long, so that where the store is a file it is done in processes of their own
(server/desk.py). Operators' mistakes raise Refused with a sentence and a remedy, or TomlError with file and
line. One thread calls.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from directory_client.toml.strict_toml import Table, TomlError
from directory_client.toml.toml_lines import Lines
from directory_client.vocabulary.names import suggest
from directory_client.wire.changes import plain
from directory_service.decide.explain import Question, explain
from directory_service.decide.flows import judge_flows
from directory_service.documents.consequences import find_consequences
from directory_service.documents.diff import describe_changes
from directory_service.documents.document import parse_document, write_document
from directory_service.documents.doubts import find_doubts_of
from directory_service.documents.endpoint_fit import are_endpoints, endpoints_fit
from directory_service.documents.history import find_author, list_history, newest_first, trim, want_revision
from directory_service.documents.resting import (
    NO_REPORTS,
    Reports,
    judge,
    merge,
    read_rests,
    release_refusal,
    rest_writes,
)
from directory_service.documents.writer import (
    Counter,
    Note,
    RecordChange,
    Wanted,
    check,
    check_key,
    check_owner,
    commit,
    fail,
    make_note,
    plan,
    read_counter,
    want_document,
)
from directory_service.follower import Follower
from directory_service.kinds.records import FABRIC_KINDS
from directory_service.kinds.registry import KIND_OF
from directory_service.model.snapshot import Snapshot, load_snapshot
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.contract import Compacted, Conflict, StoreError
from directory_service.views.listing import list_rows

log = logging.getLogger(__name__)

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply, rollback, set or remove did, or would do. `document` is empty for single changes."""

    document: str
    before: int
    revision: int
    added: int
    changed: int
    removed: int
    diff: list[dict[str, str]]
    warnings: list[str] = field(default_factory=list)
    flows: dict[str, Any] | None = None
    gateways: list[str] = field(default_factory=list)  # the gateways that host a V-net it touches
    vnis: list[int] = field(default_factory=list)  # of the V-nets that it touches


class Editor:
    """See the module. Plans and looks on the snapshot of `follower`, and has it take up what was written.

    `clock_ms` is Unix time in milliseconds: it is printed, and orders nothing. `steady_ms` never steps.
    """

    def __init__(
        self,
        follower: Follower,
        settings: Settings,
        clock_ms: Callable[[], int],
        steady_ms: Callable[[], int],
    ) -> None:
        self._follower = follower
        self._store = follower.store
        self._settings = settings
        self._clock_ms = clock_ms
        self._steady_ms = steady_ms
        self._checked: Any = None  # the records that are known to fit together
        self.trims_failed = 0

    def take(self, settings: Settings) -> None:
        """Take other settings, from the next request on."""
        self._settings = settings

    @property
    def revision(self) -> int:
        """The revision of what is shown and planned on."""
        return self._snapshot.revision

    def hosted(self, node: str) -> frozenset[str]:
        """Return the names of the V-nets that a node hosts."""
        return self._follower.hosted(node)

    def document_vnets(self, document: str) -> frozenset[str]:
        """Return the names of the V-nets that a document has records in."""
        return self._follower.document_vnets(document)

    @property
    def _snapshot(self) -> Snapshot:
        return self._follower.current

    def apply(
        self,
        text: str,
        file: str,
        dry_run: bool = False,
        take_over: Sequence[str] = (),
        comment: str = "",
        user: str = "",
        flows: Sequence[Mapping[str, Any]] = (),
        expect_revision: int | None = None,
        reports: Reports = NO_REPORTS,
    ) -> Applied:
        """Apply a document; with `dry_run` only say what it would do, and what becomes of the cached `flows`
        (rows of a flow dump with "node" added). With `expect_revision` only if the directory still stands
        there: what was previewed is what is applied. `reports` are what gateways have reported: they say
        which numbers may be somebody else's now. Raises Refused, TomlError."""
        document = parse_document(text, file)

        def want() -> dict[str, Wanted | None]:
            owners = {
                record.revision
                for key in document.declared
                if (record := self._snapshot.records.get(key)) and record.document != document.name
            }
            authors = {revision: find_author(self._store, revision) for revision in owners}
            return want_document(self._snapshot, document, take_over, authors)

        return self._write(
            want,
            "apply",
            user,
            comment,
            document.name,
            declared=document.declared,
            dry_run=dry_run,
            flows=flows,
            expect_revision=expect_revision,
            reports=reports,
        )

    def export(self, document: str) -> str:
        """Return a document's text. Raises Refused."""
        records = [
            record
            for record in self._snapshot.records.values()
            if record.owner == "document" and record.document == document
        ]
        if not records:
            known = {record.document for record in self._snapshot.records.values() if record.document}
            raise Refused(f"there is no document {document}", suggest(document, known))
        return write_document(document, records)

    def history(self, document: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Return rows of docs/protocol.md, section 2.2, newest first: each a HistoryRow as a map."""
        return [plain(row) for row in list_history(self._store, document, limit)]

    def rollback(
        self,
        revision: int,
        user: str = "",
        dry_run: bool = False,
        flows: Sequence[Mapping[str, Any]] = (),
        reports: Reports = NO_REPORTS,
        expect_revision: int | None = None,
    ) -> Applied:
        """Make documents' and operators' records what they were at a revision; `dry_run`, `flows`, `reports`
        and `expect_revision` as in `apply`. Raises Refused."""
        return self._write(
            lambda: want_revision(self._store, self._snapshot, revision),
            "rollback",
            user,
            f"back to revision {revision}",
            dry_run=dry_run,
            flows=flows,
            expect_revision=expect_revision,
            reports=reports,
        )

    def set_record(
        self,
        kind: str,
        name: str,
        values: Mapping[str, Any],
        user: str = "",
        reports: Reports = NO_REPORTS,
    ) -> Applied:
        """Add one record as operator, or change the given fields of one; None takes a field away. `reports`
        as in `apply`. Raises Refused."""
        key = check_key(kind, name)

        def want() -> dict[str, Wanted | None]:
            before = self._snapshot.records.get(key)
            check_owner(before, "operator")
            merged = {**(before.values if before else {}), **values}
            for given, other in KIND_OF[kind].exclusive:
                if values.get(given) and not values.get(other):
                    merged.pop(other, None)
            table = Table(
                "", Lines(), (), {field: value for field, value in merged.items() if value is not None}
            )
            try:
                read = KIND_OF[kind].read(table)
                table.finish()
            except TomlError as error:
                at = f"{error.key}: " if error.key else ""
                raise Refused(f"{kind} {name}: {at}{error.problem}", error.fix, 2) from None
            return {key: Wanted(read, "operator", "")}

        return self._write(want, "set", user, f"set {kind} {name}", reports=reports)

    def remove_record(self, kind: str, name: str, user: str = "", reports: Reports = NO_REPORTS) -> Applied:
        """Remove one record of an operator. `reports` as in `apply`. Raises Refused."""
        key = f"{kind}/{name}"
        if key not in self._snapshot.records:  # what is there may go, also under a name that is taken since
            key = check_key(kind, name)

        def want() -> dict[str, Wanted | None]:
            before = self._snapshot.records.get(key)
            if before is None:
                known = [record.name for record in self._snapshot.records.values() if record.kind == kind]
                raise Refused(f"there is no {kind} {name}", suggest(name, known))
            check_owner(before, "operator")
            wanted: dict[str, Wanted | None] = {key: None}
            if kind == "vnet":  # with all of it that operators own
                for other in self._snapshot.records.values():
                    if other.vnet == name and other.key != key:
                        check_owner(other, "operator")
                        wanted[other.key] = None
            return wanted

        return self._write(want, "remove", user, f"remove {kind} {name}", reports=reports)

    def release(self, node: str, user: str = "", reports: Reports = NO_REPORTS) -> Applied:
        """Take an operator's word that a gateway forwards nothing any more: what it has not reported keeps
        no number from others. Raises Refused."""
        for _ in range(_TRIES):
            counter = read_counter(self._store)
            self._follower.take_up()
            now, rests = self._snapshot, read_rests(self._store)
            counted = reports.of(now.incarnation)
            refuse = release_refusal(node, rests, counted, now.fabric)
            if refuse is not None:
                raise refuse
            coming = merge(rests, {}, counted, now.fabric, release=node)
            note = make_note("release", [], user, f"release {node}: its machine is off")
            writes = rest_writes(rests, coming)
            try:
                revision = commit(self._store, [], counter.next_id, counter, note, self._clock_ms(), writes)
            except Conflict:
                continue
            self._after_commit(revision, now.with_changes(now.revision + 1, [], self._steady_ms()))
            return _applied(note, now.revision, revision, [], [], None, ([], []))
        raise Refused("others keep writing to the directory", "try again")

    def list_records(
        self, kind: str, vnet: str | None = None, name: str | None = None
    ) -> list[dict[str, Any]]:
        """Return rows for `show`. Raises Refused for a kind, V-net or name that is not there."""
        return list_rows(self._snapshot, kind, vnet, name)

    def explain(
        self,
        vnet: str,
        source: str,
        destination: str,
        protocol: str = "",
        port: int | None = None,
        node: str | None = None,
        revision: int | None = None,
        source_port: int | None = None,
    ) -> dict[str, Any]:
        """Decide one connection and say why; see directory_service.explain. Raises Refused."""
        snapshot = self._snapshot
        if revision is not None and revision != snapshot.revision:
            try:
                snapshot = self._follower.with_facts(load_snapshot(self._store, revision))
            except Compacted as error:
                kept = f"the history goes from {error.oldest} to {self._store.revision()}"
                raise Refused(f"revision {revision} is not kept: {kept}", "vnetctl history") from None
        commits = (one for one in newest_first(self._store) if one.revision <= snapshot.revision)
        question = Question(vnet, source, destination, protocol, port, node, source_port)
        return explain(snapshot, question, commits, self._steady_ms(), self._settings)

    def _write(
        self,
        want: Callable[[], dict[str, Wanted | None]],
        verb: str,
        user: str = "",
        comment: str = "",
        document: str = "",
        declared: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        flows: Sequence[Mapping[str, Any]] = (),
        expect_revision: int | None = None,
        reports: Reports = NO_REPORTS,
    ) -> Applied:
        """Plan on the newest snapshot, check, and commit; again if somebody else wrote meanwhile."""
        for _ in range(_TRIES):
            counter: Counter = read_counter(self._store)
            self._follower.take_up()
            before = self._snapshot
            if expect_revision is not None and before.revision != expect_revision:
                moved = f"the directory moved on from revision {expect_revision} to {before.revision}"
                raise Refused(
                    f"{moved}: what was previewed is not what would change", "look again, and type it again"
                )
            wanted = want()
            changes, next_id = plan(before, wanted, counter)
            _refuse_what_is_left(before.unreadable(), changes)
            note = make_note(verb, changes, user, comment, document)
            now_ms = self._clock_ms()
            steady_ms = self._steady_ms()
            after = None
            if changes and before.records is self._checked and are_endpoints(changes):
                after = before.with_changes(before.revision + 1, changes, steady_ms)
            fits = after is not None and endpoints_fit(after, changes)
            warnings = find_doubts_of(before.records, changes) if fits else check(before, changes, declared)
            if after is None:
                after = before.with_changes(before.revision + 1, changes, steady_ms) if changes else before
            warnings += find_consequences(before, after, changes)
            rests = read_rests(self._store)
            coming, resting = judge(before, after, changes, rests, reports, self._settings)
            fail(declared or {}, resting)
            touched = _touched(before, after, changes)
            if dry_run or not changes:
                judged = judge_flows(before, after, flows, steady_ms, self._settings) if dry_run else None
                return _applied(note, before.revision, after.revision, changes, warnings, judged, touched)
            try:
                writes = rest_writes(rests, coming)
                revision = commit(self._store, changes, next_id, counter, note, now_ms, writes)
            except Conflict:
                continue
            # The change is made: nothing that fails from here on makes it a failed one.
            self._after_commit(revision, after)
            return _applied(note, before.revision, revision, changes, warnings, None, touched)
        raise Refused("others keep writing to the directory", "try again")

    def _after_commit(self, revision: int, expected: Snapshot) -> None:
        """Take a commit up and forget old history. What fails here is tried again: by `poll`, and by the
        next change."""
        try:
            if revision == expected.revision:  # the counter stood: nobody has written between
                self._follower.take_own(expected)
            else:
                self._follower.take_up()
            if self._snapshot.revision == revision == expected.revision:
                self._checked = self._snapshot.records
        except StoreError as error:
            log.error("revision %d is committed, but cannot be read yet: %s", revision, error)
        try:
            trim(self._store, self._settings)
        except StoreError as error:
            self.trims_failed += 1
            log.error("old history could not be forgotten: %s", error)


def _refuse_what_is_left(unreadable: Mapping[str, str], changes: Sequence[RecordChange]) -> None:
    """Raise Refused if records of a newer program stay that this one cannot read: it cannot tell whether the
    others fit in with them."""
    changed = {record.key for change in changes for record in change if record is not None}
    left = sorted(unreadable.keys() - changed) if unreadable else []
    if left:
        more = f", and {len(left) - 1} more" if len(left) > 1 else ""
        raise Refused(
            f"{left[0].replace('/', ' ', 1)} was written by a newer program, and cannot be read here:"
            f" {unreadable[left[0]]}{more}",
            "upgrade this directory, or go back to what it can read:  vnetctl rollback REVISION",
        )


def _touched(
    before: Snapshot, after: Snapshot, changes: Sequence[RecordChange]
) -> tuple[list[str], list[int]]:
    """Return the gateways that host a V-net that the changes touch, and the VNIs of those that stand."""
    records = [record for change in changes for record in change if record is not None]
    every = any(record.kind in FABRIC_KINDS for record in records)
    names = {record.vnet for record in records}
    found: set[str] = set()
    for snapshot in (before, after):
        for name, state in snapshot.vnets.items():
            if every or name in names:
                found.update(state.attachments_by_node)
    vnis = [state.vnet.vni for name, state in after.vnets.items() if state.vnet and (every or name in names)]
    return sorted(found), vnis


def _applied(
    note: Note,
    before: int,
    revision: int,
    changes: Sequence[RecordChange],
    warnings: list[str],
    flows: dict[str, Any] | None,
    touched: tuple[list[str], list[int]],
) -> Applied:
    return Applied(
        note.document,
        before,
        revision,
        note.added,
        note.changed,
        note.removed,
        [plain(row) for row in describe_changes(changes)],
        warnings,
        flows,
        *touched,
    )


__all__ = ["Applied", "Editor", "Refused"]
