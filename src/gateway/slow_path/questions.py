# SPDX-License-Identifier: Apache-2.0
"""What is being asked: which keys are pending, and who waits for each.

A key is asked once however many threads miss it; each further hold token joins the question and is released
with it. Pure; numpy rows of MISS records in and out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from directory_client.wire.rows import QUERY
from fastpath.columns import Transcript
from fastpath.pending import Pending
from fastpath.records import MISS, RecordType

Rows = np.ndarray[Any, Any]

_QUERIES = Transcript(
    MISS,
    QUERY,
    {
        "vni": "head.vni",
        **{name: f"key.{name}" for name in ("key_class", "protocol", "source", "destination")},
        **{name: f"key.{name}" for name in ("source_port", "destination_port")},
        **{name: name for name in ("ingress_kind", "ingress_object", "current_object")},
        "key_flags": "key.flags",
    },
)


@dataclass
class Batch:
    """One message to the directory. `born_s` is when its rows were missed, `asked_s` when they were last
    asked."""

    rows: Rows
    attempts: int = 0
    born_s: float = 0.0
    asked_s: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, numbers: Rows) -> Batch:
        """Return a batch of some of the rows."""
        return Batch(self.rows[numbers], self.attempts, self.born_s, self.asked_s)

    def between(self, first: int, end: int) -> Batch:
        """Return a batch that shares these rows with this one."""
        return Batch(self.rows[first:end], self.attempts, self.born_s, self.asked_s)

    def queries(self) -> Rows:
        """Return the QUERY rows of the directory's wire."""
        rows: Rows = _QUERIES.rows(self.rows)
        missed = self.rows["head"]["type"] == RecordType.MISS  # a flow in use is asked about by no packet
        rows["source_mac_end"] = self.rows["source_mac"][:, -4:] * missed[:, np.newaxis]
        return rows


class Questions:
    """Pending keys of one worker."""

    def __init__(self) -> None:
        self._pending = Pending()

    def __len__(self) -> int:
        return len(self._pending)

    def admit(self, rows: Rows, now_s: float) -> Batch | None:
        """Take misses; return those that have to be asked (None: no new one). The others wait along."""
        rows = np.ascontiguousarray(rows)
        new = self._pending.admit(rows)
        if not len(new):
            return None
        return Batch(rows if len(new) == len(rows) else rows[new], born_s=now_s)

    def settle(self, batch: Batch) -> tuple[Rows, Rows]:
        """Take a batch that is answered or given up out of the pending. Returns all MISS rows that wait for
        it, with those that joined at the end, and for each the number of its row in the batch."""
        more, tokens = self._pending.settle(batch.rows)
        numbers = np.arange(len(batch))
        if not len(more):
            return batch.rows, numbers
        rows = batch.rows[more]
        rows["token"] = tokens
        return np.concatenate([batch.rows, rows]), np.concatenate([numbers, more])

    def joined(self, batch: Batch) -> bool:
        """Tell whether further tokens wait for a batch."""
        return bool(self._pending.joined(batch.rows))

    def clear(self) -> None:
        """Forget everything: the tokens are of a data plane that is no more."""
        self._pending.clear()
