# SPDX-License-Identifier: Apache-2.0
"""What may be asked over the write socket (docs/protocol.md, section 2.2): by operators, and by gateways'
controls."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from directory_client.wire.answers import Answer
from directory_client.wire.greeting import Goodbye, Heartbeat, Hello, Unsigned63
from directory_client.wire.limits import HISTORY_ROWS_MAX, IDS_MAX
from directory_client.wire.messages import Request
from directory_client.wire.questions import LocatorRequest, ResolveRequest, SnapshotRequest

Port = Annotated[int, Meta(ge=0, le=65_535)]


class Change(Request, kw_only=True):
    """What changes something, or says what it would change. `user`: in whose name; `wait_ms`: how long to
    wait for gateways."""

    user: str | None = None
    wait_ms: int | None = None


class ApplyRequest(Change, tag="apply", kw_only=True):
    """Make a document be as `text` says, or what was sent under the number `upload` (PieceRequest). `name` is
    its file's, for messages; `take_over`: names, or document:NAME, that may become this document's; refused
    if the directory stands at another revision than is expected."""

    text: str = ""
    upload: Unsigned63 | None = None
    name: str = "document"
    dry_run: bool = False
    take_over: list[str] | None = None
    comment: str | None = None
    expect_revision: Unsigned63 | None = None


class PieceRequest(Request, tag="piece", kw_only=True):
    """A part of a document that is too large for one message: what follows the first `at` characters. The
    sender draws the number `upload`, which an apply names then."""

    upload: Unsigned63
    at: Unsigned63
    text: str


class RollbackRequest(Change, tag="rollback", kw_only=True):
    """Undo what was done after a revision; refused if the directory stands at another than is
    expected."""

    revision: Unsigned63
    dry_run: bool = False
    expect_revision: Unsigned63 | None = None


class SetRequest(Change, tag="set", kw_only=True):
    """Make a record be as `values` say."""

    is_free = True
    kind: str
    name: str
    values: dict[str, Any]


class RemoveRequest(Change, tag="remove", kw_only=True):
    """Take a record away."""

    kind: str
    name: str


class ReleaseRequest(Change, tag="release", kw_only=True):
    """Give out again what waits for a node that is gone."""

    node: str


class ExportRequest(Request, tag="export", kw_only=True):
    """Show a document as text: all of it, or, where `at` is given, some of it from that character on; of this
    `revision`, where more of the same is asked for."""

    document: str
    at: Unsigned63 | None = None
    revision: Unsigned63 | None = None


class HistoryRequest(Request, tag="history", kw_only=True):
    """Show what was changed, of a document or of all."""

    document: str | None = None
    limit: Annotated[int, Meta(ge=1, le=HISTORY_ROWS_MAX)] = 50


class ListRequest(Request, tag="list", kw_only=True):
    """Show records of a kind."""

    kind: str
    vnet: str | None = None
    name: str | None = None


class ExplainRequest(Request, tag="explain", kw_only=True):
    """Say what becomes of a connection, and why; of now, or at a revision."""

    vnet: str
    source: str
    destination: str
    protocol: str | None = None
    port: Port | None = None
    node: str | None = None
    revision: Unsigned63 | None = None
    source_port: Port | None = None


class NamesRequest(Request, tag="names", kw_only=True):
    """Tell what objects are called. Who says as which node it asks is refused if its key is another's."""

    ids: Annotated[list[int], Meta(max_length=IDS_MAX)]
    node: str | None = None


class ReloadRequest(Request, tag="reload", kw_only=True):
    """Read directory.toml again."""


class ForwardRequest(Request, tag="forward", kw_only=True):
    """Put an operator's request to the control of a gateway, or of all ("all")."""

    is_free = True
    node: str
    request: dict[str, Any]
    wait_ms: int | None = None


class ControlAnswer(Request, tag="answer", kw_only=True):
    """What a gateway's control answers to an Ask with this id."""

    is_free = True
    id: int
    answer: dict[str, Any]


class Ask(Answer, kw_only=True):
    """What the directory asks a gateway's control, with "ask" for its type."""

    is_free = True
    id: int
    request: dict[str, Any]


_ALL: tuple[type[Request], ...] = (
    ResolveRequest,
    SnapshotRequest,
    LocatorRequest,
    Heartbeat,
    Goodbye,
    Hello,
    ApplyRequest,
    PieceRequest,
    RollbackRequest,
    SetRequest,
    RemoveRequest,
    ReleaseRequest,
    ExportRequest,
    HistoryRequest,
    ListRequest,
    ExplainRequest,
    NamesRequest,
    ReloadRequest,
    ForwardRequest,
    ControlAnswer,
)
REQUESTS: dict[str, type[Request]] = {str(one.__struct_config__.tag): one for one in _ALL}  # by type
