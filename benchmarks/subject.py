# SPDX-License-Identifier: Apache-2.0
"""What the harness asks of what it measures.

Two kinds. A `Subject` is a program of its own that takes packets from an external source: ours, the floor,
a peer. The runner starts all subjects of a scenario, pauses all but one, and takes samples in turn, so that
what the machine does to one it does to the others. A `Component` measures itself: a program of ours that
prints JSON lines, or a benchmark whose clock is inside.

`catalogue.py` lists them all. Nothing here is imported by the product.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.result import Result
from benchmarks.scenario import Scenario


class CannotMeasure(Exception):
    """The subject is there, but not measurable on this machine: the row says why instead of figures."""


class WrongOutput(Exception):
    """What came out is not what should have: the message shows the packet and what was expected."""


@dataclass(frozen=True)
class Bed:
    """Where a run takes place: which processors, which devices, which directory for files.

    The one poll thread has `poll_cpu` for itself; everything else of a subject (handlers, slow path,
    directory) runs on `other_cpus`. `ports` are PCI addresses from PORTS=, source side first."""

    poll_cpu: int
    other_cpus: tuple[int, ...]
    hugepages: bool
    directory: Path
    ports: tuple[str, ...] = ()
    quick: bool = False


@dataclass(frozen=True)
class Sample:
    """What passed in a time: packets counted at the sink, and how many of those offered were lost.

    `floor_cycles`: what source and sink took of a packet, where they are the subject's own and not the
    floor's."""

    packets: int
    seconds: float
    lost: int = 0
    floor_cycles: float | None = None


@dataclass(frozen=True)
class Setup:
    """How flows were set up, from the first packet until all `flows` are cached (or time was up)."""

    flows: int
    seconds: float
    cpu_seconds: float  # processor time of all the subject's processes, poll thread included
    packets: int = 0
    lost: int = 0
    lost_by: Mapping[str, int] = field(default_factory=dict)  # reason → packets, where the subject names them


def not_root() -> str | None:
    """Why whatever makes network namespaces cannot run; None as root."""
    return None if os.geteuid() == 0 else "needs root: network namespaces and interfaces; run it with sudo"


SHORTEST_LOOK_S, LONGEST_LOOK_S = 0.001, 0.1
LOOKS_BLUR = 0.02  # how much later than it was the end may be seen, as a share of the whole


def next_look_s(since_s: float, flows: int, wanted: int) -> float:
    """When to look how far a set-up has come: at half of the time that is left if it goes on like this, since
    each look takes processor time from what is measured. While hardly a flow is there that guess says
    nothing: no look is further away than twice the time that has passed."""
    left_s = since_s * (wanted - flows) / max(flows, 1)
    soonest_s = max(SHORTEST_LOOK_S, LOOKS_BLUR * since_s)
    return min(max(min(left_s / 2, 2 * since_s), soonest_s), LONGEST_LOOK_S)


class Running(Protocol):
    """A started subject. It begins paused; the runner resumes one at a time."""

    def resume(self) -> None: ...

    def pause(self) -> None:
        """Take no processor time until resumed (SIGSTOP will do). Loses no flow."""

    def sample(self, seconds: float) -> Sample:
        """Forward for about so long and say what passed, timed as closely to the counters as can be."""

    def flows(self) -> int:
        """Flows cached now; the runner waits until this is stable. The floor has none: 0."""

    def setup(self, seconds: float) -> Setup:
        """Fresh or after forget(): resume, and forward until all flows are cached, at most so long."""

    def forget(self) -> None:
        """Forget all flows and pause: as on a fresh start, but for what it has learnt besides flows."""

    def verify(self) -> None:
        """Look at packets that came out just now. Raises WrongOutput."""

    def source_says(self) -> str | None:
        """What its source says of itself while it sends; None if it cannot be asked."""


class Subject(Protocol):
    """Something that forwards packets of a scenario from an external source to a sink."""

    @property
    def name(self) -> str:
        """As in results: "vnet-gateway", "floor", "openvswitch", "kernel-vxlan", "vpp"."""

    def missing(self) -> str | None:
        """Why it cannot run on this machine, with the remedy; None if it can."""

    def versions(self) -> Mapping[str, str]: ...

    def start(self, scenario: Scenario, bed: Bed) -> AbstractContextManager[Running]:
        """Start it for a scenario, with its source, paused and without flows; leaving ends all its processes.
        Raises CannotMeasure where this subject does not do this scenario here."""


class Component(Protocol):
    """A benchmark that holds its own clock.

    `measure` gets all chosen scenarios that name it at once (one program start may serve many) and returns a
    row for each scenario and subject, those of peers and floor that it measures beside itself too.
    Raises CannotMeasure. `progress` takes a few words on what goes on."""

    @property
    def name(self) -> str: ...

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Names of the scenarios that it serves."""

    def missing(self) -> str | None:
        """Why it cannot run on this machine, with the remedy; None if it can."""

    def measure(
        self, scenarios: Sequence[Scenario], bed: Bed, progress: Callable[[str], None]
    ) -> Sequence[Result]: ...
