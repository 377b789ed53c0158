# SPDX-License-Identifier: Apache-2.0
"""What one record says that fits, but does not work or is not carried yet: warnings at apply."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from directory_service.kinds.records import Record
from directory_service.kinds.registry import KIND_OF


def find_doubts(record: Record, vnet: Mapping[str, Any]) -> Iterator[str]:
    """Yield warnings about a record; `vnet` are the values of the V-net that it is in, empty if none."""
    yield from KIND_OF[record.kind].doubts(record, vnet)


def find_doubts_of(
    records: Mapping[str, Record], changes: Iterable[tuple[Record | None, Record | None]]
) -> list[str]:
    """Return the warnings about what changes (before, after) leave in V-nets that do not change."""
    found: list[str] = []
    for _, after in changes:
        if after is not None:
            vnet = records.get("vnet/" + after.vnet)
            found += find_doubts(after, vnet.values if vnet is not None else {})
    return found
