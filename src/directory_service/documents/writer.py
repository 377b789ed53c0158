# SPDX-License-Identifier: Apache-2.0
"""From what an operator wants to one transaction: plans of changes, and their commit.

Every transaction rewrites the store's counter (next id, serial) and compares it first, so that two servers
never write on the same grounds, and an id is never given twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgpack

from directory_client.toml.strict_toml import TomlError, list_mistakes, raise_all
from directory_client.vocabulary.names import split_qualified, suggest
from directory_service.documents.document import Document
from directory_service.documents.integrity import find_faults, find_warnings
from directory_service.kinds.kind import Declared
from directory_service.kinds.records import OWNERS, Record, encode, make_record
from directory_service.kinds.registry import KIND_OF
from directory_service.kinds.together import Fault
from directory_service.model.snapshot import Snapshot
from directory_service.refused import Refused
from directory_service.store.contract import Commit, Compare, Head, Store, StoreError, Write

COUNTER_KEY = "meta/counter"
DOCUMENT_PREFIX = "document:"  # before a document's name: all of it
RecordChange = tuple[Record | None, Record | None]


class Wanted(NamedTuple):
    """What a record shall be."""

    values: Mapping[str, Any]
    owner: str
    document: str


class Counter(NamedTuple):
    """The next free id, a number that each transaction raises, and the revision at which it was read."""

    next_id: int
    serial: int
    modified: int


class Note(NamedTuple):
    """What a commit says about itself."""

    verb: str
    user: str
    comment: str
    document: str
    added: int
    changed: int
    removed: int


def read_counter(store: Store) -> Counter:
    """Return the store's counter. Raises StoreError for one that cannot be read."""
    _, items = store.range(COUNTER_KEY)
    if not items:
        return Counter(1, 0, 0)
    try:
        next_id, serial = msgpack.unpackb(items[0].value)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise StoreError(f"{COUNTER_KEY} of revision {items[0].modified} cannot be read: {error}") from error
    return Counter(next_id, serial, items[0].modified)


def plan(
    snapshot: Snapshot, wanted: Mapping[str, Wanted | None], counter: Counter
) -> tuple[list[RecordChange], int]:
    """Return the changes (before, after) that make records as wanted (None: gone), and the next free id."""
    changes: list[RecordChange] = []
    next_id = counter.next_id
    for key in sorted(wanted):
        want, before = wanted[key], snapshot.records.get(key)
        if want is None:
            if before is not None:
                changes.append((before, None))
            continue
        if before is None:
            id_, next_id = next_id, next_id + 1
        else:
            id_ = before.id
            owned = (before.owner, before.document) == (want.owner, want.document)
            if owned and before.values == want.values:
                continue
        revision = snapshot.revision + 1
        changes.append((before, make_record(key, id_, revision, want.owner, want.document, want.values)))
    return changes, next_id


def want_document(
    snapshot: Snapshot, document: Document, take_over: Iterable[str], authors: Mapping[int, str]
) -> dict[str, Wanted | None]:
    """Return what a document wants. Raises TomlError for what another document owns and is not taken over."""
    wanted: dict[str, Wanted | None] = {}
    unused = set(take_over)
    used: set[str] = set()
    foreign: list[TomlError] = []
    for key, declared in document.declared.items():
        before = snapshot.records.get(key)
        taken: set[str] = set()
        if unused:
            taken = {declared.name, key, f"{declared.kind} {declared.name}"} & unused
            if before is not None and before.owner == "document":
                taken |= {DOCUMENT_PREFIX + before.document} & unused
            used |= taken
        if (
            before is not None
            and before.owner == "document"
            and before.document != document.name
            and not taken
        ):
            who = ", ".join(filter(None, (authors.get(before.revision, ""), f"revision {before.revision}")))
            problem = f"{declared.kind} {declared.name} is owned by document {before.document} ({who})"
            again = f"vnetctl apply -f {document.file} --take-over"
            fix = f"remove it there first, or {again} {declared.name}, or all of it: {again} "
            foreign.append(declared.problem(None, problem, fix + DOCUMENT_PREFIX + before.document))
        wanted[key] = Wanted(declared.values, "document", document.name)
    raise_all(foreign)
    unused -= used
    if unused:
        name = min(unused)
        if name.startswith(DOCUMENT_PREFIX):
            other = name.removeprefix(DOCUMENT_PREFIX)
            documents = {record.document for record in snapshot.records.values() if record.document}
            raise Refused(
                f"--take-over {name}: this document declares nothing that document {other} owns",
                suggest(other, documents),
                2,
            )
        raise Refused(
            f"--take-over {name}: the document does not declare it",
            suggest(name, (declared.name for declared in document.declared.values())),
            2,
        )
    for key, record in snapshot.records.items():
        if record.owner == "document" and record.document == document.name and key not in wanted:
            wanted[key] = None
    return wanted


def check(
    snapshot: Snapshot, changes: Sequence[RecordChange], declared: Mapping[str, Declared] | None = None
) -> list[str]:
    """Raise TomlError or Refused if the records would not fit together; return warnings."""
    records = dict(snapshot.records)
    for before, after in changes:
        if after is not None:
            records[after.key] = after
        elif before is not None:
            records.pop(before.key, None)
    faults = list(find_faults(records))
    for before, after in changes:
        if before is not None and after is not None:
            faults += KIND_OF[after.kind].check_change(before, after)
    fail(declared or {}, faults)
    named = [after.key for _, after in changes if after is not None]
    return list(find_warnings(records, named, snapshot.presences))


def fail(declared: Mapping[str, Declared], faults: Sequence[Fault]) -> None:
    """Raise what does not fit, all of it: what the document declares with its lines."""
    here = [
        declared[key].problem(field, problem, fix) for key, field, problem, fix in faults if key in declared
    ]
    texts = [
        (f"{key.replace('/', ' ', 1)}: {problem}", fix)
        for key, _, problem, fix in faults
        if key not in declared
    ]
    if not texts:
        raise_all(here)
        return
    if len(faults) == 1:
        raise Refused(*texts[0])
    here.sort(key=lambda error: error.line)
    texts = [*((str(error), error.fix) for error in here), *texts]
    raise Refused(list_mistakes(f"{len(texts)} things do not fit together", texts), "correct them all")


def check_owner(record: Record | None, owner: str) -> None:
    """Raise Refused if somebody higher owns the record."""
    if record is None or (record.owner in OWNERS and OWNERS.index(record.owner) >= OWNERS.index(owner)):
        return
    if record.owner == "document":
        raise Refused(
            f"{record.kind} {record.name} is owned by document {record.document}"
            f" (revision {record.revision})",
            f"change it there and apply it:  vnetctl export {record.document}",
        )
    raise Refused(f"{record.kind} {record.name} is owned by {record.owner} (revision {record.revision})")


def check_key(kind: str, name: str) -> str:
    """Return the key of a record that an operator names. Raises Refused."""
    known = KIND_OF.get(kind)
    if known is None:
        raise Refused(f"there is no kind {kind}", suggest(kind, KIND_OF), 2)
    try:
        known.check_name(split_qualified(name)[1] if known.noun.of_vnet else name)
    except ValueError as error:
        raise Refused(f"{kind} {name}: {error}", "correct the name", 2) from None
    return f"{kind}/{name}"


def commit(
    store: Store,
    changes: Sequence[RecordChange],
    next_id: int,
    counter: Counter,
    note: Note,
    time_ms: int,
    more: Sequence[Write] = (),
) -> int:
    """Write the changes, and what is no record (`more`), as one transaction; return its revision.

    Raises Conflict if somebody wrote meanwhile.
    """
    writes = [Write(COUNTER_KEY, msgpack.packb([next_id, counter.serial + 1]))]
    for before, after in changes:
        if after is not None:
            writes.append(Write(after.key, encode(after)))
        elif before is not None:
            writes.append(Write(before.key, None))
    writes += more
    return store.transact([Compare(COUNTER_KEY, counter.modified)], writes, encode_note(note), time_ms)


def make_note(
    verb: str, changes: Sequence[RecordChange], user: str = "", comment: str = "", document: str = ""
) -> Note:
    """Make the note of a commit, with the counts."""
    added = sum(before is None for before, _ in changes)
    removed = sum(after is None for _, after in changes)
    return Note(verb, user, comment, document, added, len(changes) - added - removed, removed)


def encode_note(note: Note) -> bytes:
    """Return the store's form of a note."""
    packed: bytes = msgpack.packb(list(note))
    return packed


def decode_note(commit_: Commit | Head) -> Note:
    """Return the note of a commit; one that is not ours says so."""
    try:
        return Note(*msgpack.unpackb(commit_.note)[: len(Note._fields)])
    except (ValueError, TypeError, msgpack.exceptions.UnpackException):
        return Note("unknown", "", "", "", 0, 0, 0)
