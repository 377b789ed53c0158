# SPDX-License-Identifier: Apache-2.0
"""What `DirectoryClient.receive` gives: one frozen record per thing that happened, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # who asks for no decisions does without numpy
    from directory_client.wire.rows import Rows


@dataclass(frozen=True, slots=True)
class Resolved:
    """The answer to `send_resolve`. Rows are read-only views with the dtypes of `rows.py`; decisions stand
    in the order of the queries; `provenance` is empty unless asked for."""

    id: int
    incarnation: int
    revision: int
    decisions: Rows
    locations: Rows
    tunnels: Rows
    scopes: Rows
    provenance: list[Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to `send`: its head, which says `"ok": True`."""

    id: int
    head: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Located:
    """The answer to `send_locator`: the operation that makes the source an ingress, of a revision; None: it
    is nobody's, ask again in `negative_s` (None: it does not say)."""

    id: int
    revision: int
    operation: dict[str, Any] | None
    negative_s: float | None


@dataclass(frozen=True, slots=True)
class Progressed:
    """What was asked with `send` takes long: seconds since then, and how many requests come before it."""

    id: int
    seconds: int
    before: int


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer came (code 3), or a refusal (code 1 or 2). What was asked has no effect that we know of."""

    id: int
    error: str
    fix: str
    code: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the node has to know, replacing what was known before: V-nets that do not stand here
    are gone. `vnets` are (VNI, operations). Another incarnation than before: revisions cannot be compared,
    floors start anew. `closes`: among the operations are scopes of what was forbidden since the revisions
    that were given when it was asked for."""

    incarnation: int
    revision: int
    node_id: int
    vnets: list[tuple[int, list[dict[str, Any]]]]
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """A push for one V-net: operations to apply in their order; none: the V-net has reached this revision.
    `last`: nothing of this revision follows for another V-net of this node."""

    vni: int
    incarnation: int
    revision: int
    time_ms: int
    operations: list[dict[str, Any]]
    last: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """The directory asks this control (after `serve`): answer with `answer(asked, {...})`."""

    server: int
    id: int
    request: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ServerChanged:
    """A directory server became reachable or was given up; `active` is the one used now (None: nobody
    answers). `why`: the sentence with which it refuses us, or why it is not reached; "" while that is not
    known."""

    endpoint: str
    up: bool
    active: str | None
    why: str = ""


Event = Resolved | Answered | Located | Progressed | Failed | Snapshot | Changed | Asked | ServerChanged
