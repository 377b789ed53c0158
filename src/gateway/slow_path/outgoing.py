# SPDX-License-Identifier: Apache-2.0
"""What leaves a worker for its data plane: records, in the order in which they have to be applied. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

Rows = np.ndarray[Any, Any]


class Outgoing:
    """One worker's. `counters`: what has happened, by name."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._records: list[Rows] = []

    def emit(self, records: Rows) -> None:
        """Have these sent after all others."""
        self._records.append(records)

    def take(self) -> list[Rows]:
        """Return what is to be sent; it counts as sent."""
        records, self._records = self._records, []
        return records

    def clear(self) -> None:
        """Forget what was not sent: it was for a data plane that is no more."""
        self._records.clear()
