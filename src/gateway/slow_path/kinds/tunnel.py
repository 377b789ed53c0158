# SPDX-License-Identifier: Apache-2.0
"""Tunnels to other nodes. V-nets share them."""

from __future__ import annotations

from directory_client.wire import operations as wire
from fastpath.records import RecordType, make
from gateway.slow_path.kinds.kind import OperationKind, Records
from gateway.slow_path.kinds.values import address


def _tunnel(op: wire.TunnelOperation, head: dict[str, int], incarnation: int) -> Records:
    return make(
        RecordType.TUNNEL_SET,
        revision=head["revision"] if op.revision is None else op.revision,
        object_id=op.object_id,
        profile_id=op.profile_id,
        node_id=op.node_id,
        local=address(op.local),
        remote=address(op.remote),
        udp_port=op.udp_port,
        mtu_bytes=op.mtu_bytes,
        protocol=op.protocol,
        ttl=op.ttl,
        dscp=op.dscp,
        dscp_copy=op.dscp_copy,
        incarnation=incarnation,
    )


def _tunnel_removed(op: wire.TunnelRemoved, head: dict[str, int], _incarnation: int) -> Records:
    return make(RecordType.TUNNEL_REMOVE, revision=head["revision"], object_id=op.object_id)


TUNNEL = OperationKind(
    "tunnel",
    _tunnel,
    _tunnel_removed,
    keys=("object_id",),
    record=RecordType.TUNNEL_SET,
    table="tunnels",
    is_told_again=False,
)
