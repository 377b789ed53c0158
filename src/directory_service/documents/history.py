# SPDX-License-Identifier: Apache-2.0
"""What has been done: rows for `history`, who wrote a revision, going back, and forgetting."""

from collections.abc import Iterator, Mapping
from typing import Any

from directory_client.wire.changes import HistoryRow
from directory_service.documents.writer import Wanted, decode_note
from directory_service.kinds.kind import UNREADABLE, describe_unreadable
from directory_service.kinds.records import Record, decode, is_record_key
from directory_service.kinds.registry import KIND_OF
from directory_service.model.snapshot import Snapshot, changed_records
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.contract import Commit, Compacted, Head, Store

_PAGE = 256
_DAY_MS = 86_400_000
TRIM_EVERY = 256


def newest_first(store: Store) -> Iterator[Commit]:
    """Yield the commits that are kept, newest first."""
    high = store.revision()
    while high > store.oldest():
        low = max(store.oldest(), high - _PAGE)
        try:
            page = [commit for commit in store.commits(low, high - low) if commit.revision <= high]
        except Compacted:
            return
        yield from reversed(page)
        high = low


def _heads(store: Store) -> Iterator[Head]:
    """Yield the heads of the commits that are kept, newest first: a screen wants no items."""
    page = store.heads(store.revision(), _PAGE)
    while page:
        yield from page
        page = store.heads(page[-1].revision - 1, _PAGE)


def list_history(store: Store, document: str | None, limit: int) -> list[HistoryRow]:
    """Return rows of docs/protocol.md, section 2.2, newest first."""
    rows: list[HistoryRow] = []
    for commit in _heads(store):
        if len(rows) >= limit:
            break
        note = decode_note(commit)
        if document is not None and note.document != document:
            continue
        rows.append(
            HistoryRow(
                revision=commit.revision,
                time=commit.time_ms / 1000,
                user=note.user,
                comment=note.comment or (note.verb if note.verb != "apply" else ""),
                document=note.document,
                added=note.added,
                changed=note.changed,
                removed=note.removed,
            )
        )
    return rows


def find_author(store: Store, revision: int) -> str:
    """Return who wrote a revision, empty if that is not known."""
    heads = store.heads(revision, 1)
    return decode_note(heads[0]).user if heads and heads[0].revision == revision else ""


def want_revision(store: Store, snapshot: Snapshot, revision: int) -> dict[str, Wanted | None]:
    """Return what makes the records of documents and operators what they were at a revision."""
    try:
        _, items = store.range(revision=revision)
    except Compacted as error:
        raise Refused(
            f"revision {revision} is not kept: the history goes from {error.oldest} to {store.revision()}",
            "vnetctl history",
        ) from None
    then = {item.key: decode(item) for item in items if is_record_key(item.key)}
    wanted: dict[str, Wanted | None] = {
        key: None for key, record in snapshot.records.items() if _is_kept(record) and key not in then
    }
    for key, record in then.items():
        if _is_kept(record):
            _check_readable(record, snapshot, revision)
            wanted[key] = Wanted(record.values, record.owner, record.document)
    return wanted


def _check_readable(record: Record, snapshot: Snapshot, revision: int) -> None:
    """Raise Refused if a record would come back that a newer program has written."""
    now = snapshot.records.get(record.key)
    if now is not None and now.packed == record.packed:
        return
    try:
        KIND_OF[record.kind].typed(record)
    except UNREADABLE as error:
        raise Refused(
            f"{record.key.replace('/', ' ', 1)} of revision {revision} was written by a newer program, and"
            f" cannot be read here: {describe_unreadable(error)}",
            "go back to another revision (vnetctl history), or upgrade this directory",
        ) from None


def undo(snapshot: Snapshot, commit: Commit) -> Snapshot:
    """Return the snapshot before a commit that led to this one."""
    changes = [(after, before) for before, after in changed_records(commit.changes)]
    return snapshot.with_changes(commit.revision - 1, changes, 0)


def trim(store: Store, settings: Settings) -> None:
    """Forget what is beyond the limits of history. Looks every 256 revisions only.

    How old a commit is, is counted back from the earliest time of the last 256, and at most a quarter of
    what is kept goes at once: a clock that is ahead for some writes does not cost the history.
    """
    newest, oldest = store.revision(), store.oldest()
    if newest - oldest < TRIM_EVERY or newest % TRIM_EVERY:
        return
    at = max(oldest, newest - settings.history_revisions)
    now_ms = store.earliest_ms(newest - TRIM_EVERY)
    if now_ms is not None:
        young = store.first_since(at, now_ms - int(settings.history_days * _DAY_MS))
        old = newest - TRIM_EVERY if young is None else young - 1
        at = max(at, min(old, oldest + (newest - oldest) // 4))
    if at > oldest:
        store.compact(at)


def _is_kept(record: Record | Mapping[str, Any]) -> bool:
    return isinstance(record, Record) and record.owner in ("document", "operator")
