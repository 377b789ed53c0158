# SPDX-License-Identifier: Apache-2.0
"""Peerings: that packets of a V-net may go to another (`to_vni`), or that it takes what another sends
(`from_vni`): each of the two V-nets says its own, by its worker."""

from __future__ import annotations

from directory_client.wire import operations as wire
from fastpath.records import RecordType, make
from gateway.slow_path.kinds.kind import OperationKind, Records


def _peering(
    op: wire.PeeringOperation | wire.PeeringRemoved, head: dict[str, int], _incarnation: int
) -> Records:
    set_it = isinstance(op, wire.PeeringOperation)
    kind = RecordType.PEERING_SET if set_it else RecordType.PEERING_REMOVE
    return make(kind, **head, to_vni=op.to_vni, from_vni=op.from_vni)


PEERING = OperationKind(
    "peering",
    _peering,
    _peering,
    keys=("to_vni", "from_vni"),
    record=RecordType.PEERING_SET,
    table="peerings",
)
