# SPDX-License-Identifier: Apache-2.0
"""What a gateway asks over the resolve socket, and the heads of the answers (docs/protocol.md, section
2.1)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from directory_client.wire.answers import Answer
from directory_client.wire.greeting import Claim, Unsigned

ADDRESS_BYTES = 16

Address = Annotated[bytes, Meta(min_length=ADDRESS_BYTES, max_length=ADDRESS_BYTES)]
InForce = list[tuple[int, int, int]]  # VNI, incarnation, revision: the part of a SnapshotRequest


class ResolveRequest(Claim, tag="resolve", kw_only=True):
    """Decide the QUERY rows of the part. `sent_us`: when it was sent, on the client's CLOCK_MONOTONIC: a
    server on another machine compares with what came before over the connection."""

    node_capabilities: list[str] = field(default_factory=list)
    explain: bool = False
    sent_us: int | None = None


class SnapshotRequest(Claim, tag="snapshot", kw_only=True):
    """Tell all that the node has to know, or of some V-nets; `more`: the next piece of what was begun."""

    vnis: list[int] | None = None
    more: int | None = None


class LocatorRequest(Claim, tag="locator", kw_only=True):
    """Tell who an unknown outer source is."""

    local: Address
    remote: Address
    protocol: Annotated[int, Meta(ge=0, le=255)]
    wire_id: Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]


class SnapshotHead(Answer, kw_only=True):
    """The head of a snapshot's piece: the seq of each of the node's topics, as [VNI, seq]; `more`: a token
    with which the next piece is asked for; `closes`: what was forbidden since is among the operations."""

    node_id: Unsigned
    seq: list[tuple[Unsigned, Unsigned]]
    more: int | None = None
    closes: bool = False


class LocatorAnswer(Answer, kw_only=True):
    """Who the source is: the operation that makes it an ingress. Not known: ask again in `negative_s`."""

    is_free = True
    known: bool
    op: dict[str, Any] | None = None
    negative_s: float | None = None
