# SPDX-License-Identifier: Apache-2.0
"""Documents on their way: what does not fit into one message goes, and comes, in pieces."""

from __future__ import annotations

import secrets
from typing import Any

from vnetctl.client import SLOW_TIMEOUT_S
from vnetctl.errors import Failure
from vnetctl.session import Session

EXPORTS_MAX = 3  # times that a document may change while it comes


def said_of(session: Session, text: str) -> dict[str, Any]:
    """Return what an apply says of its document: the text, or the number under which it was sent. Raises
    Failure."""
    from directory_client.wire.limits import AT_ONCE_BYTES_MAX
    from directory_client.wire.operator_requests import byte_length, pieces_of

    if byte_length(text) <= AT_ONCE_BYTES_MAX:
        return {"text": text}
    upload = secrets.randbits(62)
    for at, piece in pieces_of(text):
        session.ask("piece", SLOW_TIMEOUT_S, args={"upload": upload, "at": at, "text": piece})
    return {"upload": upload}


def fetch(session: Session, document: str) -> str:
    """Return a document's text, all of it of one revision. Raises Failure."""
    for attempt in range(EXPORTS_MAX):
        answer = session.ask("export", SLOW_TIMEOUT_S, name=document, args={"at": 0})
        parts = [str(answer.get("text", ""))]
        try:
            while (more := answer.get("more")) is not None:
                args = {"at": more, "revision": answer["revision"]}
                answer = session.ask("export", SLOW_TIMEOUT_S, name=document, args=args)
                parts.append(str(answer.get("text", "")))
        except Failure as failure:
            if attempt + 1 == EXPORTS_MAX or "not here any more" not in str(failure.message):
                raise
            continue
        return "".join(parts)
    raise AssertionError("unreachable")
