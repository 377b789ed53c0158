# SPDX-License-Identifier: Apache-2.0
"""V-nets."""

from __future__ import annotations

from directory_client.wire import operations as wire
from fastpath.records import RecordType, make
from gateway.slow_path.kinds.kind import OperationKind, Records
from gateway.slow_path.kinds.values import address, mac


def _vnet(op: wire.VnetOperation, head: dict[str, int], incarnation: int) -> Records:
    return make(
        RecordType.VNET_SET,
        **head,
        object_id=op.object_id,
        incarnation=incarnation,
        quota_flows=op.quota_flows,
        quota_misses_per_s=op.quota_misses_per_s,
        stale_max_s=op.stale_max_s,
        gateway_mac=mac(op.gateway_mac),
        gateway_address=address(op.gateway_address),
    )


def _vnet_removed(op: wire.VnetRemoved, head: dict[str, int], incarnation: int) -> Records:
    return make(RecordType.VNET_REMOVE, **head, object_id=op.object_id, incarnation=incarnation)


VNET = OperationKind("vnet", _vnet, _vnet_removed, keys=(), record=RecordType.VNET_SET, table="vnets")
