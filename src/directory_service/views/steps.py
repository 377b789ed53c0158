# SPDX-License-Identifier: Apache-2.0
"""How a directory goes over from one snapshot to those that follow it, where somebody else makes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from directory_service.model.fabric import Presence
from directory_service.model.snapshot import Snapshot
from directory_service.views.pushes import Told


class Said(NamedTuple):
    """What gateways say of themselves: all of them, under a new serial, and whose is news. `sightings`: where
    endpoints were seen, by V-net, all that are known; None: that is no news."""

    held: Mapping[str, Presence]
    serial: int
    changed: frozenset[str]
    sightings: Mapping[str, Mapping[str, str]] | None = None

    def put_on(self, snapshot: Snapshot, at_ms: int) -> Snapshot:
        """Return a snapshot with it, as of a time of the steady clock."""
        now = snapshot.with_presences(self.held, self.serial, self.changed) if self.changed else snapshot
        return now if self.sightings is None else now.with_sightings(self.sightings, self.serial, at_ms)


@dataclass(frozen=True, slots=True)
class Step:
    """What became of a snapshot: those that followed it, in order, and what nodes must be told of them.
    `from_anew`: what was to be told before is of an older world. `skips`: not every commit was looked at."""

    base: Snapshot
    snapshots: list[Snapshot]
    told: list[Told]
    from_anew: bool = False
    skips: bool = False


class Apart(Protocol):
    """Somebody who makes steps while decisions are made: calls `Directory.follow` in a thread."""

    @property
    def busy(self) -> bool:
        """Whether a step is being made."""

    def ask(self, base: Snapshot, said: Said | None = None) -> None:
        """Have the steps made that follow this snapshot. Nothing happens while `busy`."""

    def step(self) -> Step | None:
        """Return the step that has been made, once. Raises StoreError if it failed."""
