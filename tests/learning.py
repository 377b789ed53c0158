# SPDX-License-Identifier: Apache-2.0
"""Watch what the directory learns (directory_service/bulk/sides.py)."""

from typing import Any

import numpy as np
import pytest

from directory_service.bulk.sides import Sides


def note_learned(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list to which all addresses that are learned from now on are added."""
    learned: list[bytes] = []
    learn = Sides._learn

    def noting(self: Any, numbers: Any, tags: Any, highs: Any, lows: Any) -> None:
        learned.extend(np.stack((highs, lows), axis=1).view("V16").reshape(-1).tolist())
        learn(self, numbers, tags, highs, lows)

    monkeypatch.setattr(Sides, "_learn", noting)
    return learned
