# SPDX-License-Identifier: Apache-2.0
"""Mappings that never change, and of which the next one costs what changes: a dict, and a small one over it.

The lower dict is shared by all that are made from one another. The upper one is copied for each, and put
into a new lower one when it has grown to the square root of that, so that a change of one key among a million
copies some hundreds, and once in a thousand times the million.

    after = before.edit().put("a", 1).put("b", None).done()     # None: it is gone
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")

_UPPER_MIN = 64
_ABSENT: Any = object()


class Layered(Mapping[K, V]):
    """See the module. No value is None."""

    __slots__ = ("_count", "_lower", "_upper")

    def __init__(self, lower: dict[K, V] | None = None) -> None:
        self._lower: dict[K, V] = lower or {}
        self._upper: dict[K, V | None] = {}
        self._count = len(self._lower)

    def __getitem__(self, key: K) -> V:
        value: V | None = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[K]:
        if not self._upper:
            return iter(self._lower)
        return self._keys()

    def get(self, key: K, default: Any = None) -> Any:
        """Return a value, or `default`."""
        if self._upper:
            value = self._upper.get(key, _ABSENT)
            if value is not _ABSENT:
                return default if value is None else value
        return self._lower.get(key, default)

    def get_all(self, keys: Iterable[K]) -> list[Any]:
        """Return the value of each key, None where there is none: some 40 ns each instead of 150."""
        return list(map(self.get if self._upper else self._lower.get, keys))

    def values(self) -> Iterable[V]:  # type: ignore[override]
        """Return the values, in the order of the keys: not by looking each of them up."""
        if not self._upper:
            return self._lower.values()
        return [value for _, value in self._items()]

    def items(self) -> Iterable[tuple[K, V]]:  # type: ignore[override]
        """Return keys and values."""
        return self._items() if self._upper else self._lower.items()

    def edit(self) -> Edit[K, V]:
        """Begin the next one."""
        return Edit(self)

    def changed(self, changes: Mapping[K, V | None]) -> Layered[K, V]:
        """Return the mapping with other values; None: without it."""
        if not changes:
            return self
        if not self._count:
            return Layered({key: value for key, value in changes.items() if value is not None})
        after: Layered[K, V] = Layered()
        after._lower, after._upper = self._lower, {**self._upper, **changes}
        there = sum(value is not None for value in changes.values())
        after._count = self._count + there - sum(key in self for key in changes)
        if len(after._upper) > max(_UPPER_MIN, len(self._lower) ** 0.5):
            after._lower, after._upper = {**self._lower}, {}
            for key, value in {**self._upper, **changes}.items():
                if value is None:
                    after._lower.pop(key, None)
                else:
                    after._lower[key] = value
        return after

    def _keys(self) -> Iterator[K]:
        return (key for key, _ in self._items())

    def _items(self) -> Iterator[tuple[K, V]]:
        upper, lower = self._upper, self._lower
        for key, value in lower.items():
            now = upper.get(key, value)
            if now is not None:
                yield key, now
        for key, new in upper.items():
            if new is not None and key not in lower:
                yield key, new


class Edit(Generic[K, V]):
    """Changes to a mapping that are not made yet, but seen through `get`."""

    def __init__(self, before: Layered[K, V]) -> None:
        self._before = before
        self._changes: dict[K, V | None] = {}

    def get(self, key: K, default: Any = None) -> Any:
        """Return a value, or `default`."""
        value = self._changes.get(key, _ABSENT)
        if value is _ABSENT:
            return self._before.get(key, default)
        return default if value is None else value

    def put(self, key: K, value: V | None) -> Edit[K, V]:
        """Set a value; None takes the key away."""
        self._changes[key] = value
        return self

    def done(self) -> Layered[K, V]:
        """Return the next mapping."""
        if self._before or None in self._changes.values():
            return self._before.changed(self._changes)
        changes, self._changes = self._changes, {}
        return Layered(cast("dict[K, V]", changes))  # the dict itself: it may be large
