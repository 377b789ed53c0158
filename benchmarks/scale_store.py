# SPDX-License-Identifier: Apache-2.0
"""Write a large store without a directory: what stands in it is the same, and takes a fifth of the time."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.fleet import topology
from directory_service.documents.document import parse_document
from directory_service.documents.writer import commit, make_note, plan, read_counter, want_document
from directory_service.model.snapshot import empty_snapshot
from directory_service.store.sqlite import SqliteStore

VNETS_A_DOCUMENT = 50


def fill(path: Path, base: str, vnets: int, endpoints: int) -> None:
    """Make a store with a base document, and V-nets of so many endpoints at gw0 and gw1 in documents of
    fifty."""
    store = SqliteStore.make(path)
    try:
        _write(store, base)
        for first in range(0, vnets, VNETS_A_DOCUMENT):
            count = min(VNETS_A_DOCUMENT, vnets - first)
            _write(store, topology(count, endpoints, 2, 2, name=f"big{first}", first=first))
    finally:
        store.close()


def _write(store: SqliteStore, text: str) -> None:
    """Write a document of which nothing is there yet. Whether it fits is not looked at."""
    counter = read_counter(store)
    empty = empty_snapshot()
    document = parse_document(text, "")
    changes, next_id = plan(empty, want_document(empty, document, (), {}), counter)
    note = make_note("apply", changes, document=document.name)
    commit(store, changes, next_id, counter, note, int(time.time() * 1000))
