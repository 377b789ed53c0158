# SPDX-License-Identifier: Apache-2.0
"""Measures scenarios: subjects interleaved, repeats, medians and spreads.

Subjects of one scenario are started together and paused; then each forwards for a sample in turn, A, B, C,
A, B, C …, all on the same processor, so that a machine that grows slower is slower for all of them. A
subject counts as steady once its number of flows is stable and nothing is lost. What never gets there is
measured all the same, but its row says so."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import figures
from benchmarks.result import Result
from benchmarks.scenario import Scenario
from benchmarks.subject import Bed, CannotMeasure, Component, Running, Sample, Setup, Subject, WrongOutput

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How long and how often. Times in seconds."""

    repeats: int = 9
    sample_s: float = 0.5
    warm_s: float = 0.05  # after each resume, before what counts
    settle_s: float = 0.4  # one look for steadiness
    settle_looks: int = 15
    setup_repeats: int = 3
    setup_s: float = 20.0


QUICK = Plan(repeats=5, sample_s=0.25, settle_s=0.25, settle_looks=8, setup_repeats=1, setup_s=8.0)
AGAIN = 3  # set-ups that count, in one life


def row(scenario: Scenario, subject: str, **figures_: Any) -> Result:
    """A result of a subject for a scenario, with what the scenario says of both."""
    return Result(
        scenario=scenario.name,
        subject=subject,
        flows=scenario.flows,
        frame_bytes=scenario.frame_bytes,
        source=scenario.source,
        poll_threads=scenario.poll_threads,
        **figures_,
    )


def not_measurable(scenario: Scenario, bed: Bed) -> str | None:
    """Why nobody can measure this scenario on this machine; None if one can try."""
    needed = scenario.poll_threads + 1  # one for everything else
    if scenario.poll_threads > 1 and needed > len(bed.other_cpus) + 1:
        return (
            f"not measurable here: {scenario.poll_threads} poll threads and a processor for everything else "
            f"need {needed}, this machine has {len(bed.other_cpus) + 1}"
        )
    return None


def settled(running: Running, plan: Plan) -> str | None:
    """Wait until a subject is steady. Returns None, or what it looked like when waiting was given up."""
    before = -1
    sample, flows = Sample(0, plan.settle_s), 0
    for _ in range(plan.settle_looks):
        sample, flows = running.sample(plan.settle_s), running.flows()
        if flows == before and not sample.lost and sample.packets:
            return None
        before = flows
    lost_percent = 100.0 * sample.lost / max(sample.lost + sample.packets, 1)
    seconds = plan.settle_s * plan.settle_looks
    return f"not steady after {seconds:.0f} s: {flows} flows, {lost_percent:.1f} % lost"


class Failures(dict[str, str]):
    """What went wrong, by subject; it takes no further part, the others go on."""

    @contextlib.contextmanager
    def of(self, subject: str) -> Iterator[None]:
        try:
            yield
        except Exception as why:  # whatever it was: the others go on, the row says it, the run ends with 1
            kind = "wrong output" if isinstance(why, WrongOutput) else type(why).__name__
            self[subject] = f"{kind}: {why}"


def steady(
    scenario: Scenario, subjects: Sequence[Subject], bed: Bed, plan: Plan, tsc_hz: float, progress: Progress
) -> list[Result]:
    """Interleaved samples of all subjects in steady state: a row for each."""
    running: dict[str, Running] = {}
    notes: dict[str, str | None] = {}
    samples: dict[str, list[Sample]] = {}
    failed = Failures()

    @contextlib.contextmanager
    def turn(name: str) -> Iterator[Running]:
        with failed.of(name), _resumed(running[name]):
            yield running[name]

    with contextlib.ExitStack() as stack:
        for subject in subjects:
            progress(f"{subject.name}: starts")
            with failed.of(subject.name):
                try:
                    running[subject.name] = stack.enter_context(subject.start(scenario, bed))
                except CannotMeasure as why:
                    notes[subject.name] = str(why)
        for name in running:
            progress(f"{name}: settles")
            with turn(name) as one:
                notes[name] = settled(one, plan)
        for repeat in range(plan.repeats):
            progress(f"sample {repeat + 1} of {plan.repeats}")
            for name in [one for one in running if one not in failed]:
                with turn(name) as one:
                    one.sample(plan.warm_s)
                    samples.setdefault(name, []).append(one.sample(plan.sample_s))
        sources: dict[str, str | None] = {}
        for name in [one for one in running if one not in failed]:
            progress(f"{name}: its output is looked at")
            with turn(name) as one:
                sources[name] = one.source_says()
                one.verify()
    rows = []
    for name in [subject.name for subject in subjects]:
        if name in failed:
            rows.append(row(scenario, name, failed=failed[name]))
        else:
            some = steady_figures(samples.get(name, ()), tsc_hz, scenario.poll_threads)
            said = [text for text in (notes[name], own_source(some), sources.get(name)) if text]
            rows.append(row(scenario, name, note="; ".join(said) or None, **some))
    return rows


def steady_figures(samples: Sequence[Sample], tsc_hz: float, poll_threads: int) -> Mapping[str, Any]:
    """Figures of a row from its samples; a subject that let nothing pass has none but its loss."""
    lost = sum(one.lost for one in samples)
    passed = sum(one.packets for one in samples)
    if not samples:
        return {}
    common = {"repeats": len(samples), "lost_percent": round(100.0 * lost / max(lost + passed, 1), 3)}
    if not all(one.packets for one in samples):
        return common
    cycles = [figures.cycles_per_packet(tsc_hz, one.seconds, one.packets, poll_threads) for one in samples]
    rates = [one.packets / one.seconds / 1e6 for one in samples]
    floors = [one.floor_cycles for one in samples if one.floor_cycles is not None]
    return common | {
        "floor_cycles": round(figures.median(floors), 2) if floors else None,
        "cycles_per_packet": round(figures.median(cycles), 2),
        "spread": round(figures.spread(cycles), 2),
        "mpps": round(figures.median(rates), 4),
    }


def own_source(figures_: Mapping[str, Any]) -> str | None:
    """What a row has to say if its packets do not come from the scenario's source."""
    if figures_.get("floor_cycles") is None:
        return None
    return (
        "fed by a packet generator of its own, which repeats the same packets; its own part is without the "
        "clocks of that and of its sink, not without the floor"
    )


def setup(
    scenario: Scenario, subjects: Sequence[Subject], bed: Bed, plan: Plan, progress: Progress
) -> list[Result]:
    """Fresh starts in turn, each until all flows are cached: a row of flows set up per second for each.

    With measure "setup-again" that first time is not counted, but those that follow in the same life, each
    after all flows were forgotten."""
    again = scenario.measure == "setup-again"
    setups: dict[str, list[Setup]] = {}
    notes: dict[str, str] = {}
    failed = Failures()
    for repeat in range(plan.setup_repeats):
        for subject in subjects:
            if subject.name in failed or subject.name in notes:
                continue
            progress(f"{subject.name}: fresh start {repeat + 1} of {plan.setup_repeats}")
            with failed.of(subject.name):
                try:
                    with _stopped_after(subject.start(scenario, bed)) as running:
                        done = [running.setup(plan.setup_s)]
                        for _ in range(AGAIN if again else 0):
                            running.forget()
                            done.append(running.setup(plan.setup_s))
                        running.verify()
                    setups.setdefault(subject.name, []).extend(done[1:] if again else done)
                except CannotMeasure as why:
                    notes[subject.name] = str(why)
    rows = []
    for name in [subject.name for subject in subjects]:
        if name in failed:
            rows.append(row(scenario, name, failed=failed[name]))
        elif name in notes:
            rows.append(row(scenario, name, note=notes[name]))
        else:
            rows.append(row(scenario, name, **setup_figures(setups[name], scenario.flows)))
    return rows


def setup_figures(setups: Sequence[Setup], flows: int) -> Mapping[str, Any]:
    rates = [one.flows / one.seconds for one in setups]
    short = min(one.flows for one in setups)
    lost = sum(one.lost for one in setups)
    offered = lost + sum(one.packets for one in setups)
    cpu_rates = [one.flows / one.cpu_seconds for one in setups if one.cpu_seconds]
    notes = []
    if short < 0.99 * flows:
        notes.append(f"only {short} of {flows} flows were cached when time was up")
    if reasons := sum((Counter(one.lost_by) for one in setups), Counter[str]()):
        shares = (f"{reason} {100 * n / reasons.total():.1f} %" for reason, n in reasons.most_common())
        notes.append("lost: " + ", ".join(shares))
    return {
        "repeats": len(setups),
        "per_second": round(figures.median(rates), 1),
        "spread": round(figures.spread(rates), 1),
        "per_cpu_second": round(figures.median(cpu_rates), 1) if cpu_rates else None,
        "lost_percent": round(100.0 * lost / offered, 3) if offered else None,
        "note": "; ".join(notes) or None,
    }


@contextlib.contextmanager
def _resumed(running: Running) -> Iterator[None]:
    running.resume()
    try:
        yield
    finally:
        running.pause()


@contextlib.contextmanager
def _stopped_after(start: AbstractContextManager[Running]) -> Iterator[Running]:
    with start as running:
        try:
            yield running
        finally:
            running.pause()


@dataclass(frozen=True)
class Runner:
    """Everything a run needs; `run` yields rows as they come, scenario by scenario."""

    subjects: Sequence[Subject]
    components: Sequence[Component]
    bed: Bed
    plan: Plan
    machine: Mapping[str, Any]
    versions: Mapping[str, str]

    def run(
        self, scenarios: Sequence[Scenario], progress: Callable[[Scenario, str], None]
    ) -> Iterator[list[Result]]:
        """Measure. Yields the rows of each scenario; those of a component's scenarios with its first one."""
        done: set[str] = set()
        for scenario in scenarios:
            if scenario.measure != "program":
                yield self._finish(scenario, self._external(scenario, progress))
                continue
            component = next((one for one in self.components if scenario.name in one.scenarios), None)
            if component is None:
                why = "no component measures it"
                yield self._finish(scenario, [row(scenario, name, missing=why) for name in scenario.subjects])
            elif component.name not in done:
                done.add(component.name)
                own = [one for one in scenarios if one.name in component.scenarios]
                yield from self._component(component, own, progress)

    def _external(self, scenario: Scenario, progress: Callable[[Scenario, str], None]) -> list[Result]:
        chosen, rows = [], []
        impossible = not_measurable(scenario, self.bed)
        known = {subject.name: subject for subject in self.subjects}
        for name in scenario.subjects:
            subject = known.get(name)
            why = subject.missing() if subject else f"no subject of this name; use one of {', '.join(known)}"
            if impossible:
                rows.append(row(scenario, name, note=impossible))
            elif why or subject is None:
                rows.append(row(scenario, name, missing=why))
            else:
                chosen.append(subject)

        def say(text: str) -> None:
            progress(scenario, text)

        if scenario.measure in ("setup", "setup-again"):
            measured = setup(scenario, chosen, self.bed, self.plan, say)
        else:
            # A NIC has one owner: with PORTS= subjects come one after the other instead of in turns.
            groups = [[one] for one in chosen] if self.bed.ports else [chosen]
            measured = [
                one
                for group in groups
                for one in steady(scenario, group, self.bed, self.plan, float(self.machine["tsc_hz"]), say)
            ]
        versions = {name: text for subject in chosen for name, text in subject.versions().items()}
        return [replace(one, versions=versions) for one in sorted(rows + measured, key=_place(scenario))]

    def _component(
        self, component: Component, scenarios: Sequence[Scenario], progress: Callable[[Scenario, str], None]
    ) -> Iterator[list[Result]]:
        why = component.missing()
        rows: Sequence[Result] = ()
        note = None
        failed = Failures()
        if why is None:
            with failed.of(component.name):
                try:
                    rows = component.measure(scenarios, self.bed, lambda text: progress(scenarios[0], text))
                except CannotMeasure as cannot:
                    note = str(cannot)
        for scenario in scenarios:
            own = [one for one in rows if one.key[0] == scenario.name and one.key[2:] == scenario.key[1:]]
            there = {one.subject for one in own}
            unknown = why is None and note is None and not failed
            note_here = f"{component.name} has no such figure" if unknown else note
            own += [
                row(scenario, name, missing=why, failed=failed.get(component.name), note=note_here)
                for name in scenario.subjects
                if name not in there
            ]
            yield self._finish(scenario, sorted(own, key=_place(scenario)))

    def _finish(self, scenario: Scenario, rows: Sequence[Result]) -> list[Result]:
        return [
            replace(
                one,
                source=one.source or scenario.source,
                machine=self.machine,
                versions={**one.versions, **self.versions},
                hugepages=one.hugepages or (self.bed.hugepages and scenario.measure != "program"),
            )
            for one in rows
        ]


def _place(scenario: Scenario) -> Callable[[Result], int]:
    """Rows in the order in which the scenario names its subjects."""
    order = {name: at for at, name in enumerate(scenario.subjects)}
    return lambda one: order.get(one.subject, len(order))
