# SPDX-License-Identifier: Apache-2.0
"""What a change, its dry run and the history answer. The directory makes it, vnetctl shows it.

Fields that are not known are passed over, and all may be missing: either end may be of another release.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field, to_builtins


class HistoryRow(Struct, kw_only=True):
    """A revision: when (seconds since 1970), by whom, why, and how much it changed."""

    revision: int = 0
    time: float | None = None
    user: str = ""
    comment: str = ""
    document: str = ""
    added: int = 0
    changed: int = 0
    removed: int = 0


class DiffRow(Struct, kw_only=True):
    """A record that differs: sign (+ ~ -), kind, name, and in what."""

    sign: str = ""
    kind: str = ""
    name: str = ""
    text: str = ""


class GatewayRow(Struct, kw_only=True, omit_defaults=True):
    """What became of a change at a gateway: waiting, applied, no_room (`why`), late (`workers`: which of
    several), silent, not_started; of a dry run: concerned."""

    node: str
    state: str
    ms: float | None = field(default_factory=lambda: None)  # sent, though it is the default
    why: str = ""
    workers: list[str] = []


class MoveRow(Struct, kw_only=True, rename={"source": "from", "destination": "to"}):
    """So many flows that would go somewhere else."""

    source: str | None = None
    destination: str | None = None
    count: int = 0


class DroppedRow(Struct, kw_only=True):
    """A flow that would be dropped."""

    vnet: str | None = None
    source: str | None = None
    destination: str | None = None
    protocol: str | int | None = None
    source_port: int | None = None
    destination_port: int | None = None
    packets: int | None = None
    source_name: str | None = None
    destination_name: str | None = None
    reason: str | None = None
    node: str | None = None


class FlowsAnswer(Struct, kw_only=True):
    """What would become of the flows that gateways have cached. `concerned` False: nobody can have any."""

    total: int = 0
    same: int = 0
    moved: list[MoveRow] = []
    left: int = 0
    allowed: int = 0
    aside: int = 0
    dropped: int = 0
    connections: int | None = None
    reasons: dict[str, int] = {}
    dropped_rows: list[DroppedRow] = []
    unreadable: int = 0
    unseen: int = 0
    gateways: list[str] = []
    vnets: list[str] = []
    silent: list[str] = []
    concerned: bool | None = None


class ChangeAnswer(Struct, kw_only=True):
    """What an apply, rollback, set or remove did, or would do."""

    document: str = ""
    before: int | None = None
    revision: int | None = None
    added: int = 0
    changed: int = 0
    removed: int = 0
    diff: list[DiffRow] = []
    diff_more: int = 0
    warnings: list[str] = []
    flows: FlowsAnswer | None = None
    gateways: list[GatewayRow] = []

    @property
    def is_change(self) -> bool:
        """Whether something is, or would be, another one."""
        return self.revision != self.before


def plain(row: Struct) -> dict[str, Any]:
    """Return a row as a map for the wire."""
    found: dict[str, Any] = to_builtins(row)
    return found
