# SPDX-License-Identifier: Apache-2.0
"""Ingresses: outer sources from which packets of a V-net come."""

from __future__ import annotations

import numpy as np

from directory_client.wire import operations as wire
from fastpath.records import IngressFlag, RecordType, make
from gateway.slow_path.kinds.kind import OperationKind, Records
from gateway.slow_path.kinds.values import address


def _ingress(
    op: wire.IngressOperation | wire.IngressRemoved, head: dict[str, int], _incarnation: int
) -> Records:
    set_it = isinstance(op, wire.IngressOperation)
    row = make(
        RecordType.INGRESS_SET if set_it else RecordType.INGRESS_REMOVE,
        **head,
        node_id=op.node_id,
        ingress_flags=(IngressFlag.RELAY if op.relay else 0)
        | (IngressFlag.FOREIGN if op.foreign else 0)
        | (IngressFlag.CHECK if op.check else 0),
        udp_port=op.udp_port,
    )
    key = row["key"]
    key["local"] = np.frombuffer(address(op.local), np.uint8)
    key["remote"] = np.frombuffer(address(op.remote), np.uint8)
    key["wire_id"] = op.wire_id
    key["protocol"] = op.protocol
    return row


INGRESS = OperationKind(
    "ingress",
    _ingress,
    _ingress,
    keys=("node_id", "local", "remote", "protocol", "wire_id"),
    record=RecordType.INGRESS_SET,
    table="ingresses",
)
