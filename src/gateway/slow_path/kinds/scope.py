# SPDX-License-Identifier: Apache-2.0
"""Scopes: what a change may have altered. They are events."""

from __future__ import annotations

import numpy as np

from directory_client.wire import operations as wire
from fastpath.records import ChangeKind, RecordType, ScopeFlag, make
from gateway.slow_path.kinds.kind import OperationKind, Records
from gateway.slow_path.kinds.values import address

_SCOPE_FLAGS = {
    "either_direction": ScopeFlag.EITHER,
    "source_port": ScopeFlag.SOURCE_PORT,
    "connections": ScopeFlag.CONNECTIONS,
    "judged": ScopeFlag.JUDGED,
    "ip": ScopeFlag.IP,
}


def _scope(op: wire.ScopeOperation, head: dict[str, int], incarnation: int) -> Records:
    if op.port_low > op.port_high:
        raise ValueError("ports are impossible")
    row = make(
        RecordType.CHANGE,
        vni=head["vni"],
        revision=head["revision"] if op.revision is None else op.revision,
        incarnation=incarnation,
        kind=ChangeKind(op.kind),
    )
    scope = row["scope"]
    scope["source"] = np.frombuffer(address(op.source), np.uint8)
    scope["destination"] = np.frombuffer(address(op.destination), np.uint8)
    scope["source_bits"] = op.source_bits
    scope["destination_bits"] = op.destination_bits
    scope["protocol"] = op.protocol
    scope["flags"] = sum(flag for name, flag in _SCOPE_FLAGS.items() if getattr(op, name))
    scope["port_low"] = op.port_low
    scope["port_high"] = op.port_high
    return row


SCOPE = OperationKind("scope", _scope)
