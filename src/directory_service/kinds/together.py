# SPDX-License-Identifier: Apache-2.0
"""All records that there would be after a change, by kind and by V-net: what kinds check themselves among."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.names import suggest
from directory_service.kinds.records import Record


class Fault(NamedTuple):
    """What does not fit: the record's key, the field at fault if it is one, the problem and a remedy."""

    key: str
    field: str | None
    problem: str
    fix: str


Inside = Mapping[str, list[Record]]  # of one V-net: kind → records


class Together:
    """See the module. Records come in the order of their last changes: the newest is at fault."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._by_kind: dict[str, dict[str, Record]] = {}
        self._inside: dict[str, dict[str, list[Record]]] = {}
        self._ranges: dict[tuple[str, ...], list[tuple[bool, bytes, bytes]]] = {}
        for record in sorted(records, key=lambda record: record.revision):
            kind, name, vnet = record.kind, record.name, record.vnet
            self._by_kind.setdefault(kind, {})[name] = record
            if vnet:
                self._inside.setdefault(vnet, {}).setdefault(kind, []).append(record)

    def of(self, kind: str) -> Mapping[str, Record]:
        """Return the records of a kind by name."""
        return self._by_kind.get(kind, {})

    def inside(self, vnet: str) -> Inside:
        """Return the records of a V-net, its own among them."""
        return self._inside.get(vnet, {})

    def vnets(self) -> Iterator[tuple[Record, Inside]]:
        """Yield the V-nets that are declared, each with its records."""
        declared = self.of("vnet")
        for vnet, kinds in self._inside.items():
            if vnet in declared:
                yield declared[vnet], kinds

    def undeclared(self) -> Iterator[Fault]:
        """Yield a fault for each V-net that has records and is not declared."""
        declared = self.of("vnet")
        for vnet, kinds in self._inside.items():
            if vnet not in declared:
                record = next(record for records in kinds.values() for record in records)
                fix = suggest_new("vnet", vnet, declared)
                yield Fault(record.key, None, f"V-net {vnet} is not declared", fix)

    def known(self, record: Record, field: str | None, kind: str, name: str) -> Iterator[Fault]:
        """Yield a fault if what a record refers to is not there."""
        if name not in self.of(kind):
            fix = suggest_new(kind, name, self.of(kind))
            yield Fault(record.key, field, f"{kind} {name} is not declared", fix)

    def in_prefixes(self, vnet: Record, record: Record, field: str, address: str) -> Iterator[Fault]:
        """Yield a fault if an address is in none of the prefixes that a V-net has."""
        prefixes = tuple(vnet.values.get("prefixes", ()))
        if not prefixes or self.is_inside(address, prefixes):
            return
        problem = f"{address} is outside the prefixes of {vnet.name}: {', '.join(prefixes)}"
        wider = ipaddress.ip_network(f"{address}/{64 if ':' in address else 24}", strict=False)
        yield Fault(record.key, field, problem, f'correct it, or add "{wider}" to vnet.{vnet.name}.prefixes')

    def is_inside(self, address: str, prefixes: tuple[str, ...]) -> bool:
        """Tell whether an address is in one of these prefixes."""
        packed = pack_address(address)
        ranges = self._ranges_of(prefixes)
        return any(low <= packed <= high for ipv6, low, high in ranges if ipv6 == (":" in address))

    def _ranges_of(self, prefixes: tuple[str, ...]) -> list[tuple[bool, bytes, bytes]]:
        """Return (is IPv6, first, last packed address) of each prefix."""
        ranges = self._ranges.get(prefixes)
        if ranges is None:
            networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
            ranges = [
                (net.version == 6, pack_address(net.network_address), pack_address(net.broadcast_address))
                for net in networks
            ]
            self._ranges[prefixes] = ranges
        return ranges


def suggest_new(kind: str, name: str, known: Iterable[str]) -> str:
    """Say what was probably meant, or how to declare it."""
    near = suggest(name, known)
    declare = f"declare it: [{kind}.{name}]"
    return f"{near} Or {declare}" if near.startswith("did you mean") else declare
