# SPDX-License-Identifier: Apache-2.0
"""What the dispatcher wants done: records that the server carries out, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from directory_service.protocol.authentication import Identity


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to answer: channel "resolve" or "write", the ROUTER's name for the connection, who it is, and from
    where. `behind_s`: for how long its message may have waited to be read, at most."""

    channel: str
    connection: bytes
    identity: Identity
    address: str = ""
    behind_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """Send to one connection of a channel."""

    channel: str
    connection: bytes
    frames: list[Any]


@dataclass(frozen=True, slots=True)
class Publish:
    """Send on the push socket."""

    frames: list[Any]


@dataclass(frozen=True, slots=True)
class Audit:
    """Append to the audit file."""

    record: dict[str, Any]


Out = Reply | Publish | Audit
