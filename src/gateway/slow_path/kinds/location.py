# SPDX-License-Identifier: Apache-2.0
"""Locations: where an endpoint or a route is."""

from __future__ import annotations

from directory_client.wire import operations as wire
from fastpath.records import LocationKind, RecordFlag, RecordType, make
from gateway.slow_path.kinds.kind import OperationKind, Records
from gateway.slow_path.kinds.values import mac


def _location(op: wire.LocationOperation, head: dict[str, int], _incarnation: int) -> Records:
    return make(
        RecordType.LOCATION_SET,
        flags=RecordFlag.IF_PRESENT,
        vni=head["vni"],
        revision=head["revision"] if op.revision is None else op.revision,
        object_id=op.object_id,
        target_id=op.target_id,
        node_id=op.node_id,
        wire_id=op.wire_id,
        way=op.way,
        kind=LocationKind(op.kind),
        mac=mac(op.mac),
    )


def _location_removed(op: wire.LocationRemoved, head: dict[str, int], _incarnation: int) -> Records:
    return make(RecordType.LOCATION_REMOVE, **head, object_id=op.object_id, way=op.way)


LOCATION = OperationKind(
    "location",
    _location,
    _location_removed,
    keys=("object_id", "way"),
    record=RecordType.LOCATION_SET,
    table="locations",
    is_told_again=False,
)
