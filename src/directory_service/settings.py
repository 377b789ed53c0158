# SPDX-License-Identifier: Apache-2.0
"""What goes with every answer, and how long history is kept ([answers] and [history] of directory.toml)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Lifetimes of answers, grace after a move, and limits of history."""

    lifetime_s: float = 300.0
    negative_lifetime_s: float = 5.0
    jitter_ratio: float = 0.1
    move_grace_s: float = 30.0  # how long an old node relays after a move
    stale_max_s: int = 3600  # of V-nets that say nothing: how long flows outlive a silent directory
    history_revisions: int = 10_000
    history_days: float = 90.0
