# SPDX-License-Identifier: Apache-2.0
"""Attachments: a port and VLAN of this gateway."""

from __future__ import annotations

from directory_client.wire import operations as wire
from fastpath.records import RecordType, make
from gateway.slow_path.kinds.kind import OperationKind, Records


def _attachment(
    op: wire.AttachmentOperation | wire.AttachmentRemoved, head: dict[str, int], _incarnation: int
) -> Records:
    set_it = isinstance(op, wire.AttachmentOperation)
    return make(
        RecordType.ATTACHMENT_SET if set_it else RecordType.ATTACHMENT_REMOVE,
        **head,
        object_id=op.object_id,
        port=op.port,
        vlan=op.vlan,
        mtu_bytes=op.mtu_bytes,
    )


ATTACHMENT = OperationKind(
    "attachment",
    _attachment,
    _attachment,
    keys=("object_id", "port", "vlan"),
    record=RecordType.ATTACHMENT_SET,
    table="ingresses",
)
