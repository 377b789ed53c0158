# SPDX-License-Identifier: Apache-2.0
"""What answers say, whatever was asked. Names that stand here mean nothing else in any answer's head."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from directory_client.wire.messages import Head

Unsigned = Annotated[int, Meta(ge=0)]


class Progress(Struct):
    """It takes long: seconds since it was asked, and how many requests come before it. No answer yet."""

    seconds: Unsigned = 0
    before: Unsigned = 0


class Answer(Head, kw_only=True):
    """The head of an answer. `ok` False: a refusal, with a sentence, what to type, vnetctl's exit status and
    perhaps a word for programs. `busy`: ask again in `retry_ms`. The version is that at which it was
    answered (section 2 of docs/protocol.md); `epoch` and `facts` order it among pushes."""

    ok: bool | None = None
    error: str = ""
    fix: str = ""
    code: int | None = None
    why: str = ""
    busy: bool = False
    retry_ms: Unsigned | None = None
    progress: Progress | None = None
    realm: Unsigned | None = None
    era: Unsigned | None = None
    incarnation: Unsigned | None = None
    revision: Unsigned | None = None
    seal: Unsigned | None = None
    store: Unsigned | None = None
    epoch: Unsigned | None = None
    facts: Unsigned | None = None
    speaks: tuple[int, int] | None = None  # in a greeting's answer, and where our version is not spoken
    type: str = ""  # "ask": no answer, but a question to a gateway's control
