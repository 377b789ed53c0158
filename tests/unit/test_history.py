# SPDX-License-Identifier: Apache-2.0
"""What `history` reads: the notes of commits, never what they changed."""

import pytest

from directory_service.documents.history import find_author, list_history
from directory_service.documents.writer import Note, encode_note
from directory_service.store.contract import Commit, Write
from directory_service.store.memory import MemoryStore


class NotesOnly(MemoryStore):
    """A store whose commits must not be read."""

    def commits(self, after: int, limit: int = 1000) -> list[Commit]:
        pytest.fail("the items of commits were read for a list of notes")


def test_history_and_authors_are_read_from_notes_alone() -> None:
    store = NotesOnly()
    for number in range(600):  # more than two pages
        user = "ann" if number % 2 else "bob"
        note = encode_note(Note("apply", user, f"c{number}", "shop" if number % 3 else "web", 1, 0, 0))
        store.transact([], [Write("a", b"%d" % number)], note, number)
    rows = list_history(store, None, 1000)
    assert [row.revision for row in rows] == list(range(600, 0, -1))
    assert {row.document for row in list_history(store, "web", 1000)} == {"web"}
    assert [row.revision for row in list_history(store, None, 2)] == [600, 599]
    assert find_author(store, 2) == "ann"
    assert find_author(store, 601) == ""
