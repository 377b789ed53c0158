# SPDX-License-Identifier: Apache-2.0
"""The directory's state: a store, the newest snapshot of it, and what is asked and changed.

No sockets and no threads: one thread calls. Operators' mistakes raise Refused with a sentence and a remedy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from directory_client.rows import Rows
from directory_service.settings import Settings
from directory_service.store.contract import Store


class Refused(Exception):
    """It cannot be done: `problem` says what and where, `fix` what to do; `code` is the exit status (1 or 2)."""

    def __init__(self, problem: str, fix: str = "", code: int = 1) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix
        self.code = code


@dataclass(frozen=True, slots=True)
class Resolved:
    """Answer to a batch: rows as docs/protocol.md, section 2.1; provenance is empty unless asked for."""

    decisions: Rows
    locations: Rows
    tunnels: Rows
    scopes: Rows
    provenance: list[dict[str, Any]]
    revision: int


@dataclass(frozen=True, slots=True)
class Push:
    """What one (node, V-net) is told of a change: operations of docs/protocol.md, section 2.3, in order."""

    node_id: int
    vni: int
    revision: int
    time_ms: int
    ops: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """All that a node needs to know: per VNI the operations that build it up."""

    node_id: int
    revision: int
    vnets: dict[int, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply, rollback, set or remove did, or would do. `document` is empty for single changes."""

    document: str
    before: int
    revision: int
    added: int
    changed: int
    removed: int
    diff: list[dict[str, str]]
    warnings: list[str] = field(default_factory=list)
    flows: dict[str, Any] | None = None
    gateways: list[str] = field(default_factory=list)  # whom it concerns


class Directory:
    """See the module. `clock_ms` is Unix time in milliseconds.

    After apply, rollback, set_record, remove_record or announce, and every now and then (other servers may
    write to the same store), call `poll` and send what it returns.
    """

    def __init__(self, store: Store, settings: Settings, clock_ms: Callable[[], int]) -> None: ...

    @property
    def revision(self) -> int:
        """The revision that answers are given at."""

    @property
    def incarnation(self) -> int:
        """The store's."""

    def node_id(self, node: str) -> int:
        """Return the id of a node. Raises Refused if there is none of that name."""

    def resolve(
        self, node: str, capabilities: Sequence[str], queries: Rows, explain: bool = False
    ) -> Resolved:
        """Decide every row of QUERY. Raises Refused for a node that is not known."""

    def snapshot(self, node: str, vnis: Sequence[int] | None = None) -> NodeSnapshot:
        """Return what builds up a node's view; V-nets that it does not host are left out. Raises Refused."""

    def locator(
        self, node: str, local: bytes, remote: bytes, protocol: int, wire_id: int
    ) -> dict[str, Any] | None:
        """Return the ingress operation for an outer source, None if nobody of that kind is known."""

    def announce(self, node: str, locators: Sequence[str], ports: Sequence[str]) -> None:
        """Take note of what a gateway says of itself. Writes only if it differs. Raises Refused."""

    def poll(self) -> list[Push]:
        """Take up the store's commits since the last time; return what nodes must be told."""

    def apply(
        self,
        text: str,
        file: str,
        dry_run: bool = False,
        take_over: Sequence[str] = (),
        comment: str = "",
        user: str = "",
        flows: Sequence[Mapping[str, Any]] = (),
    ) -> Applied:
        """Apply a document; with `dry_run` only say what it would do, and what becomes of the cached `flows`
        (rows of a flow dump with "node" added). Raises Refused, TomlError."""

    def export(self, document: str) -> str:
        """Return a document's text. Raises Refused."""

    def history(self, document: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Return rows of docs/protocol.md, section 2.2, newest first."""

    def rollback(self, revision: int, user: str = "", dry_run: bool = False) -> Applied:
        """Make documents' and operators' records what they were at a revision. Raises Refused."""

    def set_record(self, kind: str, name: str, values: Mapping[str, Any], user: str = "") -> Applied:
        """Add or change one record as operator. Raises Refused."""

    def remove_record(self, kind: str, name: str, user: str = "") -> Applied:
        """Remove one record of an operator. Raises Refused."""

    def list_records(
        self, kind: str, vnet: str | None = None, name: str | None = None
    ) -> list[dict[str, Any]]:
        """Return rows for `show`. Raises Refused for a kind, V-net or name that is not there."""

    def explain(
        self,
        vnet: str,
        source: str,
        destination: str,
        protocol: str = "",
        port: int | None = None,
        node: str | None = None,
        revision: int | None = None,
    ) -> dict[str, Any]:
        """Decide one connection and say why; see decide.Explanation. Raises Refused."""

    def flows_asked(self, vnis: Sequence[int]) -> list[str]:
        """Return the names of the gateways whose flows a dry run should hear of."""
