# SPDX-License-Identifier: Apache-2.0
"""From the directory's operations (docs/protocol.md, section 2.3) to records for the data plane.

Pure; what comes in is hostile: a value that is missing, of another type or out of range is a
MalformedOperation and concerns that operation alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from directory_client.wire import operations as wire
from directory_client.wire.messages import complaint
from gateway.slow_path.kinds.registry import MAKERS

Operation = Mapping[str, Any]
Records = np.ndarray[Any, Any]


class MalformedOperation(ValueError):
    """An operation that says nothing that could be applied."""


def record_of(operation: Operation, vni: int, revision: int, incarnation: int) -> Records | None:
    """Return the record that applies an operation to a V-net; None for an operation that has none
    (announcements, or one that this version does not know). Raises MalformedOperation."""
    name = operation.get("op", "")
    make_record = MAKERS.get(name)
    if make_record is None:
        return None
    read = read_operation(operation)
    if read.vni is not None and read.vni != vni:
        raise MalformedOperation(f"{name} of V-net {read.vni} in a message for {vni}")
    head = {"vni": vni, "revision": revision}
    try:
        return make_record(read, head, incarnation)
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedOperation(f"{name}: {type(error).__name__} {error}") from None


def read_operation(operation: Operation) -> Any:
    """Return an operation that is known as what it is declared to be. Raises MalformedOperation."""
    name = str(operation["op"])
    try:
        return msgspec.convert(operation, wire.OPERATIONS[name])
    except msgspec.ValidationError as error:
        raise MalformedOperation(complaint(error, name)) from None
