# SPDX-License-Identifier: Apache-2.0
"""Peerings: that members of one V-net are meant to talk to another's, called by the other V-net's name."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from directory_client.kinds import peering
from directory_client.toml.strict_toml import Table
from directory_client.vocabulary.numbers import ChangeKind
from directory_service.kinds.kind import Inside, Kind, Operation, Reference, Values
from directory_service.kinds.records import Record
from directory_service.kinds.sections import Tables
from directory_service.kinds.together import Fault, Together


def read_peering(table: Table) -> Values:
    """Read [vnet.NAME.peering.OTHER]: it says nothing but that it is there."""
    return {}


def _references(record: Record) -> Iterator[Reference]:
    yield Reference(None, "vnet", record.local_name)


def _check(together: Together) -> Iterator[Fault]:
    for record in together.of("peering").values():
        if record.local_name == record.vnet:
            yield Fault(record.key, None, f"V-net {record.vnet} is its own peer", "remove it")


def _doubts(record: Record, vnet: Mapping[str, Any]) -> Iterator[str]:
    yield f"peering {record.name}: traffic between V-nets is not carried yet, and is dropped"


def _told(
    peerings: Inside, vnet: Any, vnet_named: Callable[[str], Any], senders: Iterable[Any]
) -> Iterator[tuple[tuple[Any, ...], Operation]]:
    for other in sorted(peerings):
        peer = vnet_named(other)
        if peer is not None:
            yield (peer.vni, 0), {"op": "peering", "vni": vnet.vni, "to_vni": peer.vni, "from_vni": 0}
    for peer in senders:
        yield (0, peer.vni), {"op": "peering", "vni": vnet.vni, "to_vni": 0, "from_vni": peer.vni}


def _weighs(before: Inside, after: Inside) -> ChangeKind | None:
    """What no member is found for is refused by another name where there is a peering."""
    return ChangeKind.LOOSEN if bool(before) != bool(after) else None


PEERING = Kind(
    peering.PEERING,
    read_peering,
    Tables(),
    references=_references,
    check=_check,
    doubts=_doubts,
    told=_told,
    untold={"peering": ("peering_removed", ("vni", "to_vni", "from_vni"))},
    weighs=_weighs,
)
