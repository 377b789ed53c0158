# SPDX-License-Identifier: Apache-2.0
"""What the directory has told of one V-net, so that a data plane that comes back is told all of it again.

Holds what stands (registry.KEYS), not events (scopes, announcements).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.slow_path.kinds.registry import KEYS

Operation = Mapping[str, Any]


class View:
    """One V-net. `revision` is the newest that it has reached."""

    def __init__(self, vni: int) -> None:
        self.vni = vni
        self.revision = 0
        self._operations: dict[str, dict[tuple[Any, ...], Operation]] = {kind: {} for kind in KEYS}
        self._attachments: Counter[int] = Counter()  # by id: at how many places each is

    def apply(self, operation: Operation) -> None:
        """Take up one operation (already found to be well-formed)."""
        kind, removed, _ = operation["op"].partition("_removed")
        keys = KEYS.get(kind)
        if keys is None:
            return
        key = tuple(operation.get(name, 0) for name in keys)
        stood = key in self._operations[kind]
        if removed:
            self._operations[kind].pop(key, None)
        else:
            self._operations[kind][key] = operation
        if kind == "attachment" and stood == bool(removed):
            self._attachments[operation["object_id"]] += -1 if removed else 1

    def of_kind(self, kind: str) -> Iterator[Operation]:
        """Yield the operations of one kind that stand."""
        yield from self._operations[kind].values()

    def has_attachment(self, object_id: int) -> bool:
        """Tell whether the V-net has this attachment here."""
        return self._attachments[object_id] > 0

    def location(self, object_id: int) -> Operation | None:
        """Return where an endpoint or a route is, None if that is not known."""
        return self._operations["location"].get((object_id, 0))

    def differs(self, other: View) -> bool:
        """Tell whether something else stands in another view; a revision alone is nothing else."""
        return any(
            mine.keys() != theirs.keys() or any(_differs(one, theirs[key]) for key, one in mine.items())
            for mine, theirs in ((self._operations[kind], other._operations[kind]) for kind in KEYS)
        )

    def name(self) -> str:
        """Return the V-net's name; empty while it is not known."""
        return next((str(op.get("name", "")) for op in self.of_kind("vnet")), "")

    def object_id(self) -> int:
        """Return the V-net's id; 0 while it is not known."""
        return next((op["object_id"] for op in self.of_kind("vnet")), 0)

    def operations(self) -> Iterator[Operation]:
        """Yield all that stands; what is referred to comes first."""
        for kind in KEYS:
            yield from self.of_kind(kind)


def _differs(one: Operation, other: Operation) -> bool:
    return one != other and {**one, "revision": 0} != {**other, "revision": 0}
