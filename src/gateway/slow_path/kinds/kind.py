# SPDX-License-Identifier: Apache-2.0
"""What a kind of operation is to a gateway: the records that apply it, what tells two of them apart, and the
table of the data plane in which it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpath.records import RecordType

Records = np.ndarray[Any, Any]
Maker = Callable[[Any, dict[str, int], int], Records]


@dataclass(frozen=True)
class OperationKind:
    """- `name`: of the operation; what undoes it is called NAME_removed.
    - `sets`, `removes`: make the record that applies it, from the operation as it is declared
      (directory_client/wire/operations.py), the fields of a record's head, and the incarnation. They raise
      TypeError, ValueError or OverflowError for values that cannot be.
    - `keys`: the fields that tell it from others of a V-net; None: it is an event, and nothing that stands.
    - `record`: the type of its records, and `table`: the key in [capacity] of what they need room in.
      `is_told_again`: by itself where it finds none; else it comes with the next answer that names it."""

    name: str
    sets: Maker
    removes: Maker | None = None
    keys: tuple[str, ...] | None = None
    record: RecordType | None = None
    table: str = ""
    is_told_again: bool = True
