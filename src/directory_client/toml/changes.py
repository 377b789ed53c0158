# SPDX-License-Identifier: Apache-2.0
"""What differs between two readings of a file, key by key: for whoever reloads it. Pure.

Values are compared as the file would say them: `{"limits.late_ms": "50", "client.anna": "operator …"}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One key: `before` or `after` is None where the file does not have it."""

    key: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.key}  {self.after}"
        if self.after is None:
            return f"- {self.key}  {self.before}"
        return f"~ {self.key}  {self.before} → {self.after}"

    def row(self) -> dict[str, Any]:
        """Return it as a message says it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a process made of a file that it read again: what it has taken, what waits for its restart, and
    the command for that."""

    process: str
    file: str
    taken: Sequence[Change] = ()
    waiting: Sequence[Change] = ()
    command: str = ""

    def lines(self) -> list[str]:
        """Return what goes to the log, one line each."""
        lines = [f"{self.file} read again: {change}, taken" for change in self.taken]
        lines += [
            f"{self.file} read again: {change}, needs a restart: {self.command}" for change in self.waiting
        ]
        return lines or [f"{self.file} read again: nothing has changed"]

    def row(self) -> dict[str, Any]:
        """Return it as a message says it."""
        return {
            "process": self.process,
            "file": self.file,
            "taken": [change.row() for change in self.taken],
            "waiting": [change.row() for change in self.waiting],
            "command": self.command if self.waiting else "",
        }


def compare(before: Values, after: Values) -> list[Change]:
    """Return what differs, in the order of `after`; what is gone comes last."""
    keys = [*after, *(key for key in before if key not in after)]
    return [Change(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def text(value: Any) -> str:
    """Return a value as it is shown: true, 10, a, b, none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value or "none"
    if value is None:
        return "none"
    if isinstance(value, Iterable):
        return ", ".join(text(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
