# SPDX-License-Identifier: Apache-2.0
"""What is being asked: which keys are pending, and who waits for each.

A key is asked once however many threads miss it; each further hold token joins the question and is released
with it. Pure; numpy rows of MISS records in and out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from directory_client.rows import QUERY
from fastpath.records import MISS

Rows = np.ndarray[Any, Any]

KEY_BYTES = 44
KEY_OFFSET = MISS.fields["key"][1]


@dataclass
class Batch:
    """One message to the directory. `keys` are the rows' identities, in their order; `born_s` is when they
    were missed, `asked_s` when they were last asked."""

    rows: Rows
    keys: list[bytes]
    attempts: int = 0
    born_s: float = 0.0
    asked_s: float = 0.0

    def part(self, numbers: Rows) -> Batch:
        """Return a batch of some of the rows."""
        keys = [self.keys[n] for n in numbers.tolist()]
        return Batch(self.rows[numbers], keys, self.attempts, self.born_s, self.asked_s)

    def queries(self) -> Rows:
        """Return the QUERY rows of the directory's wire."""
        rows, keys = self.rows, self.rows["key"]
        queries = np.zeros(len(rows), QUERY)
        queries["vni"] = rows["head"]["vni"]
        queries["key_class"] = keys["key_class"]
        queries["key_flags"] = keys["flags"]
        queries["protocol"] = keys["protocol"]
        queries["ingress_kind"] = rows["ingress_kind"]
        queries["source"] = keys["source"]
        queries["destination"] = keys["destination"]
        # Both stand in wire order; one dtype says so, the other does not.
        queries["source_port"] = keys["source_port"].byteswap()
        queries["destination_port"] = keys["destination_port"].byteswap()
        queries["ingress_object"] = rows["ingress_object"]
        return queries


def identities(rows: Rows) -> list[bytes]:
    """Return what tells keys apart: V-net and key."""
    raw = rows.view(np.uint8).reshape(len(rows), -1)
    found = np.empty((len(rows), 4 + KEY_BYTES), np.uint8)
    found[:, :4] = rows["head"]["vni"].astype("<u4").view(np.uint8).reshape(-1, 4)
    found[:, 4:] = raw[:, KEY_OFFSET : KEY_OFFSET + KEY_BYTES]
    return found.view(f"V{4 + KEY_BYTES}")[:, 0].tolist()  # type: ignore[no-any-return]


class Questions:
    """Pending keys of one worker."""

    def __init__(self) -> None:
        self._pending: dict[bytes, int] = {}  # identity -> token of the row that is in the batch
        self._more: dict[bytes, list[int]] = {}  # further tokens

    def __len__(self) -> int:
        return len(self._pending)

    def admit(self, rows: Rows, now_s: float) -> Batch | None:
        """Take misses; return those that have to be asked (None: no new one). The others wait along."""
        rows = np.ascontiguousarray(rows)
        keys = identities(rows)
        pending, new = self._pending, []
        for number, (key, token) in enumerate(zip(keys, rows["token"].tolist(), strict=True)):
            first = pending.setdefault(key, -1)
            if first == -1:
                pending[key] = token
                new.append(number)
            elif token and token != first:
                self._join(key, token)
        if not new:
            return None
        if len(new) < len(keys):
            rows, keys = rows[new], [keys[n] for n in new]
        return Batch(rows, keys, born_s=now_s)

    def settle(self, batch: Batch) -> tuple[Rows, Rows]:
        """Take a batch that is answered or given up out of the pending. Returns all MISS rows that wait for
        it, with those that joined at the end, and for each the number of its row in the batch."""
        for key in batch.keys:
            self._pending.pop(key, None)
        numbers = np.arange(len(batch.keys))
        if not self._more:
            return batch.rows, numbers
        joined = [(n, token) for n, key in enumerate(batch.keys) for token in self._more.pop(key, ())]
        if not joined:
            return batch.rows, numbers
        more = np.array([n for n, _ in joined])
        rows = batch.rows[more]
        rows["token"] = np.array([token for _, token in joined], np.uint64)
        return np.concatenate([batch.rows, rows]), np.concatenate([numbers, more])

    def joined(self, batch: Batch) -> bool:
        """Tell whether further tokens wait for a batch."""
        return bool(self._more) and any(key in self._more for key in batch.keys)

    def clear(self) -> None:
        """Forget everything: the tokens are of a data plane that is no more."""
        self._pending.clear()
        self._more.clear()

    def _join(self, key: bytes, token: int) -> None:
        tokens = self._more.setdefault(key, [])
        if token not in tokens:
            tokens.append(token)
