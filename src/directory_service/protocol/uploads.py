# SPDX-License-Identifier: Apache-2.0
"""Documents that come, and go, in pieces. Pure.

What has come is kept until it was applied, or until there is no room for it beside newer ones: between a dry
run and the change somebody may think about it. What goes is of one revision, however long it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from directory_client.wire.limits import DOCUMENT_BYTES_MAX, EXPORT_PIECE_CHARACTERS
from directory_client.wire.operator_requests import byte_length
from directory_service.refused import Refused

UPLOADS_MAX = 8
KEPT_BYTES_MAX = 2 * DOCUMENT_BYTES_MAX
EXPORTS_MAX = 4
_AGAIN = "send it anew: vnetctl apply"


@dataclass(slots=True)
class _Upload:
    pieces: list[str] = field(default_factory=list)
    characters: int = 0
    bytes: int = 0


class Uploads:
    """What has come so far, by who sends it and the number that they have drawn. The one that was not touched
    for longest goes where there is no room."""

    def __init__(self) -> None:
        self._uploads: dict[tuple[str, int], _Upload] = {}

    def add(self, owner: str, number: int, at: int, text: str) -> int:
        """Take a piece; returns how many characters there are now. A piece that is there already is taken
        again. Raises Refused."""
        upload = self._uploads.pop((owner, number), None)
        if upload is None:
            if at:
                raise Refused("what came before this piece is not here any more", _AGAIN)
            upload = _Upload()
        self._uploads[owner, number] = upload  # the newest
        if at + len(text) == upload.characters and upload.pieces and upload.pieces[-1] == text:
            return upload.characters
        if at != upload.characters:
            raise Refused(f"a piece at {at} does not follow {upload.characters} characters", _AGAIN)
        size = upload.bytes + byte_length(text)
        if size > DOCUMENT_BYTES_MAX:
            del self._uploads[owner, number]
            raise Refused(
                f"the document has more than DOCUMENT_BYTES_MAX, {DOCUMENT_BYTES_MAX} bytes",
                "make several documents of it",
                2,
            )
        upload.pieces.append(text)
        upload.characters += len(text)
        upload.bytes = size
        while len(self._uploads) > UPLOADS_MAX or self._bytes() > KEPT_BYTES_MAX:
            del self._uploads[next(iter(self._uploads))]
        return upload.characters

    def text(self, owner: str, number: int) -> str:
        """Return what has come, whole. Raises Refused."""
        upload = self._uploads.pop((owner, number), None)
        if upload is None:
            raise Refused("the document that was sent in pieces is not here any more", _AGAIN)
        self._uploads[owner, number] = upload
        if len(upload.pieces) > 1:
            upload.pieces = ["".join(upload.pieces)]
        return upload.pieces[0] if upload.pieces else ""

    def forget(self, owner: str, number: int) -> None:
        """It was applied."""
        self._uploads.pop((owner, number), None)

    def _bytes(self) -> int:
        return sum(upload.bytes for upload in self._uploads.values())


class Piece(NamedTuple):
    """A part of a document: its text, of which revision, and where the next one begins; None: it is the
    last."""

    text: str
    revision: int
    more: int | None


class Exports:
    """The documents that were exported last, for those who come back for more of them."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, int], str] = {}

    def piece(
        self, document: str, at: int, revision: int | None, newest: int, export: Callable[[], str]
    ) -> Piece:
        """Return a part of a document from a character on: as it is now, or of the `revision` that an earlier
        part was of. Raises Refused if that is not here any more."""
        wanted = newest if revision is None else revision
        text = self._texts.pop((document, wanted), None)
        if text is None:
            if wanted != newest:
                problem = f"document {document} of revision {wanted} is not here any more"
                raise Refused(problem, f"vnetctl export {document}")
            text = export()
        end = at + EXPORT_PIECE_CHARACTERS
        if end < len(text):
            self._texts[document, wanted] = text
        while len(self._texts) > EXPORTS_MAX:
            del self._texts[next(iter(self._texts))]
        return Piece(text[at:end], wanted, end if end < len(text) else None)
