# SPDX-License-Identifier: Apache-2.0
"""Documents come and go in pieces: what was accepted is delivered; what is too large is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from directory_world import DOCUMENT, Clock

from directory_client.wire.messages import pack, unpack
from directory_client.wire.operator_requests import pieces_of
from directory_client.wire.requests import ApplyRequest, ExportRequest, PieceRequest
from directory_service.protocol import jobs as jobs_module
from directory_service.protocol import uploads
from directory_service.protocol.authentication import LOCAL, Identity
from directory_service.protocol.jobs import Done, Job, Jobs
from directory_service.protocol.rights import Rights
from directory_service.protocol.uploads import Exports, Uploads
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from whole_directory import WholeDirectory as Directory

ANNA = Identity("anna", "operator")


@pytest.fixture
def jobs() -> Jobs:
    directory = Directory(MemoryStore(), Settings(), Clock())
    return Jobs(directory.editor, Rights(directory))


def do(jobs: Jobs, head: Any, by: Identity = LOCAL) -> Done:
    return jobs.do(Job(head.type, head, by))


def answer(done: Done) -> dict[str, Any]:
    assert done.refusal is None, done.refusal
    count = done.pairs
    return dict(unpack(bytes([0x80 | count]) + done.body)) if count < 16 else {}


def send(jobs: Jobs, text: str, upload: int = 7, step: int = 100, by: Identity = LOCAL) -> None:
    for at in range(0, len(text), step):
        piece = PieceRequest(upload=upload, at=at, text=text[at : at + step])
        assert answer(do(jobs, piece, by))["received"] == at + len(piece.text)


def test_a_document_in_pieces_is_tried_and_applied_as_one_that_came_whole(jobs: Jobs) -> None:
    send(jobs, DOCUMENT)
    tried = answer(do(jobs, ApplyRequest(upload=7, dry_run=True)))
    whole = answer(do(jobs, ApplyRequest(text=DOCUMENT, dry_run=True)))
    assert tried["diff"] == whole["diff"]
    assert tried["diff_more"] == 0
    assert answer(do(jobs, ApplyRequest(upload=7)))["revision"] == 1
    again = do(jobs, ApplyRequest(upload=7))  # it was done
    assert again.refusal is not None
    assert "is not here any more" in again.refusal.error


def test_what_one_has_sent_is_nobody_else_s(jobs: Jobs) -> None:
    send(jobs, DOCUMENT, by=ANNA)
    refused = do(jobs, ApplyRequest(upload=7), LOCAL).refusal
    assert refused is not None
    assert answer(do(jobs, ApplyRequest(upload=7), ANNA))["revision"] == 1


def test_pieces_follow_one_another_and_one_that_comes_twice_counts_once() -> None:
    kept = Uploads()
    assert kept.add("a", 1, 0, "abc") == 3
    assert kept.add("a", 1, 0, "abc") == 3
    with pytest.raises(Refused, match="does not follow"):
        kept.add("a", 1, 9, "x")
    with pytest.raises(Refused, match="is not here any more"):
        kept.add("a", 2, 9, "x")
    assert kept.add("a", 1, 3, "dé") == 5
    assert kept.text("a", 1) == "abcdé"


def test_a_document_that_grows_too_large_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "DOCUMENT_BYTES_MAX", 10)
    kept = Uploads()
    kept.add("a", 1, 0, "12345678")
    with pytest.raises(Refused, match="more than DOCUMENT_BYTES_MAX, 10 bytes"):
        kept.add("a", 1, 8, "éé")


def test_what_nobody_comes_back_for_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "UPLOADS_MAX", 2)
    kept = Uploads()
    for number in (1, 2):
        kept.add("a", number, 0, "x")
    kept.add("a", 1, 1, "y")
    kept.add("a", 3, 0, "z")
    assert kept.text("a", 1) == "xy"
    with pytest.raises(Refused):
        kept.text("a", 2)


def test_a_document_is_exported_in_pieces_of_one_revision(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "EXPORT_PIECE_CHARACTERS", 50)
    do(jobs, ApplyRequest(text=DOCUMENT))
    whole = answer(do(jobs, ExportRequest(document="ams-ber")))["text"]
    piece = answer(do(jobs, ExportRequest(document="ams-ber", at=0)))
    do(jobs, ApplyRequest(text=DOCUMENT.replace("web-1", "web-9")))  # meanwhile
    parts = [piece["text"]]
    while piece["more"] is not None:
        asked = ExportRequest(document="ams-ber", at=piece["more"], revision=piece["revision"])
        piece = answer(do(jobs, asked))
        parts.append(piece["text"])
    assert "".join(parts) == whole
    assert len(parts) > 5


def test_a_revision_that_is_not_here_any_more_is_not_mixed_with_another() -> None:
    exports = Exports()
    assert exports.piece("d", 0, None, 1, lambda: "one").text == "one"
    with pytest.raises(Refused, match="of revision 5 is not here any more"):
        exports.piece("d", 2, 5, 6, lambda: "two")


def test_a_diff_that_is_too_long_begins_with_what_is_taken_away(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(jobs, ApplyRequest(text=DOCUMENT))
    monkeypatch.setattr(jobs_module, "DIFF_ROWS_MAX", 3)
    other = DOCUMENT.replace("web-", "www-") + "\n[site.c]\n[site.d]\n"
    said = answer(do(jobs, ApplyRequest(text=other, dry_run=True)))
    assert [line["sign"] for line in said["diff"]][:2] == ["-", "-"]
    assert (len(said["diff"]), said["diff_more"]) == (3, 3)


@pytest.mark.parametrize("text", ["", "abc" * 100, "é€" * 70])
def test_pieces_are_small_enough_whatever_the_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("directory_client.wire.operator_requests.PIECE_BYTES", 64)
    found = list(pieces_of(text))
    assert "".join(piece for _, piece in found) == text
    assert all(len(pack(piece)) <= 64 + 5 for _, piece in found)
