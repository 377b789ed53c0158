# SPDX-License-Identifier: Apache-2.0
"""The figures to reach, judged. `gates.toml` holds the gates as data; here stands what each kind compares.

own-part    (ours − floor) / (peer − floor), cycles per packet: how much of the peer's work ours takes;
            a peer with a source and sink of its own is taken without those
times       how many times as fast as the peer ours is: rates, or cycles per operation the other way round
growth      cycles per packet at `flows` / at `from_flows`
own-cycles  ours − floor
own-beside  (ours − floor) / the same of the scenario `beside`, in the same run: how much more work the one is
figure      one figure of ours, as it stands

What a gate needs and the results do not have (a peer that is missing, a row that failed, a subject of ours
that never became steady) fails it, with the reason and the remedy. What was not asked for in this run
(another number of flows than a quick run measures) is not judged, and said so."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from benchmarks import figures
from benchmarks.result import Result
from benchmarks.scenario import FrameBytes, Scenario

FILE = Path(__file__).with_name("gates.toml")
OURS = "vnet-gateway"
KINDS = ("own-part", "times", "growth", "own-cycles", "own-beside", "figure")


@dataclass(frozen=True)
class Gate:
    kind: str
    scenario: str
    flows: int
    frame_bytes: FrameBytes = 64
    peer: str = ""
    figure: str = ""
    from_flows: int = 0
    beside: str = ""
    at_most: float | None = None
    at_least: float | None = None
    below: float | None = None
    goal: bool = False  # reported, never fails a check

    def __post_init__(self) -> None:
        where = f"gate {self.kind} of {self.scenario} at {self.flows} flows"
        if self.kind not in KINDS:
            raise ValueError(f"{where}: no such kind; use one of {', '.join(KINDS)}")
        if sum(limit is not None for limit in (self.at_most, self.at_least, self.below)) != 1:
            raise ValueError(f"{where}: give one of at_most, at_least, below")
        needs = {
            "own-part": ("a peer", self.peer),
            "times": ("a peer", self.peer),
            "growth": ("from_flows", self.from_flows),
            "own-beside": ("a scenario beside", self.beside),
            "figure": ("a figure", self.figure),
        }
        what, given = needs.get(self.kind, ("", True))
        if not given:
            raise ValueError(f"{where}: needs {what}")

    @property
    def limit(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"< {self.below:g}"

    def reached_by(self, value: float) -> bool:
        if self.at_most is not None:
            return value <= self.at_most
        if self.at_least is not None:
            return value >= self.at_least
        return self.below is not None and value < self.below

    def says(self) -> str:
        """The gate in words."""
        flows = f"{self.flows:,}".replace(",", " ")
        what = {
            "own-part": f"own part beside {self.peer}'s",
            "times": f"times as fast as {self.peer}",
            "growth": f"cycles, times those at {self.from_flows:,}".replace(",", " "),
            "own-cycles": "own cycles/packet",
            "own-beside": f"own part, times that of {self.beside}",
            "figure": self.figure.replace("_", " "),
        }[self.kind]
        return f"{self.scenario}, {flows} flows: {what}"


@dataclass(frozen=True)
class Verdict:
    """A gate and what was measured. `value` is None if there was nothing to judge; `why` then says it."""

    gate: Gate
    value: float | None
    why: str = ""
    asked: bool = True  # this run was to measure it

    @property
    def reached(self) -> bool:
        return self.value is not None and self.gate.reached_by(self.value)

    @property
    def fails(self) -> bool:
        """True if the check must fail because of it."""
        return self.asked and not self.gate.goal and not self.reached


class NotThere(Exception):
    """What a gate needs is not in the results; the message says why, with the remedy."""


def read(text: str) -> tuple[Gate, ...]:
    """Read gates from TOML. Raises ValueError for what is wrong in it."""
    known = {field.name for field in fields(Gate)}
    gates = []
    for record in tomllib.loads(text).get("gate", ()):
        for key in record.keys() - known:
            raise ValueError(f"gate of {record.get('scenario')}: no such key {key!r}")
        gates.append(Gate(**record))
    return tuple(gates)


def load() -> tuple[Gate, ...]:
    return read(FILE.read_text())


def judge(gates: Sequence[Gate], results: Sequence[Result], asked: Sequence[Scenario]) -> list[Verdict]:
    """Judge every gate by the results. `asked` are the scenarios that the run was to measure."""
    rows = figures.by_key(results)
    keys = {scenario.key for scenario in asked}
    verdicts = []
    for gate in gates:
        needed = {
            (scenario, flows, gate.frame_bytes)
            for scenario in (gate.scenario, gate.beside)
            for flows in (gate.flows, gate.from_flows)
            if scenario and flows
        }
        if not needed <= keys:
            verdicts.append(Verdict(gate, None, "not a part of this run", asked=False))
            continue
        try:
            verdicts.append(Verdict(gate, _value(gate, rows)))
        except NotThere as why:
            verdicts.append(Verdict(gate, None, str(why)))
    return verdicts


def _value(gate: Gate, rows: figures.Rows) -> float:
    ours = _row(rows, gate, OURS, gate.flows)
    if gate.kind == "figure":
        value = getattr(ours, gate.figure, None)
        if value is None:
            raise NotThere(f"{OURS} has no {gate.figure}{_reason(ours)}")
        return float(value)
    if gate.kind == "growth":
        return _cycles(ours) / _cycles(_row(rows, gate, OURS, gate.from_flows))
    if gate.kind == "own-cycles":
        return _own(rows, gate)
    if gate.kind == "own-beside":
        beside = _own(rows, replace(gate, scenario=gate.beside))
        if beside <= 0:
            raise NotThere(f"{gate.beside} is not above the floor: measure again on a quiet machine")
        return _own(rows, gate) / beside
    peer = _row(rows, gate, gate.peer, gate.flows)
    if gate.kind == "own-part":
        floor = _cycles(_row(rows, gate, "floor", gate.flows))
        theirs = _cycles(peer) - (floor if peer.floor_cycles is None else peer.floor_cycles)
        if theirs <= 0:
            raise NotThere(f"{gate.peer} is not above the floor: measure again on a quiet machine")
        return (_cycles(ours) - floor) / theirs
    if peer.floor_cycles is not None:
        raise NotThere(f"{gate.peer} has a source and sink of its own: only own parts can be compared")
    if ours.cycles_per_packet is not None and peer.cycles_per_packet is not None:
        return peer.cycles_per_packet / ours.cycles_per_packet
    if ours.per_second and peer.per_second:
        return ours.per_second / peer.per_second
    lacking = peer if ours.per_second or ours.cycles_per_packet else ours
    raise NotThere(f"{lacking.subject} has no figure{_reason(lacking)}")


def _own(rows: figures.Rows, gate: Gate) -> float:
    """Cycles of ours in the gate's scenario beside those of the floor."""
    floor = _row(rows, gate, "floor", gate.flows)
    return _cycles(_row(rows, gate, OURS, gate.flows)) - _cycles(floor)


def _row(rows: figures.Rows, gate: Gate, subject: str, flows: int) -> Result:
    row = rows.get((gate.scenario, subject, flows, gate.frame_bytes))
    if row is None:
        raise NotThere(f"no result of {subject} at {flows} flows: run make bench")
    if row.missing or row.failed:
        raise NotThere(f"{subject}{_reason(row)}")
    if subject == OURS and row.note and row.note.startswith("not steady"):
        raise NotThere(f"{subject} was {row.note}")
    return row


def _cycles(row: Result) -> float:
    if row.cycles_per_packet is None:
        raise NotThere(f"{row.subject} has no cycles per packet{_reason(row)}")
    return row.cycles_per_packet


def _reason(row: Result) -> str:
    for word, text in (("is missing", row.missing), ("failed", row.failed), ("was not measured", row.note)):
        if text:
            return f" {word}: {text}" if word != "was not measured" else f": {text}"
    return ""
