# SPDX-License-Identifier: Apache-2.0
"""Whether records fit together: every name they use is there, no number or address is used twice.

Checked on all records that there would be after a change, so that what is removed is noticed as well. What
the records of a kind need, the kind says.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from directory_service.documents.doubts import find_doubts
from directory_service.kinds.records import Record
from directory_service.kinds.registry import KIND_OF, KINDS
from directory_service.kinds.together import Fault, Together
from directory_service.model.fabric import Presence


def find_faults(records: Mapping[str, Record]) -> Iterator[Fault]:
    """Yield what does not fit together."""
    together = Together(records.values())
    yield from together.undeclared()
    for kind in KINDS:
        if kind.references is not None:
            for record in together.of(kind.name).values():
                for field, other, name in kind.references(record):
                    yield from together.known(record, field, other, name)
        yield from kind.check(together)


def find_warnings(
    records: Mapping[str, Record], names: Iterable[str], presences: Mapping[str, Presence]
) -> Iterator[str]:
    """Yield sentences on what fits but may not be meant, about the records of these keys."""
    around = _Around(records, presences)
    vnets: dict[str, Mapping[str, Any]] = {"": {}}
    for key in names:
        record = records.get(key)
        if record is None:
            continue
        name = record.vnet
        if name not in vnets:
            vnet = records.get("vnet/" + name)
            vnets[name] = vnet.values if vnet is not None else {}
        yield from find_doubts(record, vnets[name])
        yield from KIND_OF[record.kind].doubts_among(record, around)


class _Around:
    """See kinds.kind.Surroundings. Who is in which group is found once, when it is first asked."""

    def __init__(self, records: Mapping[str, Record], presences: Mapping[str, Presence]) -> None:
        self._records = records
        self._presences = presences
        self._groups: dict[str, set[str]] | None = None

    def groups(self, vnet: str) -> Iterable[str]:
        """Return the groups that somebody of a V-net is in."""
        if self._groups is None:
            self._groups = {}
            for record in self._records.values():
                if record.kind == "endpoint":
                    self._groups.setdefault(record.vnet, set()).update(record.values.get("groups", ()))
        return self._groups.get(vnet, ())

    def ports(self, node: str) -> Iterable[str] | None:
        """Return the inside ports that a gateway says it has, None if it has said nothing."""
        said = self._presences.get(node)
        return None if said is None else said.ports
